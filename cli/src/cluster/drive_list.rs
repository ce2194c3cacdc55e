//! The drives of a storage node: which directory is which drive. A directory is formatted once, when it is
//! named for the first time and is empty; after that an empty directory is a missing mount, and is left alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use stele_storage_node::identity::{DriveIdentity, format, read_identity};
use stele_storage_node::media::file::{DirectIo, FileMedia};
use stele_storage_node::node::DriveSpec;
use stele_types::ids::{ClusterId, DriveId};
use stele_types::seam::{Rng, random_bytes};

use super::node_dir::NodeDir;

const DRIVES_FILE: &str = "drives.toml";

/// What is known of one directory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    drive: String,
    /// Its identity was written: it is never formatted again.
    formatted: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DriveList {
    directories: BTreeMap<String, Known>,
}

/// One drive of this node.
#[derive(Debug)]
pub(crate) struct NamedDrive {
    pub(crate) id: DriveId,
    pub(crate) name: String,
    pub(crate) spec: DriveSpec,
}

/// Finds the drives in `directories`, and formats those that are new.
///
/// # Errors
/// A new directory can't be used, or two directories are one drive. A known one that is missing or foreign is
/// no error: it is opened as failed, with the reason.
pub(crate) async fn open(
    dir: &NodeDir,
    cluster: ClusterId,
    directories: &[PathBuf],
    rng: &dyn Rng,
) -> anyhow::Result<Vec<NamedDrive>> {
    ensure!(!directories.is_empty(), "name this node's drives: --drive DIR, once per device");
    let damaged = || format!("{DRIVES_FILE} in {} is damaged; restore it", dir.path().display());
    let text = dir.read(DRIVES_FILE).await?;
    let mut list: DriveList =
        text.map(|text| toml::from_str(&text).with_context(damaged)).transpose()?.unwrap_or_default();
    let mut drives: Vec<NamedDrive> = Vec::new();
    for path in directories {
        let id = one(dir, cluster, path, &mut list, rng).await?;
        let twin = drives.iter().find(|drive| drive.id == id);
        ensure!(twin.is_none(), "{} is the same drive as another directory: name each once", path.display());
        let media = Arc::new(FileMedia::new(path, DirectIo::Auto));
        let name = path.to_string_lossy().into_owned();
        drives.push(NamedDrive { id, name, spec: DriveSpec { media, expect: Some(id) } });
    }
    Ok(drives)
}

async fn save(dir: &NodeDir, list: &DriveList) -> anyhow::Result<()> {
    dir.write(DRIVES_FILE, toml::to_string(list)?).await
}

async fn one(
    dir: &NodeDir,
    cluster: ClusterId,
    path: &Path,
    list: &mut DriveList,
    rng: &dyn Rng,
) -> anyhow::Result<DriveId> {
    let shown = path.display().to_string();
    if let Some(known) = list.directories.get(&shown).filter(|known| known.formatted) {
        return DriveId::from_hex(&known.drive).with_context(|| format!("{DRIVES_FILE}: drive of {shown}"));
    }
    FileMedia::create_directory(path).with_context(|| format!("drive directory {shown}"))?;
    let media = FileMedia::new(path, DirectIo::Auto);
    let identity = read_identity(&media).await.with_context(|| format!("drive directory {shown}"))?;
    let id = match identity {
        Some(identity) => {
            let other = identity.cluster;
            ensure!(other == cluster, "{shown} is a drive of cluster {other}, not of {cluster}: it is not touched");
            // It came from another node of this cluster, or the list was lost.
            identity.drive
        }
        None => {
            let damaged = || format!("{DRIVES_FILE}: drive of {shown}");
            let begun = list.directories.get(&shown).map(|known| DriveId::from_hex(&known.drive).with_context(damaged));
            let begun = begun.transpose()?;
            let drive = begun.unwrap_or_else(|| DriveId::from_bytes(random_bytes(rng)));
            list.directories.insert(shown.clone(), Known { drive: drive.to_string(), formatted: false });
            save(dir, list).await?;
            format(&media, DriveIdentity { drive, cluster }).await.with_context(|| format!("formatting {shown}"))?;
            drive
        }
    };
    list.directories.insert(shown, Known { drive: id.to_string(), formatted: true });
    save(dir, list).await?;
    Ok(id)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests take directories away behind the node's back")]
mod tests {
    use super::*;
    use crate::real::OsRng;

    const CLUSTER: ClusterId = ClusterId::from_bytes([7; 16]);

    #[tokio::test]
    async fn a_directory_is_formatted_once_and_an_empty_one_is_missing_after_that() {
        let temp = tempfile::tempdir().unwrap();
        let dir = NodeDir::open(&temp.path().join("node")).await.unwrap();
        let paths = [temp.path().join("a"), temp.path().join("b")];
        let ids = |drives: Vec<NamedDrive>| drives.iter().map(|drive| drive.id).collect::<Vec<_>>();
        let first = ids(open(&dir, CLUSTER, &paths, &OsRng).await.unwrap());
        assert_eq!(ids(open(&dir, CLUSTER, &paths, &OsRng).await.unwrap()), first);
        std::fs::remove_dir_all(&paths[0]).unwrap();
        std::fs::create_dir(&paths[0]).unwrap();
        assert_eq!(ids(open(&dir, CLUSTER, &paths, &OsRng).await.unwrap()), first, "it keeps its id");
        assert_eq!(std::fs::read_dir(&paths[0]).unwrap().count(), 0, "nothing was written to the missing mount");
        let moved = temp.path().join("moved");
        std::fs::rename(&paths[1], &moved).unwrap();
        let found = ids(open(&dir, CLUSTER, std::slice::from_ref(&moved), &OsRng).await.unwrap());
        assert_eq!(found, first[1..], "a drive is known by its identity");
        let foreign = ClusterId::from_bytes([8; 16]);
        let other = NodeDir::open(&temp.path().join("other")).await.unwrap();
        let error = open(&other, foreign, std::slice::from_ref(&moved), &OsRng).await.unwrap_err();
        assert!(error.to_string().contains("is not touched"), "{error}");
        let twice = open(&dir, CLUSTER, &[moved.clone(), moved], &OsRng).await.unwrap_err();
        assert!(twice.to_string().contains("same drive"), "{twice}");
    }
}
