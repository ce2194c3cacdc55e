//! Which file names a bundle may have: few enough that no file system, archive or reader of BagIt
//! takes two of them for one, or one of them for a place outside the bundle.

/// Longest name, bytes.
pub const NAME_MAX: usize = 200;
/// Most folders and file names in a row.
const DEPTH_MAX: usize = 6;

/// The BagIt declaration.
pub const DECLARATION: &str = "bagit.txt";
/// What the bag says of itself.
pub const INFO: &str = "bag-info.txt";
/// Digests of the files under `data/`.
pub const PAYLOAD_DIGESTS: &str = "manifest-sha256.txt";
/// Digests of the other files.
pub const TAG_DIGESTS: &str = "tagmanifest-sha256.txt";
/// The contents.
pub const CONTENTS: &str = "stele-bundle.json";
/// What the names of all other files begin with.
pub const PAYLOAD: &str = "data/";
/// The trust policy that comes with a bundle.
pub const POLICY: &str = "data/policy.txt";
/// The files that [`TAG_DIGESTS`] covers.
pub const COVERED: [&str; 4] = [INFO, DECLARATION, PAYLOAD_DIGESTS, CONTENTS];
/// BagIt's way to say that files must be fetched from somewhere.
pub const FETCH: &str = "fetch.txt";

/// Why a name is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameFault {
    /// Empty, more than [`NAME_MAX`] bytes, or too many folders.
    #[error("a name has 1 to {NAME_MAX} bytes and at most {DEPTH_MAX} parts")]
    Length,
    /// A capital letter.
    #[error("names have no capital letters, so that no two of them differ in case only")]
    Capital,
    /// Neither small letter, digit, `-`, `_`, `.` nor `/`.
    #[error("a name has small letters, digits, '-', '_', '.' and '/' only")]
    Character,
    /// Begins or ends with a slash, has two in a row, or a part that begins or ends with a dot.
    #[error("a name leads to one place below the bundle's folder: no '..', '.', '//' or leading '/', no hidden files")]
    Part,
}

/// Checks a name relative to the bundle's folder.
///
/// # Errors
/// Which rule it breaks.
pub fn check_name(name: &str) -> Result<(), NameFault> {
    if name.is_empty() || name.len() > NAME_MAX || name.split('/').count() > DEPTH_MAX {
        return Err(NameFault::Length);
    }
    if name.chars().any(char::is_uppercase) {
        return Err(NameFault::Capital);
    }
    if !name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/')) {
        return Err(NameFault::Character);
    }
    if name.split('/').any(|part| part.is_empty() || part.starts_with('.') || part.ends_with('.')) {
        return Err(NameFault::Part);
    }
    Ok(())
}

/// As [`check_name`], and the name stands under `data/`.
///
/// # Errors
/// Which rule it breaks.
pub fn check_payload_name(name: &str) -> Result<(), NameFault> {
    check_name(name)?;
    if name.starts_with(PAYLOAD) { Ok(()) } else { Err(NameFault::Part) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_pass() {
        for name in ["bagit.txt", "data/object-0001/record.cbor", "data/a_b-c.0", POLICY, "data/..a"] {
            let expected = if name == "data/..a" { Err(NameFault::Part) } else { Ok(()) };
            assert_eq!(check_name(name), expected, "{name}");
        }
        for (name, fault) in [
            ("", NameFault::Length),
            ("a/b/c/d/e/f/g", NameFault::Length),
            ("data/../bagit.txt", NameFault::Part),
            ("..", NameFault::Part),
            ("/data/a", NameFault::Part),
            ("data//a", NameFault::Part),
            ("data/", NameFault::Part),
            ("data/./a", NameFault::Part),
            ("data/.hidden", NameFault::Part),
            ("data/a.", NameFault::Part),
            ("data/A", NameFault::Capital),
            ("data/É", NameFault::Capital),
            ("data/é", NameFault::Character),
            ("data\\a", NameFault::Character),
            ("c:a", NameFault::Character),
            ("data/a b", NameFault::Character),
            ("data/a%0a", NameFault::Character),
            ("data/a\n", NameFault::Character),
            ("~/a", NameFault::Character),
        ] {
            assert_eq!(check_name(name), Err(fault), "{name:?}");
        }
        assert_eq!(check_name(&"a".repeat(NAME_MAX + 1)), Err(NameFault::Length));
        assert_eq!(check_payload_name(INFO), Err(NameFault::Part));
        assert!(COVERED.iter().all(|name| check_name(name).is_ok()));
    }
}
