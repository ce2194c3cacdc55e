//! BagIt 1.0 (RFC 8493): the digest lists, what a bag says of itself, and the check that every file is
//! there, none is there besides, and all are unchanged. This shows accidents. It shows no forger: whoever
//! rewrites a bag rewrites its lists too, so nothing else rests on it.

use std::collections::BTreeMap;
use std::io;

use sha2::{Digest as _, Sha256};

use super::contents::{Contents, ContentsError};
use super::files::{ListError, Listed, Source, read_all, read_full};
use super::names::{
    CONTENTS, COVERED, DECLARATION, FETCH, INFO, NameFault, PAYLOAD, PAYLOAD_DIGESTS, TAG_DIGESTS, check_name,
};
use super::{BUFFER, CONTENTS_MAX, DIGESTS_MAX, FILES_MAX, INFO_MAX};

/// All that the BagIt declaration may say.
pub const DECLARATION_TEXT: &str = "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n";
/// Label of the count of payload bytes and files.
const OXUM: &str = "Payload-Oxum";

/// SHA-256 of files by name.
pub type Digests = BTreeMap<String, [u8; 32]>;

/// Why bytes are not a list of digests or no `bag-info.txt`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct LineError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub fault: LineFault,
}

/// What is wrong with a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LineFault {
    /// Not UTF-8, a control character, or a last line without LF.
    #[error("lines are UTF-8 without control characters, and each ends with LF")]
    Text,
    /// Not 64 hexadecimal digits, two spaces, a name.
    #[error("a line has a SHA-256 in small letters, two spaces and a name")]
    Shape,
    /// The name is refused.
    #[error(transparent)]
    Name(#[from] NameFault),
    /// The name belongs into the other list.
    #[error("a file below data/ stands in {PAYLOAD_DIGESTS}, any other in {TAG_DIGESTS}")]
    Place,
    /// The name is there twice.
    #[error("a file is listed twice")]
    Twice,
    /// More files than a bundle has.
    #[error("more than {FILES_MAX} files")]
    TooMany,
    /// Not a label, a colon, a space and a value.
    #[error("a line has a label, a colon, a space and a value")]
    Label,
    /// The count of payload bytes and files is not two numbers, or there twice.
    #[error("{OXUM} is bytes, a dot and files, and comes once")]
    Oxum,
}

/// The bag can't be judged: it is none, or breaks the rules of its form.
#[derive(Debug, thiserror::Error)]
pub enum BagError {
    /// The files can't be listed.
    #[error(transparent)]
    List(#[from] ListError),
    /// More files than a bundle has.
    #[error("more than {FILES_MAX} files; this is no bundle")]
    TooMany,
    /// A name that no file of a bundle has.
    #[error("{name:?}: {fault}")]
    Name {
        /// The name.
        name: String,
        /// Which rule it breaks.
        fault: NameFault,
    },
    /// Two files of one name.
    #[error("{name}: is there twice")]
    Twice {
        /// The name.
        name: String,
    },
    /// `fetch.txt`.
    #[error("{FETCH}: a bundle holds all of its files and fetches none; ask for one that does")]
    Fetch,
    /// A file that every bundle has.
    #[error("{name}: is missing; this is no bundle, or an incomplete copy of one")]
    NoFile {
        /// Which.
        name: String,
    },
    /// A file that no bundle has.
    #[error("{name}: does not belong into a bundle; take it out or ask for another copy")]
    Stranger {
        /// Which.
        name: String,
    },
    /// A file is larger than it may be.
    #[error("{name}: larger than {max} bytes")]
    TooLarge {
        /// Which.
        name: String,
        /// Most bytes.
        max: usize,
    },
    /// A list of digests or `bag-info.txt` is malformed.
    #[error("{name}: {error}")]
    Line {
        /// Which file.
        name: &'static str,
        /// Where, and what.
        error: LineError,
    },
    /// [`TAG_DIGESTS`] does not list exactly the files it must.
    #[error("{TAG_DIGESTS}: must list exactly {}", COVERED.join(", "))]
    Covered,
    /// The declaration says something else.
    #[error("{DECLARATION}: is not that of BagIt 1.0 in UTF-8")]
    Declaration,
    /// The contents are malformed.
    #[error("{CONTENTS}: {0}")]
    Contents(#[from] ContentsError),
    /// The contents don't name a file, or name one that is not listed.
    #[error("{name}: {CONTENTS} and {PAYLOAD_DIGESTS} disagree on whether it belongs to the bundle")]
    Unnamed {
        /// Which.
        name: String,
    },
    /// Reading failed.
    #[error("{name}: {error}")]
    Io {
        /// Which file.
        name: String,
        /// What happened.
        error: io::Error,
    },
}

/// A bag is well-formed and not what it was.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BagFault {
    /// Another digest than the list says.
    #[error("{name}: differs from its digest in {list}")]
    Changed {
        /// Which file.
        name: String,
        /// Which list.
        list: &'static str,
    },
    /// Listed, and not there.
    #[error("{name}: is listed in {PAYLOAD_DIGESTS} and missing")]
    Missing {
        /// Which file.
        name: String,
    },
    /// There, and not listed.
    #[error("{name}: is not listed in {PAYLOAD_DIGESTS}")]
    Unlisted {
        /// Which file.
        name: String,
    },
    /// Other sizes than the bag says.
    #[error("{INFO}: states other numbers of payload bytes and files")]
    Oxum,
}

/// What the check of a bag found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bag {
    /// The contents; `None` where the files that describe the bag were changed.
    pub contents: Option<Contents>,
    /// Everything that is not as it was.
    pub faults: Vec<BagFault>,
    /// Files.
    pub files: usize,
    /// Bytes below `data/`.
    pub payload_bytes: u64,
}

