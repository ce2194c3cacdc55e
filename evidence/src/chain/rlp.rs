//! RLP, as Ethereum encodes headers, receipts and trie nodes. The reader takes the one canonical form of
//! each item only, looks at no more than it is asked for, and never goes deeper by itself.

/// Bytes are not canonical RLP, or have another shape than was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not canonical RLP of the expected shape")]
pub struct RlpError;

/// One item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item<'a> {
    /// A string of bytes.
    Bytes(&'a [u8]),
    /// A list; the encoding of it and the items in it.
    List {
        /// With its head.
        encoded: &'a [u8],
        /// Without.
        items: Items<'a>,
    },
}

impl<'a> Item<'a> {
    /// Reads bytes that are one item and nothing else.
    ///
    /// # Errors
    /// They are not.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, RlpError> {
        let mut items = Items { rest: bytes };
        let item = items.next_item()?.ok_or(RlpError)?;
        if items.rest.is_empty() { Ok(item) } else { Err(RlpError) }
    }

    /// The bytes of a string.
    ///
    /// # Errors
    /// It is a list.
    pub fn bytes(self) -> Result<&'a [u8], RlpError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::List { .. } => Err(RlpError),
        }
    }

    /// A string of exactly `N` bytes.
    ///
    /// # Errors
    /// It is something else.
    pub fn array<const N: usize>(self) -> Result<[u8; N], RlpError> {
        self.bytes()?.try_into().map_err(|_| RlpError)
    }

    /// A number without leading zeros, at most 2^64 - 1.
    ///
    /// # Errors
    /// It is something else.
    pub fn number(self) -> Result<u64, RlpError> {
        let digits = self.bytes()?;
        if digits.len() > 8 || digits.first() == Some(&0) {
            return Err(RlpError);
        }
        Ok(digits.iter().fold(0, |number, digit| number << 8 | u64::from(*digit)))
    }

    /// The items of a list.
    ///
    /// # Errors
    /// It is a string.
    pub fn items(self) -> Result<Items<'a>, RlpError> {
        match self {
            Self::List { items, .. } => Ok(items),
            Self::Bytes(_) => Err(RlpError),
        }
    }
}

/// Items one after another, each read when it is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Items<'a> {
    rest: &'a [u8],
}

impl<'a> Items<'a> {
    /// The next item.
    ///
    /// # Errors
    /// What stands here is not canonical RLP.
    pub fn next_item(&mut self) -> Result<Option<Item<'a>>, RlpError> {
        let Some((first, rest)) = self.rest.split_first() else { return Ok(None) };
        let (head, len) = match first {
            0x00..=0x7f => (0, 1),
            0x80..=0xb7 => (1, usize::from(first - 0x80)),
            0xb8..=0xbf => long(rest, usize::from(first - 0xb7))?,
            0xc0..=0xf7 => (1, usize::from(first - 0xc0)),
            0xf8..=0xff => long(rest, usize::from(first - 0xf7))?,
        };
        let end = len.checked_add(head).ok_or(RlpError)?;
        let (encoded, behind) = self.rest.split_at_checked(end).ok_or(RlpError)?;
        let content = encoded.get(head..).ok_or(RlpError)?;
        // A small byte is its own encoding.
        if *first == 0x81 && content.first().is_some_and(|byte| *byte < 0x80) {
            return Err(RlpError);
        }
        self.rest = behind;
        let list = Item::List { encoded, items: Self { rest: content } };
        Ok(Some(if *first < 0xc0 { Item::Bytes(content) } else { list }))
    }

    /// The next item, which must be there.
    ///
    /// # Errors
    /// It is not, or not canonical.
    pub fn required(&mut self) -> Result<Item<'a>, RlpError> {
        self.next_item()?.ok_or(RlpError)
    }

    /// The item behind `skipped` others.
    ///
    /// # Errors
    /// There are fewer, or one of them is not canonical.
    pub fn nth(mut self, skipped: usize) -> Result<Item<'a>, RlpError> {
        for _ in 0..skipped {
            self.required()?;
        }
        self.required()
    }

    /// How many there are, all canonical on the outside.
    ///
    /// # Errors
    /// One is not.
    pub fn count(mut self) -> Result<usize, RlpError> {
        let mut count = 0;
        while self.next_item()?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    /// Nothing may follow.
    ///
    /// # Errors
    /// Something does.
    pub fn end(self) -> Result<(), RlpError> {
        if self.rest.is_empty() { Ok(()) } else { Err(RlpError) }
    }
}

