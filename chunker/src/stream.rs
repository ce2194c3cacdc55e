//! Bodies in, sealed packs and manifests out: steps P4 and P5 of a PUT, without the waiting.
//!
//! A gateway feeds body bytes as they arrive. They are copied once, into the buffer of the pack
//! being filled, cut there, and hashed chunk by chunk. Boundaries depend on the body alone: the
//! uncut end of a body moves to the next pack's buffer. Several bodies may share a pack, one after
//! the other. A manifest page is stored in the pack being filled and may refer to that same pack,
//! so a small object needs no second pack.

use stele_types::ids::{ChunkId, Epoch, ObjectRoot, PackId};
use stele_types::limits::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, MANIFEST_INLINE_CHUNKS, PACK_BYTES_MAX, PACK_CHUNKS_MAX};
use stele_types::manifest::{ChunkEntry, PAGE_BYTES_MAX, PageError};
use stele_types::pack::{CHUNK_LIST_BYTES_MAX, Codec, PackChunk, chunk_list_len};

use crate::buffer::{BufferPool, PackBuffer};
use crate::cutter::Cutter;
use crate::pack::{BodyManifest, BodyTag, SealError, SealedPack, StoredChunk, padded_len, seal};
use crate::pages::{Kept, ManifestBuilder, OPEN_PACK, PageDraft};

#[cfg(test)]
mod tests;

/// Pages that may follow the last chunk of a pack: one per level of the deepest manifest.
const PAGES_MAX: usize = 4;
/// Chunks after which a pack is sealed, so that those pages still fit.
const CHUNKS_FULL: usize = PACK_CHUNKS_MAX - PAGES_MAX;

/// Room kept for manifest pages per chunk of a body: an entry, and its pack where that is another.
const PAGE_ROOM_PER_CHUNK: usize = 96;

/// Bytes of chunks after which a pack is sealed. A pack may exceed its target by one chunk and a
/// few manifest pages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PackTarget(usize);

impl PackTarget {
    /// The highest target: the largest chunk, pages and chunk list still fit behind it.
    pub const MAX: Self = Self(PACK_BYTES_MAX - CHUNK_BYTES_MAX - PAGES_MAX * PAGE_BYTES_MAX - CHUNK_LIST_BYTES_MAX);

    /// A target, at most [`Self::MAX`].
    pub const fn new(bytes: usize) -> Self {
        if bytes > Self::MAX.0 { Self::MAX } else { Self(bytes) }
    }

    /// A target at most `ceiling` that splits a body of known length into packs of about the same
    /// size, so that no small pack is left over at the end.
    pub const fn for_body(len: u64, ceiling: usize) -> Self {
        let ceiling = Self::new(ceiling).0 as u64;
        let packs = if ceiling == 0 { 1 } else { len.div_ceil(ceiling) };
        if packs <= 1 { Self(ceiling as usize) } else { Self(len.div_ceil(packs) as usize) }
    }

    /// Bytes.
    pub const fn bytes(self) -> usize {
        self.0
    }
}

/// A body came to its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndedBody {
    /// The body.
    pub body: BodyTag,
    /// Its bytes.
    pub len: u64,
    /// Its chunks.
    pub chunks: u64,
    /// Its object root.
    pub root: ObjectRoot,
    /// The only chunk of a body that has just one: its id is then also the BLAKE3 of the body.
    pub only_chunk: Option<ChunkId>,
    /// The manifest, if nothing of it lies in the pack being filled (no bytes, or entries of older
    /// packs only). Otherwise it comes with the next sealed pack.
    pub manifest: Option<BodyManifest>,
}

/// A pack writer was used out of order, or met one of its limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WriteError {
    /// Bytes or an end without a body.
    #[error("no body was begun; a defect of the caller")]
    NoBody,
    /// A second body before the first one ended.
    #[error("the previous body has not ended; a defect of the caller")]
    BodyOpen,
    /// Entries and bytes in one body.
    #[error("a body is written either as bytes or as entries; a defect of the caller")]
    Mixed,
    /// A chunk without bytes, or with more than a chunk may have.
    #[error("a chunk has 1 to {CHUNK_BYTES_MAX} bytes; a defect of the caller")]
    Length,
    /// A pack can't be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A manifest page can't be written.
    #[error(transparent)]
    Page(#[from] PageError),
}

