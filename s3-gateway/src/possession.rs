//! Possession audits, from top to bottom: do the nodes still hold what they should hold? Called by the HTTP edge and by
//! the schedule. What is decided, signed and checked is `stele_evidence::audit`; this carries it out. docs/audits.md.
//!
//! | step | does |
//! |---|---|
//! | A1 inventories | what each node should hold: from pack rows and shard headers, or from a manifest |
//! | A2 begin | the log takes a commitment to the inventories |
//! | A3 checkpoint | a signed checkpoint covers that entry |
//! | A4 seed | drawn from commitment, checkpoint and a beacon that nobody could know before |
//! | A5 ask | challenges, each until there is a verdict |
//! | A6 report | its digest goes into the log |
//!
//! Between A2 and A4 the audit waits for its beacon, so that whoever asked for it can draw that.

mod ask;
mod expected;
mod objects;
mod schedule;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use stele_evidence::audit::AuditError;
use stele_evidence::audit::answer::{AnswerKey, SLICE_MAX};
use stele_evidence::audit::challenge::{AuditId, Plan, Scope, Seed, SeedSource, commitment};
use stele_evidence::audit::inventory::{Inventory, InventoryHead};
use stele_evidence::audit::report::{Listed, Report, digest};
use stele_evidence::audit::verify::{Checked, verify_report};
use stele_evidence::keys::{Ed25519Signer, Signer};
use stele_evidence::proof::Head;
use stele_evidence::vkey::VerifierKey;
use stele_rpc::meta::{
    AuditStep, AuditStepKind, Command, LogCommand, LogRead, LogReply, MetaReply, MetaRequest, Origin, VersionSelector,
};
use stele_types::ids::{LogIndex, NodeId, Salt};
use stele_types::seam::random_bytes;

pub use self::schedule::{Schedule, run_schedule};
use crate::budget::Charge;
use crate::error::{GatewayError, unexpected_reply};
use crate::gateway::Gateway;
use crate::log_archive::ask_metadata;

/// Audits under way or not fetched yet; one that ended makes room.
const AUDITS_MAX: usize = 4;
/// Challenges of one audit: their slices are kept in memory until somebody fetches them. Larger audits are several.
const CHALLENGES_MAX: u64 = 4096;

/// Names in an archive.
const REPORT_FILE: &str = "report.audit";
const CHECKPOINT_FILE: &str = "checkpoint";
const KEYS_FILE: &str = "audit.vkeys";

/// What an audit is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Subject {
    /// So many shards of each storage node, drawn from those of a few hundred placement groups.
    Sample(u64),
    /// Every shard, as many as fit into one audit from this place on.
    Shards(Cursor),
    /// Chunks of the current versions in a bucket, or of one version of a key: all, or so many of them.
    Objects {
        /// Name of the bucket.
        bucket: String,
        /// The key, and which version of it; all keys without one.
        key: Option<(String, VersionSelector)>,
        /// How many chunks; all without a number.
        sample: Option<u64>,
    },
}

/// Where the next of several audits over all shards begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cursor {
    /// Place of the placement group in the map.
    pub group: u64,
    /// First row of each node's inventory of that group alone; 0: from the beginning.
    pub row: u64,
}

/// An audit to be begun.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// What it is about.
    pub subject: Subject,
    /// Groups of 16 KiB that are asked for of each row.
    pub groups_per_row: u8,
    /// Of an audit that runs by itself: not before so long after the last one.
    pub spacing: Option<Duration>,
    /// Who asks.
    pub origin: Origin,
}

/// What is fixed before anything is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fixed {
    /// Its id.
    pub id: AuditId,
    /// Log index of the commitment.
    pub entry: LogIndex,
    /// Rows of all inventories.
    pub rows: u64,
    /// Challenges that will be drawn.
    pub challenges: u64,
    /// Where the next audit over all shards begins, if this one does not reach the end.
    pub next: Option<Cursor>,
}

/// How an audit ended.
#[derive(Debug)]
pub struct Ended {
    /// When, in milliseconds since the Unix epoch.
    pub time: u64,
    /// Exact bytes of the report.
    pub report: Bytes,
    /// The signed checkpoint of its seed.
    pub checkpoint: Bytes,
    /// Keys that the nodes sign with: one verifier key per line.
    pub keys: String,
    /// Log index of its digest.
    pub entry: LogIndex,
    /// By number of the challenge: the slices that were answered.
    pub slices: BTreeMap<usize, Bytes>,
    /// The report, checked as an auditor checks it.
    pub checked: Checked,
    _charge: Charge,
}

