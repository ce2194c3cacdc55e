//! Object lock, decided on commit time: which versions may be removed, and how retention and legal hold
//! change. A row that can't be read stops the command (and the node), so nothing is removed in doubt.

use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::NewRetention;
use stele_types::ids::{CommitSeq, VersionId};
use stele_types::object::{BucketRow, DefaultRetention, Lock, Retention, RetentionMode, RetentionPeriod};
use stele_types::seam::UnixMillis;
use time::format_description::well_known::Rfc3339;
use time::{Date, Month, OffsetDateTime};

use super::versions::KeyState;
use crate::apply::{Batch, Context, Outcome, refuse};
use crate::rows::VersionRow;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// Longest default retention.
const DAYS_MAX: u32 = 36_500;
const YEARS_MAX: u32 = 100;

/// Witness: at this commit time nothing keeps the version from being removed. Only
/// [`Batch::removable`] makes one, and every removal needs one.
#[derive(Debug)]
pub(crate) struct Removable {
    pub(crate) seq: CommitSeq,
    pub(crate) row: VersionRow,
}

/// A commit time for people.
pub(crate) fn date(millis: UnixMillis) -> String {
    let date = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).ok();
    date.and_then(|date| date.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{millis} ms after 1970"))
}

/// What keeps a version from being removed at `now`.
fn obstacle(lock: &Lock, now: UnixMillis, bypass: bool) -> Option<String> {
    if lock.is_held() {
        return Some("is under legal hold: take that off first".into());
    }
    let retention = lock.retention.filter(|retention| retention.in_force(now))?;
    match retention.mode {
        RetentionMode::Compliance => {
            Some(format!("is kept until {} in COMPLIANCE mode, which nobody can shorten", date(retention.until)))
        }
        RetentionMode::Governance if bypass => None,
        RetentionMode::Governance => Some(format!(
            "is kept until {} in GOVERNANCE mode: wait, or bypass governance retention explicitly",
            date(retention.until)
        )),
    }
}

/// Whether a retention may take the place of another at `now`.
pub(crate) fn check_change(old: Option<Retention>, new: &NewRetention, now: UnixMillis) -> Result<(), RpcError> {
    if let Some(retention) = new.retention {
        check_date(retention, now)?;
    }
    let Some(old) = old.filter(|old| old.in_force(now)) else { return Ok(()) };
    let extends = new.retention.is_some_and(|new| new.mode == old.mode && new.until >= old.until);
    if extends || (old.mode == RetentionMode::Governance && new.bypass) {
        return Ok(());
    }
    let rule = match old.mode {
        RetentionMode::Compliance => "COMPLIANCE mode, which can only be extended",
        RetentionMode::Governance => "GOVERNANCE mode: shorten or change it only by bypassing governance retention",
    };
    Err(RpcError::new(Code::Locked, format!("the version is kept until {} in {rule}", date(old.until))))
}

/// The same date `years` later; the 29th of February becomes the 1st of March, so that no year is short.
fn years_later(now: UnixMillis, years: u32) -> Option<UnixMillis> {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(now) * 1_000_000).ok()?;
    let year = at.year().checked_add(i32::try_from(years).ok()?)?;
    let later = at.replace_year(year);
    let later = later.or_else(|_| Date::from_calendar_date(year, Month::March, 1).map(|date| at.replace_date(date)));
    u64::try_from(later.ok()?.unix_timestamp_nanos() / 1_000_000).ok()
}

/// Until when a version that commits at `now` is kept by default.
fn until(default: DefaultRetention, now: UnixMillis) -> UnixMillis {
    match default.period {
        RetentionPeriod::Days(days) => now.saturating_add(u64::from(days) * DAY_MS),
        // Past the last date there is: kept for good.
        RetentionPeriod::Years(years) => years_later(now, years).unwrap_or(UnixMillis::MAX),
    }
}

/// Whether a bucket may have this default.
pub(crate) fn check_default(default: Option<DefaultRetention>) -> Result<(), RpcError> {
    let (count, max, what) = match default.map(|default| default.period) {
        None => return Ok(()),
        Some(RetentionPeriod::Days(days)) => (days, DAYS_MAX, "days"),
        Some(RetentionPeriod::Years(years)) => (years, YEARS_MAX, "years"),
    };
    if (1..=max).contains(&count) {
        return Ok(());
    }
    Err(RpcError::new(Code::Malformed, format!("a default retention has 1 to {max} {what}, this one {count}")))
}

/// Whether a new version of this bucket may bring this lock.
pub(crate) fn check_new(bucket: &BucketRow, lock: &Lock, now: UnixMillis) -> Result<(), RpcError> {
    if !lock.is_unset() {
        require_lock(bucket)?;
    }
    lock.retention.map_or(Ok(()), |retention| check_date(retention, now))
}

