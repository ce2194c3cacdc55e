//! C2SP signed-note: a text, a blank line, and one line per signature. A note keeps the exact bytes
//! it came in; nothing that was signed is ever rebuilt from a parsed form.

use std::fmt;

use crate::keys::{SignatureError, TrustedKey};
use crate::lines::{parse_base64, print_base64};
use crate::vkey::{KeyId, KeyName};

/// Largest note in bytes: room for [`SIGNATURES_MAX`] ML-DSA-44 lines.
pub const NOTE_MAX: usize = 512 * 1024;
/// Most signature lines in a note. The specification asks for 16; a policy may name more witnesses,
/// each with two keys.
pub const SIGNATURES_MAX: usize = 128;
/// What a signature line begins with: an em dash and a space.
const LINE_START: &str = "\u{2014} ";

/// Why bytes are not a note.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoteError {
    /// More than [`NOTE_MAX`] bytes.
    #[error("the note is larger than {NOTE_MAX} bytes")]
    TooLarge,
    /// Not UTF-8, or a control character other than LF.
    #[error("the note is not UTF-8 without control characters")]
    Text,
    /// No blank line, or nothing behind it.
    #[error("the note has no blank line with signatures behind it")]
    NoSignatures,
    /// The text does not end with LF, or would be cut at another place than where it ends.
    #[error("the text of a note ends with a line feed")]
    Unterminated,
    /// A line behind the text is not a signature line.
    #[error("signature line {number} is malformed")]
    Line {
        /// Which one, from 1.
        number: usize,
    },
    /// More than [`SIGNATURES_MAX`] lines.
    #[error("the note has more than {SIGNATURES_MAX} signatures")]
    TooManySignatures,
}

/// Why a note proves nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VerifyError {
    /// A line with name and identifier of a known key that the key did not make. The whole note is
    /// refused, as someone tampered with it.
    #[error("the signature of {name}+{id} is wrong: {reason}")]
    Wrong {
        /// Name of the key.
        name: KeyName,
        /// Identifier of the key.
        id: KeyId,
        /// What is wrong.
        reason: SignatureError,
    },
    /// No line belongs to a known key.
    #[error("no known key signed the note")]
    NoKnownSignature,
    /// Two known keys share name and identifier, so that a line does not say whose it is.
    #[error("two known keys are both called {name}+{id}")]
    Ambiguous {
        /// Their name.
        name: KeyName,
        /// Their identifier.
        id: KeyId,
    },
}

/// One signature line, verified or not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignatureLine {
    name: KeyName,
    id: KeyId,
    signature: Vec<u8>,
}

impl SignatureLine {
    /// Puts a line together. `signature` is what follows the identifier: at least one byte.
    pub fn new(name: KeyName, id: KeyId, signature: Vec<u8>) -> Self {
        Self { name, id, signature }
    }

    /// Reads a line without its LF. What [`fmt::Display`] prints is the same line.
    pub fn parse(line: &str) -> Option<Self> {
        let (name, blob) = line.strip_prefix(LINE_START)?.split_once(' ')?;
        let name = KeyName::new(name).ok()?;
        let blob = parse_base64(blob.as_bytes())?;
        let (id, signature) = blob.split_first_chunk::<4>()?;
        (!signature.is_empty()).then(|| Self { name, id: KeyId(*id), signature: signature.to_vec() })
    }

    /// Name of the key that is said to have signed.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// Identifier of that key.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The signature, in the form that belongs to the type of the key.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }
}

impl fmt::Display for SignatureLine {
    /// The line without its LF.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blob = [self.id.0.as_slice(), &self.signature].concat();
        write!(f, "{LINE_START}{} {}", self.name, print_base64(&blob))
    }
}

/// A line that a known key made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verified<'k> {
    /// The key.
    pub key: &'k TrustedKey,
    /// When it signed, in POSIX seconds, as far as the signature says so.
    pub time: Option<u64>,
}

