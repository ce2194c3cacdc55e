//! Which events of a key belong into a bundle. Pure: events in, newest first; the chosen ones out.
//!
//! A version's evidence is its creation and all that happened to the key since, without a gap, so that an event
//! that was left out shows. What came before says nothing about the version.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bytes::Bytes;
use stele_evidence::record::{Event, Record};
use stele_types::ids::{LogIndex, Salt, VersionId};

use crate::error::GatewayError;

/// An event as the log keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Logged {
    pub(super) index: LogIndex,
    pub(super) record: Record,
    /// Exact bytes of `record`.
    pub(super) bytes: Bytes,
    pub(super) salt: Salt,
}

/// What the log still has of an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Kept {
    /// All of it.
    Whole(Box<Logged>),
    /// Its place, and the entry of the erasure that names it.
    Erased {
        /// Its place.
        index: LogIndex,
        /// The erasure's place.
        by: LogIndex,
    },
}

/// What a bundle will hold of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Selected {
    /// Events, newest first.
    pub(super) found: Vec<Found>,
    /// Log indices of the erasures that explain what is missing in between.
    pub(super) erasures: BTreeSet<LogIndex>,
}

/// An event that belongs into the bundle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Found {
    pub(super) index: LogIndex,
    pub(super) record: Record,
    pub(super) bytes: Bytes,
    pub(super) salt: Salt,
    /// It created the version that was asked for.
    pub(super) target: bool,
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    /// The version; without one, the last that was created.
    pub(super) target: Option<VersionId>,
    /// Only null versions are meant.
    pub(super) null: bool,
    /// All events of the key.
    pub(super) all: bool,
    /// These are events about the cluster itself: all of them, or none.
    pub(super) subject: bool,
    /// Entries that the checkpoint covers.
    pub(super) size: u64,
    /// Most events.
    pub(super) max: usize,
}

/// Takes the events of a key, newest first.
#[derive(Debug)]
pub(super) struct Selection {
    wanted: Wanted,
    /// Newest first.
    found: Vec<Found>,
    erasures: BTreeSet<LogIndex>,
    /// The creation of the version was among them.
    complete: bool,
    /// Log index of the creation, where the checkpoint does not cover it.
    early: Option<LogIndex>,
}