/// Length of the head and of what it announces, for items of more than 55 bytes.
fn long(rest: &[u8], width: usize) -> Result<(usize, usize), RlpError> {
    let digits = rest.get(..width).ok_or(RlpError)?;
    if digits.len() > 4 || digits.first() == Some(&0) {
        return Err(RlpError);
    }
    let len = digits.iter().fold(0usize, |len, digit| len << 8 | usize::from(*digit));
    if len > 55 { Ok((1 + width, len)) } else { Err(RlpError) }
}

/// A number as a trie of receipts has it for a key.
pub fn encode_number(number: u64) -> Vec<u8> {
    let wide = number.to_be_bytes();
    let digits: Vec<u8> = wide.into_iter().skip_while(|byte| *byte == 0).collect();
    match digits.as_slice() {
        [small @ 0x01..=0x7f] => vec![*small],
        digits => [&[0x80 + u8::try_from(digits.len()).unwrap_or_default()], digits].concat(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A string.
    pub(crate) fn string(bytes: &[u8]) -> Vec<u8> {
        match bytes {
            [small @ 0x00..=0x7f] => vec![*small],
            bytes => [head(0x80, bytes.len()), bytes.to_vec()].concat(),
        }
    }

    /// A list of items that are encoded.
    pub(crate) fn list(items: &[Vec<u8>]) -> Vec<u8> {
        let content = items.concat();
        [head(0xc0, content.len()), content].concat()
    }

    fn head(base: u8, len: usize) -> Vec<u8> {
        if len <= 55 {
            return vec![base + u8::try_from(len).unwrap()];
        }
        let digits: Vec<u8> = (len as u64).to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        [vec![base + 55 + u8::try_from(digits.len()).unwrap()], digits].concat()
    }

    #[test]
    fn items_of_all_kinds_are_read() {
        for (bytes, content) in [
            (&b"\x00"[..], &b"\x00"[..]),
            (b"\x7f", b"\x7f"),
            (b"\x81\x80", b"\x80"),
            (b"\x80", b""),
            (b"\x83dog", b"dog"),
        ] {
            assert_eq!(Item::decode(bytes), Ok(Item::Bytes(content)));
            assert_eq!(string(content), bytes);
        }
        for len in [55, 56, 255, 256, 70_000] {
            let bytes = vec![7; len];
            assert_eq!(Item::decode(&string(&bytes)), Ok(Item::Bytes(&bytes)));
            let items = list(&[bytes.clone(), string(b"dog")]);
            let mut read = Item::decode(&items).unwrap().items().unwrap();
            assert_eq!(read.count(), Ok(len + 1));
            assert_eq!(read.nth(len).unwrap().bytes(), Ok(&b"dog"[..]));
            assert_eq!(read.required().unwrap().number(), Ok(7));
        }
        for number in [0, 1, 0x7f, 0x80, 0xff, 0x100, u64::MAX] {
            let bytes = encode_number(number);
            assert_eq!(Item::decode(&bytes).unwrap().number(), Ok(number));
            assert_eq!(bytes, alloy_primitives::private::alloy_rlp::encode(number));
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for bytes in [
            &b""[..],
            b"\x81\x7f",
            b"\x81",
            b"\x83do",
            b"\x83dogs",
            b"\xb8\x01a",
            b"\xb8\x37",
            b"\xb9\x00\x38",
            b"\xc2\x01",
            b"\xf8\x01\x01",
            b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            assert_eq!(Item::decode(bytes), Err(RlpError), "{bytes:02x?}");
        }
        assert_eq!(Item::decode(&[&b"\xb8\x37"[..], &[0; 55]].concat()), Err(RlpError), "a short string in long form");
        assert_eq!(Item::decode(b"\x82\x00\x01").unwrap().number(), Err(RlpError));
        assert_eq!(Item::decode(b"\x00").unwrap().number(), Err(RlpError), "zero is the empty string");
        assert_eq!(Item::decode(b"\x89\x01\0\0\0\0\0\0\0\0").unwrap().number(), Err(RlpError));
    }
}
