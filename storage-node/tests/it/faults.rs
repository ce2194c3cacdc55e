//! IO errors, full drives, flipped bytes, cut files, lost caches.

use stele_rpc::error::Code;
use stele_rpc::storage::{StorageReply, StorageRequest};
use stele_storage_node::config::DriveConfig;
use stele_storage_node::media::model::Faults;
use stele_types::ids::Epoch;
use stele_types::map::DriveState;

use crate::world::{MIB, TestPack, World, drive_id, formatted_disk, small_drive, test_pack, virtual_time};

#[test]
fn a_failed_sync_is_never_retried_into_success() {
    virtual_time(async {
        let disk = formatted_disk(0, 1 << 30, 1).await;
        let world = World::on(&disk, small_drive()).await;
        let (before, lost, after) = (test_pack(1, 50_000), test_pack(2, 50_000), test_pack(3, 50_000));
        world.store(&before).await.unwrap();
        disk.set_faults(Faults { next_syncs_fail: 1, ..Faults::default() });
        let syncs = disk.traffic().syncs;
        assert_eq!(world.store(&lost).await.unwrap_err().code, Code::DriveFailed);
        assert_eq!(disk.traffic().syncs, syncs + 1, "one sync, no second try");
        // The device would take it now; the drive must not.
        for pack in [&lost, &after] {
            assert_eq!(world.store(pack).await.unwrap_err().code, Code::DriveFailed);
        }
        assert_eq!(disk.traffic().syncs, syncs + 1);
        assert_eq!(world.metrics.poisoned.get(), 1);
        assert_eq!(world.read_all(&before).await.unwrap(), before.shard, "what was synced is read on");
        assert_eq!(world.read_all(&lost).await.unwrap_err().code, Code::NoSuchPack);
        let mut states = world.node.watch_drives();
        let state = states.wait_for(|s| s[0].state == DriveState::Suspect).await.unwrap();
        assert!(state[0].reason.contains("input/output error"), "{}", state[0].reason);
        drop(state);
        disk.crash();
        let world = World::on(&disk, small_drive()).await;
        assert_eq!(world.read_all(&before).await.unwrap(), before.shard);
    });
}

#[test]
fn a_failed_write_fails_all_writers_of_its_batch() {
    virtual_time(async {
        let disk = formatted_disk(0, 1 << 30, 2).await;
        let world = World::on(&disk, small_drive()).await;
        world.store(&test_pack(0, 100)).await.unwrap();
        disk.set_faults(Faults { next_writes_fail: 1, ..Faults::default() });
        let packs: Vec<TestPack> = (1..9).map(|n| test_pack(n, 5000)).collect();
        let outcomes = futures::future::join_all(packs.iter().map(|p| world.store(p))).await;
        assert!(outcomes.iter().all(|o| o.as_ref().is_err_and(|e| e.code == Code::DriveFailed)));
    });
}

#[test]
fn a_read_error_makes_the_drive_suspect() {
    virtual_time(async {
        let disk = formatted_disk(0, 1 << 30, 2).await;
        let world = World::on(&disk, small_drive()).await;
        let pack = test_pack(0, 100);
        world.store(&pack).await.unwrap();
        disk.set_faults(Faults { next_reads_fail: 1, ..Faults::default() });
        assert_eq!(world.read_all(&pack).await.unwrap_err().code, Code::DriveFailed);
        assert_eq!(world.read_all(&pack).await.unwrap(), pack.shard, "reads may be tried again");
        assert_eq!(world.store(&test_pack(1, 100)).await.unwrap_err().code, Code::DriveFailed);
    });
}

#[test]
fn a_dead_device_is_noticed() {
    virtual_time(async {
        let disk = formatted_disk(0, 1 << 30, 2).await;
        let world = World::on(&disk, small_drive()).await;
        disk.set_dead(true);
        let mut states = world.node.watch_drives();
        let wait = states.wait_for(|s| s[0].state == DriveState::Failed);
        tokio::time::timeout(std::time::Duration::from_secs(10), wait).await.unwrap().unwrap();
        let refused = world.inventory_error().await;
        assert_eq!(refused.code, Code::DriveFailed);
    });
}

#[test]
fn a_full_drive_refuses_stores_but_deletes_and_then_stores_again() {
    let limited = DriveConfig { capacity_bytes: Some(8 * MIB), ..small_drive() };
    for (capacity, config) in [(8 * MIB, small_drive()), (1 << 30, limited)] {
        virtual_time(async {
            let disk = formatted_disk(0, capacity, 5).await;
            let world = World::on(&disk, config).await;
            let (stored, code) = fill_from(&world, 0).await;
            assert_eq!(code, Code::DriveFull);
            assert!(stored.len() > 40, "{} stored", stored.len());
            assert!(world.node.drives()[0].healthy, "full is not failed");
            for pack in &stored {
                assert_eq!(world.read_all(pack).await.unwrap(), pack.shard);
            }
            let half: Vec<_> = stored.iter().step_by(2).map(|p| p.id).collect();
            assert_eq!(world.destroy(half.clone()).await.unwrap(), half, "deletion works on a full drive");
            world.reclaim().await;
            let (again, _) = fill_from(&world, 1_000_000).await;
            assert!(again.len() > 10, "space came back: {}", again.len());
            for pack in stored.iter().skip(1).step_by(2).chain(&again) {
                assert_eq!(world.read_all(pack).await.unwrap(), pack.shard);
            }
        });
    }
}

async fn fill_from(world: &World, first: u64) -> (Vec<TestPack>, Code) {
    let mut stored = Vec::new();
    for n in first.. {
        let pack = test_pack(n, 100_000);
        match world.store(&pack).await {
            Ok(()) => stored.push(pack),
            Err(error) => return (stored, error.code),
        }
    }
    unreachable!("no drive is endless")
}