impl Ended {
    /// Report, keys and slices as a tar archive: the file format of an audit that is taken home.
    ///
    /// # Errors
    /// `Internal`: a file has no room in an archive.
    pub fn archive(&self) -> Result<Vec<u8>, GatewayError> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(self.time / 1000);
            builder.append_data(&mut header, name, bytes)
        };
        let slices = || self.slices.iter().map(|(at, slice)| (format!("slices/{at:05}"), slice));
        let failed = |error: std::io::Error| GatewayError::Internal { what: format!("an archive: {error}") };
        add(REPORT_FILE, &self.report).map_err(failed)?;
        add(CHECKPOINT_FILE, &self.checkpoint).map_err(failed)?;
        add(KEYS_FILE, self.keys.as_bytes()).map_err(failed)?;
        for (name, slice) in slices() {
            add(&name, slice).map_err(failed)?;
        }
        builder.into_inner().map_err(failed)
    }
}

/// A signed checkpoint that covers an audit's entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Covering {
    /// Size and root.
    pub head: Head,
    /// The signed note.
    pub note: Bytes,
}

/// Where an audit stands.
#[derive(Clone, Debug)]
pub enum Standing {
    /// It waits for its beacon, which must be drawn once there is a checkpoint.
    Fixed(Option<Covering>),
    /// So many challenges have a verdict.
    Asking(u64),
    /// It ended.
    Ended(Arc<Ended>),
    /// It could not be finished, and why.
    Failed(String),
}

/// An audit of this gateway.
#[derive(Debug)]
pub(crate) struct Audit {
    fixed: Fixed,
    standing: Mutex<Standing>,
    /// What is needed to go on; taken when the beacon comes.
    begun: Mutex<Option<Begun>>,
}

impl Audit {
    fn set(&self, standing: Standing) {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing;
    }

    fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The audits of this gateway, and the key that it answers for objects with.
#[derive(Debug, Default)]
pub(crate) struct Audits {
    kept: Mutex<BTreeMap<AuditId, Arc<Audit>>>,
    pub(crate) signer: std::sync::OnceLock<Ed25519Signer>,
}

impl Audits {
    fn find(&self, id: AuditId) -> Result<Arc<Audit>, GatewayError> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&id).cloned().ok_or_else(|| GatewayError::NoSuchEvidence {
            what: format!(
                "this gateway has no audit {}: ask the one that began it, or begin another",
                hex::encode(id.0)
            ),
        })
    }

    /// Keeps an audit; one that ended makes room.
    fn keep(&self, audit: Arc<Audit>) -> Result<(), GatewayError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= AUDITS_MAX {
            let over = |audit: &Arc<Audit>| !matches!(audit.standing(), Standing::Asking(_));
            let Some(id) = kept.iter().find(|(_, audit)| over(audit)).map(|(id, _)| *id) else {
                return Err(GatewayError::SlowDown { what: "possession audits are under way" });
            };
            kept.remove(&id);
        }
        kept.insert(audit.fixed.id, audit);
        Ok(())
    }
}

/// One inventory, and who answers for it.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) inventory: Inventory,
    pub(crate) key: VerifierKey,
}

/// What A1 found: inventories in ascending order of nodes.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) holders: Vec<Holder>,
    pub(crate) scope: Scope,
    pub(crate) next: Option<Cursor>,
    /// Where objects' chunks are; empty in audits of shards.
    pub(crate) objects: objects::Places,
    pub(crate) _charges: Vec<Charge>,
}

/// An audit between A2 and A4.
#[derive(Debug)]
struct Begun {
    plan: Plan,
    origin: Origin,
    found: Found,
}

impl Begun {
    fn heads(&self) -> Vec<InventoryHead> {
        self.found.holders.iter().map(|holder| holder.inventory.head()).collect()
    }
}

