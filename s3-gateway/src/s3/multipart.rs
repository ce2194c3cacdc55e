//! CreateMultipartUpload, UploadPart, CompleteMultipartUpload, AbortMultipartUpload.

use http::{HeaderMap, StatusCode};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CompletedPart, CreateMultipartUploadInput, CreateMultipartUploadOutput, ETag, UploadPartInput, UploadPartOutput,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};
use stele_types::ids::UploadId;
use stele_types::limits::PART_NUMBER_MAX;
use stele_types::object::{ChecksumAlgorithm, ChecksumType};

use super::checksums::{self, body_request, checksum_fields, declared, set_checksums};
use super::headers::{committed_evidence, stored_headers};
use super::listing::in_answer;
use super::lock::lock_headers;
use super::objects::checksum_type;
use super::unsupported::{refuse_sse_customer, refuse_unsupported};
use super::{S3Edge, body, conditions, fail, fail_as, origin, tagging};
use crate::api::{CompleteRequest, CreateUploadRequest, ListedPart, PartRequest, UploadRef};
use crate::http::audit::watch::Note;
use crate::http::request_id::RequestId;

/// An upload id from a client; anything that we did not make names no upload.
pub(super) fn upload_ref(bucket: &str, key: &str, upload: &str) -> S3Result<UploadRef> {
    let upload = UploadId::from_hex(upload).ok_or_else(|| {
        s3_error!(NoSuchUpload, "The specified upload does not exist; it may have been aborted or completed.")
    })?;
    Ok(UploadRef { bucket: bucket.to_owned(), key: key.to_owned(), upload })
}

fn checksum_choice(
    algorithm: Option<&s3s::dto::ChecksumAlgorithm>,
    kind: Option<&s3s::dto::ChecksumType>,
) -> S3Result<Option<(ChecksumAlgorithm, ChecksumType)>> {
    let Some(algorithm) = algorithm else {
        return match kind {
            None => Ok(None),
            Some(_) => Err(s3_error!(InvalidRequest, "x-amz-checksum-type needs x-amz-checksum-algorithm.")),
        };
    };
    let algorithm = checksums::by_name(algorithm.as_str())?;
    let default = match algorithm {
        ChecksumAlgorithm::Crc64Nvme => ChecksumType::FullObject,
        _ => ChecksumType::Composite,
    };
    let kind = match kind.map(s3s::dto::ChecksumType::as_str) {
        None => default,
        Some(s3s::dto::ChecksumType::FULL_OBJECT) => ChecksumType::FullObject,
        Some(s3s::dto::ChecksumType::COMPOSITE) => ChecksumType::Composite,
        Some(_) => return Err(s3_error!(InvalidRequest, "x-amz-checksum-type is FULL_OBJECT or COMPOSITE.")),
    };
    if algorithm.multipart(kind) {
        Ok(Some((algorithm, kind)))
    } else {
        Err(s3_error!(InvalidRequest, "The checksum type can't be used with this checksum algorithm."))
    }
}

pub(super) async fn create(
    edge: &S3Edge,
    mut req: S3Request<CreateMultipartUploadInput>,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let input = &mut req.input;
    refuse_unsupported!(input);
    let checksum = checksum_choice(input.checksum_algorithm.as_ref(), input.checksum_type.as_ref())?;
    let headers = stored_headers!(input);
    let tags = tagging::header(input.tagging.as_deref())?;
    let lock = lock_headers!(input);
    let request = CreateUploadRequest {
        bucket: req.input.bucket.clone(),
        key: req.input.key.clone(),
        headers,
        tags,
        lock,
        checksum,
        origin: origin(edge, &req),
    };
    let upload = crate::multipart::create_upload(&edge.gateway, request).await.map_err(|e| fail(&req, e))?;
    Ok(S3Response::new(CreateMultipartUploadOutput {
        bucket: Some(req.input.bucket.clone()),
        key: in_answer(&req.input.key),
        upload_id: Some(upload.id.to_string()),
        checksum_algorithm: checksum.map(|(a, _)| s3s::dto::ChecksumAlgorithm::from_static(checksums::name(a))),
        checksum_type: checksum.map(|(_, kind)| checksum_type(kind)),
        ..CreateMultipartUploadOutput::default()
    }))
}

