//! Unique values: what each PUT and part stores, and what a read must therefore find.
//!
//! Every value has a serial number that no other write of the run has, and its bytes follow from seed
//! and serial, so that a wrong byte, a foreign byte and a byte of an older version are all noticed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use md5::{Digest, Md5};
use stele_types::object::ETag;

use crate::seed::SimRng;

/// Serial number of a value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ValueId(pub u32);

/// Lengths of a value's pieces: one for a PUT, one per part for a multipart upload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shape(pub Vec<u64>);

/// Every value of a run.
#[derive(Debug)]
pub struct Values {
    rng: SimRng,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    shapes: Vec<Shape>,
    /// What a value that was appended to begins with.
    bases: BTreeMap<ValueId, ValueId>,
    by_etag: BTreeMap<String, ValueId>,
}

impl Values {
    /// None yet.
    pub fn new(rng: SimRng) -> Self {
        Self { rng, known: Mutex::new(Known::default()) }
    }

    /// A new value of one piece.
    pub fn single(&self, len: u64) -> (ValueId, Bytes, ETag) {
        let id = self.add(Shape(vec![len]));
        let bytes = self.piece(id, 0, len);
        let etag = ETag { md5: md5(&bytes), parts: 0 };
        self.note(id, &etag);
        (id, bytes, etag)
    }

    /// A new value of several parts, with their bytes.
    pub fn multipart(&self, lens: &[u64]) -> (ValueId, Vec<Bytes>, ETag) {
        let id = self.add(Shape(lens.to_vec()));
        let pieces: Vec<Bytes> = lens.iter().enumerate().map(|(i, len)| self.piece(id, i, *len)).collect();
        let mut all = Md5::new();
        for piece in &pieces {
            all.update(Md5::digest(piece));
        }
        let etag = ETag {
            md5: u128::from_be_bytes(all.finalize().into()),
            parts: u16::try_from(lens.len()).unwrap_or(u16::MAX),
        };
        self.note(id, &etag);
        (id, pieces, etag)
    }

    /// A new value that begins with all of `base`, whose ETag and length are these: its last piece and its ETag.
    pub fn appended(&self, base: (ValueId, ETag), len: u64) -> (ValueId, Bytes, ETag) {
        let id = self.add(Shape(vec![len]));
        let bytes = self.piece(id, 0, len);
        let both = [base.1.md5.to_be_bytes(), md5(&bytes).to_be_bytes()].concat();
        let etag = ETag { md5: md5(&both), parts: base.1.parts.max(1) + 1 };
        self.locked().bases.insert(id, base.0);
        self.note(id, &etag);
        (id, bytes, etag)
    }

    /// The value with this ETag; `None` if nobody ever wrote it.
    pub fn by_etag(&self, etag: &str) -> Option<ValueId> {
        self.locked().by_etag.get(etag).copied()
    }

    /// ETag of a value.
    pub fn etag_of(&self, id: ValueId) -> Option<String> {
        self.locked().by_etag.iter().find(|(_, v)| **v == id).map(|(etag, _)| etag.clone())
    }

    /// All bytes of a value.
    pub fn bytes(&self, id: ValueId) -> Bytes {
        let (shape, base) = {
            let known = self.locked();
            (known.shapes.get(id.0 as usize).cloned(), known.bases.get(&id).copied())
        };
        let mut out = base.map(|base| self.bytes(base).to_vec()).unwrap_or_default();
        for (i, len) in shape.map(|s| s.0).unwrap_or_default().into_iter().enumerate() {
            out.extend_from_slice(&self.piece(id, i, len));
        }
        out.into()
    }

    fn add(&self, shape: Shape) -> ValueId {
        let mut known = self.locked();
        let id = ValueId(u32::try_from(known.shapes.len()).unwrap_or(u32::MAX));
        known.shapes.push(shape);
        id
    }

    fn note(&self, id: ValueId, etag: &ETag) {
        self.locked().by_etag.insert(etag.to_string(), id);
    }

    fn piece(&self, id: ValueId, index: usize, len: u64) -> Bytes {
        use stele_types::seam::Rng as _;
        let mut out = vec![0u8; usize::try_from(len).unwrap_or(0)];
        self.rng.stream(&format!("{} {index}", id.0)).fill(&mut out);
        // Short values must differ too.
        for (byte, serial) in out.iter_mut().zip(id.0.to_be_bytes()) {
            *byte = serial;
        }
        out.into()
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn md5(bytes: &[u8]) -> u128 {
    u128::from_be_bytes(Md5::digest(bytes).into())
}
