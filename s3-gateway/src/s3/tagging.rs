//! Tags: the `x-amz-tagging` header, and the operations on tags of objects and buckets.

use http::StatusCode;
use s3s::dto::{
    DeleteBucketTaggingInput, DeleteBucketTaggingOutput, DeleteObjectTaggingInput, DeleteObjectTaggingOutput,
    GetBucketTaggingInput, GetBucketTaggingOutput, GetObjectTaggingInput, GetObjectTaggingOutput,
    PutBucketTaggingInput, PutBucketTaggingOutput, PutObjectTaggingInput, PutObjectTaggingOutput, Tag,
    TaggingDirective,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};
use stele_rpc::meta::{BucketChange, Changed};
use stele_types::limits::{BUCKET_TAGS_MAX, OBJECT_TAGS_MAX};
use stele_types::object::{TagError, Tags};

use super::listing::percent_encode;
use super::objects::version_selector;
use super::{S3Edge, fail, origin};
use crate::api::{GetRequest, VersionRef};

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn invalid(error: TagError) -> S3Error {
    s3_error!(InvalidTag, "{}", error)
}

/// One side of a pair, as forms are encoded: `+` is a space, `%` stands before two hex digits.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = match (*first, more) {
            (b'+', more) => {
                bytes.push(b' ');
                more
            }
            (b'%', [high, low, more @ ..]) => {
                let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
                bytes.push(digit(*high)? << 4 | digit(*low)?);
                more
            }
            (b'%', _) => return None,
            (byte, more) => {
                bytes.push(byte);
                more
            }
        };
    }
    String::from_utf8(bytes).ok()
}

/// Tags of the header `x-amz-tagging`; none without it.
pub(super) fn header(value: Option<&str>) -> S3Result<Tags> {
    let pairs = value.unwrap_or_default();
    if pairs.is_empty() {
        return Ok(Tags::default());
    }
    let mut tags = Vec::new();
    // One more than fit, so that too many are noticed and no more are looked at.
    for pair in pairs.split('&').take(OBJECT_TAGS_MAX + 1) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (decode(key), decode(value)) {
            (Some(key), Some(value)) => tags.push((key, value)),
            _ => {
                let message = "The header x-amz-tagging must be a URL-encoded query of UTF-8 tag keys and values.";
                return Err(s3_error!(InvalidArgument, "{}", message));
            }
        }
    }
    Tags::new(tags, OBJECT_TAGS_MAX).map_err(invalid)
}

/// Tags of a copy; `None` keeps the source's.
pub(super) fn of_copy(directive: Option<&TaggingDirective>, value: Option<&str>) -> S3Result<Option<Tags>> {
    match directive.map(TaggingDirective::as_str) {
        Some(TaggingDirective::REPLACE) => header(value).map(Some),
        None | Some(TaggingDirective::COPY) if value.is_none() => Ok(None),
        None | Some(TaggingDirective::COPY) => Err(s3_error!(
            InvalidArgument,
            "x-amz-tagging on a copy needs x-amz-tagging-directive: REPLACE; without it the source's tags are kept."
        )),
        Some(_) => Err(s3_error!(InvalidArgument, "Unknown tagging directive.")),
    }
}

/// Value of `x-amz-tagging-count`: nothing for a version without tags.
pub(super) fn count(tags: &Tags) -> Option<i32> {
    i32::try_from(tags.len()).ok().filter(|count| *count > 0)
}

fn from_document(set: Vec<Tag>, max: usize) -> S3Result<Tags> {
    let mut tags = Vec::with_capacity(set.len().min(max + 1));
    for tag in set {
        let (Some(key), Some(value)) = (tag.key, tag.value) else {
            return Err(s3_error!(MalformedXML, "Every Tag needs a Key and a Value."));
        };
        tags.push((key, value));
    }
    Tags::new(tags, max).map_err(invalid)
}

/// Tags of a document as the header `x-amz-tagging` has them.
pub(super) fn as_header(set: Vec<Tag>) -> S3Result<String> {
    let tags = from_document(set, OBJECT_TAGS_MAX)?;
    let pairs: Vec<String> =
        tags.iter().map(|(key, value)| format!("{}={}", percent_encode(key), percent_encode(value))).collect();
    Ok(pairs.join("&"))
}

fn to_document(tags: &Tags) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag { key: Some(key.to_owned()), value: Some(value.to_owned()) }).collect()
}

macro_rules! version_ref {
    ($input:expr) => {
        VersionRef {
            bucket: $input.bucket.clone(),
            key: $input.key.clone(),
            version: version_selector($input.version_id.as_deref())?,
        }
    };
}

/// Replaces the tags of a version.
async fn replace<T>(edge: &S3Edge, req: &S3Request<T>, at: &VersionRef, tags: &Tags) -> S3Result<Changed> {
    crate::tags::put_tags(&edge.gateway, at, tags, origin(edge, req)).await.map_err(|e| fail(req, e))
}

pub(super) async fn put_object(
    edge: &S3Edge,
    mut req: S3Request<PutObjectTaggingInput>,
) -> S3Result<S3Response<PutObjectTaggingOutput>> {
    let tags = from_document(std::mem::take(&mut req.input.tagging.tag_set), OBJECT_TAGS_MAX)?;
    let at = version_ref!(req.input);
    let changed = replace(edge, &req, &at, &tags).await?;
    let version_id = edge.version_id(&at.bucket, (&changed).into()).await;
    Ok(S3Response::new(PutObjectTaggingOutput { version_id }))
}

