//! The sweep against a metadata service that a test plays.

use std::time::Duration;

use stele_rpc::error::Code;
use stele_storage_node::sweep::SweepConfig;
use stele_types::ids::{Epoch, MapEpoch, PgEpoch};

use crate::stage::{HOUR, Stage, day, worker};
use crate::world::{World, drive_id, small_drive, test_pack_at, virtual_time};

#[test]
fn garbage_is_condemned_first_and_deleted_after_the_grace_time() {
    virtual_time(async {
        let stage = Stage::new(day()).await;
        let report = stage.run().await;
        assert_eq!((report.examined, report.condemned.packs, report.deleted.packs), (20, 10, 0));
        tokio::time::sleep(23 * HOUR).await;
        let report = stage.run().await;
        assert_eq!(
            (report.condemned.packs, report.waiting.packs, report.deleted.packs),
            (0, 10, 0),
            "within the grace time"
        );
        tokio::time::sleep(2 * HOUR).await;
        let report = stage.run().await;
        assert_eq!((report.deleted.packs, report.voided), (10, vec![]));
        assert_eq!(stage.held().await, stage.metadata.state().referenced);
        stage.disks[0].crash();
        let world = World::on(&stage.disks[0], small_drive()).await;
        assert_eq!(world.inventory().await.len(), 10);
    });
}

#[test]
fn a_reference_found_meanwhile_pardons() {
    virtual_time(async {
        let stage = Stage::new(day()).await;
        stage.run().await;
        stage.metadata.state().referenced.insert(stage.packs[1].id);
        tokio::time::sleep(25 * HOUR).await;
        let report = stage.run().await;
        assert_eq!((report.pardoned, report.deleted.packs), (1, 9));
        assert!(stage.held().await.contains(&stage.packs[1].id));
        let row = stage.world.inventory().await.into_iter().find(|r| r.pack == stage.packs[1].id).unwrap();
        assert_eq!(row.condemned, None);
    });
}

#[test]
fn a_pack_stays_until_a_backup_does_not_need_it() {
    virtual_time(async {
        let stage = Stage::new(SweepConfig { grace: Duration::ZERO, ..day() }).await;
        stage.metadata.state().backed_up = Some(Epoch(0));
        assert_eq!(stage.run().await.condemned.packs, 10);
        for _ in 0..3 {
            let report = stage.run().await;
            assert_eq!((report.condemned.packs, report.deleted.packs, report.waiting.packs), (0, 0, 10));
            assert_eq!((report.pardoned, report.voided.len()), (0, 0));
        }
        assert_eq!(stage.held().await.len(), 20);
        stage.metadata.state().backed_up = Some(Epoch(u64::MAX));
        assert_eq!(stage.run().await.deleted.packs, 10);
    });
}

#[test]
fn doubt_voids_the_run() {
    virtual_time(async {
        let stage = Stage::new(SweepConfig { grace: Duration::ZERO, ..day() }).await;
        stage.run().await;
        stage.metadata.state().silent = true;
        let report = stage.run().await;
        assert_eq!((report.deleted.packs, report.voided.len()), (0, 1));
        assert_eq!(stage.held().await.len(), 20);
        stage.metadata.state().silent = false;
        assert_eq!(stage.run().await.deleted.packs, 10);
        stage.disks[0].set_dead(true);
        assert_eq!(stage.world.store(&test_pack_at(99, 10, Epoch(3))).await.unwrap_err().code, Code::DriveFailed);
        tokio::time::sleep(Duration::from_secs(10)).await;
        let report = stage.run().await;
        assert_eq!((report.pgs, report.voided.len()), (0, 1), "rs-1-0 spares no drive");
    });
}

#[test]
fn packs_above_the_fence_and_touched_packs_are_left_alone() {
    virtual_time(async {
        let stage = Stage::new(SweepConfig { grace: Duration::ZERO, ..day() }).await;
        let young = test_pack_at(100, 1000, Epoch(1000));
        stage.world.store(&young).await.unwrap();
        let touched = stage.packs[1].id;
        let drive = stage.world.node.drive(drive_id(0)).unwrap();
        drive.touch(Epoch(1000), vec![touched]).await.unwrap();
        stage.run().await;
        let report = stage.run().await;
        assert_eq!((report.deleted.packs, report.young.packs), (9, 2));
        let held = stage.held().await;
        assert!(held.contains(&young.id) && held.contains(&touched));
    });
}

#[test]
fn the_grace_time_outlives_the_worker_and_a_run_is_due_by_the_last_one() {
    virtual_time(async {
        let stage = Stage::new(day()).await;
        stage.run().await;
        tokio::time::sleep(23 * HOUR).await;
        // A new leader: nothing that the first worker remembered is here.
        let Stage { world, metadata, .. } = stage;
        let worker = worker(&world, &metadata, day());
        let (told, mut heard) = tokio::sync::mpsc::channel(10);
        let begun = tokio::time::Instant::now();
        let task = tokio::spawn(worker.run(24 * HOUR, || true, move |run| told.try_send(run.unwrap()).unwrap()));
        let run = heard.recv().await.unwrap();
        task.abort();
        assert_eq!(run.deleted.packs, 10);
        assert!(begun.elapsed() <= 2 * HOUR, "a day after the last run, not after its own beginning");
    });
}

