//! Multipart uploads. A part is P1 to P7 of a PUT, then a part row. Complete moves no data: it joins
//! the parts' chunk lists into one manifest and commits like P8 (complete.rs).

use std::sync::Arc;

use stele_rpc::client::unexpected;
use stele_rpc::meta::{Command, MetaReply, MetaRequest, Origin};
use stele_types::ids::UploadId;
use stele_types::limits::PART_NUMBER_MAX;
use stele_types::object::{ChecksumAlgorithm, ChecksumType, Part, Upload};
use stele_types::seam::random_bytes;
use tracing::Instrument;

use crate::api::{CreateUploadRequest, PartRequest, UploadRef};
use crate::bucket::{guard_of, range_of, with_bucket};
use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::metrics::Step;
use crate::put::{Checked, admit, begin, check, check_headers, check_key, new_owner, plan, store};

pub use crate::complete::complete_upload;

/// Begins an upload.
///
/// # Durability
/// Ok: committed.
///
/// # Errors
/// `NoSuchBucket`, `InvalidArgument`, `KeyTooLong`, `MetadataTooLarge`, `Unavailable`.
pub async fn create_upload(gw: &Arc<Gateway>, request: CreateUploadRequest) -> Result<Upload, GatewayError> {
    check_key(&request.key)?;
    check_headers(&request.headers)?;
    if let Some((algorithm, kind)) = request.checksum {
        check_checksum_choice(algorithm, kind)?;
    }
    let start = begin(gw, &request.bucket).await?;
    let upload = UploadId::from_bytes(random_bytes(gw.rng.as_ref()));
    with_bucket(gw, &request.bucket, |row| {
        let command = Command::CreateUpload {
            guard: guard_of(&row, start.epoch()),
            key: request.key.clone(),
            upload,
            headers: Box::new(request.headers.clone()),
            checksum: request.checksum,
            tags: request.tags.clone(),
        };
        let origin = request.origin.clone();
        async move {
            match gw.leases.command(origin, command).await? {
                MetaReply::Upload(upload) => Ok(*upload),
                _ => Err(unexpected("no upload to its creation")),
            }
        }
    })
    .await
}

fn check_checksum_choice(algorithm: ChecksumAlgorithm, kind: ChecksumType) -> Result<(), GatewayError> {
    if algorithm.multipart(kind) {
        return Ok(());
    }
    Err(GatewayError::InvalidArgument { what: format!("{algorithm:?} can't be a {kind:?} checksum of an upload") })
}

/// Stores one part.
///
/// # Durability
/// Ok: every shard of every pack, and the part row, are on stable media.
///
/// # Errors
/// `NoSuchUpload`, and as [`crate::put::put_object`].
///
/// # Cancel
/// As [`crate::put::put_object`].
pub async fn upload_part(gw: &Arc<Gateway>, request: PartRequest) -> Result<Part, GatewayError> {
    let PartRequest { upload: at, number, mut body, origin } = request;
    if number == 0 || number > PART_NUMBER_MAX {
        let what = format!("part number {number}; it must be between 1 and {PART_NUMBER_MAX}");
        return Err(GatewayError::InvalidArgument { what });
    }
    let upload = upload_row(gw, &at).await?;
    if let Some((algorithm, _)) = upload.checksum {
        body.compute.push(algorithm);
    }
    let charge = admit(gw, &at.key, &upload.headers, &body).await?; // P1
    let start = begin(gw, &at.bucket).await?; // P2
    plan(gw, &at.bucket).await?; // P3
    let (stored, expected) = store(gw, &start, body, charge).await?; // P4, P5, P6
    let Checked { body, etag, checksums } = check(gw, stored, expected)?; // P7
    let len = body.len();
    let (manifest, packs, _under_way) = body.into_contents();
    let part = Part { number, generation: 0, modified: 0, len, etag, checksums, owner: new_owner(gw), manifest };
    let _timer = gw.metrics.time(Step::P8Commit);
    let committed = with_bucket(gw, &at.bucket, |row| {
        let command = Command::PutPart {
            guard: guard_of(&row, start.epoch()),
            key: at.key.clone(),
            upload: at.upload,
            part: Box::new(part.clone()),
            packs: packs.clone(),
        };
        let origin = origin.clone();
        async move {
            match gw.leases.command(origin, command).await? {
                MetaReply::Part(part) => Ok(*part),
                _ => Err(unexpected("no part to its commit")),
            }
        }
    });
    committed.instrument(tracing::debug_span!("put.p8_commit")).await // P8
}

async fn upload_row(gw: &Gateway, at: &UploadRef) -> Result<Upload, GatewayError> {
    with_bucket(gw, &at.bucket, |row| {
        let request = MetaRequest::Parts {
            range: range_of(&row),
            key: at.key.clone(),
            upload: at.upload,
            after: PART_NUMBER_MAX,
            max: 1,
        };
        async move {
            match gw.read(request).await? {
                MetaReply::Parts { upload, .. } => Ok(*upload),
                _ => Err(unexpected("no upload to a question for it")),
            }
        }
    })
    .await
}

/// Drops an upload and its parts.
///
/// # Durability
/// Ok: committed.
///
/// # Errors
/// `NoSuchUpload`, `NoSuchBucket`, `Unavailable`.
pub async fn abort_upload(gw: &Arc<Gateway>, at: &UploadRef, origin: Origin) -> Result<(), GatewayError> {
    let start = begin(gw, &at.bucket).await?;
    with_bucket(gw, &at.bucket, |row| {
        let guard = guard_of(&row, start.epoch());
        let command = Command::AbortUpload { guard, key: at.key.clone(), upload: at.upload };
        let origin = origin.clone();
        async move { gw.leases.command(origin, command).await.map(|_| ()) }
    })
    .await
}
