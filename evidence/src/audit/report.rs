//! The report of an audit: plan, seed, inventories, and of every challenge what came of it. Deterministic CBOR, so that
//! it has one encoding and one digest, which the log takes as an event. The slices are not in it: they are kept beside
//! it for as long as somebody may want to check them, and their digests are signed. Layout: docs/formats/audit.md.

use sha2::{Digest, Sha256};
use stele_chunker::tree::RangeProof;
use stele_types::ids::{LogIndex, NodeId};
use stele_types::seam::UnixMillis;

use super::answer::Answer;
use super::challenge::{
    AuditId, BEACON_MAX, BEACON_NAME_MAX, CHALLENGES_MAX, GROUPS_PER_ROW_MAX, INVENTORIES_MAX, Plan, Scope, SeedSource,
};
use super::inventory::{InventoryHead, PATH_MAX, Row, narrow};
use super::progress::Verdict;
use crate::bundle::range_file::{RANGE_FILE_MAX, decode_range_proof, encode_range_proof};
use crate::cbor::{CborError, Reader, Writer};
use crate::proof::Head;
use crate::tree::{Edge, Hash, leaf_hash};
use crate::vkey::VerifierKey;

const FORMAT: &str = "stele/audit-report/v1";
/// Largest report, bytes.
pub const REPORT_MAX: usize = 128 << 20;
/// Longest text of a node's key, bytes.
const KEY_TEXT_MAX: usize = 512;

/// An inventory as the report names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// What was logged of it.
    pub head: InventoryHead,
    /// The key that the node signs with, as the operator says: a convenience, never a reason to trust.
    pub key: VerifierKey,
}

/// What came of one challenge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Position of the row in its inventory.
    pub position: u64,
    /// The row.
    pub row: Row,
    /// From the row to the inventory's root.
    pub path: Vec<Hash>,
    /// For chunks: that the chunk stands there in the object.
    pub place: Option<RangeProof>,
    /// Which group was asked for.
    pub group: u32,
    /// How it ended.
    pub verdict: Verdict,
    /// From the first question to the verdict, by the auditor's clock.
    pub latency_ms: u64,
    /// How often it was asked.
    pub asks: u32,
    /// The answer, if one came.
    pub answer: Option<Answer>,
}

/// Everything that an audit found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// What was asked.
    pub plan: Plan,
    /// End of the audit, by the auditor's clock.
    pub time: UnixMillis,
    /// Where the seed came from.
    pub seed: SeedSource,
    /// Who was asked; nodes ascending.
    pub inventories: Vec<Listed>,
    /// What came of it, in the order in which [`Plan::draw`] gives the challenges.
    pub outcomes: Vec<Outcome>,
}

