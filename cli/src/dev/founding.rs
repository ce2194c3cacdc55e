//! Founding a store, and finding its drives again.
//!
//! A drive is formatted only while the founding has begun and is not done. After that a directory
//! that is gone, empty or somebody else's is a missing drive: it is named and never written.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use stele_storage_node::identity::{DriveIdentity, format, read_identity};
use stele_storage_node::media::Media;
use stele_storage_node::media::file::{DirectIo, FileMedia};
use stele_storage_node::node::DriveSpec;
use stele_types::ids::{DriveId, NodeId};
use stele_types::map::{ClusterMap, DriveRow, DriveState};
use stele_types::seam::{Rng, random_bytes};

use super::data_dir::{Cluster, DataDir, Founding, draw_cluster};

/// A directory that is a drive of this cluster.
#[derive(Clone, Debug)]
pub(crate) struct FoundDrive {
    pub(crate) id: DriveId,
    /// Last part of its path.
    pub(crate) name: String,
    pub(crate) media: Arc<dyn Media>,
}

fn name_of(number: u16) -> String {
    format!("drive-{number}")
}

/// The cluster of this directory; begins to found one in a fresh directory.
///
/// # Errors
/// If the directory holds drives or metadata but no `cluster.toml`, or metadata is gone.
pub(crate) async fn cluster(data: &DataDir, drives: u16, rng: &dyn Rng) -> anyhow::Result<Cluster> {
    let has_metadata = data.metadata().is_dir();
    if let Some(cluster) = data.cluster().await? {
        if cluster.founding == Founding::Done && !has_metadata {
            bail!(
                "{} is gone, so nobody knows what the drives hold; restore it. Nothing was changed",
                data.metadata().display()
            );
        }
        return Ok(cluster);
    }
    let occupied = (0..drives).map(|number| data.drive(number)).find(|path| path.exists());
    if let Some(path) = occupied.or_else(|| has_metadata.then(|| data.metadata())) {
        bail!(
            "{} exists, but cluster.toml beside it does not; restore it, or choose an empty directory with --data",
            path.display()
        );
    }
    let cluster = Cluster { id: draw_cluster(rng), founding: Founding::Begun, drives };
    data.save_cluster(cluster).await?;
    Ok(cluster)
}

/// Formats what the founding has not formatted yet; a crash in between is continued.
///
/// # Errors
/// If a directory can't be made or holds something else.
pub(crate) async fn format_drives(data: &DataDir, cluster: &Cluster, rng: &dyn Rng) -> anyhow::Result<()> {
    for number in 0..cluster.drives {
        let path = data.drive(number);
        FileMedia::create_directory(&path)?;
        let media = FileMedia::new(&path, DirectIo::Auto);
        match read_identity(&media).await? {
            Some(identity) if identity.cluster == cluster.id => {}
            Some(identity) => {
                bail!("{} belongs to cluster {}; choose an empty directory", path.display(), identity.cluster)
            }
            None => {
                let drive = DriveId::from_bytes(random_bytes(rng));
                let formatted = format(&media, DriveIdentity { drive, cluster: cluster.id }).await;
                formatted.with_context(|| format!("formatting {}", path.display()))?;
            }
        }
    }
    Ok(())
}

/// Every directory of the store that is a drive of its cluster, by identity: a renamed directory is
/// still the same drive. Says of the others why they are not.
pub(crate) async fn find_drives(data: &DataDir, cluster: &Cluster) -> (Vec<FoundDrive>, Vec<String>) {
    let mut found: Vec<FoundDrive> = Vec::new();
    let mut refused = Vec::new();
    for number in 0..cluster.drives {
        let path: PathBuf = data.drive(number);
        let media = FileMedia::new(&path, DirectIo::Auto);
        let shown = path.display();
        match read_identity(&media).await {
            Ok(Some(identity)) if identity.cluster != cluster.id => {
                refused.push(format!("{shown} belongs to cluster {}: it is not touched", identity.cluster));
            }
            Ok(Some(identity)) if found.iter().any(|drive| drive.id == identity.drive) => {
                refused.push(format!("{shown} is a copy of another drive here: it is not touched"));
            }
            Ok(Some(identity)) => {
                found.push(FoundDrive { id: identity.drive, name: name_of(number), media: Arc::new(media) });
            }
            Ok(None) => refused.push(format!("{shown} is missing or has no identity: it is not touched")),
            Err(error) => refused.push(format!("{shown} can't be used: {error}")),
        }
    }
    (found, refused)
}

