//! Reads of configuration that nobody can set yet: the well-formed answer of a bucket without it.
//! Clients ask these before they do anything else. The matching writes are 501.

use s3s::dto::{
    GetBucketAclInput, GetBucketAclOutput, GetObjectAclInput, GetObjectAclOutput, Grant, Grantee, Permission, Type,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

use super::buckets::requester;
use super::objects::version_selector;
use super::{S3Edge, fail};
use crate::api::GetRequest;

/// Fails with NoSuchBucket, or else with the given "not configured" error.
pub(super) async fn not_configured<T, O>(
    edge: &S3Edge,
    req: &S3Request<T>,
    bucket: &str,
    error: S3Error,
) -> S3Result<S3Response<O>> {
    crate::bucket::head_bucket(&edge.gateway, bucket).await.map_err(|e| fail(req, e))?;
    Err(error)
}

fn owner_grants<T>(req: &S3Request<T>) -> Vec<Grant> {
    let owner = requester(req);
    vec![Grant {
        grantee: Some(Grantee {
            display_name: owner.display_name,
            email_address: None,
            id: owner.id,
            type_: Type::from_static(Type::CANONICAL_USER),
            uri: None,
        }),
        permission: Some(Permission::from_static(Permission::FULL_CONTROL)),
    }]
}

pub(super) async fn bucket_acl(
    edge: &S3Edge,
    req: S3Request<GetBucketAclInput>,
) -> S3Result<S3Response<GetBucketAclOutput>> {
    crate::bucket::head_bucket(&edge.gateway, &req.input.bucket).await.map_err(|e| fail(&req, e))?;
    Ok(S3Response::new(GetBucketAclOutput { grants: Some(owner_grants(&req)), owner: Some(requester(&req)) }))
}

pub(super) async fn object_acl(
    edge: &S3Edge,
    req: S3Request<GetObjectAclInput>,
) -> S3Result<S3Response<GetObjectAclOutput>> {
    let mut request = GetRequest::current(req.input.bucket.clone(), req.input.key.clone());
    request.version = version_selector(req.input.version_id.as_deref())?;
    crate::get::head_object(&edge.gateway, request).await.map_err(|e| fail(&req, e))?;
    Ok(S3Response::new(GetObjectAclOutput {
        grants: Some(owner_grants(&req)),
        owner: Some(requester(&req)),
        ..GetObjectAclOutput::default()
    }))
}

/// Errors of configuration that is not there.
pub(super) fn no_lifecycle() -> S3Error {
    s3_error!(NoSuchLifecycleConfiguration, "The lifecycle configuration does not exist.")
}
pub(super) fn no_policy() -> S3Error {
    s3_error!(NoSuchBucketPolicy, "The bucket policy does not exist.")
}
pub(super) fn no_encryption() -> S3Error {
    let message = "The server side encryption configuration was not found.";
    let mut error = s3_error!(ServerSideEncryptionConfigurationNotFoundError, "{}", message);
    error.set_status_code(http::StatusCode::NOT_FOUND);
    error
}
