//! Drives that are lost, slow, full or lie; replies that get lost; leases and packs that go.

use std::time::Duration;

use super::{cluster, cluster_with, noise, small_config};
use crate::error::GatewayError;

#[tokio::test(start_paused = true)]
async fn reads_survive_the_loss_of_any_m_drives_and_not_of_more() {
    let c = cluster().await;
    let (small, large) = (noise(1, 4096), noise(2, 20 << 20));
    c.put("small", &small).await.unwrap();
    c.put("large", &large).await.unwrap();
    for a in 0..6 {
        for b in 0..a {
            c.storage.kill(c.drives[a]);
            c.storage.kill(c.drives[b]);
            assert_eq!(c.get("small").await.unwrap(), small);
            assert_eq!(c.get("large").await.unwrap(), large);
            c.storage.revive_all();
            tokio::time::sleep(Duration::from_secs(100)).await;
        }
    }
    for n in 0..3 {
        c.storage.kill(c.drives[n]);
    }
    let error = c.get("large").await.unwrap_err();
    assert!(matches!(&error, GatewayError::DrivesMissing { drives, .. } if drives.len() >= 3), "{error}");
}

#[tokio::test(start_paused = true)]
async fn shards_that_lie_are_found_out_and_reported() {
    let c = cluster().await;
    let (small, large) = (noise(1, 4096), noise(2, 9 << 20));
    c.put("small", &small).await.unwrap();
    c.put("large", &large).await.unwrap();
    let pack = c.meta.pack_rows().into_iter().max_by_key(|row| row.payload_len).unwrap();
    let data = pack.slots.iter().take(4).map(|slot| (usize::from(*slot) + pack.pg.0 as usize) % 6);
    let data: Vec<usize> = data.collect();
    let mut asked = 0;
    for a in 0..6 {
        for b in 0..a {
            c.storage.make_lie(c.drives[a]);
            c.storage.make_lie(c.drives[b]);
            assert_eq!(c.get("small").await.unwrap(), small);
            assert_eq!(c.get("large").await.unwrap(), large);
            let reports = c.gw.repair_reports();
            // Nobody reads parity as long as all data is there.
            if data.contains(&a) || data.contains(&b) {
                assert!(reports.iter().any(|r| r.drive == c.drives[a] || r.drive == c.drives[b]));
                asked += 1;
            }
            assert!(reports.iter().all(|r| r.drive == c.drives[a] || r.drive == c.drives[b]));
            c.storage.revive_all();
        }
    }
    assert_eq!(asked, 14, "two of six drives have parity only");
    c.drives.iter().take(3).for_each(|drive| c.storage.make_lie(*drive));
    assert!(matches!(c.get("large").await, Err(GatewayError::Corrupt { .. })));
}

#[tokio::test(start_paused = true)]
async fn writes_go_round_dead_drives_and_keep_m() {
    let c = cluster().await;
    let bytes = noise(5, 20 << 20);
    for dead in 0..3usize {
        c.put(&format!("k{dead}"), &bytes).await.unwrap();
        let worst = c.meta.pack_rows().iter().map(|row| row.scheme.m()).min();
        assert_eq!(worst, Some(2));
        c.storage.kill(c.drives[dead]);
    }
    c.put("k3", &bytes).await.unwrap();
    assert_eq!(c.get("k3").await.unwrap(), bytes);
    c.storage.kill(c.drives[3]);
    let error = c.put("k4", &bytes).await.unwrap_err();
    assert!(matches!(&error, GatewayError::DrivesMissing { drives, .. } if drives.len() == 4), "{error}");
    c.storage.revive_all();
    tokio::time::sleep(Duration::from_secs(100)).await;
    for n in 0..4 {
        assert_eq!(c.get(&format!("k{n}")).await.unwrap(), bytes);
    }
    c.put("k5", &bytes).await.unwrap();
    assert!(c.meta.pack_rows().iter().any(|row| row.scheme.k() == 4 && row.generation == 0));
}

