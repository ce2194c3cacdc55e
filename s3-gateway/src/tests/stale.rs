//! Placement groups that moved: storage nodes refuse the old row, and no client notices.

use stele_types::ids::PgEpoch;
use stele_types::map::{ClusterMap, PgRow, Slot};

use super::{cluster_on, drive, map_of, noise, small_config, storage_node};

/// The rows after every PG moved to drives 6 to 11.
fn moved(map: &ClusterMap) -> Vec<PgRow> {
    let away = |pg: &PgRow| PgRow {
        epoch: PgEpoch(pg.epoch.0 + 1),
        slots: (6..12).map(|n| Slot { drive: drive(n), incoming: None }).collect(),
        ..pg.clone()
    };
    map.pgs.iter().map(away).collect()
}

#[tokio::test(start_paused = true)]
async fn a_write_with_an_old_row_takes_the_newer_one_and_succeeds() {
    let c = cluster_on(small_config(), "rs-4-2", 12, 6).await;
    // One PG for all, so that its old row is met for sure and the new one is used from then on.
    let rows = moved(&map_of("rs-4-2", 12, 6));
    rows.iter().for_each(|row| c.storage.learn(row.clone()));
    let bytes = noise(1, 9 << 20);
    for n in 0..40 {
        c.put(&format!("k{n}"), &bytes).await.unwrap();
    }
    assert_eq!(c.gw.metrics.packs_reencoded.get(), rows.len() as u64, "each row was learned once");
    assert!(c.gw.health().avoided_drives.is_empty(), "a drive is not to blame for an old row");
    for row in c.meta.pack_rows() {
        let holders = c.storage.holders(row.pack);
        assert!(holders.iter().all(|holder| (6..12).any(|n| drive(n) == *holder)), "{holders:?}");
    }
    for n in 0..40 {
        assert_eq!(c.get(&format!("k{n}")).await.unwrap(), bytes);
    }
}

#[tokio::test(start_paused = true)]
async fn a_map_that_is_older_than_a_learned_row_does_not_undo_it() {
    let c = cluster_on(small_config(), "rs-4-2", 12, 6).await;
    let row = moved(&map_of("rs-4-2", 12, 6)).remove(0);
    assert!(c.gw.placement.take_row(&row));
    c.meta.set_map_epoch(7);
    c.gw.refresh_map().await.unwrap();
    assert_eq!(c.gw.placement.epoch().0, 7);
    assert!(c.gw.placement.take_row(&row), "still known");
    let old = map_of("rs-4-2", 12, 6).pgs.remove(0);
    assert!(c.gw.placement.take_row(&old), "an older row is covered by ours");
    let holders = c.gw.placement.view().holders(&pack_in(&row), 0);
    assert_eq!(holders.iter().map(|at| (at.drive, at.node)).collect::<Vec<_>>(), [(drive(6), storage_node(0))]);
}

#[tokio::test(start_paused = true)]
async fn a_row_with_drives_that_the_map_lacks_makes_the_map_be_fetched() {
    let c = cluster_on(small_config(), "rs-4-2", 6, 6).await;
    let grown = map_of("rs-4-2", 12, 6);
    let rows = moved(&grown);
    assert!(!c.gw.placement.take_row(&rows[0]), "drives 6 to 11 are strange yet");
    rows.iter().for_each(|row| c.storage.learn(row.clone()));
    c.meta.set_map(ClusterMap { epoch: stele_types::ids::MapEpoch(9), pgs: rows, ..grown });
    c.put("k", &noise(1, 9 << 20)).await.unwrap();
    assert_eq!(c.gw.placement.epoch().0, 9);
    assert_eq!(c.get("k").await.unwrap(), noise(1, 9 << 20));
}

fn pack_in(pg: &PgRow) -> stele_types::pack::PackRow {
    stele_types::pack::PackRow {
        pack: stele_types::ids::PackId::from_bytes([1; 32]),
        pg: pg.id,
        scheme: pg.scheme,
        generation: 0,
        payload_len: 1,
        slots: (0..6).collect(),
        start_epoch: stele_types::ids::Epoch(1),
    }
}
