//! Who gave no cosignature when last asked, why, and since when. Pure; times are since some start.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::NoCosignature;

/// A witness that gave no cosignature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missing {
    /// The witness: its names in the policy, and its host.
    pub witness: String,
    /// Why, when it was asked last.
    pub why: String,
    /// It says that it saw another history of the log, or a longer one.
    pub alarm: bool,
    /// For how long.
    pub since: Duration,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {} s: {}", self.witness, self.since.as_secs(), self.why)
    }
}

/// What a round of questions changed.
#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct Changes {
    /// Missing, and not before; or an alarm, and none before.
    pub(super) new: Vec<Missing>,
    /// Missing before, and not now.
    pub(super) back: Vec<String>,
}

#[derive(Debug)]
struct Absence {
    why: String,
    alarm: bool,
    begin: Duration,
}

/// All that are missing, by name.
#[derive(Debug, Default)]
pub(super) struct Absences(BTreeMap<String, Absence>);

impl Absences {
    /// Takes who gave none in the round that ended `now`.
    pub(super) fn take(&mut self, now: Duration, absent: Vec<(String, NoCosignature)>) -> Changes {
        let mut before = std::mem::take(&mut self.0);
        let mut changes = Changes::default();
        for (witness, why) in absent {
            let known = before.remove(&witness);
            let (alarm, why) = (why.is_alarm(), why.to_string());
            let begin = known.as_ref().map_or(now, |known| known.begin);
            if known.is_none_or(|known| alarm && !known.alarm) {
                let (witness, why) = (witness.clone(), why.clone());
                changes.new.push(Missing { witness, why, alarm, since: now.saturating_sub(begin) });
            }
            self.0.insert(witness, Absence { why, alarm, begin });
        }
        changes.back.extend(before.into_keys());
        changes
    }

    /// Everybody who is missing.
    pub(super) fn list(&self, now: Duration) -> Vec<Missing> {
        let missing = |(witness, absence): (&String, &Absence)| Missing {
            witness: witness.clone(),
            why: absence.why.clone(),
            alarm: absence.alarm,
            since: now.saturating_sub(absence.begin),
        };
        self.0.iter().map(missing).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn down(witness: &str) -> (String, NoCosignature) {
        (witness.to_owned(), NoCosignature::Unreachable("down".to_owned()))
    }

    fn ahead(witness: &str) -> (String, NoCosignature) {
        (witness.to_owned(), NoCosignature::Ahead { size: 9, ours: 4 })
    }

    #[test]
    fn absence_counts_from_its_first_round_and_is_told_once() {
        let mut absences = Absences::default();
        let names = |changes: Changes| {
            let new: Vec<_> = changes.new.iter().map(|missing| (missing.witness.clone(), missing.alarm)).collect();
            (new, changes.back)
        };
        let told = |witness: &str, alarm| (vec![(witness.to_owned(), alarm)], Vec::<String>::new());
        assert_eq!(names(absences.take(at(1), vec![down("a")])), told("a", false));
        assert_eq!(names(absences.take(at(5), vec![down("a"), down("b")])), told("b", false));
        assert_eq!(names(absences.take(at(6), vec![ahead("a"), down("b")])), told("a", true), "that is news");
        assert_eq!(absences.take(at(7), vec![ahead("a"), down("b")]), Changes::default());
        let since: Vec<_> = absences.list(at(11)).iter().map(|missing| (missing.since, missing.alarm)).collect();
        assert_eq!(since, [(at(10), true), (at(6), false)]);
        assert_eq!(absences.take(at(12), vec![down("b")]).back, ["a"]);
        assert_eq!(absences.list(at(12)).len(), 1);
        assert_eq!(names(absences.take(at(20), vec![down("a"), down("b")])), told("a", false));
        assert_eq!(absences.list(at(20))[0].since, at(0));
    }
}
