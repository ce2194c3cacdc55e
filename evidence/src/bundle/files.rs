//! Where a bundle's files come from and go to. The verifier knows files by name only; whether they lie
//! in a folder, an archive or memory is up to whoever implements these traits.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Seek};

/// Bytes that can be read from any place on.
pub trait ReadSeek: Read + Seek {}

impl<T: Read + Seek> ReadSeek for T {}

/// One file of a bundle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Name relative to the bundle's folder, parts joined by `/`. Not yet judged.
    pub name: String,
    /// Bytes.
    pub len: u64,
}

/// The files can't be listed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// Neither a plain file nor a folder: a symbolic link, a device, a socket.
    #[error("{name}: is a symbolic link or a special file; a bundle has plain files only")]
    Special {
        /// Which.
        name: String,
    },
    /// A name that is not UTF-8.
    #[error("{name}: the name is not UTF-8; a bundle has plain names only")]
    Name {
        /// The name as far as it can be shown.
        name: String,
    },
    /// More files or folders than a bundle has.
    #[error("more than {max} files and folders; this is no bundle")]
    TooMany {
        /// How many there may be.
        max: usize,
    },
    /// Reading failed.
    #[error("{name}: {error}")]
    Io {
        /// What was read.
        name: String,
        /// What happened.
        error: io::Error,
    },
}

/// Files of a bundle, to be read.
pub trait Source {
    /// All files below the bundle's folder, in any order.
    ///
    /// # Errors
    /// [`ListError`]; in particular anything that is not a plain file must be refused.
    fn list(&self) -> Result<Vec<Listed>, ListError>;

    /// Opens a file that [`Self::list`] named.
    ///
    /// # Errors
    /// As the medium has it.
    fn open(&self, name: &str) -> io::Result<Box<dyn ReadSeek + '_>>;
}

/// Takes the files of a new bundle, one after another.
pub trait Sink {
    /// Begins a file of exactly `len` bytes. Names keep the rules of [`super::names`] and come once.
    ///
    /// # Errors
    /// As the medium has it.
    fn begin(&mut self, name: &str, len: u64) -> io::Result<()>;

    /// Appends to the file that was begun.
    ///
    /// # Errors
    /// As the medium has it.
    fn write(&mut self, part: &[u8]) -> io::Result<()>;

    /// Ends the file.
    ///
    /// # Errors
    /// As the medium has it.
    fn end(&mut self) -> io::Result<()>;
}

/// A bundle in memory: for small ones, and for tests.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Files {
    /// Content by name.
    pub files: BTreeMap<String, Vec<u8>>,
    open: Option<String>,
}

impl Source for Files {
    fn list(&self) -> Result<Vec<Listed>, ListError> {
        Ok(self.files.iter().map(|(name, bytes)| Listed { name: name.clone(), len: bytes.len() as u64 }).collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn ReadSeek + '_>> {
        let bytes = self.files.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Cursor::new(bytes.as_slice())))
    }
}

impl Sink for Files {
    fn begin(&mut self, name: &str, _len: u64) -> io::Result<()> {
        self.files.insert(name.to_owned(), Vec::new());
        self.open = Some(name.to_owned());
        Ok(())
    }

    fn write(&mut self, part: &[u8]) -> io::Result<()> {
        let file = self.open.as_ref().and_then(|name| self.files.get_mut(name)).ok_or(io::ErrorKind::NotFound)?;
        file.extend_from_slice(part);
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.open = None;
        Ok(())
    }
}

/// Reads a whole file, and never more than `max` bytes of it; `None` if it has more.
pub(crate) fn read_all(source: &dyn Source, name: &str, max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    source.open(name)?.take(max as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= max).then_some(bytes))
}

/// Fills as much of `buffer` as there are bytes, and says how much that is: `read` may give less.
pub(crate) fn read_full(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
