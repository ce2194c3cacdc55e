//! Log archives: records and salts of a run of entries that ended long ago, as one file, so that who keeps the log need
//! not keep all of it at hand. Format: docs/formats/log-archive.md. Made by gateways, compared by the metadata service
//! with what it holds before it drops that.
//!
//! An archive is as many entries as a full tile of level 1 covers, in sections of equal numbers. It can be checked
//! against one hash of the tree: [`Footer::root`].

use stele_types::ids::{LogIndex, Salt};

use crate::proof::{ProofError, verify_inclusion};
use crate::record::Entry;
use crate::tiles::{TILE_WIDTH, complete_root};
use crate::tree::{Hash, leaf_hash};

/// First bytes of a file: magic and version.
pub const MAGIC: &[u8; 8] = b"STELELA1";
/// Longest section, in bytes. One of records with names of a few dozen bytes has about 1.4 MB.
pub const SECTION_BYTES_MAX: usize = 64 << 20;
/// Tag of an item whose record and salt are there.
const KEPT: u8 = 1;
/// Tag of an item that was erased.
const ERASED: u8 = 0;
/// No entry before it.
const NO_ENTRY: u64 = u64::MAX;

/// How many entries an archive has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Height {
    /// 256 entries, one section: for tests of what reads and writes archives.
    Tile,
    /// 65,536 entries, sixteen sections.
    #[default]
    TileOfTiles,
}

impl Height {
    /// Level of the tiles that hold one hash for each archive.
    pub fn level(self) -> u8 {
        match self {
            Self::Tile => 1,
            Self::TileOfTiles => 2,
        }
    }

    /// The height whose archives tiles of this level hold hashes of.
    pub fn from_level(level: u8) -> Option<Self> {
        [Self::Tile, Self::TileOfTiles].into_iter().find(|height| height.level() == level)
    }

    /// Entries of an archive.
    pub fn entries(self) -> u64 {
        (TILE_WIDTH as u64).pow(u32::from(self.level()))
    }

    /// Entries of a section.
    pub fn section_entries(self) -> usize {
        match self {
            Self::Tile => TILE_WIDTH,
            Self::TileOfTiles => TILE_WIDTH * 16,
        }
    }

    /// Sections of an archive.
    pub fn sections(self) -> usize {
        match self {
            Self::Tile => 1,
            Self::TileOfTiles => 16,
        }
    }

    /// Full tiles of level 0 that an archive covers.
    pub fn tiles(self) -> usize {
        match self {
            Self::Tile => 1,
            Self::TileOfTiles => TILE_WIDTH,
        }
    }

    /// Bytes of a footer.
    pub fn footer_len(self) -> usize {
        1 + 8 + self.sections() * (4 + 32) + self.tiles() * 32
    }

    /// Archive, and section in it, that an entry belongs to.
    pub fn place(self, index: LogIndex) -> (u64, usize) {
        let inside = usize::try_from(index.0 % self.entries()).unwrap_or(usize::MAX);
        (index.0 / self.entries(), inside / self.section_entries())
    }

    /// Index of the first entry of a section; `None` past the end of all numbers.
    pub fn first_of(self, archive: u64, section: usize) -> Option<LogIndex> {
        let first = archive.checked_mul(self.entries())?;
        first.checked_add((section * self.section_entries()) as u64).map(LogIndex)
    }
}

/// What is kept of one entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// All of it.
    Kept {
        /// Salt of the commitment.
        salt: Salt,
        /// Exact bytes of the record.
        record: Vec<u8>,
    },
    /// The record was erased.
    Erased {
        /// The entry.
        entry: Entry,
        /// Entry of the event before it of the same key.
        previous: Option<LogIndex>,
        /// Entry of the erasure.
        by: LogIndex,
    },
}

impl Item {
    /// The entry: the leaf of the tree is its hash.
    pub fn entry(&self) -> Entry {
        match self {
            Self::Kept { salt, record } => Entry::new(salt, record),
            Self::Erased { entry, .. } => *entry,
        }
    }

    /// Appends the item to a section.
    pub fn encode_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Kept { salt, record } => encode_kept(salt, record, out),
            Self::Erased { entry, previous, by } => encode_erased(entry, (*previous, *by), out),
        }
    }
}

