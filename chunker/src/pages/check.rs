//! Whether a manifest is that of an object root, and a page that of its reference.

use stele_types::ids::ObjectRoot;
use stele_types::limits::{MANIFEST_INLINE_CHUNKS, MANIFEST_PAGE_ENTRIES, OBJECT_BYTES_MAX};
use stele_types::manifest::{Manifest, Page, PageRef};
use stele_types::wire::FormatError;

use super::{join_refs, leaf_of, object_root};
use crate::tree::{Leaf, Subtree, top_of};

/// A manifest or page is not what it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ManifestError {
    /// The chunks do not lead to the object root.
    #[error("the manifest does not lead to its object root; the row or the page is damaged or forged")]
    Root,
    /// The page's chunks are not those its reference commits to.
    #[error("a manifest page differs from its reference; read another copy")]
    Page,
    /// The page is not one of the level it was read for.
    #[error("a manifest page of the wrong level or size; read another copy")]
    Shape,
    /// The page's bytes are not those its reference names.
    #[error("a manifest page has other bytes than its reference names; read another copy")]
    Bytes,
    /// A page can't be decoded.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A page was handed in when none was asked for.
    #[error("a page was handed in that was not asked for; a defect of the caller")]
    NotAsked,
}

/// Chunks below a full page at a level; 0 for a level no object reaches.
pub(super) fn full_page(level: u8) -> u64 {
    (MANIFEST_PAGE_ENTRIES as u64).checked_pow(u32::from(level) + 1).unwrap_or(0)
}

/// Checks that a manifest leads to an object root. For a paged one this proves the topmost page's
/// top, length and count, against which [`verify_page`] checks the page itself.
///
/// # Errors
/// [`ManifestError::Root`], or [`ManifestError::Shape`] for counts that no writer makes.
pub fn verify_manifest(root: &ObjectRoot, manifest: &Manifest) -> Result<(), ManifestError> {
    let found = match manifest {
        Manifest::Inline(entries) => {
            if entries.len() > MANIFEST_INLINE_CHUNKS {
                return Err(ManifestError::Shape);
            }
            let leaves: Vec<Leaf> = entries.iter().map(leaf_of).collect();
            top_of(&leaves).object_root()
        }
        Manifest::Paged { root: page, index_levels } => {
            let below = index_levels.checked_sub(1).map_or(0, full_page);
            let in_shape = page.chunks <= full_page(*index_levels) && page.chunks > below;
            if !in_shape || page.bytes > OBJECT_BYTES_MAX {
                return Err(ManifestError::Shape);
            }
            object_root(page.bytes, page.chunks, &page.top)
        }
    };
    if found == *root { Ok(()) } else { Err(ManifestError::Root) }
}

/// Checks a decoded page against its reference. `level` is 0 for a page of chunks and counts the
/// index levels above; the topmost page of a manifest has level `index_levels`.
///
/// # Errors
/// [`ManifestError::Page`] or [`ManifestError::Shape`].
pub fn verify_page(reference: &PageRef, level: u8, page: &Page) -> Result<(), ManifestError> {
    let found = match (page, level.checked_sub(1)) {
        (Page::Entries(entries), None) => {
            let leaves: Vec<Leaf> = entries.iter().map(leaf_of).collect();
            top_of(&leaves)
        }
        (Page::Index(refs), Some(below)) => {
            let full = full_page(below);
            let (last, complete) = refs.split_last().ok_or(ManifestError::Shape)?;
            if full == 0 || last.chunks > full || complete.iter().any(|child| child.chunks != full) {
                return Err(ManifestError::Shape);
            }
            join_refs(refs)
        }
        _ => return Err(ManifestError::Shape),
    };
    let expected = Subtree { top: reference.top, bytes: reference.bytes, chunks: reference.chunks };
    if found == expected { Ok(()) } else { Err(ManifestError::Page) }
}
