//! Finding the chunks of a byte range: a state machine that asks for pages and gives out chunks.
//!
//! It reads one path of the page tree plus the pages the range spans, checks every page against
//! the reference that led to it, and never does IO itself.

use std::ops::Range;

use stele_types::ids::ObjectRoot;
use stele_types::manifest::{ChunkEntry, Manifest, Page, PageRef, decode_page};

use super::{ManifestError, entries_for_range, verify_manifest, verify_page};

/// Something of an object and the object offset it begins at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Located<T> {
    /// Object offset of the first byte.
    pub offset: u64,
    /// What is there.
    pub item: T,
}

/// What a walk wants or has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Fetch the stored bytes of this entry (like a chunk's) and pass them to
    /// [`ManifestWalk::page`].
    NeedPage(ChunkEntry),
    /// The next chunk of the range.
    Chunk(Located<ChunkEntry>),
    /// All chunks of the range were given out.
    Done,
}

#[derive(Clone, Debug)]
enum Pending {
    Page { level: u8, reference: PageRef },
    Chunk(ChunkEntry),
}

/// Gives out the chunks that hold a byte range, in order.
#[derive(Clone, Debug)]
pub struct ManifestWalk {
    range: Range<u64>,
    /// What is still to be visited, the next one last.
    pending: Vec<Located<Pending>>,
}

impl ManifestWalk {
    /// A walk over the bytes `range` of the object with this root. A range behind the end gives no
    /// chunks.
    ///
    /// # Errors
    /// The manifest is not that of `root`.
    pub fn new(root: &ObjectRoot, manifest: &Manifest, range: Range<u64>) -> Result<Self, ManifestError> {
        verify_manifest(root, manifest)?;
        let mut walk = Self { range, pending: Vec::new() };
        match manifest {
            Manifest::Inline(entries) => walk.visit_entries(entries, 0),
            Manifest::Paged { root, index_levels } => {
                walk.visit_refs(std::slice::from_ref(root), *index_levels, 0);
            }
        }
        Ok(walk)
    }

    /// The next step; the same page is asked for until it was handed in.
    pub fn next_step(&mut self) -> Step {
        match self.pending.pop() {
            None => Step::Done,
            Some(Located { offset, item: Pending::Chunk(entry) }) => Step::Chunk(Located { offset, item: entry }),
            Some(located) => {
                let Pending::Page { reference, .. } = &located.item else { return Step::Done };
                let entry = reference.page.clone();
                self.pending.push(located);
                Step::NeedPage(entry)
            }
        }
    }

    /// Hands in the bytes of the page that was asked for last.
    ///
    /// # Errors
    /// The bytes are not that page. The walk still asks for it: hand in another copy.
    pub fn page(&mut self, bytes: &[u8]) -> Result<(), ManifestError> {
        let Some(Located { offset, item: Pending::Page { level, reference } }) = self.pending.last() else {
            return Err(ManifestError::NotAsked);
        };
        let (offset, level) = (*offset, *level);
        if blake3::hash(bytes).as_bytes() != reference.page.id.as_bytes() {
            return Err(ManifestError::Bytes);
        }
        let page = decode_page(bytes, reference.page.pack)?;
        verify_page(reference, level, &page)?;
        self.pending.pop();
        match &page {
            Page::Entries(entries) => self.visit_entries(entries, offset),
            Page::Index(refs) => self.visit_refs(refs, level.saturating_sub(1), offset),
        }
        Ok(())
    }

    fn visit_entries(&mut self, entries: &[ChunkEntry], start: u64) {
        for (offset, entry) in entries_for_range(entries, start, self.range.clone()).into_iter().rev() {
            self.pending.push(Located { offset, item: Pending::Chunk(entry.clone()) });
        }
    }

    fn visit_refs(&mut self, refs: &[PageRef], level: u8, start: u64) {
        for (offset, reference) in entries_for_range(refs, start, self.range.clone()).into_iter().rev() {
            let item = Pending::Page { level, reference: reference.clone() };
            self.pending.push(Located { offset, item });
        }
    }
}
