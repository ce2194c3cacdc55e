//! Questions to other people's servers: one POST, an answer that is bounded in size and time. No redirects, no proxy of
//! the environment; nothing of a URL but its host is ever printed.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Client, Response, Url};

const WORDS_CHARS_MAX: usize = 200;

/// An address that questions go to.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    url: Url,
    host: String,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address").field(&self.host).finish()
    }
}

impl Address {
    /// `None`: no `http` or `https` URL with a host.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok().filter(|url| ["http", "https"].contains(&url.scheme()))?;
        let host = url.host_str()?;
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Some(Self { url, host })
    }

    /// Host and port, as written.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }
}

/// What came back.
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

impl Answered {
    /// The beginning of the body, if it is words.
    pub(crate) fn words(&self) -> String {
        printable(&String::from_utf8_lossy(&self.body))
    }
}

/// A client whose questions end after `timeout`, answers included.
///
/// # Errors
/// Why it can't be made, in words.
pub(crate) fn client(timeout: Duration) -> Result<Client, String> {
    let builder = Client::builder().timeout(timeout).connect_timeout(timeout).no_proxy();
    builder.redirect(reqwest::redirect::Policy::none()).build().map_err(|error| words(&error.without_url()))
}

/// Posts `body` as `kind`; an answer has at most `max` bytes.
///
/// # Errors
/// Why there is no answer, in words.
pub(crate) async fn post(
    client: &Client,
    to: &Address,
    (kind, body): (&'static str, Vec<u8>),
    max: usize,
) -> Result<Answered, String> {
    let request = client.post(to.url.clone()).header("content-type", kind).body(body);
    let response = request.send().await.map_err(|error| words(&error.without_url()))?;
    let status = response.status().as_u16();
    Ok(Answered { status, body: bounded(response, max).await? })
}

async fn bounded(mut response: Response, max: usize) -> Result<Bytes, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| words(&error.without_url()))? {
        if bytes.len() + chunk.len() > max {
            return Err(format!("an answer of more than {max} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.into())
}

/// An error and its causes.
fn words(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    printable(&causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
}

/// Foreign words go into logs and errors, so they are cut, and have no control characters.
fn printable(text: &str) -> String {
    text.trim_end().chars().filter(|character| !character.is_control()).take(WORDS_CHARS_MAX).collect()
}
