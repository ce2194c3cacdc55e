//! Conditions of writes, decided at the linearization point against the current version.

use serde::{Deserialize, Serialize};

use super::ETag;
use crate::seam::UnixMillis;

/// HTTP dates have whole seconds; so has the comparison.
const MILLIS_PER_SECOND: u64 = 1000;

/// Condition decided at the linearization point, against the current version. Append-only.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Precondition {
    /// No condition.
    #[default]
    None,
    /// `If-None-Match: *`: no current version (a delete marker counts as none).
    Absent,
    /// `If-Match: *`: some current version.
    Present,
    /// `If-Match: etag`: the current version has one of these ETags (as text, without quotes).
    Matches(Vec<String>),
    /// Every condition that is present must hold.
    Unchanged(Box<Unchanged>),
}

/// Conditions on what the current version is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Unchanged {
    /// There is a current version.
    pub present: bool,
    /// It has one of these ETags (as text, without quotes); empty: any.
    pub etags: Vec<String>,
    /// It has this many bytes (`x-amz-if-match-size`).
    pub len: Option<u64>,
    /// It was committed in this second (`x-amz-if-match-last-modified-time`).
    pub modified: Option<UnixMillis>,
    /// It was not committed after this second (`If-Unmodified-Since`). The only one that holds where there
    /// is no current version.
    pub not_since: Option<UnixMillis>,
}

/// What conditions ask of the current version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Its ETag.
    pub etag: ETag,
    /// Its bytes.
    pub len: u64,
    /// Its commit time.
    pub modified: UnixMillis,
}

/// Outcome of a condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The write may go on.
    Holds,
    /// It asks for a current version and there is none.
    NoKey,
    /// It does not hold.
    Fails,
}

impl Precondition {
    /// Decides the condition; `current` is `None` where there is no current version or it is a delete marker.
    pub fn verdict(&self, current: Option<&Facts>) -> Verdict {
        match (self, current) {
            (Self::None, _) | (Self::Absent, None) | (Self::Present, Some(_)) => Verdict::Holds,
            (Self::Absent, Some(_)) => Verdict::Fails,
            (Self::Present | Self::Matches(_), None) => Verdict::NoKey,
            (Self::Matches(etags), Some(current)) => held(has_one(etags, current)),
            (Self::Unchanged(asked), Some(current)) => held(asked.holds(current)),
            (Self::Unchanged(asked), None) if asked.needs_current() => Verdict::NoKey,
            (Self::Unchanged(_), None) => Verdict::Holds,
        }
    }

    /// This condition and another on the current version.
    #[must_use]
    pub fn and(self, more: Unchanged) -> Self {
        let asked = match self {
            // What does not exist has no date and no size, so nothing can be added to this one but a date.
            Self::Absent => return Self::Absent,
            Self::None => more,
            Self::Present => Unchanged { present: true, ..more },
            Self::Matches(etags) => Unchanged { present: true, etags, ..more },
            Self::Unchanged(asked) => Unchanged {
                present: asked.present || more.present,
                etags: if more.etags.is_empty() { asked.etags } else { more.etags },
                len: more.len.or(asked.len),
                modified: more.modified.or(asked.modified),
                not_since: more.not_since.or(asked.not_since),
            },
        };
        Self::Unchanged(Box::new(asked))
    }
}

fn held(holds: bool) -> Verdict {
    if holds { Verdict::Holds } else { Verdict::Fails }
}

fn has_one(etags: &[String], current: &Facts) -> bool {
    let ours = current.etag.to_string();
    etags.iter().any(|tag| tag.eq_ignore_ascii_case(&ours))
}

impl Unchanged {
    fn needs_current(&self) -> bool {
        self.present || !self.etags.is_empty() || self.len.is_some() || self.modified.is_some()
    }

    fn holds(&self, current: &Facts) -> bool {
        let second = current.modified / MILLIS_PER_SECOND;
        (self.etags.is_empty() || has_one(&self.etags, current))
            && self.len.is_none_or(|len| len == current.len)
            && self.modified.is_none_or(|at| at / MILLIS_PER_SECOND == second)
            // RFC 9110, section 13.2.2: a date counts only where there is no ETag to match.
            && (self.present || self.not_since.is_none_or(|since| second <= since / MILLIS_PER_SECOND))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Facts = Facts { etag: ETag { md5: 0xab, parts: 2 }, len: 7, modified: 10_500 };

    fn verdict(asked: Unchanged) -> (Verdict, Verdict) {
        let condition = Precondition::None.and(asked);
        (condition.verdict(Some(&NOW)), condition.verdict(None))
    }

    #[test]
    fn every_condition_on_the_current_version_counts() {
        use Verdict::{Fails, Holds, NoKey};
        let none = Unchanged::default;
        assert_eq!(verdict(none()), (Holds, Holds));
        assert_eq!(verdict(Unchanged { len: Some(7), ..none() }), (Holds, NoKey));
        assert_eq!(verdict(Unchanged { len: Some(8), ..none() }), (Fails, NoKey));
        assert_eq!(verdict(Unchanged { modified: Some(10_000), ..none() }), (Holds, NoKey));
        assert_eq!(verdict(Unchanged { modified: Some(11_000), ..none() }), (Fails, NoKey));
        assert_eq!(verdict(Unchanged { not_since: Some(10_000), ..none() }), (Holds, Holds));
        assert_eq!(verdict(Unchanged { not_since: Some(9_999), ..none() }), (Fails, Holds));
        let two = Unchanged { len: Some(7), modified: Some(9_000), ..none() };
        assert_eq!(verdict(two), (Fails, NoKey));
    }

    #[test]
    fn etags_and_dates_go_together() {
        let late = || Unchanged { not_since: Some(1), ..Unchanged::default() };
        let ours = Precondition::Matches(vec!["x".into(), NOW.etag.to_string().to_uppercase()]);
        assert_eq!(ours.verdict(Some(&NOW)), Verdict::Holds);
        // With an ETag the date is ignored.
        assert_eq!(ours.clone().and(late()).verdict(Some(&NOW)), Verdict::Holds);
        assert_eq!(ours.and(late()).verdict(None), Verdict::NoKey);
        assert_eq!(Precondition::Present.and(late()).verdict(None), Verdict::NoKey);
        let other = Precondition::Matches(vec!["x".into()]);
        assert_eq!(other.and(Unchanged { len: Some(7), ..Unchanged::default() }).verdict(Some(&NOW)), Verdict::Fails);
        assert_eq!(Precondition::Absent.and(late()).verdict(None), Verdict::Holds);
        assert_eq!(Precondition::Absent.and(late()).verdict(Some(&NOW)), Verdict::Fails);
        assert_eq!(Precondition::None.and(late()).verdict(None), Verdict::Holds);
    }
}
