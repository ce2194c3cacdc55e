//! What a bundle holds of a version's bytes: the list of its chunks, its bytes, or the proof of a range.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures::StreamExt;
use stele_chunker::pages::Located;
use stele_chunker::slice::prove_slice;
use stele_chunker::tree::{Leaf, RangeProof, RangeProver};
use stele_evidence::bundle::RANGE_CHUNKS_MAX;
use stele_evidence::bundle::files::Sink;
use stele_evidence::bundle::writer::{ObjectWriter, WriteError};
use stele_rpc::meta::VersionSelector;
use stele_types::manifest::ChunkEntry;
use stele_types::object::Version;
use stele_types::pack::PackRow;
use tokio::runtime::Handle;

use super::EvidenceOf;
use crate::api::{BodyStream, GetRequest, ReadConditions};
use crate::conditions::resolve_range;
use crate::error::GatewayError;
use crate::fetch::{FetchError, RowBook, fetch_chunk};
use crate::gateway::Gateway;
use crate::walk::ChunkWalk;

/// What the bundle shows of an event's version.
#[derive(Debug)]
pub(super) enum Show {
    /// That it happened.
    Event,
    /// All chunks and, if asked for, the bytes.
    Whole { version: Living, payload: bool },
    /// A part of it.
    Range { version: Living, range: Range<u64> },
}

/// A version that is there.
#[derive(Debug)]
pub(super) struct Living {
    bucket: String,
    key: String,
    version: Box<Version>,
    rows: RowBook,
}

/// Decides what to show of a living version.
///
/// # Errors
/// `RangeNotSatisfiable`.
pub(super) fn show(version: Box<Version>, packs: Vec<PackRow>, asked: &EvidenceOf) -> Result<Show, GatewayError> {
    let rows = RowBook::default();
    rows.learn(packs);
    let resolved = resolve_range(asked.range, &version.attributes)?;
    let version = Living { bucket: asked.bucket.clone(), key: asked.key.clone(), version, rows };
    Ok(match asked.range {
        None => Show::Whole { version, payload: asked.payload },
        Some(_) => Show::Range { version, range: resolved.first..resolved.first + resolved.len },
    })
}

/// Writes one object of a bundle.
pub(super) fn write_object<S: Sink>(
    object: ObjectWriter<'_, S>,
    show: &Show,
    gw: &Arc<Gateway>,
    runtime: &Handle,
) -> Result<(), WriteError> {
    match show {
        Show::Event => object.without_bytes(),
        Show::Whole { version, payload } => version.whole(object, gw, runtime, *payload),
        Show::Range { version, range } => version.range(object, gw, runtime, range.clone()),
    }
}

impl Living {
    fn chunks<'a>(&'a self, gw: &'a Gateway, runtime: &'a Handle) -> io::Result<Chunks<'a>> {
        let len = self.version.attributes.len;
        let walk = ChunkWalk::new(&self.version.attributes.root, &self.version.manifest, 0..len).map_err(told)?;
        Ok(Chunks { walk, gw, rows: &self.rows, runtime })
    }

    fn failed(&self) -> impl Fn(io::Error) -> WriteError {
        let name = format!("{}/{}", self.bucket, self.key);
        move |error| WriteError::Io { name: name.clone(), error }
    }

    fn whole<S: Sink>(
        &self,
        object: ObjectWriter<'_, S>,
        gw: &Arc<Gateway>,
        runtime: &Handle,
        payload: bool,
    ) -> Result<(), WriteError> {
        let count = self.version.manifest.chunks();
        let mut leaves =
            self.chunks(gw, runtime).map_err(self.failed())?.map(|chunk| chunk.map(|chunk| leaf(&chunk.item)));
        if !payload {
            return object.whole(count, &mut leaves, None);
        }
        let request = GetRequest {
            bucket: self.bucket.clone(),
            key: self.key.clone(),
            version: VersionSelector::Id(self.version.id),
            range: None,
            conditions: ReadConditions::default(),
        };
        let reply = runtime.block_on(crate::get::get_object(gw, request)).map_err(told).map_err(self.failed())?;
        let mut bytes = Payload { stream: reply.body, rest: Bytes::new(), runtime };
        object.whole(count, &mut leaves, Some(&mut bytes))
    }

    fn range<S: Sink>(
        &self,
        object: ObjectWriter<'_, S>,
        gw: &Gateway,
        runtime: &Handle,
        range: Range<u64>,
    ) -> Result<(), WriteError> {
        let (proof, chunks) = self.prove(gw, runtime, &range).map_err(self.failed())?;
        let mut slices = chunks.iter().map(|chunk| {
            let local = |at: u64| u32::try_from(at.saturating_sub(chunk.offset)).unwrap_or(u32::MAX);
            let inside = local(range.start)..local(range.end).min(chunk.item.len);
            let bytes = runtime.block_on(fetch_chunk(gw, &self.rows, &chunk.item)).map_err(fetched)?;
            prove_slice(&bytes.concat(), inside).map_err(io::Error::other)
        });
        object.range(range.clone(), &proof, &mut slices)
    }

    /// The proof of a range, and the chunks that hold it.
    fn prove(
        &self,
        gw: &Gateway,
        runtime: &Handle,
        range: &Range<u64>,
    ) -> io::Result<(RangeProof, Vec<Located<ChunkEntry>>)> {
        let mut prover = RangeProver::new(range.clone());
        let mut inside = Vec::new();
        for chunk in self.chunks(gw, runtime)? {
            let chunk = chunk?;
            prover.push(&leaf(&chunk.item));
            if chunk.offset < range.end && range.start < chunk.offset + u64::from(chunk.item.len) {
                inside.push(chunk);
            }
            if inside.len() > RANGE_CHUNKS_MAX {
                let what = format!("the range touches more than {RANGE_CHUNKS_MAX} chunks; ask for the whole object");
                return Err(io::Error::other(what));
            }
        }
        Ok((prover.finish().map_err(io::Error::other)?, inside))
    }
}

fn leaf(entry: &ChunkEntry) -> Leaf {
    Leaf { len: u64::from(entry.len), id: entry.id }
}

fn told(error: GatewayError) -> io::Error {
    io::Error::other(error.to_string())
}

fn fetched(error: FetchError) -> io::Error {
    match error {
        FetchError::Failed(error) => told(error),
        FetchError::PackGone(pack) => io::Error::other(format!("pack {pack} went meanwhile; ask again")),
    }
}

/// Chunks of a version for a writer that pulls them.
struct Chunks<'a> {
    walk: ChunkWalk,
    gw: &'a Gateway,
    rows: &'a RowBook,
    runtime: &'a Handle,
}

impl Iterator for Chunks<'_> {
    type Item = io::Result<Located<ChunkEntry>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.runtime.block_on(self.walk.next(self.gw, self.rows)).map_err(fetched).transpose()
    }
}

/// Bytes of a version for a writer that pulls them.
struct Payload<'a> {
    stream: BodyStream,
    rest: Bytes,
    runtime: &'a Handle,
}

impl Read for Payload<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
                None => return Ok(0),
                Some(piece) => self.rest = piece.map_err(|error| io::Error::other(error.to_string()))?,
            }
        }
        let count = self.rest.len().min(buffer.len());
        self.rest.copy_to_slice(buffer.get_mut(..count).unwrap_or_default());
        Ok(count)
    }
}
