//! ListObjects (v1 and v2), ListObjectVersions, ListMultipartUploads, ListParts.
//!
//! s3s neither encodes keys nor escapes control characters, so `encoding-type=url` is applied here,
//! and a key that XML can't carry is answered with an error that names the remedy.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use s3s::dto::{
    CommonPrefix, DeleteMarkerEntry, ETag, EncodingType, ListMultipartUploadsInput, ListMultipartUploadsOutput,
    ListObjectVersionsInput, ListObjectVersionsOutput, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input,
    ListObjectsV2Output, ListPartsInput, ListPartsOutput, MultipartUpload, Object, ObjectStorageClass, ObjectVersion,
    ObjectVersionStorageClass, Part as DtoPart, StorageClass,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};
use stele_rpc::meta::{ListQuery, ListedKey};
use stele_types::limits::{LIST_PAGE_MAX, PART_NUMBER_MAX};

use super::buckets::requester;
use super::checksums::{name, set_checksums};
use super::headers::timestamp;
use super::multipart::upload_ref;
use super::objects::{algorithm_list, checksum_type, version_selector};
use super::{S3Edge, Shown, fail};
use crate::http::version_order::VersionOrder;

/// Bytes that stay as they are under `encoding-type=url`.
fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/')
}

/// How keys are written in one answer.
#[derive(Clone, Copy)]
enum Keys {
    Plain,
    Url,
}

impl Keys {
    fn choose(encoding: Option<&EncodingType>) -> S3Result<Self> {
        match encoding.map(EncodingType::as_str) {
            None => Ok(Self::Plain),
            Some("url") => Ok(Self::Url),
            Some(_) => Err(s3_error!(InvalidArgument, "Invalid Encoding Method specified in Request.")),
        }
    }

    fn write(self, key: String) -> S3Result<String> {
        match self {
            Self::Url => Ok(percent_encode(&key)),
            Self::Plain if key.chars().all(in_xml) => Ok(key),
            Self::Plain => Err(s3_error!(
                InvalidArgument,
                "A key of this page has characters that XML can't carry; list with encoding-type=url."
            )),
        }
    }

    fn write_opt(self, text: Option<String>) -> S3Result<Option<String>> {
        text.filter(|t| !t.is_empty()).map(|t| self.write(t)).transpose()
    }

    fn prefixes(self, prefixes: Vec<String>) -> S3Result<Option<Vec<CommonPrefix>>> {
        let written = prefixes.into_iter().map(|p| Ok(CommonPrefix { prefix: Some(self.write(p)?) }));
        let written = written.collect::<S3Result<Vec<_>>>()?;
        Ok((!written.is_empty()).then_some(written))
    }
}

/// Characters that XML 1.0 can carry.
fn in_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..='\u{10FFFF}')
}

/// A key that the client knows, for an answer that has no encoding: left out if XML can't carry it.
pub(super) fn in_answer(key: &str) -> Option<String> {
    key.chars().all(in_xml).then(|| key.to_owned())
}

/// As queries are encoded: a space is a plus.
pub(super) fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            byte if unreserved(byte) => out.push(char::from(byte)),
            byte => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
    out
}

/// max-keys: absent is 1,000, more counts as 1,000, negative is an error.
fn page_size(asked: Option<i32>, what: &str) -> S3Result<u32> {
    let most = u32::try_from(LIST_PAGE_MAX).unwrap_or(u32::MAX);
    match asked {
        None => Ok(most),
        Some(n) => match u32::try_from(n) {
            Ok(n) => Ok(n.min(most)),
            Err(_) => Err(s3_error!(InvalidArgument, "{} must not be negative.", what)),
        },
    }
}

fn shown(size: u32) -> Option<i32> {
    i32::try_from(size).ok()
}

fn object(key: ListedKey, keys: Keys, owner: Option<s3s::dto::Owner>) -> S3Result<Object> {
    Ok(Object {
        checksum_algorithm: algorithm_list(&key.checksums),
        checksum_type: key.checksums.first().map(|(_, kind)| checksum_type(*kind)),
        e_tag: Some(ETag::Strong(key.etag)),
        key: Some(keys.write(key.key)?),
        last_modified: Some(timestamp(key.modified)),
        owner,
        restore_status: None,
        size: i64::try_from(key.len).ok(),
        storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
    })
}

