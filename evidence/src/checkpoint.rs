//! C2SP tlog-checkpoint: the text of a note that states a log's size and root.

use crate::lines::{parse_decimal, parse_hash, print_base64};
use crate::proof::Head;
use crate::vkey::KeyName;

/// Most extension lines that are read.
const EXTENSIONS_MAX: usize = 64;

/// Why a text is not a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Fewer than three lines, or a last line without LF.
    #[error("a checkpoint has at least three lines, each with a line feed")]
    Lines,
    /// The first line is empty.
    #[error("the origin is empty")]
    Origin,
    /// The second line is not a decimal number, or has leading zeros or a sign.
    #[error("the tree size is not a canonical decimal number")]
    Size,
    /// The third line is not 32 bytes in canonical base64.
    #[error("the root is not 32 bytes in canonical base64")]
    Root,
    /// A further line is empty, has control characters, or there are too many of them.
    #[error("an extension line is empty, has control characters, or is one too many")]
    Extension,
}

/// A statement of a log about its tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    origin: String,
    head: Head,
    extensions: Vec<String>,
}

impl Checkpoint {
    /// A checkpoint of our own. Its origin is the name of the key that will sign it.
    pub fn new(origin: &KeyName, head: Head) -> Self {
        Self { origin: origin.as_str().to_owned(), head, extensions: Vec::new() }
    }

    /// Reads the text of a note.
    ///
    /// # Errors
    /// What is malformed.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.strip_suffix('\n').ok_or(CheckpointError::Lines)?.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(CheckpointError::Lines);
        };
        if origin.is_empty() || origin.bytes().any(|byte| byte < b' ') {
            return Err(CheckpointError::Origin);
        }
        let size = parse_decimal(size.as_bytes()).ok_or(CheckpointError::Size)?;
        let root = parse_hash(root.as_bytes()).ok_or(CheckpointError::Root)?;
        let mut extensions = Vec::new();
        for line in lines {
            if line.is_empty() || line.bytes().any(|byte| byte < b' ') || extensions.len() == EXTENSIONS_MAX {
                return Err(CheckpointError::Extension);
            }
            extensions.push(line.to_owned());
        }
        Ok(Self { origin: origin.to_owned(), head: Head { size, root }, extensions })
    }

    /// Which log it speaks of.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Size and root.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Lines behind the root. Nobody audits them and ML-DSA signatures do not cover them: report
    /// them, never act on them.
    pub fn extensions(&self) -> &[String] {
        &self.extensions
    }

    /// The three lines, without extensions: for checkpoints we sign. A signature that came with a
    /// note is over that note's own text.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.head.size, print_base64(&self.head.root))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";

    #[test]
    fn the_example_of_the_specification() {
        let checkpoint = Checkpoint::parse(EXAMPLE).unwrap();
        assert_eq!(checkpoint.origin(), "example.com/behind-the-sofa");
        assert_eq!(checkpoint.head().size, 20_852_163);
        assert_eq!(
            hex::encode(checkpoint.head().root),
            "0ac5186a91863e8e1d90c808014aa89bf5da8e3ee1d9f07630f0378f68f1ab62"
        );
        assert_eq!(checkpoint.text(), EXAMPLE);
        assert!(checkpoint.extensions().is_empty());
    }

    #[test]
    fn extension_lines_are_reported_and_never_printed() {
        let checkpoint = Checkpoint::parse(&format!("{EXAMPLE}one\ntwo\n")).unwrap();
        assert_eq!(checkpoint.extensions(), ["one", "two"]);
        assert_eq!(checkpoint.text(), EXAMPLE);
    }

    #[test]
    fn other_texts_are_refused() {
        let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
        for (text, error) in [
            (String::new(), CheckpointError::Lines),
            ("o\n1\n".to_owned(), CheckpointError::Lines),
            (format!("o\n1\n{root}"), CheckpointError::Lines),
            (format!("\n1\n{root}\n"), CheckpointError::Origin),
            (format!("o\r\n1\n{root}\n"), CheckpointError::Origin),
            (format!("o\n1\r\n{root}\n"), CheckpointError::Size),
            (format!("o\n+1\n{root}\n"), CheckpointError::Size),
            (format!("o\n01\n{root}\n"), CheckpointError::Size),
            (format!("o\n\n{root}\n"), CheckpointError::Size),
            (format!("o\n1 \n{root}\n"), CheckpointError::Size),
            (format!("o\n18446744073709551616\n{root}\n"), CheckpointError::Size),
            (format!("o\n1\n{root}\r\n"), CheckpointError::Root),
            (format!("o\n1\n{}\n", root.trim_end_matches('=')), CheckpointError::Root),
            (format!("o\n1\n{}\n", root.replace("q2I=", "q2J=")), CheckpointError::Root),
            (format!("o\n1\n{}\n", root.replace('/', "_")), CheckpointError::Root),
            ("o\n1\nCsUY\n".to_owned(), CheckpointError::Root),
            (format!("o\n1\n{root}\n\n"), CheckpointError::Extension),
            (format!("o\n1\n{root}\na\n\nb\n"), CheckpointError::Extension),
            (format!("o\n1\n{root}\na\r\n"), CheckpointError::Extension),
            (format!("o\n1\n{root}\n{}", "a\n".repeat(EXTENSIONS_MAX + 1)), CheckpointError::Extension),
        ] {
            assert_eq!(Checkpoint::parse(&text), Err(error), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_we_write_we_read(origin in "[!-*,-~]{1,40}", size: u64, root: [u8; 32]) {
            let checkpoint = Checkpoint::new(&KeyName::new(&origin).unwrap(), Head { size, root });
            proptest::prop_assert_eq!(Checkpoint::parse(&checkpoint.text()), Ok(checkpoint));
        }

        /// Whatever else is read has one text as well.
        #[test]
        fn a_changed_character_changes_the_checkpoint(at in 0usize..200, to in "[ -~\\n]") {
            let at = at % EXAMPLE.len();
            let text = format!("{}{to}{}", &EXAMPLE[..at], &EXAMPLE[at + 1..]);
            match Checkpoint::parse(&text) {
                Ok(read) if read.extensions().is_empty() => proptest::prop_assert_eq!(read.text(), text),
                Ok(_) | Err(_) => {}
            }
        }
    }
}
