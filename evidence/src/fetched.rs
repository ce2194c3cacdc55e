//! Tiles that are fetched one at a time from wherever the log is served. What asks them says which one is lacking,
//! so that fetching stays with the caller, and proofs are made here, from tiles, and believed from nobody.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::convert::Infallible;

use crate::tiles::{TileError, TileSource};
use crate::tree::Hash;

/// Most tiles that one question needs: two paths through 64 levels, with a tile on either side.
pub const TILES_MAX: usize = 256;

/// Tiles that are here. They may serve many questions about trees of one size.
#[derive(Clone, Debug, Default)]
pub struct FetchedTiles {
    tiles: BTreeMap<(u8, u64), Vec<Hash>>,
    lacking: Cell<Option<(u8, u64)>>,
}

/// An answer, or what is needed for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer<T> {
    /// The answer.
    Known(T),
    /// Fetch this tile, [`FetchedTiles::add`] it, and ask again.
    Lacks {
        /// Level.
        level: u8,
        /// Index.
        index: u64,
    },
}

impl TileSource for FetchedTiles {
    type Error = Infallible;

    fn tile(&self, level: u8, index: u64) -> Result<Vec<Hash>, Infallible> {
        let found = self.tiles.get(&(level, index)).cloned();
        if found.is_none() && self.lacking.get().is_none() {
            self.lacking.set(Some((level, index)));
        }
        Ok(found.unwrap_or_default())
    }
}

impl FetchedTiles {
    /// Takes a tile, with all the hashes that there are of it.
    pub fn add(&mut self, level: u8, index: u64, hashes: Vec<Hash>) {
        self.tiles.insert((level, index), hashes);
    }

    /// Tiles that are here.
    pub fn len(&self) -> usize {
        self.tiles.len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.tiles.is_empty()
    }

    /// Puts a question, such as [`crate::proof::inclusion`].
    ///
    /// # Errors
    /// The tiles that are here don't hold the tree, or the question makes no sense.
    pub fn ask<T>(
        &self,
        question: impl FnOnce(&Self) -> Result<T, TileError<Infallible>>,
    ) -> Result<Answer<T>, TileError<Infallible>> {
        self.lacking.set(None);
        match (question(self), self.lacking.take()) {
            (Ok(answer), _) => Ok(Answer::Known(answer)),
            (Err(TileError::Missing { .. }), Some((level, index))) => Ok(Answer::Lacks { level, index }),
            (Err(error), _) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::{consistency, inclusion, verify_inclusion};
    use crate::tiles::tests::filled;
    use crate::tree::reference;

    #[test]
    fn what_is_lacking_is_named_until_the_answer_is_known() {
        let (tiles, leaves) = filled(70_000);
        let mut fetched = FetchedTiles::default();
        let mut asked = 0;
        let path = loop {
            match fetched.ask(|tiles| inclusion(tiles, 66_000, 70_000)).unwrap() {
                Answer::Known(path) => break path,
                Answer::Lacks { level, index } => fetched.add(level, index, tiles.tile(level, index).unwrap()),
            }
            asked += 1;
            assert!(asked < TILES_MAX);
        };
        assert_eq!(asked, fetched.len());
        verify_inclusion(leaves[66_000], 66_000, 70_000, &reference::root(&leaves), &path).unwrap();
    }

    #[test]
    fn a_tile_that_is_too_narrow_is_missing_and_not_asked_for_again() {
        let mut fetched = FetchedTiles::default();
        assert_eq!(fetched.ask(|tiles| consistency(tiles, 3, 7)), Ok(Answer::Lacks { level: 0, index: 0 }));
        fetched.add(0, 0, vec![[1; 32]; 5]);
        let missing = fetched.ask(|tiles| consistency(tiles, 3, 7)).unwrap_err();
        assert_eq!(missing, TileError::Missing { level: 0, index: 0 });
        assert_eq!(fetched.ask(|tiles| inclusion(tiles, 9, 9)), Err(TileError::OutOfRange));
    }
}
