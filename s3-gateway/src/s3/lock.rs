//! Object lock: the `x-amz-object-lock-*` headers, and the operations on locks of buckets and versions.
//! Every field that protects is required where it belongs: a document that leaves one out is refused.

use http::HeaderMap;
use s3s::dto::{
    DefaultRetention as DtoDefault, GetObjectLegalHoldInput, GetObjectLegalHoldOutput, GetObjectLockConfigurationInput,
    GetObjectLockConfigurationOutput, GetObjectRetentionInput, GetObjectRetentionOutput, ObjectLockConfiguration,
    ObjectLockEnabled, ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectLockMode, ObjectLockRetention,
    ObjectLockRetentionMode, ObjectLockRule, PutObjectLegalHoldInput, PutObjectLegalHoldOutput,
    PutObjectLockConfigurationInput, PutObjectLockConfigurationOutput, PutObjectRetentionInput,
    PutObjectRetentionOutput, Timestamp,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};
use stele_rpc::meta::BucketChange;
use stele_types::object::{DefaultRetention, Lock, ObjectLock, Retention, RetentionMode, RetentionPeriod, Version};
use stele_types::seam::UnixMillis;

use super::errors::custom;
use super::headers::log_entry;
use super::objects::version_selector;
use super::unsupported::refuse;
use super::{S3Edge, fail, origin};
use crate::api::{ExpectedDigests, GatewayError, GetRequest, VersionRef};
use crate::lock::NewRetention;

/// A date in milliseconds; what lies between two counts as the later one, so that none is cut short.
fn millis(date: Timestamp) -> UnixMillis {
    let nanos = time::OffsetDateTime::from(date).unix_timestamp_nanos();
    u64::try_from(nanos.saturating_add(999_999).div_euclid(1_000_000)).unwrap_or(0)
}

/// A date as precisely as it is kept. What lies behind the last year that can be written is that year.
fn shown(millis: UnixMillis) -> Timestamp {
    let date = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000);
    Timestamp::from(date.unwrap_or(time::PrimitiveDateTime::MAX.assume_utc()))
}

fn mode_of(text: &str) -> Option<RetentionMode> {
    match text {
        ObjectLockMode::GOVERNANCE => Some(RetentionMode::Governance),
        ObjectLockMode::COMPLIANCE => Some(RetentionMode::Compliance),
        _ => None,
    }
}

const fn mode_text(mode: RetentionMode) -> &'static str {
    match mode {
        RetentionMode::Governance => ObjectLockMode::GOVERNANCE,
        RetentionMode::Compliance => ObjectLockMode::COMPLIANCE,
    }
}

/// The lock that the headers of a write ask for.
pub(super) fn from_headers(
    mode: Option<&ObjectLockMode>,
    until: Option<Timestamp>,
    hold: Option<&ObjectLockLegalHoldStatus>,
) -> S3Result<Lock> {
    let retention = match (mode, until) {
        (None, None) => None,
        (Some(mode), Some(until)) => {
            let mode = mode_of(mode.as_str())
                .ok_or_else(|| s3_error!(InvalidArgument, "x-amz-object-lock-mode is GOVERNANCE or COMPLIANCE."))?;
            Some(Retention { mode, until: millis(until) })
        }
        _ => {
            let message = "x-amz-object-lock-mode and x-amz-object-lock-retain-until-date must come together.";
            return Err(s3_error!(InvalidArgument, "{}", message));
        }
    };
    let legal_hold = match hold.map(ObjectLockLegalHoldStatus::as_str) {
        None => None,
        Some(ObjectLockLegalHoldStatus::ON) => Some(true),
        Some(ObjectLockLegalHoldStatus::OFF) => Some(false),
        Some(_) => return Err(s3_error!(InvalidArgument, "x-amz-object-lock-legal-hold is ON or OFF.")),
    };
    Ok(Lock { retention, legal_hold })
}

/// Takes the lock out of the headers of PutObject, CreateMultipartUpload or CopyObject.
macro_rules! lock_headers {
    ($input:expr) => {
        $crate::s3::lock::from_headers(
            $input.object_lock_mode.as_ref(),
            $input.object_lock_retain_until_date.take(),
            $input.object_lock_legal_hold_status.as_ref(),
        )?
    };
}

/// Puts a version's lock into GetObject's or HeadObject's output.
macro_rules! give_back_lock {
    ($output:expr, $lock:expr) => {
        let lock: &stele_types::object::Lock = $lock;
        ($output.object_lock_mode, $output.object_lock_retain_until_date) = $crate::s3::lock::retention_headers(lock);
        $output.object_lock_legal_hold_status = $crate::s3::lock::hold_status(lock);
    };
}

