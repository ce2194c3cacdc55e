//! Reads a manifest's pages: where the chunks of a range are. Used by what makes new manifests of old ones.

use std::collections::BTreeSet;
use std::ops::Range;

use stele_chunker::pages::{Located, ManifestError, ManifestWalk, Step};
use stele_types::ids::{ObjectRoot, PackId};
use stele_types::manifest::{ChunkEntry, Manifest};

use crate::error::GatewayError;
use crate::fetch::{FetchError, RowBook, fetch_chunk};
use crate::gateway::Gateway;

/// Chunks of a range, in order, and what led to them.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    /// Every chunk that has bytes in the range, with its offset in the object.
    pub(crate) chunks: Vec<Located<ChunkEntry>>,
    /// Packs of the pages that were read.
    pub(crate) page_packs: BTreeSet<PackId>,
}

impl Walked {
    /// Every pack that the walk met.
    pub(crate) fn packs(&self) -> BTreeSet<PackId> {
        self.page_packs.iter().copied().chain(self.chunks.iter().map(|chunk| chunk.item.pack)).collect()
    }
}

/// Finds chunks one after another.
#[derive(Debug)]
pub(crate) struct ChunkWalk {
    walk: ManifestWalk,
    /// Packs of the pages that were read.
    page_packs: BTreeSet<PackId>,
}

impl ChunkWalk {
    /// A walk over the bytes `range` of the object with this root.
    ///
    /// # Errors
    /// `Corrupt` if the manifest is not that of the root.
    pub(crate) fn new(root: &ObjectRoot, manifest: &Manifest, range: Range<u64>) -> Result<Self, GatewayError> {
        let walk = ManifestWalk::new(root, manifest, range).map_err(damaged)?;
        Ok(Self { walk, page_packs: BTreeSet::new() })
    }

    /// The next chunk; `None` behind the last one. `rows`: pack rows that are known already.
    ///
    /// # Errors
    /// `PackGone` if the object went meanwhile; `Failed` with `Corrupt` if a page is not the manifest's, and as
    /// [`fetch_chunk`].
    pub(crate) async fn next(
        &mut self,
        gw: &Gateway,
        rows: &RowBook,
    ) -> Result<Option<Located<ChunkEntry>>, FetchError> {
        loop {
            match self.walk.next_step() {
                Step::Done => return Ok(None),
                Step::Chunk(chunk) => return Ok(Some(chunk)),
                Step::NeedPage(page) => {
                    self.page_packs.insert(page.pack);
                    let bytes = fetch_chunk(gw, rows, &page).await?;
                    self.walk.page(&bytes.concat()).map_err(damaged)?;
                }
            }
        }
    }
}

fn damaged(error: ManifestError) -> GatewayError {
    GatewayError::Corrupt { what: format!("manifest: {error}") }
}

/// Walks the bytes `range` of the object with this root. `rows`: pack rows that are known already, such as those
/// of packs that nothing was committed of yet.
///
/// # Errors
/// As [`ChunkWalk`].
pub(crate) async fn walk(
    gw: &Gateway,
    rows: &RowBook,
    root: &ObjectRoot,
    manifest: &Manifest,
    range: Range<u64>,
) -> Result<Walked, FetchError> {
    let mut walk = ChunkWalk::new(root, manifest, range)?;
    let mut chunks = Vec::new();
    while let Some(chunk) = walk.next(gw, rows).await? {
        chunks.push(chunk);
    }
    Ok(Walked { chunks, page_packs: walk.page_packs })
}
