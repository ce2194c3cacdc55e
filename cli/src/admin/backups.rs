//! What status says of backups and restores.

use serde::{Deserialize, Serialize};
use stele_rpc::meta::{BackupState, Compared};

use crate::config::Span;

/// A backup that comes later than this many intervals is overdue.
const LATE: u64 = 2;

/// Backups of the metadata.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Backups {
    /// How often one is made, milliseconds; without it none is.
    pub(crate) interval_ms: Option<u64>,
    /// Name of the newest one.
    pub(crate) newest: Option<String>,
    /// Its commit time, milliseconds since 1970.
    pub(crate) time_ms: Option<u64>,
    pub(crate) bytes: Option<u64>,
    pub(crate) overdue: bool,
    /// Commit time of the last restore, milliseconds since 1970.
    pub(crate) restored_ms: Option<u64>,
    /// References and drives are still to be compared: sweeps are off.
    pub(crate) comparing: bool,
    /// What the comparison found: packs, and those of them that were lost.
    pub(crate) compared: Option<(u64, u64)>,
    /// Names under which the evidence log was closed.
    pub(crate) closed_logs: Vec<String>,
}

impl Backups {
    /// As of `now`, milliseconds since 1970.
    pub(crate) fn new(state: &BackupState, now: u64) -> Self {
        let newest = state.newest.as_ref();
        let last = newest.map_or(state.since, |newest| newest.time);
        let late = |interval: u64| now > last.saturating_add(interval.saturating_mul(LATE));
        let restored = state.restored.as_ref();
        let compared = restored.and_then(|restored| restored.compared);
        Self {
            interval_ms: state.interval_ms,
            newest: newest.map(|newest| newest.name.clone()),
            time_ms: newest.map(|newest| newest.time),
            bytes: newest.map(|newest| newest.bytes),
            overdue: state.interval_ms.is_some_and(late),
            restored_ms: restored.map(|restored| restored.time),
            comparing: restored.is_some() && compared.is_none(),
            compared: compared.map(|Compared { packs, lost, .. }| (packs, lost)),
            closed_logs: state.closed.iter().map(|closed| closed.origin.clone()).collect(),
        }
    }

    /// What an operator must look at.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.overdue {
            let last = self
                .newest
                .as_ref()
                .map_or_else(|| "none was made yet".to_owned(), |name| format!("the last is {name}"));
            problems.push(format!(
                "a backup of the metadata is overdue: {last}; the log of the leading metadata node says why"
            ));
        }
        if self.comparing {
            problems.push(
                "the cluster was restored: references and drives are being compared, and nothing is swept before that is done"
                    .to_owned(),
            );
        }
        problems
    }

    /// One line for people.
    pub(crate) fn line(&self, now: u64) -> String {
        let ago = |time: u64| Span(now.saturating_sub(time) / 1000 * 1000).to_string();
        let mut line = match (self.interval_ms, &self.newest, self.time_ms) {
            (None, _, _) => "none is made".to_owned(),
            (Some(interval), Some(newest), Some(time)) => {
                format!("{newest}, {} ago; every {}", ago(time), Span(interval))
            }
            (Some(interval), _, _) => format!("none yet; every {}", Span(interval)),
        };
        if let Some(time) = self.restored_ms {
            line += &format!("; restored {} ago", ago(time));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use stele_rpc::meta::{BackupMade, RestoredFrom};

    use super::*;

    #[test]
    fn what_is_overdue_and_what_is_being_compared_are_problems() {
        let mut state = BackupState { since: 1000, ..BackupState::default() };
        assert_eq!(Backups::new(&state, 1 << 40).problems(), Vec::<String>::new(), "no backups, no rule");
        state.interval_ms = Some(60_000);
        assert!(!Backups::new(&state, 121_000).overdue);
        assert!(Backups::new(&state, 121_001).overdue);
        state.newest = Some(BackupMade { time: 100_000, name: "b".into(), ..BackupMade::default() });
        assert!(!Backups::new(&state, 220_000).overdue);
        let late = Backups::new(&state, 220_001);
        assert!(late.problems()[0].contains("the last is b"), "{:?}", late.problems());
        state.restored = Some(RestoredFrom { time: 5, ..RestoredFrom::default() });
        let restored = Backups::new(&state, 110_000);
        assert!(restored.comparing && restored.problems()[0].contains("was restored"));
        state.restored.as_mut().unwrap().compared = Some(Compared::default());
        assert!(Backups::new(&state, 110_000).problems().is_empty());
    }
}
