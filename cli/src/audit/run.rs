//! `stele audit run`: asks a gateway to audit, draws the beacon here, and takes everything home.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use stele_evidence::record::CLUSTER;
use stele_types::seam::random_bytes;

use super::Trust;
use super::judge::{self, Judged};
use crate::evidence::export::{Asked, fetch};
use crate::evidence::unpack::unpack_ending;
use crate::real::OsRng;
use crate::s3_client::{Pulled, S3Args, S3Client};
use crate::web;

const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Between two looks at how far an audit is.
const PAUSE: Duration = Duration::from_millis(500);
/// How long an audit may wait for its checkpoint.
const CHECKPOINT_WAIT: Duration = Duration::from_secs(300);
/// Said beside the beacon in the report.
const BEACON_NAME: &str = "drawn by who ran stele audit run, after the checkpoint";

/// `stele audit run`.
#[derive(Args)]
pub(crate) struct RunArgs {
    /// Ask each storage node for so many shards; with --bucket or --key, for so many chunks.
    #[arg(long, value_name = "N", conflicts_with = "all", required_unless_present_any = ["all", "bucket", "key"])]
    sample: Option<u64>,
    /// Ask for every shard.
    #[arg(long, conflicts_with_all = ["bucket", "key"])]
    all: bool,
    /// Ask for the chunks of the current versions in this bucket.
    #[arg(long, value_name = "BUCKET", conflicts_with = "key")]
    bucket: Option<String>,
    /// Ask for the chunks of one object: s3://BUCKET/KEY or s3://BUCKET/KEY?versionId=ID.
    #[arg(long, value_name = "S3_URI")]
    key: Option<crate::evidence::location::Location>,
    /// Groups of 16 KiB that each shard or chunk is asked for.
    #[arg(long, value_name = "N", default_value_t = 1)]
    groups: u8,
    /// New folder for reports, slices and evidence.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    trust: Trust,
    #[command(flatten)]
    store: S3Args,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What the gateway says of an audit.
#[derive(Debug, Deserialize)]
struct Told {
    id: String,
    state: String,
    challenges: u64,
    next: Option<Value>,
    checkpoint: Option<Checkpoint>,
    answered: Option<u64>,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Checkpoint {
    size: u64,
    root: String,
}

/// Runs one audit, or as many as all shards need.
///
/// # Errors
/// What the store answered, or what does not hold of what it answered.
pub(super) async fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let store = S3Client::open(args.store).await?;
    make(&args.output).with_context(|| format!("making {}; name a new folder", args.output.display()))?;
    let groups = args.groups;
    let mut document = match (&args.key, &args.bucket) {
        (Some(at), _) => json!({ "bucket": at.bucket, "key": at.key, "versionId": at.version, "sample": args.sample }),
        (None, Some(bucket)) => json!({ "bucket": bucket, "sample": args.sample }),
        (None, None) if args.all => json!({ "shards": { "group": 0, "row": 0 } }),
        (None, None) => json!({ "sample": args.sample }),
    };
    let mut judged = Vec::new();
    for number in 1.. {
        if let Some(document) = document.as_object_mut() {
            document.insert("groupsPerRow".into(), groups.into());
        }
        let name = judge::name(number);
        let folder = args.output.join(&name);
        let (next, one) = audit(&store, &document, &folder, (&args.trust, name)).await?;
        judged.push(one);
        match next {
            Some(next) => document = json!({ "shards": next }),
            None => break,
        }
    }
    Ok(judge::tell(&judged, args.json))
}

async fn audit(
    store: &S3Client,
    document: &Value,
    folder: &Path,
    (trust, name): (&Trust, String),
) -> anyhow::Result<(Option<Value>, Judged)> {
    let begun = ask(store, Method::POST, "possession-audit=", Some(document)).await?;
    let query = format!("possession-audit={}", begun.id);
    let checkpoint = covered(store, &query).await?;
    // Drawn only now: whoever runs the store could not choose the checkpoint to it.
    let beacon: [u8; 32] = random_bytes(&OsRng);
    let drawn = json!({ "beaconName": BEACON_NAME, "beacon": hex::encode(beacon) });
    store.ask(Method::POST, &query, Some(serde_json::to_vec(&drawn)?)).await?;
    finished(store, &query, begun.challenges).await?;
    let archive = Pulled::new(store.ask(Method::GET, &format!("{query}&report="), None).await?);
    let target = folder.to_owned();
    tokio::task::spawn_blocking(move || unpack_ending(archive, &target, None)).await??;
    let key = format!("audit/{}", begun.id);
    let event =
        Asked { bucket: CLUSTER, key: &key, version_id: None, range: None, all_versions: false, payload: false };
    fetch(store, vec![event], &folder.join("evidence")).await?;
    let judged = judge::one(folder, trust, name)?;
    ensure!(judged.beacon.1 == beacon, "the seed was drawn from another beacon than the one that was drawn here");
    let head = judged.head();
    ensure!(
        (head.size, hex::encode(head.root)) == (checkpoint.size, checkpoint.root),
        "the seed hangs on another checkpoint than the one that was shown before the beacon was drawn"
    );
    Ok((begun.next, judged))
}

async fn ask(store: &S3Client, method: Method, query: &str, document: Option<&Value>) -> anyhow::Result<Told> {
    let document = document.map(serde_json::to_vec).transpose()?;
    let answer = store.ask(method, query, document).await?;
    let bytes = web::body(answer, ANSWER_BYTES_MAX).await?;
    serde_json::from_slice(&bytes).context("what the store says of the audit is not understood")
}

/// The checkpoint that the seed will hang on.
async fn covered(store: &S3Client, query: &str) -> anyhow::Result<Checkpoint> {
    let look = async {
        loop {
            let told = ask(store, Method::GET, query, None).await?;
            if let Some(checkpoint) = told.checkpoint {
                return Ok(checkpoint);
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let waited = tokio::time::timeout(CHECKPOINT_WAIT, look).await;
    waited.context("no signed checkpoint covers the audit yet: does an anchor run?")?
}

async fn finished(store: &S3Client, query: &str, challenges: u64) -> anyhow::Result<()> {
    let mut shown = 0;
    loop {
        let told = ask(store, Method::GET, query, None).await?;
        match told.state.as_str() {
            "ended" => return Ok(()),
            "failed" => bail!("the audit was not finished: {}", told.error.unwrap_or_default()),
            _ => {}
        }
        let answered = told.answered.unwrap_or(0);
        if answered != shown {
            tracing::info!("{answered} of {challenges} challenges have a verdict");
            shown = answered;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn make(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir(folder)
}
