//! GetBucketVersioning, PutBucketVersioning.

use s3s::dto::{
    BucketVersioningStatus, GetBucketVersioningInput, GetBucketVersioningOutput, MFADelete, PutBucketVersioningInput,
    PutBucketVersioningOutput,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};
use stele_rpc::meta::BucketChange;
use stele_types::object::Versioning;

use super::unsupported::refuse;
use super::{S3Edge, fail, origin};

pub(super) async fn get(
    edge: &S3Edge,
    req: S3Request<GetBucketVersioningInput>,
) -> S3Result<S3Response<GetBucketVersioningOutput>> {
    let row = crate::bucket::head_bucket(&edge.gateway, &req.input.bucket).await.map_err(|e| fail(&req, e))?;
    let status = match row.versioning {
        Versioning::Unset => None,
        Versioning::Enabled => Some(BucketVersioningStatus::ENABLED),
        Versioning::Suspended => Some(BucketVersioningStatus::SUSPENDED),
    };
    let status = status.map(BucketVersioningStatus::from_static);
    Ok(S3Response::new(GetBucketVersioningOutput { status, ..GetBucketVersioningOutput::default() }))
}

pub(super) async fn put(
    edge: &S3Edge,
    req: S3Request<PutBucketVersioningInput>,
) -> S3Result<S3Response<PutBucketVersioningOutput>> {
    let wanted = &req.input.versioning_configuration;
    let mfa = wanted.mfa_delete.as_ref().filter(|mfa| mfa.as_str() != MFADelete::DISABLED);
    refuse(req.input.mfa.as_ref().map(|_| &()).or(mfa.map(|_| &())), "MFA delete")?;
    let versioning = match wanted.status.as_ref().map(BucketVersioningStatus::as_str) {
        Some(BucketVersioningStatus::ENABLED) => Versioning::Enabled,
        Some(BucketVersioningStatus::SUSPENDED) => Versioning::Suspended,
        _ => {
            let error = s3_error!(
                IllegalVersioningConfigurationException,
                "The Versioning element must have a Status of Enabled or Suspended."
            );
            return Err(error);
        }
    };
    let change = BucketChange::Versioning(versioning);
    let changed = crate::bucket::configure_bucket(&edge.gateway, &req.input.bucket, change, origin(edge, &req)).await;
    changed.map_err(|e| fail(&req, e))?;
    Ok(S3Response::new(PutBucketVersioningOutput::default()))
}
