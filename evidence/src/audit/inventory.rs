//! What a node is asked about: rows of shards or chunks, and the tree over them whose root is logged before
//! any challenge is drawn. Layout: docs/formats/audit.md.

use std::ops::Range;

use stele_chunker::slice::GROUP_BYTES;
use stele_types::ids::{ChunkId, DriveId, NodeId, ObjectRoot, PackId, ShardRoot};
use stele_types::limits::{CHUNK_BYTES_MAX, PACK_BYTES_MAX, SHARDS_MAX};

use super::AuditError;
use crate::cbor::{CborError, Reader, Writer};
use crate::tree::{Hash, empty_root, leaf_hash, node_hash};

/// Most rows of one inventory. The tree over them takes 64 bytes of memory a row.
pub const ROWS_MAX: usize = 1 << 24;
/// Length of the longest path in such a tree.
pub(crate) const PATH_MAX: usize = 24;
const SHARD: u64 = 0;
const CHUNK: u64 = 1;

/// One thing that a node says it can answer for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Row {
    /// A shard on one of its drives.
    Shard {
        /// The pack.
        pack: PackId,
        /// Generation of the pack's encoding.
        generation: u32,
        /// Which of the pack's shards.
        slot: u8,
        /// The drive it stands on.
        drive: DriveId,
        /// BLAKE3 of the shard.
        root: ShardRoot,
        /// Bytes of the shard.
        len: u32,
    },
    /// A chunk of a logged object, wherever its bytes are: asked of a gateway.
    Chunk {
        /// The object, as its record in the log names it.
        object: ObjectRoot,
        /// First byte of the chunk in the object.
        offset: u64,
        /// BLAKE3 of the chunk.
        id: ChunkId,
        /// Bytes of the chunk.
        len: u32,
    },
}

impl Row {
    /// What rows are sorted by; no two rows of an inventory agree in it.
    pub fn place(&self) -> (u64, [u8; 32], u64, u8) {
        match self {
            Self::Shard { pack, generation, slot, .. } => (SHARD, *pack.as_bytes(), u64::from(*generation), *slot),
            Self::Chunk { object, offset, .. } => (CHUNK, *object.as_bytes(), *offset, 0),
        }
    }

    /// BLAKE3 of the shard or chunk: what slices are checked against.
    pub fn subject(&self) -> [u8; 32] {
        match self {
            Self::Shard { root, .. } => *root.as_bytes(),
            Self::Chunk { id, .. } => *id.as_bytes(),
        }
    }

    /// Bytes of the shard or chunk.
    pub fn len(&self) -> u32 {
        match self {
            Self::Shard { len, .. } | Self::Chunk { len, .. } => *len,
        }
    }

    /// Never: rows of nothing are refused.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many groups of 16 KiB it has; the last may be shorter.
    pub fn groups(&self) -> u32 {
        self.len().div_ceil(GROUP_BYTES)
    }

    /// The bytes of one group.
    pub fn group_bytes(&self, group: u32) -> Range<u32> {
        let start = group.saturating_mul(GROUP_BYTES);
        start..start.saturating_add(GROUP_BYTES).min(self.len())
    }