/// Reads a list of digests. `payload` says which of the two lists it is.
///
/// # Errors
/// The first malformed line.
pub fn parse_digests(bytes: &[u8], payload: bool) -> Result<Digests, LineError> {
    let mut digests = Digests::new();
    for (line, text) in lines(bytes)? {
        let at = |fault| LineError { line, fault };
        let (digest, name) = text.split_once("  ").ok_or(at(LineFault::Shape))?;
        let mut value = [0; 32];
        let small = digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !small || hex::decode_to_slice(digest, &mut value).is_err() {
            return Err(at(LineFault::Shape));
        }
        check_name(name).map_err(|fault| at(fault.into()))?;
        if name.starts_with(PAYLOAD) != payload {
            return Err(at(LineFault::Place));
        }
        if digests.insert(name.to_owned(), value).is_some() {
            return Err(at(LineFault::Twice));
        }
        if digests.len() > FILES_MAX {
            return Err(at(LineFault::TooMany));
        }
    }
    Ok(digests)
}

/// Writes a list of digests, by name.
pub fn print_digests(digests: &Digests) -> String {
    digests.iter().map(|(name, digest)| format!("{}  {name}\n", hex::encode(digest))).collect()
}

/// Reads `bag-info.txt` and returns the payload's bytes and files, if it states them. All else in it is
/// for people.
///
/// # Errors
/// The first malformed line.
pub fn parse_info(bytes: &[u8]) -> Result<Option<(u64, u64)>, LineError> {
    let mut oxum = None;
    for (line, text) in lines(bytes)? {
        let at = |fault| LineError { line, fault };
        // A line that begins with a space continues the value before it.
        if text.starts_with(' ') && line > 1 {
            continue;
        }
        let (label, value) = text.split_once(": ").ok_or(at(LineFault::Label))?;
        if label.is_empty() || label.trim() != label {
            return Err(at(LineFault::Label));
        }
        if label.eq_ignore_ascii_case(OXUM) {
            let number = |text: &str| crate::lines::parse_decimal(text.as_bytes());
            let (bytes, files) = value.split_once('.').ok_or(at(LineFault::Oxum))?;
            let both = number(bytes).zip(number(files)).ok_or(at(LineFault::Oxum))?;
            if oxum.replace(both).is_some() {
                return Err(at(LineFault::Oxum));
            }
        }
    }
    Ok(oxum)
}

/// Writes `bag-info.txt`.
pub(crate) fn print_info(contents: &Contents, bytes: u64, files: u64) -> String {
    let date = contents.created.get(..10).unwrap_or_default();
    format!("Bag-Software-Agent: {}\nBagging-Date: {date}\n{OXUM}: {bytes}.{files}\n", contents.tool)
}

/// Lines with their numbers from 1, without LF.
fn lines(bytes: &[u8]) -> Result<impl Iterator<Item = (usize, &str)>, LineError> {
    let all = bytes.iter().filter(|byte| **byte == b'\n').count();
    let text = std::str::from_utf8(bytes).map_err(|_| LineError { line: all + 1, fault: LineFault::Text })?;
    let numbered = text.split_terminator('\n').enumerate().map(|(at, line)| (at + 1, line));
    if let Some((line, _)) = numbered.clone().find(|(_, line)| line.chars().any(char::is_control)) {
        return Err(LineError { line, fault: LineFault::Text });
    }
    if !text.is_empty() && !text.ends_with('\n') {
        return Err(LineError { line: all + 1, fault: LineFault::Text });
    }
    Ok(numbered)
}

