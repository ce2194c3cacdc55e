//! The CBOR subset of records: unsigned integers, booleans, byte and text strings, arrays and maps,
//! all of definite length and shortest form (RFC 8949 section 4.2.1). Used by [`crate::record`].
//! The reader refuses everything else, so a record has exactly one encoding.

/// Why bytes are not the deterministic encoding of a record.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CborError {
    /// The input ends inside an item.
    #[error("the record ends inside an item at byte {0}")]
    Truncated(usize),
    /// A length or integer is not in its shortest form, or has an indefinite length.
    #[error("an item at byte {0} is not in shortest definite form")]
    NotShortest(usize),
    /// Another type stands where this one was expected.
    #[error("at byte {at}: expected {expected}")]
    Unexpected {
        /// Where.
        at: usize,
        /// What should stand there.
        expected: &'static str,
    },
    /// A text is not UTF-8.
    #[error("the text at byte {0} is not UTF-8")]
    NotUtf8(usize),
    /// Bytes follow the item.
    #[error("{0} bytes follow the record")]
    Trailing(usize),
    /// A field is missing, repeated, out of order, unknown or out of range.
    #[error("field {0} is missing, repeated, out of order, unknown or out of range")]
    Field(u64),
}

const UINT: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;

/// Writes items one after another.
#[derive(Clone, Default, Debug)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// An empty writer with room for a typical record.
    pub fn new() -> Self {
        Self { out: Vec::with_capacity(256) }
    }

    fn head(&mut self, major: u8, value: u64) {
        let major = major << 5;
        let be = value.to_be_bytes();
        match value {
            0..=23 => self.out.push(major | be[7]),
            24..=0xff => self.out.extend_from_slice(&[major | 24, be[7]]),
            0x100..=0xffff => {
                self.out.push(major | 25);
                self.out.extend_from_slice(&be[6..]);
            }
            0x1_0000..=0xffff_ffff => {
                self.out.push(major | 26);
                self.out.extend_from_slice(&be[4..]);
            }
            _ => {
                self.out.push(major | 27);
                self.out.extend_from_slice(&be);
            }
        }
    }

    /// An unsigned integer.
    pub fn uint(&mut self, value: u64) {
        self.head(UINT, value);
    }

    /// A boolean.
    pub fn bool(&mut self, value: bool) {
        self.out.push(if value { TRUE } else { FALSE });
    }

    /// A byte string.
    pub fn bytes(&mut self, value: &[u8]) {
        self.head(BYTES, value.len() as u64);
        self.out.extend_from_slice(value);
    }

    /// A text string.
    pub fn text(&mut self, value: &str) {
        self.head(TEXT, value.len() as u64);
        self.out.extend_from_slice(value.as_bytes());
    }

    /// The head of an array; its items follow.
    pub fn array(&mut self, items: u64) {
        self.head(ARRAY, items);
    }

    /// The head of a map; its keys and values follow, keys ascending.
    pub fn map(&mut self, pairs: u64) {
        self.head(MAP, pairs);
    }

    /// The bytes written.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// Reads items one after another; never allocates more than the input holds.
#[derive(Debug)]
pub struct Reader<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the first byte.
    pub fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0 }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], CborError> {
        let end = self.at.checked_add(len).ok_or(CborError::Truncated(self.at))?;
        let taken = self.input.get(self.at..end).ok_or(CborError::Truncated(self.at))?;
        self.at = end;
        Ok(taken)
    }

    fn head(&mut self, major: u8, expected: &'static str) -> Result<u64, CborError> {
        let at = self.at;
        let first = *self.take(1)?.first().ok_or(CborError::Truncated(at))?;
        if first >> 5 != major {
            return Err(CborError::Unexpected { at, expected });
        }
        let width = match first & 0x1f {
            small @ 0..=23 => return Ok(u64::from(small)),
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => return Err(CborError::NotShortest(at)),
        };
        let value = self.take(width)?.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        let least = match width {
            1 => 24,
            2 => 0x100,
            4 => 0x1_0000,
            _ => 0x1_0000_0000,
        };
        if value < least { Err(CborError::NotShortest(at)) } else { Ok(value) }
    }

    fn string(&mut self, major: u8, expected: &'static str) -> Result<&'a [u8], CborError> {
        let len = self.head(major, expected)?;
        self.take(usize::try_from(len).map_err(|_| CborError::Truncated(self.at))?)
    }

    /// An unsigned integer.
    ///
    /// # Errors
    /// Whatever stands here is something else.
    pub fn uint(&mut self) -> Result<u64, CborError> {
        self.head(UINT, "an unsigned integer")
    }

    /// A boolean.
    ///
    /// # Errors
    /// Whatever stands here is something else.
    pub fn bool(&mut self) -> Result<bool, CborError> {
        let at = self.at;
        match self.take(1)? {
            [FALSE] => Ok(false),
            [TRUE] => Ok(true),
            _ => Err(CborError::Unexpected { at, expected: "a boolean" }),
        }
    }

    /// A byte string.
    ///
    /// # Errors
    /// Whatever stands here is something else.
    pub fn bytes(&mut self) -> Result<&'a [u8], CborError> {
        self.string(BYTES, "a byte string")
    }

    /// A byte string of exactly `N` bytes.
    ///
    /// # Errors
    /// Whatever stands here is something else.
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], CborError> {
        let at = self.at;
        self.bytes()?.try_into().map_err(|_| CborError::Unexpected { at, expected: "a hash or id of its exact length" })
    }

    /// A text string.
    ///
    /// # Errors
    /// Whatever stands here is something else, or not UTF-8.
    pub fn text(&mut self) -> Result<&'a str, CborError> {
        let at = self.at;
        std::str::from_utf8(self.string(TEXT, "a text")?).map_err(|_| CborError::NotUtf8(at))
    }

    /// The head of an array: how many items follow.
    ///
    /// # Errors
    /// Whatever stands here is something else.
    pub fn array(&mut self) -> Result<u64, CborError> {
        self.head(ARRAY, "an array")
    }

    /// The head of a map: how many pairs follow.
    ///
    /// # Errors
    /// Whatever stands here is something else.
    pub fn map(&mut self) -> Result<u64, CborError> {
        self.head(MAP, "a map")
    }

    /// Nothing may follow.
    ///
    /// # Errors
    /// Bytes remain.
    pub fn end(self) -> Result<(), CborError> {
        match self.input.len() - self.at {
            0 => Ok(()),
            left => Err(CborError::Trailing(left)),
        }
    }
}
