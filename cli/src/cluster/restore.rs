//! `stele cluster restore`: a new first metadata node whose rows are those of a backup. Like `init` it writes and starts
//! nothing. The cluster keeps its id, because its drives know it, and gets a new CA, because the key of the old one may be
//! in other hands: docs/decisions/0014-what-a-restore-does.md.

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use stele_metadata::backup::Founder;
use stele_types::ids::Salt;
use stele_types::seam::{Clock, Rng, random_bytes};

use super::init::{Papered, papers_of_first};
use super::node_dir::{NodeDir, check_address};
use crate::backup::rebuild::{Rebuilt, rebuild, require_empty};
use crate::backup::{FromArgs, read_key};

/// What to restore, and where.
#[derive(Debug)]
pub(crate) struct Restore<'a> {
    /// Directory of the new first metadata node.
    pub(crate) data: &'a Path,
    /// Where other nodes will reach it.
    pub(crate) advertise: Vec<String>,
    /// The operator's new file.
    pub(crate) admin_file: Option<PathBuf>,
    /// The operator's key.
    pub(crate) key: &'a Path,
    /// Take a backup that may miss packs.
    pub(crate) superseded: bool,
}

/// Restores. Returns what was restored, its name, and where the operator's new file is.
///
/// # Errors
/// The directory is not empty, the backup is of no use, or something can't be written. No node can start on what was
/// written by then.
pub(crate) async fn restore(
    from: &FromArgs,
    plan: Restore<'_>,
    clock: &dyn Clock,
    rng: &dyn Rng,
) -> anyhow::Result<(Rebuilt, String, PathBuf)> {
    ensure!(!plan.advertise.is_empty(), "say where other nodes will reach this one: --advertise HOST:PORT");
    plan.advertise.iter().try_for_each(|address| check_address(address))?;
    require_empty(plan.data)?;
    let key = read_key(plan.key).await?;
    let (place, listed) = from.find().await?;
    ensure!(
        plan.superseded || !listed.superseded,
        "{} is superseded: packs that it needs may be gone. Use a newer one, or take it as it is with --superseded",
        listed.name
    );
    let dir = NodeDir::open(plan.data).await?;
    let founder = Founder {
        addresses: plan.advertise.clone(),
        name: plan.advertise.join(","),
        backup: [0; 32],
        now: clock.unix_millis(),
        salt: Salt::from_bytes(random_bytes(rng)),
    };
    let rebuilt = rebuild((&place, &listed), key, &plan.data.join("metadata"), founder).await?;
    if let Some(first) = rebuilt.report.problems.first() {
        bail!("{} does not fit together: {first}; stele backup drill says more. Use another backup", listed.name);
    }
    // Who this node is comes last: without it nothing starts on the directory.
    let first = Papered { cluster: rebuilt.cluster, node: rebuilt.node, founded: true };
    let admin = papers_of_first(&dir, first, (plan.advertise, plan.admin_file), (clock, rng)).await?;
    Ok((rebuilt, listed.name, admin))
}
