//! Tags of objects and buckets: names and values that people give, within S3's limits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits::{TAG_KEY_CHARS_MAX, TAG_VALUE_CHARS_MAX};

/// Names that begin so belong to the service; clients can't set them.
const RESERVED: &str = "aws:";

/// A set of tags by name. [`Tags::new`] checks it; what was decoded is checked by [`Tags::check`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tags(BTreeMap<String, String>);

/// Why a set of tags is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TagError {
    /// More than fit.
    #[error("at most {max} tags are allowed")]
    TooMany {
        /// How many fit.
        max: usize,
    },
    /// One name twice.
    #[error("the tag key {key:?} is given twice")]
    Repeated {
        /// The name.
        key: String,
    },
    /// A name that is empty, too long or has characters that tags can't have.
    #[error(
        "a tag key has 1 to {TAG_KEY_CHARS_MAX} characters: letters, digits, spaces and _ . : / = + - @; {key:?} does not"
    )]
    Key {
        /// The name's beginning.
        key: String,
    },
    /// A value that is too long or has characters that tags can't have.
    #[error(
        "a tag value has at most {TAG_VALUE_CHARS_MAX} characters: letters, digits, spaces and _ . : / = + - @; that of \
         {key:?} does not"
    )]
    Value {
        /// Its name.
        key: String,
    },
    /// A name that clients can't set.
    #[error("tag keys that begin with {RESERVED:?} are reserved: choose another one than {key:?}")]
    Reserved {
        /// The name.
        key: String,
    },
}

/// What S3 takes: letters, digits, spaces of any script, and some signs.
fn allowed(c: char) -> bool {
    c.is_alphanumeric() || (c.is_whitespace() && !c.is_control()) || "_.:/=+-@".contains(c)
}

fn within(text: &str, chars: usize) -> bool {
    text.chars().take(chars + 1).count() <= chars && text.chars().all(allowed)
}

fn check_one(key: &str, value: &str) -> Result<(), TagError> {
    let named = || key.chars().take(TAG_KEY_CHARS_MAX).collect();
    if key.is_empty() || !within(key, TAG_KEY_CHARS_MAX) {
        return Err(TagError::Key { key: named() });
    }
    if key.get(..RESERVED.len()).is_some_and(|start| start.eq_ignore_ascii_case(RESERVED)) {
        return Err(TagError::Reserved { key: named() });
    }
    if !within(value, TAG_VALUE_CHARS_MAX) {
        return Err(TagError::Value { key: named() });
    }
    Ok(())
}

impl Tags {
    /// A set of at most `max` tags; looks at no more than one above that.
    ///
    /// # Errors
    /// [`TagError`] names the first tag that is wrong.
    pub fn new(tags: impl IntoIterator<Item = (String, String)>, max: usize) -> Result<Self, TagError> {
        let mut set = BTreeMap::new();
        for (key, value) in tags {
            if set.len() >= max {
                return Err(TagError::TooMany { max });
            }
            check_one(&key, &value)?;
            if set.contains_key(&key) {
                return Err(TagError::Repeated { key });
            }
            set.insert(key, value);
        }
        Ok(Self(set))
    }

    /// Checks a set that another process made.
    ///
    /// # Errors
    /// As [`Tags::new`].
    pub fn check(&self, max: usize) -> Result<(), TagError> {
        if self.0.len() > max {
            return Err(TagError::TooMany { max });
        }
        self.0.iter().try_for_each(|(key, value)| check_one(key, value))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::OBJECT_TAGS_MAX;

    fn made(pairs: &[(&str, &str)]) -> Result<Tags, TagError> {
        Tags::new(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())), OBJECT_TAGS_MAX)
    }

    #[test]
    fn limits_count_characters() {
        let (key, value) = ("ü".repeat(128), "語".repeat(256));
        assert!(made(&[(&key, &value)]).is_ok());
        assert!(matches!(made(&[(&format!("{key}x"), "")]), Err(TagError::Key { .. })));
        assert!(matches!(made(&[("k", &format!("{value}x"))]), Err(TagError::Value { .. })));
        assert!(matches!(made(&[("", "v")]), Err(TagError::Key { .. })));
        assert!(made(&[("k", "")]).is_ok());
        let many: Vec<String> = (0..=OBJECT_TAGS_MAX).map(|n| n.to_string()).collect();
        let pairs: Vec<(&str, &str)> = many.iter().map(|key| (key.as_str(), "")).collect();
        assert_eq!(made(&pairs), Err(TagError::TooMany { max: OBJECT_TAGS_MAX }));
        assert_eq!(made(&pairs[1..]).unwrap().len(), OBJECT_TAGS_MAX);
    }

    #[test]
    fn repeated_reserved_and_unprintable_tags_are_refused() {
        assert_eq!(made(&[("k", "1"), ("k", "2")]), Err(TagError::Repeated { key: "k".into() }));
        assert!(made(&[("k", "1"), ("K", "2")]).is_ok(), "names differ by case");
        for reserved in ["aws:x", "AWS:x", "aws:"] {
            assert!(matches!(made(&[(reserved, "")]), Err(TagError::Reserved { .. })), "{reserved}");
        }
        assert!(made(&[("aw", ""), ("ä:x", "aws:x")]).is_ok());
        for wrong in ["a\0", "a\n", "a<", "a&b", "\u{fffe}", "a\"", "*", "\u{7f}"] {
            assert!(made(&[(wrong, "")]).is_err(), "{wrong:?}");
            assert!(made(&[("k", wrong)]).is_err(), "{wrong:?}");
        }
        assert!(made(&[("a b_c.d:e/f=g+h-i@j", "9 ")]).is_ok());
    }

    #[test]
    fn what_another_process_sent_is_checked_again() {
        let bytes = rmp_serde::to_vec(&BTreeMap::from([("aws:x", "")])).unwrap();
        let tags: Tags = rmp_serde::from_slice(&bytes).unwrap();
        assert!(tags.check(OBJECT_TAGS_MAX).is_err());
        let bytes = rmp_serde::to_vec(&made(&[("a", "b")]).unwrap()).unwrap();
        assert_eq!(hex::encode(&bytes), "81a161a162", "a plain map");
        assert!(rmp_serde::from_slice::<Tags>(&bytes).unwrap().check(1).is_ok());
        assert_eq!(rmp_serde::to_vec(&Tags::default()).unwrap(), [0x80]);
    }
}