    /// Whether a shard or chunk may have such a length and slot.
    pub fn fits(&self) -> bool {
        let len = self.len() as usize;
        match self {
            Self::Shard { slot, .. } => (1..=PACK_BYTES_MAX).contains(&len) && usize::from(*slot) < SHARDS_MAX,
            Self::Chunk { .. } => (1..=CHUNK_BYTES_MAX).contains(&len),
        }
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        match self {
            Self::Shard { pack, generation, slot, drive, root, len } => {
                w.array(7);
                w.uint(SHARD);
                w.bytes(pack.as_bytes());
                w.uint(u64::from(*generation));
                w.uint(u64::from(*slot));
                w.bytes(drive.as_bytes());
                w.bytes(root.as_bytes());
                w.uint(u64::from(*len));
            }
            Self::Chunk { object, offset, id, len } => {
                w.array(5);
                w.uint(CHUNK);
                w.bytes(object.as_bytes());
                w.uint(*offset);
                w.bytes(id.as_bytes());
                w.uint(u64::from(*len));
            }
        }
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, CborError> {
        let (items, kind) = (r.array()?, r.uint()?);
        let row = match (items, kind) {
            (7, SHARD) => Self::Shard {
                pack: PackId::from_bytes(r.fixed()?),
                generation: narrow(r.uint()?)?,
                slot: narrow(r.uint()?)?,
                drive: DriveId::from_bytes(r.fixed()?),
                root: ShardRoot::from_bytes(r.fixed()?),
                len: narrow(r.uint()?)?,
            },
            (5, CHUNK) => Self::Chunk {
                object: ObjectRoot::from_bytes(r.fixed()?),
                offset: r.uint()?,
                id: ChunkId::from_bytes(r.fixed()?),
                len: narrow(r.uint()?)?,
            },
            _ => return Err(CborError::Field(kind)),
        };
        if row.fits() { Ok(row) } else { Err(CborError::Field(kind)) }
    }

    /// The one encoding of this row.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        self.write(&mut w);
        w.finish()
    }

    /// Reads exact row bytes.
    ///
    /// # Errors
    /// They are not the one encoding of a row, or its lengths are of no shard or chunk.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut reader = Reader::new(bytes);
        let row = Self::read(&mut reader)?;
        reader.end()?;
        Ok(row)
    }

    /// Its leaf in the tree: as RFC 6962 hashes leaves.
    pub fn leaf(&self) -> Hash {
        leaf_hash(&self.encode())
    }
}

/// A number that must fit a smaller type.
pub(crate) fn narrow<T: TryFrom<u64>>(number: u64) -> Result<T, CborError> {
    T::try_from(number).map_err(|_| CborError::Field(number))
}

/// What is logged of an inventory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InventoryHead {
    /// Who is asked.
    pub node: NodeId,
    /// Rows.
    pub size: u64,
    /// Root over them: RFC 6962 over SHA-256.
    pub root: Hash,
}

/// The rows of one node, and the tree over them.
#[derive(Clone, Debug)]
pub struct Inventory {
    node: NodeId,
    rows: Vec<Row>,
    /// Leaves first; each level pairs the one below and carries an odd last hash up, which makes the tree of RFC 6962.
    levels: Vec<Vec<Hash>>,
}

