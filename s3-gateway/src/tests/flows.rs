//! The main paths, and what is refused.

use bytes::Bytes;
use stele_rpc::meta::{ListQuery, Origin, VersionSelector};
use stele_types::object::{Checksum, ChecksumAlgorithm, ChecksumType, Precondition};

use super::{Cluster, body_in_pieces, cluster, cluster_with, noise, put_request, small_config};
use crate::api::{BodyRequest, ByteRange, Cpu, DeleteOne, DeleteRequest, ExpectedDigests, GetRequest, Trailer};
use crate::bucket::{delete_bucket, head_bucket};
use crate::delete::delete_objects;
use crate::digests::checksum_of;
use crate::error::{BodyError, GatewayError};
use crate::get::{get_object, head_object};
use crate::list::list_keys;
use crate::put::put_object;

#[tokio::test(start_paused = true)]
async fn bodies_of_every_kind_come_back() {
    let c = cluster().await;
    for (n, len) in
        [0usize, 1, 4096, 70_000, 300_000, 5 << 20, 8 << 20, (8 << 20) + 1, 40 << 20].into_iter().enumerate()
    {
        let key = format!("k{n}");
        let bytes = noise(n as u64, len);
        let reply = c.put(&key, &bytes).await.unwrap();
        assert_eq!(reply.attributes.len, len as u64);
        assert_eq!(reply.attributes.body_hash.unwrap().as_bytes(), blake3::hash(&bytes).as_bytes());
        assert_eq!(c.get(&key).await.unwrap(), bytes, "{len}");
        let owner = head_object(&c.gw, GetRequest::current("b", &key)).await.unwrap().version.owner;
        assert_eq!(c.meta.references_of(owner).is_empty(), len == 0);
    }
    assert_eq!(c.gw.budget.used_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_without_a_declared_length_is_stored_whichever_way_it_turns_out() {
    let c = cluster().await;
    for len in [10usize, 20 << 20] {
        let bytes = noise(1, len);
        let body = BodyRequest { declared_len: None, ..body_in_pieces(&bytes, 100_000) };
        put_object(&c.gw, put_request("k", body)).await.unwrap();
        assert_eq!(c.get("k").await.unwrap(), bytes);
    }
}

#[tokio::test(start_paused = true)]
async fn ranges_come_back_across_chunk_and_pack_boundaries() {
    let c = cluster().await;
    let bytes = noise(9, 40 << 20);
    c.put("k", &bytes).await.unwrap();
    for (first, len) in [(0, 1), (0, 40 << 20), (1_000_000, 3_000_000), (16_000_000, 9_000_000), ((40 << 20) - 1, 1)] {
        let range = ByteRange::From { first: first as u64, last: Some((first + len - 1) as u64) };
        assert_eq!(c.get_range("k", Some(range)).await.unwrap(), bytes.slice(first..first + len));
    }
    let outside = c.get_range("k", Some(ByteRange::From { first: 40 << 20, last: None })).await;
    assert!(matches!(outside, Err(GatewayError::RangeNotSatisfiable { len }) if len == 40 << 20));
}

#[tokio::test(start_paused = true)]
async fn concurrent_small_bodies_share_packs() {
    let c = cluster().await;
    let puts = (0..64u64).map(|n| {
        let c = &c;
        async move { c.put(&format!("k{n:02}"), &noise(n, 4096)).await.unwrap() }
    });
    futures::future::join_all(puts).await;
    assert!(c.gw.metrics.packs_stored.get() <= 4, "{} packs", c.gw.metrics.packs_stored.get());
    for n in 0..64u64 {
        assert_eq!(c.get(&format!("k{n:02}")).await.unwrap(), noise(n, 4096));
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_gateway_does_not_linger() {
    let c = cluster().await;
    let before = tokio::time::Instant::now();
    c.put("k", &noise(1, 100)).await.unwrap();
    assert_eq!(before.elapsed().as_micros(), 0);
}

async fn refused(c: &Cluster, body: BodyRequest) -> GatewayError {
    let before = c.meta.applied();
    let error = put_object(&c.gw, put_request("k", body)).await.unwrap_err();
    assert_eq!(c.meta.applied(), before, "nothing was committed");
    assert!(matches!(c.get("k").await, Err(GatewayError::NoSuchKey { .. })));
    assert_eq!(c.gw.budget.used_bytes(), 0);
    error
}

#[tokio::test(start_paused = true)]
async fn wrong_lengths_and_digests_commit_nothing() {
    let c = cluster().await;
    for len in [1000usize, 12 << 20] {
        let bytes = noise(3, len);
        let body = |declared: u64| BodyRequest { declared_len: Some(declared), ..body_in_pieces(&bytes, 65_536) };
        let len = len as u64;
        assert!(matches!(refused(&c, body(len + 1)).await, GatewayError::BodyTooShort { .. }));
        assert!(matches!(refused(&c, body(len - 1)).await, GatewayError::BodyTooLong { .. }));
        let expecting = |expected| BodyRequest { expected, ..body(len) };
        let md5 = ExpectedDigests { md5: Some([1; 16]), ..Default::default() };
        assert!(matches!(refused(&c, expecting(md5)).await, GatewayError::DigestMismatch { .. }));
        let trailer = |value: Option<Bytes>| ExpectedDigests {
            trailer: Some(Trailer { algorithm: ChecksumAlgorithm::Crc32c, value: Box::new(move || value) }),
            ..Default::default()
        };
        assert!(matches!(refused(&c, expecting(trailer(None))).await, GatewayError::TrailerMissing));
        let wrong = trailer(Some(Bytes::from_static(&[0; 4])));
        assert!(matches!(refused(&c, expecting(wrong)).await, GatewayError::DigestMismatch { .. }));
    }
    let right = checksum_of(ChecksumAlgorithm::Crc64Nvme, b"abc");
    let checksum = Checksum { algorithm: ChecksumAlgorithm::Crc64Nvme, kind: ChecksumType::FullObject, value: right };
    let expected = ExpectedDigests { checksums: vec![checksum.clone()], ..Default::default() };
    let body = BodyRequest { expected, ..BodyRequest::from_bytes(Bytes::from_static(b"abc")) };
    let reply = put_object(&c.gw, put_request("k", body)).await.unwrap();
    assert_eq!(reply.attributes.checksums, [checksum]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_or_stalls_commits_nothing() {
    let c = cluster().await;
    let broken = || Box::pin(futures::stream::iter([Ok(noise(1, 100)), Err(BodyError::Incoming("gone".into()))]));
    let body = BodyRequest { stream: broken(), declared_len: None, ..BodyRequest::from_bytes(Bytes::new()) };
    assert!(matches!(refused(&c, body).await, GatewayError::BodyFailed(_)));
    let body = BodyRequest {
        stream: Box::pin(futures::stream::pending()),
        declared_len: Some(5),
        ..BodyRequest::from_bytes(Bytes::new())
    };
    assert!(matches!(refused(&c, body).await, GatewayError::BodyStalled { .. }));
}

#[tokio::test(start_paused = true)]
async fn preconditions_missing_things_and_limits() {
    let c = cluster().await;
    let bytes = noise(1, 10);
    let with = |precondition| crate::api::PutRequest {
        precondition,
        ..put_request("k", BodyRequest::from_bytes(noise(1, 10)))
    };
    let error = put_object(&c.gw, with(Precondition::Present)).await.unwrap_err();
    assert!(matches!(error, GatewayError::PreconditionNoKey));
    put_object(&c.gw, with(Precondition::Absent)).await.unwrap();
    let error = put_object(&c.gw, with(Precondition::Absent)).await.unwrap_err();
    assert!(matches!(error, GatewayError::PreconditionFailed));
    let elsewhere =
        crate::api::PutRequest { bucket: "nowhere".into(), ..put_request("k", BodyRequest::from_bytes(bytes.clone())) };
    assert!(matches!(put_object(&c.gw, elsewhere).await, Err(GatewayError::NoSuchBucket { .. })));
    let long = "x".repeat(1025);
    assert!(matches!(c.put(&long, &bytes).await, Err(GatewayError::KeyTooLong { .. })));
    let huge = BodyRequest { declared_len: Some(6 << 30), ..BodyRequest::from_bytes(Bytes::new()) };
    assert!(matches!(put_object(&c.gw, put_request("k", huge)).await, Err(GatewayError::EntityTooLarge { .. })));
    let other =
        VersionSelector::Id(stele_types::ids::VersionId { commit_seq: stele_types::ids::CommitSeq(0), nonce: 0 });
    let get = GetRequest { version: other, ..GetRequest::current("b", "k") };
    assert!(matches!(get_object(&c.gw, get).await, Err(GatewayError::NoSuchVersion)));
}

#[tokio::test(start_paused = true)]
async fn listing_deletion_and_buckets() {
    let c = cluster().await;
    for key in ["a", "b", "c"] {
        c.put(key, &noise(1, 10)).await.unwrap();
    }
    let item =
        |key: &str| DeleteOne { key: key.into(), version: VersionSelector::Current, precondition: Precondition::None };
    let request = DeleteRequest {
        bucket: "b".into(),
        items: vec![item("b"), item("no")],
        bypass_governance: false,
        origin: Origin::default(),
    };
    let deleted = delete_objects(&c.gw, request).await.unwrap();
    assert!(deleted[0].as_ref().unwrap().removed.is_some() && deleted[1].as_ref().unwrap().removed.is_none());
    let page = list_keys(&c.gw, "b", ListQuery { max: 10, ..ListQuery::default() }).await.unwrap();
    assert_eq!(page.rows.iter().map(|r| r.key.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    delete_bucket(&c.gw, "b", Origin::default()).await.unwrap();
    assert!(matches!(head_bucket(&c.gw, "b").await, Err(GatewayError::NoSuchBucket { .. })));
    assert!(matches!(c.put("a", &noise(1, 1)).await, Err(GatewayError::NoSuchBucket { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_bucket_made_anew_under_its_old_name_is_found() {
    let c = cluster().await;
    c.put("k", &noise(1, 10)).await.unwrap();
    // Behind this gateway's back, so that its cached row is old.
    let cached = crate::bucket::lookup(&c.gw, "b").await.unwrap();
    delete_bucket(&c.gw, "b", Origin::default()).await.unwrap();
    crate::bucket::create_bucket(&c.gw, "b", false, Origin::default()).await.unwrap();
    c.gw.buckets.remember(cached);
    assert!(matches!(c.get("k").await, Err(GatewayError::NoSuchKey { .. })));
    c.meta.reconfigure("b");
    c.put("k", &noise(2, 10)).await.unwrap();
    assert_eq!(c.get("k").await.unwrap(), noise(2, 10));
}

#[tokio::test]
async fn cpu_threads_and_the_cache_change_nothing() {
    let config = crate::api::GatewayConfig { cache_bytes: 64 << 20, ..small_config() };
    let mut c = cluster_with(config, "rs-4-2", 6).await;
    let threads = Cpu::Threads(std::num::NonZeroUsize::new(2).unwrap());
    std::sync::Arc::get_mut(&mut c.gw).unwrap().cpu = crate::cpu::CpuPool::start(threads).unwrap();
    let bytes = noise(4, 30 << 20);
    c.put("k", &bytes).await.unwrap();
    assert_eq!(c.get("k").await.unwrap(), bytes);
    let reads = c.storage.counts().1;
    assert_eq!(c.get("k").await.unwrap(), bytes);
    assert_eq!(c.storage.counts().1, reads, "the second read comes from the cache");
}