impl Selection {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self { wanted, found: Vec::new(), erasures: BTreeSet::new(), complete: false, early: None }
    }

    fn is_target(&self, record: &Record) -> bool {
        if self.wanted.subject {
            return record.key_event == 0;
        }
        let creation = matches!(record.event, Event::Put | Event::DeleteMarker);
        match self.wanted.target {
            Some(id) => creation && record.version == id,
            None => record.event == Event::Put && (!self.wanted.null || record.null_version),
        }
    }

    /// Takes the next older event; says whether more are needed.
    ///
    /// # Errors
    /// More events than a bundle holds, or an erasure that the checkpoint does not cover.
    pub(super) fn push(&mut self, event: Kept) -> Result<ControlFlow<()>, GatewayError> {
        let event = match event {
            Kept::Whole(event) => *event,
            Kept::Erased { by, .. } if by.0 >= self.wanted.size => {
                return Err(GatewayError::EvidenceNotReady { entry: by.0, size: self.wanted.size });
            }
            Kept::Erased { by, .. } => {
                self.erasures.insert(by);
                return Ok(ControlFlow::Continue(()));
            }
        };
        let target = !self.complete && self.is_target(&event.record);
        if event.index.0 >= self.wanted.size {
            if target || self.wanted.subject {
                self.early = Some(event.index);
                return Ok(ControlFlow::Break(()));
            }
            return Ok(ControlFlow::Continue(()));
        }
        if self.found.len() == self.wanted.max {
            let max = self.wanted.max;
            let what = format!("more than {max} events of the key belong to this evidence, and a bundle holds {max}");
            return Err(GatewayError::InvalidRequest { what });
        }
        let Logged { index, record, bytes, salt } = event;
        self.found.push(Found { index, record, bytes, salt, target });
        self.complete |= target;
        Ok(if target && !self.wanted.all { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// What was chosen.
    ///
    /// # Errors
    /// `EvidenceNotReady`, or `NoSuchEvidence` if no event created the version.
    pub(super) fn finish(self, key: &str) -> Result<Selected, GatewayError> {
        if let Some(entry) = self.early {
            return Err(GatewayError::EvidenceNotReady { entry: entry.0, size: self.wanted.size });
        }
        if !self.complete {
            let erased =
                if self.erasures.is_empty() { "" } else { ", or not any more: events of this key were erased" };
            let what = format!("the evidence log has no event that created this version of {key:?}{erased}");
            return Err(GatewayError::NoSuchEvidence { what });
        }
        Ok(Selected { found: self.found, erasures: self.erasures })
    }
}

#[cfg(test)]
mod tests {
    use stele_types::ids::{BucketId, CommitSeq, NodeId};

    use super::*;

    fn version(n: u64) -> VersionId {
        VersionId { commit_seq: CommitSeq(n), nonce: n }
    }

    fn event(index: u64, event: Event, of: u64) -> Logged {
        let record = Record {
            event,
            bucket: "b".into(),
            bucket_id: BucketId(1),
            key: "k".into(),
            version: version(of),
            null_version: of.is_multiple_of(2),
            root: None,
            len: 0,
            time: 0,
            principal: String::new(),
            source: String::new(),
            node: NodeId(1),
            key_event: 0,
            previous: None,
            body_hash: None,
            digests: Vec::new(),
            retention: None,
            legal_hold: false,
            digest: None,
            detail: String::new(),
            erased: Vec::new(),
        };
        let bytes = Bytes::from(record.encode());
        Logged { index: LogIndex(index), record, bytes, salt: Salt::from_bytes([1; 32]) }
    }

    /// Two versions, a marker, the first version deleted; oldest first.
    fn history() -> Vec<Logged> {
        vec![
            event(3, Event::Put, 1),
            event(5, Event::Put, 2),
            event(8, Event::LegalHold, 1),
            event(9, Event::DeleteMarker, 3),
            event(12, Event::Delete, 1),
        ]
    }

    fn select(wanted: Wanted) -> Result<Vec<(u64, bool)>, GatewayError> {
        let mut selection = Selection::new(wanted);
        for event in history().into_iter().rev() {
            if selection.push(Kept::Whole(Box::new(event)))?.is_break() {
                break;
            }
        }
        Ok(selection.finish("k")?.found.into_iter().map(|found| (found.index.0, found.target)).collect())
    }

    const ALL: Wanted = Wanted { target: None, null: false, all: false, subject: false, size: 20, max: 9 };

    #[test]
    fn a_version_comes_with_everything_since_its_creation() {
        let of = |n| Wanted { target: Some(version(n)), ..ALL };
        assert_eq!(select(of(2)).unwrap(), [(12, false), (9, false), (8, false), (5, true)]);
        assert_eq!(select(of(1)).unwrap().last(), Some(&(3, true)));
        assert_eq!(select(of(1)).unwrap().len(), 5);
        assert_eq!(select(of(3)).unwrap(), [(12, false), (9, true)]);
        assert_eq!(select(ALL).unwrap(), select(of(2)).unwrap(), "the last that was created");
        let all = select(Wanted { all: true, ..of(3) }).unwrap();
        assert_eq!(all.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [12, 9, 8, 5, 3]);
        assert_eq!(all.iter().filter(|(_, target)| *target).count(), 1);
        assert_eq!(select(Wanted { null: true, ..ALL }).unwrap().last(), Some(&(5, true)));
    }

    #[test]
    fn events_behind_the_checkpoint_wait_for_the_next() {
        let of = |n, size| Wanted { target: Some(version(n)), size, ..ALL };
        assert_eq!(select(of(2, 9)).unwrap(), [(8, false), (5, true)]);
        for size in [0, 4, 5] {
            let error = select(of(2, size)).unwrap_err();
            assert!(matches!(error, GatewayError::EvidenceNotReady { entry: 5, size: s } if s == size), "{error}");
        }
    }

    #[test]
    fn of_a_subject_there_is_everything_or_nothing_yet() {
        let audit = |size| {
            let mut selection = Selection::new(Wanted { subject: true, size, ..ALL });
            for (index, kind, key_event) in [(9, Event::AuditReport, 1), (4, Event::AuditBegun, 0)] {
                let logged = event(index, kind, 0);
                let record = Record { key_event, ..logged.record };
                if selection.push(Kept::Whole(Box::new(Logged { record, ..logged })))?.is_break() {
                    break;
                }
            }
            Ok::<usize, GatewayError>(selection.finish("audit/00")?.found.len())
        };
        assert_eq!(audit(10).unwrap(), 2);
        assert!(matches!(audit(9).unwrap_err(), GatewayError::EvidenceNotReady { entry: 9, size: 9 }));
    }

    #[test]
    fn what_has_no_evidence_or_too_much_is_an_error() {
        let error = select(Wanted { target: Some(version(7)), ..ALL }).unwrap_err();
        assert!(matches!(error, GatewayError::NoSuchEvidence { .. }), "{error}");
        assert!(select(Wanted { all: true, max: 5, ..ALL }).is_ok());
        let error = select(Wanted { all: true, max: 4, ..ALL }).unwrap_err();
        assert!(matches!(error, GatewayError::InvalidRequest { .. }), "{error}");
    }

    #[test]
    fn erasures_come_in_place_of_what_they_erased() {
        let erased = |index, by| Kept::Erased { index: LogIndex(index), by: LogIndex(by) };
        let events = || {
            let [first, second, .., last] = <[Logged; 5]>::try_from(history()).unwrap();
            let whole = |event| Kept::Whole(Box::new(event));
            [whole(last), erased(9, 15), erased(8, 14), whole(second), erased(4, 16), whole(first)]
        };
        let select = |wanted: Wanted| {
            let mut selection = Selection::new(wanted);
            for event in events() {
                if selection.push(event)?.is_break() {
                    break;
                }
            }
            let selected = selection.finish("k")?;
            let found: Vec<u64> = selected.found.iter().map(|found| found.index.0).collect();
            Ok::<_, GatewayError>((found, selected.erasures.iter().map(|at| at.0).collect::<Vec<_>>()))
        };
        assert_eq!(select(ALL).unwrap(), (vec![12, 5], vec![14, 15]), "what lies before the version is not asked");
        assert_eq!(select(Wanted { all: true, ..ALL }).unwrap(), (vec![12, 5, 3], vec![14, 15, 16]));
        let error = select(Wanted { size: 15, ..ALL }).unwrap_err();
        assert!(matches!(error, GatewayError::EvidenceNotReady { entry: 15, size: 15 }), "{error}");
        let error = select(Wanted { target: Some(version(3)), ..ALL }).unwrap_err();
        assert!(matches!(&error, GatewayError::NoSuchEvidence { .. }) && error.to_string().contains("were erased"));
    }
}
