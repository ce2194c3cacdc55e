//! Missing, foreign and busy directories are refused, and nothing is written to them.

use std::sync::Arc;

use bytes::Bytes;
use stele_rpc::storage::StorageRequest;
use stele_storage_node::exec::Executor;
use stele_storage_node::identity::{DriveIdentity, IdentityError, format, read_identity};
use stele_storage_node::media::Media;
use stele_storage_node::media::file::{DirectIo, FileMedia};
use stele_storage_node::media::model::ModelDisk;
use stele_types::ids::{ClusterId, DriveId};

use crate::world::{CLUSTER, World, drive_id, formatted_disk, small_drive, test_pack, virtual_time};

#[test]
fn a_missing_mount_is_refused_and_stays_empty() {
    virtual_time(async {
        let disk = ModelDisk::new("drive-0", 1 << 30, 1);
        let world = World::on(&disk, small_drive()).await;
        let status = &world.node.drives()[0];
        assert!(!status.healthy && status.reason.contains("no identity file"), "{}", status.reason);
        assert_eq!(status.id, drive_id(0), "listed under the id it should have");
        let refused = world.store(&test_pack(1, 100)).await.unwrap_err();
        assert_eq!(refused.code, stele_rpc::error::Code::DriveFailed);
        assert_eq!(disk.files(), Vec::<String>::new());
        assert_eq!(disk.traffic().writes, 0);
    });
}

#[test]
fn foreign_drives_are_refused_and_not_written() {
    virtual_time(async {
        let foreign_cluster = DriveIdentity { drive: drive_id(0), cluster: ClusterId::from_bytes([7; 16]) };
        let foreign_drive = DriveIdentity { drive: DriveId::from_bytes([0x77; 16]), cluster: CLUSTER };
        for (identity, text) in [(foreign_cluster, "belongs to cluster"), (foreign_drive, "is drive 7777")] {
            let disk = ModelDisk::new("drive-0", 1 << 30, 1);
            format(&*disk.media(), identity).await.unwrap();
            let before = disk.traffic().writes;
            let world = World::on(&disk, small_drive()).await;
            let status = &world.node.drives()[0];
            assert!(!status.healthy && status.reason.contains(text), "{}", status.reason);
            assert_eq!((disk.files(), disk.traffic().writes), (vec!["identity".to_owned()], before));
        }
    });
}

#[test]
fn damaged_identity_is_refused() {
    virtual_time(async {
        let disk = formatted_disk(0, 1 << 30, 1).await;
        assert!(disk.flip("identity", 20, 1));
        let world = World::on(&disk, small_drive()).await;
        assert!(world.node.drives()[0].reason.contains("damaged"));
    });
}

#[test]
fn only_an_empty_directory_is_formatted() {
    virtual_time(async {
        let disk = formatted_disk(0, 1 << 30, 1).await;
        let again = DriveIdentity { drive: drive_id(5), cluster: CLUSTER };
        let refused = format(&*disk.media(), again).await.unwrap_err();
        assert!(matches!(refused, IdentityError::NotEmpty(_)));
        assert_eq!(read_identity(&*disk.media()).await.unwrap().unwrap().drive, drive_id(0));
    });
}

#[test]
fn two_processes_never_share_a_drive() {
    virtual_time(async {
        let disk = formatted_disk(0, 1 << 30, 1).await;
        let first = World::on(&disk, small_drive()).await;
        let second = World::on(&disk, small_drive()).await;
        assert!(second.node.drives()[0].reason.contains("taken by another process"));
        first.store(&test_pack(1, 100)).await.unwrap();
        first.node.close().await;
        let third = World::on(&disk, small_drive()).await;
        assert!(third.node.drives()[0].healthy, "{}", third.node.drives()[0].reason);
        third.read_all(&test_pack(1, 100)).await.unwrap();
    });
}

#[test]
fn the_same_drive_in_two_directories_is_served_once() {
    virtual_time(async {
        let (one, two) = (formatted_disk(0, 1 << 30, 1).await, formatted_disk(0, 1 << 30, 2).await);
        let metrics = stele_storage_node::metrics::Metrics::default();
        let spec = |disk: &ModelDisk| stele_storage_node::node::DriveSpec { media: disk.media(), expect: None };
        let config = crate::world::node_config(small_drive());
        let specs = vec![spec(&one), spec(&two)];
        let node = stele_storage_node::node::StorageNode::open(config, specs, Executor::Tasks, metrics).await;
        let drives = node.drives();
        assert!(drives[0].healthy && !drives[1].healthy && drives[1].reason.contains("remove the copy"));
    });
}

#[test]
fn a_directory_that_disappears_is_noticed_within_ten_seconds() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let media: Arc<dyn Media> = Arc::new(FileMedia::new(dir.path(), DirectIo::Auto));
        format(&*media, DriveIdentity { drive: drive_id(0), cluster: CLUSTER }).await.unwrap();
        let world = World::open(vec![media], small_drive(), Executor::Threads).await;
        let pack = test_pack(1, 1000);
        world.store(&pack).await.unwrap();
        assert_eq!(world.read_all(&pack).await.unwrap(), pack.shard);
        let mut states = world.node.watch_drives();
        dir.close().unwrap();
        let noticed = states.wait_for(|s| s[0].state == stele_types::map::DriveState::Failed);
        let noticed = tokio::time::timeout(std::time::Duration::from_secs(10), noticed).await.unwrap().unwrap();
        assert!(noticed[0].reason.contains("no identity file"), "{}", noticed[0].reason);
        drop(noticed);
        assert!(world.store(&test_pack(2, 1000)).await.is_err());
        assert!(world.ask(StorageRequest::Drives, Bytes::new()).await.is_ok());
    });
}
