//! The few textual rules that all C2SP formats share. Bytes are looked at one by one: the standard
//! library's number and line readers accept signs, carriage returns and Unicode spaces.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::tree::Hash;

/// A number as the formats write it: ASCII digits, no sign, no leading zero, at most 2^64 - 1.
pub(crate) fn parse_decimal(digits: &[u8]) -> Option<u64> {
    match digits {
        [b'0'] => Some(0),
        [b'1'..=b'9', ..] => digits.iter().try_fold(0u64, |number, digit| {
            let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
            number.checked_mul(10)?.checked_add(digit)
        }),
        _ => None,
    }
}

/// RFC 4648 section 4 with padding. The engine refuses other lengths, stray characters and trailing
/// bits that are not zero, so that each byte string has exactly one text.
pub(crate) fn parse_base64(text: &[u8]) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Inverse of [`parse_base64`].
pub(crate) fn print_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// One SHA-256 hash in base64.
pub(crate) fn parse_hash(text: &[u8]) -> Option<Hash> {
    // 32 bytes are 44 characters; asking first keeps a long line from being decoded in vain.
    if text.len() != 44 {
        return None;
    }
    parse_base64(text)?.try_into().ok()
}

/// The bytes up to the first LF, and those behind it; `None` if there is no LF.
pub(crate) fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_way_to_write_a_number() {
        for (text, number) in [("0", 0), ("7", 7), ("20852163", 20_852_163), ("18446744073709551615", u64::MAX)] {
            assert_eq!(parse_decimal(text.as_bytes()), Some(number));
        }
        for text in ["", "00", "01", "+5", "-0", " 5", "5 ", "5\r", "1_0", "0x1", "18446744073709551616", "٣"] {
            assert_eq!(parse_decimal(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn one_way_to_write_bytes() {
        assert_eq!(parse_base64(b"AA=="), Some(vec![0]));
        assert_eq!(parse_base64(b"+/8="), Some(vec![0xfb, 0xff]));
        for text in ["AA", "AA=", "AB==", "AA==\n", " AA==", "-_8=", "AA===", "A"] {
            assert_eq!(parse_base64(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse_hash(print_base64(&[7; 32]).as_bytes()), Some([7; 32]));
        assert_eq!(parse_hash(print_base64(&[7; 31]).as_bytes()), None, "also 44 characters");
        assert_eq!(parse_hash(print_base64(&[7; 64]).as_bytes()), None);
    }

    #[test]
    fn a_carriage_return_belongs_to_the_line() {
        assert_eq!(split_line(b"a\r\nb\n"), Some((&b"a\r"[..], &b"b\n"[..])));
        assert_eq!(split_line(b"\n"), Some((&b""[..], &b""[..])));
        assert_eq!(split_line(b"a"), None);
    }
}