pub(super) use {give_back_lock, lock_headers};

pub(super) fn retention_headers(lock: &Lock) -> (Option<ObjectLockMode>, Option<Timestamp>) {
    let Some(retention) = lock.retention else { return (None, None) };
    (Some(ObjectLockMode::from_static(mode_text(retention.mode))), Some(shown(retention.until)))
}

pub(super) fn hold_status(lock: &Lock) -> Option<ObjectLockLegalHoldStatus> {
    use ObjectLockLegalHoldStatus as Status;
    lock.legal_hold.map(|on| Status::from_static(if on { Status::ON } else { Status::OFF }))
}

/// What is locked can't be sent again, so what arrives must be known to be what was sent.
pub(super) fn require_digest(lock: &Lock, expected: &ExpectedDigests) -> S3Result<()> {
    if lock.is_unset() || expected.md5.is_some() || !expected.checksums.is_empty() || expected.trailer.is_some() {
        return Ok(());
    }
    let message = "A PUT with x-amz-object-lock-* headers needs Content-MD5 or an x-amz-checksum-* header or trailer.";
    Err(s3_error!(InvalidRequest, "{}", message))
}

/// Whether governance retention is bypassed.
pub(super) fn bypasses(header: Option<bool>) -> bool {
    header == Some(true)
}

fn malformed(message: &'static str) -> S3Error {
    s3_error!(MalformedXML, "{}", message)
}

/// The retention that a document asks for; `None` for an empty one, which takes it away.
fn from_document(retention: Option<ObjectLockRetention>, bypass: bool) -> S3Result<Option<Retention>> {
    let retention = retention.ok_or_else(|| malformed("The request needs a Retention document."))?;
    match (retention.mode, retention.retain_until_date) {
        (Some(mode), Some(until)) => {
            let mode = mode_of(mode.as_str()).ok_or_else(|| malformed("Mode is GOVERNANCE or COMPLIANCE."))?;
            Ok(Some(Retention { mode, until: millis(until) }))
        }
        (None, None) if bypass => Ok(None),
        _ => Err(malformed(
            "Retention needs Mode and RetainUntilDate. An empty one takes governance retention away, with \
             x-amz-bypass-governance-retention: true only.",
        )),
    }
}

fn default_from(rule: Option<ObjectLockRule>) -> S3Result<Option<DefaultRetention>> {
    let Some(rule) = rule else { return Ok(None) };
    let default = rule.default_retention.ok_or_else(|| malformed("A Rule needs a DefaultRetention."))?;
    let mode = default.mode.as_ref().and_then(|mode| mode_of(mode.as_str()));
    let mode = mode.ok_or_else(|| malformed("DefaultRetention needs a Mode, GOVERNANCE or COMPLIANCE."))?;
    let count = |count: i32| {
        u32::try_from(count).ok().filter(|count| *count > 0).ok_or_else(|| {
            let message = "Default retention period must be a positive integer value.";
            custom("InvalidRetentionPeriod", http::StatusCode::BAD_REQUEST, message)
        })
    };
    let period = match (default.days, default.years) {
        (Some(days), None) => RetentionPeriod::Days(count(days)?),
        (None, Some(years)) => RetentionPeriod::Years(count(years)?),
        _ => return Err(malformed("DefaultRetention needs either Days or Years.")),
    };
    Ok(Some(DefaultRetention { mode, period }))
}

fn default_shown(default: DefaultRetention) -> ObjectLockRule {
    let count = |count: u32| i32::try_from(count).ok();
    let (days, years) = match default.period {
        RetentionPeriod::Days(days) => (count(days), None),
        RetentionPeriod::Years(years) => (None, count(years)),
    };
    let mode = Some(ObjectLockRetentionMode::from_static(mode_text(default.mode)));
    ObjectLockRule { default_retention: Some(DtoDefault { days, mode, years }) }
}

pub(super) async fn put_configuration(
    edge: &S3Edge,
    mut req: S3Request<PutObjectLockConfigurationInput>,
) -> S3Result<S3Response<PutObjectLockConfigurationOutput>> {
    refuse(req.input.token.as_ref(), "x-amz-bucket-object-lock-token")?;
    let wanted = req.input.object_lock_configuration.take();
    let wanted = wanted.ok_or_else(|| malformed("The request needs an ObjectLockConfiguration document."))?;
    if wanted.object_lock_enabled.as_ref().map(ObjectLockEnabled::as_str) != Some(ObjectLockEnabled::ENABLED) {
        return Err(malformed("ObjectLockEnabled must be Enabled: object lock can't be switched off."));
    }
    let change = BucketChange::ObjectLock(ObjectLock { default: default_from(wanted.rule)? });
    let changed = crate::bucket::configure_bucket(&edge.gateway, &req.input.bucket, change, origin(edge, &req)).await;
    changed.map_err(|e| fail(&req, e))?;
    Ok(S3Response::new(PutObjectLockConfigurationOutput::default()))
}

