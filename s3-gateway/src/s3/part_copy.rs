//! UploadPartCopy.

use s3s::dto::{CopyPartResult, ETag, UploadPartCopyInput, UploadPartCopyOutput};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::checksums::set_checksums;
use super::copy::source_request;
use super::headers::timestamp;
use super::multipart::{part_number, upload_ref};
use super::unsupported::refuse_sse_customer;
use super::{S3Edge, fail, origin};
use crate::api::PartCopyRequest;

/// `bytes=first-last`, and nothing else that a Range header may say.
fn copied_range(header: &str) -> S3Result<(u64, u64)> {
    let number =
        |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u64>().ok()).flatten();
    let range = header.strip_prefix("bytes=").and_then(|range| range.split_once('-'));
    match range.and_then(|(first, last)| Some((number(first)?, number(last)?))) {
        Some((first, last)) if first <= last => Ok((first, last)),
        _ => Err(s3_error!(
            InvalidArgument,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the \
             zero-based offsets of the first and last bytes to copy"
        )),
    }
}

pub(super) async fn upload_part_copy(
    edge: &S3Edge,
    mut req: S3Request<UploadPartCopyInput>,
) -> S3Result<S3Response<UploadPartCopyOutput>> {
    let source = source_request!(req);
    refuse_sse_customer!(req.input);
    let input = &req.input;
    let request = PartCopyRequest {
        upload: upload_ref(&input.bucket, &input.key, &input.upload_id)?,
        number: part_number(input.part_number)?,
        range: input.copy_source_range.as_deref().map(copied_range).transpose()?,
        source,
        origin: origin(edge, &req),
    };
    let from = request.source.bucket.clone();
    let reply = crate::multipart::copy_part(&edge.gateway, request).await.map_err(|e| fail(&req, e))?;
    let mut result = CopyPartResult {
        e_tag: Some(ETag::Strong(reply.part.etag.to_string())),
        last_modified: Some(timestamp(reply.part.modified)),
        ..CopyPartResult::default()
    };
    set_checksums!(result, &reply.part.checksums, 0);
    Ok(S3Response::new(UploadPartCopyOutput {
        copy_part_result: Some(result),
        copy_source_version_id: edge.version_id(&from, (&*reply.source).into()).await,
        ..UploadPartCopyOutput::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_range_has_both_ends() {
        assert_eq!(copied_range("bytes=0-0").unwrap(), (0, 0));
        assert_eq!(copied_range("bytes=5-18446744073709551615").unwrap(), (5, u64::MAX));
        for bad in
            ["0-2", "bytes=0", "bytes=5-2", "bytes=-5", "bytes=5-", "bytes=0-2,3-5", "bytes=+1-2", "bytes=a-b", ""]
        {
            assert!(copied_range(bad).is_err(), "{bad}");
        }
    }
}
