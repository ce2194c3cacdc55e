//! Evidence bundles of objects, from top to bottom. Called by the HTTP edge.
//!
//! | step | does |
//! |---|---|
//! | E1 head | the newest signed checkpoint, and the policy that goes with it |
//! | E2 events | of each key: the version's creation and all that happened since, and of what was erased the erasure (select.rs) |
//! | E3 paths | from each entry to the checkpoint's root, made from tiles (log.rs) |
//! | E4 versions | which of them still have bytes, and where |
//! | E5 outside | of every chain and time-stamping authority the first proof that covers them |
//! | E6 bundle | records, proofs, chunk lists, slices and bytes as a tar stream (content.rs, archive.rs) |
//!
//! Up to E5 a failure is an error; from E6 on it cuts the stream off, which every reader of tar notices, as the
//! end mark is missing. The writer judges what it writes as `stele-verify` would, so a bundle that ends well holds.

mod archive;
mod content;
mod log;
mod select;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use stele_evidence::bundle::OBJECTS_MAX;
use stele_evidence::bundle::files::Sink;
use stele_evidence::bundle::writer::{AnchorEvidence, BundleWriter, Outside, TimestampEvidence, WriteError};
use stele_evidence::record::{CLUSTER, Event};
use stele_evidence::tlog_proof::TlogProof;
use stele_evidence::tree::Hash;
use stele_rpc::meta::VersionSelector;
use stele_types::ids::Salt;
use stele_types::limits::MIB;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use self::archive::Archive;
use self::content::{Show, write_object};
use self::log::{Head, Joined, Paths, erasure, events, head, outside};
use self::select::{Found, Kept, Logged, Selected};
use crate::api::{BodyStream, ByteRange};
use crate::body_out::marked;
use crate::budget::Charge;
use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::get::resolve;

/// Exports at once. Each holds a thread and up to [`EXPORT_BYTES`]; the others wait.
pub(crate) const EXPORTS_MAX: usize = 8;
/// Memory of one export: a chunk, its slice, and the tree that the slice is made of.
const EXPORT_BYTES: usize = 12 * MIB;
/// Memory of one event: record, path, and what is known of its version.
const EVENT_BYTES: usize = 8 * 1024;
/// Memory of an erasure, which names up to 1,024 runs of entries.
const ERASURE_BYTES: usize = 32 * 1024;

/// What evidence is asked of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EvidenceOf {
    /// Name of the bucket; [`CLUSTER`] for events about the cluster itself.
    pub bucket: String,
    /// The key, or what the events are about.
    pub key: String,
    /// Which version. Without one: the current version or, if there is none, the last that there was.
    pub version: VersionSelector,
    /// Every version of the key, from its first event on.
    pub all_versions: bool,
    /// Only these bytes of the version; without it, all.
    pub range: Option<ByteRange>,
    /// Put the bytes themselves into the bundle.
    pub payload: bool,
}

/// One event that the bundle will hold.
#[derive(Debug)]
struct Item {
    record: Bytes,
    salt: Salt,
    path: Vec<Hash>,
    show: Show,
}

/// Makes one bundle of all of these.
///
/// # Errors
/// `NoSuchBucket`, `NoSuchKey`, `NoSuchVersion`, `NoSuchEvidence`; `EvidenceNotReady` if no checkpoint covers a
/// version yet; `RangeNotSatisfiable`, `InvalidRequest`, `SlowDown`, `Unavailable`.
pub async fn export(gw: &Arc<Gateway>, asked: Vec<EvidenceOf>) -> Result<BodyStream, GatewayError> {
    let head = head(gw).await?; // E1
    let mut charges = vec![gw.budget.charge(EXPORT_BYTES).await?];
    let mut items = BTreeMap::new();
    let mut paths = Paths::new(head.tree.size);
    for one in asked {
        let Selected { mut found, erasures } = find(gw, &head, &one).await?; // E2
        charges.push(gw.budget.charge(found.len() * EVENT_BYTES + erasures.len() * ERASURE_BYTES).await?);
        for index in erasures {
            let Logged { index, record, bytes, salt } = erasure(gw, index).await?;
            found.push(Found { index, record, bytes, salt, target: false });
        }
        for event in found {
            let path = paths.of(gw, event.index.0).await?; // E3
            let show = show(gw, &one, &event).await?; // E4
            let item = Item { record: event.bytes, salt: event.salt, path, show };
            place(&mut items, event.index.0, item)?;
        }
    }
    let first = items.iter().find(|(_, item)| !matches!(item.show, Show::Event)).or(items.first_key_value());
    let covered = (first.map_or(0, |(index, _)| *index), items.last_key_value().map_or(0, |(index, _)| *index));
    let outside = outside(gw, &mut paths, covered).await?; // E5
    let slot = Arc::clone(&gw.exports).acquire_owned().await;
    let slot = slot.map_err(|_| GatewayError::Internal { what: "exports are closed".into() })?;
    let (sender, receiver) = mpsc::channel(2);
    let (gw, runtime) = (Arc::clone(gw), Handle::current());
    // A thread, because the writer pulls; what it pulls waits for the store.
    tokio::task::spawn_blocking(move || {
        let seconds = gw.clock.unix_millis() / 1000;
        let job = Job { gw, runtime, head, items, outside, seconds, _charges: charges };
        job.run(&sender); // E6
        drop(slot);
    });
    Ok(marked(receiver))
}

