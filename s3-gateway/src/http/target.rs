//! What a request addresses: the store, a bucket or an object; by path, or by a bucket in the host's name.
//!
//! s3s decides the same for itself, from the decoded path and from [`Hosts`]. What is refused or cleaned
//! before s3s depends on it, so the two must never differ: a `%2F` splits a path as `/` does.

use http::header::HOST;
use http::{HeaderMap, Uri, Version};
use s3s::S3Result;
use s3s::host::{S3Host, VirtualHost};

/// What a request is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// All buckets.
    Store,
    /// One bucket.
    Bucket,
    /// One key.
    Object,
}

/// A domain that can't be served.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{0:?} is no domain: give a name such as s3.example.com, without port, of letters, digits and hyphens between dots"
)]
pub struct BadDomain(String);

/// Domains below which a host's name begins with a bucket: `bucket.s3.example.com`. Any other host,
/// these domains themselves included, is addressed by path.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    /// In small letters, the longest first: the longest that fits is meant.
    domains: Vec<String>,
}

impl Hosts {
    /// Takes domains as an operator writes them.
    ///
    /// # Errors
    /// [`BadDomain`] names the first that is none.
    pub fn new<S: AsRef<str>>(domains: impl IntoIterator<Item = S>) -> Result<Self, BadDomain> {
        let mut taken = Vec::new();
        for domain in domains {
            let domain = domain.as_ref();
            let label = |l: &str| {
                let plain = l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
                (1..=63).contains(&l.len()) && plain && !l.starts_with('-') && !l.ends_with('-')
            };
            let number = domain.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
            if domain.len() > 253 || !domain.split('.').all(label) || number {
                return Err(BadDomain(domain.to_owned()));
            }
            taken.push(domain.to_ascii_lowercase());
        }
        taken.sort_by_key(|domain| std::cmp::Reverse(domain.len()));
        Ok(Self { domains: taken })
    }

    /// No domain: every request is addressed by path.
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    /// The bucket in a host's name, port and all, in small letters.
    fn bucket_in(&self, host: &str) -> Option<String> {
        let host = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if self.domains.contains(&host) {
            return None;
        }
        let below = |domain: &String| host.strip_suffix(domain.as_str())?.strip_suffix('.').map(str::to_owned);
        self.domains.iter().find_map(below)
    }

    /// The bucket in the name of the request's host.
    fn virtual_bucket(&self, uri: &Uri, headers: &HeaderMap, version: Version) -> Option<String> {
        if self.domains.is_empty() {
            return None;
        }
        let header = headers.get(HOST).and_then(|host| host.to_str().ok());
        // HTTP/2 has no Host header.
        let authority = || uri.authority().filter(|_| version >= Version::HTTP_2).map(http::uri::Authority::as_str);
        self.bucket_in(header.or_else(authority)?)
    }

    /// What the request is about.
    pub fn level(&self, uri: &Uri, headers: &HeaderMap, version: Version) -> Level {
        let rest = rest(uri);
        match (self.virtual_bucket(uri, headers, version), split(rest)) {
            (None, _) if rest.is_empty() => Level::Store,
            (Some(_), _) if rest.is_empty() => Level::Bucket,
            (Some(_), _) | (None, (_, Some(_))) => Level::Object,
            (None, (_, None)) => Level::Bucket,
        }
    }

    /// The bucket the request is about; of any form, as the client wrote it.
    pub fn bucket(&self, uri: &Uri, headers: &HeaderMap, version: Version) -> Option<String> {
        let by_path = || decoded(split(rest(uri)).0);
        self.virtual_bucket(uri, headers, version).or_else(by_path).filter(|bucket| !bucket.is_empty())
    }
}

impl S3Host for Hosts {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let parsed = VirtualHost::new(host);
        Ok(match self.bucket_in(host) {
            Some(bucket) => parsed.with_bucket(bucket),
            None => parsed,
        })
    }
}

fn rest(uri: &Uri) -> &str {
    let path = uri.path();
    path.strip_prefix('/').unwrap_or(path)
}

