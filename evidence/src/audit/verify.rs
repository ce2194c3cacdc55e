//! An auditor's look at a report, offline: draws seed and challenges again, and checks every row, signature and slice.
//! What the report says and nobody signed is kept apart from what is proven.

use std::collections::{BTreeMap, BTreeSet};

use stele_chunker::tree::{ProofError as PlaceError, verify_range};
use stele_types::ids::{DriveId, LogIndex, NodeId, ObjectRoot};

use super::AuditError;
use super::answer::{AnswerKey, Challenge};
use super::challenge::{Asked, Scope, Seed, commitment};
use super::detection::{SHARES, detection_exact};
use super::inventory::{InventoryHead, Row};
use super::progress::Verdict;
use super::report::{Outcome, Report};
use crate::keys::SignatureError;
use crate::proof::{Head, ProofError, verify_inclusion};
use crate::tree::Hash;

/// What is wrong with one outcome of a report.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OutcomeFault {
    /// The seed asks for another row or group.
    #[error("the seed asks for another row or group than this one")]
    NotAsked,
    /// The row is not in the inventory.
    #[error("its row is not in the logged inventory: {0}")]
    Row(#[from] ProofError),
    /// A chunk that does not stand there in the object.
    #[error("its chunk is not proven to be a part of the object: {0}")]
    Place(PlaceError),
    /// A chunk without proof of its place, a shard with one, or a proof of another chunk.
    #[error("the proof of its place is missing, or of another chunk")]
    OtherPlace,
    /// An answer where the verdict says that there was none, or none where it needs one.
    #[error("verdict and answer do not go together")]
    Verdict,
    /// The node's key did not sign the answer.
    #[error("the answer of an `ok` is not signed by the node: {0}")]
    Signature(SignatureError),
    /// The slice kept beside the report is not the one that was signed.
    #[error("the slice is not the one that the node signed")]
    OtherSlice,
    /// The slice does not bear out the verdict.
    #[error("the slice that the node signed says the opposite of the verdict")]
    Contradiction,
}

/// Why a report can't be believed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReportFault {
    /// The challenges can't be drawn.
    #[error(transparent)]
    Plan(#[from] AuditError),
    /// Challenges are missing or too many.
    #[error("the seed gives {expected} challenges, and the report has {found}; results were left out or added")]
    Count {
        /// What the seed gives.
        expected: usize,
        /// What the report has.
        found: usize,
    },
    /// An outcome that does not hold.
    #[error("challenge {at} of the report: {fault}")]
    Outcome {
        /// Which, from 0.
        at: usize,
        /// What is wrong.
        fault: OutcomeFault,
    },
}

/// How far a verdict is proven.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Standing {
    /// The node signed it, and the slice was checked.
    Proven,
    /// The node signed a digest; the slice was not at hand.
    Signed,
    /// The word of whoever ran the audit.
    Asserted,
}

/// Where bytes are missing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// A drive of a node.
    Drive(NodeId, DriveId),
    /// An object, asked of a gateway.
    Object(NodeId, ObjectRoot),
}

/// What was asked of one node, and how likely a loss would have been found.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Coverage {
    /// Who was asked.
    pub node: NodeId,
    /// Rows of its inventory.
    pub rows: u64,
    /// How many were asked for.
    pub asked: u64,
    /// For each of [`SHARES`]: how many rows that is, rounded up, and the chance that at least one of so many lost ones
    /// was asked for. Only where rows were drawn. A row that lost a part of its groups is found with that part's chance.
    pub detection: Option<[(u64, f64); SHARES.len()]>,
}

/// A report that holds, and what it says.
#[derive(Clone, PartialEq, Debug)]
pub struct Checked {
    /// How many challenges ended how, and how far that is proven.
    pub counts: BTreeMap<(Verdict, Standing), usize>,
    /// Failed challenges by place; the numbers are those of the outcomes.
    pub failed: BTreeMap<Place, Vec<usize>>,
    /// Per node.
    pub coverage: Vec<Coverage>,
    /// Every row of every inventory was asked for.
    pub complete: bool,
    /// This checkpoint must be signed by the log, and the entry that [`Checked::logged`] names be in it.
    pub head: Head,
    /// Log index of the inventories' entry, and what it must commit to.
    pub logged: (LogIndex, Hash),
    /// These must be object roots of records in the log.
    pub objects: BTreeSet<ObjectRoot>,
}

impl Checked {
    /// How many challenges ended so.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.counts.iter().filter(|((found, _), _)| *found == verdict).map(|(_, count)| count).sum()
    }
}

