//! Slots that move: new shards go to the incoming drive, old ones are found on the drive that they leave.

use std::collections::BTreeMap;

use stele_types::ids::{DriveId, MapEpoch, PgId};
use stele_types::map::ClusterMap;
use stele_types::pack::PackRow;

use super::{Cluster, cluster_on, drive, map_of, noise, small_config};

/// The drive that takes over; no placement group uses it before.
const INCOMING: u8 = 11;

/// The first slot of every placement group moves to the same drive.
fn moving() -> ClusterMap {
    let mut map = map_of("rs-4-2", 12, 6);
    map.epoch = MapEpoch(2);
    for pg in &mut map.pgs {
        pg.epoch.0 += 1;
        pg.slots[0].incoming = Some(drive(INCOMING));
    }
    map
}

async fn start_moving(c: &Cluster) {
    let map = moving();
    map.pgs.iter().for_each(|row| c.storage.learn(row.clone()));
    c.meta.set_map(map);
    c.gw.refresh_map().await.unwrap();
}

/// The drive that the first slot of a placement group leaves.
fn leaving(pg: PgId) -> DriveId {
    map_of("rs-4-2", 12, 6).pgs[pg.0 as usize].slots[0].drive
}

fn names(head: &str) -> impl Iterator<Item = (String, bytes::Bytes)> {
    (0..12u64).map(move |n| (format!("{head}{n}"), noise(n, 9 << 20)))
}

/// Stores all, and returns the packs of it that every slot of a placement group is needed for.
async fn put_all(c: &Cluster, head: &str) -> Vec<PackRow> {
    let before: BTreeMap<_, _> = c.meta.pack_rows().into_iter().map(|row| (row.pack, row)).collect();
    for (name, bytes) in names(head) {
        c.put(&name, &bytes).await.unwrap();
    }
    c.meta.pack_rows().into_iter().filter(|row| !before.contains_key(&row.pack) && row.payload_len > 4 << 20).collect()
}

async fn read_back(c: &Cluster, head: &str) {
    for (name, bytes) in names(head) {
        assert!(c.get(&name).await.unwrap() == bytes, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn new_shards_go_to_the_incoming_drive_and_old_ones_are_read_where_they_are() {
    let c = cluster_on(small_config(), "rs-4-2", 12, 6).await;
    let old = put_all(&c, "old").await;
    assert!(old.iter().all(|row| c.storage.holders(row.pack).contains(&leaving(row.pg))));
    start_moving(&c).await;
    assert_eq!(c.gw.placement.pg_counts(), (4, 4));
    let new = put_all(&c, "new").await;
    for row in &new {
        let holders = c.storage.holders(row.pack);
        assert!(holders.contains(&drive(INCOMING)) && !holders.contains(&leaving(row.pg)), "{holders:?}");
        assert_eq!((row.scheme.k(), holders.len()), (4, 6));
    }
    read_back(&c, "old").await;
    read_back(&c, "new").await;
    assert_eq!(c.gw.metrics.rebuilt.get(), 0, "both drives of a slot were asked, nothing was decoded");
    assert!(c.gw.repair_reports().is_empty(), "{:?}", c.gw.repair_reports());
    assert!(c.gw.health().avoided_drives.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_does_not_know_of_the_move_is_told() {
    let c = cluster_on(small_config(), "rs-4-2", 12, 6).await;
    moving().pgs.iter().for_each(|row| c.storage.learn(row.clone()));
    for row in put_all(&c, "new").await {
        assert!(c.storage.holders(row.pack).contains(&drive(INCOMING)));
    }
    read_back(&c, "new").await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_drive_that_is_replaced_costs_no_write_a_shard() {
    let c = cluster_on(small_config(), "rs-4-2", 12, 6).await;
    // The first slot of group 3. The other groups use it elsewhere, so they stay degraded.
    c.storage.kill(leaving(PgId(3)));
    start_moving(&c).await;
    let new = put_all(&c, "new").await;
    assert!(new.iter().all(|row| row.scheme.m() == 2));
    let whole: Vec<&PackRow> = new.iter().filter(|row| row.pg == PgId(3)).collect();
    assert!(!whole.is_empty() && whole.iter().all(|row| row.scheme.k() == 4 && row.slots.len() == 6), "{whole:?}");
    read_back(&c, "new").await;
}

#[tokio::test(start_paused = true)]
async fn a_slot_whose_incoming_drive_is_lost_takes_nothing() {
    let c = cluster_on(small_config(), "rs-4-2", 12, 6).await;
    put_all(&c, "old").await;
    start_moving(&c).await;
    c.storage.kill(drive(INCOMING));
    for row in put_all(&c, "new").await {
        let holders = c.storage.holders(row.pack);
        assert!(!holders.contains(&leaving(row.pg)), "nobody would look for it there first");
        assert!(row.scheme.m() == 2 && row.slots.iter().all(|slot| *slot != 0), "{row:?}");
    }
    read_back(&c, "old").await;
    read_back(&c, "new").await;
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_lies_is_blamed_on_the_drive_that_it_came_from() {
    let c = cluster_on(small_config(), "rs-4-2", 12, 6).await;
    let old = put_all(&c, "old").await;
    start_moving(&c).await;
    let liar = leaving(PgId(0));
    c.storage.make_lie(liar);
    // Nobody reads parity as long as all data is there.
    let asked = old.iter().any(|row| row.pg == PgId(0) && row.slots.iter().take(4).any(|slot| *slot == 0));
    assert!(asked, "the liar holds data of some pack");
    read_back(&c, "old").await;
    let reports = c.gw.repair_reports();
    assert!(!reports.is_empty() && reports.iter().all(|report| report.drive == liar), "{reports:?}");
}
