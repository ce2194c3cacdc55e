//! If-Match, If-None-Match and dates.

use s3s::dto::{ETagCondition, Timestamp};
use s3s::{S3Result, s3_error};
use stele_types::object::Precondition;
use stele_types::seam::UnixMillis;

use crate::api::EtagCondition;

/// Condition of a read.
pub(super) fn read(condition: Option<ETagCondition>) -> Option<EtagCondition> {
    condition.map(|condition| match condition {
        ETagCondition::Any => EtagCondition::Any,
        ETagCondition::ETag(etag) => EtagCondition::Tags(vec![etag.into_value()]),
    })
}

/// Condition of a write, decided at the commit.
///
/// # Errors
/// Both conditions at once, or If-None-Match with an ETag: no S3 service takes those.
pub(super) fn write(if_match: Option<ETagCondition>, if_none_match: Option<ETagCondition>) -> S3Result<Precondition> {
    match (if_match, if_none_match) {
        (None, None) => Ok(Precondition::None),
        (None, Some(ETagCondition::Any)) => Ok(Precondition::Absent),
        (None, Some(ETagCondition::ETag(_))) => {
            Err(s3_error!(NotImplemented, "If-None-Match on a write takes only the value *."))
        }
        (Some(ETagCondition::Any), None) => Ok(Precondition::Present),
        (Some(ETagCondition::ETag(etag)), None) => Ok(Precondition::Matches(vec![etag.into_value()])),
        (Some(_), Some(_)) => Err(s3_error!(InvalidRequest, "If-Match and If-None-Match exclude each other.")),
    }
}

/// A date header in milliseconds; dates before 1970 count as 1970.
pub(super) fn millis(date: Option<Timestamp>) -> Option<UnixMillis> {
    let date = time::OffsetDateTime::from(date?);
    Some(u64::try_from(date.unix_timestamp_nanos() / 1_000_000).unwrap_or(0))
}
