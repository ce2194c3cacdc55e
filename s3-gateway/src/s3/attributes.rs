//! GetObjectAttributes.

use s3s::dto::{
    Checksum as DtoChecksum, ETag, GetObjectAttributesInput, GetObjectAttributesOutput, GetObjectAttributesParts,
    ObjectAttributes, ObjectPart, StorageClass,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};
use stele_types::limits::LIST_PAGE_MAX;
use stele_types::object::Attributes;

use super::checksums::set_checksums;
use super::headers::{evidence, timestamp};
use super::objects::{checksum_type, version_selector};
use super::unsupported::refuse_sse_customer;
use super::{S3Edge, fail};
use crate::api::{GetRequest, ReadConditions};

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Wanted {
    etag: bool,
    checksum: bool,
    parts: bool,
    size: bool,
    class: bool,
}

fn wanted(names: &[ObjectAttributes]) -> S3Result<Wanted> {
    let mut wanted = Wanted::default();
    for name in names {
        let field = match name.as_str() {
            ObjectAttributes::ETAG => &mut wanted.etag,
            ObjectAttributes::CHECKSUM => &mut wanted.checksum,
            ObjectAttributes::OBJECT_PARTS => &mut wanted.parts,
            ObjectAttributes::OBJECT_SIZE => &mut wanted.size,
            ObjectAttributes::STORAGE_CLASS => &mut wanted.class,
            _ => return Err(s3_error!(InvalidArgument, "Invalid attribute name specified.")),
        };
        *field = true;
    }
    if wanted == Wanted::default() {
        return Err(s3_error!(InvalidRequest, "x-amz-object-attributes must name at least one attribute."));
    }
    Ok(wanted)
}

/// One page of parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Page {
    after: usize,
    max: usize,
}

impl Page {
    fn of(marker: Option<i32>, max: Option<i32>) -> S3Result<Self> {
        let number = |value: i32, what: &str| {
            usize::try_from(value).map_err(|_| s3_error!(InvalidArgument, "{} must not be negative.", what))
        };
        let max = max.map(|max| number(max, "max-parts")).transpose()?.unwrap_or(LIST_PAGE_MAX);
        let after = marker.map(|marker| number(marker, "part-number-marker")).transpose()?.unwrap_or(0);
        Ok(Self { after, max: max.min(LIST_PAGE_MAX) })
    }
}

/// The parts behind the marker; `None` for an object that was not made of parts.
fn parts(attributes: &Attributes, page: Page) -> Option<GetObjectAttributesParts> {
    let count = attributes.part_lens.len();
    if count == 0 {
        return None;
    }
    let number = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let listed: Vec<ObjectPart> = attributes
        .part_lens
        .iter()
        .enumerate()
        .skip(page.after)
        .take(page.max)
        .map(|(index, len)| {
            let mut part = ObjectPart {
                part_number: Some(number(index + 1)),
                size: i64::try_from(*len).ok(),
                ..ObjectPart::default()
            };
            set_checksums!(part, attributes.part_checksum(index).iter(), 0);
            part
        })
        .collect();
    let last = page.after.saturating_add(listed.len());
    Some(GetObjectAttributesParts {
        is_truncated: Some(last < count),
        max_parts: Some(number(page.max)),
        next_part_number_marker: Some(if listed.is_empty() { 0 } else { number(last) }),
        part_number_marker: Some(number(page.after)),
        parts: Some(listed),
        total_parts_count: Some(number(count)),
    })
}

