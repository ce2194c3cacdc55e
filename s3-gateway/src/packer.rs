//! P5 for small bodies: they share packs, so that many PUTs cost one pack and one fsync per drive.
//!
//! An idle gateway seals at once. While a shared pack is in flight the next one fills, until the
//! flight ends or a short linger is over. A body comes here only once it has ended, so nobody waits
//! for a slow client. Own packs, for large bodies, are in ingest.rs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::try_join_all;
use stele_chunker::pack::{BodyManifest, BodyTag, SealedPack};
use stele_chunker::stream::{EndedBody, PackTarget, PackWriter, WriteError};
use stele_types::ids::{BodyHash, Epoch, ObjectRoot, PackId};
use stele_types::limits::MIB;
use stele_types::manifest::Manifest;
use stele_types::pack::PackRow;
use stele_types::seam::random_bytes;
use tokio::sync::oneshot;

use crate::budget::Charge;
use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::metrics::Step;
use crate::store::{StoredPack, store_pack};

/// Shared packs in flight at once: one under way, and one for those who came meanwhile. More would
/// make each smaller and cost an fsync per drive for fewer PUTs.
const FLIGHTS_MAX: usize = 2;
/// Body bytes after which a shared pack leaves without lingering.
const BATCH_BYTES: u64 = 16 * MIB as u64;
/// Bodies after which a shared pack leaves without lingering.
const BATCH_MEMBERS: usize = 1024;

/// A body that has ended and wants to be stored.
pub(crate) struct SharedBody {
    /// Its bytes.
    pub(crate) frames: Vec<Bytes>,
    /// How many they are.
    pub(crate) len: u64,
    /// Start epoch of its PUT.
    pub(crate) epoch: Epoch,
    /// Kept until the pack is stored.
    pub(crate) _charge: Charge,
}

/// Witness: every pack of a body, manifest pages included, is on stable media.
#[derive(Debug)]
pub(crate) struct StoredBody {
    manifest: Manifest,
    root: ObjectRoot,
    len: u64,
    body_hash: BodyHash,
    packs: Vec<PackRow>,
}

impl StoredBody {
    /// Joins what the writer says of a body with the packs that were stored.
    ///
    /// # Errors
    /// `Internal` if a pack that the manifest needs is not among them.
    pub(crate) fn new(
        ended: &EndedBody,
        manifest: BodyManifest,
        body_hash: BodyHash,
        stored: &[StoredPack],
    ) -> Result<Self, GatewayError> {
        let row = |pack: &PackId| stored.iter().map(StoredPack::row).find(|row| row.pack == *pack).cloned();
        let packs: Option<Vec<PackRow>> = manifest.packs.iter().map(row).collect();
        let packs = packs.ok_or_else(|| internal("a manifest names a pack that was not stored"))?;
        Ok(Self { manifest: manifest.manifest, root: ended.root, len: ended.len, body_hash, packs })
    }

    pub(crate) fn root(&self) -> ObjectRoot {
        self.root
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn body_hash(&self) -> BodyHash {
        self.body_hash
    }

    pub(crate) fn into_contents(self) -> (Manifest, Vec<PackRow>) {
        (self.manifest, self.packs)
    }
}

type Answer = Result<StoredBody, GatewayError>;

struct Member {
    body: SharedBody,
    answer: oneshot::Sender<Answer>,
}

#[derive(Default)]
struct State {
    flights: usize,
    waiting: VecDeque<Member>,
    waiting_bytes: u64,
    lingering: bool,
}

/// Decides when shared packs leave.
#[derive(Default)]
pub(crate) struct Packer {
    state: Mutex<State>,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").finish_non_exhaustive()
    }
}

enum Decision {
    Fly(Vec<Member>),
    Linger,
    Wait,
}

impl State {
    fn push(&mut self, member: Member) -> Decision {
        self.waiting_bytes += member.body.len;
        self.waiting.push_back(member);
        let full = self.waiting_bytes >= BATCH_BYTES || self.waiting.len() >= BATCH_MEMBERS;
        if self.flights == 0 || (full && self.flights < FLIGHTS_MAX) {
            return Decision::Fly(self.depart());
        }
        if self.flights < FLIGHTS_MAX && !self.lingering {
            self.lingering = true;
            return Decision::Linger;
        }
        Decision::Wait
    }

    /// Takes the next batch and counts its flight.
    fn depart(&mut self) -> Vec<Member> {
        self.flights += 1;
        self.take_batch()
    }

    fn take_batch(&mut self) -> Vec<Member> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(member) = self.waiting.pop_front_if(|next| {
            batch.is_empty() || (batch.len() < BATCH_MEMBERS && bytes + next.body.len <= BATCH_BYTES)
        }) {
            bytes += member.body.len;
            batch.push(member);
        }
        self.waiting_bytes -= bytes;
        batch
    }

    /// The linger is over.
    fn lingered(&mut self) -> Option<Vec<Member>> {
        self.lingering = false;
        (!self.waiting.is_empty() && self.flights < FLIGHTS_MAX).then(|| self.depart())
    }

    /// A flight ended: it takes those who came meanwhile, or ends.
    fn landed(&mut self) -> Option<Vec<Member>> {
        if self.waiting.is_empty() {
            self.flights -= 1;
            return None;
        }
        Some(self.take_batch())
    }
}

