//! P5 for small bodies: they share packs, so that many PUTs cost one pack and one fsync per drive.
//!
//! While a shared pack is in flight the next one fills. It leaves once half of the small bodies that
//! are under way (waiting, in flight or in their commit) are aboard, or after a short linger: one half
//! then syncs its pack while the other commits. A lone client is all there is, so it never waits. A body
//! comes here only once it has ended, so nobody waits for a slow client. Own packs, for large bodies, are
//! in ingest.rs.

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

/// Shared packs in flight at once. Only full ones leave beside another: several small ones would cost
/// an fsync per drive for fewer PUTs each.
const FLIGHTS_MAX: usize = 4;
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
    under_way: Option<UnderWay>,
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
        Ok(Self { manifest: manifest.manifest, root: ended.root, len: ended.len, body_hash, packs, under_way: None })
    }

    /// The same body, counted as under way until its contents are dropped.
    fn counted(self, under_way: UnderWay) -> Self {
        Self { under_way: Some(under_way), ..self }
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

    /// Manifest, packs, and what to keep until the request is answered.
    pub(crate) fn into_contents(self) -> (Manifest, Vec<PackRow>, Option<UnderWay>) {
        (self.manifest, self.packs, self.under_way)
    }
}

type Answer = Result<StoredBody, GatewayError>;

struct Member {
    body: SharedBody,
    answer: oneshot::Sender<Answer>,
}

#[derive(Default)]
struct State {
    /// Shared packs being sealed and stored.
    flights: usize,
    /// Small bodies whose request was not answered yet.
    under_way: usize,
    waiting: VecDeque<Member>,
    waiting_bytes: u64,
    /// Batches that left so far.
    departed: u64,
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
    /// Come back when the linger is over, with this number.
    Linger(u64),
    Wait,
}

impl State {
    fn push(&mut self, member: Member) -> Decision {
        self.waiting_bytes += member.body.len;
        self.waiting.push_back(member);
        self.decide()
    }

    fn decide(&mut self) -> Decision {
        let full = self.waiting_bytes >= BATCH_BYTES || self.waiting.len() >= BATCH_MEMBERS;
        if full && self.flights < FLIGHTS_MAX {
            return Decision::Fly(self.depart());
        }
        if self.flights > 0 || self.waiting.is_empty() {
            return Decision::Wait;
        }
        if self.waiting.len() * 2 >= self.under_way {
            return Decision::Fly(self.depart());
        }
        if self.lingering {
            return Decision::Wait;
        }
        self.lingering = true;
        Decision::Linger(self.departed)
    }

