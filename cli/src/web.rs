//! HTTP from commands: one client for admin ports and S3 endpoints, plain or in TLS, with bounded answers.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use reqwest::{Client, Response, StatusCode};

/// Longest pause in an answer, and longest time to connect.
const PAUSE_MAX: Duration = Duration::from_secs(60);
const CA_BYTES_MAX: usize = 1 << 20;

/// A client that trusts the system's certificates and those of `ca_file`, and follows nobody elsewhere.
///
/// # Errors
/// The file can't be read.
pub(crate) async fn client(ca_file: Option<&Path>) -> anyhow::Result<Client> {
    let mut builder = Client::builder()
        .connect_timeout(PAUSE_MAX)
        .read_timeout(PAUSE_MAX)
        .redirect(reqwest::redirect::Policy::none());
    if let Some(path) = ca_file {
        let pem = read_small(path, CA_BYTES_MAX).await?;
        let given = reqwest::Certificate::from_pem_bundle(&pem);
        builder = builder.tls_certs_merge(given.with_context(|| format!("certificates of {}", path.display()))?);
    }
    builder.build().context("making an HTTP client")
}

/// A small file, whole.
///
/// # Errors
/// It can't be read, or has more than `max` bytes.
pub(crate) async fn read_small(path: &Path, max: usize) -> anyhow::Result<Vec<u8>> {
    let bytes = tokio::fs::read(path).await.with_context(|| format!("reading {}", path.display()))?;
    ensure!(bytes.len() <= max, "{} has more than {max} bytes", path.display());
    Ok(bytes)
}

/// An answer's body, whole.
///
/// # Errors
/// It breaks off, or has more than `max` bytes.
pub(crate) async fn body(mut answer: Response, max: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(piece) = answer.chunk().await? {
        bytes.extend_from_slice(&piece);
        ensure!(bytes.len() <= max, "the answer has more than {max} bytes");
    }
    Ok(bytes)
}

/// What stands at an address; `None` for 404.
///
/// # Errors
/// There is no answer, or another one than 200 and 404.
pub(crate) async fn get(client: &Client, url: &str, max: usize) -> anyhow::Result<Option<Vec<u8>>> {
    let answer = client.get(url).send().await.with_context(|| format!("no answer from {url}"))?;
    match answer.status() {
        StatusCode::OK => body(answer, max).await.with_context(|| format!("reading {url}")).map(Some),
        StatusCode::NOT_FOUND => Ok(None),
        status => bail!("{url} answered {status}"),
    }
}
