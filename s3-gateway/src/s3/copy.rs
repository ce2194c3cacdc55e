//! CopyObject.

use s3s::dto::{CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopySource, ETag, MetadataDirective};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::checksums::set_checksums;
use super::headers::{committed_evidence, stored_headers, timestamp};
use super::objects::{checksum_type, version_selector};
use super::unsupported::{refuse, refuse_unsupported};
use super::{S3Edge, conditions, fail, origin, tagging};
use crate::api::{CopyRequest, GetRequest, ReadConditions};

/// Where the copy comes from: bucket, key, version id.
fn source(source: &CopySource) -> S3Result<(&str, &str, Option<&str>)> {
    match source {
        CopySource::Bucket { bucket, key, version_id } => Ok((bucket, key, version_id.as_deref())),
        _ => Err(s3_error!(NotImplemented, "A copy source is written bucket/key; access points are not implemented.")),
    }
}

/// Some clients escape the source as forms are escaped, a space as `+` and a plus as `%2B`. S3 reads
/// it so; s3s keeps the plus.
fn with_spaces(header: &str) -> S3Result<CopySource> {
    CopySource::parse(&header.replace('+', "%20"))
        .map_err(|_| s3_error!(InvalidArgument, "x-amz-copy-source must be bucket/key, URL-encoded."))
}

/// Whether the copy gets headers of its own.
fn replaces(input: &CopyObjectInput) -> S3Result<bool> {
    match input.metadata_directive.as_ref().map(MetadataDirective::as_str) {
        None | Some(MetadataDirective::COPY) => Ok(false),
        Some(MetadataDirective::REPLACE) => Ok(true),
        Some(_) => Err(s3_error!(InvalidArgument, "Unknown metadata directive.")),
    }
}

pub(super) async fn copy(edge: &S3Edge, mut req: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
    if let Some(header) = req.headers.get("x-amz-copy-source").and_then(|value| value.to_str().ok())
        && header.contains('+')
    {
        req.input.copy_source = with_spaces(header)?;
    }
    let input = &mut req.input;
    refuse_unsupported!(input);
    refuse(input.copy_source_sse_customer_algorithm.as_ref(), "Server-side encryption")?;
    refuse(input.copy_source_sse_customer_key.as_ref(), "Server-side encryption")?;
    refuse(input.checksum_algorithm.as_ref(), "Computing another checksum while copying")?;
    let tags = tagging::of_copy(input.tagging_directive.as_ref(), input.tagging.as_deref())?;
    let replace = replaces(input)?;
    let (bucket, key, version) = source(&input.copy_source)?;
    if !replace && version.is_none() && bucket == input.bucket && key == input.key {
        return Err(s3_error!(
            InvalidRequest,
            "This copy request is illegal because it is trying to copy an object to itself without changing its metadata."
        ));
    }
    let from = GetRequest {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        version: version_selector(version)?,
        range: None,
        conditions: ReadConditions {
            if_match: conditions::read(input.copy_source_if_match.take()),
            if_none_match: conditions::read(input.copy_source_if_none_match.take()),
            if_modified_since: conditions::millis(input.copy_source_if_modified_since.take()),
            if_unmodified_since: conditions::millis(input.copy_source_if_unmodified_since.take()),
        },
    };
    let headers = replace.then(|| stored_headers!(input));
    let precondition = conditions::write(input.if_match.take(), input.if_none_match.take())?;
    let precondition = conditions::with_date(precondition, &req.headers)?;
    let request = CopyRequest {
        source: from,
        bucket: req.input.bucket.clone(),
        key: req.input.key.clone(),
        headers,
        tags,
        precondition,
        origin: origin(edge, &req),
    };
    let source_bucket = request.source.bucket.clone();
    let reply = crate::copy::copy_object(&edge.gateway, request).await.map_err(|e| fail(&req, e))?;
    let committed = &reply.committed;
    let attributes = &committed.attributes;
    let mut result = CopyObjectResult {
        e_tag: Some(ETag::Strong(attributes.etag.to_string())),
        last_modified: Some(timestamp(committed.modified)),
        checksum_type: attributes.checksums.first().map(|c| checksum_type(c.kind)),
        ..CopyObjectResult::default()
    };
    set_checksums!(result, &attributes.checksums, attributes.part_lens.len());
    let output = CopyObjectOutput {
        copy_object_result: Some(result),
        copy_source_version_id: edge.version_id(&source_bucket, (&*reply.source).into()).await,
        version_id: edge.version_id(&req.input.bucket, committed.into()).await,
        ..CopyObjectOutput::default()
    };
    let mut response = S3Response::new(output);
    committed_evidence(&mut response.headers, committed);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plus_in_the_source_is_a_space() {
        let source_of = |header: &str| {
            let parsed = with_spaces(header).unwrap();
            source(&parsed).map(|(bucket, key, _)| (bucket.to_owned(), key.to_owned())).unwrap()
        };
        assert_eq!(source_of("bucket/a+b%2Bc"), ("bucket".to_owned(), "a b+c".to_owned()));
        assert_eq!(source_of("/bucket/x%20y"), ("bucket".to_owned(), "x y".to_owned()));
        assert!(with_spaces("no-key+here").is_err());
    }
}
