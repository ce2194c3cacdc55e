//! The evidence log in apply: every creation and every removal of a version, and every change of its
//! retention or legal hold, appends exactly one entry, in the same apply. The record is built here from the row itself, so that row and leaf
//! cannot disagree.

use stele_evidence::record::{Digest, Entry, Event, Record};
use stele_evidence::tree::leaf_hash;
use stele_types::ids::{LogIndex, Salt, VersionId};
use stele_types::object::BucketRow;

use crate::apply::{Batch, Context};
use crate::keyspace;
use crate::kv::KvResult;
use crate::rows::{KeyRow, RecordRow, VersionRow};

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
        }
        .encode();
        let index = self.append_entry(&record, logged.salt)?;
        key_row.events += 1;
        key_row.last_entry = Some(index);
        Ok(index)
    }

    fn append_entry(&mut self, record: &[u8], salt: Salt) -> KvResult<LogIndex> {
        let leaf = leaf_hash(&Entry::new(&salt, record).0);
        let mut full = Vec::new();
        let tail = self.log_tail()?;
        let index = LogIndex(tail.edge.size());
        tail.edge.push(leaf);
        tail.tiles.push(leaf, &mut |tile| full.push(tile));
        for tile in full {
            self.rows.put(&keyspace::tile(tile.level, tile.index), tile.hashes.as_flattened())?;
        }
        let row = RecordRow { record: bytes::Bytes::copy_from_slice(record), salt: Some(salt) };
        self.put_row(&keyspace::record(index), &row)?;
        Ok(index)
    }
}
