//! Watching a log: every checkpoint and anchored root that was ever seen, from wherever it came, must belong to one
//! history. Pure: the caller fetches them and tiles, keeps what was accepted, and shouts.

use std::collections::BTreeMap;

use crate::fetched::{Answer, FetchedTiles};
use crate::proof::{Head, consistency, verify_consistency};
use crate::tiles::{TileError, range_root};
use crate::tree::{Hash, empty_root};

/// Sizes and roots of one log that belong together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Watch {
    seen: BTreeMap<u64, Hash>,
}

/// What is to be done about a checkpoint or an anchored root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Judgement {
    /// It was seen before.
    Known,
    /// The log signed another root for this size: it was forked.
    Forked {
        /// What was seen before.
        other: Head,
    },
    /// It belongs to what was seen if each of these pairs is consistent: the older tree, then the newer one.
    Prove(Vec<(Head, Head)>),
}

/// What tiles say of two trees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparison {
    /// The newer extends the older.
    Consistent,
    /// The tiles are those of the newer tree, and the older one is not its beginning: the log was forked.
    Forked,
    /// The tiles are not those of the newer tree, so they say nothing about the older one.
    Foreign,
}

/// What the comparisons of a tree with its neighbours amount to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conclusion {
    /// It belongs to what was seen.
    Belongs,
    /// It and this tree, which was seen before, are not of one history.
    Forked {
        /// What was seen before.
        other: Head,
    },
    /// Nobody's tiles are those of this tree, so that it can't be told yet. Those of a later one can tell.
    Unknown {
        /// The tree that nobody serves.
        unserved: Head,
    },
}

/// What the comparisons of `found` with its neighbours amount to. One that convicts counts even where another
/// says nothing: nobody serves the tiles of a tree that never was.
pub fn conclude(found: Head, compared: impl IntoIterator<Item = (Head, Head, Comparison)>) -> Conclusion {
    let mut conclusion = Conclusion::Belongs;
    for (old, new, comparison) in compared {
        match comparison {
            Comparison::Consistent => {}
            Comparison::Forked => return Conclusion::Forked { other: if old == found { new } else { old } },
            Comparison::Foreign => conclusion = Conclusion::Unknown { unserved: new },
        }
    }
    conclusion
}

impl Watch {
    /// What was accepted earlier.
    ///
    /// # Errors
    /// Two roots for one size: what was kept is damaged.
    pub fn new(seen: impl IntoIterator<Item = Head>) -> Result<Self, Head> {
        let mut watch = Self::default();
        for head in seen {
            if watch.seen.insert(head.size, head.root).is_some_and(|root| root != head.root) {
                return Err(head);
            }
        }
        Ok(watch)
    }

    /// The largest tree that was seen.
    pub fn newest(&self) -> Option<Head> {
        self.seen.last_key_value().map(head)
    }

    /// How many were seen.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// True before the first one.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Judges a checkpoint whose signatures hold, or a root that a chain recorded. What was accepted is consistent, so its neighbours are enough.
    pub fn judge(&self, found: Head) -> Judgement {
        match self.seen.get(&found.size) {
            Some(root) if *root == found.root => return Judgement::Known,
            Some(root) => return Judgement::Forked { other: Head { size: found.size, root: *root } },
            None => {}
        }
        let older = self.seen.range(..found.size).next_back().map(|entry| (head(entry), found));
        let newer = self.seen.range(found.size..).next().map(|entry| (found, head(entry)));
        Judgement::Prove(older.into_iter().chain(newer).collect())
    }

    /// Takes a checkpoint whose pairs were all consistent.
    pub fn accept(&mut self, found: Head) {
        self.seen.insert(found.size, found.root);
    }
}

fn head((size, root): (&u64, &Hash)) -> Head {
    Head { size: *size, root: *root }
}

fn root<S: crate::tiles::TileSource>(tiles: &S, size: u64) -> Result<Hash, TileError<S::Error>> {
    if size == 0 { Ok(empty_root()) } else { range_root(tiles, 0, size) }
}

