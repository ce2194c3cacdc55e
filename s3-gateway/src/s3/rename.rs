//! RenameObject.

use s3s::dto::{CopySource, RenameObjectInput, RenameObjectOutput};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::headers::committed_evidence;
use super::{S3Edge, conditions, fail, origin};
use crate::api::{EtagCondition, ReadConditions, RenameRequest};

/// The key that is renamed: the header names the bucket too, and it must be this one.
fn source_key(header: &str, bucket: &str) -> S3Result<String> {
    match CopySource::parse(header) {
        Ok(CopySource::Bucket { bucket: of, key, version_id: None }) if *of == *bucket => Ok(key.into()),
        Ok(CopySource::Bucket { version_id: None, .. }) => {
            Err(s3_error!(InvalidRequest, "An object can be renamed within its bucket only."))
        }
        _ => Err(s3_error!(InvalidArgument, "x-amz-rename-source must be bucket/key, URL-encoded.")),
    }
}

/// ETag conditions on the source come as plain text.
fn etag(text: Option<String>) -> Option<EtagCondition> {
    text.map(|text| match text.trim() {
        "*" => EtagCondition::Any,
        tag => EtagCondition::Tags(vec![tag.trim_matches('"').to_owned()]),
    })
}

pub(super) async fn rename(
    edge: &S3Edge,
    mut req: S3Request<RenameObjectInput>,
) -> S3Result<S3Response<RenameObjectOutput>> {
    let input = &mut req.input;
    let request = RenameRequest {
        bucket: input.bucket.clone(),
        source: source_key(&input.rename_source, &input.bucket)?,
        destination: input.key.clone(),
        source_conditions: ReadConditions {
            if_match: etag(input.source_if_match.take()),
            if_none_match: etag(input.source_if_none_match.take()),
            if_modified_since: conditions::millis(input.source_if_modified_since.take()),
            if_unmodified_since: conditions::millis(input.source_if_unmodified_since.take()),
        },
        destination_conditions: ReadConditions {
            if_match: conditions::read(input.destination_if_match.take()),
            if_none_match: conditions::read(input.destination_if_none_match.take()),
            if_modified_since: conditions::millis(input.destination_if_modified_since.take()),
            if_unmodified_since: conditions::millis(input.destination_if_unmodified_since.take()),
        },
        token: input.client_token.take(),
        origin: origin(edge, &req),
    };
    let committed = crate::rename::rename_object(&edge.gateway, request).await.map_err(|e| fail(&req, e))?;
    let mut response = S3Response::new(RenameObjectOutput {});
    committed_evidence(&mut response.headers, &committed);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_a_key_of_the_same_bucket() {
        assert_eq!(source_key("/bucket/a%20b%2Bc", "bucket").unwrap(), "a b+c");
        assert_eq!(source_key("bucket/x/y", "bucket").unwrap(), "x/y");
        for bad in ["other/x", "bucket", "x", "bucket/x?versionId=null", ""] {
            assert!(source_key(bad, "bucket").is_err(), "{bad}");
        }
    }
}
