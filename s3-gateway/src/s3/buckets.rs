//! ListBuckets, CreateBucket, HeadBucket, DeleteBucket, GetBucketLocation.

use http::{HeaderValue, StatusCode};
use s3s::dto::{
    Bucket, CreateBucketInput, CreateBucketOutput, DeleteBucketInput, DeleteBucketOutput, GetBucketLocationInput,
    GetBucketLocationOutput, HeadBucketInput, HeadBucketOutput, ListBucketsInput, ListBucketsOutput, Owner,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};
use stele_types::limits::LIST_PAGE_MAX;
use stele_types::object::BucketRow;

use super::headers::timestamp;
use super::listing::{in_answer, token, token_after};
use super::unsupported::{canned_acl, refuse};
use super::{S3Edge, fail, origin};
use crate::api::GatewayError;

/// The region in whose name S3 answers with an empty location.
const DEFAULT_REGION: &str = "us-east-1";

pub(super) fn owner(access_key: &str) -> Owner {
    Owner { id: Some(access_key.to_owned()), display_name: Some(access_key.to_owned()) }
}

pub(super) fn requester<T>(req: &S3Request<T>) -> Owner {
    owner(req.credentials.as_ref().map_or("", |c| c.access_key.as_str()))
}

pub(super) async fn list(edge: &S3Edge, req: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
    let max = match req.input.max_buckets {
        None => u32::MAX,
        Some(max) => u32::try_from(max)
            .ok()
            .filter(|max| (1..=10_000).contains(max))
            .ok_or_else(|| s3_error!(InvalidArgument, "max-buckets must be between 1 and 10000."))?,
    };
    let input = &req.input;
    if input.prefix.as_deref().is_some_and(|prefix| in_answer(prefix).is_none()) {
        return Err(s3_error!(InvalidArgument, "The prefix has characters that no bucket's name has."));
    }
    // All buckets are in this region.
    let elsewhere = input.bucket_region.as_deref().is_some_and(|region| region != edge.region.as_ref());
    let (found, next) = if elsewhere { (Vec::new(), None) } else { pages(edge, &req, max).await? };
    let asked = input.bucket_region.is_some() || input.prefix.is_some() || input.max_buckets.is_some();
    let buckets = found.into_iter().map(|bucket| Bucket {
        name: Some(bucket.name),
        creation_date: Some(timestamp(bucket.created)),
        // S3 tells the region only to those who use a parameter.
        bucket_region: (asked || input.continuation_token.is_some()).then(|| edge.region.to_string()),
        ..Bucket::default()
    });
    Ok(S3Response::new(ListBucketsOutput {
        buckets: Some(buckets.collect()),
        owner: Some(requester(&req)),
        continuation_token: next.as_deref().map(token),
        prefix: input.prefix.clone(),
    }))
}

/// The metadata service answers in bounded pages; S3 promises all buckets unless asked for fewer. Returns the last
/// name too, if there are more.
async fn pages(
    edge: &S3Edge,
    req: &S3Request<ListBucketsInput>,
    max: u32,
) -> S3Result<(Vec<BucketRow>, Option<String>)> {
    let prefix = req.input.prefix.clone().unwrap_or_default();
    let given = req.input.continuation_token.as_deref().filter(|token| !token.is_empty());
    let mut after = given.map(token_after).transpose()?;
    let mut buckets = Vec::new();
    loop {
        let wanted = max.saturating_sub(u32::try_from(buckets.len()).unwrap_or(u32::MAX));
        let page_max = wanted.min(u32::try_from(LIST_PAGE_MAX).unwrap_or(u32::MAX));
        let page = crate::bucket::list_buckets(&edge.gateway, &prefix, after.as_deref(), page_max).await;
        let page = page.map_err(|e| fail(req, e))?;
        buckets.extend(page.rows);
        if !page.truncated || page.next_after.is_none() {
            return Ok((buckets, None));
        }
        if buckets.len() >= usize::try_from(max).unwrap_or(usize::MAX) {
            return Ok((buckets, page.next_after));
        }
        after = page.next_after;
    }
}

pub(super) async fn create(
    edge: &S3Edge,
    req: S3Request<CreateBucketInput>,
) -> S3Result<S3Response<CreateBucketOutput>> {
    canned_acl(req.input.acl.as_ref().map(|acl| acl.as_str()))?;
    refuse(req.input.grant_full_control.as_ref(), "An access grant")?;
    refuse(req.input.grant_read.as_ref(), "An access grant")?;
    refuse(req.input.grant_read_acp.as_ref(), "An access grant")?;
    refuse(req.input.grant_write.as_ref(), "An access grant")?;
    refuse(req.input.grant_write_acp.as_ref(), "An access grant")?;
    let lock = req.input.object_lock_enabled_for_bucket == Some(true);
    let made = crate::bucket::create_bucket(&edge.gateway, &req.input.bucket, lock, origin(edge, &req)).await;
    match made {
        Ok(_) => {}
        // In the default region S3 answers the owner's repeated CreateBucket with 200. Where that asks for
        // object lock, a bucket without is not what it asks for.
        Err(GatewayError::BucketAlreadyOwned) if edge.region.as_ref() == DEFAULT_REGION => {
            let row = crate::bucket::head_bucket(&edge.gateway, &req.input.bucket).await.map_err(|e| fail(&req, e))?;
            if lock && row.object_lock.is_none() {
                return Err(fail(&req, GatewayError::BucketAlreadyOwned));
            }
        }
        Err(error) => return Err(fail(&req, error)),
    }
    Ok(S3Response::new(CreateBucketOutput {
        location: Some(format!("/{}", req.input.bucket)),
        ..CreateBucketOutput::default()
    }))
}

pub(super) async fn head(edge: &S3Edge, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
    crate::bucket::head_bucket(&edge.gateway, &req.input.bucket).await.map_err(|e| fail(&req, e))?;
    let mut response = S3Response::new(HeadBucketOutput::default());
    if let Ok(region) = HeaderValue::from_str(&edge.region) {
        response.headers.insert("x-amz-bucket-region", region);
    }
    Ok(response)
}

pub(super) async fn delete(
    edge: &S3Edge,
    req: S3Request<DeleteBucketInput>,
) -> S3Result<S3Response<DeleteBucketOutput>> {
    let deleted = crate::bucket::delete_bucket(&edge.gateway, &req.input.bucket, origin(edge, &req)).await;
    deleted.map_err(|e| fail(&req, e))?;
    let mut response = S3Response::new(DeleteBucketOutput::default());
    response.status = Some(StatusCode::NO_CONTENT);
    Ok(response)
}

pub(super) async fn location(
    edge: &S3Edge,
    req: S3Request<GetBucketLocationInput>,
) -> S3Result<S3Response<GetBucketLocationOutput>> {
    crate::bucket::head_bucket(&edge.gateway, &req.input.bucket).await.map_err(|e| fail(&req, e))?;
    let region = edge.region.as_ref();
    let constraint = (region != DEFAULT_REGION).then(|| s3s::dto::BucketLocationConstraint::from(region.to_owned()));
    Ok(S3Response::new(GetBucketLocationOutput { location_constraint: constraint }))
}