/// Begins an audit: A1 and A2. [`go_on`] carries it on.
///
/// # Errors
/// `NoSuchBucket`, `NoSuchKey`, `NoSuchVersion`, `InvalidRequest` for a plan that no audit can have, `SlowDown`,
/// `Unavailable` while a node of the inventories has no key yet or an audit that runs by itself is not due.
pub async fn begin(gw: &Arc<Gateway>, asked: Asked) -> Result<Fixed, GatewayError> {
    let found = match &asked.subject {
        Subject::Sample(rows) => expected::sample(gw, *rows, asked.groups_per_row).await?,
        Subject::Shards(cursor) => expected::shards(gw, *cursor, asked.groups_per_row).await?,
        Subject::Objects { bucket, key, sample } => objects::chunks(gw, bucket, key.as_ref(), *sample).await?,
    }; // A1
    let id = AuditId(random_bytes(gw.rng.as_ref()));
    let plan = Plan { id, epoch: 0, scope: found.scope, groups_per_row: asked.groups_per_row };
    let begun = Begun { plan, origin: asked.origin, found };
    let heads = begun.heads();
    // A plan that can't be drawn is refused before anything is logged. How much is drawn does not hang on the seed.
    let drawn = plan.draw(&Seed([0; 32]), &heads).map_err(|error| refused(&error))?.len() as u64;
    if drawn > CHALLENGES_MAX {
        let what = format!("{drawn} challenges; one audit has at most {CHALLENGES_MAX}, so ask for a sample");
        return Err(GatewayError::InvalidRequest { what });
    }
    let kind = AuditStepKind::Begun { spacing_ms: asked.spacing.map(millis) };
    let entry = log(gw, &begun.origin, AuditStep { audit: id.0, kind, digest: commitment(&heads) }).await?; // A2
    let rows = heads.iter().map(|head| head.size).sum();
    let fixed = Fixed { id, entry, rows, challenges: drawn, next: begun.found.next };
    let audit = Audit { fixed, standing: Mutex::new(Standing::Fixed(None)), begun: Mutex::new(Some(begun)) };
    gw.audits.keep(Arc::new(audit))?;
    Ok(fixed)
}

/// Carries an audit on in the background, with a beacon that was drawn after [`standing`] told of a checkpoint. That
/// is kept, so that nobody can choose another one to the beacon.
///
/// # Errors
/// `NoSuchEvidence` for an audit that this gateway does not have; `EvidenceNotReady` while no checkpoint covers its
/// entry; `InvalidRequest` for a beacon of no use, or an audit that went on already.
pub async fn go_on(gw: &Arc<Gateway>, id: AuditId, beacon: (String, Vec<u8>)) -> Result<(), GatewayError> {
    let audit = gw.audits.find(id)?;
    let entry = audit.fixed.entry;
    let covering = match audit.standing() {
        Standing::Fixed(Some(covering)) => covering,
        Standing::Fixed(None) => return Err(GatewayError::EvidenceNotReady { entry: entry.0, size: 0 }),
        _ => return Err(GatewayError::InvalidRequest { what: "this audit has its beacon already".to_owned() }),
    };
    let (beacon_name, beacon) = beacon;
    let source = SeedSource { entry, head: covering.head, beacon_name, beacon };
    let begun = {
        let mut begun = audit.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(begun) = &*begun {
            source.draw(&begun.plan, &begun.heads()).map_err(|error| refused(&error))?;
        }
        begun.take()
    };
    let Some(begun) = begun else {
        return Err(GatewayError::InvalidRequest { what: "this audit has its beacon already".to_owned() });
    };
    audit.set(Standing::Asking(0));
    let gw = Arc::clone(gw);
    tokio::spawn(async move {
        let outcome = finish(&gw, &audit, begun, (source, covering.note)).await;
        audit.set(match outcome {
            Ok(ended) => Standing::Ended(Arc::new(ended)),
            Err(error) => {
                tracing::warn!(audit = %hex::encode(id.0), %error, "possession audit not finished");
                Standing::Failed(error.to_string())
            }
        });
    });
    Ok(())
}

/// Where an audit stands. The first signed checkpoint that is found to cover its entry is the one of its seed. A3.
///
/// # Errors
/// `NoSuchEvidence` for an audit that this gateway does not have; `Unavailable`.
pub async fn standing(gw: &Gateway, id: AuditId) -> Result<(Fixed, Standing), GatewayError> {
    let audit = gw.audits.find(id)?;
    if let Standing::Fixed(None) = audit.standing()
        && let Some(covering) = covering(gw, audit.fixed.entry).await?
    {
        let mut standing = audit.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Standing::Fixed(None) = *standing {
            *standing = Standing::Fixed(Some(covering));
        }
    }
    Ok((audit.fixed, audit.standing()))
}

