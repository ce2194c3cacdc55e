//! Shards on drives that the row of their placement group does not name.

use std::time::Duration;

use stele_rpc::error::Code;
use stele_rpc::storage::{PgRef, StorageRequest};
use stele_storage_node::sweep::SweepConfig;
use stele_types::ids::{Epoch, PgEpoch, PgId};

use crate::stage::{Stage, day};
use crate::world::{TestPack, drive_id, test_pack_at, virtual_time};

/// Slot 1 of group 0 was on drive 2 and is on drive 1: packs that nobody needs, that drive 1 holds, and that it lacks.
async fn moved_stage(config: SweepConfig) -> (Stage, [TestPack; 3]) {
    let stage = Stage::with_drives(config, 3).await;
    let packs = [1, 2, 3].map(|n| test_pack_at(n, 1000, Epoch(3)));
    let [_unneeded, moved, missing] = &packs;
    stage.place(5, &[(0, None), (2, None)]);
    for pack in &packs {
        stage.store_shard(pack, (0, 0), 5).await;
        stage.store_shard(pack, (1, 2), 5).await;
    }
    stage.place(6, &[(0, None), (1, None)]);
    stage.store_shard(moved, (1, 1), 6).await;
    stage.refer(moved);
    stage.refer(missing);
    (stage, packs)
}

#[test]
fn strays_go_only_if_nobody_needs_them_or_they_are_where_they_belong() {
    virtual_time(async {
        let (stage, [unneeded, moved, missing]) =
            moved_stage(SweepConfig { grace: Duration::ZERO, page: 1, ..day() }).await;
        let run = stage.run().await;
        assert_eq!((run.strays.found.packs, run.strays.condemned, run.strays.kept.packs), (3, 2, 1), "{run:?}");
        assert_eq!(stage.on(2).len(), 3, "kept for one run more");
        let run = stage.run().await;
        assert_eq!((run.strays.deleted.packs, run.strays.kept.packs, run.void), (2, 1, 0), "{run:?}");
        assert_eq!(stage.on(2), [(missing.id, false)]);
        assert!(stage.on(0).iter().all(|(pack, _)| *pack != unneeded.id), "as on the drives of the group");
        stage.store_shard(&missing, (1, 1), 6).await;
        assert_eq!(stage.run().await.strays.condemned, 1);
        assert_eq!(stage.run().await.strays.deleted.packs, 1);
        assert_eq!((stage.on(2), stage.on(1).len()), (vec![], 2));
        assert!(stage.on(1).contains(&(moved.id, false)));
    });
}

#[test]
fn a_stray_whose_copy_is_lost_before_it_was_deleted_is_pardoned() {
    virtual_time(async {
        let (stage, [_, moved, _]) = moved_stage(SweepConfig { grace: Duration::ZERO, ..day() }).await;
        stage.run().await;
        assert!(stage.on(2).contains(&(moved.id, true)));
        let drive = stage.world.node.drive(drive_id(1)).unwrap();
        drive.condemn(Epoch(9), vec![moved.id]).await.unwrap();
        drive.delete(vec![moved.id]).await.unwrap();
        let run = stage.run().await;
        assert_eq!((run.strays.deleted.packs, run.strays.kept.packs), (1, 2), "{run:?}");
        assert!(stage.on(2).contains(&(moved.id, false)), "it may be what the pack is rebuilt from");
    });
}

#[test]
fn a_slot_that_moves_and_a_drive_that_does_not_serve_cover_nothing() {
    virtual_time(async {
        let (stage, [_, moved, _]) = moved_stage(SweepConfig { grace: Duration::ZERO, ..day() }).await;
        stage.run().await;
        stage.place(7, &[(0, None), (1, Some(1))]);
        assert_eq!(stage.run().await.strays.kept.packs, 2);
        stage.place(8, &[(0, None), (1, None)]);
        stage.disks[1].set_dead(true);
        let request = StorageRequest::Holds { drive: drive_id(1), packs: vec![moved.id] };
        assert!(stage.world.node.drive(drive_id(1)).unwrap().touch(Epoch(1), vec![moved.id]).await.is_err());
        let refused = stage.world.ask(request, bytes::Bytes::new()).await;
        let run = stage.run().await;
        assert_eq!(run.strays.kept.packs, 2, "{refused:?} {run:?}");
        assert!(stage.on(2).contains(&(moved.id, false)));
    });
}

#[test]
fn a_node_that_knows_the_drive_has_the_slot_again_deletes_no_strays() {
    virtual_time(async {
        let (stage, [_, moved, _]) = moved_stage(SweepConfig { grace: Duration::ZERO, ..day() }).await;
        stage.run().await;
        let ask = |epoch| StorageRequest::DeleteStrays {
            drive: drive_id(2),
            pg: PgRef { pg: PgId(0), epoch: PgEpoch(epoch) },
            packs: vec![moved.id],
        };
        stage.place(7, &[(0, None), (1, Some(2))]);
        for epoch in [6, 7] {
            let refused = stage.world.ask(ask(epoch), bytes::Bytes::new()).await.unwrap_err();
            assert_eq!(refused.code, Code::StalePg);
        }
        assert!(stage.on(2).contains(&(moved.id, true)));
        let run = stage.run().await;
        assert_eq!((run.pardoned, run.strays.found.packs), (1, 0), "it is the group's again, and referenced");
    });
}

#[test]
fn a_stray_stays_until_a_backup_does_not_name_its_drive() {
    virtual_time(async {
        let (stage, _) = moved_stage(SweepConfig { grace: Duration::ZERO, ..day() }).await;
        stage.metadata.state().backed_up = Some(Epoch(0));
        assert_eq!(stage.run().await.strays.condemned, 2);
        let run = stage.run().await;
        assert_eq!((run.strays.waiting, run.strays.deleted.packs, stage.on(2).len()), (2, 0, 3), "{run:?}");
        stage.metadata.state().backed_up = Some(Epoch(u64::MAX));
        assert_eq!(stage.run().await.strays.deleted.packs, 2);
    });
}
