//! Bytes of manifest pages and index pages. Layout: docs/formats/manifest.md.
//!
//! An encoding is canonical: decoding and encoding again gives the same bytes, so a page's id says
//! what the page means. Whether a page belongs to an object is checked by `chunker::pages`.

use std::collections::BTreeMap;

use crate::ids::{ChunkId, PackId, TreeHash};
use crate::limits::{CHUNK_BYTES_MAX, MANIFEST_PAGE_ENTRIES, OBJECT_BYTES_MAX, PACK_BYTES_MAX};
use crate::manifest::{ChunkEntry, Page, PageRef};
use crate::pack::Codec;
use crate::wire::{FormatError, Reader};

const FORMAT: &str = "manifest page";
const MAGIC: &[u8; 8] = b"stelepag";
const VERSION: u16 = 1;
const KIND_ENTRIES: u8 = 0;
const KIND_INDEX: u8 = 1;
const HEADER_BYTES: usize = 16;
const ENTRY_BYTES: usize = 52;
const INDEX_ENTRY_BYTES: usize = ENTRY_BYTES + 48;
/// Pack number of an entry that lies in the same pack as the page itself.
const OWN_PACK: u16 = u16::MAX;

/// Most bytes of a page: a full index page whose children all lie in different packs.
pub const PAGE_BYTES_MAX: usize = HEADER_BYTES + MANIFEST_PAGE_ENTRIES * (PackId::LEN + INDEX_ENTRY_BYTES);

const _: () = assert!(MANIFEST_PAGE_ENTRIES < OWN_PACK as usize);
const _: () = assert!(PAGE_BYTES_MAX <= CHUNK_BYTES_MAX);

/// A page can't be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PageError {
    /// A page holds between 1 and [`MANIFEST_PAGE_ENTRIES`] entries.
    #[error("a page of {0} entries; a page holds 1 to {MANIFEST_PAGE_ENTRIES}")]
    Count(usize),
}

/// Encodes a page that will be stored in the pack `own`. Entries in that pack are written without
/// its id, so that a page can be built before the id of its pack is known.
///
/// # Errors
/// [`PageError::Count`].
pub fn encode_page(page: &Page, own: PackId) -> Result<Vec<u8>, PageError> {
    let (kind, count) = match page {
        Page::Entries(entries) => (KIND_ENTRIES, entries.len()),
        Page::Index(refs) => (KIND_INDEX, refs.len()),
    };
    if count == 0 || count > MANIFEST_PAGE_ENTRIES {
        return Err(PageError::Count(count));
    }
    let mut packs = PackTable::new(own);
    let mut rows = Vec::with_capacity(count * INDEX_ENTRY_BYTES);
    match page {
        Page::Entries(entries) => entries.iter().for_each(|e| put_entry(&mut rows, e, packs.number(e.pack))),
        Page::Index(refs) => {
            let mut end = 0u64;
            for child in refs {
                put_entry(&mut rows, &child.page, packs.number(child.page.pack));
                end = end.saturating_add(child.bytes);
                rows.extend_from_slice(child.top.as_bytes());
                rows.extend_from_slice(&end.to_le_bytes());
                rows.extend_from_slice(&child.chunks.to_le_bytes());
            }
        }
    }
    let mut out = Vec::with_capacity(HEADER_BYTES + packs.ids.len() * PackId::LEN + rows.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[kind, 0]);
    out.extend_from_slice(&(count as u16).to_le_bytes());
    out.extend_from_slice(&(packs.ids.len() as u16).to_le_bytes());
    packs.ids.iter().for_each(|id| out.extend_from_slice(id.as_bytes()));
    out.append(&mut rows);
    Ok(out)
}

/// Pack ids of a page in the order of their first use.
struct PackTable {
    own: PackId,
    ids: Vec<PackId>,
    numbers: BTreeMap<PackId, u16>,
}

impl PackTable {
    fn new(own: PackId) -> Self {
        Self { own, ids: Vec::new(), numbers: BTreeMap::new() }
    }

    fn number(&mut self, pack: PackId) -> u16 {
        if pack == self.own {
            return OWN_PACK;
        }
        *self.numbers.entry(pack).or_insert_with(|| {
            self.ids.push(pack);
            (self.ids.len() - 1) as u16
        })
    }
}

fn put_entry(out: &mut Vec<u8>, entry: &ChunkEntry, pack: u16) {
    out.extend_from_slice(entry.id.as_bytes());
    out.extend_from_slice(&entry.len.to_le_bytes());
    out.extend_from_slice(&entry.offset.to_le_bytes());
    out.extend_from_slice(&entry.stored_len.to_le_bytes());
    out.extend_from_slice(&entry.key_id.to_le_bytes());
    out.extend_from_slice(&pack.to_le_bytes());
    out.extend_from_slice(&[entry.codec as u8, 0]);
}