pub(super) async fn get_configuration(
    edge: &S3Edge,
    req: S3Request<GetObjectLockConfigurationInput>,
) -> S3Result<S3Response<GetObjectLockConfigurationOutput>> {
    let row = crate::bucket::head_bucket(&edge.gateway, &req.input.bucket).await.map_err(|e| fail(&req, e))?;
    let Some(lock) = row.object_lock else {
        let message = "Object Lock configuration does not exist for this bucket.";
        return Err(s3_error!(ObjectLockConfigurationNotFoundError, "{}", message));
    };
    let configuration = ObjectLockConfiguration {
        object_lock_enabled: Some(ObjectLockEnabled::from_static(ObjectLockEnabled::ENABLED)),
        rule: lock.default.map(default_shown),
    };
    Ok(S3Response::new(GetObjectLockConfigurationOutput { object_lock_configuration: Some(configuration) }))
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

/// Where the log has the change of a lock.
fn logged(changed: &stele_rpc::meta::Changed) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(index) = changed.log_index {
        log_entry(&mut headers, index);
    }
    headers
}

pub(super) async fn put_retention(
    edge: &S3Edge,
    mut req: S3Request<PutObjectRetentionInput>,
) -> S3Result<S3Response<PutObjectRetentionOutput>> {
    let bypass_governance = bypasses(req.input.bypass_governance_retention);
    let retention = from_document(req.input.retention.take(), bypass_governance)?;
    let (at, new) = (version_ref!(req.input), NewRetention { retention, bypass_governance });
    let changed = crate::lock::put_retention(&edge.gateway, &at, new, origin(edge, &req)).await;
    let changed = changed.map_err(|e| fail(&req, e))?;
    Ok(S3Response::with_headers(PutObjectRetentionOutput::default(), logged(&changed)))
}

pub(super) async fn put_legal_hold(
    edge: &S3Edge,
    req: S3Request<PutObjectLegalHoldInput>,
) -> S3Result<S3Response<PutObjectLegalHoldOutput>> {
    let status = req.input.legal_hold.as_ref().and_then(|hold| hold.status.as_ref());
    let on = match status.map(ObjectLockLegalHoldStatus::as_str) {
        Some(ObjectLockLegalHoldStatus::ON) => true,
        Some(ObjectLockLegalHoldStatus::OFF) => false,
        _ => return Err(malformed("LegalHold needs a Status, ON or OFF.")),
    };
    let at = version_ref!(req.input);
    let changed = crate::lock::put_legal_hold(&edge.gateway, &at, on, origin(edge, &req)).await;
    let changed = changed.map_err(|e| fail(&req, e))?;
    Ok(S3Response::with_headers(PutObjectLegalHoldOutput::default(), logged(&changed)))
}

/// A version in a bucket with object lock.
async fn locked_version<T>(edge: &S3Edge, req: &S3Request<T>, at: VersionRef) -> S3Result<Box<Version>> {
    let row = crate::bucket::head_bucket(&edge.gateway, &at.bucket).await.map_err(|e| fail(req, e))?;
    if row.object_lock.is_none() {
        return Err(fail(req, GatewayError::NoObjectLock));
    }
    let request = GetRequest { version: at.version, ..GetRequest::current(at.bucket, at.key) };
    let reply = crate::get::head_object(&edge.gateway, request).await.map_err(|e| fail(req, e))?;
    Ok(reply.version)
}

fn nothing_set() -> S3Error {
    s3_error!(NoSuchObjectLockConfiguration, "The specified object does not have such an object lock setting.")
}

pub(super) async fn get_retention(
    edge: &S3Edge,
    req: S3Request<GetObjectRetentionInput>,
) -> S3Result<S3Response<GetObjectRetentionOutput>> {
    let version = locked_version(edge, &req, version_ref!(req.input)).await?;
    let retention = version.lock.retention.ok_or_else(nothing_set)?;
    let retention = ObjectLockRetention {
        mode: Some(ObjectLockRetentionMode::from_static(mode_text(retention.mode))),
        retain_until_date: Some(shown(retention.until)),
    };
    Ok(S3Response::new(GetObjectRetentionOutput { retention: Some(retention) }))
}

