//! Space comes back, live data stays, deleted packs stay away whatever was emptied in between.

use std::collections::BTreeSet;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use stele_storage_node::config::{DriveConfig, ReclaimConfig};
use stele_types::ids::{Epoch, PackId};

use crate::world::{TestPack, World, formatted_disk, small_drive, test_pack, virtual_time};

/// Nothing happens by itself: the test asks.
fn by_hand() -> DriveConfig {
    let reclaim = ReclaimConfig {
        interval: std::time::Duration::from_secs(1_000_000),
        garbage_bytes_min: 65_536,
        ..ReclaimConfig::default()
    };
    DriveConfig { reclaim, ..small_drive() }
}

#[test]
fn space_returns_to_within_twenty_percent_of_live() {
    virtual_time(async {
        let disk = formatted_disk(0, 1 << 30, 1).await;
        let world = World::on(&disk, by_hand()).await;
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut live: Vec<TestPack> = Vec::new();
        for n in 0..3000 {
            let pack = test_pack(n, rng.random_range(1..60_000));
            world.store(&pack).await.unwrap();
            live.push(pack);
            if live.len() > 300 {
                let gone = live.swap_remove(rng.random_range(0..live.len()));
                world.destroy(vec![gone.id]).await.unwrap();
            }
        }
        world.reclaim().await;
        let status = &world.node.drives()[0];
        let (used, live_bytes) = (status.used_bytes, status.live_bytes);
        assert!(used <= live_bytes * 12 / 10, "{used} used, {live_bytes} live");
        let on_disk: u64 = disk.files().iter().filter_map(|n| disk.file_len(n)).sum();
        assert!(on_disk <= live_bytes * 12 / 10, "{on_disk} on disk, {live_bytes} live");
        for pack in &live {
            assert_eq!(world.read_all(pack).await.unwrap(), pack.shard);
        }
    });
}

/// The delete record of a pack lies in a later segment than its shard. Emptying the later one
/// first must not lose the deletion.
#[test]
fn a_deletion_outlives_the_segment_it_was_written_in() {
    virtual_time(async {
        let disk = formatted_disk(0, 1 << 30, 2).await;
        let world = World::on(&disk, by_hand()).await;
        // Segment 1: one victim among packs that stay.
        let victim = test_pack(0, 10_000);
        world.store(&victim).await.unwrap();
        let kept: Vec<TestPack> = (1..20).map(|n| test_pack(n, 30_000)).collect();
        for pack in &kept {
            world.store(pack).await.unwrap();
        }
        world.node.close().await;
        // Segment 2: the deletion, and packs that go soon, so that it is emptied before segment 1.
        let world = World::on(&disk, by_hand()).await;
        let short: Vec<TestPack> = (100..110).map(|n| test_pack(n, 30_000)).collect();
        world.destroy(vec![victim.id]).await.unwrap();
        for pack in &short {
            world.store(pack).await.unwrap();
        }
        world.node.close().await;
        let world = World::on(&disk, by_hand()).await;
        world.destroy(short.iter().map(|p| p.id).collect()).await.unwrap();
        world.reclaim().await;
        assert!(disk.files().contains(&"seg-0000000001".to_owned()), "{:?}", disk.files());
        assert!(!disk.files().contains(&"seg-0000000002".to_owned()), "{:?}", disk.files());
        for lose_caches in [false, true] {
            disk.crash();
            if lose_caches {
                disk.files().iter().filter(|n| n.starts_with("sum-")).for_each(|n| disk.remove_file(n));
            }
            let world = World::on(&disk, by_hand()).await;
            let listed: BTreeSet<PackId> = world.inventory().await.into_iter().map(|r| r.pack).collect();
            assert!(!listed.contains(&victim.id), "a deleted pack came back");
            assert_eq!(listed, kept.iter().map(|p| p.id).collect());
        }
    });
}

#[test]
fn verdicts_and_touches_survive_emptying() {
    virtual_time(async {
        let disk = formatted_disk(0, 1 << 30, 3).await;
        let world = World::on(&disk, by_hand()).await;
        let (condemned, pardoned, touched) = (test_pack(1, 1000), test_pack(2, 1000), test_pack(3, 1000));
        let filler: Vec<TestPack> = (10..30).map(|n| test_pack(n, 30_000)).collect();
        for pack in filler.iter().chain([&condemned, &pardoned, &touched]) {
            world.store(pack).await.unwrap();
        }
        world.condemn(Epoch(5), vec![condemned.id, pardoned.id]).await.unwrap();
        world.pardon(vec![pardoned.id]).await.unwrap();
        let drive = world.node.drive(crate::world::drive_id(0)).unwrap();
        assert_eq!(drive.touch(Epoch(8), vec![touched.id, condemned.id]).await.unwrap(), vec![touched.id]);
        world.destroy(filler.iter().map(|p| p.id).collect()).await.unwrap();
        let before = world.inventory().await;
        world.node.close().await;
        let world = World::on(&disk, by_hand()).await;
        world.reclaim().await;
        assert!(!disk.files().contains(&"seg-0000000001".to_owned()), "{:?}", disk.files());
        assert_eq!(world.inventory().await, before);
        disk.crash();
        let world = World::on(&disk, by_hand()).await;
        assert_eq!(world.inventory().await, before);
        let row = |id| before.iter().find(|r| r.pack == id).unwrap();
        assert_eq!(row(condemned.id).condemned, Some(Epoch(5)));
        assert_eq!(row(pardoned.id).condemned, None);
        assert_eq!(row(touched.id).touched, Epoch(8));
        assert_eq!(world.condemn(Epoch(7), vec![touched.id]).await.unwrap(), vec![], "touched above the fence");
    });
}

#[test]
fn a_damaged_live_record_keeps_its_segment() {
    virtual_time(async {
        let disk = formatted_disk(0, 1 << 30, 4).await;
        let world = World::on(&disk, by_hand()).await;
        let damaged = test_pack(0, 10_000);
        world.store(&damaged).await.unwrap();
        let filler: Vec<TestPack> = (10..30).map(|n| test_pack(n, 30_000)).collect();
        for pack in &filler {
            world.store(pack).await.unwrap();
        }
        world.node.close().await;
        disk.flip("seg-0000000001", 4096 + 4096 + 5, 1);
        let world = World::on(&disk, by_hand()).await;
        world.destroy(filler.iter().map(|p| p.id).collect()).await.unwrap();
        world.reclaim().await;
        assert!(disk.files().contains(&"seg-0000000001".to_owned()), "it may be all there is of that shard");
        world.store(&damaged).await.unwrap();
        world.reclaim().await;
        assert!(!disk.files().contains(&"seg-0000000001".to_owned()), "{:?}", disk.files());
        assert_eq!(world.read_all(&damaged).await.unwrap(), damaged.shard);
    });
}