/// A continuation token: opaque to clients, the last key or common prefix to us.
pub(super) fn token(after: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("1{after}"))
}

pub(super) fn token_after(token: &str) -> S3Result<String> {
    let decoded = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded
        .and_then(|text| text.strip_prefix('1').map(str::to_owned))
        .ok_or_else(|| s3_error!(InvalidArgument, "The continuation token provided is incorrect."))
}

fn non_empty(text: Option<&String>) -> Option<String> {
    text.filter(|t| !t.is_empty()).cloned()
}

pub(super) async fn objects_v2(
    edge: &S3Edge,
    req: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let input = &req.input;
    let keys = Keys::choose(input.encoding_type.as_ref())?;
    let max = page_size(input.max_keys, "max-keys")?;
    let after = match &input.continuation_token {
        Some(token) => Some(token_after(token)?),
        None => non_empty(input.start_after.as_ref()),
    };
    let query = ListQuery {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: non_empty(input.delimiter.as_ref()),
        after,
        after_version: None,
        max,
    };
    let page = crate::list::list_keys(&edge.gateway, &input.bucket, query).await.map_err(|e| fail(&req, e))?;
    let owner = input.fetch_owner.unwrap_or(false).then(|| requester(&req));
    let count = page.rows.len() + page.common_prefixes.len();
    let contents = page.rows.into_iter().map(|key| object(key, keys, owner.clone()));
    let truncated = page.truncated && max > 0;
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(input.bucket.clone()),
        prefix: Some(keys.write(input.prefix.clone().unwrap_or_default())?),
        max_keys: shown(max),
        key_count: i32::try_from(count).ok(),
        continuation_token: input.continuation_token.clone(),
        is_truncated: Some(truncated),
        next_continuation_token: page.next_after.filter(|_| truncated).map(|after| token(&after)),
        contents: Some(contents.collect::<S3Result<Vec<_>>>()?),
        common_prefixes: keys.prefixes(page.common_prefixes)?,
        delimiter: keys.write_opt(input.delimiter.clone())?,
        encoding_type: input.encoding_type.clone(),
        start_after: keys.write_opt(input.start_after.clone())?,
        request_charged: None,
    }))
}

pub(super) async fn objects_v1(
    edge: &S3Edge,
    req: S3Request<ListObjectsInput>,
) -> S3Result<S3Response<ListObjectsOutput>> {
    let input = &req.input;
    let keys = Keys::choose(input.encoding_type.as_ref())?;
    let max = page_size(input.max_keys, "max-keys")?;
    let query = ListQuery {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: non_empty(input.delimiter.as_ref()),
        after: non_empty(input.marker.as_ref()),
        after_version: None,
        max,
    };
    let page = crate::list::list_keys(&edge.gateway, &input.bucket, query).await.map_err(|e| fail(&req, e))?;
    let contents = page.rows.into_iter().map(|key| object(key, keys, Some(requester(&req))));
    let truncated = page.truncated && max > 0;
    Ok(S3Response::new(ListObjectsOutput {
        name: Some(input.bucket.clone()),
        prefix: Some(keys.write(input.prefix.clone().unwrap_or_default())?),
        marker: Some(keys.write(input.marker.clone().unwrap_or_default())?),
        max_keys: shown(max),
        is_truncated: Some(truncated),
        contents: Some(contents.collect::<S3Result<Vec<_>>>()?),
        common_prefixes: keys.prefixes(page.common_prefixes)?,
        delimiter: keys.write_opt(input.delimiter.clone())?,
        // Always sent: a page can end early, behind rows that did not match.
        next_marker: keys.write_opt(page.next_after.filter(|_| truncated))?,
        encoding_type: input.encoding_type.clone(),
        request_charged: None,
    }))
}