pub(super) async fn get_legal_hold(
    edge: &S3Edge,
    req: S3Request<GetObjectLegalHoldInput>,
) -> S3Result<S3Response<GetObjectLegalHoldOutput>> {
    let version = locked_version(edge, &req, version_ref!(req.input)).await?;
    let status = hold_status(&version.lock).ok_or_else(nothing_set)?;
    let legal_hold = Some(ObjectLockLegalHold { status: Some(status) });
    Ok(S3Response::new(GetObjectLegalHoldOutput { legal_hold }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(s3s::dto::TimestampFormat::DateTime, text).unwrap()
    }

    #[test]
    fn dates_keep_their_milliseconds_and_round_up() {
        assert_eq!(millis(at("1970-01-01T00:00:01Z")), 1000);
        assert_eq!(millis(at("1970-01-01T00:00:01.0000001Z")), 1001);
        assert_eq!(millis(at("1970-01-01T02:00:01.5+02:00")), 1500);
        assert_eq!(millis(at("1969-12-31T00:00:00Z")), 0);
        for kept in [0, 1, 1_790_000_000_123] {
            assert_eq!(millis(shown(kept)), kept);
        }
        assert_eq!(time::OffsetDateTime::from(shown(u64::MAX)).year(), 9999);
    }

    #[test]
    fn mode_and_date_come_together() {
        let mode = ObjectLockMode::from_static(ObjectLockMode::COMPLIANCE);
        let lock = from_headers(Some(&mode), Some(at("2030-01-01T00:00:00Z")), None).unwrap();
        assert_eq!(lock.retention.unwrap().mode, RetentionMode::Compliance);
        assert!(from_headers(Some(&mode), None, None).is_err());
        assert!(from_headers(None, Some(at("2030-01-01T00:00:00Z")), None).is_err());
        let odd = ObjectLockMode::from("compliance".to_owned());
        assert!(from_headers(Some(&odd), Some(at("2030-01-01T00:00:00Z")), None).is_err());
        assert!(from_headers(None, None, None).unwrap().is_unset());
        let hold = |text: &str| from_headers(None, None, Some(&ObjectLockLegalHoldStatus::from(text.to_owned())));
        assert!(hold("ON").unwrap().is_held() && !hold("OFF").unwrap().is_held() && hold("on").is_err());
    }

    #[test]
    fn a_document_without_a_field_is_refused() {
        let mode = |text: &str| Some(ObjectLockRetentionMode::from(text.to_owned()));
        let until = Some(at("2030-01-01T00:00:00Z"));
        let read = |mode, until: &Option<Timestamp>, bypass| {
            from_document(Some(ObjectLockRetention { mode, retain_until_date: until.clone() }), bypass)
        };
        assert!(read(mode("GOVERNANCE"), &until, false).unwrap().is_some());
        assert!(read(None, &None, false).is_err());
        assert!(read(None, &None, true).unwrap().is_none());
        for bypass in [false, true] {
            assert!(read(mode("GOVERNANCE"), &None, bypass).is_err());
            assert!(read(None, &until, bypass).is_err());
            assert!(read(mode("Governance"), &until, bypass).is_err());
            assert!(from_document(None, bypass).is_err());
        }
    }

    #[test]
    fn a_default_has_a_mode_and_one_period() {
        let read = |mode: Option<&str>, days, years| {
            let mode = mode.map(|mode| ObjectLockRetentionMode::from(mode.to_owned()));
            let rule = ObjectLockRule { default_retention: Some(DtoDefault { days, mode, years }) };
            default_from(Some(rule)).map_err(|error| error.code().as_str().to_owned())
        };
        let default = read(Some("COMPLIANCE"), Some(3), None).unwrap().unwrap();
        assert_eq!(default.period, RetentionPeriod::Days(3));
        assert_eq!(default_from(Some(default_shown(default))).unwrap(), Some(default));
        for (mode, days, years) in [
            (Some("COMPLIANCE"), Some(1), Some(1)),
            (Some("COMPLIANCE"), None, None),
            (None, Some(1), None),
            (Some("abc"), Some(1), None),
        ] {
            assert_eq!(read(mode, days, years), Err("MalformedXML".into()));
        }
        for (days, years) in [(Some(0), None), (Some(-1), None), (None, Some(0))] {
            assert_eq!(read(Some("GOVERNANCE"), days, years), Err("InvalidRetentionPeriod".into()));
        }
        assert!(default_from(Some(ObjectLockRule { default_retention: None })).is_err());
        assert_eq!(default_from(None).unwrap(), None);
    }
}
