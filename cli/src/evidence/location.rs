//! `s3://bucket/key[?versionId=ID]`. The key is taken as it is written, without any escapes.

use anyhow::{Context as _, bail};

/// One object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Location {
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) version: Option<String>,
}

impl std::str::FromStr for Location {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let rest = text.strip_prefix("s3://").with_context(|| format!("{text:?} is not s3://BUCKET/KEY"))?;
        let (bucket, rest) = rest.split_once('/').with_context(|| format!("{text:?} names no key"))?;
        // A key may hold a question mark; only this ending is a version.
        let (key, version) = match rest.rsplit_once("?versionId=") {
            Some((key, version)) => (key, Some(version.to_owned())),
            None => (rest, None),
        };
        if bucket.is_empty() || key.is_empty() || version.as_deref() == Some("") {
            bail!("{text:?} is not s3://BUCKET/KEY[?versionId=ID]");
        }
        Ok(Self { bucket: bucket.to_owned(), key: key.to_owned(), version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_name_bucket_key_and_version() {
        let of = |text: &str| text.parse::<Location>().ok().map(|at| (at.bucket, at.key, at.version));
        let found = |bucket: &str, key: &str, version: Option<&str>| {
            Some((bucket.to_owned(), key.to_owned(), version.map(str::to_owned)))
        };
        assert_eq!(of("s3://b/a/c d.txt"), found("b", "a/c d.txt", None));
        assert_eq!(of("s3://b/k?versionId=null"), found("b", "k", Some("null")));
        assert_eq!(of("s3://b/k?x?versionId=7"), found("b", "k?x", Some("7")));
        assert_eq!(of("s3://b/k?x"), found("b", "k?x", None));
        assert_eq!(of("s3://b//k"), found("b", "/k", None));
        for bad in ["", "b/k", "s3://", "s3://b", "s3://b/", "s3:///k", "s3://b/?versionId=1", "s3://b/k?versionId="] {
            assert_eq!(of(bad), None, "{bad:?}");
        }
    }
}
