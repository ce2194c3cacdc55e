//! P4 to P6: a request body in, a stored body and its digests out. Used by PUT and UploadPart.
//!
//! Bytes are read once and copied once, into a pack's buffer. Digests run on one CPU lane, cutting
//! and chunk hashing on another, both beside the network; a full pack ships while the next fills.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::try_join_all;
use stele_chunker::pack::{BodyManifest, BodyTag, SealedPack};
use stele_chunker::stream::{EndedBody, PackTarget, PackWriter, WriteError};
use stele_types::ids::{BodyHash, Epoch};
use stele_types::limits::{CHUNK_BYTES_MAX, MIB, PUT_BODY_BYTES_MAX, SHARED_PACK_BODY_BYTES_MAX};
use stele_types::object::ChecksumAlgorithm;
use stele_types::seam::random_bytes;

use crate::api::BodyStream;
use crate::budget::Charge;
use crate::cpu::{CpuPool, INLINE_BYTES, Pending};
use crate::digests::{DigestValues, Digests};
use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::metrics::Step;
use crate::packer::{SharedBody, StoredBody, store_shared, writer_failed};
use crate::store::{StoredPack, store_pack};
use crate::task::OwnedTask;

/// Bytes handed to a CPU lane at once: enough to make the hop between threads cheap.
const LANE_BYTES: usize = MIB;
/// A pack of its own takes at most this share of the memory budget.
const PACK_SHARE_OF_BUDGET: u64 = 32;

/// A body to read.
pub(crate) struct BodyInput {
    pub(crate) stream: BodyStream,
    pub(crate) declared_len: Option<u64>,
    pub(crate) wanted: Vec<ChecksumAlgorithm>,
    pub(crate) charge: Charge,
}

/// Memory for a body of this length: charged before its first byte is read.
pub(crate) async fn charge_for(gw: &Gateway, declared_len: Option<u64>) -> Result<Charge, GatewayError> {
    let bytes = match declared_len {
        Some(len) if len > PUT_BODY_BYTES_MAX => {
            return Err(GatewayError::EntityTooLarge { len, max: PUT_BODY_BYTES_MAX });
        }
        // The body, its copy in the shared pack, and its share of the parity.
        Some(len) if len <= SHARED_PACK_BODY_BYTES_MAX as u64 => {
            usize::try_from(len).unwrap_or(usize::MAX).saturating_mul(3)
        }
        other => {
            // One pack fills, one ships with its parity, and each may exceed its target by a chunk.
            let target = target_for(gw, other).bytes();
            3 * target + 2 * CHUNK_BYTES_MAX + 4 * LANE_BYTES
        }
    };
    let charge = gw.budget.charge(bytes).await;
    gw.metrics.memory_used.set(i64::try_from(gw.budget.used_bytes()).unwrap_or(i64::MAX));
    charge
}

fn target_for(gw: &Gateway, len: Option<u64>) -> PackTarget {
    let share = gw.config.memory_bytes / PACK_SHARE_OF_BUDGET;
    let ceiling = usize::try_from(share).unwrap_or(usize::MAX).max(SHARED_PACK_BODY_BYTES_MAX);
    match len {
        Some(len) => PackTarget::for_body(len, ceiling),
        None => PackTarget::new(ceiling),
    }
}

/// Reads a body to its end and stores it.
///
/// # Durability
/// Ok: every pack of it is on stable media; nothing refers to them yet.
///
/// # Errors
/// `BodyFailed`, `BodyTooShort`, `BodyTooLong`, `BodyStalled`, `EntityTooLarge`, and those of
/// [`store_pack`].
///
/// # Cancel
/// Packs stored so far are orphans, which a sweep takes.
pub(crate) async fn store_body(
    gw: &Arc<Gateway>,
    epoch: Epoch,
    input: BodyInput,
) -> Result<(StoredBody, DigestValues), GatewayError> {
    let mut frames = Frames { stream: input.stream, declared: input.declared_len, got: 0, idle: gw.config.body_idle };
    let mut digests = DigestLane::new(&input.wanted);
    let chunking = gw.metrics.time(Step::P4Chunk);
    let mut body = Vec::new();
    let mut len = 0;
    while len <= SHARED_PACK_BODY_BYTES_MAX as u64 && !frames.is_surely_large() {
        let Some(frame) = frames.next().await? else {
            let digests = digests.finish(gw).await?;
            drop(chunking);
            gw.metrics.bytes_in.inc_by(len);
            let shared = SharedBody { frames: body, len, epoch, _charge: input.charge };
            return Ok((store_shared(gw, shared).await?, digests));
        };
        len += frame.len() as u64;
        digests.push(gw, frame.clone()).await?;
        body.push(frame);
    }
    let mut packs = OwnPacks::begin(gw, epoch, input.declared_len)?;
    packs.push(body).await?;
    while let Some(frame) = frames.next().await? {
        digests.push(gw, frame.clone()).await?;
        packs.push(vec![frame]).await?;
    }
    gw.metrics.bytes_in.inc_by(frames.got);
    let stored = packs.finish().await?;
    let digests = digests.finish(gw).await?;
    drop(chunking);
    drop(input.charge);
    Ok((stored, digests))
}

