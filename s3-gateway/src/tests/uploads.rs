//! Multipart uploads.

use bytes::Bytes;
use md5::{Digest as _, Md5};
use stele_rpc::meta::Origin;
use stele_types::object::{Checksum, ChecksumAlgorithm, ChecksumType, Part, Precondition, StoredHeaders, Tags, Upload};

use super::{Cluster, body_in_pieces, cluster, noise};
use crate::api::{BodyRequest, ByteRange, CompleteRequest, CreateUploadRequest, ListedPart, PartRequest, UploadRef};
use crate::digests::checksum_of;
use crate::error::GatewayError;
use crate::list::list_parts;
use crate::multipart::{abort_upload, complete_upload, create_upload, upload_part};

async fn create(c: &Cluster, checksum: Option<(ChecksumAlgorithm, ChecksumType)>) -> Upload {
    let request = CreateUploadRequest {
        bucket: "b".into(),
        key: "k".into(),
        headers: StoredHeaders { content_type: Some("text/plain".into()), ..Default::default() },
        tags: Tags::default(),
        checksum,
        origin: Origin::default(),
    };
    create_upload(&c.gw, request).await.unwrap()
}

fn at(upload: &Upload) -> UploadRef {
    UploadRef { bucket: "b".into(), key: "k".into(), upload: upload.id }
}

async fn part(c: &Cluster, upload: &Upload, number: u16, bytes: &Bytes) -> Part {
    let body = body_in_pieces(bytes, 300_000);
    upload_part(&c.gw, PartRequest { upload: at(upload), number, body, origin: Origin::default() }).await.unwrap()
}

fn complete(upload: &Upload, parts: &[&Part]) -> CompleteRequest {
    let listed = |p: &&Part| ListedPart { number: p.number, etag: p.etag.to_string(), checksums: Vec::new() };
    CompleteRequest {
        upload: at(upload),
        parts: parts.iter().map(listed).collect(),
        declared_len: None,
        checksums: Vec::new(),
        precondition: Precondition::None,
        origin: Origin::default(),
    }
}

#[tokio::test(start_paused = true)]
async fn parts_become_one_object_with_composite_etag_and_checksum() {
    let c = cluster().await;
    let lens = [5 << 20, 11 << 20, (5 << 20) + 17, 3];
    let whole: Vec<Bytes> = lens.iter().zip(0..).map(|(len, n)| noise(n, *len)).collect();
    let bytes = Bytes::from(whole.concat());
    for (algorithm, kind) in [
        (ChecksumAlgorithm::Crc64Nvme, ChecksumType::FullObject),
        (ChecksumAlgorithm::Crc32c, ChecksumType::FullObject),
        (ChecksumAlgorithm::Crc32, ChecksumType::Composite),
        (ChecksumAlgorithm::Sha256, ChecksumType::Composite),
    ] {
        let upload = create(&c, Some((algorithm, kind))).await;
        let mut parts = Vec::new();
        for (n, piece) in whole.iter().enumerate() {
            // Numbers with gaps, and each uploaded twice: the last one counts.
            part(&c, &upload, n as u16 * 3 + 1, &noise(77, 10)).await;
            parts.push(part(&c, &upload, n as u16 * 3 + 1, piece).await);
        }
        part(&c, &upload, 100, &noise(78, 10)).await;
        let page = list_parts(&c.gw, &at(&upload), 1, 2).await.unwrap();
        assert_eq!((page.parts.len(), page.truncated), (2, true));

        let done = complete_upload(&c.gw, complete(&upload, &parts.iter().collect::<Vec<_>>())).await.unwrap();
        let mut md5s = Md5::new();
        whole.iter().for_each(|piece| md5s.update(Md5::digest(piece)));
        assert_eq!(done.attributes.etag.to_string(), format!("{}-4", hex::encode(md5s.finalize())));
        let sums: Vec<Bytes> = whole.iter().map(|piece| checksum_of(algorithm, piece)).collect();
        let value = match kind {
            ChecksumType::FullObject => checksum_of(algorithm, &bytes),
            ChecksumType::Composite => checksum_of(algorithm, &sums.concat()),
        };
        assert_eq!(done.attributes.checksums, [Checksum { algorithm, kind, value }]);
        assert_eq!(c.get("k").await.unwrap(), bytes);
        assert_eq!(c.get_range("k", Some(ByteRange::Part(2))).await.unwrap(), whole[1]);
        assert!(matches!(list_parts(&c.gw, &at(&upload), 0, 10).await, Err(GatewayError::NoSuchUpload)));
    }
}

