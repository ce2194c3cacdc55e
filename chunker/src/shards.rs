//! Erasure coding: packs to shards, lost shards back from others, and where a read must go.
//!
//! Data shard i is payload bytes [i*S, (i+1)*S) and stays a slice of the payload. Any byte range of
//! a lost shard is decoded from the same range of k' others, never from whole shards. With k' = 1
//! all shards are the payload itself.

use bytes::Bytes;
use reed_solomon_erasure::galois_8::{ReedSolomon, mul_slice, mul_slice_xor};
use stele_types::ids::ShardRoot;
use stele_types::scheme::Scheme;

use crate::buffer::{BufferPool, PackBuffer};
use crate::pack::SealedPack;

mod matrix;
mod plan;
#[cfg(test)]
mod tests;

pub use plan::{ShardRange, plan_read, slots_for};

/// Columns coded at a time: k + m blocks of this size stay near the cores, so that the hashes read
/// what the coder has just written. Measured best of 16 to 128 KiB for rs-4-2 and rs-8-4.
const BLOCK_BYTES: usize = 64 * 1024;

/// Shards can't be coded.
#[derive(Clone, Copy, PartialEq, Debug, thiserror::Error)]
pub enum CoderError {
    /// Fewer than k' different shards.
    #[error("{have} different shards of {scheme}, {} are needed; fetch more", scheme.k())]
    TooFew {
        /// The scheme.
        scheme: Scheme,
        /// Different shards at hand.
        have: usize,
    },
    /// A shard number that the scheme does not have.
    #[error("{scheme} has no shard {shard}")]
    NoSuchShard {
        /// The scheme.
        scheme: Scheme,
        /// The number.
        shard: u8,
    },
    /// Ranges of different lengths.
    #[error("shard ranges of {0} and {1} bytes; they must be the same range")]
    Lengths(usize, usize),
    /// The coding library refused.
    #[error("the erasure coder failed: {0}; a defect")]
    Library(reed_solomon_erasure::Error),
}

/// The shards of a pack.
#[derive(Clone, Debug)]
pub struct EncodedPack {
    /// k' data shards, then m parity shards, `shard_len` bytes each.
    pub shards: Vec<Bytes>,
    /// BLAKE3 of each shard, padding included.
    pub roots: Vec<ShardRoot>,
    /// Bytes of each shard.
    pub shard_len: usize,
}

/// Codes packs of one scheme. Cheap to share by reference; it has no state that changes.
#[derive(Debug)]
pub struct Coder {
    scheme: Scheme,
    /// `None` where there is nothing to compute: no parity, or copies only.
    codec: Option<ReedSolomon>,
    /// Row i says how shard i follows from the data shards.
    generator: matrix::Matrix,
    pool: BufferPool,
}

impl Coder {
    /// A coder for packs of `scheme`.
    ///
    /// # Errors
    /// [`CoderError::Library`]; none for a scheme that [`Scheme::new`] accepts.
    pub fn new(scheme: Scheme) -> Result<Self, CoderError> {
        let codec = if scheme.k() == 1 || scheme.m() == 0 {
            None
        } else {
            Some(ReedSolomon::new(scheme.k(), scheme.m()).map_err(CoderError::Library)?)
        };
        let generator = matrix::generator(scheme, codec.as_ref())?;
        Ok(Self { scheme, codec, generator, pool: BufferPool::default() })
    }

    /// Takes the buffers of parity and decoded ranges from `pool`. Without one, fresh memory costs
    /// more than the coding.
    #[must_use]
    pub fn with_pool(self, pool: &BufferPool) -> Self {
        Self { pool: pool.clone(), ..self }
    }

    /// The scheme.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// All shards of a pack with their roots.
    ///
    /// # Errors
    /// [`CoderError::Library`].
    pub fn encode(&self, pack: &SealedPack) -> Result<EncodedPack, CoderError> {
        self.encode_payload(&pack.payload, pack.payload_len())
    }

    /// As [`Self::encode`], of a payload of `payload_len` bytes with any zero padding behind it.
    ///
    /// # Errors
    /// [`CoderError::Library`].
    pub fn encode_payload(&self, payload: &Bytes, payload_len: usize) -> Result<EncodedPack, CoderError> {
        let shard_len = self.scheme.shard_len(payload_len);
        let mut shards = self.data_shards(payload, shard_len);
        if self.scheme.k() == 1 {
            let root = root_of(shards.first().map_or(&[][..], |s| s));
            let only = shards.first().cloned().unwrap_or_default();
            let copies = self.scheme.shards();
            return Ok(EncodedPack { shards: vec![only; copies], roots: vec![root; copies], shard_len });
        }
        let mut hashers = vec![blake3::Hasher::new(); self.scheme.shards()];
        let parity = self.code_parity(&shards, shard_len, &mut hashers)?;
        shards.extend(parity);
        let roots = hashers.iter().map(|h| ShardRoot::from_bytes(*h.finalize().as_bytes())).collect();
        Ok(EncodedPack { shards, roots, shard_len })
    }

    /// The data shards: slices of the payload, except where its padding ends too early.
    pub fn data_shards(&self, payload: &Bytes, shard_len: usize) -> Vec<Bytes> {
        let shard = |at: usize| {
            let (start, end) = (at * shard_len, (at + 1) * shard_len);
            if end <= payload.len() {
                return payload.slice(start..end);
            }
            let mut copy = PackBuffer::with_capacity(shard_len, &self.pool);
            copy.extend_from_slice(payload.get(start..).unwrap_or_default());
            copy.pad_to(shard_len);
            copy.freeze()
        };
        (0..self.scheme.k()).map(shard).collect()
    }

