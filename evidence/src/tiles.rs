//! C2SP tlog-tiles: hash i of tile n at level l is the root of leaves
//! [(256n + i) * 256^l, (256n + i + 1) * 256^l). From tiles, the hash of any range that the tree
//! knows as a subtree, or of any prefix, can be computed. Layout: docs/formats/tiles.md.

use crate::tile_path::TilePath;
use crate::tree::{Hash, node_hash};

/// Hashes in a full tile.
pub const TILE_WIDTH: usize = 256;
/// Tree levels one tile spans.
const TILE_HEIGHT: u32 = 8;

/// Where tiles come from.
pub trait TileSource {
    /// Why a tile could not be read.
    type Error;

    /// The hashes of a tile, as many as exist.
    ///
    /// # Errors
    /// The source failed; a tile that does not exist is an empty vector.
    fn tile(&self, level: u8, index: u64) -> Result<Vec<Hash>, Self::Error>;
}

/// Why a hash could not be computed from tiles.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TileError<E> {
    /// The source failed.
    #[error("tile level {level} index {index}: {error}")]
    Source {
        /// Level of the tile.
        level: u8,
        /// Index of the tile.
        index: u64,
        /// What the source said.
        error: E,
    },
    /// The tile holds fewer hashes than the tree size implies.
    #[error("tile level {level} index {index} is missing or too narrow")]
    Missing {
        /// Level of the tile.
        level: u8,
        /// Index of the tile.
        index: u64,
    },
    /// The question makes no sense for a tree of this size.
    #[error("the range does not lie within the tree")]
    OutOfRange,
}

/// Root of a complete list of 1, 2, 4, ... hashes.
pub fn complete_root(hashes: &[Hash]) -> Option<Hash> {
    if !hashes.len().is_power_of_two() {
        return None;
    }
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        row = row.chunks_exact(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
    }
    row.first().copied()
}

/// Hash of the complete subtree of height `height` at position `index` on that height.
fn subtree<S: TileSource>(source: &S, height: u32, index: u64) -> Result<Hash, TileError<S::Error>> {
    let level = u8::try_from(height / TILE_HEIGHT).map_err(|_| TileError::OutOfRange)?;
    let span = 1u64 << (height % TILE_HEIGHT);
    let first = index.checked_mul(span).ok_or(TileError::OutOfRange)?;
    let tile_index = first / TILE_WIDTH as u64;
    let missing = TileError::Missing { level, index: tile_index };
    let tile = source.tile(level, tile_index).map_err(|error| TileError::Source { level, index: tile_index, error })?;
    let start = usize::try_from(first % TILE_WIDTH as u64).map_err(|_| TileError::OutOfRange)?;
    let span = usize::try_from(span).map_err(|_| TileError::OutOfRange)?;
    tile.get(start..start + span).and_then(complete_root).ok_or(missing)
}

/// The first `width` hashes of a tile.
fn narrow_tile<S: TileSource>(source: &S, at: (u8, u64), width: usize) -> Result<Vec<Hash>, TileError<S::Error>> {
    let (level, index) = at;
    let mut tile = source.tile(level, index).map_err(|error| TileError::Source { level, index, error })?;
    if tile.len() < width {
        return Err(TileError::Missing { level, index });
    }
    tile.truncate(width);
    Ok(tile)
}

/// Root of the leaves [start, end), where `start` is a multiple of the largest power of two below
/// the range's length, as it is for every node of an RFC 6962 tree.
///
/// # Errors
/// The tiles don't hold the range.
pub fn range_root<S: TileSource>(source: &S, start: u64, end: u64) -> Result<Hash, TileError<S::Error>> {
    if start >= end {
        return Err(TileError::OutOfRange);
    }
    let mut parts = Vec::new();
    let mut at = start;
    while at < end {
        let height = (end - at).ilog2();
        parts.push(subtree(source, height, at >> height)?);
        at += 1 << height;
    }
    let mut parts = parts.iter().rev();
    let last = *parts.next().ok_or(TileError::OutOfRange)?;
    Ok(parts.fold(last, |right, left| node_hash(left, &right)))
}

/// Path of a tile; a [`TilePath`] names entry bundles as well and reads paths.
pub fn tile_path(level: u8, index: u64, width: usize) -> String {
    TilePath { level: Some(level), index, width }.to_string()
}

/// The tiles that appends fill: what to store when leaves come one at a time. Used by the state
/// machine, which keeps the narrow tiles of every level in rows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TileAppender {
    size: u64,
    /// `open[l]` are the hashes of the rightmost tile of level l, fewer than 256.
    open: Vec<Vec<Hash>>,
}

/// A tile that changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangedTile {
    /// Level.
    pub level: u8,
    /// Index.
    pub index: u64,
    /// All its hashes now.
    pub hashes: Vec<Hash>,
}