#[tokio::test(start_paused = true)]
async fn one_small_part_is_enough_and_its_manifest_stays_inline() {
    let c = cluster().await;
    let upload = create(&c, None).await;
    let bytes = noise(1, 1000);
    let only = part(&c, &upload, 7, &bytes).await;
    let done = complete_upload(&c.gw, complete(&upload, &[&only])).await.unwrap();
    assert_eq!(done.attributes.part_lens, [1000]);
    let again = complete_upload(&c.gw, complete(&upload, &[&only])).await.unwrap();
    assert_eq!(again, done, "a repeated Complete is answered from the first");
    assert_eq!(c.get("k").await.unwrap(), bytes);
}

#[tokio::test(start_paused = true)]
async fn wrong_lists_are_refused_and_the_upload_stays() {
    let c = cluster().await;
    let upload = create(&c, Some((ChecksumAlgorithm::Crc32, ChecksumType::FullObject))).await;
    let small = part(&c, &upload, 1, &noise(1, 100)).await;
    let last = part(&c, &upload, 2, &noise(2, 100)).await;
    let refuse = async |request: CompleteRequest| complete_upload(&c.gw, request).await.unwrap_err();
    assert!(matches!(refuse(complete(&upload, &[])).await, GatewayError::InvalidArgument { .. }));
    assert!(matches!(refuse(complete(&upload, &[&last, &small])).await, GatewayError::InvalidPartOrder));
    let error = refuse(complete(&upload, &[&small, &last])).await;
    assert!(matches!(error, GatewayError::PartTooSmall { number: 1, len: 100, .. }));
    let absent = Part { number: 3, ..last.clone() };
    let error = refuse(complete(&upload, &[&absent])).await;
    assert!(matches!(error, GatewayError::InvalidPart { number: 3, .. }));
    let other = Part { etag: small.etag, ..last.clone() };
    let error = refuse(complete(&upload, &[&other])).await;
    assert!(matches!(error, GatewayError::InvalidPart { number: 2, .. }));
    let wrong_len = CompleteRequest { declared_len: Some(99), ..complete(&upload, &[&last]) };
    assert!(matches!(refuse(wrong_len).await, GatewayError::InvalidArgument { .. }));
    let wrong = Checksum {
        algorithm: ChecksumAlgorithm::Crc32,
        kind: ChecksumType::FullObject,
        value: Bytes::from_static(&[0; 4]),
    };
    let wrong_sum = CompleteRequest { checksums: vec![wrong], ..complete(&upload, &[&last]) };
    assert!(matches!(refuse(wrong_sum).await, GatewayError::DigestMismatch { .. }));
    complete_upload(&c.gw, complete(&upload, &[&last])).await.unwrap();
    assert_eq!(c.get("k").await.unwrap(), noise(2, 100));
}

#[tokio::test(start_paused = true)]
async fn an_aborted_upload_is_gone() {
    let c = cluster().await;
    let upload = create(&c, None).await;
    abort_upload(&c.gw, &at(&upload), Origin::default()).await.unwrap();
    let body = BodyRequest::from_bytes(noise(1, 10));
    let request = PartRequest { upload: at(&upload), number: 1, body, origin: Origin::default() };
    assert!(matches!(upload_part(&c.gw, request).await, Err(GatewayError::NoSuchUpload)));
    assert!(matches!(abort_upload(&c.gw, &at(&upload), Origin::default()).await, Err(GatewayError::NoSuchUpload)));
}