/// A note, well-formed but not verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    bytes: String,
    /// Length of the text, its last LF included.
    text: usize,
    signatures: Vec<SignatureLine>,
}

impl Note {
    /// Reads a note.
    ///
    /// # Errors
    /// What is malformed. A line that belongs to nobody we know must be well-formed as well.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_MAX {
            return Err(NoteError::TooLarge);
        }
        let bytes = std::str::from_utf8(bytes).map_err(|_| NoteError::Text)?;
        if bytes.bytes().any(|byte| byte < b' ' && byte != b'\n') {
            return Err(NoteError::Text);
        }
        // The text may have blank lines of its own; the last one ends it.
        let (text, lines) = bytes.rsplit_once("\n\n").ok_or(NoteError::NoSignatures)?;
        let lines = lines.strip_suffix('\n').ok_or(NoteError::NoSignatures)?;
        Ok(Self { bytes: bytes.to_owned(), text: text.len() + 1, signatures: parse_lines(lines)? })
    }

    /// Puts a note together from a text, which ends with LF, and signature lines.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn build(text: &str, signatures: &[SignatureLine]) -> Result<Self, NoteError> {
        if !text.ends_with('\n') {
            return Err(NoteError::Unterminated);
        }
        let mut bytes = format!("{text}\n");
        for line in signatures {
            bytes.push_str(&format!("{line}\n"));
        }
        let note = Self::parse(bytes.as_bytes())?;
        if note.text == text.len() { Ok(note) } else { Err(NoteError::Unterminated) }
    }

    /// The same text with more signatures behind those it has; lines it has already are left out.
    ///
    /// # Errors
    /// The note would get too large.
    pub fn with(&self, more: &[SignatureLine]) -> Result<Self, NoteError> {
        let mut lines = self.signatures.clone();
        for line in more {
            if !lines.contains(line) {
                lines.push(line.clone());
            }
        }
        Self::build(self.text(), &lines)
    }

    /// The signed text, with its last LF and without the blank line.
    pub fn text(&self) -> &str {
        self.bytes.get(..self.text).unwrap_or_default()
    }

    /// The whole note, byte for byte as it came.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_bytes()
    }

    /// The signature lines in their order.
    pub fn signatures(&self) -> &[SignatureLine] {
        &self.signatures
    }

    /// Checks every line that carries name and identifier of one of `keys`, and ignores all others,
    /// also those that share only one of the two. Lines come back in the note's order.
    ///
    /// # Errors
    /// A known key's line is wrong, no known key signed, or `keys` are ambiguous.
    pub fn verify<'k>(&self, keys: &'k [TrustedKey]) -> Result<Vec<Verified<'k>>, VerifyError> {
        let mut verified = Vec::new();
        for line in &self.signatures {
            let mut matching = keys.iter().filter(|key| key.vkey().name() == &line.name && key.vkey().id() == line.id);
            let Some(key) = matching.next() else { continue };
            let (name, id) = (line.name.clone(), line.id);
            if matching.next().is_some() {
                return Err(VerifyError::Ambiguous { name, id });
            }
            match key.check(self.text(), &line.signature) {
                Ok(time) => verified.push(Verified { key, time }),
                Err(reason) => return Err(VerifyError::Wrong { name, id, reason }),
            }
        }
        if verified.is_empty() { Err(VerifyError::NoKnownSignature) } else { Ok(verified) }
    }
}

/// Signature lines with LF between them, the last without.
pub(crate) fn parse_lines(lines: &str) -> Result<Vec<SignatureLine>, NoteError> {
    let mut signatures = Vec::new();
    for (at, line) in lines.split('\n').enumerate() {
        if at == SIGNATURES_MAX {
            return Err(NoteError::TooManySignatures);
        }
        signatures.push(SignatureLine::parse(line).ok_or(NoteError::Line { number: at + 1 })?);
    }
    Ok(signatures)
}

#[cfg(test)]
mod tests;