#[test]
fn a_group_whose_row_changes_between_the_questions_is_left_alone() {
    virtual_time(async {
        let stage = Stage::new(SweepConfig { grace: Duration::ZERO, page: 30, ..day() }).await;
        stage.run().await;
        let mut moved = stage.metadata.state().map.clone();
        moved.epoch = MapEpoch(moved.epoch.0 + 1);
        stage.metadata.state().next_map = Some(moved.clone());
        assert_eq!(stage.run().await.deleted.packs, 10, "the map changed, this group's row did not");
        for pack in &stage.packs {
            stage.metadata.state().referenced.remove(&pack.id);
        }
        moved.epoch = MapEpoch(moved.epoch.0 + 1);
        moved.pgs[0].epoch = PgEpoch(moved.pgs[0].epoch.0 + 1);
        stage.metadata.state().next_map = Some(moved);
        let run = stage.run().await;
        assert_eq!((run.condemned.packs, run.void), (0, 1), "{run:?}");
        assert_eq!(stage.run().await.condemned.packs, 10);
    });
}

#[test]
fn lists_and_references_are_read_page_by_page() {
    virtual_time(async {
        let stage = Stage::new(SweepConfig { grace: Duration::ZERO, page: 1, ..day() }).await;
        stage.run().await;
        assert_eq!(stage.run().await.deleted.packs, 10);
        assert_eq!(stage.metadata.state().largest_page, 1);
        assert_eq!(stage.held().await, stage.metadata.state().referenced);
    });
}

#[test]
fn deletions_keep_to_their_rate() {
    virtual_time(async {
        let stage = Stage::new(SweepConfig { grace: Duration::ZERO, page: 2, deletes_per_second: 1, ..day() }).await;
        stage.run().await;
        let begun = tokio::time::Instant::now();
        assert_eq!(stage.run().await.deleted.packs, 10);
        assert!(begun.elapsed() >= Duration::from_secs(8), "{:?}", begun.elapsed());
    });
}

#[test]
fn a_touch_that_one_drive_knows_of_protects_the_pack_on_all() {
    virtual_time(async {
        let stage = Stage::with_drives(SweepConfig { grace: Duration::ZERO, ..day() }, 2).await;
        stage.place(5, &[(0, None), (1, None)]);
        let pack = test_pack_at(1, 1000, Epoch(3));
        stage.store_shard(&pack, (0, 0), 5).await;
        stage.store_shard(&pack, (1, 1), 5).await;
        stage.world.node.drive(drive_id(0)).unwrap().condemn(Epoch(9), vec![pack.id]).await.unwrap();
        stage.world.node.drive(drive_id(1)).unwrap().touch(Epoch(1000), vec![pack.id]).await.unwrap();
        for _ in 0..3 {
            let run = stage.run().await;
            assert_eq!((run.young.packs, run.deleted.packs), (1, 0));
        }
        assert_eq!((stage.on(0).len(), stage.on(1).len()), (1, 1));
    });
}

#[test]
fn a_drive_that_was_away_delays_the_deletion_and_brings_nothing_back() {
    virtual_time(async {
        let stage = Stage::with_drives(SweepConfig { grace: Duration::ZERO, ..day() }, 2).await;
        stage.place(5, &[(0, None), (1, None)]);
        let (kept, gone) = (test_pack_at(1, 1000, Epoch(3)), test_pack_at(2, 1000, Epoch(3)));
        for pack in [&kept, &gone] {
            stage.store_shard(pack, (0, 0), 5).await;
            stage.store_shard(pack, (1, 1), 5).await;
        }
        stage.refer(&kept);
        // What drive 1 missed: both runs that took the pack from drive 0.
        let drive = stage.world.node.drive(drive_id(0)).unwrap();
        drive.condemn(Epoch(9), vec![gone.id]).await.unwrap();
        drive.delete(vec![gone.id]).await.unwrap();
        let run = stage.run().await;
        assert_eq!((run.condemned.packs, run.deleted.packs), (1, 0));
        assert_eq!(stage.run().await.deleted.packs, 1);
        assert_eq!((stage.on(0), stage.on(1)), (vec![(kept.id, false)], vec![(kept.id, false)]));
    });
}

#[cfg(feature = "sabotage")]
#[test]
fn deleting_without_asking_is_found() {
    virtual_time(async {
        let mut config = SweepConfig { grace: Duration::ZERO, ..day() };
        config.sabotage.delete_without_asking = true;
        let stage = Stage::new(config).await;
        stage.run().await;
        stage.run().await;
        let held = stage.held().await;
        let referenced = stage.metadata.state().referenced.clone();
        assert!(referenced.iter().any(|pack| !held.contains(pack)), "referenced packs were deleted");
    });
}
