//! `stele backup drill`: a restore that nobody is told of. The rows are put into files, looked at one by one, made the
//! beginning of a group, and a metadata node is started on them that reaches nobody.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use serde_json::json;
use stele_metadata::backup::Founder;
use stele_metadata::{Founding, MetadataConfig, MetadataNode, files};
use stele_rpc::memory::MemoryNetwork;
use stele_rpc::meta::{MetaReply, MetaRequest, MetaStatus};
use stele_types::ids::Salt;
use stele_types::seam::{Clock, random_bytes};

use super::rebuild::{Rebuilt, rebuild, require_empty};
use super::{FromArgs, read_key, told};
use crate::cluster::command::say;
use crate::real::{OsRng, RealClock};

/// Exit code of a backup that does not give what it should.
const EXIT_UNSOUND: u8 = 1;

/// Drills; exit code 0: a restore would work.
///
/// # Errors
/// The backup can't be read, or the key does not open it.
pub(super) async fn run(from: &FromArgs, key: &Path, scratch: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    require_empty(scratch)?;
    let key = read_key(key).await?;
    let (place, listed) = from.find().await?;
    let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
    let founder = Founder {
        addresses: vec!["drill:1".to_owned()],
        name: "drill".to_owned(),
        backup: [0; 32],
        now: clock.unix_millis(),
        salt: Salt::from_bytes(random_bytes(&OsRng)),
    };
    let rebuilt = rebuild((&place, &listed), key, scratch, founder).await?;
    let sound = rebuilt.report.is_sound();
    let after = if sound { Some(start(&rebuilt, scratch, clock).await?) } else { None };
    let Rebuilt { facts, report, hash, .. } = &rebuilt;
    let shown = json!({
        "name": listed.name, "blake3": hex::encode(hash), "superseded": listed.superseded, "sound": sound, "facts": facts,
        "buckets": report.buckets, "versions": report.versions, "logical_bytes": report.logical_bytes,
        "packs": report.packs, "references": report.references, "drives": report.drives, "log_entries": report.entries,
        "log_archived": report.archived, "problems": report.problems, "untold_problems": report.untold,
        "log_size_after": after.as_ref().map(|status| status.log_size),
    });
    say(as_json, &shown, || {
        let mut lines = vec![told(&listed.name, facts)];
        lines.push(format!(
            "a restore gives {} buckets, {} versions of {} bytes in {} packs on {} drives, and {} entries of the log",
            report.buckets, report.versions, report.logical_bytes, report.packs, report.drives, facts.log_size
        ));
        if report.archived > 0 {
            lines
                .push(format!("of these entries {} are in archives, which are objects on the drives", report.archived));
        }
        if listed.superseded {
            lines.push("it is superseded: packs that it needs may be gone from the drives".to_owned());
        }
        lines.extend(report.problems.iter().map(|problem| format!("! {problem}")));
        if report.untold > 0 {
            lines.push(format!("! and {} more of that kind", report.untold));
        }
        lines.push(
            if sound { "sound: a metadata node started on it" } else { "UNSOUND: use another backup" }.to_owned(),
        );
        lines.join("\n")
    });
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(EXIT_UNSOUND) })
}

/// Starts a metadata node on the files, without a network, and asks it.
async fn start(rebuilt: &Rebuilt, scratch: &Path, clock: Arc<dyn Clock>) -> anyhow::Result<MetaStatus> {
    let Rebuilt { cluster, node, report, facts, .. } = rebuilt;
    let settings = MetadataConfig { cluster: Some(*cluster), founding: Founding::Join, ..MetadataConfig::new(*node) };
    let network = Arc::new(MemoryNetwork::default());
    let files = files::in_directory(scratch)?;
    let started = MetadataNode::open(settings, files, clock, Arc::new(network.transport(*node))).await?;
    started.ready().await.context("no metadata node starts on the rows of this backup")?;
    let answer = started.answer(MetaRequest::Status).await?;
    started.shutdown().await?;
    let MetaReply::Status(status) = answer else { bail!("the metadata node gave no status") };
    let found = (status.versions, status.buckets, status.log_size);
    // The restore itself is one more entry.
    let expected = (report.versions, report.buckets, facts.log_size + 1);
    ensure!(found == expected, "the started node has {found:?} versions, buckets and entries, not {expected:?}");
    Ok(*status)
}