/// Bucket and key of a path without its first slash; no key where it is empty.
fn split(rest: &str) -> (&str, Option<&str>) {
    let encoded = rest.as_bytes().windows(3).position(|three| three.eq_ignore_ascii_case(b"%2F"));
    let (at, len) = match (rest.find('/'), encoded) {
        (Some(plain), Some(encoded)) if encoded < plain => (encoded, 3),
        (Some(plain), _) => (plain, 1),
        (None, Some(encoded)) => (encoded, 3),
        (None, None) => return (rest, None),
    };
    let (bucket, key) = (rest.get(..at).unwrap_or(rest), rest.get(at + len..).unwrap_or_default());
    (bucket, Some(key).filter(|key| !key.is_empty()))
}

/// Percent-decoded text; `None` if it is not UTF-8.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let Some((first, rest)) = bytes.split_first() {
        let digit =
            |at: usize| rest.get(at).and_then(|b| char::from(*b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                bytes = rest.get(2..).unwrap_or_default();
            }
            _ => {
                out.push(*first);
                bytes = rest;
            }
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;
    use s3s::path::{S3Path, parse_virtual_hosted_style};

    use super::*;

    fn hosts() -> Hosts {
        Hosts::new(["s3.Example.com", "example.com", "localhost"]).unwrap()
    }

    fn seen(host: &str, path: &str) -> (Level, Option<String>) {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(host).unwrap());
        let uri = path.parse().unwrap();
        let (hosts, version) = (hosts(), Version::HTTP_11);
        (hosts.level(&uri, &headers, version), hosts.bucket(&uri, &headers, version))
    }

    #[test]
    fn a_bucket_in_the_host_is_found_and_nothing_else_is_one() {
        let bucket = |name: &str| Some(name.to_owned());
        for host in ["b.example.com", "b.s3.example.com:9000", "B.S3.EXAMPLE.COM.", "b.localhost:1"] {
            assert_eq!(seen(host, "/"), (Level::Bucket, bucket("b")), "{host}");
            assert_eq!(seen(host, "/k/l"), (Level::Object, bucket("b")), "{host}");
        }
        assert_eq!(seen("a.b.example.com", "/"), (Level::Bucket, bucket("a.b")));
        for host in
            ["s3.example.com", "example.com:80", "localhost", "gateway", "127.0.0.1:9000", "[::1]:9000", "xexample.com"]
        {
            assert_eq!(seen(host, "/"), (Level::Store, None), "{host}");
            assert_eq!(seen(host, "/b"), (Level::Bucket, bucket("b")), "{host}");
            assert_eq!(seen(host, "/b/"), (Level::Bucket, bucket("b")), "{host}");
            assert_eq!(seen(host, "/b/k"), (Level::Object, bucket("b")), "{host}");
        }
        let (uri, none) = ("https://b.example.com/k".parse().unwrap(), HeaderMap::new());
        assert_eq!(hosts().level(&uri, &none, Version::HTTP_2), Level::Object);
        assert_eq!(hosts().bucket(&uri, &none, Version::HTTP_2), bucket("b"));
        assert_eq!(hosts().bucket(&uri, &none, Version::HTTP_11), bucket("k"));
    }

    #[test]
    fn only_names_are_domains() {
        for bad in ["", "a..b", "a b", "-a.b", "s3.example.com:9000", "127.0.0.1", "[::1]", &"a.".repeat(200)] {
            assert!(Hosts::new([bad]).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn s3s_never_sees_something_else(
            host in prop::sample::select(vec!["h", "abc.localhost", "abc.s3.example.com:1", "localhost:9000"]),
            path in "(/|%2F|%2f|%|%4|a|bcd|%62cd){0,6}",
        ) {
            let path = format!("/{path}");
            let Ok(uri) = path.parse::<Uri>() else { return Ok(()) };
            let (level, bucket) = seen(host, &path);
            let parsed = hosts();
            let virtual_host = parsed.parse_host_header(host).unwrap();
            let Some(decoded) = decoded(uri.path()) else { return Ok(()) };
            match parse_virtual_hosted_style(virtual_host.bucket(), &decoded) {
                Ok(S3Path::Root) => prop_assert_eq!((level, bucket), (Level::Store, None)),
                Ok(S3Path::Bucket { bucket: theirs }) => {
                    prop_assert_eq!((level, bucket.as_deref()), (Level::Bucket, Some(&*theirs)));
                }
                Ok(S3Path::Object { bucket: theirs, .. }) => {
                    prop_assert_eq!((level, bucket.as_deref()), (Level::Object, Some(&*theirs)));
                }
                // Refused by s3s: nothing to agree about.
                Err(_) => {}
            }
        }
    }
}
