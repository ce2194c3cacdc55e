//! The evidence log in apply: every creation and every removal of a version, and every change of its
//! retention or legal hold, appends exactly one entry, in the same apply. The record is built here from the row itself, so that row and leaf
//! cannot disagree.

use std::collections::BTreeMap;

use stele_evidence::record::{Digest, Entry, Event, Record};
use stele_evidence::tiles::{TileSource, range_root};
use stele_evidence::tree::{Hash, empty_root, leaf_hash};
use stele_types::ids::{LogIndex, Salt, VersionId};
use stele_types::object::BucketRow;

use crate::apply::{Batch, Context, TileRows};
use crate::keyspace;
use crate::kv::{KvError, KvResult, KvTxn};
use crate::rows::{KeyRow, RecordRow, VersionRow, corrupt};

/// What is logged of one version.
pub(crate) struct Logged<'a> {
    pub(crate) event: Event,
    pub(crate) bucket: &'a BucketRow,
    pub(crate) key: &'a str,
    pub(crate) id: VersionId,
    pub(crate) row: &'a VersionRow,
    pub(crate) salt: Salt,
}

fn digests(row: &VersionRow) -> Vec<Digest> {
    if row.delete_marker {
        return Vec::new();
    }
    let etag = Digest::ETag { md5: row.etag.md5.to_be_bytes(), parts: row.etag.parts };
    let checksums = row.checksums.iter().map(|checksum| Digest::Checksum {
        algorithm: checksum.algorithm,
        kind: checksum.kind,
        value: checksum.value.to_vec(),
    });
    std::iter::once(etag).chain(checksums).collect()
}

/// Tiles of a log that grows: the open ones are in memory.
struct Tiles<'a> {
    open: BTreeMap<(u8, u64), Vec<Hash>>,
    full: TileRows<'a, dyn KvTxn + 'a>,
}

impl TileSource for Tiles<'_> {
    type Error = KvError;

    fn tile(&self, level: u8, index: u64) -> KvResult<Vec<Hash>> {
        match self.open.get(&(level, index)) {
            Some(hashes) => Ok(hashes.clone()),
            None => self.full.tile(level, index),
        }
    }
}

impl Batch<'_> {
    /// Index that the next entry gets.
    pub(crate) fn next_log_index(&mut self) -> KvResult<LogIndex> {
        Ok(LogIndex(self.log_tail()?.edge.size()))
    }

    /// Appends one entry and notes it in the key's row.
    pub(crate) fn log_event(
        &mut self,
        cx: Context<'_>,
        logged: &Logged<'_>,
        key_row: &mut KeyRow,
    ) -> KvResult<LogIndex> {
        if self.options.leaves_log_out() {
            return Ok(LogIndex(0));
        }
        let record = Record {
            event: logged.event,
            bucket: logged.bucket.name.clone(),
            bucket_id: logged.bucket.id,
            key: logged.key.to_owned(),
            version: logged.id,
            null_version: logged.row.null_version,
            root: (!logged.row.delete_marker).then_some(logged.row.root),
            len: logged.row.len,
            time: cx.now,
            principal: cx.origin.principal.clone(),
            source: cx.origin.source.clone(),
            node: cx.origin.node,
            key_event: key_row.events,
            previous: key_row.last_entry,
            body_hash: logged.row.body_hash,
            digests: digests(logged.row),
            retention: logged.row.lock.retention,
            legal_hold: logged.row.lock.is_held(),
            digest: None,
            detail: String::new(),
            erased: Vec::new(),
        }
        .encode();
        let index = self.append_entry(&record, logged.salt)?;
        key_row.events += 1;
        key_row.last_entry = Some(index);
        Ok(index)
    }

    /// Root of the log's first `size` entries; `size` is not above its own.
    pub(crate) fn log_root_at(&mut self, size: u64) -> KvResult<Hash> {
        if size == 0 {
            return Ok(empty_root());
        }
        let tail = self.log_tail()?;
        let open = tail.tiles.open_tiles().map(|(level, index, hashes)| ((level, index), hashes.to_vec())).collect();
        let tiles = Tiles { open, full: TileRows(&*self.rows) };
        range_root(&tiles, 0, size).map_err(|error| corrupt(&keyspace::DATA, error.to_string()))
    }

    pub(crate) fn append_entry(&mut self, record: &[u8], salt: Salt) -> KvResult<LogIndex> {
        let leaf = leaf_hash(&Entry::new(&salt, record).0);
        let mut full = Vec::new();
        let tail = self.log_tail()?;
        let index = LogIndex(tail.edge.size());
        tail.edge.push(leaf);
        tail.tiles.push(leaf, &mut |tile| full.push(tile));
        for tile in full {
            self.rows.put(&keyspace::tile(tile.level, tile.index), tile.hashes.as_flattened())?;
        }
        let row = RecordRow { record: bytes::Bytes::copy_from_slice(record), salt: Some(salt), erased: None };
        self.put_row(&keyspace::record(index), &row)?;
        Ok(index)
    }
}
