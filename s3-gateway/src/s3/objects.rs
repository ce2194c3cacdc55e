//! PutObject, GetObject, HeadObject, DeleteObject, DeleteObjects.

use http::{HeaderMap, HeaderValue, StatusCode};
use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag, ETagCondition,
    Error as DtoError, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput, PutObjectInput,
    PutObjectOutput, Range,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};
use stele_rpc::meta::{Deleted, VersionSelector};
use stele_types::ids::VersionId;
use stele_types::limits::LIST_PAGE_MAX;
use stele_types::object::{ChecksumAlgorithm, ChecksumType, Version};

use super::checksums::{body_request, checksum_fields, declared, set_checksums};
use super::headers::{committed_evidence, evidence, give_back_headers, log_entry, stored_headers, timestamp};
use super::lock::{bypasses, give_back_lock, lock_headers, require_digest};
use super::post::Form;
use super::unsupported::{refuse, refuse_sse_customer, refuse_unsupported};
use super::{S3Edge, audited, body, conditions, fail, fail_as, log_bucket, origin, tagging};
use crate::api::{
    AppendRequest, ByteRange, DeleteOne, DeleteRequest, GatewayError, GetRequest, HeadReply, PutRequest,
    ReadConditions, Shown,
};
use crate::http::audit::watch::Note;
use crate::http::request_id::RequestId;

/// `versionId` as the gateway reads it.
pub(super) fn version_selector(id: Option<&str>) -> S3Result<VersionSelector> {
    match id {
        None | Some("") => Ok(VersionSelector::Current),
        Some("null") => Ok(VersionSelector::Null),
        Some(text) => VersionId::parse(text)
            .map(VersionSelector::Id)
            .ok_or_else(|| s3_error!(InvalidArgument, "Invalid version id specified.")),
    }
}

pub(super) async fn put(edge: &S3Edge, mut req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
    let input = &mut req.input;
    refuse_unsupported!(input);
    let offset = match input.write_offset_bytes.take() {
        None => None,
        Some(at) => Some(u64::try_from(at).map_err(|_| s3_error!(InvalidArgument, "Negative write offset."))?),
    };
    let checksums = declared(checksum_fields!(input))?;
    let headers = stored_headers!(input);
    let tags = tagging::header(input.tagging.as_deref())?;
    let lock = lock_headers!(input);
    let precondition = conditions::write(input.if_match.take(), input.if_none_match.take())?;
    let precondition = conditions::with_date(precondition, &req.headers)?;
    let stream = body::incoming(input.body.take());
    let (len, md5) = (input.content_length, input.content_md5.take());
    let body = body_request(&req, stream, len, md5.as_deref(), checksums)?;
    require_digest(&lock, &body.expected)?;
    let request = PutRequest {
        bucket: req.input.bucket.clone(),
        key: req.input.key.clone(),
        body,
        headers,
        tags,
        lock,
        precondition,
        origin: origin(edge, &req),
    };
    let committed = match offset {
        None => crate::put::put_object(&edge.gateway, request).await,
        Some(offset) => crate::append::append_object(&edge.gateway, AppendRequest { put: request, offset }).await,
    };
    let committed = committed.map_err(|e| fail(&req, e))?;
    let attributes = &committed.attributes;
    let mut output = PutObjectOutput {
        e_tag: Some(ETag::Strong(attributes.etag.to_string())),
        size: offset.and_then(|_| i64::try_from(attributes.len).ok()),
        version_id: edge.version_id(&req.input.bucket, (&committed).into()).await,
        ..PutObjectOutput::default()
    };
    set_checksums!(output, &attributes.checksums, 0);
    if !attributes.checksums.is_empty() {
        output.checksum_type = Some(checksum_type(ChecksumType::FullObject));
    }
    let mut headers = HeaderMap::new();
    if let Some(form) = req.extensions.get::<Form>() {
        form.tell(&mut headers, &output);
    }
    committed_evidence(&mut headers, &committed);
    Ok(S3Response::with_headers(output, headers))
}