/// Compares two trees by tiles that are said to be those of the newer one.
///
/// # Errors
/// The tiles lack what the newer tree must have.
pub fn compare(
    tiles: &FetchedTiles,
    old: Head,
    new: Head,
) -> Result<Answer<Comparison>, TileError<std::convert::Infallible>> {
    tiles.ask(|tiles| {
        let proof = consistency(tiles, old.size, new.size)?;
        if verify_consistency(old, new, &proof).is_ok() {
            return Ok(Comparison::Consistent);
        }
        // The old root is not among the tiles if its size is a power of two, so it is computed, too.
        let genuine = root(tiles, new.size)? == new.root;
        let begins = root(tiles, old.size)? == old.root;
        Ok(if genuine && !begins { Comparison::Forked } else { Comparison::Foreign })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiles::TileSource;
    use crate::tiles::tests::{Tiles, filled};
    use crate::tree::reference;

    fn head_of(leaves: &[Hash], size: usize) -> Head {
        Head { size: size as u64, root: reference::root(&leaves[..size]) }
    }

    fn run(tiles: &Tiles, old: Head, new: Head) -> Comparison {
        let mut fetched = FetchedTiles::default();
        loop {
            match compare(&fetched, old, new).unwrap() {
                Answer::Known(comparison) => return comparison,
                Answer::Lacks { level, index } => fetched.add(level, index, tiles.tile(level, index).unwrap()),
            }
        }
    }

    #[test]
    fn neighbours_are_what_a_checkpoint_must_agree_with() {
        let (_, leaves) = filled(300);
        let at = |size| head_of(&leaves, size);
        let mut watch = Watch::default();
        assert_eq!(watch.judge(at(7)), Judgement::Prove(Vec::new()));
        watch.accept(at(7));
        watch.accept(at(200));
        assert_eq!(watch.judge(at(7)), Judgement::Known);
        assert_eq!(watch.judge(at(9)), Judgement::Prove(vec![(at(7), at(9)), (at(9), at(200))]));
        assert_eq!(watch.judge(at(300)), Judgement::Prove(vec![(at(200), at(300))]));
        assert_eq!(watch.judge(at(3)), Judgement::Prove(vec![(at(3), at(7))]));
        let lie = Head { root: [1; 32], ..at(200) };
        assert_eq!(watch.judge(lie), Judgement::Forked { other: at(200) });
        assert_eq!((watch.newest(), watch.len()), (Some(at(200)), 2));
        assert_eq!(Watch::new([at(7), at(200), at(7)]), Ok(watch));
        assert_eq!(Watch::new([at(200), lie]), Err(lie));
    }

    #[test]
    fn a_fork_is_told_from_foreign_tiles() {
        let (tiles, leaves) = filled(700);
        let mut other = leaves.clone();
        other[100] = [9; 32];
        for (old, new) in [(1, 700), (128, 700), (256, 257), (300, 699), (512, 700), (699, 700), (700, 700)] {
            let (before, after) = (head_of(&leaves, old), head_of(&leaves, new));
            assert_eq!(run(&tiles, before, after), Comparison::Consistent, "{old} {new}");
            if old > 100 {
                let forked = head_of(&other, old);
                assert_eq!(run(&tiles, forked, after), Comparison::Forked, "{old} {new}");
                assert_eq!(run(&tiles, before, head_of(&other, new)), Comparison::Foreign, "{old} {new}");
            }
        }
        assert_eq!(run(&tiles, Head { size: 0, root: empty_root() }, head_of(&leaves, 700)), Comparison::Consistent);
        assert_eq!(run(&tiles, Head { size: 0, root: [1; 32] }, head_of(&leaves, 700)), Comparison::Forked);
    }

    /// Judges a tree where all tiles that anybody serves are those of the true log.
    fn weigh(watch: &Watch, tiles: &Tiles, found: Head) -> Conclusion {
        let Judgement::Prove(pairs) = watch.judge(found) else { panic!("size {} was seen", found.size) };
        conclude(found, pairs.into_iter().map(|(old, new)| (old, new, run(tiles, old, new))))
    }

    #[test]
    fn an_anchored_root_of_no_prefix_is_a_fork_once_a_later_checkpoint_is_known() {
        let (tiles, leaves) = filled(700);
        let at = |size| head_of(&leaves, size);
        let mut watch = Watch::default();
        watch.accept(at(200));
        let mut other = leaves.clone();
        other[250] = [9; 32];
        let forged = [Head { size: 300, root: [1; 32] }, head_of(&other, 300), head_of(&other, 512)];
        for lie in forged {
            let unknown = Conclusion::Unknown { unserved: lie };
            assert_eq!(weigh(&watch, &tiles, lie), unknown, "nobody has the tiles of size {}", lie.size);
        }
        assert_eq!(weigh(&watch, &tiles, at(300)), Conclusion::Belongs);
        watch.accept(at(650));
        for lie in forged {
            assert_eq!(weigh(&watch, &tiles, lie), Conclusion::Forked { other: at(650) }, "size {}", lie.size);
        }
        for size in [1, 199, 300, 512, 649, 651, 700] {
            assert_eq!(weigh(&watch, &tiles, at(size)), Conclusion::Belongs, "size {size}");
        }
        let before = Head { size: 100, root: [1; 32] };
        assert_eq!(weigh(&watch, &tiles, before), Conclusion::Forked { other: at(200) });
    }

    #[test]
    fn a_chain_with_another_root_for_a_size_is_a_fork_at_once() {
        let (_, leaves) = filled(300);
        let mut watch = Watch::default();
        watch.accept(head_of(&leaves, 200));
        let anchored = Head { size: 200, root: [1; 32] };
        assert_eq!(watch.judge(anchored), Judgement::Forked { other: head_of(&leaves, 200) });
    }
}
