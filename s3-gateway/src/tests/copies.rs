//! Copies of objects and into parts: what comes out, and that no bytes move.

use std::collections::BTreeSet;

use bytes::Bytes;
use md5::{Digest as _, Md5};
use stele_rpc::meta::{Origin, VersionSelector};
use stele_types::ids::PackId;
use stele_types::object::{ChecksumAlgorithm, ChecksumType, ETag, Part, Upload};

use super::uploads::{at, complete, create, part};
use super::{Cluster, cluster, noise};
use crate::api::{ByteRange, EtagCondition, GetRequest, PartCopyRequest, ReadConditions};
use crate::digests::checksum_of;
use crate::error::GatewayError;
use crate::get::head_object;
use crate::multipart::{complete_upload, copy_part};

fn request(upload: &Upload, number: u16, key: &str, range: Option<(u64, u64)>) -> PartCopyRequest {
    PartCopyRequest {
        upload: at(upload),
        number,
        source: GetRequest::current("b", key),
        range,
        origin: Origin::default(),
    }
}

async fn copied(c: &Cluster, upload: &Upload, number: u16, key: &str, range: Option<(u64, u64)>) -> Part {
    copy_part(&c.gw, request(upload, number, key, range)).await.unwrap().part
}

async fn packs_of(c: &Cluster, key: &str) -> BTreeSet<PackId> {
    let owner = head_object(&c.gw, GetRequest::current("b", key)).await.unwrap().version.owner;
    c.meta.references_of(owner)
}

#[tokio::test(start_paused = true)]
async fn a_whole_object_becomes_a_part_and_nothing_is_written_or_read() {
    let c = cluster().await;
    for (len, paged) in [(1usize, false), (300_000, false), (40 << 20, true)] {
        let bytes = noise(1, len);
        c.put("source", &bytes).await.unwrap();
        let upload = create(&c, None).await;
        let before = c.storage.counts();
        let part = copied(&c, &upload, 3, "source", None).await;
        let after = c.storage.counts();
        assert_eq!(after.0, before.0, "nothing was written");
        assert_eq!(after.1 > before.1, paged, "at most pages were read");
        assert_eq!(part.etag, ETag { md5: u128::from_be_bytes(Md5::digest(&bytes).into()), parts: 0 });
        assert_eq!(c.meta.references_of(part.owner), packs_of(&c, "source").await);
        complete_upload(&c.gw, complete(&upload, &[&part])).await.unwrap();
        assert_eq!(c.get("k").await.unwrap(), bytes);
    }
}