    /// Takes the next batch and counts its flight.
    fn depart(&mut self) -> Vec<Member> {
        self.flights += 1;
        self.departed += 1;
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

    /// The linger that began when `departed` batches had left is over.
    fn lingered(&mut self, departed: u64) -> Decision {
        self.lingering = false;
        if self.departed == departed && self.flights == 0 && !self.waiting.is_empty() {
            return Decision::Fly(self.depart());
        }
        self.decide()
    }

    /// A flight ended.
    fn landed(&mut self) -> Decision {
        self.flights -= 1;
        self.decide()
    }
}

impl Packer {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A small body counts as under way while this lives: until its request is answered.
pub(crate) struct UnderWay {
    gw: Arc<Gateway>,
}

impl UnderWay {
    fn new(gw: &Arc<Gateway>) -> Self {
        gw.packer.lock().under_way += 1;
        Self { gw: Arc::clone(gw) }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.gw.packer.lock().under_way -= 1;
    }
}

impl std::fmt::Debug for UnderWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnderWay").finish_non_exhaustive()
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
    let under_way = UnderWay::new(gw);
    let (answer, stored) = oneshot::channel();
    let decision = gw.packer.lock().push(Member { body, answer });
    carry_out(gw, decision);
    let stored = stored.await.map_err(|_| internal("a shared pack was given up"))?;
    stored.map(|body| body.counted(under_way))
}

fn carry_out(gw: &Arc<Gateway>, decision: Decision) {
    let gw = Arc::clone(gw);
    match decision {
        Decision::Fly(batch) => {
            tokio::spawn(async move {
                store_batch(&gw, batch).await;
                let next = gw.packer.lock().landed();
                carry_out(&gw, next);
            });
        }
        Decision::Linger(departed) => {
            tokio::spawn(async move {
                tokio::time::sleep(gw.config.linger_max).await;
                let next = gw.packer.lock().lingered(departed);
                carry_out(&gw, next);
            });
        }
        Decision::Wait => {}
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::budget::Budget;

    async fn arrive(state: &mut State, len: u64) -> Decision {
        let budget = Budget::new(64 * MIB as u64, Duration::ZERO).expect("a legal budget");
        let charge = budget.charge(0).await.expect("nothing to wait for");
        state.under_way += 1;
        let body = SharedBody { frames: Vec::new(), len, epoch: Epoch(0), _charge: charge };
        state.push(Member { body, answer: oneshot::channel().0 })
    }

    fn flown(decision: &Decision) -> Option<usize> {
        match decision {
            Decision::Fly(batch) => Some(batch.len()),
            Decision::Linger(_) | Decision::Wait => None,
        }
    }

    #[tokio::test]
    async fn a_lone_body_leaves_at_once() {
        let mut state = State::default();
        for _ in 0..3 {
            assert_eq!(flown(&arrive(&mut state, 4096).await), Some(1));
            assert!(matches!(state.landed(), Decision::Wait));
            state.under_way -= 1;
        }
        assert_eq!(state.flights, 0);
    }

    #[tokio::test]
    async fn a_pack_waits_for_half_of_those_under_way() {
        let mut state = State::default();
        assert_eq!(flown(&arrive(&mut state, 1).await), Some(1));
        for _ in 0..3 {
            assert!(matches!(arrive(&mut state, 1).await, Decision::Wait), "one is in flight");
        }
        assert_eq!(flown(&state.landed()), Some(3));
        assert!(matches!(arrive(&mut state, 1).await, Decision::Wait));
        // Nothing in flight, one of five aboard: four are in their commit and may come back.
        assert!(matches!(state.landed(), Decision::Linger(2)));
        assert!(matches!(arrive(&mut state, 1).await, Decision::Wait));
        assert_eq!(flown(&arrive(&mut state, 1).await), None, "three of seven");
        assert_eq!(flown(&arrive(&mut state, 1).await), Some(4));
    }

    #[tokio::test]
    async fn a_linger_ends_and_an_old_one_sends_nobody() {
        let mut state = State { under_way: 9, ..State::default() };
        let Decision::Linger(number) = arrive(&mut state, 1).await else { panic!("one of ten") };
        assert_eq!(flown(&state.lingered(number)), Some(1));
        assert!(matches!(arrive(&mut state, 1).await, Decision::Wait));
        let Decision::Linger(newer) = state.landed() else { panic!("one of eleven") };
        state.lingering = false;
        assert!(matches!(state.lingered(number), Decision::Linger(n) if n == newer));
        assert_eq!(flown(&state.lingered(newer)), Some(1));
    }

    #[tokio::test]
    async fn full_packs_leave_beside_others_and_nobody_is_left_behind() {
        let mut state = State::default();
        let mut flown_bodies = flown(&arrive(&mut state, 1).await).expect("the first leaves");
        let half = BATCH_BYTES / 2;
        for _ in 0..20 {
            flown_bodies += flown(&arrive(&mut state, half).await).unwrap_or(0);
            assert!(state.flights <= FLIGHTS_MAX);
        }
        assert_eq!(state.flights, FLIGHTS_MAX);
        while state.flights > 0 {
            flown_bodies += flown(&state.landed()).unwrap_or(0);
        }
        if let Decision::Fly(rest) = state.lingered(state.departed) {
            flown_bodies += rest.len();
        }
        assert_eq!(flown_bodies, 21);
        assert_eq!((state.waiting.len(), state.waiting_bytes), (0, 0));
    }
}
