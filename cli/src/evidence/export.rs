//! `stele evidence export`: asks a gateway for a bundle and unpacks it.

use std::io::{self, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::{Buf, Bytes};
use clap::Args;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpRequest, HttpRequestBody};
use serde::Serialize;
use tokio::runtime::Handle;

use super::location::Location;
use super::unpack::unpack;
use crate::web;

/// How often, and how far apart, a store is asked again that says it needs a moment.
const TRIES: u32 = 20;
const BETWEEN_TRIES: Duration = Duration::from_secs(2);
const ERROR_BYTES_MAX: usize = 64 * 1024;
const SECRET_BYTES_MAX: usize = 4096;

/// `stele evidence export`.
#[derive(Args)]
pub(crate) struct ExportArgs {
    /// What to prove: s3://BUCKET/KEY or s3://BUCKET/KEY?versionId=ID.
    #[arg(required = true, value_name = "S3_URI")]
    objects: Vec<Location>,
    /// New folder for the bundle.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Prove only these bytes of the one object: first-last (both included), first- or -count.
    #[arg(long, value_name = "A-B", conflicts_with_all = ["all_versions", "payload"])]
    range: Option<String>,
    /// Prove every version of the keys, from their first event on.
    #[arg(long)]
    all_versions: bool,
    /// Put the bytes themselves into the bundle.
    #[arg(long)]
    payload: bool,
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
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The document of `POST /?evidence`.
#[derive(Serialize)]
struct Document<'a> {
    objects: Vec<Asked<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Asked<'a> {
    bucket: &'a str,
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<&'a str>,
    all_versions: bool,
    payload: bool,
}

/// Writes a bundle.
///
/// # Errors
/// What the store answered, or what could not be written.
pub(super) async fn run(args: ExportArgs) -> anyhow::Result<ExitCode> {
    ensure!(args.range.is_none() || args.objects.len() == 1, "--range is of one object");
    let secret = match &args.secret_key_file {
        Some(path) => String::from_utf8(web::read_small(path, SECRET_BYTES_MAX).await?)
            .with_context(|| format!("{} is not text", path.display()))?
            .trim_end()
            .to_owned(),
        None => std::env::var("AWS_SECRET_ACCESS_KEY")
            .context("no secret key: --secret-key-file or AWS_SECRET_ACCESS_KEY")?,
    };
    let credential = AwsCredential { key_id: args.access_key.clone(), secret_key: secret, token: None };
    let client = web::client(args.ca_file.as_deref()).await?;
    let answer = ask(&client, &args, &credential).await?;
    let (runtime, output) = (Handle::current(), args.output.clone());
    let body = Body { answer, rest: Bytes::new(), runtime };
    let unpacked = tokio::task::spawn_blocking(move || unpack(body, &output)).await??;
    let folder = args.output.display();
    crate::print(if args.json {
        serde_json::json!({ "bundle": args.output, "files": unpacked.files, "bytes": unpacked.bytes }).to_string()
    } else {
        format!("{folder}: {} files, {} bytes\njudge it with: stele-verify {folder}", unpacked.files, unpacked.bytes)
    });
    Ok(ExitCode::SUCCESS)
}

/// The answer of a store that has one, waiting while it says that a checkpoint is still to come.
async fn ask(
    client: &reqwest::Client,
    args: &ExportArgs,
    credential: &AwsCredential,
) -> anyhow::Result<reqwest::Response> {
    let objects = args.objects.iter().map(|at| Asked {
        bucket: &at.bucket,
        key: &at.key,
        version_id: at.version.as_deref(),
        range: args.range.as_deref(),
        all_versions: args.all_versions,
        payload: args.payload,
    });
    let document = serde_json::to_vec(&Document { objects: objects.collect() })?;
    for tried in 1.. {
        let (signed, uri) = sign(args, credential, document.clone())?;
        let sent = client.post(&uri).headers(signed).body(document.clone()).send().await;
        let answer = sent.with_context(|| format!("no answer from {}", args.endpoint))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let text = told(answer).await;
        if status != reqwest::StatusCode::SERVICE_UNAVAILABLE || tried >= TRIES {
            bail!("{} answered {status}: {text}", args.endpoint);
        }
        tracing::info!("{text}");
        tokio::time::sleep(BETWEEN_TRIES).await;
    }
    bail!("not reached")
}

/// Headers of a signed request, and where it goes.
fn sign(args: &ExportArgs, credential: &AwsCredential, document: Vec<u8>) -> anyhow::Result<(http::HeaderMap, String)> {
    let uri = format!("{}/?evidence=", args.endpoint.trim_end_matches('/'));
    let mut request = HttpRequest::new(HttpRequestBody::from(document));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = uri.parse().with_context(|| format!("{} is no endpoint", args.endpoint))?;
    ensure!(request.uri().scheme().is_some(), "{} is no endpoint; it begins with http:// or https://", args.endpoint);
    AwsAuthorizer::new(credential, "s3", &args.region).try_authorize(&mut request, None)?;
    Ok((std::mem::take(request.headers_mut()), uri))
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

/// An answer's body for a reader that pulls it.
struct Body {
    answer: reqwest::Response,
    rest: Bytes,
    runtime: Handle,
}

impl Read for Body {
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