impl Inventory {
    /// An inventory of rows in ascending order of pack, generation and slot, shards before chunks.
    ///
    /// # Errors
    /// Rows out of order or repeated, too many of them, or lengths that no shard or chunk has.
    pub fn new(node: NodeId, rows: Vec<Row>) -> Result<Self, AuditError> {
        if rows.len() > ROWS_MAX {
            return Err(AuditError::TooManyRows(rows.len()));
        }
        if let Some(at) = rows.iter().position(|row| !row.fits()) {
            return Err(AuditError::BadRow(at));
        }
        if let Some(at) = rows.windows(2).position(|pair| matches!(pair, [a, b] if a.place() >= b.place())) {
            return Err(AuditError::Unsorted(at + 1));
        }
        let mut levels = vec![rows.iter().map(Row::leaf).collect::<Vec<Hash>>()];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let join = |pair: &[Hash]| match pair {
                [left, right] => node_hash(left, right),
                [odd, ..] => *odd,
                [] => empty_root(),
            };
            let above = below.chunks(2).map(join).collect();
            levels.push(above);
        }
        Ok(Self { node, rows, levels })
    }

    /// The rows.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// What is logged of it.
    pub fn head(&self) -> InventoryHead {
        let root = self.levels.last().and_then(|level| level.first()).copied().unwrap_or_else(empty_root);
        InventoryHead { node: self.node, size: self.rows.len() as u64, root }
    }

    /// The path from the row at a position to the root, as [`crate::proof::verify_inclusion`] takes it; `None` past
    /// the end.
    pub fn path(&self, position: u64) -> Option<Vec<Hash>> {
        let mut at = usize::try_from(position).ok().filter(|at| *at < self.rows.len())?;
        let mut path = Vec::new();
        for level in &self.levels {
            path.extend(level.get(at ^ 1).copied());
            at /= 2;
        }
        Some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::verify_inclusion;
    use crate::tree::reference;

    fn shard(pack: u8, generation: u32, slot: u8) -> Row {
        Row::Shard {
            pack: PackId::from_bytes([pack; 32]),
            generation,
            slot,
            drive: DriveId::from_bytes([9; 16]),
            root: ShardRoot::from_bytes([pack ^ slot; 32]),
            len: 40_000,
        }
    }

    #[test]
    fn paths_are_those_of_the_reference() {
        for size in 0..70u8 {
            let rows: Vec<Row> = (0..size).map(|pack| shard(pack, 0, 1)).collect();
            let leaves: Vec<Hash> = rows.iter().map(Row::leaf).collect();
            let inventory = Inventory::new(NodeId(4), rows).unwrap();
            let head = inventory.head();
            assert_eq!((head.size, head.root), (u64::from(size), reference::root(&leaves)));
            for (at, leaf) in leaves.iter().enumerate() {
                let path = inventory.path(at as u64).unwrap();
                assert_eq!(path, reference::path(at, &leaves), "{at} of {size}");
                assert_eq!(verify_inclusion(*leaf, at as u64, head.size, &head.root, &path), Ok(()));
            }
            assert_eq!(inventory.path(u64::from(size)), None);
        }
    }

    #[test]
    fn rows_have_an_order_and_no_twins() {
        let chunk = |offset| Row::Chunk {
            object: ObjectRoot::from_bytes([0; 32]),
            offset,
            id: ChunkId::from_bytes([1; 32]),
            len: 1,
        };
        let sorted = vec![shard(1, 0, 0), shard(1, 0, 1), shard(1, 1, 0), shard(2, 0, 0), chunk(0), chunk(300)];
        assert!(Inventory::new(NodeId(1), sorted.clone()).is_ok());
        for at in 1..sorted.len() {
            let mut swapped = sorted.clone();
            swapped.swap(at - 1, at);
            assert_eq!(Inventory::new(NodeId(1), swapped).unwrap_err(), AuditError::Unsorted(at));
            let mut twice = sorted.clone();
            twice[at] = twice[at - 1];
            assert_eq!(Inventory::new(NodeId(1), twice).unwrap_err(), AuditError::Unsorted(at));
        }
    }

    #[test]
    fn rows_have_one_encoding_and_possible_lengths() {
        let row = shard(1, 2, 3);
        let bytes = row.encode();
        assert_eq!(hex::encode(&bytes[..5]), "8700582001");
        assert_eq!(Row::decode(&bytes), Ok(row));
        for cut in 0..bytes.len() {
            assert!(Row::decode(&bytes[..cut]).is_err());
        }
        let with_len = |len| Row::Chunk {
            object: ObjectRoot::from_bytes([0; 32]),
            offset: 5,
            id: ChunkId::from_bytes([1; 32]),
            len,
        };
        for (len, fits) in [(0, false), (1, true), (CHUNK_BYTES_MAX as u32, true), (CHUNK_BYTES_MAX as u32 + 1, false)]
        {
            assert_eq!(Row::decode(&with_len(len).encode()).is_ok(), fits, "{len}");
            assert_eq!(Inventory::new(NodeId(1), vec![with_len(len)]).is_ok(), fits, "{len}");
        }
        assert_eq!((row.groups(), row.group_bytes(0), row.group_bytes(2)), (3, 0..16_384, 32_768..40_000));
    }
}
