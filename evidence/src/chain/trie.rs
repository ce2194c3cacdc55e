//! Proofs in Ethereum's Merkle Patricia trie: the nodes on the way from a root to one value. Each node must
//! hash to what its parent says, and none may be left over. Absence is never proven here, only presence.

use sha3::{Digest, Keccak256};

use super::rlp::{Item, Items, RlpError};
use crate::tree::Hash;

/// Most nodes of a proof: a path has at most 64 nibbles, and the root.
pub const NODES_MAX: usize = 65;

/// Keccak-256, as Ethereum uses it.
pub fn keccak256(bytes: &[u8]) -> Hash {
    Keccak256::digest(bytes).into()
}

/// Why nodes don't prove a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TrieError {
    /// A node is not what its parent, or the root, says.
    #[error("node {0} of the proof does not hash to what the one above says")]
    Hash(usize),
    /// A node is malformed.
    #[error("node {0} of the proof is malformed")]
    Node(usize),
    /// The path ends elsewhere: there is no value under this key.
    #[error("the proof leads to another key")]
    OtherKey,
    /// Too few nodes, too many, or some that the path does not touch.
    #[error("the proof has too few or too many nodes")]
    Count,
}

/// Nibbles of a key that are still to be walked.
#[derive(Clone, Copy)]
struct Path<'a> {
    key: &'a [u8],
    at: usize,
}

impl Path<'_> {
    fn next(&mut self) -> Option<u8> {
        let byte = self.key.get(self.at / 2)?;
        let nibble = if self.at.is_multiple_of(2) { byte >> 4 } else { byte & 0x0f };
        self.at += 1;
        Some(nibble)
    }

    /// Walks along the nibbles of an encoded path; whether they are ours.
    fn follow(&mut self, odd: Option<u8>, rest: &[u8]) -> bool {
        let nibbles = odd.into_iter().chain(rest.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]));
        nibbles.into_iter().all(|nibble| self.next() == Some(nibble))
    }
}

/// What a node says of our path.
enum Step<'a> {
    /// The value.
    Value(&'a [u8]),
    /// It goes on in the node with this hash.
    Hashed(Hash),
    /// It goes on in a node that stands inside this one.
    Inline(&'a [u8]),
}

/// The value under `key`, as the nodes prove it: the first one is the root's, each next one a child.
///
/// # Errors
/// Why it is not proven.
pub fn value_at<'n>(root: &Hash, key: &[u8], nodes: &'n [Vec<u8>]) -> Result<&'n [u8], TrieError> {
    if nodes.len() > NODES_MAX {
        return Err(TrieError::Count);
    }
    let (mut path, mut wanted) = (Path { key, at: 0 }, *root);
    for (at, node) in nodes.iter().enumerate() {
        if keccak256(node) != wanted {
            return Err(TrieError::Hash(at));
        }
        let mut node = node.as_slice();
        loop {
            match step(node, &mut path).map_err(|_| TrieError::Node(at))?.ok_or(TrieError::OtherKey)? {
                Step::Value(value) if at + 1 == nodes.len() => return Ok(value),
                Step::Value(_) => return Err(TrieError::Count),
                Step::Hashed(hash) => {
                    wanted = hash;
                    break;
                }
                // An inner node is shorter than the one around it, so this ends.
                Step::Inline(inner) => node = inner,
            }
        }
    }
    Err(TrieError::Count)
}

/// One node; `None` if our path leaves the trie there.
fn step<'n>(node: &'n [u8], path: &mut Path<'_>) -> Result<Option<Step<'n>>, RlpError> {
    let items = Item::decode(node)?.items()?;
    match items.count()? {
        17 => branch(items, path),
        2 => short(items, path),
        _ => Err(RlpError),
    }
}

fn branch<'n>(items: Items<'n>, path: &mut Path<'_>) -> Result<Option<Step<'n>>, RlpError> {
    match path.next() {
        Some(nibble) => child(items.nth(usize::from(nibble))?),
        None => {
            let value = items.nth(16)?.bytes()?;
            Ok((!value.is_empty()).then_some(Step::Value(value)))
        }
    }
}

/// A leaf or an extension: a path in hex-prefix form, and what stands at its end.
fn short<'n>(mut items: Items<'n>, path: &mut Path<'_>) -> Result<Option<Step<'n>>, RlpError> {
    let (flags, rest) = items.required()?.bytes()?.split_first().ok_or(RlpError)?;
    let target = items.required()?;
    let (leaf, odd) = match flags >> 4 {
        kind @ (0 | 2) if flags & 0x0f == 0 => (kind == 2, None),
        kind @ (1 | 3) => (kind == 3, Some(flags & 0x0f)),
        _ => return Err(RlpError),
    };
    if !path.follow(odd, rest) {
        return Ok(None);
    }
    if !leaf {
        // An extension by nothing has no place in a trie.
        return if odd.is_none() && rest.is_empty() { Err(RlpError) } else { child(target) };
    }
    let value = target.bytes()?;
    if value.is_empty() {
        return Err(RlpError);
    }
    Ok(path.next().is_none().then_some(Step::Value(value)))
}

fn child(item: Item<'_>) -> Result<Option<Step<'_>>, RlpError> {
    match item {
        Item::Bytes([]) => Ok(None),
        Item::Bytes(hash) => Ok(Some(Step::Hashed(hash.try_into().map_err(|_| RlpError)?))),
        Item::List { encoded, .. } if encoded.len() < 32 => Ok(Some(Step::Inline(encoded))),
        Item::List { .. } => Err(RlpError),
    }
}

#[cfg(test)]
pub(crate) mod tests;