/// Why a report can't be written or read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReportError {
    /// Not the one encoding of a report.
    #[error("not an audit report: {0}; take another copy of it")]
    Cbor(#[from] CborError),
    /// Larger than a report may be.
    #[error("an audit report of {0} bytes; at most {REPORT_MAX} are read, so audit fewer rows at a time")]
    Size(usize),
    /// A part that reports don't hold, or not so much of.
    #[error("an audit report can't hold this: {0}")]
    Limit(&'static str),
}

impl Outcome {
    fn write(&self, w: &mut Writer) -> Result<(), ReportError> {
        if self.path.len() > PATH_MAX {
            return Err(ReportError::Limit("a path longer than any inventory has"));
        }
        let place = self.place.as_ref().map(encode_range_proof).transpose();
        let place = place.map_err(|_| ReportError::Limit("a proof that no range of one chunk has"))?;
        w.array(9);
        w.uint(self.position);
        self.row.write(w);
        w.bytes(self.path.concat().as_slice());
        w.bytes(place.as_deref().unwrap_or_default());
        w.uint(u64::from(self.group));
        w.uint(self.verdict as u64);
        w.uint(self.latency_ms);
        w.uint(u64::from(self.asks));
        match &self.answer {
            Some(answer) => answer.write(w),
            None => w.array(0),
        }
        Ok(())
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CborError> {
        expect(r.array()?, 9)?;
        let (position, row, path, place) = (r.uint()?, Row::read(r)?, r.bytes()?, r.bytes()?);
        let (path, rest) = path.as_chunks::<32>();
        if !rest.is_empty() || path.len() > PATH_MAX {
            return Err(CborError::Field(2));
        }
        let place = match place.len() {
            0 => None,
            1..=RANGE_FILE_MAX => Some(decode_range_proof(place).map_err(|_| CborError::Field(3))?),
            _ => return Err(CborError::Field(3)),
        };
        Ok(Self {
            position,
            row,
            path: path.to_vec(),
            place,
            group: narrow(r.uint()?)?,
            verdict: Verdict::from_number(r.uint()?).ok_or(CborError::Field(5))?,
            latency_ms: r.uint()?,
            asks: narrow(r.uint()?)?,
            answer: match r.array()? {
                0 => None,
                3 => Some(Answer::read(r)?),
                _ => return Err(CborError::Field(8)),
            },
        })
    }

    /// Its leaf in the tree over all outcomes: challenge, answer, verdict and latency.
    fn leaf(&self) -> Hash {
        let answer = self.answer.as_ref().map(|answer| Sha256::digest(answer.encode()));
        let mut w = Writer::new();
        w.array(6);
        w.bytes(&self.row.leaf());
        w.uint(u64::from(self.group));
        w.bytes(answer.as_deref().unwrap_or_default());
        w.uint(self.verdict as u64);
        w.uint(self.latency_ms);
        w.uint(u64::from(self.asks));
        leaf_hash(&w.finish())
    }
}

/// A number that has to be another one.
fn expect(found: u64, expected: u64) -> Result<(), CborError> {
    if found == expected { Ok(()) } else { Err(CborError::Field(found)) }
}

fn write_plan(plan: &Plan, w: &mut Writer) {
    w.array(6);
    w.bytes(&plan.id.0);
    w.uint(plan.epoch);
    let (kind, first, count) = match plan.scope {
        Scope::Sample(rows) => (0, 0, rows),
        Scope::Rows { first, count } => (1, first, count),
    };
    w.uint(kind);
    w.uint(first);
    w.uint(count);
    w.uint(u64::from(plan.groups_per_row));
}

fn read_plan(r: &mut Reader<'_>) -> Result<Plan, CborError> {
    expect(r.array()?, 6)?;
    let (id, epoch) = (AuditId(r.fixed()?), r.uint()?);
    let scope = match (r.uint()?, r.uint()?, r.uint()?) {
        (0, 0, rows) => Scope::Sample(rows),
        (1, first, count) => Scope::Rows { first, count },
        (kind, ..) => return Err(CborError::Field(kind)),
    };
    let groups_per_row = narrow(r.uint()?)?;
    if !(1..=GROUPS_PER_ROW_MAX).contains(&groups_per_row) {
        return Err(CborError::Field(u64::from(groups_per_row)));
    }
    Ok(Plan { id, epoch, scope, groups_per_row })
}

fn write_seed(seed: &SeedSource, w: &mut Writer) {
    w.array(5);
    w.uint(seed.entry.0);
    w.uint(seed.head.size);
    w.bytes(&seed.head.root);
    w.text(&seed.beacon_name);
    w.bytes(&seed.beacon);
}

fn read_seed(r: &mut Reader<'_>) -> Result<SeedSource, CborError> {
    expect(r.array()?, 5)?;
    let (entry, size, root) = (LogIndex(r.uint()?), r.uint()?, r.fixed()?);
    let (beacon_name, beacon) = (r.text()?.to_owned(), r.bytes()?.to_vec());
    if beacon_name.len() > BEACON_NAME_MAX || !(1..=BEACON_MAX).contains(&beacon.len()) {
        return Err(CborError::Field(4));
    }
    Ok(SeedSource { entry, head: Head { size, root }, beacon_name, beacon })
}

fn read_listed(r: &mut Reader<'_>) -> Result<Listed, CborError> {
    expect(r.array()?, 4)?;
    let head = InventoryHead { node: NodeId(r.uint()?), size: r.uint()?, root: r.fixed()? };
    let text = r.text()?;
    let key = VerifierKey::parse(text).ok().filter(|_| text.len() <= KEY_TEXT_MAX).ok_or(CborError::Field(3))?;
    // A key has one text.
    if key.to_string() != text {
        return Err(CborError::Field(3));
    }
    Ok(Listed { head, key })
}

/// Reads a counted list; never allocates for items that are not there.
fn read_list<T>(
    r: &mut Reader<'_>,
    most: usize,
    mut item: impl FnMut(&mut Reader<'_>) -> Result<T, CborError>,
) -> Result<Vec<T>, CborError> {
    let count = r.array()?;
    if count > most as u64 {
        return Err(CborError::Field(count));
    }
    (0..count).map(|_| item(r)).collect()
}

impl Report {
    /// The one encoding of this report.
    ///
    /// # Errors
    /// It is larger than reports are.
    pub fn encode(&self) -> Result<Vec<u8>, ReportError> {
        if self.outcomes.len() > CHALLENGES_MAX || self.inventories.len() > INVENTORIES_MAX {
            return Err(ReportError::Limit("more challenges or inventories than an audit has"));
        }
        let mut w = Writer::new();
        w.array(6);
        w.text(FORMAT);
        write_plan(&self.plan, &mut w);
        w.uint(self.time);
        write_seed(&self.seed, &mut w);
        w.array(self.inventories.len() as u64);
        for Listed { head, key } in &self.inventories {
            w.array(4);
            w.uint(head.node.0);
            w.uint(head.size);
            w.bytes(&head.root);
            w.text(&key.to_string());
        }
        w.array(self.outcomes.len() as u64);
        for outcome in &self.outcomes {
            outcome.write(&mut w)?;
        }
        let bytes = w.finish();
        if bytes.len() > REPORT_MAX { Err(ReportError::Size(bytes.len())) } else { Ok(bytes) }
    }

    /// Reads exact report bytes. Nothing is verified: see [`super::verify::verify_report`].
    ///
    /// # Errors
    /// They are not the one encoding of a report, or too many.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReportError> {
        if bytes.len() > REPORT_MAX {
            return Err(ReportError::Size(bytes.len()));
        }
        let mut r = Reader::new(bytes);
        expect(r.array()?, 6)?;
        if r.text()? != FORMAT {
            return Err(ReportError::Cbor(CborError::Field(0)));
        }
        let report = Self {
            plan: read_plan(&mut r)?,
            time: r.uint()?,
            seed: read_seed(&mut r)?,
            inventories: read_list(&mut r, INVENTORIES_MAX, read_listed)?,
            outcomes: read_list(&mut r, CHALLENGES_MAX, Outcome::read)?,
        };
        r.end()?;
        Ok(report)
    }

    /// Merkle root over (challenge, answer, verdict, latency) of all outcomes: RFC 6962 over SHA-256.
    pub fn outcomes_root(&self) -> Hash {
        let mut edge = Edge::default();
        self.outcomes.iter().for_each(|outcome| edge.push(outcome.leaf()));
        edge.root()
    }
}

/// What the log takes of a report: SHA-256 of its exact bytes.
pub fn digest(report: &[u8]) -> Hash {
    Sha256::digest(report).into()
}