fn check_date(retention: Retention, now: UnixMillis) -> Result<(), RpcError> {
    if retention.in_force(now) {
        return Ok(());
    }
    let detail =
        format!("the retain-until date {} must be in the future; it is {} now", date(retention.until), date(now));
    Err(RpcError::new(Code::Malformed, detail))
}

/// Retention and legal hold need a bucket with object lock.
pub(crate) fn require_lock(bucket: &BucketRow) -> Result<(), RpcError> {
    match bucket.object_lock {
        Some(_) => Ok(()),
        None => Err(RpcError::new(Code::NoObjectLock, format!("bucket {} has no object lock", bucket.name))),
    }
}

/// The lock that a version has from its commit on: what it brings, else the bucket's default.
pub(crate) fn at_commit(bucket: &BucketRow, brought: &Lock, now: UnixMillis) -> Lock {
    let default = bucket.object_lock.and_then(|lock| lock.default);
    let default = default.map(|default| Retention { mode: default.mode, until: until(default, now) });
    Lock { retention: brought.retention.or(default), ..*brought }
}

impl Batch<'_> {
    /// The version of this sequence, if it is there and nothing keeps it. Asked before a command writes.
    pub(crate) fn removable(
        &self,
        cx: Context<'_>,
        key: &KeyState<'_>,
        seq: CommitSeq,
        bypass: bool,
    ) -> Outcome<Option<Removable>> {
        let Some(row) = self.version_row(key, seq)? else { return Ok(None) };
        if let Some(obstacle) = obstacle(&row.lock, cx.now, bypass).filter(|_| !self.options.removes_locked()) {
            let id = VersionId { commit_seq: seq, nonce: row.nonce };
            return refuse(Code::Locked, format!("version {id} of {:?} {obstacle}", key.key));
        }
        let id = VersionId { commit_seq: seq, nonce: row.nonce };
        if self.is_archive(key.bucket, key.key, id)? {
            return refuse(Code::Locked, format!("version {id} of {:?} holds entries of the evidence log", key.key));
        }
        Ok(Some(Removable { seq, row }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2024-02-29T12:00:00Z.
    const LEAP_DAY: UnixMillis = 1_709_208_000_000;

    #[test]
    fn years_are_calendar_years_and_none_is_short() {
        assert_eq!(date(LEAP_DAY), "2024-02-29T12:00:00Z");
        for (years, later) in [(1, "2025-03-01T12:00:00Z"), (4, "2028-02-29T12:00:00Z"), (100, "2124-02-29T12:00:00Z")]
        {
            assert_eq!(date(years_later(LEAP_DAY, years).unwrap()), later);
        }
        assert_eq!(date(years_later(1_790_000_000_123, 7).unwrap()), "2033-09-21T14:13:20.123Z");
        assert_eq!(years_later(UnixMillis::MAX, 1), None);
        let default = DefaultRetention { mode: RetentionMode::Compliance, period: RetentionPeriod::Years(1) };
        assert_eq!(until(default, UnixMillis::MAX - 1), UnixMillis::MAX);
        let default = DefaultRetention { period: RetentionPeriod::Days(3), ..default };
        assert_eq!(until(default, 5), 5 + 3 * 86_400_000);
        assert_eq!(until(default, UnixMillis::MAX - 1), UnixMillis::MAX);
    }

    #[test]
    fn default_periods_have_a_range() {
        let default = |period| Some(DefaultRetention { mode: RetentionMode::Governance, period });
        for period in [RetentionPeriod::Days(1), RetentionPeriod::Days(36_500), RetentionPeriod::Years(100)] {
            assert!(check_default(default(period)).is_ok(), "{period:?}");
        }
        for period in [RetentionPeriod::Days(0), RetentionPeriod::Days(36_501), RetentionPeriod::Years(0)] {
            assert!(check_default(default(period)).is_err(), "{period:?}");
        }
        assert!(check_default(default(RetentionPeriod::Years(101))).is_err());
        assert!(check_default(None).is_ok());
    }

    #[test]
    fn texts_say_what_holds_and_until_when() {
        let retention = |mode| Lock { retention: Some(Retention { mode, until: LEAP_DAY }), legal_hold: None };
        let compliance = obstacle(&retention(RetentionMode::Compliance), 0, true).unwrap();
        assert!(compliance.contains("COMPLIANCE") && compliance.contains("2024-02-29T12:00:00Z"), "{compliance}");
        let governance = obstacle(&retention(RetentionMode::Governance), 0, false).unwrap();
        assert!(governance.contains("GOVERNANCE") && governance.contains("2024-02-29T12:00:00Z"), "{governance}");
        assert_eq!(obstacle(&retention(RetentionMode::Governance), 0, true), None);
        assert_eq!(obstacle(&retention(RetentionMode::Compliance), LEAP_DAY, false), None);
        let held = Lock { legal_hold: Some(true), ..retention(RetentionMode::Governance) };
        assert!(obstacle(&held, LEAP_DAY, true).unwrap().contains("legal hold"));
    }
}
