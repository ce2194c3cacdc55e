//! G2: conditions and ranges against a resolved version. Pure.

use stele_types::object::{Attributes, ETag, Version};

use crate::api::{ByteRange, EtagCondition, ReadConditions, ResolvedRange};
use crate::error::GatewayError;

/// HTTP dates have whole seconds; so has the comparison.
const MILLIS_PER_SECOND: u64 = 1000;

/// Evaluates conditions in the order of RFC 9110 section 13.2.2.
///
/// # Errors
/// `PreconditionFailed`, `NotModified`.
pub(crate) fn check_conditions(conditions: &ReadConditions, version: &Version) -> Result<(), GatewayError> {
    let etag = version.attributes.etag;
    let modified_second = version.modified / MILLIS_PER_SECOND;
    match (&conditions.if_match, conditions.if_unmodified_since) {
        (Some(condition), _) if !matches(condition, etag) => return Err(GatewayError::PreconditionFailed),
        (None, Some(since)) if modified_second > since / MILLIS_PER_SECOND => {
            return Err(GatewayError::PreconditionFailed);
        }
        _ => {}
    }
    let not_modified = || GatewayError::NotModified { etag, modified: version.modified };
    match (&conditions.if_none_match, conditions.if_modified_since) {
        (Some(condition), _) if matches(condition, etag) => Err(not_modified()),
        (None, Some(since)) if modified_second <= since / MILLIS_PER_SECOND => Err(not_modified()),
        _ => Ok(()),
    }
}

fn matches(condition: &EtagCondition, etag: ETag) -> bool {
    match condition {
        EtagCondition::Any => true,
        EtagCondition::Tags(tags) => {
            let ours = etag.to_string();
            tags.iter().any(|tag| tag.eq_ignore_ascii_case(&ours))
        }
    }
}

/// Clamps a range to the object.
///
/// # Errors
/// `RangeNotSatisfiable`, `NoSuchPartNumber`.
pub(crate) fn resolve_range(range: Option<ByteRange>, attributes: &Attributes) -> Result<ResolvedRange, GatewayError> {
    let total = attributes.len;
    let outside = GatewayError::RangeNotSatisfiable { len: total };
    let (first, len) = match range {
        None => return Ok(ResolvedRange { first: 0, len: total, total, partial: false }),
        Some(ByteRange::From { first, last }) => {
            let last = last.unwrap_or(u64::MAX);
            if first >= total || last < first {
                return Err(outside);
            }
            (first, last.min(total - 1) - first + 1)
        }
        Some(ByteRange::Suffix(0)) => return Err(outside),
        Some(ByteRange::Suffix(_)) if total == 0 => return Err(outside),
        Some(ByteRange::Suffix(n)) => (total - n.min(total), n.min(total)),
        Some(ByteRange::Part(number)) => part_range(number, attributes)?,
    };
    Ok(ResolvedRange { first, len, total, partial: true })
}

fn part_range(number: u16, attributes: &Attributes) -> Result<(u64, u64), GatewayError> {
    let parts = &attributes.part_lens;
    let missing = GatewayError::NoSuchPartNumber { parts: parts.len().max(1) };
    let index = usize::from(number).checked_sub(1);
    match index {
        Some(0) if parts.is_empty() => Ok((0, attributes.len)),
        Some(index) => {
            let len = parts.get(index).copied().ok_or(missing)?;
            Ok((parts.iter().take(index).sum(), len))
        }
        None => Err(missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stele_types::ids::ObjectRoot;

    fn attributes(len: u64, part_lens: Vec<u64>) -> Attributes {
        Attributes {
            len,
            etag: ETag { md5: 0xab, parts: 0 },
            root: ObjectRoot::from_bytes([0; 32]),
            body_hash: None,
            checksums: Vec::new(),
            headers: Box::default(),
            part_lens,
            tags: stele_types::object::Tags::default(),
            part_checksums: bytes::Bytes::new(),
        }
    }

    #[test]
    fn ranges_are_clamped_and_impossible_ones_refused() {
        let resolved =
            |range, len| resolve_range(Some(range), &attributes(len, vec![6, 4])).ok().map(|r| (r.first, r.len));
        let from = |first, last| ByteRange::From { first, last };
        assert_eq!(resolved(from(0, Some(0)), 10), Some((0, 1)));
        assert_eq!(resolved(from(3, None), 10), Some((3, 7)));
        assert_eq!(resolved(from(3, Some(u64::MAX)), 10), Some((3, 7)));
        assert_eq!(resolved(from(10, None), 10), None);
        assert_eq!(resolved(from(5, Some(4)), 10), None);
        assert_eq!(resolved(from(0, None), 0), None);
        assert_eq!(resolved(ByteRange::Suffix(3), 10), Some((7, 3)));
        assert_eq!(resolved(ByteRange::Suffix(30), 10), Some((0, 10)));
        assert_eq!(resolved(ByteRange::Suffix(0), 10), None);
        assert_eq!(resolved(ByteRange::Suffix(5), 0), None);
        assert_eq!(resolved(ByteRange::Part(2), 10), Some((6, 4)));
        assert_eq!(resolved(ByteRange::Part(0), 10), None);
        assert_eq!(resolved(ByteRange::Part(3), 10), None);
        assert!(resolve_range(Some(ByteRange::Part(1)), &attributes(0, vec![])).is_ok());
        assert!(!resolve_range(None, &attributes(0, vec![])).unwrap().partial);
    }

    #[test]
    fn etags_win_over_dates() {
        let version = Version {
            id: stele_types::ids::VersionId { commit_seq: stele_types::ids::CommitSeq(1), nonce: 0 },
            null_version: true,
            delete_marker: false,
            modified: 10_500,
            owner: stele_types::ids::OwnerId::from_bytes([0; 16]),
            attributes: attributes(1, vec![]),
            manifest: stele_types::manifest::Manifest::Inline(vec![]),
            log_index: stele_types::ids::LogIndex(0),
            lock: stele_types::object::Lock::default(),
        };
        let ours = EtagCondition::Tags(vec!["x".into(), version.attributes.etag.to_string().to_uppercase()]);
        let other = EtagCondition::Tags(vec!["x".into()]);
        let check = |c: ReadConditions| match check_conditions(&c, &version) {
            Ok(()) => 200,
            Err(GatewayError::NotModified { .. }) => 304,
            Err(_) => 412,
        };
        let none = ReadConditions::default;
        assert_eq!(check(none()), 200);
        let both = ReadConditions { if_match: Some(ours.clone()), if_unmodified_since: Some(0), ..none() };
        assert_eq!(check(both), 200);
        assert_eq!(check(ReadConditions { if_match: Some(other.clone()), ..none() }), 412);
        assert_eq!(check(ReadConditions { if_unmodified_since: Some(9_000), ..none() }), 412);
        assert_eq!(check(ReadConditions { if_unmodified_since: Some(10_000), ..none() }), 200);
        assert_eq!(check(ReadConditions { if_none_match: Some(EtagCondition::Any), ..none() }), 304);
        assert_eq!(check(ReadConditions { if_none_match: Some(ours), ..none() }), 304);
        let both = ReadConditions { if_none_match: Some(other), if_modified_since: Some(99_000), ..none() };
        assert_eq!(check(both), 200);
        assert_eq!(check(ReadConditions { if_modified_since: Some(10_000), ..none() }), 304);
        assert_eq!(check(ReadConditions { if_modified_since: Some(9_999), ..none() }), 200);
    }
}