/// Checks a whole bag: names, lists, and the digest of every file.
///
/// # Errors
/// [`BagError`]: it is no bag that can be judged. Files that were changed are [`Bag::faults`].
pub fn check_bag(source: &dyn Source) -> Result<Bag, BagError> {
    let files = listed(source)?;
    for name in COVERED.iter().chain([&TAG_DIGESTS]) {
        if !files.contains_key(*name) {
            return Err(BagError::NoFile { name: (*name).to_owned() });
        }
    }
    let described = |name: &str| COVERED.contains(&name) || name == TAG_DIGESTS || name.starts_with(PAYLOAD);
    if let Some(name) = files.keys().find(|name| !described(name)) {
        return Err(BagError::Stranger { name: name.clone() });
    }
    let payload = || files.iter().filter(|(name, _)| name.starts_with(PAYLOAD));
    let payload_bytes = payload().map(|(_, len)| *len).fold(0, u64::saturating_add);
    let mut bag = Bag { contents: None, faults: Vec::new(), files: files.len(), payload_bytes };
    let Some(tags) = read_tags(source, &mut bag.faults)? else { return Ok(bag) };
    for name in payload().map(|(name, _)| name).filter(|name| !tags.digests.contains_key(*name)) {
        bag.faults.push(BagFault::Unlisted { name: name.clone() });
    }
    // A listed file that is missing is a fault of its own.
    let stated = (payload_bytes, payload().count() as u64);
    if bag.faults.is_empty() && tags.oxum.is_some_and(|oxum| oxum != stated) && stated.1 == tags.digests.len() as u64 {
        bag.faults.push(BagFault::Oxum);
    }
    for (name, digest) in &tags.digests {
        if !files.contains_key(name) {
            bag.faults.push(BagFault::Missing { name: name.clone() });
        } else if sha256_of(source, name)? != *digest {
            bag.faults.push(BagFault::Changed { name: name.clone(), list: PAYLOAD_DIGESTS });
        }
    }
    bag.contents = Some(tags.contents);
    Ok(bag)
}

/// All files with their lengths, if every name is one that a bundle may have.
fn listed(source: &dyn Source) -> Result<BTreeMap<String, u64>, BagError> {
    let mut files = BTreeMap::new();
    for Listed { name, len } in source.list()? {
        if name == FETCH {
            return Err(BagError::Fetch);
        }
        check_name(&name).map_err(|fault| BagError::Name { name: name.clone(), fault })?;
        if files.insert(name.clone(), len).is_some() {
            return Err(BagError::Twice { name });
        }
        if files.len() > FILES_MAX {
            return Err(BagError::TooMany);
        }
    }
    Ok(files)
}

/// What the files that describe a bag say.
struct Tags {
    contents: Contents,
    digests: Digests,
    oxum: Option<(u64, u64)>,
}

/// Reads the files that describe the bag; `None` if some of them were changed, so that none of them can
/// be believed to describe what once was bagged.
fn read_tags(source: &dyn Source, faults: &mut Vec<BagFault>) -> Result<Option<Tags>, BagError> {
    let list = read(source, TAG_DIGESTS, DIGESTS_MAX)?;
    let covered = parse_digests(&list, false).map_err(|error| BagError::Line { name: TAG_DIGESTS, error })?;
    if !covered.keys().map(String::as_str).eq(COVERED) {
        return Err(BagError::Covered);
    }
    let mut texts = BTreeMap::new();
    for (name, max) in
        [(DECLARATION, INFO_MAX), (INFO, INFO_MAX), (PAYLOAD_DIGESTS, DIGESTS_MAX), (CONTENTS, CONTENTS_MAX)]
    {
        let text = read(source, name, max)?;
        if covered.get(name) != Some(&Sha256::digest(&text).into()) {
            faults.push(BagFault::Changed { name: name.to_owned(), list: TAG_DIGESTS });
        }
        texts.insert(name, text);
    }
    if !faults.is_empty() {
        return Ok(None);
    }
    let mut text = |name| texts.remove(name).unwrap_or_default();
    if text(DECLARATION) != DECLARATION_TEXT.as_bytes() {
        return Err(BagError::Declaration);
    }
    let oxum = parse_info(&text(INFO)).map_err(|error| BagError::Line { name: INFO, error })?;
    let digests =
        parse_digests(&text(PAYLOAD_DIGESTS), true).map_err(|error| BagError::Line { name: PAYLOAD_DIGESTS, error })?;
    let contents = Contents::parse(&text(CONTENTS))?;
    let mut unnamed: Digests = digests.clone();
    for name in contents.files() {
        if unnamed.remove(name).is_none() {
            return Err(BagError::Unnamed { name: name.to_owned() });
        }
    }
    match unnamed.pop_first() {
        Some((name, _)) => Err(BagError::Unnamed { name }),
        None => Ok(Some(Tags { contents, digests, oxum })),
    }
}

fn read(source: &dyn Source, name: &str, max: usize) -> Result<Vec<u8>, BagError> {
    let bytes = read_all(source, name, max).map_err(|error| BagError::Io { name: name.to_owned(), error })?;
    bytes.ok_or_else(|| BagError::TooLarge { name: name.to_owned(), max })
}

fn sha256_of(source: &dyn Source, name: &str) -> Result<[u8; 32], BagError> {
    let failed = |error| BagError::Io { name: name.to_owned(), error };
    let mut reader = source.open(name).map_err(failed)?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; BUFFER]);
    loop {
        let count = read_full(&mut *reader, &mut buffer).map_err(failed)?;
        hasher.update(buffer.get(..count).unwrap_or_default());
        if count < buffer.len() {
            return Ok(hasher.finalize().into());
        }
    }
}

#[cfg(test)]
mod tests;
