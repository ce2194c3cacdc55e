//! What of a manifest stays as it is when the object grows: every full page, and the chunks behind the
//! last one. Reads one path, the right edge; a state machine that asks for pages and never does IO.

use stele_types::ids::ObjectRoot;
use stele_types::manifest::{ChunkEntry, Manifest, Page, PageRef, decode_page};

use super::check::full_page;
use super::{ManifestError, verify_manifest, verify_page};

/// What a longer object begins with.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Kept {
    /// Full pages with their level, in order: each covers as many chunks as the next, or more.
    pub pages: Vec<(u8, PageRef)>,
    /// The chunks behind them: fewer than a page holds.
    pub entries: Vec<ChunkEntry>,
    /// Pages that were not full: a longer manifest has others in their place.
    pub superseded: Vec<ChunkEntry>,
}

/// Walks down the right edge of a manifest.
#[derive(Clone, Debug)]
pub struct Growth {
    kept: Kept,
    next: Option<(u8, PageRef)>,
}

impl Growth {
    /// The right edge of the object with this root.
    ///
    /// # Errors
    /// The manifest is not that of `root`.
    pub fn new(root: &ObjectRoot, manifest: &Manifest) -> Result<Self, ManifestError> {
        verify_manifest(root, manifest)?;
        let mut growth = Self { kept: Kept::default(), next: None };
        match manifest {
            Manifest::Inline(entries) => growth.kept.entries.clone_from(entries),
            Manifest::Paged { root, index_levels } => growth.visit(*index_levels, root.clone()),
        }
        Ok(growth)
    }

    /// The page to hand in next, if there is one.
    pub fn needs(&self) -> Option<&ChunkEntry> {
        self.next.as_ref().map(|(_, reference)| &reference.page)
    }

    /// Hands in the bytes of the page that was asked for.
    ///
    /// # Errors
    /// The bytes are not that page. It is still asked for: hand in another copy.
    pub fn page(&mut self, bytes: &[u8]) -> Result<(), ManifestError> {
        let Some((level, reference)) = self.next.clone() else { return Err(ManifestError::NotAsked) };
        if blake3::hash(bytes).as_bytes() != reference.page.id.as_bytes() {
            return Err(ManifestError::Bytes);
        }
        let page = decode_page(bytes, reference.page.pack)?;
        verify_page(&reference, level, &page)?;
        self.next = None;
        self.kept.superseded.push(reference.page);
        match page {
            Page::Entries(entries) => self.kept.entries = entries,
            Page::Index(refs) => refs.into_iter().for_each(|child| self.visit(level.saturating_sub(1), child)),
        }
        Ok(())
    }

    /// What was found, once nothing is asked for any more.
    pub fn finish(self) -> Option<Kept> {
        self.next.is_none().then_some(self.kept)
    }

    /// Only the last page of a level is not full, so at most one is asked for at a time.
    fn visit(&mut self, level: u8, reference: PageRef) {
        if reference.chunks == full_page(level) {
            self.kept.pages.push((level, reference));
        } else {
            self.next = Some((level, reference));
        }
    }
}
