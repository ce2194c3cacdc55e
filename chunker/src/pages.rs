//! Manifest pages: building them while an object is written, checking them and finding the chunks
//! of a range while it is read. Layout: docs/formats/manifest.md.

use std::ops::Range;

use stele_types::ids::{ObjectRoot, PackId};
use stele_types::limits::{MANIFEST_INLINE_CHUNKS, MANIFEST_PAGE_ENTRIES};
use stele_types::manifest::{ChunkEntry, Manifest, Page, PageError, PageRef, encode_page};

use crate::tree::{Leaf, Subtree, TreeBuilder, object_root};

mod check;
mod grow;
mod walk;

pub use check::{ManifestError, verify_manifest, verify_page};
pub use grow::{Growth, Kept};
pub use stele_types::manifest::decode_page;
pub use walk::{Located, ManifestWalk, Step};

/// Stands for the pack that is being filled, whose id is not known yet. Never stored: the pages
/// that are built before their pack is sealed name their own pack without an id.
pub const OPEN_PACK: PackId = PackId::from_bytes([0; 32]);

/// A page that must be stored before the manifest can go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageDraft {
    level: usize,
    page: Page,
    below: Subtree,
}

impl PageDraft {
    /// The page's bytes, to be stored in the pack being filled. Entries in [`OPEN_PACK`] are
    /// written as "this page's own pack".
    ///
    /// # Errors
    /// None for a draft that a builder gave out.
    pub fn encode(&self) -> Result<Vec<u8>, PageError> {
        encode_page(&self.page, OPEN_PACK)
    }
}

/// Turns an object's chunk entries, in order, into a manifest.
///
/// Whoever drives it (the pack writer) asks [`Self::next_page`] after every push and stores what
/// it gets, then tells where with [`Self::placed`].
#[derive(Clone, Debug, Default)]
pub struct ManifestBuilder {
    entries: Vec<ChunkEntry>,
    /// `index[i]`: finished pages of level i that no index page lists yet.
    index: Vec<Vec<PageRef>>,
    tree: TreeBuilder,
    bytes: u64,
}

impl ManifestBuilder {
    /// Appends the object's next chunk.
    pub fn push(&mut self, entry: ChunkEntry) {
        let len = u64::from(entry.len);
        self.tree.push(&Leaf { id: entry.id, len });
        self.bytes = self.bytes.saturating_add(len);
        self.entries.push(entry);
    }

    /// Begins with a page of another manifest that is full and stored already. Such pages come first and
    /// in order, before any chunk.
    pub fn keep(&mut self, level: u8, page: PageRef) {
        let level = usize::from(level);
        while self.index.len() <= level {
            self.index.push(Vec::new());
        }
        self.tree.push_subtree(Subtree { top: page.top, bytes: page.bytes, chunks: page.chunks });
        self.bytes = self.bytes.saturating_add(page.bytes);
        self.index[level].push(page);
    }

    /// Object bytes so far.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Chunks so far.
    pub fn chunks(&self) -> u64 {
        self.tree.chunks()
    }

    /// Root of the object that ends here.
    pub fn object_root(&self) -> ObjectRoot {
        self.tree.top().object_root()
    }

    /// The next page to store, if there is one: while the object goes on, full pages only; once it
    /// `ended`, whatever is left, until one page stands above all.
    pub fn next_page(&mut self, ended: bool) -> Option<PageDraft> {
        let inline = self.index.is_empty() && self.entries.len() <= MANIFEST_INLINE_CHUNKS;
        if self.entries.len() >= MANIFEST_PAGE_ENTRIES || (ended && !inline && !self.entries.is_empty()) {
            let entries = std::mem::take(&mut self.entries);
            let leaves: Vec<Leaf> = entries.iter().map(leaf_of).collect();
            let below = crate::tree::top_of(&leaves);
            return Some(PageDraft { level: 0, page: Page::Entries(entries), below });
        }
        let levels = self.index.len();
        let complete = |level: usize, refs: &Vec<PageRef>| {
            let is_root = level + 1 == levels && refs.len() == 1;
            refs.len() >= MANIFEST_PAGE_ENTRIES || (ended && !refs.is_empty() && !is_root)
        };
        let level = self.index.iter().enumerate().position(|(level, refs)| complete(level, refs))?;
        let refs = std::mem::take(self.index.get_mut(level)?);
        let below = join_refs(&refs);
        Some(PageDraft { level: level + 1, page: Page::Index(refs), below })
    }

    /// Says where a draft was stored.
    pub fn placed(&mut self, draft: &PageDraft, page: ChunkEntry) {
        while self.index.len() <= draft.level {
            self.index.push(Vec::new());
        }
        let Subtree { top, bytes, chunks } = draft.below;
        self.index[draft.level].push(PageRef { page, top, bytes, chunks });
    }

    /// The pack being filled was sealed: entries in [`OPEN_PACK`] are in `pack`.
    pub fn resolve(&mut self, pack: PackId) {
        let pages = self.index.iter_mut().flatten().map(|r| &mut r.page);
        for entry in self.entries.iter_mut().chain(pages).filter(|e| e.pack == OPEN_PACK) {
            entry.pack = pack;
        }
    }

    /// The manifest, once [`Self::next_page`] has nothing left and no entry lies in an unsealed
    /// pack; `None` before.
    pub fn manifest(&self) -> Option<Manifest> {
        let open = |entry: &ChunkEntry| entry.pack == OPEN_PACK;
        if self.index.is_empty() {
            let ready = self.entries.len() <= MANIFEST_INLINE_CHUNKS && !self.entries.iter().any(open);
            return ready.then(|| Manifest::Inline(self.entries.clone()));
        }
        let (top, below) = self.index.split_last()?;
        let [root] = top.as_slice() else { return None };
        let ready = self.entries.is_empty() && below.iter().all(Vec::is_empty) && !open(&root.page);
        ready.then(|| Manifest::Paged { root: root.clone(), index_levels: below.len() as u8 })
    }
}

fn leaf_of(entry: &ChunkEntry) -> Leaf {
    Leaf { id: entry.id, len: u64::from(entry.len) }
}

/// The subtree over neighbouring pages: all but the last are complete subtrees of one size.
fn join_refs(refs: &[PageRef]) -> Subtree {
    let mut builder = TreeBuilder::default();
    for child in refs {
        builder.push_subtree(Subtree { top: child.top, bytes: child.bytes, chunks: child.chunks });
    }
    builder.top()
}

/// Object bytes that an item of a page stands for.
pub trait Span {
    /// Object bytes.
    fn span(&self) -> u64;
}

impl Span for ChunkEntry {
    fn span(&self) -> u64 {
        u64::from(self.len)
    }
}

impl Span for PageRef {
    fn span(&self) -> u64 {
        self.bytes
    }
}

/// The items that overlap the object bytes `range`, with the object offset each begins at; the
/// first item begins at `start`.
pub fn entries_for_range<T: Span>(items: &[T], start: u64, range: Range<u64>) -> Vec<(u64, &T)> {
    let mut offset = start;
    let mut out = Vec::new();
    for item in items {
        let end = offset.saturating_add(item.span());
        if offset < range.end && range.start < end {
            out.push((offset, item));
        }
        offset = end;
    }
    out
}