/// A4 to A6.
async fn finish(
    gw: &Arc<Gateway>,
    audit: &Audit,
    begun: Begun,
    (source, checkpoint): (SeedSource, Bytes),
) -> Result<Ended, GatewayError> {
    let heads = begun.heads();
    let seed = source.draw(&begun.plan, &heads).map_err(|error| refused(&error))?; // A4
    let drawn = begun.plan.draw(&seed, &heads).map_err(|error| refused(&error))?;
    let charge = gw.budget.charge(drawn.len() * SLICE_MAX).await?;
    let asking = ask::Asking { gw, plan: &begun.plan, seed, found: &begun.found };
    let done = |count| audit.set(Standing::Asking(count));
    let ask::Answers { outcomes, slices } = asking.all(&drawn, &done).await?; // A5
    let listed = |holder: &Holder| Listed { head: holder.inventory.head(), key: holder.key.clone() };
    let inventories = begun.found.holders.iter().map(listed).collect();
    let report = Report { plan: begun.plan, time: gw.clock.unix_millis(), seed: source, inventories, outcomes };
    let checked = check(&report, &slices)?;
    let bytes = report.encode().map_err(|error| GatewayError::InvalidRequest { what: error.to_string() })?;
    let step = AuditStep { audit: begun.plan.id.0, kind: AuditStepKind::Report, digest: digest(&bytes) };
    let entry = log(gw, &begun.origin, step).await?; // A6
    let keys = report.inventories.iter().map(|listed| format!("{}\n", listed.key)).collect();
    Ok(Ended { time: report.time, report: bytes.into(), checkpoint, keys, entry, slices, checked, _charge: charge })
}

/// Judges a report as an auditor does, before the log takes it.
fn check(report: &Report, slices: &BTreeMap<usize, Bytes>) -> Result<Checked, GatewayError> {
    let key = |listed: &Listed| AnswerKey::new(listed.key.clone()).ok().map(|key| (listed.head.node, key));
    let keys = report.inventories.iter().filter_map(key).collect();
    verify_report(report, &keys, &mut |at| slices.get(&at).map(|slice| slice.to_vec()))
        .map_err(|fault| GatewayError::Internal { what: format!("the audit's own report does not hold: {fault}") })
}

async fn log(gw: &Gateway, origin: &Origin, step: AuditStep) -> Result<LogIndex, GatewayError> {
    let salt = Salt::from_bytes(random_bytes(gw.rng.as_ref()));
    let reply = gw.leases.of_cluster(origin.clone(), salt, Command::Log(LogCommand::Audit(step))).await;
    match reply.map_err(|error| GatewayError::from_meta(error, ""))? {
        MetaReply::Log(LogReply::Logged(index)) => Ok(index),
        _ => Err(unexpected_reply("Audit")),
    }
}

/// The newest signed checkpoint, if it covers the entry.
async fn covering(gw: &Gateway, entry: LogIndex) -> Result<Option<Covering>, GatewayError> {
    let LogReply::Head(head) = ask_metadata(gw, LogRead::Head).await? else { return Err(unexpected_reply("Head")) };
    let covers = head.published.filter(|published| published.head.size > entry.0);
    Ok(covers.map(|published| {
        let head = Head { size: published.head.size, root: published.head.root };
        Covering { head, note: published.note }
    }))
}

/// Keys that nodes sign answers with.
pub(crate) async fn keys(gw: &Gateway) -> Result<BTreeMap<NodeId, VerifierKey>, GatewayError> {
    let reply = gw.read(MetaRequest::AnswerKeys).await.map_err(|error| GatewayError::from_meta(error, ""))?;
    let MetaReply::AnswerKeys(keys) = reply else { return Err(unexpected_reply("AnswerKeys")) };
    let parse = |(node, text): (NodeId, String)| match VerifierKey::parse(&text) {
        Ok(key) => Ok((node, key)),
        Err(error) => Err(GatewayError::Corrupt { what: format!("the key of node {node}: {error}") }),
    };
    keys.into_iter().map(parse).collect()
}

impl Gateway {
    /// Answers for objects in possession audits with this key from now on. Only the first call counts.
    pub fn answer_audits(&self, signer: Ed25519Signer) {
        self.audits.signer.get_or_init(|| signer);
    }

    /// Own key, for objects.
    pub(crate) fn answer_key(&self) -> Result<&Ed25519Signer, GatewayError> {
        let none = || GatewayError::Unavailable { what: "this gateway has no key to sign answers with yet".to_owned() };
        self.audits.signer.get().ok_or_else(none)
    }

    /// Own key, to be told to others.
    pub(crate) fn answer_vkey(&self) -> Result<VerifierKey, GatewayError> {
        Ok(self.answer_key()?.vkey().clone())
    }
}

fn refused(error: &AuditError) -> GatewayError {
    GatewayError::InvalidRequest { what: error.to_string() }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Rows of each inventory that one audit can ask for.
fn rows_per_audit(groups_per_row: u8) -> u64 {
    CHALLENGES_MAX / u64::from(groups_per_row.max(1))
}
