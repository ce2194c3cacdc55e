//! Storage nodes that hang, can't be reached, are merely slow, and come back.

use std::time::Duration;

use futures::future::join_all;
use stele_types::ids::NodeId;
use tokio::time::Instant;

use super::{Cluster, cluster_on, noise, small_config, storage_node};
use crate::api::GatewayConfig;
use crate::error::GatewayError;

/// Doubt and probe together.
const PATIENCE: Duration = Duration::from_millis(1600);
/// Longest pause between two probes, and one more probe.
const COMES_BACK: Duration = Duration::from_millis(2100);

/// Six nodes with two drives each, rs-4-2; the patience of calls is that of a real gateway.
async fn six_nodes() -> Cluster {
    let config = GatewayConfig { store_timeout: Duration::from_secs(10), ..small_config() };
    cluster_on(config, "rs-4-2", 12, 6).await
}

impl Cluster {
    fn away(&self, node: NodeId) -> bool {
        self.gw.nodes.away(node).is_some()
    }

    fn asked(&self) -> Vec<u64> {
        (0..6).map(|n| self.storage.asked(storage_node(n))).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_hung_node_is_waited_for_once_and_by_nobody_after_that() {
    let c = six_nodes().await;
    let hung = storage_node(1);
    c.storage.hang(hung);
    let bytes = noise(1, 9 << 20);
    let begun = Instant::now();
    let first: Vec<_> = (0..8).map(|n| format!("first-{n}")).collect();
    for stored in join_all(first.iter().map(|key| c.put(key, &bytes))).await {
        stored.unwrap();
    }
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    assert!(c.away(hung));
    let (asked, begun) = (c.storage.asked(hung), Instant::now());
    for n in 0..20 {
        c.put(&format!("later-{n}"), &bytes).await.unwrap();
        assert_eq!(c.get(&format!("later-{n}")).await.unwrap(), bytes);
        assert_eq!(c.get(&first[n % 8]).await.unwrap(), bytes);
    }
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
    assert_eq!(c.storage.asked(hung), asked, "no request of a client goes there");
    let named = c.gw.health().avoided_drives;
    assert_eq!(named.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["drive-1", "drive-7"]);
    for row in c.meta.pack_rows() {
        assert_eq!(row.scheme.m(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_comes_back_by_itself_and_takes_shards_again() {
    let c = six_nodes().await;
    let node = storage_node(2);
    for unreachable in [false, true] {
        if unreachable {
            c.network.unbind(node)
        } else {
            c.storage.hang(node)
        }
        c.put("k", &noise(1, 9 << 20)).await.unwrap();
        assert!(c.away(node));
        // Long enough for the pauses between probes to have grown.
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(c.away(node));
        c.storage.resume(node);
        c.network.bind(node, c.storage.node(node));
        tokio::time::sleep(COMES_BACK).await;
        assert!(!c.away(node));
        assert!(c.gw.health().avoided_drives.is_empty());
        let before = c.storage.asked(node);
        c.put("k", &noise(2, 40 << 20)).await.unwrap();
        assert!(c.storage.asked(node) > before);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_be_reached_is_avoided_at_once_for_all_its_drives() {
    let c = six_nodes().await;
    c.network.unbind(storage_node(3));
    let begun = Instant::now();
    for n in 0..8 {
        c.put(&format!("k{n}"), &noise(n, 9 << 20)).await.unwrap();
    }
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
    assert_eq!(c.gw.metrics.packs_reencoded.get(), 1, "one failure tells about both drives");
}

#[tokio::test(start_paused = true)]
async fn reads_go_round_a_hung_node_and_find_it_out() {
    let c = six_nodes().await;
    let bytes = noise(1, 30 << 20);
    c.put("k", &bytes).await.unwrap();
    c.storage.hang(storage_node(0));
    let begun = Instant::now();
    assert_eq!(c.get("k").await.unwrap(), bytes);
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    tokio::time::sleep(PATIENCE).await;
    assert!(c.away(storage_node(0)), "reads that were hedged and given up cast doubt too");
    let (asked, begun) = (c.storage.asked(storage_node(0)), Instant::now());
    assert_eq!(c.get("k").await.unwrap(), bytes);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(c.storage.asked(storage_node(0)), asked);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_slow_and_answers_is_not_avoided() {
    let c = six_nodes().await;
    c.drives.iter().for_each(|drive| c.storage.slow_down(*drive, Duration::from_secs(4)));
    let bytes = noise(1, 9 << 20);
    c.put("k", &bytes).await.unwrap();
    assert!((0..6).all(|n| !c.away(storage_node(n))));
    assert_eq!(c.gw.metrics.packs_reencoded.get(), 0);
    assert!(c.meta.pack_rows().iter().any(|row| row.scheme.k() == 4));
    assert_eq!(c.get("k").await.unwrap(), bytes);
    assert!((0..6).all(|n| !c.away(storage_node(n))));
}

#[tokio::test(start_paused = true)]
async fn with_too_few_nodes_a_write_is_refused_at_once_and_names_the_drives() {
    let c = cluster_on(small_config(), "rs-4-2", 6, 6).await;
    c.put("old", &noise(1, 9 << 20)).await.unwrap();
    // The scheme keeps m = 2, so three drives must be left.
    (0..4).for_each(|n| c.storage.hang(storage_node(n)));
    let begun = Instant::now();
    let error = c.put("k", &noise(1, 100)).await.unwrap_err();
    assert!(matches!(error, GatewayError::DrivesMissing { .. }), "{error}");
    assert!(begun.elapsed() < PATIENCE * 2, "{:?}", begun.elapsed());
    let begun = Instant::now();
    let error = c.put("k", &noise(1, 100)).await.unwrap_err();
    let GatewayError::DrivesMissing { drives, .. } = &error else { panic!("{error}") };
    let named: Vec<_> = drives.iter().filter_map(|drive| drive.split(' ').next()).collect();
    assert_eq!(named, ["drive-0", "drive-1", "drive-2", "drive-3"]);
    assert!(matches!(c.get("old").await, Err(GatewayError::DrivesMissing { .. })));
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
    (0..4).for_each(|n| c.storage.resume(storage_node(n)));
    tokio::time::sleep(COMES_BACK).await;
    c.put("k", &noise(1, 100)).await.unwrap();
    assert_eq!(c.get("old").await.unwrap(), noise(1, 9 << 20));
    assert!(c.asked().iter().all(|asked| *asked > 0));
}

#[tokio::test(start_paused = true)]
async fn probes_end_with_the_gateway() {
    let c = six_nodes().await;
    c.storage.hang(storage_node(1));
    c.put("k", &noise(1, 9 << 20)).await.unwrap();
    assert!(c.away(storage_node(1)));
    let nodes = std::sync::Arc::downgrade(&c.gw.nodes);
    c.gw.stop().await;
    drop(c);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(nodes.strong_count(), 0);
}
