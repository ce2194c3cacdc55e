//! Appends and renames: what comes out, what it costs, and who wins a race.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use md5::{Digest as _, Md5};
use stele_rpc::meta::Origin;
use stele_types::ids::PackId;
use stele_types::object::{ChecksumAlgorithm, ETag, Precondition, StoredHeaders, Version};

use super::{Cluster, body_in_pieces, cluster, noise, put_request};
use crate::api::{AppendRequest, BodyRequest, ByteRange, EtagCondition, GetRequest, PutReply, PutRequest};
use crate::api::{ReadConditions, RenameRequest};
use crate::append::append_object;
use crate::digests::checksum_of;
use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::get::head_object;
use crate::rename::rename_object;

async fn append(gw: &Arc<Gateway>, key: &str, offset: u64, bytes: &Bytes) -> Result<PutReply, GatewayError> {
    let body = BodyRequest { compute: vec![ChecksumAlgorithm::Crc64Nvme], ..body_in_pieces(bytes, 70_000) };
    append_object(gw, AppendRequest { put: put_request(key, body), offset }).await
}

async fn current(c: &Cluster, key: &str) -> Box<Version> {
    head_object(&c.gw, GetRequest::current("b", key)).await.unwrap().version
}

fn bytes_of(packs: &BTreeSet<PackId>, c: &Cluster) -> u64 {
    c.meta.pack_rows().iter().filter(|row| packs.contains(&row.pack)).map(|row| u64::from(row.payload_len)).sum()
}

#[tokio::test(start_paused = true)]
async fn pieces_of_every_size_become_one_object_with_parts_and_a_checksum() {
    let c = cluster().await;
    let lens = [300_000usize, 1, 0, 5 << 20, 77, 20 << 20, 1000];
    let pieces: Vec<Bytes> = lens.iter().zip(0..).map(|(len, n)| noise(n, *len)).collect();
    let mut whole = Vec::new();
    let mut md5: Option<u128> = None;
    for (n, piece) in pieces.iter().enumerate() {
        let done = append(&c.gw, "k", whole.len() as u64, piece).await.unwrap();
        whole.extend_from_slice(piece);
        let own = u128::from_be_bytes(Md5::digest(piece).into());
        let joined = md5.map_or(own, |before| {
            u128::from_be_bytes(Md5::digest([before.to_be_bytes(), own.to_be_bytes()].concat()).into())
        });
        md5 = Some(joined);
        let parts = if n == 0 { 0 } else { n as u16 + 1 };
        assert_eq!(done.attributes.etag, ETag { md5: joined, parts });
        assert_eq!(done.attributes.checksums[0].value, checksum_of(ChecksumAlgorithm::Crc64Nvme, &whole));
        assert_eq!(done.attributes.body_hash.is_some(), n == 0);
        assert_eq!(c.get("k").await.unwrap(), whole);
    }
    for (n, piece) in pieces.iter().enumerate() {
        assert_eq!(c.get_range("k", Some(ByteRange::Part(n as u16 + 1))).await.unwrap(), piece);
    }
    let outside = c.get_range("k", Some(ByteRange::Part(8))).await;
    assert!(matches!(outside, Err(GatewayError::NoSuchPartNumber { .. })));
    assert_eq!(c.gw.budget.used_bytes(), 0);
}

/// Many small appends: each stores its bytes and the last page, and gives the page before it back.
#[tokio::test(start_paused = true)]
async fn an_append_costs_what_it_adds_and_leaves_no_old_pages_behind() {
    let c = cluster().await;
    let piece = noise(1, 100);
    let mut costs = Vec::new();
    for n in 0..1100u64 {
        let before = c.storage.counts();
        append(&c.gw, "k", n * 100, &piece).await.unwrap();
        let after = c.storage.counts();
        costs.push((after.0 - before.0, after.1 - before.1));
    }
    // Two packs of three shards each: the bytes, and the pages. At most the last page and its index are read.
    assert!(costs.iter().all(|(writes, reads)| *writes <= 6 && *reads <= 2), "{costs:?}");
    let version = current(&c, "k").await;
    assert_eq!(version.manifest.chunks(), 1100);
    let packs = c.meta.references_of(version.owner);
    // One pack for each piece, one for the full page, one for the last page and the index.
    assert_eq!(packs.len(), 1102);
    assert!(bytes_of(&packs, &c) < 1100 * 250 + 150_000, "{}", bytes_of(&packs, &c));
    assert_eq!(c.get("k").await.unwrap(), piece.repeat(1100));
    let seam = ByteRange::From { first: 102_399, last: Some(102_400) };
    assert_eq!(c.get_range("k", Some(seam)).await.unwrap(), [piece[99], piece[0]].as_slice());
}