/// Checks a report. `keys` are the nodes' keys that the auditor trusts: of other nodes everything is asserted.
/// `slice` gives the slice of an outcome by its number, if it was kept.
///
/// # Errors
/// The first thing that does not hold.
pub fn verify_report(
    report: &Report,
    keys: &BTreeMap<NodeId, AnswerKey>,
    slice: &mut dyn FnMut(usize) -> Option<Vec<u8>>,
) -> Result<Checked, ReportFault> {
    let heads: Vec<InventoryHead> = report.inventories.iter().map(|listed| listed.head).collect();
    let seed = report.seed.draw(&report.plan, &heads)?;
    let asked = report.plan.draw(&seed, &heads)?;
    if asked.len() != report.outcomes.len() {
        return Err(ReportFault::Count { expected: asked.len(), found: report.outcomes.len() });
    }
    let coverage: Vec<Coverage> = heads.iter().map(|head| cover(report, head)).collect();
    let mut checked = Checked {
        counts: BTreeMap::new(),
        failed: BTreeMap::new(),
        complete: coverage.iter().all(|node| node.asked == node.rows),
        coverage,
        head: report.seed.head,
        logged: (report.seed.entry, commitment(&heads)),
        objects: BTreeSet::new(),
    };
    for (at, (asked, outcome)) in asked.iter().zip(&report.outcomes).enumerate() {
        let fail = |fault| ReportFault::Outcome { at, fault };
        let head = heads.get(asked.inventory).ok_or_else(|| fail(OutcomeFault::NotAsked))?;
        let challenge = check_asked((report, &seed), head, *asked, outcome).map_err(fail)?;
        let standing = check_verdict(&challenge, keys.get(&head.node), outcome, &mut || slice(at)).map_err(fail)?;
        *checked.counts.entry((outcome.verdict, standing)).or_default() += 1;
        let place = match outcome.row {
            Row::Shard { drive, .. } => Place::Drive(head.node, drive),
            Row::Chunk { object, .. } => {
                checked.objects.insert(object);
                Place::Object(head.node, object)
            }
        };
        if outcome.verdict == Verdict::Failed {
            checked.failed.entry(place).or_default().push(at);
        }
    }
    Ok(checked)
}

fn cover(report: &Report, head: &InventoryHead) -> Coverage {
    let asked = report.plan.rows_of(head);
    let drawn = matches!(report.plan.scope, Scope::Sample(_)) || asked == head.size;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a count, for the reader"
    )]
    let lost = |share: f64| (share * head.size as f64).ceil() as u64;
    let detection = drawn.then(|| SHARES.map(|share| (lost(share), detection_exact(head.size, lost(share), asked))));
    Coverage { node: head.node, rows: head.size, asked, detection }
}

/// The outcome is of what the seed asks for, and of a row of the inventory.
fn check_asked(
    (report, seed): (&Report, &Seed),
    head: &InventoryHead,
    asked: Asked,
    outcome: &Outcome,
) -> Result<Challenge, OutcomeFault> {
    let row = outcome.row;
    let group = report.plan.group(seed, head.node, (row.subject(), row.groups()), asked.repeat);
    if outcome.position != asked.position || outcome.group != group {
        return Err(OutcomeFault::NotAsked);
    }
    verify_inclusion(row.leaf(), outcome.position, head.size, &head.root, &outcome.path)?;
    match (&row, &outcome.place) {
        (Row::Shard { .. }, None) => {}
        (Row::Chunk { object, offset, id, len }, Some(place)) => {
            let end = offset.checked_add(u64::from(*len)).ok_or(OutcomeFault::OtherPlace)?;
            let leaves = verify_range(object, place, *offset..end).map_err(OutcomeFault::Place)?;
            let same = matches!(leaves.as_slice(), [found] if found.offset == *offset && found.leaf.id == *id
                && found.leaf.len == u64::from(*len));
            if !same {
                return Err(OutcomeFault::OtherPlace);
            }
        }
        _ => return Err(OutcomeFault::OtherPlace),
    }
    Ok(Challenge { audit: report.plan.id, seed: *seed, node: head.node, row, group })
}

/// The answer and the slice bear the verdict out, as far as they are there.
fn check_verdict(
    challenge: &Challenge,
    key: Option<&AnswerKey>,
    outcome: &Outcome,
    slice: &mut dyn FnMut() -> Option<Vec<u8>>,
) -> Result<Standing, OutcomeFault> {
    let answer = match (outcome.verdict, &outcome.answer) {
        (Verdict::Offline | Verdict::Contained, None) | (Verdict::Failed, None) => return Ok(Standing::Asserted),
        (Verdict::Ok | Verdict::Failed, Some(answer)) => answer,
        _ => return Err(OutcomeFault::Verdict),
    };
    let Some(digest) = answer.slice else {
        if outcome.verdict == Verdict::Ok {
            return Err(OutcomeFault::Verdict);
        }
        let signed = key.is_some_and(|key| answer.check(challenge, key).is_ok());
        return Ok(if signed { Standing::Proven } else { Standing::Asserted });
    };
    let signed = key.map(|key| answer.check(challenge, key));
    if let (Verdict::Ok, Some(Err(error))) = (outcome.verdict, signed) {
        return Err(OutcomeFault::Signature(error));
    }
    let signed = matches!(signed, Some(Ok(())));
    let Some(slice) = slice() else {
        return Ok(if signed { Standing::Signed } else { Standing::Asserted });
    };
    if *blake3::hash(&slice).as_bytes() != digest {
        // Of a failed challenge this may be what failed; nobody can tell now.
        return if outcome.verdict == Verdict::Ok { Err(OutcomeFault::OtherSlice) } else { Ok(Standing::Asserted) };
    }
    let holds = challenge.check_slice(&slice).is_ok();
    match (holds == (outcome.verdict == Verdict::Ok), signed) {
        (true, true) => Ok(Standing::Proven),
        (true, false) => Ok(Standing::Asserted),
        // Right bytes under a wrong signature are a failed answer, too.
        (false, false) if holds => Ok(Standing::Asserted),
        (false, _) => Err(OutcomeFault::Contradiction),
    }
}
