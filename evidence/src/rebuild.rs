//! Computing a log anew from its entries: every tile and the root, to be compared with what is served. Holds one open
//! tile per level, however long the log is.

use crate::tiles::{ChangedTile, TileAppender};
use crate::tree::{Edge, Hash, leaf_hash};

/// Takes the entries of a log in order.
#[derive(Clone, Debug, Default)]
pub struct Rebuild {
    edge: Edge,
    tiles: TileAppender,
}

impl Rebuild {
    /// Takes the next entry. Tiles that it completes go to `full`.
    pub fn push(&mut self, entry: &[u8], full: &mut dyn FnMut(ChangedTile)) {
        let leaf = leaf_hash(entry);
        self.edge.push(leaf);
        self.tiles.push(leaf, full);
    }

    /// Entries so far.
    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    /// Root of these entries.
    pub fn root(&self) -> Hash {
        self.edge.root()
    }

    /// The tiles that are not full.
    pub fn open(&self) -> Vec<ChangedTile> {
        let open = self.tiles.open_tiles();
        open.map(|(level, index, hashes)| ChangedTile { level, index, hashes: hashes.to_vec() }).collect()
    }
}

/// Where served bytes differ from a tile: the first hash that does. A tile that is too short or too long differs
/// behind its last hash.
pub fn first_difference(tile: &ChangedTile, served: &[u8]) -> Option<usize> {
    let (hashes, rest) = served.as_chunks::<32>();
    let differing = tile.hashes.iter().zip(hashes).position(|(own, served)| own != served);
    let lengths = tile.hashes.len() != hashes.len() || !rest.is_empty();
    differing.or_else(|| lengths.then_some(tile.hashes.len().min(hashes.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiles::tests::filled;
    use crate::tree::reference;

    #[test]
    fn every_tile_and_the_root_come_out_again() {
        let (tiles, leaves) = filled(70_000);
        let (mut rebuild, mut compared) = (Rebuild::default(), 0);
        for entry in 0u64..70_000 {
            rebuild.push(&entry.to_be_bytes(), &mut |tile| {
                assert_eq!(tiles.0[&(tile.level, tile.index)], tile.hashes);
                compared += 1;
            });
        }
        for tile in rebuild.open() {
            assert_eq!(tiles.0[&(tile.level, tile.index)], tile.hashes);
            compared += 1;
        }
        assert_eq!(compared, tiles.0.len());
        assert_eq!((rebuild.size(), rebuild.root()), (70_000, reference::root(&leaves)));
    }

    #[test]
    fn a_difference_is_named() {
        let tile = ChangedTile { level: 0, index: 0, hashes: vec![[1; 32], [2; 32], [3; 32]] };
        let served = tile.hashes.as_flattened().to_vec();
        assert_eq!(first_difference(&tile, &served), None);
        for at in 0..served.len() {
            let mut flipped = served.clone();
            flipped[at] ^= 1;
            assert_eq!(first_difference(&tile, &flipped), Some(at / 32));
        }
        assert_eq!(first_difference(&tile, &served[..64]), Some(2));
        assert_eq!(first_difference(&tile, &[&served[..], &[4; 32]].concat()), Some(3));
        assert_eq!(first_difference(&tile, &[&served[..], &[4]].concat()), Some(3));
        assert_eq!(first_difference(&tile, &[]), Some(0));
    }
}