#[test]
fn flipped_bytes_are_never_returned_and_can_be_stored_anew() {
    virtual_time(async {
        let disk = formatted_disk(0, 1 << 30, 6).await;
        let world = World::on(&disk, small_drive()).await;
        let (pack, other) = (test_pack(1, 300_000), test_pack(2, 300_000));
        world.store(&pack).await.unwrap();
        world.store(&other).await.unwrap();
        // Third CRC block of the first record's payload.
        assert!(disk.flip("seg-0000000001", 4096 + 4096 + 2 * 65_536 + 77, 0x40));
        assert_eq!(world.read(&pack, 0, 100_000).await.unwrap(), pack.shard.slice(..100_000), "other blocks are fine");
        assert_eq!(world.read(&pack, 140_000, 10).await.unwrap_err().code, Code::ShardCorrupt);
        assert_eq!(world.read_all(&pack).await.unwrap_err().code, Code::ShardCorrupt);
        assert_eq!(world.read_all(&other).await.unwrap(), other.shard);
        let row = world.inventory().await.into_iter().find(|row| row.pack == pack.id).unwrap();
        assert_eq!(row.shards, Vec::<u8>::new(), "a damaged shard is not offered");
        world.store(&pack).await.unwrap();
        assert_eq!(world.read_all(&pack).await.unwrap(), pack.shard);
        assert!(world.metrics.corrupt.get() >= 2);
    });
}

#[test]
fn a_flipped_header_costs_one_record_and_no_neighbour() {
    virtual_time(async {
        for lose_summary in [false, true] {
            let disk = formatted_disk(0, 1 << 30, 6).await;
            let world = World::on(&disk, small_drive()).await;
            let packs: Vec<TestPack> = (0..5).map(|n| test_pack(n, 20_000)).collect();
            for pack in &packs {
                world.store(pack).await.unwrap();
            }
            world.node.close().await;
            let record = 4096 + 32_768;
            assert!(disk.flip("seg-0000000001", 4096 + 2 * record + 30, 1));
            if lose_summary {
                disk.remove_file("sum-0000000001");
            }
            let world = World::on(&disk, small_drive()).await;
            for (n, pack) in packs.iter().enumerate() {
                let found = world.read_all(pack).await;
                match (n, lose_summary) {
                    (2, false) => assert_eq!(found.unwrap_err().code, Code::ShardCorrupt),
                    (2, true) => assert_eq!(found.unwrap_err().code, Code::NoSuchPack),
                    _ => assert_eq!(found.unwrap(), pack.shard),
                }
            }
        }
    });
}

#[test]
fn cut_and_overwritten_segments_cost_only_what_they_held() {
    virtual_time(async {
        let disk = formatted_disk(0, 1 << 30, 7).await;
        let world = World::on(&disk, small_drive()).await;
        let packs: Vec<TestPack> = (0..60).map(|n| test_pack(n, 100_000)).collect();
        for pack in &packs {
            world.store(pack).await.unwrap();
        }
        world.node.close().await;
        let segments: Vec<String> = disk.files().into_iter().filter(|n| n.starts_with("seg-")).collect();
        assert!(segments.len() > 4);
        disk.overwrite_with_garbage(&segments[0], 0, disk.file_len(&segments[0]).unwrap());
        disk.cut(&segments[1], 300_000);
        disk.cut(&segments[2], 0);
        let world = World::on(&disk, small_drive()).await;
        assert!(world.node.drives()[0].healthy);
        let mut lost = 0;
        for pack in &packs {
            match world.read_all(pack).await {
                Ok(bytes) => assert_eq!(bytes, pack.shard),
                Err(error) => {
                    assert!(matches!(error.code, Code::NoSuchPack | Code::ShardCorrupt), "{error}");
                    lost += 1;
                }
            }
        }
        assert!((10..=30).contains(&lost), "{lost} lost of {}", packs.len());
        for pack in &packs {
            world.store(pack).await.unwrap();
            assert_eq!(world.read_all(pack).await.unwrap(), pack.shard);
        }
    });
}

#[test]
fn the_index_is_rebuilt_after_its_caches_are_lost_or_damaged() {
    virtual_time(async {
        let disk = formatted_disk(0, 1 << 30, 8).await;
        let world = World::on(&disk, small_drive()).await;
        let packs: Vec<TestPack> = (0..60).map(|n| test_pack(n, 50_000)).collect();
        for pack in &packs {
            world.store(pack).await.unwrap();
        }
        world.destroy(packs[..20].iter().map(|p| p.id).collect()).await.unwrap();
        assert_eq!(world.condemn(Epoch(9), vec![packs[30].id]).await.unwrap(), vec![packs[30].id]);
        let before = world.inventory().await;
        world.node.close().await;
        let summaries: Vec<String> = disk.files().into_iter().filter(|n| n.starts_with("sum-")).collect();
        assert!(summaries.len() > 2);
        disk.remove_file(&summaries[0]);
        disk.flip(&summaries[1], 200, 1);
        let world = World::on(&disk, small_drive()).await;
        assert_eq!(world.inventory().await, before);
        for pack in &packs[20..] {
            assert_eq!(world.read_all(pack).await.unwrap(), pack.shard);
        }
        let (reply, _) = world
            .ask(StorageRequest::DescribePack { drive: drive_id(0), pack: packs[30].id }, bytes::Bytes::new())
            .await
            .unwrap();
        let StorageReply::Pack { preimage, encoding, shards, .. } = reply else { panic!("not a description") };
        assert_eq!((preimage, encoding, shards), (packs[30].preimage.clone(), packs[30].encoding.clone(), vec![0]));
    });
}
