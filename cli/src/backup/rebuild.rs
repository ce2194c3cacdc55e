//! From a backup to the files of a metadata node: what a drill and a restore have in common.

use std::path::Path;

use anyhow::{Context as _, bail};
use stele_metadata::backup::{self, Facts, Founder, Report, SecretKey};
use stele_metadata::files;
use stele_metadata::kv::{MetaKv as _, RedbKv};
use stele_types::ids::{ClusterId, NodeId};

use super::place::{Listed, Place};

/// Memory for the store's page cache.
const CACHE_BYTES: usize = 64 << 20;

/// What was made.
#[derive(Clone, Debug)]
pub(crate) struct Rebuilt {
    pub(crate) facts: Facts,
    pub(crate) report: Report,
    pub(crate) hash: [u8; 32],
    pub(crate) cluster: ClusterId,
    /// The only member of the new group.
    pub(crate) node: NodeId,
}

/// Refuses a directory that holds anything.
///
/// # Errors
/// It does, or can't be read.
pub(crate) fn require_empty(dir: &Path) -> anyhow::Result<()> {
    match std::fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => bail!("{} is not empty, and nothing is overwritten: choose an empty directory", dir.display()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("reading {}", dir.display())),
    }
}

/// Makes the files of a metadata node in `dir`, which must be empty, of a backup. Rows that do not fit each other are
/// reported; no group is founded of them.
///
/// # Errors
/// The backup or the key is of no use, or the directory can't be written.
pub(crate) async fn rebuild(
    (place, listed): (&Place, &Listed),
    key: SecretKey,
    dir: &Path,
    founder: Founder,
) -> anyhow::Result<Rebuilt> {
    let dir = dir.to_owned();
    place
        .get(&listed.name, move |source| {
            let storage = files::in_directory(&dir)?;
            let store = RedbKv::open(storage.state, CACHE_BYTES)?;
            let opened = backup::load(source, &key, &store)?;
            let report = backup::check(&*store.view()?)?;
            let founder = Founder { backup: opened.hash, ..founder };
            let (cluster, node) = if report.is_sound() {
                backup::found_anew(&store, storage.raft_log, &founder)?
            } else {
                (opened.facts.cluster_id()?, NodeId(0))
            };
            store.close();
            Ok(Rebuilt { facts: opened.facts, report, hash: opened.hash, cluster, node })
        })
        .await
}