pub(super) async fn get(
    edge: &S3Edge,
    req: S3Request<GetObjectAttributesInput>,
) -> S3Result<S3Response<GetObjectAttributesOutput>> {
    let input = &req.input;
    refuse_sse_customer!(input);
    let wanted = wanted(&input.object_attributes)?;
    let page = Page::of(input.part_number_marker, input.max_parts)?;
    let request = GetRequest {
        bucket: input.bucket.clone(),
        key: input.key.clone(),
        version: version_selector(input.version_id.as_deref())?,
        range: None,
        conditions: ReadConditions::default(),
    };
    let reply = crate::get::head_object(&edge.gateway, request).await.map_err(|e| fail(&req, e))?;
    let version = &*reply.version;
    let attributes = &version.attributes;
    let checksum = || {
        let first = attributes.checksums.first()?;
        let mut all = DtoChecksum { checksum_type: Some(checksum_type(first.kind)), ..DtoChecksum::default() };
        set_checksums!(all, &attributes.checksums, attributes.part_lens.len());
        Some(all)
    };
    let output = GetObjectAttributesOutput {
        checksum: wanted.checksum.then(checksum).flatten(),
        delete_marker: None,
        e_tag: wanted.etag.then(|| ETag::Strong(attributes.etag.to_string())),
        last_modified: Some(timestamp(version.modified)),
        object_parts: wanted.parts.then(|| parts(attributes, page)).flatten(),
        object_size: i64::try_from(attributes.len).ok().filter(|_| wanted.size),
        storage_class: wanted.class.then(|| StorageClass::from_static(StorageClass::STANDARD)),
        version_id: edge.version_id(&req.input.bucket, version.into()).await,
        ..GetObjectAttributesOutput::default()
    };
    let mut response = S3Response::new(output);
    evidence(&mut response.headers, &attributes.root, version.log_index);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(part_lens: Vec<u64>) -> Attributes {
        let len = part_lens.iter().sum();
        Attributes { len, part_lens, ..crate::complete::no_attributes() }
    }

    /// Numbers listed, where the next page begins, and whether there is one.
    fn page(count: u64, marker: Option<i32>, max: Option<i32>) -> (Vec<i32>, i32, bool) {
        let found = parts(&of((0..count).collect()), Page::of(marker, max).unwrap()).unwrap();
        let listed = found.parts.unwrap();
        assert!(listed.iter().all(|part| part.size == part.part_number.map(|n| i64::from(n) - 1)));
        assert_eq!(found.total_parts_count, i32::try_from(count).ok());
        let numbers = listed.iter().filter_map(|part| part.part_number).collect();
        (numbers, found.next_part_number_marker.unwrap(), found.is_truncated.unwrap())
    }

    #[test]
    fn pages_of_parts_add_up() {
        assert_eq!(page(3, None, None), (vec![1, 2, 3], 3, false));
        assert_eq!(page(3, None, Some(2)), (vec![1, 2], 2, true));
        assert_eq!(page(3, Some(2), Some(2)), (vec![3], 3, false));
        assert_eq!(page(3, Some(3), None), (vec![], 0, false));
        assert_eq!(page(3, None, Some(0)), (vec![], 0, true));
        assert_eq!(page(3, Some(i32::MAX), None), (vec![], 0, false));
        let mut marker = 0;
        let mut seen = 0;
        loop {
            let (numbers, next, more) = page(10_000, Some(marker), Some(5000));
            assert!(numbers.len() <= 1000);
            seen += numbers.len();
            if !more {
                break;
            }
            marker = next;
        }
        assert_eq!(seen, 10_000);
        assert!(parts(&of(Vec::new()), Page::of(None, None).unwrap()).is_none());
        assert!(Page::of(Some(-1), None).is_err() && Page::of(None, Some(-1)).is_err());
    }

    #[test]
    fn names_of_attributes_are_known_or_refused() {
        let named = |names: &[&'static str]| {
            wanted(&names.iter().map(|name| ObjectAttributes::from_static(name)).collect::<Vec<_>>())
        };
        let some = named(&["ETag", "ObjectSize"]).unwrap();
        assert!(some.etag && some.size && !some.parts && !some.checksum && !some.class);
        assert!(named(&[]).is_err());
        assert!(named(&["ETag", "Owner"]).is_err());
    }
}
