//! If-Match, If-None-Match and dates.

use http::HeaderMap;
use http::header::IF_UNMODIFIED_SINCE;
use s3s::dto::{ETagCondition, Timestamp, TimestampFormat};
use s3s::{S3Result, s3_error};
use stele_types::object::{Precondition, Unchanged};
use stele_types::seam::UnixMillis;

use crate::api::EtagCondition;

/// Condition of a read.
pub(super) fn read(condition: Option<ETagCondition>) -> Option<EtagCondition> {
    condition.map(|condition| match condition {
        ETagCondition::Any => EtagCondition::Any,
        ETagCondition::ETag(etag) => EtagCondition::Tags(tags(etag.value())),
    })
}

/// ETags of a header. s3s reads a list as one ETag, whose value then has the quotes of the inner ones; what
/// is between those is a comma and perhaps `W/`. An ETag itself has no quote.
fn tags(value: &str) -> Vec<String> {
    value.split('"').step_by(2).map(str::to_owned).collect()
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
        (Some(ETagCondition::ETag(etag)), None) => Ok(Precondition::Matches(tags(etag.value()))),
        (Some(_), Some(_)) => Err(s3_error!(InvalidRequest, "If-Match and If-None-Match exclude each other.")),
    }
}

/// Condition of a delete, on the current version: ETag, size, date of the last change.
///
/// # Errors
/// A negative size.
pub(super) fn delete(
    if_match: Option<ETagCondition>,
    size: Option<i64>,
    modified: Option<Timestamp>,
) -> S3Result<Precondition> {
    let condition = write(if_match, None)?;
    if size.is_none() && modified.is_none() {
        return Ok(condition);
    }
    let len = size.map(u64::try_from).transpose();
    let len = len.map_err(|_| s3_error!(InvalidArgument, "A size to match can't be negative."))?;
    Ok(condition.and(Unchanged { len, modified: millis(modified), ..Unchanged::default() }))
}

/// Adds If-Unmodified-Since, which s3s knows for reads only, to the condition of a write.
///
/// # Errors
/// It is no HTTP date.
pub(super) fn with_date(condition: Precondition, headers: &HeaderMap) -> S3Result<Precondition> {
    let Some(value) = headers.get(IF_UNMODIFIED_SINCE) else { return Ok(condition) };
    let date = value.to_str().ok().and_then(|text| Timestamp::parse(TimestampFormat::HttpDate, text).ok());
    match date {
        Some(date) => Ok(condition.and(Unchanged { not_since: millis(Some(date)), ..Unchanged::default() })),
        None => Err(s3_error!(InvalidArgument, "If-Unmodified-Since must be an HTTP date.")),
    }
}

/// A date header in milliseconds; dates before 1970 count as 1970.
pub(super) fn millis(date: Option<Timestamp>) -> Option<UnixMillis> {
    let date = time::OffsetDateTime::from(date?);
    Some(u64::try_from(date.unix_timestamp_nanos() / 1_000_000).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn lists_of_etags_are_taken_apart() {
        let of = |header: &str| match read(Some(ETagCondition::ETag(
            s3s::dto::ETag::parse_http_header(header.as_bytes()).unwrap(),
        ))) {
            Some(EtagCondition::Tags(tags)) => tags,
            other => panic!("{other:?}"),
        };
        assert_eq!(of("\"a\""), ["a"]);
        assert_eq!(of("\"a\", \"b-2\",\"c\""), ["a", "b-2", "c"]);
        assert_eq!(of("W/\"a\", W/\"b\""), ["a", "b"]);
    }

    #[test]
    fn dates_on_writes_are_kept_or_refused() {
        let with = |date: &str| {
            let headers = HeaderMap::from_iter([(IF_UNMODIFIED_SINCE, HeaderValue::from_str(date).unwrap())]);
            with_date(Precondition::None, &headers)
        };
        let Ok(Precondition::Unchanged(asked)) = with("Sun, 06 Nov 1994 08:49:37 GMT") else { panic!() };
        assert_eq!(asked.not_since, Some(784_111_777_000));
        assert!(with("yesterday").is_err());
        assert_eq!(with_date(Precondition::Absent, &HeaderMap::new()).unwrap(), Precondition::Absent);
    }
}
