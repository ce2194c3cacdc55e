//! Archives of old log entries. A gateway stores one and reads it back; here it is compared with the rows, section by
//! section, before these are dropped. What an archive holds of a record is never the reason to change a row: whoever
//! brings a copy of it proves that it is the log's.

use std::collections::BTreeSet;

use stele_evidence::log_archive::Height;
use stele_evidence::tiles::{TILE_WIDTH, TileSource, complete_root};
use stele_rpc::error::Code;
use stele_rpc::meta::{ArchiveMade, FOLDED_MAX, LOG_BUCKET, MetaReply, WANTED_TILES_MAX};
use stele_types::ids::{BucketId, LogIndex, VersionId};
use stele_types::object::BucketRow;

use crate::apply::{Batch, Outcome, TileRows, refuse};
use crate::archives::{Archives, hash_section};
use crate::keyspace::{self, ARCHIVES};
use crate::kv::KvResult;
use crate::rows::{AnchorArchiveRow, ArchiveRow, HashRow, RecordRow, VersionRow, load};

/// Longest key of an archive, in bytes.
const KEY_BYTES_MAX: usize = 256;

impl Batch<'_> {
    pub(crate) fn note_archive(&mut self, made: &ArchiveMade) -> Outcome<MetaReply> {
        let mut archives = Archives::load(self.rows)?;
        let object = &made.object;
        if made.sections.len() != archives.height.sections() || object.key.len() > KEY_BYTES_MAX {
            return refuse(Code::Malformed, format!("archive {} has the wrong number of sections", made.number));
        }
        let known = Archives::one(self.rows, made.number)?;
        if known.as_ref().is_some_and(|known| known.version == object.version && known.key == object.key) {
            return Ok(MetaReply::Done);
        }
        if object.bucket != LOG_BUCKET || !self.version_exists(&object.bucket, &object.key, object.version)? {
            let detail =
                format!("{}/{} has no version {}: it is no archive", object.bucket, object.key, object.version);
            return refuse(Code::Malformed, detail);
        }
        let row = match known {
            Some(known) => self.replaced(&archives, &known, made)?,
            None => {
                if archives.next(self.rows)? != Some(made.number) || !made.folded.is_empty() || made.replaces.is_some()
                {
                    return refuse(Code::Malformed, format!("archive {} is not the next one", made.number));
                }
                let level = archives.height.level();
                let (tile, at) = (made.number / TILE_WIDTH as u64, made.number % TILE_WIDTH as u64);
                let hashes = TileRows(&*self.rows).tile(level, tile)?;
                let root = usize::try_from(at).ok().and_then(|at| hashes.get(at).copied());
                let Some(root) = root else {
                    return refuse(Code::Malformed, format!("the log has no hash over archive {} yet", made.number));
                };
                archives.row.count = made.number + 1;
                self.put_row(&ARCHIVES, &archives.row)?;
                row_of(made, 0, HashRow(root))
            }
        };
        self.put_row(&keyspace::archive(made.number), &row)?;
        Ok(MetaReply::Done)
    }

    /// Of an archive that takes another's place only those sections may differ whose rows are there, or that hold what
    /// was erased since. Rows of what was erased go: the new one says it.
    fn replaced(&mut self, archives: &Archives, known: &ArchiveRow, made: &ArchiveMade) -> Outcome<ArchiveRow> {
        let number = made.number;
        if made.replaces != Some(known.version) {
            return refuse(Code::Malformed, format!("archive {number} is version {} meanwhile", known.version));
        }
        if made.folded.len() > FOLDED_MAX || !made.folded.is_sorted_by(|a, b| a < b) {
            return refuse(Code::Malformed, format!("at most {FOLDED_MAX} entries are folded in, in their order"));
        }
        let mut may_differ: BTreeSet<usize> = (known.moved as usize..made.sections.len()).collect();
        for index in &made.folded {
            let (of, section) = archives.height.place(*index);
            let row: Option<RecordRow> = load(self.rows, &keyspace::record(*index))?;
            if of != number || !archives.hold(*index) || row.is_none_or(|row| row.erased.is_none()) {
                return refuse(Code::Malformed, format!("entry {} was not erased since it was archived", index.0));
            }
            may_differ.insert(section);
        }
        let differs = |at: &usize| known.sections.get(*at).map(|hash| hash.0) != made.sections.get(*at).copied();
        if let Some(at) = (0..made.sections.len()).filter(differs).find(|at| !may_differ.contains(at)) {
            return refuse(Code::Malformed, format!("section {at} of archive {number} may not change"));
        }
        for index in &made.folded {
            self.rows.delete(&keyspace::record(*index))?;
        }
        Ok(row_of(made, known.moved, known.root))
    }

    pub(crate) fn move_to_archive(&mut self, number: u64, section: u32) -> Outcome<MetaReply> {
        let archives = Archives::load(self.rows)?;
        let Some(mut row) = Archives::one(self.rows, number)? else {
            return refuse(Code::Malformed, format!("there is no archive {number}"));
        };
        if section < row.moved {
            return Ok(MetaReply::Done);
        }
        let (height, at) = (archives.height, section as usize);
        let (Some(hash), Some(first)) = (row.sections.get(at), height.first_of(number, at)) else {
            return refuse(Code::Malformed, format!("archive {number} has no section {section}"));
        };
        if section != row.moved {
            return refuse(Code::Malformed, format!("section {} of archive {number} comes before", row.moved));
        }
        let entries = height.section_entries() as u64;
        let held = hash_section(self.rows, first, entries)?;
        if held != Some(hash.0) && !self.options.drops_unarchived() {
            let detail = format!("section {section} of archive {number} is not what the log holds: make it anew");
            return refuse(Code::Malformed, detail);
        }
        for index in first.0..first.0 + entries {
            self.rows.delete(&keyspace::record(LogIndex(index)))?;
        }
        for tile in first.0 / TILE_WIDTH as u64..(first.0 + entries) / TILE_WIDTH as u64 {
            self.rows.delete(&keyspace::tile(0, tile))?;
        }
        row.moved += 1;
        if row.moved as usize == height.sections() && height == Height::TileOfTiles {
            self.rows.delete(&keyspace::tile(1, number))?;
        }
        self.put_row(&keyspace::archive(number), &row)?;
        Ok(MetaReply::Done)
    }

    pub(crate) fn want_tile(&mut self, level: u8, index: u64) -> Outcome<MetaReply> {
        let mut archives = Archives::load(self.rows)?;
        let Some(first) = archives.dropped_tile(level, index) else { return Ok(MetaReply::Done) };
        let back = self.rows.get(&keyspace::tile(level, index))?.is_some();
        let tile = first.0 / TILE_WIDTH as u64;
        let wanted = &mut archives.row.wanted;
        match wanted.iter_mut().find(|(known, _)| *known == tile) {
            Some((_, known)) if *known == back => return Ok(MetaReply::Done),
            Some((_, known)) => *known = back,
            None => wanted.push((tile, back)),
        }
        if wanted.len() > WANTED_TILES_MAX {
            let (oldest, _) = wanted.remove(0);
            self.forget_tile(&archives, oldest)?;
        }
        self.put_row(&ARCHIVES, &archives.row)?;
        Ok(MetaReply::Done)
    }

    /// Drops a tile that was brought back, and the one above unless another needs it.
    fn forget_tile(&mut self, archives: &Archives, tile: u64) -> KvResult<()> {
        self.rows.delete(&keyspace::tile(0, tile))?;
        let archive = |tile: u64| tile / archives.height.tiles() as u64;
        let shared = archives.row.wanted.iter().any(|(other, _)| archive(*other) == archive(tile));
        if archives.height == Height::TileOfTiles && !shared && archives.dropped_tile(1, archive(tile)).is_some() {
            self.rows.delete(&keyspace::tile(1, archive(tile)))?;
        }
        Ok(())
    }

    pub(crate) fn restore_tile(&mut self, index: u64, leaves: &[u8], tiles: &[u8]) -> Outcome<MetaReply> {
        let mut archives = Archives::load(self.rows)?;
        let Some(wanted) = archives.row.wanted.iter_mut().find(|(wanted, back)| *wanted == index && !back) else {
            return Ok(MetaReply::Done);
        };
        wanted.1 = true;
        let of_archive = archives.height.tiles();
        let (number, at) = (index / of_archive as u64, index % of_archive as u64);
        let row = Archives::one(self.rows, number)?;
        let ((leaves, cut), (tiles, rest)) = (leaves.as_chunks::<32>(), tiles.as_chunks::<32>());
        let whole = cut.is_empty() && rest.is_empty() && leaves.len() == TILE_WIDTH && tiles.len() == of_archive;
        let root = whole.then(|| complete_root(tiles)).flatten();
        let tile = usize::try_from(at).ok().and_then(|at| tiles.get(at)).copied();
        let proven = root.is_some() && root == row.map(|row| row.root.0) && complete_root(leaves) == tile;
        if !proven {
            return refuse(Code::Malformed, format!("these are not the hashes of tile {index} of the log"));
        }
        self.rows.put(&keyspace::tile(0, index), leaves.as_flattened())?;
        if archives.height == Height::TileOfTiles {
            self.rows.put(&keyspace::tile(1, number), tiles.as_flattened())?;
        }
        self.put_row(&ARCHIVES, &archives.row)?;
        Ok(MetaReply::Done)
    }

    pub(crate) fn version_exists(&self, bucket: &str, key: &str, version: VersionId) -> KvResult<bool> {
        let Some(id) = load::<BucketId>(self.rows, &keyspace::bucket_name(bucket))? else { return Ok(false) };
        let row: Option<VersionRow> = load(self.rows, &keyspace::version(id, key, version.commit_seq))?;
        Ok(row.is_some_and(|row| row.nonce == version.nonce && !row.delete_marker))
    }

    /// Whether a version is an archive that the log needs.
    pub(crate) fn is_archive(&self, bucket: &BucketRow, key: &str, version: VersionId) -> KvResult<bool> {
        if bucket.name != LOG_BUCKET {
            return Ok(false);
        }
        if let Some((chain, last)) = anchors_of(key) {
            let row: Option<AnchorArchiveRow> = load(self.rows, &keyspace::anchor_archive(chain, last))?;
            return Ok(row.is_some_and(|row| row.key == key && row.version == version));
        }
        let number = key.strip_prefix("log/").and_then(|key| key.split('-').next()).and_then(|text| text.parse().ok());
        let row = number.map(|number| Archives::one(self.rows, number)).transpose()?.flatten();
        Ok(row.is_some_and(|row| row.key == key && row.version == version))
    }
}

/// Chain, and size of the newest anchor, in the key of an archive of anchors.
fn anchors_of(key: &str) -> Option<(&str, u64)> {
    let (chain, name) = key.strip_prefix("anchors/")?.split_once('/')?;
    Some((chain, name.split('-').nth(1)?.parse().ok()?))
}

fn row_of(made: &ArchiveMade, moved: u32, root: HashRow) -> ArchiveRow {
    let object = made.object.clone();
    let sections = made.sections.iter().map(|hash| HashRow(*hash)).collect();
    ArchiveRow { bucket: object.bucket, key: object.key, version: object.version, sections, moved, root }
}