pub(super) fn part_number(number: i32) -> S3Result<u16> {
    match u16::try_from(number) {
        Ok(number) if (1..=PART_NUMBER_MAX).contains(&number) => Ok(number),
        _ => Err(s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000, inclusive.")),
    }
}

pub(super) async fn upload_part(
    edge: &S3Edge,
    mut req: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let input = &mut req.input;
    refuse_sse_customer!(input);
    let number = part_number(input.part_number)?;
    let upload = upload_ref(&input.bucket, &input.key, &input.upload_id)?;
    let checksums = declared(checksum_fields!(input))?;
    let stream = body::incoming(input.body.take());
    let (len, md5) = (input.content_length, input.content_md5.take());
    let body = body_request(&req, stream, len, md5.as_deref(), checksums)?;
    let request = PartRequest { upload, number, body, origin: origin(edge, &req) };
    let part = crate::multipart::upload_part(&edge.gateway, request).await.map_err(|e| fail(&req, e))?;
    let mut output =
        UploadPartOutput { e_tag: Some(ETag::Strong(part.etag.to_string())), ..UploadPartOutput::default() };
    set_checksums!(output, &part.checksums, 0);
    Ok(S3Response::new(output))
}

fn listed_part(mut part: CompletedPart) -> S3Result<ListedPart> {
    let (Some(number), Some(etag)) = (part.part_number, part.e_tag.take()) else {
        return Err(s3_error!(MalformedXML, "Every part needs a PartNumber and an ETag."));
    };
    Ok(ListedPart {
        number: part_number(number)?,
        etag: etag.into_value(),
        checksums: declared(checksum_fields!(part))?,
    })
}

pub(super) async fn complete(
    edge: &S3Edge,
    mut req: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let input = &mut req.input;
    refuse_sse_customer!(input);
    let upload = upload_ref(&input.bucket, &input.key, &input.upload_id)?;
    let listed = input.multipart_upload.take().and_then(|upload| upload.parts).unwrap_or_default();
    if listed.is_empty() {
        return Err(s3_error!(MalformedXML, "You must specify at least one part."));
    }
    let parts = listed.into_iter().map(listed_part).collect::<S3Result<Vec<_>>>()?;
    let declared_len = match input.mpu_object_size {
        None => None,
        Some(len) => Some(u64::try_from(len).map_err(|_| s3_error!(InvalidArgument, "Negative object size."))?),
    };
    let request = CompleteRequest {
        upload,
        parts,
        declared_len,
        checksums: declared(checksum_fields!(input))?,
        precondition: conditions::with_date(
            conditions::write(input.if_match.take(), input.if_none_match.take())?,
            &req.headers,
        )?,
        origin: origin(edge, &req),
    };
    let id = req.extensions.get::<RequestId>().copied();
    let mut work = Box::pin(finish(edge.clone(), request, id));
    let early = tokio::time::timeout(edge.gateway.config.complete_quiet, &mut work).await;
    match early {
        Ok(finished) => finished,
        // From here on the answer has begun: whitespace keeps the client waiting, and an outcome can only be told
        // in the body.
        Err(_) => {
            let note = req.extensions.get::<Note>().cloned();
            let future = async move {
                let finished = work.await;
                if let Some(note) = note {
                    tell_late(&note, &finished);
                }
                finished.map(|response| response.output)
            };
            Ok(S3Response::new(CompleteMultipartUploadOutput { future: Some(Box::pin(future)), ..Default::default() }))
        }
    }
}

fn tell_late(note: &Note, finished: &S3Result<S3Response<CompleteMultipartUploadOutput>>) {
    match finished {
        Ok(response) => note.late(&response.headers, response.output.version_id.clone(), None),
        Err(error) => note.late(&HeaderMap::new(), None, Some(error.code().as_str().to_owned())),
    }
}

/// Completes the upload and makes the answer.
async fn finish(
    edge: S3Edge,
    request: CompleteRequest,
    id: Option<RequestId>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let (bucket, key) = (request.upload.bucket.clone(), request.upload.key.clone());
    let committed = crate::complete::complete_upload(&edge.gateway, request).await.map_err(|e| fail_as(id, e))?;
    let attributes = &committed.attributes;
    let mut output = CompleteMultipartUploadOutput {
        key: in_answer(&key),
        location: in_answer(&format!("/{bucket}/{key}")),
        e_tag: Some(ETag::Strong(attributes.etag.to_string())),
        version_id: edge.version_id(&bucket, (&committed).into()).await,
        checksum_type: attributes.checksums.first().map(|c| checksum_type(c.kind)),
        bucket: Some(bucket),
        ..CompleteMultipartUploadOutput::default()
    };
    set_checksums!(output, &attributes.checksums, attributes.part_lens.len());
    let mut response = S3Response::new(output);
    committed_evidence(&mut response.headers, &committed);
    Ok(response)
}

pub(super) async fn abort(
    edge: &S3Edge,
    req: S3Request<AbortMultipartUploadInput>,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let upload = upload_ref(&req.input.bucket, &req.input.key, &req.input.upload_id)?;
    let asked = crate::multipart::abort_upload(&edge.gateway, &upload, origin(edge, &req)).await;
    asked.map_err(|e| fail(&req, e))?;
    let mut response = S3Response::new(AbortMultipartUploadOutput::default());
    response.status = Some(StatusCode::NO_CONTENT);
    Ok(response)
}