/// Fills packs with bodies.
#[derive(Debug)]
pub struct PackWriter {
    /// 32 random bytes, of which the nonces of this writer's packs are derived.
    nonce_seed: [u8; 32],
    sealed: u64,
    target: PackTarget,
    pool: BufferPool,
    buffer: PackBuffer,
    /// Bytes of the buffer that are cut into chunks; the rest is the open body's uncut end.
    cut: usize,
    chunks: Vec<StoredChunk>,
    /// Highest start epoch of a body with bytes in the pack being filled.
    epoch: Epoch,
    cutter: Cutter,
    body: Option<OpenBody>,
    /// Ended bodies whose manifests wait for the id of the pack being filled.
    waiting: Vec<OpenBody>,
}

#[derive(Debug)]
struct OpenBody {
    tag: BodyTag,
    epoch: Epoch,
    expected: Option<u64>,
    manifest: ManifestBuilder,
    packs: Vec<PackId>,
    in_open_pack: bool,
    first_chunk: Option<ChunkId>,
}

impl PackWriter {
    /// A writer with an empty pack. `nonce_seed` is 32 fresh random bytes.
    pub fn new(nonce_seed: [u8; 32], target: PackTarget) -> Self {
        Self {
            nonce_seed,
            sealed: 0,
            target,
            pool: BufferPool::default(),
            buffer: PackBuffer::default(),
            cut: 0,
            chunks: Vec::new(),
            epoch: Epoch(0),
            cutter: Cutter::default(),
            body: None,
            waiting: Vec::new(),
        }
    }

    /// Takes pack buffers from `pool`, to be called before the first body. Without one, fresh memory
    /// costs several times as much as the copy into it.
    #[must_use]
    pub fn with_pool(self, pool: &BufferPool) -> Self {
        Self { pool: pool.clone(), buffer: PackBuffer::with_capacity(0, pool), ..self }
    }

    /// Begins a body. `start_epoch` is its PUT's: a pack carries the highest one of its bodies, so
    /// that a sweep can't take it while one of their commits is still allowed. `expected` is the
    /// body's length, if known: the buffer is then sized once.
    ///
    /// # Errors
    /// [`WriteError::BodyOpen`].
    pub fn begin_body(&mut self, tag: BodyTag, start_epoch: Epoch, expected: Option<u64>) -> Result<(), WriteError> {
        if self.body.is_some() {
            return Err(WriteError::BodyOpen);
        }
        self.cutter.reset();
        self.body = Some(OpenBody {
            tag,
            epoch: start_epoch,
            expected,
            manifest: ManifestBuilder::default(),
            packs: Vec::new(),
            in_open_pack: false,
            first_chunk: None,
        });
        Ok(())
    }

