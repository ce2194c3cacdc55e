//! Reads of bucket configuration that can't be set here: the well-formed answer of a bucket that never had it, as
//! SDKs, Terraform and inventory tools ask for all of these. The matching writes are 501 and change nothing.

use http::StatusCode;
use s3s::dto::{
    GetBucketOwnershipControlsOutput, GetBucketRequestPaymentOutput, ListBucketAnalyticsConfigurationsOutput,
    ListBucketIntelligentTieringConfigurationsOutput, ListBucketInventoryConfigurationsOutput,
    ListBucketMetricsConfigurationsOutput, ObjectOwnership, OwnershipControls, OwnershipControlsRule, Payer,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::errors::custom;
use super::{S3Edge, fail};

/// Fails with NoSuchBucket, or else gives the answer.
pub(super) async fn answer<T, O>(
    edge: &S3Edge,
    req: &S3Request<T>,
    bucket: &str,
    output: O,
) -> S3Result<S3Response<O>> {
    crate::bucket::head_bucket(&edge.gateway, bucket).await.map_err(|e| fail(req, e))?;
    Ok(S3Response::new(output))
}

/// The bucket's owner pays; nobody else could.
pub(super) fn owner_pays() -> GetBucketRequestPaymentOutput {
    GetBucketRequestPaymentOutput { payer: Some(Payer::from_static(Payer::BUCKET_OWNER)) }
}

/// ACLs don't count: the bucket's owner owns every object.
pub(super) fn owner_enforced() -> GetBucketOwnershipControlsOutput {
    let enforced = ObjectOwnership::from_static(ObjectOwnership::BUCKET_OWNER_ENFORCED);
    let rules = vec![OwnershipControlsRule { object_ownership: enforced }];
    GetBucketOwnershipControlsOutput { ownership_controls: Some(OwnershipControls { rules }) }
}

pub(super) fn no_inventories() -> ListBucketInventoryConfigurationsOutput {
    ListBucketInventoryConfigurationsOutput { is_truncated: Some(false), ..Default::default() }
}
pub(super) fn no_analytics() -> ListBucketAnalyticsConfigurationsOutput {
    ListBucketAnalyticsConfigurationsOutput { is_truncated: Some(false), ..Default::default() }
}
pub(super) fn no_metrics() -> ListBucketMetricsConfigurationsOutput {
    ListBucketMetricsConfigurationsOutput { is_truncated: Some(false), ..Default::default() }
}
pub(super) fn no_tierings() -> ListBucketIntelligentTieringConfigurationsOutput {
    ListBucketIntelligentTieringConfigurationsOutput { is_truncated: Some(false), ..Default::default() }
}

fn absent(code: S3ErrorCode, message: &'static str) -> S3Error {
    let mut error = S3Error::with_message(code, message);
    error.set_status_code(StatusCode::NOT_FOUND);
    error
}

/// Errors of configuration that is not there.
pub(super) fn no_website() -> S3Error {
    absent(S3ErrorCode::NoSuchWebsiteConfiguration, "The specified bucket does not have a website configuration.")
}
pub(super) fn no_replication() -> S3Error {
    absent(S3ErrorCode::ReplicationConfigurationNotFoundError, "The replication configuration was not found.")
}
pub(super) fn no_public_access_block() -> S3Error {
    let message = "The public access block configuration was not found.";
    custom("NoSuchPublicAccessBlockConfiguration", StatusCode::NOT_FOUND, message)
}
pub(super) fn no_such_configuration() -> S3Error {
    custom("NoSuchConfiguration", StatusCode::NOT_FOUND, "The specified configuration does not exist.")
}