    /// The parity shards of `data`, without roots.
    ///
    /// # Errors
    /// [`CoderError::TooFew`], [`CoderError::Lengths`], [`CoderError::Library`].
    pub fn parity(&self, data: &[Bytes]) -> Result<Vec<Bytes>, CoderError> {
        if data.len() != self.scheme.k() {
            return Err(CoderError::TooFew { scheme: self.scheme, have: data.len() });
        }
        let shard_len = data.first().map_or(0, Bytes::len);
        if let Some(other) = data.iter().find(|d| d.len() != shard_len) {
            return Err(CoderError::Lengths(shard_len, other.len()));
        }
        if self.scheme.k() == 1 {
            return Ok(vec![data[0].clone(); self.scheme.m()]);
        }
        self.code_parity(data, shard_len, &mut [])
    }

    /// Codes parity block by block; on the way, feeds each shard to its hasher, if there are any.
    fn code_parity(
        &self,
        data: &[Bytes],
        shard_len: usize,
        hashers: &mut [blake3::Hasher],
    ) -> Result<Vec<Bytes>, CoderError> {
        let mut buffer = PackBuffer::to_overwrite(shard_len * self.scheme.m(), &self.pool);
        let mut rows: Vec<&mut [u8]> = match shard_len {
            0 => Vec::new(),
            _ => buffer.as_mut_slice().chunks_exact_mut(shard_len).collect(),
        };
        for start in (0..shard_len).step_by(BLOCK_BYTES) {
            let end = (start + BLOCK_BYTES).min(shard_len);
            let inputs: Vec<&[u8]> = data.iter().map(|d| &d[start..end]).collect();
            let mut outputs: Vec<&mut [u8]> = rows.iter_mut().map(|row| &mut row[start..end]).collect();
            if let Some(codec) = &self.codec {
                codec.encode_sep(&inputs, &mut outputs).map_err(CoderError::Library)?;
            }
            let columns = inputs.into_iter().chain(outputs.into_iter().map(|o| &*o));
            for (hasher, column) in hashers.iter_mut().zip(columns) {
                hasher.update(column);
            }
        }
        let all = buffer.freeze();
        Ok((0..self.scheme.m()).map(|at| all.slice(at * shard_len..(at + 1) * shard_len)).collect())
    }

    /// The bytes of one shard in some range, from the same range of any k' other shards. More than
    /// k' may be given; the first k' different ones are used.
    ///
    /// # Errors
    /// [`CoderError::TooFew`], [`CoderError::NoSuchShard`], [`CoderError::Lengths`].
    pub fn reconstruct_range(&self, wanted: u8, have: &[(u8, Bytes)]) -> Result<Bytes, CoderError> {
        let scheme = self.scheme;
        let known = |shard: u8| usize::from(shard) < scheme.shards();
        let asked = have.iter().map(|(shard, _)| *shard).chain([wanted]);
        if let Some(shard) = asked.into_iter().find(|shard| !known(*shard)) {
            return Err(CoderError::NoSuchShard { scheme, shard });
        }
        let mut chosen: Vec<(u8, &Bytes)> = Vec::with_capacity(scheme.k());
        for (shard, bytes) in have {
            if *shard == wanted {
                return Ok(bytes.clone());
            }
            if chosen.len() < scheme.k() && chosen.iter().all(|(other, _)| other != shard) {
                chosen.push((*shard, bytes));
            }
        }
        if chosen.len() < scheme.k() {
            return Err(CoderError::TooFew { scheme, have: chosen.len() });
        }
        let len = chosen.first().map_or(0, |(_, bytes)| bytes.len());
        if let Some((_, other)) = chosen.iter().find(|(_, bytes)| bytes.len() != len) {
            return Err(CoderError::Lengths(len, other.len()));
        }
        if scheme.k() == 1 {
            return Ok(chosen[0].1.clone());
        }
        let numbers: Vec<u8> = chosen.iter().map(|(shard, _)| *shard).collect();
        let factors =
            self.generator.factors(wanted, &numbers).ok_or(CoderError::NoSuchShard { scheme, shard: wanted })?;
        let inputs: Vec<&[u8]> = chosen.iter().map(|(_, bytes)| bytes.as_ref()).collect();
        let mut out = PackBuffer::to_overwrite(len, &self.pool);
        combine(&factors, &inputs, out.as_mut_slice());
        Ok(out.freeze())
    }
}

/// Writes the sum of the inputs, each times its factor.
fn combine(factors: &[u8], inputs: &[&[u8]], out: &mut [u8]) {
    for (block, target) in out.chunks_mut(BLOCK_BYTES).enumerate() {
        let start = block * BLOCK_BYTES;
        for (at, (factor, input)) in factors.iter().zip(inputs).enumerate() {
            let source = &input[start..start + target.len()];
            if at == 0 {
                mul_slice(*factor, source, target);
            } else {
                mul_slice_xor(*factor, source, target);
            }
        }
    }
}

/// Root of one shard.
pub fn root_of(shard: &[u8]) -> ShardRoot {
    ShardRoot::from_bytes(*blake3::hash(shard).as_bytes())
}
