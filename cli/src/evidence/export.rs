//! `stele evidence export`: asks a gateway for a bundle and unpacks it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::ensure;
use clap::Args;
use http::Method;
use serde::Serialize;

use super::location::Location;
use super::unpack::{Unpacked, unpack};
use crate::s3_client::{Pulled, S3Args, S3Client};

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
    #[command(flatten)]
    store: S3Args,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The document of `POST /?evidence`.
#[derive(Serialize)]
struct Document<'a> {
    objects: Vec<Asked<'a>>,
}

/// One object of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Asked<'a> {
    pub(crate) bucket: &'a str,
    pub(crate) key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) range: Option<&'a str>,
    pub(crate) all_versions: bool,
    pub(crate) payload: bool,
}

/// Writes a bundle.
///
/// # Errors
/// What the store answered, or what could not be written.
pub(super) async fn run(args: ExportArgs) -> anyhow::Result<ExitCode> {
    ensure!(args.range.is_none() || args.objects.len() == 1, "--range is of one object");
    let store = S3Client::open(args.store).await?;
    let objects = args.objects.iter().map(|at| Asked {
        bucket: &at.bucket,
        key: &at.key,
        version_id: at.version.as_deref(),
        range: args.range.as_deref(),
        all_versions: args.all_versions,
        payload: args.payload,
    });
    let unpacked = fetch(&store, objects.collect(), &args.output).await?;
    let folder = args.output.display();
    crate::print(if args.json {
        serde_json::json!({ "bundle": args.output, "files": unpacked.files, "bytes": unpacked.bytes }).to_string()
    } else {
        format!("{folder}: {} files, {} bytes\njudge it with: stele-verify {folder}", unpacked.files, unpacked.bytes)
    });
    Ok(ExitCode::SUCCESS)
}

/// Fetches one bundle into a new folder, waiting while the store says that a checkpoint is still to come.
///
/// # Errors
/// What the store answered, or what could not be written.
pub(crate) async fn fetch(store: &S3Client, objects: Vec<Asked<'_>>, output: &Path) -> anyhow::Result<Unpacked> {
    let document = serde_json::to_vec(&Document { objects })?;
    let answer = store.ask(Method::POST, "evidence=", Some(document)).await?;
    let (body, output) = (Pulled::new(answer), output.to_owned());
    tokio::task::spawn_blocking(move || unpack(body, &output)).await?
}
