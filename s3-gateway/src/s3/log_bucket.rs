//! The bucket of the store's own, which holds archives of the evidence log. Clients read it, like any other bucket; they
//! never change it. Beside its objects it has the log itself, in the format of C2SP tlog-tiles, by names that are not listed.

use std::sync::Arc;

use md5::{Digest as _, Md5};
use s3s::path::S3Path;
use s3s::{S3Result, s3_error};
use stele_rpc::meta::{LOG_BUCKET, VersionSelector};
use stele_types::ids::{CommitSeq, ObjectRoot, OwnerId, VersionId};
use stele_types::manifest::Manifest;
use stele_types::object::{Attributes, ETag, Lock, StoredHeaders, Tags, Version};

use super::errors::to_s3;
use crate::api::{GetReply, GetRequest, HeadReply};
use crate::body_out::ready;
use crate::bucket::{head_bucket, lately};
use crate::conditions::{check_conditions, resolve_range};
use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::log_archive::PRINCIPAL;
use crate::log_archive::pages::{Found, LogSource, find, head, is_page};

/// Whether an operation only reads. Whatever is called otherwise is taken for one that writes.
fn reads(operation: &str) -> bool {
    ["Get", "Head", "List"].iter().any(|verb| operation.starts_with(verb))
}

/// Decides about an operation on a path.
///
/// # Errors
/// It would change the store's own bucket. A client's bucket of that name, older than archives are, stays the client's.
pub(super) async fn admit(gw: &Gateway, operation: &str, path: &S3Path) -> S3Result<()> {
    if path.get_bucket_name() != Some(LOG_BUCKET) || reads(operation) {
        return Ok(());
    }
    match head_bucket(gw, LOG_BUCKET).await {
        Ok(row) if row.owner != PRINCIPAL => Ok(()),
        Ok(_) | Err(GatewayError::NoSuchBucket { .. }) => {
            Err(s3_error!(AccessDenied, "bucket {} belongs to the store: it can only be read", LOG_BUCKET))
        }
        Err(error) => Err(to_s3(error, "")),
    }
}

/// What the log has by this name, as if it were an object; `None` if no page has such a name.
pub(super) async fn page(gw: &Arc<Gateway>, asked: &GetRequest) -> Result<Option<GetReply>, GatewayError> {
    if asked.bucket != LOG_BUCKET || asked.version != VersionSelector::Current || !is_page(&asked.key) {
        return Ok(None);
    }
    match lately(gw, LOG_BUCKET).await {
        Ok(row) if row.owner != PRINCIPAL => return Ok(None),
        // The log is there before its bucket is.
        Ok(_) | Err(GatewayError::NoSuchBucket { .. }) => {}
        Err(error) => return Err(error),
    }
    let log = LogSource::Gateway(Arc::clone(gw));
    let found = find(&log, &asked.key).await?;
    let (kind, cached) = found.headers();
    let (Found::Text(bytes) | Found::Tile(bytes)) = found else { return Err(GatewayError::NoSuchKey { marker: None }) };
    let modified = head(&log).await?.checkpoint.map_or(0, |checkpoint| checkpoint.time);
    let version = Version {
        id: VersionId { commit_seq: CommitSeq(0), nonce: 0 },
        null_version: true,
        delete_marker: false,
        modified,
        owner: OwnerId::from_bytes([0; 16]),
        attributes: attributes(&bytes, (kind, cached)),
        manifest: Manifest::Inline(Vec::new()),
        log_index: stele_types::ids::LogIndex(0),
        lock: Lock::default(),
    };
    check_conditions(&asked.conditions, &version)?;
    let range = resolve_range(asked.range, &version.attributes)?;
    let at = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    let piece = bytes.slice(at(range.first)..at(range.first.saturating_add(range.len)));
    let head = HeadReply { version: Box::new(version), latest: true, range };
    Ok(Some(GetReply { head, body: ready(vec![piece], range.len) }))
}

fn attributes(bytes: &[u8], (kind, cached): (&str, &str)) -> Attributes {
    Attributes {
        len: bytes.len() as u64,
        etag: ETag { md5: u128::from_be_bytes(Md5::digest(bytes).into()), parts: 0 },
        root: ObjectRoot::from_bytes([0; 32]),
        body_hash: None,
        checksums: Vec::new(),
        headers: Box::new(StoredHeaders {
            content_type: Some(kind.to_owned()),
            cache_control: Some(cached.to_owned()),
            ..StoredHeaders::default()
        }),
        part_lens: Vec::new(),
        tags: Tags::default(),
        part_checksums: bytes::Bytes::new(),
    }
}