/// Reads a body and holds it to its declared length.
struct Frames {
    stream: BodyStream,
    declared: Option<u64>,
    got: u64,
    idle: Duration,
}

impl Frames {
    fn is_surely_large(&self) -> bool {
        self.declared.is_some_and(|len| len > SHARED_PACK_BODY_BYTES_MAX as u64)
    }

    fn ended(&self) -> Result<Option<Bytes>, GatewayError> {
        match self.declared {
            Some(declared) if self.got < declared => Err(GatewayError::BodyTooShort { declared, got: self.got }),
            _ => Ok(None),
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, GatewayError> {
        loop {
            let next = tokio::time::timeout(self.idle, self.stream.next()).await;
            let Ok(next) = next else {
                return Err(GatewayError::BodyStalled { seconds: self.idle.as_secs() });
            };
            let Some(frame) = next else {
                return self.ended();
            };
            let frame = frame.map_err(GatewayError::BodyFailed)?;
            self.got += frame.len() as u64;
            if let Some(declared) = self.declared.filter(|declared| self.got > *declared) {
                return Err(GatewayError::BodyTooLong { declared });
            }
            if self.got > PUT_BODY_BYTES_MAX {
                return Err(GatewayError::EntityTooLarge { len: self.got, max: PUT_BODY_BYTES_MAX });
            }
            if !frame.is_empty() {
                return Ok(Some(frame));
            }
        }
    }
}

/// State that one CPU job after the other works on, while the caller does something else.
struct Lane<T> {
    idle: Option<T>,
    running: Option<Pending<T>>,
}

impl<T: Send + 'static> Lane<T> {
    fn new(state: T) -> Self {
        Self { idle: Some(state), running: None }
    }

    /// Waits for the work under way.
    async fn state(&mut self) -> Result<&mut T, GatewayError> {
        if let Some(running) = self.running.take() {
            self.idle = Some(running.finish().await?);
        }
        self.idle.as_mut().ok_or_else(lost)
    }

    /// Starts work on the state.
    async fn start<F>(&mut self, cpu: &CpuPool, bytes: usize, work: F) -> Result<(), GatewayError>
    where
        F: FnOnce(&mut T) + Send + 'static,
    {
        if bytes <= INLINE_BYTES {
            work(self.state().await?);
            return Ok(());
        }
        self.state().await?;
        let mut state = self.idle.take().ok_or_else(lost)?;
        let job = move || {
            work(&mut state);
            state
        };
        self.running = Some(cpu.submit(job).await?);
        Ok(())
    }

    async fn finish(mut self) -> Result<T, GatewayError> {
        self.state().await?;
        self.idle.take().ok_or_else(lost)
    }
}

fn lost() -> GatewayError {
    GatewayError::Internal { what: "the state of a CPU lane is lost".into() }
}

/// MD5 and checksums.
pub(crate) struct DigestLane {
    lane: Lane<Digests>,
    pending: Vec<Bytes>,
    pending_bytes: usize,
}

impl DigestLane {
    pub(crate) fn new(wanted: &[ChecksumAlgorithm]) -> Self {
        Self { lane: Lane::new(Digests::new(wanted)), pending: Vec::new(), pending_bytes: 0 }
    }

    pub(crate) async fn push(&mut self, gw: &Gateway, frame: Bytes) -> Result<(), GatewayError> {
        self.pending_bytes += frame.len();
        self.pending.push(frame);
        if self.pending_bytes >= LANE_BYTES { self.flush(gw).await } else { Ok(()) }
    }

    async fn flush(&mut self, gw: &Gateway) -> Result<(), GatewayError> {
        let frames = std::mem::take(&mut self.pending);
        let bytes = std::mem::take(&mut self.pending_bytes);
        let work = move |digests: &mut Digests| frames.iter().for_each(|frame| digests.update(frame));
        self.lane.start(&gw.cpu, bytes, work).await
    }

