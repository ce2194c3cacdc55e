//! Listings: one metadata read each, one page at a time.

use stele_rpc::client::unexpected;
use stele_rpc::meta::{ListPage, ListQuery, ListedKey, MetaReply, MetaRequest};
use stele_types::ids::UploadId;
use stele_types::object::Upload;

use crate::api::{PartsPage, UploadRef};
use crate::bucket::{range_of, with_bucket};
use crate::error::GatewayError;
use crate::gateway::Gateway;

/// One page of current versions by key. A page may be short and still be truncated: continue with
/// `next_after`.
///
/// # Errors
/// `NoSuchBucket`, `Unavailable`.
pub async fn list_keys(gw: &Gateway, bucket: &str, query: ListQuery) -> Result<ListPage<ListedKey>, GatewayError> {
    with_bucket(gw, bucket, |row| {
        let request = MetaRequest::List { range: range_of(&row), query: query.clone() };
        async move { keys(gw.read(request).await?) }
    })
    .await
}

/// One page of all versions and markers, newest first within a key.
///
/// # Errors
/// As [`list_keys`].
pub async fn list_versions(gw: &Gateway, bucket: &str, query: ListQuery) -> Result<ListPage<ListedKey>, GatewayError> {
    with_bucket(gw, bucket, |row| {
        let request = MetaRequest::ListVersions { range: range_of(&row), query: query.clone() };
        async move { keys(gw.read(request).await?) }
    })
    .await
}

fn keys(reply: MetaReply) -> Result<ListPage<ListedKey>, stele_rpc::error::RpcError> {
    match reply {
        MetaReply::Keys(page) => Ok(page),
        _ => Err(unexpected("no keys to a listing")),
    }
}

/// One page of uploads in progress; with `query.after` a key, `after_upload` continues inside it.
///
/// # Errors
/// As [`list_keys`].
pub async fn list_uploads(
    gw: &Gateway,
    bucket: &str,
    query: ListQuery,
    after_upload: Option<UploadId>,
) -> Result<ListPage<Upload>, GatewayError> {
    with_bucket(gw, bucket, |row| {
        let request = MetaRequest::ListUploads { range: range_of(&row), query: query.clone(), after_upload };
        async move {
            match gw.read(request).await? {
                MetaReply::Uploads(page) => Ok(page),
                _ => Err(unexpected("no uploads to a listing of uploads")),
            }
        }
    })
    .await
}

/// One page of an upload's parts, behind part number `after`.
///
/// # Errors
/// `NoSuchUpload`, and as [`list_keys`].
pub async fn list_parts(gw: &Gateway, upload: &UploadRef, after: u16, max: u32) -> Result<PartsPage, GatewayError> {
    with_bucket(gw, &upload.bucket, |row| {
        let request =
            MetaRequest::Parts { range: range_of(&row), key: upload.key.clone(), upload: upload.upload, after, max };
        async move {
            match gw.read(request).await? {
                MetaReply::Parts { upload, parts, truncated } => Ok(PartsPage { upload, parts, truncated }),
                _ => Err(unexpected("no parts to a listing of parts")),
            }
        }
    })
    .await
}
