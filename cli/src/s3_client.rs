//! Signed requests of commands to the S3 port of a running store.

use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::{Buf, Bytes};
use clap::Args;
use http::Method;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpRequest, HttpRequestBody};
use reqwest::StatusCode;
use tokio::runtime::Handle;

use crate::web;

/// How often, and how far apart, a store is asked again that says it needs a moment.
const TRIES: u32 = 20;
const BETWEEN_TRIES: Duration = Duration::from_secs(2);
const ERROR_BYTES_MAX: usize = 64 * 1024;
const SECRET_BYTES_MAX: usize = 4096;

/// Where the store is, and who asks.
#[derive(Args)]
pub(crate) struct S3Args {
    /// The store's S3 endpoint.
    #[arg(long, env = "AWS_ENDPOINT_URL", default_value = "http://127.0.0.1:9000", value_name = "URL")]
    endpoint: String,
    /// Region that requests are signed for.
    #[arg(long, env = "AWS_REGION", default_value = "us-east-1")]
    region: String,
    /// Access key.
    #[arg(long, env = "AWS_ACCESS_KEY_ID", value_name = "KEY")]
    access_key: String,
    /// File with the secret key; without it, AWS_SECRET_ACCESS_KEY.
    #[arg(long, value_name = "FILE")]
    secret_key_file: Option<PathBuf>,
    /// Certificate (PEM) of the authority that signed the endpoint's, where the system does not know it.
    #[arg(long, env = "AWS_CA_BUNDLE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// A client of one store.
pub(crate) struct S3Client {
    client: reqwest::Client,
    endpoint: String,
    region: String,
    credential: AwsCredential,
}

impl S3Client {
    /// Gets ready to ask. Asks nothing yet.
    ///
    /// # Errors
    /// There is no secret key, or a file can't be read.
    pub(crate) async fn open(args: S3Args) -> anyhow::Result<Self> {
        let secret = match &args.secret_key_file {
            Some(path) => String::from_utf8(web::read_small(path, SECRET_BYTES_MAX).await?)
                .with_context(|| format!("{} is not text", path.display()))?
                .trim_end()
                .to_owned(),
            None => std::env::var("AWS_SECRET_ACCESS_KEY")
                .context("no secret key: --secret-key-file or AWS_SECRET_ACCESS_KEY")?,
        };
        let credential = AwsCredential { key_id: args.access_key, secret_key: secret, token: None };
        let client = web::client(args.ca_file.as_deref()).await?;
        Ok(Self { client, endpoint: args.endpoint, region: args.region, credential })
    }

    /// The answer to `/?QUERY`, waiting while the store says that it needs a moment, as for a checkpoint.
    ///
    /// # Errors
    /// What the store answered.
    pub(crate) async fn ask(
        &self,
        method: Method,
        query: &str,
        document: Option<Vec<u8>>,
    ) -> anyhow::Result<reqwest::Response> {
        for tried in 1.. {
            let (signed, uri) = self.sign(&method, query, document.clone())?;
            let body = document.clone().unwrap_or_default();
            let sent = self.client.request(method.clone(), &uri).headers(signed).body(body).send().await;
            let answer = sent.with_context(|| format!("no answer from {}", self.endpoint))?;
            if answer.status().is_success() {
                return Ok(answer);
            }
            let status = answer.status();
            let text = told(answer).await;
            if status != StatusCode::SERVICE_UNAVAILABLE || tried >= TRIES {
                bail!("{} answered {status}: {text}", self.endpoint);
            }
            tracing::info!("{text}");
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
        bail!("not reached")
    }

    /// Headers of a signed request, and where it goes.
    fn sign(
        &self,
        method: &Method,
        query: &str,
        document: Option<Vec<u8>>,
    ) -> anyhow::Result<(http::HeaderMap, String)> {
        let uri = format!("{}/?{query}", self.endpoint.trim_end_matches('/'));
        let mut request = HttpRequest::new(HttpRequestBody::from(document.unwrap_or_default()));
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.parse().with_context(|| format!("{} is no endpoint", self.endpoint))?;
        ensure!(
            request.uri().scheme().is_some(),
            "{} is no endpoint; it begins with http:// or https://",
            self.endpoint
        );
        AwsAuthorizer::new(&self.credential, "s3", &self.region).try_authorize(&mut request, None)?;
        Ok((std::mem::take(request.headers_mut()), uri))
    }
}

/// Code and message of an S3 error, or what else was answered.
async fn told(answer: reqwest::Response) -> String {
    let bytes = web::body(answer, ERROR_BYTES_MAX).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(inner, _)| inner.replace("&quot;", "\"").replace("&amp;", "&"))
    };
    match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => text,
    }
}

/// An answer's body for a reader that pulls it, on a thread that may block.
pub(crate) struct Pulled {
    answer: reqwest::Response,
    rest: Bytes,
    runtime: Handle,
}

impl Pulled {
    /// The body of this answer. Must be made on the runtime.
    pub(crate) fn new(answer: reqwest::Response) -> Self {
        Self { answer, rest: Bytes::new(), runtime: Handle::current() }
    }
}

impl Read for Pulled {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.runtime.block_on(self.answer.chunk()).map_err(io::Error::other)? {
                None => return Ok(0),
                Some(piece) => self.rest = piece,
            }
        }
        let count = self.rest.len().min(buffer.len());
        self.rest.copy_to_slice(buffer.get_mut(..count).unwrap_or_default());
        Ok(count)
    }
}
