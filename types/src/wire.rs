//! Bounded reading of stored bytes: little-endian fields, never past the end, never a panic.
//!
//! Used by the decoders of stored formats in this crate and by `chunker`. It never allocates.

/// Stored or received bytes are not in the format they claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FormatError {
    /// Fewer bytes than the format needs.
    #[error("{format}: cut short at byte {at}, {needed} more bytes expected; read another copy")]
    Short {
        /// Which format.
        format: &'static str,
        /// Where the bytes end.
        at: usize,
        /// How many more were needed there.
        needed: usize,
    },
    /// The first bytes are not the format's magic.
    #[error("{format}: wrong magic; these bytes are something else or damaged, read another copy")]
    Magic {
        /// Which format.
        format: &'static str,
    },
    /// A version this program does not know.
    #[error("{format}: version {found} is unknown here; read it with a newer release")]
    Version {
        /// Which format.
        format: &'static str,
        /// The version found.
        found: u32,
    },
    /// A field is outside the format's limits, or disagrees with another.
    #[error("{format}: {problem}; the bytes are damaged or forged, read another copy")]
    Invalid {
        /// Which format.
        format: &'static str,
        /// Which rule is broken.
        problem: &'static str,
    },
}

/// A cursor over stored bytes.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    format: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A cursor at the start of `bytes`; `format` names them in errors.
    pub const fn new(format: &'static str, bytes: &'a [u8]) -> Self {
        Self { format, bytes, at: 0 }
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`FormatError::Short`].
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], FormatError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some(taken) = rest.get(..len) else {
            let needed = len - rest.len();
            return Err(FormatError::Short { format: self.format, at: self.bytes.len(), needed });
        };
        self.at += len;
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// [`FormatError::Short`].
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let mut out = [0u8; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`FormatError::Short`].
    pub fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// A 16-bit number.
    ///
    /// # Errors
    /// [`FormatError::Short`].
    pub fn u16(&mut self) -> Result<u16, FormatError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// A 32-bit number.
    ///
    /// # Errors
    /// [`FormatError::Short`].
    pub fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A 64-bit number.
    ///
    /// # Errors
    /// [`FormatError::Short`].
    pub fn u64(&mut self) -> Result<u64, FormatError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Checks the magic.
    ///
    /// # Errors
    /// [`FormatError::Magic`], [`FormatError::Short`].
    pub fn magic(&mut self, magic: &[u8; 8]) -> Result<(), FormatError> {
        if self.array::<8>()? == *magic { Ok(()) } else { Err(FormatError::Magic { format: self.format }) }
    }

    /// Bytes not yet read.
    pub const fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// An error of this format, for a broken rule.
    pub const fn invalid(&self, problem: &'static str) -> FormatError {
        FormatError::Invalid { format: self.format, problem }
    }

    /// `Ok` if `rule` holds.
    ///
    /// # Errors
    /// [`FormatError::Invalid`] with `problem`.
    pub const fn require(&self, rule: bool, problem: &'static str) -> Result<(), FormatError> {
        if rule { Ok(()) } else { Err(self.invalid(problem)) }
    }

    /// Checks that everything was read.
    ///
    /// # Errors
    /// [`FormatError::Invalid`] for bytes behind the end.
    pub const fn end(&self) -> Result<(), FormatError> {
        self.require(self.remaining() == 0, "bytes behind the end")
    }
}