pub(super) async fn delete_object(
    edge: &S3Edge,
    req: S3Request<DeleteObjectTaggingInput>,
) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
    let at = version_ref!(req.input);
    let changed = replace(edge, &req, &at, &Tags::default()).await?;
    let version_id = edge.version_id(&at.bucket, (&changed).into()).await;
    let mut response = S3Response::new(DeleteObjectTaggingOutput { version_id });
    response.status = Some(StatusCode::NO_CONTENT);
    Ok(response)
}

pub(super) async fn get_object(
    edge: &S3Edge,
    req: S3Request<GetObjectTaggingInput>,
) -> S3Result<S3Response<GetObjectTaggingOutput>> {
    let mut request = GetRequest::current(req.input.bucket.clone(), req.input.key.clone());
    request.version = version_selector(req.input.version_id.as_deref())?;
    let reply = crate::get::head_object(&edge.gateway, request).await.map_err(|e| fail(&req, e))?;
    let tag_set = to_document(&reply.version.attributes.tags);
    let version_id = edge.version_id(&req.input.bucket, (&*reply.version).into()).await;
    Ok(S3Response::new(GetObjectTaggingOutput { tag_set, version_id }))
}

async fn configure<T>(edge: &S3Edge, req: &S3Request<T>, bucket: &str, tags: Tags) -> S3Result<()> {
    let change = BucketChange::Tags(tags);
    let changed = crate::bucket::configure_bucket(&edge.gateway, bucket, change, origin(edge, req)).await;
    changed.map(|_| ()).map_err(|e| fail(req, e))
}

pub(super) async fn put_bucket(
    edge: &S3Edge,
    mut req: S3Request<PutBucketTaggingInput>,
) -> S3Result<S3Response<PutBucketTaggingOutput>> {
    let tags = from_document(std::mem::take(&mut req.input.tagging.tag_set), BUCKET_TAGS_MAX)?;
    configure(edge, &req, &req.input.bucket, tags).await?;
    let mut response = S3Response::new(PutBucketTaggingOutput {});
    response.status = Some(StatusCode::NO_CONTENT);
    Ok(response)
}

pub(super) async fn delete_bucket(
    edge: &S3Edge,
    req: S3Request<DeleteBucketTaggingInput>,
) -> S3Result<S3Response<DeleteBucketTaggingOutput>> {
    configure(edge, &req, &req.input.bucket, Tags::default()).await?;
    let mut response = S3Response::new(DeleteBucketTaggingOutput {});
    response.status = Some(StatusCode::NO_CONTENT);
    Ok(response)
}

pub(super) async fn get_bucket(
    edge: &S3Edge,
    req: S3Request<GetBucketTaggingInput>,
) -> S3Result<S3Response<GetBucketTaggingOutput>> {
    let row = crate::bucket::head_bucket(&edge.gateway, &req.input.bucket).await.map_err(|e| fail(&req, e))?;
    if row.tags.is_empty() {
        return Err(s3_error!(NoSuchTagSet, "There is no tag set associated with the bucket."));
    }
    Ok(S3Response::new(GetBucketTaggingOutput { tag_set: to_document(&row.tags) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Result<Vec<(String, String)>, String> {
        let tags = header(Some(value)).map_err(|error| error.code().as_str().to_owned())?;
        Ok(tags.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    fn pairs(of: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
        Ok(of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn the_header_is_read_as_forms_are_encoded() {
        assert_eq!(read("a=b&c=d"), pairs(&[("a", "b"), ("c", "d")]));
        assert_eq!(read("a+b=c%20d%2B&%C3%BC=%e8%aa%9e"), pairs(&[("a b", "c d+"), ("ü", "語")]));
        assert_eq!(read("k=a=b"), pairs(&[("k", "a=b")]));
        assert_eq!(read("k"), pairs(&[("k", "")]));
        assert_eq!(read(""), pairs(&[]));
        assert!(header(None).unwrap().is_empty());
    }

    #[test]
    fn wrong_headers_are_refused() {
        for broken in ["a=%", "a=%4", "a=%zz", "%ff=b", "a=%c3"] {
            assert_eq!(read(broken), Err("InvalidArgument".into()), "{broken}");
        }
        for refused in ["a=1&a=2", "a=1&%61=2", "aws:a=1", "=v", "a=1&", "&", "a=%00", &"k=v&".repeat(5000)] {
            assert_eq!(read(refused), Err("InvalidTag".into()), "{refused}");
        }
        let eleven: Vec<String> = (0..11).map(|n| format!("{n}=x")).collect();
        assert!(read(&eleven[1..].join("&")).is_ok());
        assert_eq!(read(&eleven.join("&")), Err("InvalidTag".into()));
    }

    #[test]
    fn a_copy_takes_tags_only_where_it_says_so() {
        let replace = TaggingDirective::from_static(TaggingDirective::REPLACE);
        let copy = TaggingDirective::from_static(TaggingDirective::COPY);
        assert_eq!(of_copy(None, None).unwrap(), None);
        assert_eq!(of_copy(Some(&copy), None).unwrap(), None);
        assert_eq!(of_copy(Some(&replace), None).unwrap(), Some(Tags::default()));
        assert_eq!(of_copy(Some(&replace), Some("a=b")).unwrap().unwrap().len(), 1);
        assert!(of_copy(None, Some("a=b")).is_err());
        assert!(of_copy(Some(&copy), Some("a=b")).is_err());
        assert!(of_copy(Some(&TaggingDirective::from("MOVE".to_owned())), None).is_err());
    }
}