/// E2.
async fn find(gw: &Arc<Gateway>, head: &Head, one: &EvidenceOf) -> Result<Selected, GatewayError> {
    let subject = one.bucket == CLUSTER;
    let target = match one.version {
        _ if subject => None,
        VersionSelector::Id(id) => Some(id),
        other => match resolve(gw, &one.bucket, &one.key, other).await {
            Ok(resolved) => Some(resolved.version.id),
            Err(GatewayError::NoSuchKey { .. } | GatewayError::NoSuchVersion) => None,
            Err(error) => return Err(error),
        },
    };
    let wanted = select::Wanted {
        target,
        null: one.version == VersionSelector::Null,
        all: one.all_versions,
        subject,
        size: head.tree.size,
        max: OBJECTS_MAX,
    };
    let mut selection = select::Selection::new(wanted);
    let mut before = None;
    while let Some(page) = events(gw, &one.bucket, &one.key, before).await? {
        before = page.last().map(|event| match event {
            Kept::Whole(event) => event.index,
            Kept::Erased { index, .. } => *index,
        });
        for event in page {
            if selection.push(event)?.is_break() {
                return selection.finish(&one.key);
            }
        }
    }
    selection.finish(&one.key)
}

/// E4. A version that is gone leaves the evidence of its events.
async fn show(gw: &Arc<Gateway>, one: &EvidenceOf, event: &Found) -> Result<Show, GatewayError> {
    let creation = event.record.event == Event::Put;
    if !creation || !(event.target || one.all_versions) {
        return Ok(Show::Event);
    }
    let id = VersionSelector::Id(event.record.version);
    match resolve(gw, &one.bucket, &one.key, id).await {
        Ok(resolved) => content::show(resolved.version, resolved.packs, one),
        Err(GatewayError::NoSuchKey { .. } | GatewayError::NoSuchVersion) => Ok(Show::Event),
        Err(error) => Err(error),
    }
}

/// The same event may be asked for twice: as what happened since to one version, and for another's own sake.
fn place(items: &mut BTreeMap<u64, Item>, index: u64, item: Item) -> Result<(), GatewayError> {
    match items.get(&index).map(|there| &there.show) {
        None | Some(Show::Event) => drop(items.insert(index, item)),
        Some(_) if matches!(item.show, Show::Event) => {}
        Some(_) => {
            let what = "the same version is asked for twice; ask for it once".to_owned();
            return Err(GatewayError::InvalidRequest { what });
        }
    }
    if items.len() > OBJECTS_MAX {
        let what = format!("this is the evidence of more than {OBJECTS_MAX} events; make several bundles");
        return Err(GatewayError::InvalidRequest { what });
    }
    Ok(())
}

/// E6: everything that the bundle is made of.
struct Job {
    gw: Arc<Gateway>,
    runtime: Handle,
    head: Head,
    items: BTreeMap<u64, Item>,
    outside: Vec<Joined>,
    seconds: u64,
    _charges: Vec<Charge>,
}

impl Job {
    fn run(self, sender: &archive::Sender) {
        let sent = match self.write(sender) {
            Ok(()) => sender.blocking_send(Ok(None)),
            Err(error) => {
                tracing::warn!(%error, "evidence bundle cut off");
                let what = format!("the bundle could not be made: {error}");
                sender.blocking_send(Err(GatewayError::Internal { what }))
            }
        };
        // A client that has gone does not need to know.
        sent.ok();
    }

    fn write(&self, sender: &archive::Sender) -> Result<(), WriteError> {
        let tool = concat!("stele ", env!("CARGO_PKG_VERSION"));
        let created = stele_evidence::bundle::utc(self.seconds);
        let archive = Archive::new(sender, self.seconds);
        let mut writer = BundleWriter::new(archive, tool, &created, &self.head.policy)?;
        for (index, item) in &self.items {
            let checkpoint = self.head.note.clone();
            let proof = TlogProof { index: *index, path: item.path.clone(), extra: Vec::new(), checkpoint };
            let proof = proof.print();
            let object = writer.object(&item.record, &item.salt, &proof)?;
            write_object(object, &item.show, &self.gw, &self.runtime)?;
        }
        for joined in &self.outside {
            join(&mut writer, joined)?;
        }
        let end = |error| WriteError::Io { name: "end of the archive".to_owned(), error };
        writer.finish()?.end_of_archive().map_err(end)
    }
}

fn join<S: Sink>(writer: &mut BundleWriter<S>, joined: &Joined) -> Result<(), WriteError> {
    let (name, consistency) = (joined.kept.chain.as_str(), joined.consistency.as_slice());
    match Outside::of(&joined.kept.proof) {
        Some(Outside::Anchor(proof)) => writer.anchor(&AnchorEvidence { name, proof, consistency }),
        Some(Outside::Timestamp { checkpoint, response }) => {
            writer.timestamp(&TimestampEvidence { response, checkpoint, consistency })
        }
        None => {
            let why = "what was kept of it is of no kind that this version knows".to_owned();
            Err(WriteError::Anchor { name: name.to_owned(), why })
        }
    }
}