    pub(crate) async fn finish(mut self, gw: &Gateway) -> Result<DigestValues, GatewayError> {
        self.flush(gw).await?;
        Ok(self.lane.finish().await?.finish())
    }
}

/// What the cutting lane works on.
struct Cutting {
    writer: PackWriter,
    body_hash: blake3::Hasher,
    sealed: Vec<SealedPack>,
    failed: Option<WriteError>,
}

impl Cutting {
    fn write(&mut self, frames: &[Bytes]) {
        for frame in frames {
            self.body_hash.update(frame);
            match self.writer.write(frame) {
                Ok(full) => self.sealed.extend(full),
                Err(error) => {
                    self.failed.get_or_insert(error);
                }
            }
        }
    }

    fn end(&mut self) -> Result<EndedBody, WriteError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let (ended, full) = self.writer.end_body()?;
        self.sealed.extend(full);
        self.sealed.extend(self.writer.seal()?);
        Ok(ended)
    }
}

/// Packs of one large body: one fills, at most one ships.
struct OwnPacks {
    gw: Arc<Gateway>,
    lane: Lane<Cutting>,
    pending: Vec<Bytes>,
    pending_bytes: usize,
    shipping: Option<OwnedTask<Result<StoredPack, GatewayError>>>,
    stored: Vec<StoredPack>,
    manifests: Vec<BodyManifest>,
}

impl OwnPacks {
    fn begin(gw: &Arc<Gateway>, epoch: Epoch, declared: Option<u64>) -> Result<Self, GatewayError> {
        let writer = PackWriter::new(random_bytes(gw.rng.as_ref()), target_for(gw, declared));
        let mut writer = writer.with_pool(&gw.pool);
        writer.begin_body(BodyTag(0), epoch, declared).map_err(writer_failed)?;
        let cutting = Cutting { writer, body_hash: blake3::Hasher::new(), sealed: Vec::new(), failed: None };
        Ok(Self {
            gw: Arc::clone(gw),
            lane: Lane::new(cutting),
            pending: Vec::new(),
            pending_bytes: 0,
            shipping: None,
            stored: Vec::new(),
            manifests: Vec::new(),
        })
    }

    async fn push(&mut self, frames: Vec<Bytes>) -> Result<(), GatewayError> {
        self.pending_bytes += frames.iter().map(Bytes::len).sum::<usize>();
        self.pending.extend(frames);
        if self.pending_bytes >= LANE_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), GatewayError> {
        let full = self.sealed().await?;
        let frames = std::mem::take(&mut self.pending);
        let bytes = std::mem::take(&mut self.pending_bytes);
        self.lane.start(&self.gw.cpu, bytes, move |cutting| cutting.write(&frames)).await?;
        for pack in full {
            self.ship(pack).await?;
        }
        Ok(())
    }

    /// Packs that the work so far has filled.
    async fn sealed(&mut self) -> Result<Vec<SealedPack>, GatewayError> {
        let cutting = self.lane.state().await?;
        if let Some(error) = cutting.failed {
            return Err(writer_failed(error));
        }
        Ok(std::mem::take(&mut cutting.sealed))
    }

    async fn ship(&mut self, mut pack: SealedPack) -> Result<(), GatewayError> {
        self.landed().await?;
        self.manifests.append(&mut pack.manifests);
        let gw = Arc::clone(&self.gw);
        self.shipping = Some(OwnedTask::spawn(async move { store_pack(&gw, pack).await }));
        Ok(())
    }

    async fn landed(&mut self) -> Result<(), GatewayError> {
        if let Some(task) = self.shipping.take() {
            self.stored.push(task.finish().await??);
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<StoredBody, GatewayError> {
        self.flush().await?;
        let mut full = self.sealed().await?;
        let mut cutting = self.lane.finish().await?;
        let end = move || {
            let ended = cutting.end();
            (ended, cutting)
        };
        let (ended, cutting) = self.gw.cpu.run(CHUNK_BYTES_MAX, end).await?;
        let ended = ended.map_err(writer_failed)?;
        full.extend(cutting.sealed);
        self.manifests.extend(full.iter().flat_map(|pack| pack.manifests.iter().cloned()));
        self.manifests.extend(ended.manifest.clone());
        let last = try_join_all(full.into_iter().map(|pack| store_pack(&self.gw, pack)));
        let (shipped, last) = match self.shipping.take() {
            Some(task) => {
                let (shipped, last) = futures::future::try_join(task.finish(), last).await?;
                (Some(shipped?), last)
            }
            None => (None, last.await?),
        };
        self.stored.extend(shipped);
        self.stored.extend(last);
        let hash = BodyHash::from_bytes(*cutting.body_hash.finalize().as_bytes());
        let manifest = self.manifests.pop().ok_or_else(|| writer_failed(WriteError::NoBody))?;
        StoredBody::new(&ended, manifest, hash, &self.stored)
    }
}
