//! Object lock: retention and legal hold of a version, and what a bucket gives to new versions.

use serde::{Deserialize, Serialize};

use crate::seam::UnixMillis;

/// How firmly a retention holds. Append-only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RetentionMode {
    /// Can be shortened, or the version deleted, by who asks for it explicitly and is allowed to.
    Governance,
    /// Can be extended. Nobody shortens it.
    Compliance,
}

/// Until when a version is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Retention {
    /// How firmly.
    pub mode: RetentionMode,
    /// In force at every commit time before this.
    pub until: UnixMillis,
}

impl Retention {
    /// Whether it holds at this commit time.
    pub const fn in_force(&self, now: UnixMillis) -> bool {
        now < self.until
    }
}

/// What keeps a version from being removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Lock {
    /// Kept at least until a date; what has run out stays to be shown.
    pub retention: Option<Retention>,
    /// Kept while this is on, whatever the date; `None`: never set.
    pub legal_hold: Option<bool>,
}

impl Lock {
    /// Nothing was set.
    pub const fn is_unset(&self) -> bool {
        self.retention.is_none() && self.legal_hold.is_none()
    }

    /// The legal hold is on.
    pub fn is_held(&self) -> bool {
        self.legal_hold == Some(true)
    }
}

/// Length of a default retention.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RetentionPeriod {
    /// Days of 24 hours.
    Days(u32),
    /// Calendar years, UTC.
    Years(u32),
}

/// Retention that a version gets at its commit if it brings none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DefaultRetention {
    /// How firmly.
    pub mode: RetentionMode,
    /// How long, from the commit time.
    pub period: RetentionPeriod,
}

/// Object lock of a bucket. Once there, it stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ObjectLock {
    /// For versions that bring no retention.
    pub default: Option<DefaultRetention>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_was_never_set_costs_three_bytes() {
        assert_eq!(rmp_serde::to_vec(&Lock::default()).unwrap(), [0x92, 0xc0, 0xc0]);
        let lock = Lock {
            retention: Some(Retention { mode: RetentionMode::Compliance, until: 1000 }),
            legal_hold: Some(false),
        };
        for bytes in [rmp_serde::to_vec(&lock).unwrap(), rmp_serde::to_vec_named(&lock).unwrap()] {
            assert_eq!(rmp_serde::from_slice::<Lock>(&bytes).unwrap(), lock);
        }
        assert!(Lock::default().is_unset() && !lock.is_unset() && !lock.is_held());
    }

    #[test]
    fn a_retention_ends_at_its_date() {
        let retention = Retention { mode: RetentionMode::Governance, until: 1000 };
        assert!(retention.in_force(999));
        assert!(!retention.in_force(1000));
    }
}
