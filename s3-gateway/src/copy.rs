//! CopyObject: the manifest is copied, never the bytes.
//!
//! | step | does | if we die here |
//! |---|---|---|
//! | 1 begin | a start epoch, as for a PUT | nothing |
//! | 2 resolve | the source version and every pack it needs | nothing |
//! | 3 stage | references of the new owner to those packs, at the start epoch | dropped when the fence passes the epoch |
//! | 4 confirm | the source version is still there, so its references held until ours did | as 3 |
//! | 5 digest | the checksum asked for, by reading, if the source has none of that algorithm | as 3 |
//! | 6 commit | the new version takes the staged references over, fenced by the epoch | the copy exists |
//!
//! Steps 3 and 4 are in protect.rs.

use std::sync::Arc;

use stele_rpc::meta::{Command, Committed, Contents, PutVersion, WriteGuard};
use stele_types::ids::OwnerId;
use stele_types::limits::PUT_BODY_BYTES_MAX;
use stele_types::object::{Attributes, Checksum, ChecksumType, Version};

use crate::api::{CopyReply, CopyRequest};
use crate::error::GatewayError;
use crate::fetch::{FetchError, RowBook};
use crate::gateway::Gateway;
use crate::lease::WriteStart;
use crate::protect::{Keeper, is_gone, keep, pinned, source_version};
use crate::put::{VersionIds, begin, check_headers, check_key, commit_with, new_owner, plan};
use crate::redigest::digest_stored;
use crate::walk::walk;

/// How often a copy begins anew because its source was replaced meanwhile.
const SOURCE_TRIES: usize = 4;

/// Copies one object.
///
/// # Durability
/// Ok: the copy is committed; its bytes are those of the source, which were durable before.
/// Err: nothing became visible, except that `Unavailable` may hide a commit that took place.
///
/// # Errors
/// As [`crate::get::head_object`] for the source (a condition that does not hold is
/// `PreconditionFailed`), then as [`crate::put::put_object`]; `InvalidRequest` for more than 5 GiB;
/// `Conflict` if the source keeps changing.
pub async fn copy_object(gw: &Arc<Gateway>, request: CopyRequest) -> Result<CopyReply, GatewayError> {
    check_key(&request.key)?;
    if let Some(headers) = &request.headers {
        check_headers(headers)?;
    }
    let start = begin(gw, &request.bucket).await?;
    plan(gw, &request.bucket).await?;
    for _ in 0..SOURCE_TRIES {
        let source = source_version(gw, &request.source).await?;
        if source.attributes.len > PUT_BODY_BYTES_MAX {
            let what = format!(
                "The specified copy source is larger than the maximum allowable size for a copy source: \
                 {PUT_BODY_BYTES_MAX}. Copy it in parts."
            );
            return Err(GatewayError::InvalidRequest { what });
        }
        let owner = new_owner(gw);
        if !secured(gw, &start, &request, &source, owner).await? {
            continue;
        }
        let attributes = match attributes_of(gw, &request, &source).await {
            Err(error) if is_gone(&error) => continue,
            attributes => attributes?,
        };
        let committed = commit(gw, &start, &request, (&source, attributes), owner).await?;
        return Ok(CopyReply { committed, source });
    }
    Err(GatewayError::Conflict { what: "the source of the copy keeps changing".into() })
}

/// Steps 3 and 4; `false` if the source went meanwhile.
async fn secured(
    gw: &Arc<Gateway>,
    start: &WriteStart,
    request: &CopyRequest,
    source: &Version,
    owner: OwnerId,
) -> Result<bool, GatewayError> {
    let all = 0..source.attributes.len;
    let walked = match walk(gw, &RowBook::default(), &source.attributes.root, &source.manifest, all).await {
        Err(FetchError::PackGone(_)) => return Ok(false),
        Err(FetchError::Failed(error)) => return Err(error),
        Ok(walked) => walked,
    };
    let keeper = Keeper { start, bucket: &request.bucket, origin: &request.origin, owner };
    keep(gw, &keeper, (&request.source, source.id), walked.packs()).await
}

/// Step 5, and what else the copy has of its own.
async fn attributes_of(gw: &Arc<Gateway>, request: &CopyRequest, source: &Version) -> Result<Attributes, GatewayError> {
    let mut attributes: Attributes = source.attributes.clone();
    match &request.headers {
        Some(headers) => *attributes.headers = headers.clone(),
        None => attributes.headers.website_redirect.clone_from(&request.website_redirect),
    }
    if let Some(tags) = &request.tags {
        attributes.tags = tags.clone();
    }
    if let Some(algorithm) = request.checksum {
        let serves = |checksum: &Checksum| checksum.algorithm == algorithm && checksum.kind == ChecksumType::FullObject;
        if attributes.checksums.iter().any(serves) {
            attributes.checksums.retain(serves);
        } else {
            let read = digest_stored(gw, pinned(&request.source, source.id), &[algorithm]).await?;
            attributes.checksums = read.all();
        }
        // They belong to a checksum that the copy does not have.
        attributes.part_checksums.clear();
    }
    Ok(attributes)
}

async fn commit(
    gw: &Gateway,
    start: &WriteStart,
    request: &CopyRequest,
    (source, attributes): (&Version, Attributes),
    owner: OwnerId,
) -> Result<Committed, GatewayError> {
    let ids = VersionIds::draw(gw);
    let make = |guard: WriteGuard| {
        Command::PutVersion(Box::new(PutVersion {
            guard,
            key: request.key.clone(),
            nonce: ids.nonce,
            salt: ids.salt,
            replaced_salt: ids.replaced_salt,
            precondition: request.precondition.clone(),
            attributes: attributes.clone(),
            // Staged ahead, so none is given again.
            contents: Contents { owner, manifest: source.manifest.clone(), packs: Vec::new() },
            lock: request.lock,
        }))
    };
    commit_with(gw, &request.bucket, start, request.origin.clone(), make).await
}
