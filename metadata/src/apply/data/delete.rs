//! Deletes: each item has its own outcome. A plain delete removes the null version (versioning
//! unset), adds a delete marker (enabled), or does both (suspended).

use stele_evidence::record::{Event, derive_removal_salt};
use stele_rpc::error::Code;
use stele_rpc::meta::{DeleteItem, Deleted, MetaReply, VersionSelector, WriteGuard};
use stele_types::ids::{CommitSeq, LogIndex, ObjectRoot, OwnerId, VersionId};
use stele_types::limits::LIST_PAGE_MAX;
use stele_types::manifest::Manifest;
use stele_types::object::{BucketRow, ETag, Lock, Tags, Versioning};

use super::versions::{KeyState, writes_null};
use crate::apply::guard::{check_key, check_precondition};
use crate::apply::{Batch, Context, Failure, Outcome, refuse};
use crate::rows::VersionRow;

fn marker_row(cx: Context<'_>, nonce: u64, null_version: bool) -> VersionRow {
    VersionRow {
        nonce,
        null_version,
        delete_marker: true,
        modified: cx.now,
        log_index: LogIndex(0),
        owner: OwnerId::from_bytes([0; 16]),
        len: 0,
        etag: ETag { md5: 0, parts: 0 },
        root: ObjectRoot::from_bytes([0; 32]),
        body_hash: None,
        checksums: Vec::new(),
        headers: Box::default(),
        part_lens: Vec::new(),
        manifest: Manifest::Inline(Vec::new()),
        tags: Tags::default(),
        lock: Lock::default(),
        part_checksums: bytes::Bytes::new(),
    }
}

impl Batch<'_> {
    pub(crate) fn delete(&mut self, cx: Context<'_>, guard: &WriteGuard, items: &[DeleteItem]) -> Outcome<MetaReply> {
        if items.len() > LIST_PAGE_MAX {
            return refuse(
                Code::Malformed,
                format!("a delete names at most {LIST_PAGE_MAX} keys, this one {}", items.len()),
            );
        }
        let bucket = self.admit(guard)?;
        let mut outcomes = Vec::with_capacity(items.len());
        for item in items {
            outcomes.push(match self.delete_item(cx, &bucket, item) {
                Ok(deleted) => deleted,
                Err(Failure::Refused(error)) => Deleted { error: Some(error), ..Deleted::default() },
                Err(broken) => return Err(broken),
            });
        }
        Ok(MetaReply::Deleted(outcomes))
    }

    fn delete_item(&mut self, cx: Context<'_>, bucket: &BucketRow, item: &DeleteItem) -> Outcome<Deleted> {
        check_key(&item.key)?;
        let mut key = self.key_state(bucket, &item.key)?;
        check_precondition(&item.precondition, &item.key, self.current(&key)?.as_ref())?;
        let before = key.row.events;
        let mut deleted = match item.version {
            VersionSelector::Current => self.delete_current(cx, &mut key, item)?,
            VersionSelector::Null => match key.row.null {
                Some(seq) => self.delete_one(cx, &mut key, seq, item)?,
                None => Deleted::default(),
            },
            VersionSelector::Id(id) => {
                let row = self.version_row(&key, id.commit_seq)?;
                match row.is_some_and(|row| row.nonce == id.nonce) {
                    true => self.delete_one(cx, &mut key, id.commit_seq, item)?,
                    false => Deleted::default(),
                }
            }
        };
        if key.row.events != before {
            self.save_key(&key)?;
            deleted.log_index = key.row.last_entry;
        }
        Ok(deleted)
    }

    fn delete_current(&mut self, cx: Context<'_>, key: &mut KeyState<'_>, item: &DeleteItem) -> Outcome<Deleted> {
        if key.bucket.versioning == Versioning::Unset {
            return match key.row.newest {
                Some(seq) => self.delete_one(cx, key, seq, item),
                None => Ok(Deleted::default()),
            };
        }
        let mut deleted = Deleted::default();
        let null_version = writes_null(key.bucket);
        if let Some(seq) = key.row.null.filter(|_| null_version) {
            // One request, two entries: the removal's salt is derived from the marker's.
            let salt = derive_removal_salt(&item.salt);
            if let Some(removable) = self.removable(cx, key, seq, item.bypass)? {
                let row = self.remove_version(cx, key, removable, (Event::Overwrite, salt))?;
                deleted = removed(seq, &row);
            }
        }
        let (id, _) = self.insert_version(cx, key, marker_row(cx, item.nonce, null_version), item.salt)?;
        (deleted.marker, deleted.marker_null) = (Some(id), null_version);
        Ok(deleted)
    }

    fn delete_one(
        &mut self,
        cx: Context<'_>,
        key: &mut KeyState<'_>,
        seq: CommitSeq,
        item: &DeleteItem,
    ) -> Outcome<Deleted> {
        let Some(removable) = self.removable(cx, key, seq, item.bypass)? else {
            return Ok(Deleted::default());
        };
        let row = self.remove_version(cx, key, removable, (Event::Delete, item.salt))?;
        if key.row.newest == Some(seq) {
            self.find_newest(key)?;
        }
        Ok(removed(seq, &row))
    }
}

fn removed(seq: CommitSeq, row: &VersionRow) -> Deleted {
    Deleted {
        removed: Some(VersionId { commit_seq: seq, nonce: row.nonce }),
        removed_null: row.null_version,
        removed_marker: row.delete_marker,
        marker: None,
        marker_null: false,
        error: None,
        log_index: None,
    }
}