#[tokio::test(start_paused = true)]
async fn wrong_offsets_headers_and_conditions_append_nothing() {
    let c = cluster().await;
    let one = noise(1, 10);
    assert!(matches!(append(&c.gw, "k", 1, &one).await, Err(GatewayError::InvalidWriteOffset { offset: 1, len: 0 })));
    c.put("k", &one).await.unwrap();
    for offset in [0, 9, 11, u64::MAX] {
        let wrong = append(&c.gw, "k", offset, &one).await;
        assert!(matches!(wrong, Err(GatewayError::InvalidWriteOffset { len: 10, .. })), "{wrong:?}");
    }
    let request = || put_request("k", body_in_pieces(&one, 10));
    let headers = StoredHeaders { cache_control: Some("no-store".into()), ..StoredHeaders::default() };
    let put = PutRequest { headers, ..request() };
    let refused = append_object(&c.gw, AppendRequest { put, offset: 10 }).await;
    assert!(matches!(refused, Err(GatewayError::InvalidRequest { .. })));
    let put = PutRequest { precondition: Precondition::Absent, ..request() };
    let refused = append_object(&c.gw, AppendRequest { put, offset: 10 }).await;
    assert!(matches!(refused, Err(GatewayError::PreconditionFailed)));
    assert_eq!(c.get("k").await.unwrap(), one);
}

#[tokio::test(start_paused = true)]
async fn an_object_takes_ten_thousand_parts_and_no_more() {
    let c = cluster().await;
    c.put("k", &noise(1, 10)).await.unwrap();
    c.meta.change_attributes("k", |attributes| attributes.part_lens = vec![0; 9_999]);
    let last = append(&c.gw, "k", 10, &noise(2, 10)).await.unwrap();
    assert_eq!((last.attributes.part_lens.len(), last.attributes.etag.parts), (10_000, 10_000));
    let refused = append(&c.gw, "k", 20, &noise(3, 10)).await;
    assert!(matches!(refused, Err(GatewayError::TooManyParts { parts: 10_000, max: 10_000 })));
}

#[tokio::test(start_paused = true)]
async fn of_racing_appends_exactly_one_wins_each_offset() {
    let c = cluster().await;
    let gateways = [Arc::clone(&c.gw), c.another_gateway(4).await, c.another_gateway(5).await];
    let mut whole = Vec::new();
    for round in 0..10u64 {
        let pieces: Vec<Bytes> = (0..9).map(|n| noise(round * 100 + n, 2000)).collect();
        let appends = pieces.iter().zip(gateways.iter().cycle());
        let offset = whole.len() as u64;
        let outcomes = join_all(appends.map(|(piece, gw)| append(gw, "k", offset, piece))).await;
        let winners: Vec<usize> = (0..9).filter(|n| outcomes[*n].is_ok()).collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        let lost = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
        lost.for_each(|error| assert!(matches!(error, GatewayError::InvalidWriteOffset { .. }), "{error}"));
        whole.extend_from_slice(&pieces[winners[0]]);
        assert_eq!(c.get("k").await.unwrap(), whole);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_appends_once() {
    let c = cluster().await;
    c.put("k", &noise(1, 1000)).await.unwrap();
    c.meta.lose_replies(1);
    append(&c.gw, "k", 1000, &noise(2, 1000)).await.unwrap();
    assert_eq!(c.get("k").await.unwrap(), [noise(1, 1000), noise(2, 1000)].concat());
}

fn rename(from: &str, to: &str) -> RenameRequest {
    RenameRequest {
        bucket: "b".into(),
        source: from.into(),
        destination: to.into(),
        source_conditions: ReadConditions::default(),
        destination_conditions: ReadConditions::default(),
        token: None,
        origin: Origin::default(),
    }
}

#[tokio::test(start_paused = true)]
async fn of_racing_renames_of_one_object_one_wins_and_nothing_is_stored() {
    let c = cluster().await;
    let gateways = [Arc::clone(&c.gw), c.another_gateway(4).await, c.another_gateway(5).await];
    let bytes = noise(1, 3 << 20);
    c.put("from", &bytes).await.unwrap();
    let before = c.storage.counts();
    let keys: Vec<String> = (0..9).map(|n| format!("to{n}")).collect();
    let renames = keys.iter().zip(gateways.iter().cycle());
    let outcomes = join_all(renames.map(|(key, gw)| rename_object(gw, rename("from", key)))).await;
    assert_eq!(c.storage.counts(), before, "no byte moved");
    let winners: Vec<usize> = (0..9).filter(|n| outcomes[*n].is_ok()).collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    let lost = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    lost.for_each(|error| assert!(matches!(error, GatewayError::NoSuchKey { .. }), "{error}"));
    assert_eq!(c.get(&keys[winners[0]]).await.unwrap(), bytes);
}

#[tokio::test(start_paused = true)]
async fn of_racing_renames_to_one_free_key_one_wins() {
    let c = cluster().await;
    let gateways = [Arc::clone(&c.gw), c.another_gateway(4).await];
    let free = ReadConditions { if_none_match: Some(EtagCondition::Any), ..ReadConditions::default() };
    let sources: Vec<String> = (0..8).map(|n| format!("from{n}")).collect();
    for (n, key) in sources.iter().enumerate() {
        c.put(key, &noise(n as u64, 100)).await.unwrap();
    }
    let renames = sources.iter().zip(gateways.iter().cycle()).map(|(key, gw)| {
        let request = RenameRequest { destination_conditions: free.clone(), ..rename(key, "to") };
        rename_object(gw, request)
    });
    let outcomes = join_all(renames).await;
    let winners: Vec<usize> = (0..8).filter(|n| outcomes[*n].is_ok()).collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    let lost = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    lost.for_each(|error| assert!(matches!(error, GatewayError::PreconditionFailed), "{error}"));
    assert_eq!(c.get("to").await.unwrap(), noise(winners[0] as u64, 100));
}