impl TileAppender {
    /// Reads the rightmost tiles of a tree of `size` leaves.
    ///
    /// # Errors
    /// The source failed, or holds fewer hashes than the size implies.
    pub fn load<S: TileSource>(source: &S, size: u64) -> Result<Self, TileError<S::Error>> {
        let mut open = Vec::new();
        let mut hashes = size;
        let mut level = 0u8;
        while hashes > 0 {
            let index = hashes / TILE_WIDTH as u64;
            let width = usize::try_from(hashes % TILE_WIDTH as u64).map_err(|_| TileError::OutOfRange)?;
            open.push(if width == 0 { Vec::new() } else { narrow_tile(source, (level, index), width)? });
            hashes = index;
            level += 1;
        }
        Ok(Self { size, open })
    }

    /// Appends a leaf by its hash; tiles that became full are handed to `full`.
    pub fn push(&mut self, leaf: Hash, full: &mut dyn FnMut(ChangedTile)) {
        let mut carry = leaf;
        let mut count = self.size;
        self.size += 1;
        for level in 0u8.. {
            let at = usize::from(level);
            if self.open.len() == at {
                self.open.push(Vec::with_capacity(TILE_WIDTH));
            }
            let Some(tile) = self.open.get_mut(at) else { return };
            tile.push(carry);
            if tile.len() < TILE_WIDTH {
                return;
            }
            let hashes = std::mem::take(tile);
            let Some(root) = complete_root(&hashes) else { return };
            carry = root;
            count /= TILE_WIDTH as u64;
            full(ChangedTile { level, index: count, hashes });
        }
    }

    /// The rightmost tiles that are not full and not empty, as they are now.
    pub fn open_tiles(&self) -> impl Iterator<Item = (u8, u64, &[Hash])> {
        let mut hashes = self.size;
        (0u8..).zip(&self.open).filter_map(move |(level, tile)| {
            hashes /= TILE_WIDTH as u64;
            (!tile.is_empty()).then_some((level, hashes, tile.as_slice()))
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::tree::{leaf_hash, reference};

    /// Tiles in memory.
    #[derive(Default)]
    pub(crate) struct Tiles(pub(crate) BTreeMap<(u8, u64), Vec<Hash>>);

    impl TileSource for Tiles {
        type Error = std::convert::Infallible;

        fn tile(&self, level: u8, index: u64) -> Result<Vec<Hash>, Self::Error> {
            Ok(self.0.get(&(level, index)).cloned().unwrap_or_default())
        }
    }

    pub(crate) fn filled(size: u64) -> (Tiles, Vec<Hash>) {
        let mut tiles = Tiles::default();
        let mut appender = TileAppender::default();
        let leaves: Vec<Hash> = (0..size).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        for leaf in &leaves {
            appender.push(*leaf, &mut |tile| {
                tiles.0.insert((tile.level, tile.index), tile.hashes);
            });
        }
        for (level, index, hashes) in appender.open_tiles() {
            tiles.0.insert((level, index), hashes.to_vec());
        }
        assert_eq!(TileAppender::load(&tiles, size).unwrap(), trim(appender));
        (tiles, leaves)
    }

    /// A level whose first tile just became full is open but empty; loading does not invent it.
    fn trim(mut appender: TileAppender) -> TileAppender {
        while appender.open.last().is_some_and(Vec::is_empty) {
            appender.open.pop();
        }
        appender
    }

    #[test]
    fn widths_at_70_000_and_256() {
        let width = |tiles: &Tiles, level, index| tiles.0.get(&(level, index)).map_or(0, Vec::len);
        let (tiles, _) = filled(70_000);
        assert_eq!(tiles.0.keys().filter(|(level, _)| *level == 0).count(), 274);
        assert_eq!(width(&tiles, 0, 272), 256);
        assert_eq!(width(&tiles, 0, 273), 112);
        assert_eq!(width(&tiles, 1, 0), 256);
        assert_eq!(width(&tiles, 1, 1), 17);
        assert_eq!(width(&tiles, 2, 0), 1);
        let (tiles, _) = filled(256);
        assert_eq!(width(&tiles, 0, 0), 256);
        assert_eq!(width(&tiles, 1, 0), 1);
        assert_eq!(tiles.0.len(), 2, "no empty tile is stored");
    }

    #[test]
    fn range_roots_match_the_reference() {
        let (tiles, leaves) = filled(777);
        for end in 1..=777u64 {
            let root = range_root(&tiles, 0, end).unwrap();
            assert_eq!(root, reference::root(&leaves[..usize::try_from(end).unwrap()]), "prefix {end}");
        }
        assert_eq!(range_root(&tiles, 512, 777).unwrap(), reference::root(&leaves[512..]));
        assert_eq!(range_root(&tiles, 0, 778), Err(TileError::Missing { level: 0, index: 3 }));
        assert_eq!(range_root(&tiles, 3, 3), Err(TileError::OutOfRange));
    }

    #[test]
    fn paths() {
        assert_eq!(tile_path(0, 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(tile_path(1, 0, 17), "tile/1/000.p/17");
    }
}
