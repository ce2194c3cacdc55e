//! Counts that the group-commit benchmark relies on, in virtual time.

use std::sync::Arc;
use std::time::Duration;

use stele_storage_node::media::model::Latency;

use crate::world::{World, formatted_disk, small_drive, test_pack, virtual_time};

#[test]
fn sixty_four_writers_share_syncs_and_one_writer_waits_for_nobody() {
    virtual_time(async {
        let disk = formatted_disk(0, 1 << 30, 1).await;
        let config = stele_storage_node::config::DriveConfig { segment_bytes: 256 << 20, ..small_drive() };
        let world = Arc::new(World::on(&disk, config).await);
        let sync = Duration::from_millis(5);
        world.store(&test_pack(999_999, 100)).await.unwrap();
        disk.set_latency(Latency { sync, ..Latency::default() });

        let started = tokio::time::Instant::now();
        for n in 0..20 {
            world.store(&test_pack(n, 4096)).await.unwrap();
        }
        let each = started.elapsed() / 20;
        assert!(each <= sync + Duration::from_millis(2), "one writer: {each:?} per store");

        let before = (disk.traffic().syncs, world.metrics.stores.get());
        let started = tokio::time::Instant::now();
        let mut writers = tokio::task::JoinSet::new();
        for writer in 1..=64u64 {
            let world = Arc::clone(&world);
            writers.spawn(async move {
                for n in 0..20 {
                    world.store(&test_pack(writer * 1000 + n, 4096)).await.unwrap();
                }
            });
        }
        writers.join_all().await;
        let stores = world.metrics.stores.get() - before.1;
        let syncs = disk.traffic().syncs - before.0;
        assert_eq!(stores, 64 * 20);
        assert!(syncs * 16 <= stores, "{syncs} syncs for {stores} stores");
        let alone = sync * u32::try_from(stores).unwrap();
        assert!(alone >= started.elapsed() * 30, "{:?} instead of {alone:?}", started.elapsed());
    });
}