/// Decodes a page that was read from the pack `own`.
///
/// # Errors
/// Wrong magic or version, any value outside the limits, or bytes that [`encode_page`] would not
/// have written.
pub fn decode_page(bytes: &[u8], own: PackId) -> Result<Page, FormatError> {
    let mut reader = Reader::new(FORMAT, bytes);
    reader.magic(MAGIC)?;
    let version = reader.u16()?;
    if version != VERSION {
        return Err(FormatError::Version { format: FORMAT, found: u32::from(version) });
    }
    let kind = reader.u8()?;
    reader.require(kind == KIND_ENTRIES || kind == KIND_INDEX, "unknown kind")?;
    let reserved = reader.u8()?;
    reader.require(reserved == 0, "reserved byte is not zero")?;
    let (count, packs) = (usize::from(reader.u16()?), usize::from(reader.u16()?));
    reader.require(count > 0 && count <= MANIFEST_PAGE_ENTRIES, "count outside the limits")?;
    reader.require(packs <= count, "more packs than entries")?;
    let row = if kind == KIND_ENTRIES { ENTRY_BYTES } else { INDEX_ENTRY_BYTES };
    reader.require(reader.remaining() == packs * PackId::LEN + count * row, "count and length disagree")?;
    let mut table = TableReader { own, ids: Vec::with_capacity(packs), used: 0 };
    for _ in 0..packs {
        table.ids.push(PackId::from_bytes(reader.array()?));
    }
    table.check_distinct(&reader)?;
    let page = if kind == KIND_ENTRIES {
        Page::Entries((0..count).map(|_| table.entry(&mut reader)).collect::<Result<_, _>>()?)
    } else {
        Page::Index(decode_index(&mut reader, &mut table, count)?)
    };
    reader.require(table.used == packs, "unused packs in the table")?;
    reader.end()?;
    Ok(page)
}

fn decode_index(reader: &mut Reader<'_>, table: &mut TableReader, count: usize) -> Result<Vec<PageRef>, FormatError> {
    let mut refs: Vec<PageRef> = Vec::with_capacity(count);
    let mut previous_end = 0u64;
    for at in 0..count {
        let page = table.entry(reader)?;
        let top = TreeHash::from_bytes(reader.array()?);
        let (end, chunks) = (reader.u64()?, reader.u64()?);
        reader.require(end > previous_end && end <= OBJECT_BYTES_MAX, "end offsets are not ascending")?;
        let bytes = end - previous_end;
        reader.require(chunks > 0 && chunks <= bytes, "more chunks than bytes")?;
        reader.require(page.len as usize <= PAGE_BYTES_MAX, "a child page above the limit")?;
        // Every page but the last of its level is a complete subtree of one size.
        if let Some(first) = refs.first() {
            reader.require(is_full_page(first.chunks), "an incomplete page before the last")?;
            let last = at + 1 == count;
            reader.require(chunks == first.chunks || (last && chunks < first.chunks), "page sizes differ")?;
        }
        refs.push(PageRef { page, top, bytes, chunks });
        previous_end = end;
    }
    Ok(refs)
}

/// Whether this many chunks fill a page and all pages below it.
fn is_full_page(chunks: u64) -> bool {
    let page = MANIFEST_PAGE_ENTRIES as u64;
    let mut full = page;
    while full < chunks {
        let Some(next) = full.checked_mul(page) else { return false };
        full = next;
    }
    full == chunks
}

struct TableReader {
    own: PackId,
    ids: Vec<PackId>,
    /// Packs met so far: a canonical table lists them in the order of their first use.
    used: usize,
}

impl TableReader {
    fn check_distinct(&self, reader: &Reader<'_>) -> Result<(), FormatError> {
        let mut sorted = self.ids.clone();
        sorted.sort_unstable();
        reader.require(sorted.windows(2).all(|w| w[0] != w[1]), "a pack stands twice in the table")?;
        reader.require(!self.ids.contains(&self.own), "the page's own pack stands in the table")
    }

    fn entry(&mut self, reader: &mut Reader<'_>) -> Result<ChunkEntry, FormatError> {
        let id = ChunkId::from_bytes(reader.array()?);
        let (len, offset) = (reader.u32()?, reader.u32()?);
        let (stored_len, key_id) = (reader.u32()?, reader.u32()?);
        let number = reader.u16()?;
        let codec = Codec::from_number(reader.u8()?).ok_or(reader.invalid("unknown codec"))?;
        let reserved = reader.u8()?;
        reader.require(reserved == 0, "reserved byte is not zero")?;
        reader.require(len > 0 && len as usize <= CHUNK_BYTES_MAX, "chunk length outside the limits")?;
        reader.require(codec.allows(len, stored_len), "stored length does not fit the codec")?;
        let end = u64::from(offset) + u64::from(stored_len);
        reader.require(end <= PACK_BYTES_MAX as u64, "chunk ends behind its pack")?;
        let pack = self.pack(number).ok_or(reader.invalid("pack table is not in order of use"))?;
        Ok(ChunkEntry { id, len, pack, offset, stored_len, codec, key_id })
    }

    fn pack(&mut self, number: u16) -> Option<PackId> {
        if number == OWN_PACK {
            return Some(self.own);
        }
        let number = usize::from(number);
        if number > self.used {
            return None;
        }
        let pack = *self.ids.get(number)?;
        self.used = self.used.max(number + 1);
        Some(pack)
    }
}