    /// Appends bytes of the open body. Returns the packs that became full.
    ///
    /// # Errors
    /// [`WriteError`]; the writer is then unusable and its unsealed bytes are lost.
    pub fn write(&mut self, bytes: &[u8]) -> Result<Vec<SealedPack>, WriteError> {
        if self.body.is_none() {
            return Err(WriteError::NoBody);
        }
        let mut full = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let uncut = self.buffer.len() - self.cut;
            let (now, later) = rest.split_at(rest.len().min(CHUNK_BYTES_MAX - uncut));
            rest = later;
            self.make_room(now.len());
            self.buffer.extend_from_slice(now);
            while let Some(len) = self.cutter.scan(&self.buffer.as_slice()[self.cut..]) {
                self.close_chunk(len)?;
                self.store_pages(false, &mut full)?;
                self.seal_if_full(&mut full)?;
            }
        }
        Ok(full)
    }

    /// Appends a chunk that is stored already to the open body: how Complete and Copy make a new
    /// manifest without moving bytes. Returns the packs that became full of manifest pages.
    ///
    /// # Errors
    /// [`WriteError`]; the writer is then unusable.
    pub fn push_entry(&mut self, entry: ChunkEntry) -> Result<Vec<SealedPack>, WriteError> {
        if self.buffer.len() > self.cut {
            return Err(WriteError::Mixed);
        }
        let body = self.body.as_mut().ok_or(WriteError::NoBody)?;
        body.first_chunk.get_or_insert(entry.id);
        body.manifest.push(entry);
        let mut full = Vec::new();
        self.store_pages(false, &mut full)?;
        self.seal_if_full(&mut full)?;
        Ok(full)
    }

    /// Begins the open body with what a shorter object leaves as it is: how an append makes a manifest
    /// without reading all of the old one. Returns the packs that became full.
    ///
    /// # Errors
    /// [`WriteError`]; the writer is then unusable.
    pub fn keep(&mut self, kept: Kept) -> Result<Vec<SealedPack>, WriteError> {
        let body = self.body.as_mut().ok_or(WriteError::NoBody)?;
        if body.manifest.chunks() > 0 {
            return Err(WriteError::Mixed);
        }
        kept.pages.into_iter().for_each(|(level, page)| body.manifest.keep(level, page));
        let mut full = Vec::new();
        for entry in kept.entries {
            full.extend(self.push_entry(entry)?);
        }
        Ok(full)
    }

    /// Appends `bytes` to the open body as one chunk, wherever their content would be cut: what is left of
    /// a chunk at the end of a copied range. Entries may come before and behind. Returns the packs that
    /// became full.
    ///
    /// # Errors
    /// [`WriteError`], of which [`WriteError::Length`] leaves the writer as it was.
    pub fn push_chunk(&mut self, bytes: &[u8]) -> Result<Vec<SealedPack>, WriteError> {
        if bytes.is_empty() || bytes.len() > CHUNK_BYTES_MAX {
            return Err(WriteError::Length);
        }
        if self.body.is_none() {
            return Err(WriteError::NoBody);
        }
        if self.buffer.len() > self.cut {
            return Err(WriteError::Mixed);
        }
        self.make_room(bytes.len());
        self.buffer.extend_from_slice(bytes);
        self.close_chunk(bytes.len())?;
        let mut full = Vec::new();
        self.store_pages(false, &mut full)?;
        self.seal_if_full(&mut full)?;
        Ok(full)
    }

    /// Ends the open body: cuts its last chunk and stores its manifest pages. Returns also the
    /// packs that became full; what is left in the open pack waits for [`Self::seal`].
    ///
    /// # Errors
    /// [`WriteError`]; the writer is then unusable.
    pub fn end_body(&mut self) -> Result<(EndedBody, Vec<SealedPack>), WriteError> {
        if self.body.is_none() {
            return Err(WriteError::NoBody);
        }
        let uncut = self.buffer.len() - self.cut;
        if uncut > 0 {
            self.close_chunk(uncut)?;
        }
        self.cutter.reset();
        let mut full = Vec::new();
        self.store_pages(true, &mut full)?;
        let body = self.body.take().ok_or(WriteError::NoBody)?;
        let chunks = body.manifest.chunks();
        let manifest = body.manifest.manifest();
        let ended = EndedBody {
            body: body.tag,
            len: body.manifest.bytes(),
            chunks,
            root: body.manifest.object_root(),
            only_chunk: body.first_chunk.filter(|_| chunks == 1),
            manifest: manifest.map(|manifest| BodyManifest { body: body.tag, manifest, packs: body.packs.clone() }),
        };
        if ended.manifest.is_none() {
            self.waiting.push(body);
        }
        self.seal_if_full(&mut full)?;
        Ok((ended, full))
    }

    /// Drops the open body, if any. Its uncut bytes go; chunks already cut stay in their packs as
    /// garbage that nothing refers to.
    pub fn abort_body(&mut self) {
        if self.body.take().is_some() {
            self.buffer.truncate(self.cut);
            self.cutter.reset();
        }
    }

    /// Seals what is in the pack being filled; `None` if that is nothing. An open body's uncut
    /// bytes move to the next pack.
    ///
    /// # Errors
    /// [`WriteError::Seal`].
    pub fn seal(&mut self) -> Result<Option<SealedPack>, WriteError> {
        if self.chunks.is_empty() {
            return Ok(None);
        }
        let mut payload = self.next_buffer();
        payload.extend_from_slice(&self.buffer.as_slice()[self.cut..]);
        std::mem::swap(&mut payload, &mut self.buffer);
        payload.truncate(self.cut);
        self.cut = 0;
        let mut chunks = std::mem::take(&mut self.chunks);
        let list: Vec<PackChunk> = chunks.iter().map(|c| pack_chunk(&c.entry)).collect();
        let epoch = std::mem::replace(&mut self.epoch, Epoch(0));
        let (id, preimage, payload) = seal(payload, &list, epoch, self.next_nonce())?;
        for chunk in &mut chunks {
            chunk.entry.pack = id;
        }
        if let Some(body) = &mut self.body {
            body.sealed_into(id);
        }
        let manifests = self.waiting.drain(..).filter_map(|mut body| {
            body.sealed_into(id);
            let manifest = body.manifest.manifest()?;
            Some(BodyManifest { body: body.tag, manifest, packs: body.packs })
        });
        Ok(Some(SealedPack { id, preimage, payload, chunks, manifests: manifests.collect() }))
    }

    /// Bytes of chunks and pages in the pack being filled.
    pub const fn open_bytes(&self) -> usize {
        self.cut
    }

    /// Whether a body of `len` bytes surely fits into the pack being filled, with its pages. A
    /// shared pack is sealed before a body that does not.
    pub fn fits(&self, len: u64) -> bool {
        let chunks = self.chunks.len() as u64 + len.div_ceil(CHUNK_BYTES_MIN as u64);
        let bytes = (self.cut as u64).saturating_add(len);
        bytes <= PackTarget::MAX.0 as u64 && chunks < CHUNKS_FULL as u64
    }

    fn next_nonce(&mut self) -> [u8; 16] {
        let mut nonce = [0u8; 16];
        let mut hasher = blake3::Hasher::new_keyed(&self.nonce_seed);
        hasher.update(b"stele pack nonce");
        hasher.update(&self.sealed.to_le_bytes());
        hasher.finalize_xof().fill(&mut nonce);
        self.sealed += 1;
        nonce
    }

    /// A buffer for the next pack, sized by what the open body still has to come.
    fn next_buffer(&self) -> PackBuffer {
        let uncut = self.buffer.len() - self.cut;
        match &self.body {
            Some(body) => PackBuffer::with_capacity(self.buffer_len(body, 0, uncut), &self.pool),
            None => PackBuffer::with_capacity(0, &self.pool),
        }
    }

    /// Sizes the buffer for the rest of the open body, before `more` bytes of it are appended.
    fn make_room(&mut self, more: usize) {
        let uncut = self.buffer.len() - self.cut;
        let rest = self.body.as_ref().map_or(0, |body| self.buffer_len(body, self.cut, uncut));
        let wanted = rest.max(self.buffer.len() + more);
        if wanted > self.buffer.capacity() {
            self.buffer.reserve(wanted - self.buffer.len());
        }
    }

    /// Buffer length for a pack that holds `cut` bytes, `uncut` bytes of `body` and the rest of it
    /// as far as it fits, with pages, chunk list and padding. It does not grow while a body of
    /// known length arrives, so that the buffer never moves under it.
    fn buffer_len(&self, body: &OpenBody, cut: usize, uncut: usize) -> usize {
        let most = (self.target.0.max(cut) + CHUNK_BYTES_MAX) as u64;
        let arrived = body.manifest.bytes() + uncut as u64;
        let missing = body.expected.map_or(most, |len| len.saturating_sub(arrived));
        let bytes = ((cut + uncut) as u64).saturating_add(missing).min(most) as usize;
        let chunks = self.chunks.len() + 2 + bytes.saturating_sub(cut) / CHUNK_BYTES_MIN;
        let pages = if chunks > MANIFEST_INLINE_CHUNKS { PAGE_ROOM_PER_CHUNK * chunks } else { 0 };
        padded_len(bytes + pages + chunk_list_len(chunks))
    }

    /// Makes the next `len` bytes of the buffer a chunk of the open body.
    fn close_chunk(&mut self, len: usize) -> Result<(), WriteError> {
        let bytes = &self.buffer.as_slice()[self.cut..self.cut + len];
        let id = ChunkId::from_bytes(*blake3::hash(bytes).as_bytes());
        let entry = self.record(id, len, false)?;
        let body = self.body.as_mut().ok_or(WriteError::NoBody)?;
        body.first_chunk.get_or_insert(id);
        body.manifest.push(entry);
        Ok(())
    }

    /// Notes `len` bytes behind the cut as one chunk or page of the open body.
    fn record(&mut self, id: ChunkId, len: usize, page: bool) -> Result<ChunkEntry, WriteError> {
        let body = self.body.as_mut().ok_or(WriteError::NoBody)?;
        body.in_open_pack = true;
        self.epoch = self.epoch.max(body.epoch);
        let entry = ChunkEntry {
            id,
            len: len as u32,
            pack: OPEN_PACK,
            offset: self.cut as u32,
            stored_len: len as u32,
            codec: Codec::Raw,
            key_id: 0,
        };
        self.chunks.push(StoredChunk { body: body.tag, page, entry: entry.clone() });
        self.cut += len;
        Ok(entry)
    }

    /// Stores the pages that the open body's manifest has ready.
    fn store_pages(&mut self, ended: bool, full: &mut Vec<SealedPack>) -> Result<(), WriteError> {
        loop {
            // Sealing first: a draft names the open pack without an id, so it must be stored in it.
            self.seal_if_no_room_for_page(full)?;
            let body = self.body.as_mut().ok_or(WriteError::NoBody)?;
            let Some(draft) = body.manifest.next_page(ended) else { return Ok(()) };
            let entry = self.store_page(&draft)?;
            let body = self.body.as_mut().ok_or(WriteError::NoBody)?;
            body.manifest.placed(&draft, entry);
        }
    }

    fn store_page(&mut self, draft: &PageDraft) -> Result<ChunkEntry, WriteError> {
        let bytes = draft.encode()?;
        // The page goes before the uncut bytes, which stay at the end of the buffer.
        let uncut = self.buffer.as_slice()[self.cut..].to_vec();
        self.buffer.truncate(self.cut);
        self.buffer.extend_from_slice(&bytes);
        self.buffer.extend_from_slice(&uncut);
        let id = ChunkId::from_bytes(*blake3::hash(&bytes).as_bytes());
        self.record(id, bytes.len(), true)
    }

    fn seal_if_no_room_for_page(&mut self, full: &mut Vec<SealedPack>) -> Result<(), WriteError> {
        let bytes = self.cut + PAGE_BYTES_MAX + CHUNK_LIST_BYTES_MAX;
        if bytes > PACK_BYTES_MAX || self.chunks.len() >= PACK_CHUNKS_MAX {
            full.extend(self.seal()?);
        }
        Ok(())
    }

    fn seal_if_full(&mut self, full: &mut Vec<SealedPack>) -> Result<(), WriteError> {
        if self.cut >= self.target.0 || self.chunks.len() >= CHUNKS_FULL {
            full.extend(self.seal()?);
        }
        Ok(())
    }
}

impl OpenBody {
    fn sealed_into(&mut self, pack: PackId) {
        self.manifest.resolve(pack);
        if std::mem::replace(&mut self.in_open_pack, false) {
            self.packs.push(pack);
        }
    }
}

fn pack_chunk(entry: &ChunkEntry) -> PackChunk {
    PackChunk { id: entry.id, len: entry.len, stored_len: entry.stored_len, codec: entry.codec, key_id: entry.key_id }
}