#[tokio::test(start_paused = true)]
async fn full_drives_are_named_as_full() {
    let c = cluster().await;
    c.drives.iter().for_each(|drive| c.storage.fill(*drive));
    assert!(matches!(c.put("k", &noise(1, 100)).await, Err(GatewayError::StoreFull { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_slow_drive_is_hedged() {
    let c = cluster().await;
    let bytes = noise(5, 20 << 20);
    c.put("k", &bytes).await.unwrap();
    c.storage.slow_down(c.drives[0], Duration::from_secs(3));
    let before = tokio::time::Instant::now();
    assert_eq!(c.get("k").await.unwrap(), bytes);
    assert!(before.elapsed() < Duration::from_secs(3));
    assert!(c.gw.metrics.hedged.get() > 0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_applies_once() {
    let c = cluster().await;
    let before = c.meta.applied();
    c.meta.lose_replies(3);
    c.put("k", &noise(1, 10)).await.unwrap();
    assert_eq!(c.meta.applied(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_is_replaced_and_a_fenced_write_is_not_committed() {
    let c = cluster().await;
    c.meta.expire_leases();
    c.put("k", &noise(1, 10)).await.unwrap();
    c.meta.fence_all();
    let error = c.put("k", &noise(2, 10)).await.unwrap_err();
    assert!(matches!(error, GatewayError::Unavailable { .. }), "{error}");
    assert_eq!(c.get("k").await.unwrap(), noise(1, 10));
    tokio::time::sleep(Duration::from_secs(30)).await;
    c.put("k", &noise(2, 10)).await.unwrap();
    assert_eq!(c.get("k").await.unwrap(), noise(2, 10));
}

#[tokio::test(start_paused = true)]
async fn a_pack_encoded_anew_is_found_by_its_new_row() {
    let c = cluster().await;
    let bytes = noise(5, 12 << 20);
    c.put("k", &bytes).await.unwrap();
    let reply = crate::get::get_object(&c.gw, crate::api::GetRequest::current("b", "k")).await.unwrap();
    for row in c.meta.pack_rows() {
        c.storage.raise_generation(row.pack);
        c.meta.change_pack(row.pack, |row| row.generation = 7);
    }
    let mut body = reply.body;
    let mut got = Vec::new();
    while let Some(piece) = futures::StreamExt::next(&mut body).await {
        got.extend_from_slice(&piece.unwrap());
    }
    assert!(got == bytes);
}

#[tokio::test(start_paused = true)]
async fn a_pack_that_is_gone_ends_the_read_with_an_error() {
    let c = cluster().await;
    c.put("k", &noise(5, 12 << 20)).await.unwrap();
    for row in c.meta.pack_rows() {
        c.storage.raise_generation(row.pack);
    }
    assert!(matches!(c.get("k").await, Err(GatewayError::Corrupt { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_an_overwrite_overtakes_shows_the_newer_object() {
    let c = cluster().await;
    // More than one pack: rows of the others are asked for when the manifest was read.
    c.put("k", &noise(5, 40 << 20)).await.unwrap();
    c.put("newer", &noise(6, 9 << 20)).await.unwrap();
    c.meta.overtake("k", "newer");
    assert!(c.get("k").await.unwrap() == noise(6, 9 << 20));
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_and_slow_readers_do_not_stop_others() {
    let config = crate::api::GatewayConfig { memory_bytes: 64 << 20, ..small_config() };
    let c = cluster_with(config, "rs-4-2", 6).await;
    let bytes = noise(5, 30 << 20);
    c.put("k", &bytes).await.unwrap();
    let mut stalled = Vec::new();
    for _ in 0..12 {
        let request = crate::api::GetRequest::current("b", "k");
        stalled.push(crate::get::get_object(&c.gw, request).await.unwrap());
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(c.gw.budget.used_bytes() <= 64 << 20);
    }
    assert_eq!(c.get("k").await.unwrap(), bytes);
    drop(stalled);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(c.gw.budget.used_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn renewals_report_the_lowest_open_epoch_and_soon_when_it_rises() {
    let c = cluster().await;
    let seconds = |n| tokio::time::sleep(Duration::from_secs(n));
    let open = c.gw.leases.begin().await.unwrap();
    c.meta.set_epoch(5);
    seconds(21).await;
    let newer = c.gw.leases.begin().await.unwrap();
    assert_eq!((open.epoch().0, newer.epoch().0), (1, 5));
    assert_eq!(c.meta.reported(), [1]);
    drop(open);
    seconds(20).await;
    assert_eq!(c.meta.reported(), [1, 5]);
    drop(newer);
    c.meta.set_epoch(6);
    seconds(22).await;
    assert_eq!(c.meta.reported(), [1, 5, 5, 6], "the new epoch is reported at once");
}