pub(super) fn checksum_type(kind: ChecksumType) -> s3s::dto::ChecksumType {
    use s3s::dto::ChecksumType as Dto;
    Dto::from_static(match kind {
        ChecksumType::FullObject => Dto::FULL_OBJECT,
        ChecksumType::Composite => Dto::COMPOSITE,
    })
}

fn byte_range(range: Option<Range>, part: Option<i32>) -> S3Result<Option<ByteRange>> {
    match (range, part) {
        (None, None) => Ok(None),
        (Some(Range::Int { first, last }), None) => Ok(Some(ByteRange::From { first, last })),
        (Some(Range::Suffix { length }), None) => Ok(Some(ByteRange::Suffix(length))),
        (None, Some(number)) => match u16::try_from(number) {
            Ok(number @ 1..=10_000) => Ok(Some(ByteRange::Part(number))),
            _ => Err(s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000.")),
        },
        (Some(_), Some(_)) => {
            Err(s3_error!(InvalidRequest, "Cannot specify both Range header and partNumber query parameter."))
        }
    }
}

/// The request behind GetObject and HeadObject inputs, which have the same fields.
macro_rules! get_request {
    ($input:expr) => {
        GetRequest {
            bucket: $input.bucket.clone(),
            key: $input.key.clone(),
            version: version_selector($input.version_id.as_deref())?,
            range: byte_range($input.range.take(), $input.part_number)?,
            conditions: ReadConditions {
                if_match: conditions::read($input.if_match.take()),
                if_none_match: conditions::read($input.if_none_match.take()),
                if_modified_since: conditions::millis($input.if_modified_since.take()),
                if_unmodified_since: conditions::millis($input.if_unmodified_since.take()),
            },
        }
    };
}

/// Fields that GetObject and HeadObject outputs share.
macro_rules! describe {
    ($output:expr, $reply:expr, $input:expr) => {{
        let version: &Version = &$reply.version;
        give_back_headers!($output, &version.attributes.headers);
        $output.accept_ranges = Some("bytes".to_owned());
        $output.content_length = i64::try_from($reply.range.len).ok();
        $output.e_tag = Some(ETag::Strong(version.attributes.etag.to_string()));
        $output.last_modified = Some(timestamp(version.modified));
        $output.tag_count = tagging::count(&version.attributes.tags);
        give_back_lock!($output, &version.lock);
        if $reply.range.partial {
            $output.content_range = Some(content_range($reply));
        }
        if $input.part_number.is_some() && !version.attributes.part_lens.is_empty() {
            $output.parts_count = i32::try_from(version.attributes.part_lens.len()).ok();
        }
        let wants = $input.checksum_mode.as_ref().is_some_and(|m| m.as_str().eq_ignore_ascii_case("ENABLED"));
        // A client compares a returned checksum with the bytes it gets, so it belongs to whole objects or parts.
        let part = $input.part_number.and_then(|number| usize::try_from(number).ok()?.checked_sub(1));
        let of_part = part.and_then(|index| version.attributes.part_checksum(index));
        if wants && (!$reply.range.partial || of_part.is_some()) {
            let parts = version.attributes.part_lens.len();
            match &of_part {
                Some(checksum) => set_checksums!($output, [checksum], parts),
                None => set_checksums!($output, &version.attributes.checksums, parts),
            }
            $output.checksum_type = version.attributes.checksums.first().map(|c| checksum_type(c.kind));
        }
        override_headers!($output, $input);
    }};
}

/// A `response-*` parameter that no header can carry: with a line break it would be two headers.
fn check_override(name: &str, value: Option<&str>) -> S3Result<()> {
    if value.is_none_or(|value| HeaderValue::from_bytes(value.as_bytes()).is_ok()) {
        return Ok(());
    }
    Err(s3_error!(InvalidArgument, "{} has characters that a header can't carry.", name))
}

/// `response-*` parameters; requests are always signed here.
macro_rules! override_headers {
    ($output:expr, $input:expr) => {
        check_override("response-content-type", $input.response_content_type.as_deref())?;
        check_override("response-content-encoding", $input.response_content_encoding.as_deref())?;
        check_override("response-content-disposition", $input.response_content_disposition.as_deref())?;
        check_override("response-content-language", $input.response_content_language.as_deref())?;
        check_override("response-cache-control", $input.response_cache_control.as_deref())?;
        if let Some(value) = $input.response_content_type.take() {
            $output.content_type = Some(value);
        }
        if let Some(value) = $input.response_content_encoding.take() {
            $output.content_encoding = Some(value);
        }
        if let Some(value) = $input.response_content_disposition.take() {
            $output.content_disposition = Some(value);
        }
        if let Some(value) = $input.response_content_language.take() {
            $output.content_language = Some(value);
        }
        if let Some(value) = $input.response_cache_control.take() {
            $output.cache_control = Some(value);
        }
        if let Some(value) = $input.response_expires.take() {
            let mut text = Vec::new();
            if value.format(s3s::dto::TimestampFormat::HttpDate, &mut text).is_ok() {
                $output.expires = String::from_utf8(text).ok();
            }
        }
    };
}

fn content_range(reply: &HeadReply) -> String {
    let range = &reply.range;
    let last = (range.first + range.len).saturating_sub(1);
    format!("bytes {}-{last}/{}", range.first, range.total)
}

fn read_headers(reply: &HeadReply) -> HeaderMap {
    let mut headers = HeaderMap::new();
    evidence(&mut headers, &reply.version.attributes.root, reply.version.log_index);
    headers
}

pub(super) async fn get(edge: &S3Edge, mut req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
    if super::evidence::is_asked(&req.uri) {
        return super::evidence::get(edge, req).await;
    }
    refuse_sse_customer!(req.input);
    let request = get_request!(req.input);
    let page = log_bucket::page(&edge.gateway, &request).await.map_err(|e| fail(&req, e))?;
    let stored = page.is_none();
    let reply = match page {
        Some(page) => page,
        None => crate::get::get_object(&edge.gateway, request).await.map_err(|e| fail(&req, e))?,
    };
    let mut output =
        GetObjectOutput { body: Some(body::outgoing(reply.body, reply.head.range.len)), ..GetObjectOutput::default() };
    describe!(output, &reply.head, req.input);
    output.version_id = edge.version_id(&req.input.bucket, (&*reply.head.version).into()).await;
    let mut response = S3Response::new(output);
    if stored {
        response.headers = read_headers(&reply.head);
    }
    if reply.head.range.partial {
        response.status = Some(StatusCode::PARTIAL_CONTENT);
    }
    Ok(response)
}

pub(super) async fn head(edge: &S3Edge, mut req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
    refuse_sse_customer!(req.input);
    let request = get_request!(req.input);
    let page = log_bucket::page(&edge.gateway, &request).await.map_err(|e| fail(&req, e))?;
    let stored = page.is_none();
    let reply = match page {
        Some(page) => page.head,
        None => crate::get::head_object(&edge.gateway, request).await.map_err(|e| fail(&req, e))?,
    };
    let mut output = HeadObjectOutput::default();
    describe!(output, &reply, req.input);
    output.version_id = edge.version_id(&req.input.bucket, (&*reply.version).into()).await;
    let mut response = S3Response::new(output);
    if stored {
        response.headers = read_headers(&reply);
    }
    if reply.range.partial {
        response.status = Some(StatusCode::PARTIAL_CONTENT);
    }
    Ok(response)
}

pub(super) async fn delete(
    edge: &S3Edge,
    mut req: S3Request<DeleteObjectInput>,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    refuse(req.input.mfa.as_ref(), "MFA delete")?;
    let one = DeleteOne {
        key: req.input.key.clone(),
        version: version_selector(req.input.version_id.as_deref())?,
        precondition: conditions::with_date(
            conditions::delete(
                req.input.if_match.take(),
                req.input.if_match_size,
                req.input.if_match_last_modified_time.take(),
            )?,
            &req.headers,
        )?,
    };
    let request = DeleteRequest {
        bucket: req.input.bucket.clone(),
        items: vec![one],
        bypass_governance: bypasses(req.input.bypass_governance_retention),
        origin: origin(edge, &req),
    };
    let outcomes = crate::delete::delete_objects(&edge.gateway, request).await.map_err(|e| fail(&req, e))?;
    let outcome = outcomes.into_iter().next().unwrap_or_else(|| Ok(Deleted::default()));
    let deleted = outcome.map_err(|e| fail(&req, e))?;
    let asked = req.input.version_id.as_ref().filter(|id| !id.is_empty());
    let mut response = S3Response::new(DeleteObjectOutput {
        delete_marker: (deleted.marker.is_some() || deleted.removed_marker).then_some(true),
        version_id: marker_made(&deleted).or_else(|| asked.cloned()),
        ..DeleteObjectOutput::default()
    });
    response.status = Some(StatusCode::NO_CONTENT);
    if let Some(log_index) = deleted.log_index {
        log_entry(&mut response.headers, log_index);
    }
    Ok(response)
}

pub(super) async fn delete_many(
    edge: &S3Edge,
    req: S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    refuse(req.input.mfa.as_ref(), "MFA delete")?;
    let objects = &req.input.delete.objects;
    if objects.is_empty() || objects.len() > LIST_PAGE_MAX {
        return Err(s3_error!(MalformedXML, "A Delete document names 1 to 1000 objects."));
    }
    let mut items = Vec::with_capacity(objects.len());
    for object in objects {
        let etag = object.e_tag.clone().map(|tag| match tag.value() {
            "*" => ETagCondition::Any,
            _ => ETagCondition::ETag(tag),
        });
        items.push(DeleteOne {
            key: object.key.clone(),
            version: version_selector(object.version_id.as_deref())?,
            precondition: conditions::delete(etag, object.size, object.last_modified_time.clone())?,
        });
    }
    audited::reserve(&req, objects)?;
    let request = DeleteRequest {
        bucket: req.input.bucket.clone(),
        items,
        bypass_governance: bypasses(req.input.bypass_governance_retention),
        origin: origin(edge, &req),
    };
    let outcomes = crate::delete::delete_objects(&edge.gateway, request).await.map_err(|e| fail(&req, e))?;
    let id = req.extensions.get::<RequestId>().copied();
    let note = req.extensions.get::<Note>();
    let quiet = req.input.delete.quiet.unwrap_or(false);
    let mut output = DeleteObjectsOutput::default();
    for (object, outcome) in objects.iter().zip(outcomes) {
        let version_id = object.version_id.clone().filter(|id| !id.is_empty());
        let outcome = outcome.map_err(|error| delete_error(&object.key, version_id.clone(), error, id));
        audited::tell(note, object, &outcome);
        match outcome {
            Ok(_) if quiet => {}
            Ok(deleted) => output.deleted.get_or_insert_default().push(DeletedObject {
                key: Some(object.key.clone()),
                version_id,
                delete_marker: (deleted.marker.is_some() || deleted.removed_marker).then_some(true),
                delete_marker_version_id: marker_made(&deleted)
                    .or_else(|| object.version_id.clone().filter(|_| deleted.removed_marker)),
            }),
            Err(error) => output.errors.get_or_insert_default().push(error),
        }
    }
    Ok(S3Response::new(output))
}

/// Id of the delete marker that a delete added.
fn marker_made(deleted: &Deleted) -> Option<String> {
    deleted.marker.map(|id| Shown { id, null: deleted.marker_null }.to_string())
}

fn delete_error(key: &str, version_id: Option<String>, error: GatewayError, id: Option<RequestId>) -> DtoError {
    let error = fail_as(id, error);
    DtoError {
        code: Some(error.code().as_str().to_owned()),
        key: Some(key.to_owned()),
        message: error.message().map(str::to_owned),
        version_id,
    }
}

/// Algorithms of a listed key, as S3 names them.
pub(super) fn algorithm_list(
    checksums: &[(ChecksumAlgorithm, ChecksumType)],
) -> Option<Vec<s3s::dto::ChecksumAlgorithm>> {
    let names = checksums.iter().map(|(a, _)| s3s::dto::ChecksumAlgorithm::from_static(super::checksums::name(*a)));
    (!checksums.is_empty()).then(|| names.collect())
}
