//! Names and identifiers of keys as C2SP signed-note writes them: `name+id+base64(type | public key)`.
//! What the bytes of the public key mean is for [`crate::keys`] to say.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::lines::{parse_base64, print_base64};

/// Longest text of a verifier key in bytes; an ML-DSA-44 key takes 1,752 of them.
pub const VKEY_MAX: usize = 64 * 1024;

/// Why a text is not a verifier key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VkeyError {
    /// Empty, or holds a space, a plus or a control character.
    #[error("a key name is not empty and has no spaces, control characters or plus signs")]
    Name,
    /// Not three parts with plus signs between them, or too long.
    #[error("a verifier key is name+id+base64")]
    Shape,
    /// Not eight hexadecimal digits.
    #[error("the key id is not eight hexadecimal digits")]
    Id,
    /// Not canonical base64, or without a type and a key.
    #[error("the key is not canonical base64 of a type byte and a public key")]
    Encoding,
    /// Name, type and key give another identifier than the text says.
    #[error("the key id does not belong to this name and key")]
    WrongId,
}

/// Name of a key: not empty, UTF-8, without Unicode spaces, control characters and plus signs. The
/// name of a log's key is the log's origin.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct KeyName(String);

impl KeyName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`VkeyError::Name`].
    pub fn new(name: &str) -> Result<Self, VkeyError> {
        let forbidden = |c: char| c.is_whitespace() || c == '+' || c < ' ';
        if name.is_empty() || name.chars().any(forbidden) {
            return Err(VkeyError::Name);
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Identifier of a key: the first four bytes of SHA-256(name | LF | type | public key). It only tells
/// keys apart; anyone can make a key that has a given identifier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct KeyId(pub [u8; 4]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

/// Name, type and bytes of a public key, and the identifier that follows from them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifierKey {
    name: KeyName,
    id: KeyId,
    signature_type: u8,
    public_key: Vec<u8>,
}

impl VerifierKey {
    /// Puts a key together. `signature_type` is a byte that signed-note assigns.
    pub fn new(name: KeyName, signature_type: u8, public_key: Vec<u8>) -> Self {
        let digest = Sha256::new()
            .chain_update(name.as_str())
            .chain_update([b'\n', signature_type])
            .chain_update(&public_key)
            .finalize();
        let [a, b, c, d, ..] = <[u8; 32]>::from(digest);
        Self { name, id: KeyId([a, b, c, d]), signature_type, public_key }
    }

    /// Reads `name+id+base64`. The identifier may be in capitals; it is printed in small letters.
    ///
    /// # Errors
    /// What is wrong with the text; a key with a wrong identifier is refused, never corrected.
    pub fn parse(text: &str) -> Result<Self, VkeyError> {
        if text.len() > VKEY_MAX {
            return Err(VkeyError::Shape);
        }
        // The name has no plus, base64 may have some.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(VkeyError::Shape);
        };
        let name = KeyName::new(name)?;
        let id = parse_id(id.as_bytes()).ok_or(VkeyError::Id)?;
        let key = parse_base64(key.as_bytes()).ok_or(VkeyError::Encoding)?;
        let Some((signature_type, public_key)) = key.split_first() else { return Err(VkeyError::Encoding) };
        if public_key.is_empty() {
            return Err(VkeyError::Encoding);
        }
        let key = Self::new(name, *signature_type, public_key.to_vec());
        if key.id == id { Ok(key) } else { Err(VkeyError::WrongId) }
    }

    /// Name.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// Identifier.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Type byte of the signatures that the key makes.
    pub fn signature_type(&self) -> u8 {
        self.signature_type
    }

    /// Public key, in the encoding that belongs to the type.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[self.signature_type], self.public_key.as_slice()].concat();
        write!(f, "{}+{}+{}", self.name, self.id, print_base64(&key))
    }
}

/// Eight hexadecimal digits; the standard library's reader would take a sign as well.
fn parse_id(digits: &[u8]) -> Option<KeyId> {
    let digits: &[u8; 8] = digits.try_into().ok()?;
    let number = digits.iter().try_fold(0u32, |number, digit| {
        let value = char::from(*digit).to_digit(16)?;
        Some(number << 4 | value)
    })?;
    Some(KeyId(number.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    #[test]
    fn a_published_key_is_read_and_written() {
        let key = VerifierKey::parse(PETER).unwrap();
        assert_eq!((key.name().as_str(), key.signature_type(), key.public_key().len()), ("PeterNeumann", 1, 32));
        assert_eq!(key.id().to_string(), "c74f20a3");
        assert_eq!(key.to_string(), PETER);
        assert_eq!(VerifierKey::parse(&PETER.replace("c74f20a3", "C74F20A3")), Ok(key));
    }

    #[test]
    fn other_texts_are_refused() {
        for (text, error) in [
            ("", VkeyError::Shape),
            ("PeterNeumann+c74f20a3", VkeyError::Shape),
            ("+c74f20a3+ARpc", VkeyError::Name),
            ("Peter Neumann+c74f20a3+ARpc", VkeyError::Name),
            ("Peter\u{a0}Neumann+c74f20a3+ARpc", VkeyError::Name),
            ("Peter\u{3000}Neumann+c74f20a3+ARpc", VkeyError::Name),
            ("PeterNeumann+c74f20a+ARpc", VkeyError::Id),
            ("PeterNeumann+c74f20a30+ARpc", VkeyError::Id),
            ("PeterNeumann++74f20a3+ARpc", VkeyError::Id),
            ("PeterNeumann+c74f20ag+ARpc", VkeyError::Id),
            ("PeterNeumann+c74f20a3+", VkeyError::Encoding),
            ("PeterNeumann+c74f20a3+AQ==", VkeyError::Encoding),
            ("PeterNeumann+c74f20a3+ARp", VkeyError::Encoding),
            ("PeterNeumann+c74f20a3+ARpd", VkeyError::WrongId),
        ] {
            assert_eq!(VerifierKey::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(VerifierKey::parse(&PETER.replace("c74f", "c74e")), Err(VkeyError::WrongId));
        assert_eq!(VerifierKey::parse(&"n".repeat(VKEY_MAX + 1)), Err(VkeyError::Shape));
    }
}