impl Packer {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stores a body in a shared pack.
///
/// # Durability
/// As [`store_pack`], for the data and the manifest pages.
///
/// # Errors
/// As [`store_pack`].
///
/// # Cancel
/// The body is stored all the same, as an orphan; the other bodies of its pack are not affected.
pub(crate) async fn store_shared(gw: &Arc<Gateway>, body: SharedBody) -> Answer {
    gw.metrics.shared_members.inc();
    let (answer, stored) = oneshot::channel();
    let decision = gw.packer.lock().push(Member { body, answer });
    match decision {
        Decision::Fly(batch) => {
            tokio::spawn(fly(Arc::clone(gw), batch));
        }
        Decision::Linger => {
            tokio::spawn(linger(Arc::clone(gw)));
        }
        Decision::Wait => {}
    }
    stored.await.map_err(|_| internal("a shared pack was given up"))?
}

async fn linger(gw: Arc<Gateway>) {
    tokio::time::sleep(gw.config.linger_max).await;
    let batch = gw.packer.lock().lingered();
    if let Some(batch) = batch {
        fly(gw, batch).await;
    }
}

async fn fly(gw: Arc<Gateway>, first: Vec<Member>) {
    let mut next = Some(first);
    while let Some(batch) = next {
        store_batch(&gw, batch).await;
        next = gw.packer.lock().landed();
    }
}

async fn store_batch(gw: &Arc<Gateway>, batch: Vec<Member>) {
    let (bodies, answers): (Vec<SharedBody>, Vec<_>) = batch.into_iter().map(|m| (m.body, m.answer)).unzip();
    let outcome = seal_and_store(gw, bodies).await;
    match outcome {
        Ok(stored) => {
            for (answer, body) in answers.into_iter().zip(stored) {
                // Whoever asked may have gone; then the body is an orphan.
                answer.send(body).ok();
            }
        }
        Err(error) => {
            for answer in answers {
                answer.send(Err(repeat(&error))).ok();
            }
        }
    }
}

async fn seal_and_store(gw: &Arc<Gateway>, bodies: Vec<SharedBody>) -> Result<Vec<Answer>, GatewayError> {
    let writer = PackWriter::new(random_bytes(gw.rng.as_ref()), PackTarget::MAX).with_pool(&gw.pool);
    let bytes: u64 = bodies.iter().map(|b| b.len).sum();
    let sealing = gw.metrics.time(Step::P5Pack);
    let sealed = gw
        .cpu
        .run(usize::try_from(bytes).unwrap_or(usize::MAX), move || seal_bodies(&bodies, writer).map(|s| (s, bodies)));
    let (sealed, bodies) = sealed.await?.map_err(writer_failed)?;
    drop(sealing);
    let stored = try_join_all(sealed.packs.into_iter().map(|pack| store_pack(gw, pack))).await?;
    let place =
        |(ended, manifest, hash): (EndedBody, BodyManifest, BodyHash)| StoredBody::new(&ended, manifest, hash, &stored);
    let answers = sealed.bodies.into_iter().map(place).collect();
    // Until here the bodies' charges count the pack's bytes.
    drop(bodies);
    Ok(answers)
}

struct SealedBatch {
    packs: Vec<SealedPack>,
    bodies: Vec<(EndedBody, BodyManifest, BodyHash)>,
}

/// Cuts, hashes and packs bodies. Pure.
fn seal_bodies(bodies: &[SharedBody], mut writer: PackWriter) -> Result<SealedBatch, WriteError> {
    let mut packs = Vec::new();
    let mut ended = Vec::new();
    for (tag, body) in (0u64..).zip(bodies) {
        if !writer.fits(body.len) {
            packs.extend(writer.seal()?);
        }
        writer.begin_body(BodyTag(tag), body.epoch, Some(body.len))?;
        for frame in &body.frames {
            packs.extend(writer.write(frame)?);
        }
        let (end, full) = writer.end_body()?;
        packs.extend(full);
        ended.push((end, hash_of(&body.frames)));
    }
    packs.extend(writer.seal()?);
    let mut manifests: Vec<BodyManifest> = packs.iter().flat_map(|p| p.manifests.iter().cloned()).collect();
    let mut done = Vec::with_capacity(ended.len());
    for (mut end, hash) in ended {
        let at = manifests.iter().position(|m| m.body == end.body);
        let manifest = at.map(|at| manifests.swap_remove(at)).or_else(|| end.manifest.take());
        let hash = match &end.only_chunk {
            Some(chunk) => BodyHash::from_bytes(*chunk.as_bytes()),
            None => hash(),
        };
        done.push((end, manifest.ok_or(WriteError::NoBody)?, hash));
    }
    Ok(SealedBatch { packs, bodies: done })
}

/// Hash of a body, computed only if it is not known already as that of its only chunk.
fn hash_of(frames: &[Bytes]) -> impl FnOnce() -> BodyHash + '_ {
    move || {
        let mut hasher = blake3::Hasher::new();
        for frame in frames {
            hasher.update(frame);
        }
        BodyHash::from_bytes(*hasher.finalize().as_bytes())
    }
}

pub(crate) fn writer_failed(error: WriteError) -> GatewayError {
    GatewayError::Internal { what: format!("pack writer: {error}") }
}

fn internal(what: &str) -> GatewayError {
    GatewayError::Internal { what: what.to_owned() }
}

/// The same error for another body of the same pack.
fn repeat(error: &GatewayError) -> GatewayError {
    match error {
        GatewayError::DrivesMissing { what, drives } => GatewayError::DrivesMissing { what, drives: drives.clone() },
        GatewayError::StoreFull { what } => GatewayError::StoreFull { what: what.clone() },
        GatewayError::SlowDown { what } => GatewayError::SlowDown { what },
        GatewayError::Unavailable { what } => GatewayError::Unavailable { what: what.clone() },
        other => GatewayError::Internal { what: other.to_string() },
    }
}