/// Rows of the drives of a new cluster.
pub(crate) fn rows(found: &[FoundDrive], node: NodeId) -> Vec<DriveRow> {
    let row = |drive: &FoundDrive| DriveRow {
        id: drive.id,
        node,
        name: drive.name.clone(),
        state: DriveState::Ok,
        reason: String::new(),
        capacity: 0,
    };
    found.iter().map(row).collect()
}

/// What to open: every drive the map knows, in the directory that is this drive; one that was not
/// found, in the directory of its name, where opening says why it can't be used.
pub(crate) fn specs(data: &DataDir, map: &ClusterMap, found: &[FoundDrive]) -> Vec<DriveSpec> {
    let known = map.drives.iter().filter(|row| row.state != DriveState::Removed);
    let spec = |row: &DriveRow| {
        let media = found.iter().find(|drive| drive.id == row.id).map(|drive| Arc::clone(&drive.media));
        let named = || Arc::new(FileMedia::new(data.named(&row.name), DirectIo::Auto)) as Arc<dyn Media>;
        DriveSpec { media: media.unwrap_or_else(named), expect: Some(row.id) }
    };
    known.map(spec).collect()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests take directories away behind the store's back")]
mod tests {
    use super::*;
    use crate::real::OsRng;

    async fn founded(dir: &std::path::Path) -> (DataDir, Cluster) {
        let data = DataDir::open(dir).await.unwrap();
        let cluster = cluster(&data, 3, &OsRng).await.unwrap();
        format_drives(&data, &cluster, &OsRng).await.unwrap();
        (data, cluster)
    }

    #[tokio::test]
    async fn an_interrupted_founding_goes_on_with_the_same_cluster_and_drives() {
        let dir = tempfile::tempdir().unwrap();
        let (data, first) = founded(dir.path()).await;
        let before: Vec<_> = find_drives(&data, &first).await.0.iter().map(|d| d.id).collect();
        std::fs::remove_dir_all(dir.path().join("drive-2")).unwrap();
        let again = cluster(&data, 3, &OsRng).await.unwrap();
        assert_eq!(again, first);
        format_drives(&data, &again, &OsRng).await.unwrap();
        let after: Vec<_> = find_drives(&data, &again).await.0.iter().map(|d| d.id).collect();
        assert_eq!(after.len(), 3);
        assert_eq!(after[..2], before[..2]);
    }

    #[tokio::test]
    async fn drives_are_known_by_identity_not_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let (data, cluster) = founded(dir.path()).await;
        let (before, refused) = find_drives(&data, &cluster).await;
        assert_eq!((before.len(), refused.len()), (3, 0));
        let map = ClusterMap { drives: rows(&before, NodeId(1)), ..ClusterMap::default() };
        std::fs::rename(data.drive(0), dir.path().join("aside")).unwrap();
        std::fs::rename(data.drive(1), data.drive(0)).unwrap();
        let (after, refused) = find_drives(&data, &cluster).await;
        assert_eq!(after.len(), 2);
        assert_eq!(after[0].id, before[1].id);
        assert!(refused[0].contains("drive-1"), "{refused:?}");
        let specs = specs(&data, &map, &after);
        let of = |n: usize| specs.iter().find(|spec| spec.expect == Some(before[n].id)).unwrap();
        assert!(of(1).media.name().ends_with("drive-0"), "found where it is now");
        assert!(of(0).media.name().ends_with("drive-0"), "asked for where it was");
    }

    #[tokio::test]
    async fn foreign_and_copied_drives_are_not_touched() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (data, cluster) = founded(dir.path()).await;
        let (foreign, _) = founded(other.path()).await;
        std::fs::remove_dir_all(data.drive(0)).unwrap();
        std::fs::rename(foreign.drive(0), data.drive(0)).unwrap();
        std::fs::copy(data.drive(1).join("identity"), data.drive(2).join("identity")).unwrap();
        let (found, refused) = find_drives(&data, &cluster).await;
        assert_eq!(found.len(), 1);
        assert!(refused[0].contains("belongs to cluster") && refused[1].contains("copy"), "{refused:?}");
    }

    #[tokio::test]
    async fn a_directory_that_lost_its_cluster_file_or_metadata_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (data, founded) = founded(dir.path()).await;
        data.save_cluster(Cluster { founding: Founding::Done, ..founded }).await.unwrap();
        let error = cluster(&data, 3, &OsRng).await.unwrap_err().to_string();
        assert!(error.contains("metadata"), "{error}");
        std::fs::remove_file(dir.path().join("cluster.toml")).unwrap();
        let error = cluster(&data, 3, &OsRng).await.unwrap_err().to_string();
        assert!(error.contains("cluster.toml"), "{error}");
    }
}