pub(super) async fn versions(
    edge: &S3Edge,
    req: S3Request<ListObjectVersionsInput>,
) -> S3Result<S3Response<ListObjectVersionsOutput>> {
    let input = &req.input;
    let keys = Keys::choose(input.encoding_type.as_ref())?;
    let max = page_size(input.max_keys, "max-keys")?;
    let key_marker = non_empty(input.key_marker.as_ref());
    let version_marker = non_empty(input.version_id_marker.as_ref());
    if version_marker.is_some() && key_marker.is_none() {
        return Err(s3_error!(InvalidArgument, "A version-id marker cannot be specified without a key marker."));
    }
    let after_version = match &version_marker {
        None => None,
        Some(text) => Some(version_selector(Some(text))?),
    };
    let query = ListQuery {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: non_empty(input.delimiter.as_ref()),
        after: key_marker,
        after_version,
        max,
    };
    let page = crate::list::list_versions(&edge.gateway, &input.bucket, query).await.map_err(|e| fail(&req, e))?;
    let truncated = page.truncated && max > 0;
    let mut output = ListObjectVersionsOutput {
        name: Some(input.bucket.clone()),
        prefix: Some(keys.write(input.prefix.clone().unwrap_or_default())?),
        key_marker: Some(keys.write(input.key_marker.clone().unwrap_or_default())?),
        version_id_marker: version_marker,
        max_keys: shown(max),
        is_truncated: Some(truncated),
        delimiter: keys.write_opt(input.delimiter.clone())?,
        encoding_type: input.encoding_type.clone(),
        next_key_marker: keys.write_opt(page.next_after.filter(|_| truncated))?,
        next_version_id_marker: page.next_after_version.filter(|_| truncated).map(|id| id.to_string()),
        common_prefixes: keys.prefixes(page.common_prefixes)?,
        ..ListObjectVersionsOutput::default()
    };
    let order = VersionOrder(page.rows.iter().map(|row| row.delete_marker).collect());
    for row in page.rows {
        let version_id = Some(Shown { id: row.id, null: row.null_version }.to_string());
        let (last_modified, is_latest) = (Some(timestamp(row.modified)), Some(row.latest));
        if row.delete_marker {
            let key = Some(keys.write(row.key)?);
            let owner = Some(requester(&req));
            let entry = DeleteMarkerEntry { is_latest, key, last_modified, owner, version_id };
            output.delete_markers.get_or_insert_default().push(entry);
        } else {
            output.versions.get_or_insert_default().push(ObjectVersion {
                checksum_algorithm: algorithm_list(&row.checksums),
                checksum_type: row.checksums.first().map(|(_, kind)| checksum_type(*kind)),
                e_tag: Some(ETag::Strong(row.etag)),
                is_latest,
                key: Some(keys.write(row.key)?),
                last_modified,
                owner: Some(requester(&req)),
                restore_status: None,
                size: i64::try_from(row.len).ok(),
                storage_class: Some(ObjectVersionStorageClass::from_static(ObjectVersionStorageClass::STANDARD)),
                version_id,
            });
        }
    }
    let mut response = S3Response::new(output);
    response.extensions.insert(order);
    Ok(response)
}