/// Appends an item whose record is there.
pub fn encode_kept(salt: &Salt, record: &[u8], out: &mut Vec<u8>) {
    out.push(KEPT);
    out.extend_from_slice(salt.as_bytes());
    // A record is a row of a store whose commands are below 1 MiB.
    out.extend_from_slice(&u32::try_from(record.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(record);
}

/// Appends an item whose record was erased: its entry, the one before it of the same key, and that of the erasure.
pub fn encode_erased(entry: &Entry, (previous, by): (Option<LogIndex>, LogIndex), out: &mut Vec<u8>) {
    out.push(ERASED);
    out.extend_from_slice(&entry.0);
    out.extend_from_slice(&previous.map_or(NO_ENTRY, |index| index.0).to_le_bytes());
    out.extend_from_slice(&by.0.to_le_bytes());
}

/// Why bytes are no archive, or not that one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The bytes end too early, or go on.
    #[error("a log archive of the wrong length")]
    Length,
    /// A field has no value that is known.
    #[error("a log archive with an unknown {0}")]
    Unknown(&'static str),
    /// The hashes don't lead to the log's.
    #[error("a log archive of another log: its {0} do not hash to what the tree says")]
    Mismatch(&'static str),
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], ArchiveError> {
    let (found, behind) = rest.split_first_chunk::<N>().ok_or(ArchiveError::Length)?;
    *rest = behind;
    Ok(found)
}

fn take_item(rest: &mut &[u8]) -> Result<Item, ArchiveError> {
    let [tag] = *take::<1>(rest)?;
    match tag {
        KEPT => {
            let salt = Salt::from_bytes(*take::<32>(rest)?);
            let length = u32::from_le_bytes(*take::<4>(rest)?) as usize;
            let (record, behind) = rest.split_at_checked(length).ok_or(ArchiveError::Length)?;
            *rest = behind;
            Ok(Item::Kept { salt, record: record.to_vec() })
        }
        ERASED => {
            let entry = Entry(*take::<32>(rest)?);
            let previous = u64::from_le_bytes(*take::<8>(rest)?);
            let by = LogIndex(u64::from_le_bytes(*take::<8>(rest)?));
            let previous = (previous != NO_ENTRY).then_some(LogIndex(previous));
            Ok(Item::Erased { entry, previous, by })
        }
        _ => Err(ArchiveError::Unknown("kind of item")),
    }
}

/// Reads a section of exactly `count` items.
///
/// # Errors
/// The bytes are no such section.
pub fn decode_section(bytes: &[u8], count: usize) -> Result<Vec<Item>, ArchiveError> {
    if bytes.len() > SECTION_BYTES_MAX {
        return Err(ArchiveError::Length);
    }
    let mut rest = bytes;
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(take_item(&mut rest)?);
    }
    if rest.is_empty() { Ok(items) } else { Err(ArchiveError::Length) }
}

/// Leaves of a section, in order.
pub fn leaves(items: &[Item]) -> Vec<Hash> {
    items.iter().map(|item| leaf_hash(&item.entry().0)).collect()
}

/// Where a section is, and its hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Section {
    /// Bytes.
    pub len: u32,
    /// BLAKE3 of them.
    pub hash: [u8; 32],
}

impl Section {
    /// Of these bytes. They are at most [`SECTION_BYTES_MAX`].
    pub fn of(bytes: &[u8]) -> Self {
        Self { len: u32::try_from(bytes.len()).unwrap_or(u32::MAX), hash: *blake3::hash(bytes).as_bytes() }
    }
}

/// The end of an archive: what is where, and the tiles.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Footer {
    /// How many entries it covers.
    pub height: Height,
    /// Index of the first entry.
    pub first: LogIndex,
    /// As many as the height says.
    pub sections: Vec<Section>,
    /// Roots of the full tiles of level 0 that it covers: as many as the height says.
    pub tiles: Vec<Hash>,
}