#[tokio::test(start_paused = true)]
async fn a_range_refers_to_whole_chunks_and_stores_its_ends() {
    let c = cluster().await;
    let bytes = noise(2, 40 << 20);
    c.put("source", &bytes).await.unwrap();
    let total = bytes.len() as u64;
    let ranges = [
        (0, total - 1),
        (0, 0),
        (total - 1, total - 1),
        (1, total - 2),
        (7 << 20, 20 << 20),
        (100_000, 100_010),
        (3, 9_000_000),
    ];
    for (first, last) in ranges {
        let upload = create(&c, None).await;
        let before = c.storage.counts().0;
        let part = copied(&c, &upload, 1, "source", Some((first, last))).await;
        let wanted = bytes.slice(first as usize..=last as usize);
        assert_eq!(part.len, wanted.len() as u64);
        // At most one pack, for two pieces and a page: six shards.
        assert!(c.storage.counts().0 - before <= 6, "{first}-{last}");
        complete_upload(&c.gw, complete(&upload, &[&part])).await.unwrap();
        assert_eq!(c.get("k").await.unwrap(), wanted, "{first}-{last}");
        // Packs of which only a piece was taken are not held.
        let (ours, theirs) = (packs_of(&c, "k").await, packs_of(&c, "source").await);
        if last - first < 100 {
            assert!(ours.is_disjoint(&theirs), "{first}-{last}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn parts_from_several_objects_and_the_client_make_one_object() {
    let c = cluster().await;
    let (a, b, own) = (noise(3, 6 << 20), noise(4, 30 << 20), noise(5, 5 << 20));
    c.put("a", &a).await.unwrap();
    c.put("b", &b).await.unwrap();
    let upload = create(&c, None).await;
    let parts = [
        copied(&c, &upload, 1, "b", Some((1 << 20, (20 << 20) + 12))).await,
        part(&c, &upload, 2, &own).await,
        copied(&c, &upload, 3, "a", None).await,
        copied(&c, &upload, 4, "a", Some((0, 99))).await,
    ];
    let done = complete_upload(&c.gw, complete(&upload, &parts.iter().collect::<Vec<_>>())).await.unwrap();
    let whole = [&b[1 << 20..=(20 << 20) + 12], &own, &a, &a[..100]].concat();
    assert_eq!(c.get("k").await.unwrap(), whole);
    assert_eq!(c.get_range("k", Some(ByteRange::Part(4))).await.unwrap(), a[..100]);
    assert!(done.attributes.checksums.is_empty(), "no checksum where a part has none");
    assert_eq!(done.attributes.etag.parts, 4);
}

#[tokio::test(start_paused = true)]
async fn an_object_of_more_chunks_than_a_page_holds_is_copied_whole_and_in_ranges() {
    let c = cluster().await;
    let bytes = noise(6, 6 << 20);
    c.put("source", &bytes).await.unwrap();
    let upload = create(&c, None).await;
    let mut parts = Vec::new();
    for number in 1..=300 {
        parts.push(copied(&c, &upload, number, "source", None).await);
    }
    complete_upload(&c.gw, complete(&upload, &parts.iter().collect::<Vec<_>>())).await.unwrap();
    let big = head_object(&c.gw, GetRequest::current("b", "k")).await.unwrap().version;
    assert!(big.manifest.chunks() > 1024, "{}", big.manifest.chunks());

    let upload = create(&c, None).await;
    let (first, last) = ((6 << 20) * 3 + 5, (6 << 20) * 297 + 77);
    let part = copied(&c, &upload, 1, "k", Some((first, last))).await;
    complete_upload(&c.gw, complete(&upload, &[&part])).await.unwrap();
    let whole = bytes.repeat(298);
    let read = async |first: u64, len: u64| {
        c.get_range("k", Some(ByteRange::From { first, last: Some(first + len - 1) })).await.unwrap()
    };
    let wanted = |from: u64, len: u64| &whole[(first + from) as usize..(first + from + len) as usize];
    for from in [0, (6 << 20) * 100 - 9, last - first - 99] {
        assert_eq!(read(from, 100).await, wanted(from, 100), "{from}");
    }
}

#[tokio::test(start_paused = true)]
async fn checksums_of_a_copied_part_are_known_or_read_and_never_guessed() {
    let c = cluster().await;
    let bytes = noise(7, 12 << 20);
    let body = crate::api::BodyRequest {
        compute: vec![ChecksumAlgorithm::Crc64Nvme],
        ..crate::api::BodyRequest::from_bytes(bytes.clone())
    };
    crate::put::put_object(&c.gw, super::put_request("source", body)).await.unwrap();
    for (algorithm, kind, range, reads) in [
        (ChecksumAlgorithm::Crc64Nvme, ChecksumType::FullObject, None, false),
        (ChecksumAlgorithm::Crc32c, ChecksumType::FullObject, None, true),
        (ChecksumAlgorithm::Sha256, ChecksumType::Composite, Some((5, 6_000_000)), true),
        (ChecksumAlgorithm::Crc64Nvme, ChecksumType::FullObject, Some((1, 9_000_000)), true),
    ] {
        let upload = create(&c, Some((algorithm, kind))).await;
        let before = c.gw.metrics.bytes_out.get();
        let part = copied(&c, &upload, 1, "source", range).await;
        let (first, last) = range.unwrap_or((0, bytes.len() as u64 - 1));
        let slice = bytes.slice(first as usize..=last as usize);
        assert_eq!(part.checksums.len(), 1);
        assert_eq!(part.checksums[0].value, checksum_of(algorithm, &slice));
        assert_eq!(c.gw.metrics.bytes_out.get() > before, reads, "{algorithm:?}");
        // Whoever reads knows the MD5 too; and that of the whole was known.
        assert_eq!(part.etag.md5, u128::from_be_bytes(Md5::digest(&slice).into()));
        let done = complete_upload(&c.gw, complete(&upload, &[&part])).await.unwrap();
        assert_eq!(done.attributes.checksums[0].kind, kind);
    }
}

#[tokio::test(start_paused = true)]
async fn the_tag_of_a_part_that_was_not_read_depends_on_its_bytes_alone() {
    let c = cluster().await;
    let bytes = noise(8, 12 << 20);
    c.put("source", &bytes).await.unwrap();
    c.put("twin", &bytes).await.unwrap();
    let upload = create(&c, None).await;
    let one = copied(&c, &upload, 1, "source", Some((5, 6_000_000))).await;
    let same = copied(&c, &upload, 2, "twin", Some((5, 6_000_000))).await;
    let other = copied(&c, &upload, 3, "source", Some((6, 6_000_000))).await;
    assert_eq!(one.etag, same.etag);
    assert_ne!(one.etag, other.etag);
    assert_eq!(one.etag.to_string().len(), 32);
}

#[tokio::test(start_paused = true)]
async fn wrong_ranges_conditions_and_sources_are_refused() {
    let c = cluster().await;
    let put = c.put("source", &noise(9, 1000)).await.unwrap();
    let upload = create(&c, None).await;
    let refuse = async |request: PartCopyRequest| copy_part(&c.gw, request).await.unwrap_err();
    for range in [(0, 1000), (1000, 1000), (5, 4)] {
        let error = refuse(request(&upload, 1, "source", Some(range))).await;
        assert!(matches!(error, GatewayError::InvalidArgument { .. }), "{range:?}: {error}");
    }
    assert!(matches!(refuse(request(&upload, 1, "absent", None)).await, GatewayError::NoSuchKey { .. }));
    assert!(matches!(refuse(request(&upload, 0, "source", None)).await, GatewayError::InvalidArgument { .. }));
    let mut of_version = request(&upload, 1, "source", None);
    of_version.source.version = VersionSelector::Id(stele_types::ids::VersionId { nonce: 0, ..put.id });
    assert!(matches!(refuse(of_version).await, GatewayError::NoSuchVersion));
    let tag = || Some(EtagCondition::Tags(vec![put.attributes.etag.to_string()]));
    let with = |conditions| {
        let mut request = request(&upload, 1, "source", None);
        request.source.conditions = conditions;
        request
    };
    let none = ReadConditions::default;
    for conditions in [
        ReadConditions { if_none_match: tag(), ..none() },
        ReadConditions { if_match: Some(EtagCondition::Tags(vec!["x".into()])), ..none() },
        ReadConditions { if_unmodified_since: Some(0), if_none_match: tag(), ..none() },
    ] {
        assert!(matches!(refuse(with(conditions)).await, GatewayError::PreconditionFailed));
    }
    // A true If-Match wins over the date.
    copy_part(&c.gw, with(ReadConditions { if_match: tag(), if_unmodified_since: Some(0), ..none() })).await.unwrap();
    let gone = Upload { id: stele_types::ids::UploadId::from_bytes([9; 16]), ..upload.clone() };
    assert!(matches!(refuse(request(&gone, 1, "source", None)).await, GatewayError::NoSuchUpload));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_goes_under_a_copy_is_replaced_by_the_newer_one() {
    let c = cluster().await;
    for range in [None, Some((10, 6_000_000))] {
        c.put("source", &noise(10, 9 << 20)).await.unwrap();
        let newer: Bytes = noise(11, 8 << 20);
        c.put("newer", &newer).await.unwrap();
        let upload = create(&c, None).await;
        c.meta.overtake("source", "newer");
        let part = copied(&c, &upload, 1, "source", range).await;
        complete_upload(&c.gw, complete(&upload, &[&part])).await.unwrap();
        let (first, last) = range.unwrap_or((0, newer.len() as u64 - 1));
        assert_eq!(c.get("k").await.unwrap(), newer.slice(first as usize..=last as usize));
    }
}