pub(super) async fn uploads(
    edge: &S3Edge,
    req: S3Request<ListMultipartUploadsInput>,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    let input = &req.input;
    let keys = Keys::choose(input.encoding_type.as_ref())?;
    let max = page_size(input.max_uploads, "max-uploads")?;
    let key_marker = non_empty(input.key_marker.as_ref());
    // Without a key marker an upload id marker is ignored, as S3 documents it.
    let marker = non_empty(input.upload_id_marker.as_ref()).filter(|_| key_marker.is_some());
    let after_upload = match (&key_marker, &marker) {
        (Some(key), Some(id)) => Some(upload_ref(&input.bucket, key, id)?.upload),
        _ => None,
    };
    let query = ListQuery {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: non_empty(input.delimiter.as_ref()),
        after: key_marker,
        after_version: None,
        max,
    };
    let page = crate::list::list_uploads(&edge.gateway, &input.bucket, query, after_upload).await;
    let page = page.map_err(|e| fail(&req, e))?;
    let truncated = page.truncated && max > 0;
    let last_upload = page.rows.last().filter(|last| page.next_after.as_ref() == Some(&last.key)).map(|u| u.id);
    let rows = page.rows.into_iter().map(|upload| {
        Ok(MultipartUpload {
            checksum_algorithm: upload.checksum.map(|(a, _)| s3s::dto::ChecksumAlgorithm::from_static(name(a))),
            checksum_type: upload.checksum.map(|(_, kind)| checksum_type(kind)),
            initiated: Some(timestamp(upload.initiated)),
            key: Some(keys.write(upload.key)?),
            owner: Some(requester(&req)),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            upload_id: Some(upload.id.to_string()),
            ..MultipartUpload::default()
        })
    });
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket.clone()),
        prefix: Some(keys.write(input.prefix.clone().unwrap_or_default())?),
        key_marker: Some(keys.write(input.key_marker.clone().unwrap_or_default())?),
        upload_id_marker: Some(marker.unwrap_or_default()),
        max_uploads: shown(max),
        is_truncated: Some(truncated),
        delimiter: keys.write_opt(input.delimiter.clone())?,
        encoding_type: input.encoding_type.clone(),
        uploads: Some(rows.collect::<S3Result<Vec<_>>>()?),
        common_prefixes: keys.prefixes(page.common_prefixes)?,
        next_key_marker: keys.write_opt(page.next_after.filter(|_| truncated))?,
        next_upload_id_marker: last_upload.filter(|_| truncated).map(|id| id.to_string()),
        request_charged: None,
    }))
}

pub(super) async fn parts(edge: &S3Edge, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
    let input = &req.input;
    let max = page_size(input.max_parts, "max-parts")?;
    let after = match input.part_number_marker {
        None => 0,
        Some(marker) => u16::try_from(marker)
            .ok()
            .filter(|marker| *marker <= PART_NUMBER_MAX)
            .ok_or_else(|| s3_error!(InvalidArgument, "part-number-marker must be between 0 and 10000."))?,
    };
    let upload = upload_ref(&input.bucket, &input.key, &input.upload_id)?;
    let page = crate::list::list_parts(&edge.gateway, &upload, after, max).await.map_err(|e| fail(&req, e))?;
    let last = page.parts.last().map(|part| i32::from(part.number));
    let parts = page.parts.into_iter().map(|part| {
        let mut row = DtoPart {
            e_tag: Some(ETag::Strong(part.etag.to_string())),
            last_modified: Some(timestamp(part.modified)),
            part_number: Some(i32::from(part.number)),
            size: i64::try_from(part.len).ok(),
            ..DtoPart::default()
        };
        set_checksums!(row, &part.checksums, 0);
        row
    });
    let checksum = page.upload.checksum;
    Ok(S3Response::new(ListPartsOutput {
        bucket: Some(input.bucket.clone()),
        key: in_answer(&input.key),
        upload_id: Some(input.upload_id.clone()),
        checksum_algorithm: checksum.map(|(a, _)| s3s::dto::ChecksumAlgorithm::from_static(name(a))),
        checksum_type: checksum.map(|(_, kind)| checksum_type(kind)),
        is_truncated: Some(page.truncated),
        max_parts: shown(max),
        next_part_number_marker: last.or(Some(i32::from(after))),
        part_number_marker: Some(i32::from(after)),
        owner: Some(requester(&req)),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        parts: Some(parts.collect()),
        ..ListPartsOutput::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_encoded_as_sdks_decode_them() {
        assert_eq!(percent_encode("a b/ü+%"), "a+b/%C3%BC%2B%25");
        assert!(Keys::Plain.write("a\u{1}b".to_owned()).is_err());
        assert_eq!((in_answer("a\u{1}b"), in_answer("a b")), (None, Some("a b".to_owned())));
        assert_eq!(Keys::Url.write("a\u{1}b".to_owned()).unwrap(), "a%01b");
    }

    #[test]
    fn tokens_round_trip_and_others_are_refused() {
        assert_eq!(token_after(&token("p/\u{10FFFF}")).unwrap(), "p/\u{10FFFF}");
        for bad in ["", "!!", "AAAA", "MA"] {
            assert!(token_after(bad).is_err(), "{bad}");
        }
    }
}
