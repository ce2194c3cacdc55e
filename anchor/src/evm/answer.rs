//! Quantities and bytes in hexadecimal, as nodes take and give them; reading is strict.

use alloy_primitives::{Address, B256};
use serde_json::Value;

/// A field that is missing or is not what it has to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the field {0} is missing or malformed")]
pub struct Malformed(pub &'static str);

/// A number: `0x` and hexadecimal digits.
pub fn quantity(value: &Value) -> Option<u128> {
    let digits = value.as_str()?.strip_prefix("0x")?;
    let right = !digits.is_empty() && digits.len() <= 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digits = digits.trim_start_matches('0');
    match (right, digits.is_empty()) {
        (true, true) => Some(0),
        (true, false) => u128::from_str_radix(digits, 16).ok(),
        (false, _) => None,
    }
}

/// Bytes: `0x` and pairs of hexadecimal digits.
pub fn data(value: &Value) -> Option<Vec<u8>> {
    hex::decode(value.as_str()?.strip_prefix("0x")?).ok()
}

/// Bytes as a node takes them.
pub fn hexadecimal(bytes: impl AsRef<[u8]>) -> String {
    format!("0x{}", hex::encode(bytes))
}

/// A number as a node takes it.
pub fn hex_number(number: u64) -> String {
    format!("{number:#x}")
}

/// An object's fields.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(pub &'a Value);

impl<'a> Fields<'a> {
    /// A field that is there and not null.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn get(self, name: &'static str) -> Result<&'a Value, Malformed> {
        self.0.get(name).filter(|value| !value.is_null()).ok_or(Malformed(name))
    }

    /// A number of at most 64 bits.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn u64(self, name: &'static str) -> Result<u64, Malformed> {
        let value = quantity(self.get(name)?).and_then(|value| u64::try_from(value).ok());
        value.ok_or(Malformed(name))
    }

    /// A number of at most 128 bits.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn u128(self, name: &'static str) -> Result<u128, Malformed> {
        quantity(self.get(name)?).ok_or(Malformed(name))
    }

    /// Bytes of any length.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn data(self, name: &'static str) -> Result<Vec<u8>, Malformed> {
        data(self.get(name)?).ok_or(Malformed(name))
    }

    /// A hash.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn hash(self, name: &'static str) -> Result<B256, Malformed> {
        B256::try_from(self.data(name)?.as_slice()).map_err(|_| Malformed(name))
    }

    /// An address.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn address(self, name: &'static str) -> Result<Address, Malformed> {
        Address::try_from(self.data(name)?.as_slice()).map_err(|_| Malformed(name))
    }

    /// A list.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn list(self, name: &'static str) -> Result<&'a [Value], Malformed> {
        self.get(name)?.as_array().map(Vec::as_slice).ok_or(Malformed(name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_hexadecimal_counts() {
        for (text, value) in [("0x0", 0), ("0x00", 0), ("0x1f", 31), ("0xFF", 255)] {
            assert_eq!(quantity(&json!(text)), Some(value));
        }
        for text in ["", "0x", "12", "0x+1", "0x-1", "0x 1", "0xg", &format!("0x{}", "f".repeat(33))] {
            assert_eq!(quantity(&json!(text)), None, "{text:?}");
        }
        assert_eq!(quantity(&json!(5)), None);
        assert_eq!(data(&json!("0x0a0B")), Some(vec![10, 11]));
        assert_eq!(data(&json!("0x0")), None);
        let object = json!({ "hash": format!("0x{}", "11".repeat(32)), "null": null });
        assert_eq!(Fields(&object).hash("hash"), Ok(B256::repeat_byte(0x11)));
        assert_eq!(Fields(&object).address("hash"), Err(Malformed("hash")));
        assert_eq!(Fields(&object).get("null"), Err(Malformed("null")));
    }
}