impl Footer {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.height.footer_len());
        out.push(self.height.level());
        out.extend_from_slice(&self.first.0.to_le_bytes());
        for section in &self.sections {
            out.extend_from_slice(&section.len.to_le_bytes());
            out.extend_from_slice(&section.hash);
        }
        out.extend_from_slice(self.tiles.as_flattened());
        out
    }

    /// Reads the last bytes of an archive.
    ///
    /// # Errors
    /// They are no footer.
    pub fn decode(bytes: &[u8]) -> Result<Self, ArchiveError> {
        let mut rest = bytes;
        let [level] = *take::<1>(&mut rest)?;
        let height = Height::from_level(level).ok_or(ArchiveError::Unknown("height"))?;
        let first = LogIndex(u64::from_le_bytes(*take::<8>(&mut rest)?));
        if !first.0.is_multiple_of(height.entries()) {
            return Err(ArchiveError::Unknown("first entry"));
        }
        let mut sections = Vec::new();
        for _ in 0..height.sections() {
            let len = u32::from_le_bytes(*take::<4>(&mut rest)?);
            if len as usize > SECTION_BYTES_MAX {
                return Err(ArchiveError::Unknown("length of a section"));
            }
            sections.push(Section { len, hash: *take::<32>(&mut rest)? });
        }
        let (tiles, rest) = rest.as_chunks::<32>();
        if tiles.len() != height.tiles() || !rest.is_empty() {
            return Err(ArchiveError::Length);
        }
        Ok(Self { height, first, sections, tiles: tiles.to_vec() })
    }

    /// Bytes of the whole archive.
    pub fn archive_len(&self) -> u64 {
        let sections: u64 = self.sections.iter().map(|section| u64::from(section.len)).sum();
        MAGIC.len() as u64 + sections + self.height.footer_len() as u64
    }

    /// Where a section begins and ends in the archive; `None` if there is no such section.
    pub fn range_of(&self, section: usize) -> Option<std::ops::Range<u64>> {
        let len = u64::from(self.sections.get(section)?.len);
        let before: u64 = self.sections.iter().take(section).map(|section| u64::from(section.len)).sum();
        let start = MAGIC.len() as u64 + before;
        Some(start..start + len)
    }

    /// Root of the subtree over all its entries: the log's tiles of the height's level hold it.
    pub fn root(&self) -> Hash {
        complete_root(&self.tiles).unwrap_or_default()
    }

    /// Checks a section's bytes against hash and tiles, and reads them.
    ///
    /// # Errors
    /// They are no section, or another one.
    pub fn open_section(&self, section: usize, bytes: &[u8]) -> Result<Vec<Item>, ArchiveError> {
        let known = self.sections.get(section).ok_or(ArchiveError::Unknown("section"))?;
        if Section::of(bytes) != *known {
            return Err(ArchiveError::Mismatch("bytes"));
        }
        let items = decode_section(bytes, self.height.section_entries())?;
        let first = section * self.height.section_entries() / TILE_WIDTH;
        let tiles = tile_roots(&items);
        if self.tiles.get(first..first + tiles.len()) != Some(&tiles[..]) {
            return Err(ArchiveError::Mismatch("records"));
        }
        Ok(items)
    }
}

/// Roots of the full tiles of level 0 that a section covers.
pub fn tile_roots(items: &[Item]) -> Vec<Hash> {
    leaves(items).chunks(TILE_WIDTH).filter_map(complete_root).collect()
}

/// A record of an archive, and the way from it to the archive's root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Copied {
    /// Its index in the log.
    pub index: LogIndex,
    /// Its salt.
    pub salt: Salt,
    /// Its exact bytes.
    pub record: Vec<u8>,
    /// Siblings from the leaf upwards.
    pub path: Vec<Hash>,
}

impl Copied {
    /// Checks that it is the log's: `root` is the hash of the archive that covers the index.
    ///
    /// # Errors
    /// It is not proven.
    pub fn verify(&self, height: Height, root: &Hash) -> Result<(), ProofError> {
        let leaf = leaf_hash(&Entry::new(&self.salt, &self.record).0);
        verify_inclusion(leaf, self.index.0 % height.entries(), height.entries(), root, &self.path)
    }
}

/// The way from an entry to the root of its archive, from the tiles that the archive covers.
///
/// `leaves`: those of the tile of level 0 that the entry is in. `tiles`: the footer's.
pub fn path(height: Height, index: LogIndex, leaves: &[Hash], tiles: &[Hash]) -> Option<Vec<Hash>> {
    let inside = usize::try_from(index.0 % height.entries()).ok()?;
    let mut path = siblings(leaves, inside % TILE_WIDTH)?;
    path.extend(siblings(tiles, inside / TILE_WIDTH)?);
    Some(path)
}

fn siblings(hashes: &[Hash], mut at: usize) -> Option<Vec<Hash>> {
    if at >= hashes.len() || !hashes.len().is_power_of_two() {
        return None;
    }
    let mut row = hashes.to_vec();
    let mut found = Vec::new();
    while row.len() > 1 {
        found.push(*row.get(at ^ 1)?);
        row = row.chunks_exact(2).map(|pair| crate::tree::node_hash(&pair[0], &pair[1])).collect();
        at /= 2;
    }
    Some(found)
}

#[cfg(test)]
pub(crate) mod tests;
