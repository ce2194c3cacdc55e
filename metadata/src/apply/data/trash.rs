//! The trash: where removed versions stay for a while, if the operator wants that. A removed version's owner keeps its
//! references, so that its packs are referenced like any others and never condemned; the log says that it
//! was removed all the same. Restoring makes a new version with the same owner, and logs that.

use std::ops::ControlFlow;

use stele_evidence::record::{Event, derive_removal_salt};
use stele_rpc::error::Code;
use stele_rpc::meta::{MetaReply, RestoreVersion, TRASH_PAGE_MAX, TrashCommand};
use stele_types::ids::{BucketId, CommitSeq, LogIndex, VersionId};

use super::append::committed;
use super::lock::at_commit;
use super::versions::{KeyState, writes_null};
use crate::apply::acts::CLUSTER_SUBJECT;
use crate::apply::guard::check_key;
use crate::apply::{Batch, Context, Outcome, refuse};
use crate::keyspace::{self, Tag};
use crate::kv::KvResult;
use crate::rows::{TrashRow, VersionRow, corrupt, load};

impl Batch<'_> {
    pub(crate) fn trash(&mut self, cx: Context<'_>, command: &TrashCommand) -> Outcome<MetaReply> {
        match command {
            TrashCommand::Keep { window_ms } => self.keep_trash(cx, *window_ms),
            TrashCommand::Restore(restore) => self.restore_version(cx, restore),
            TrashCommand::Purge { bucket, key, version } => self.purge_trash(cx, (*bucket, key), *version),
            TrashCommand::Expire { max } => self.expire_trash(cx, *max),
        }
    }

    fn keep_trash(&mut self, cx: Context<'_>, window_ms: Option<u64>) -> Outcome<MetaReply> {
        if self.data.trash_ms == window_ms {
            return Ok(MetaReply::Done);
        }
        let said = |window: Option<u64>| window.map_or_else(|| "not at all".to_owned(), |ms| format!("for {ms} ms"));
        let (is, was) = (said(window_ms), said(self.data.trash_ms));
        self.data.trash_ms = window_ms;
        let detail = format!("removed versions are kept in the trash {is}; they were kept {was}");
        self.log_act(cx, CLUSTER_SUBJECT, &detail)?;
        Ok(MetaReply::Done)
    }

    /// Keeps a version that was just removed. Its references stay as they are.
    pub(crate) fn put_into_trash(
        &mut self,
        cx: Context<'_>,
        key: &KeyState<'_>,
        (seq, row): (CommitSeq, &VersionRow),
        overwritten: bool,
    ) -> KvResult<()> {
        let row_key = keyspace::trash(key.bucket.id, key.key, seq);
        self.rows.put(&keyspace::trash_at(cx.now, &row_key), &[])?;
        self.data.trash_versions += 1;
        self.data.trash_bytes = self.data.trash_bytes.saturating_add(row.len);
        self.put_row(&row_key, &TrashRow { version: row.clone(), removed: cx.now, overwritten })
    }

    fn take_from_trash(&mut self, row_key: &[u8], row: &TrashRow) -> KvResult<()> {
        self.rows.delete(row_key)?;
        self.rows.delete(&keyspace::trash_at(row.removed, row_key))?;
        self.data.trash_versions = self.data.trash_versions.saturating_sub(1);
        self.data.trash_bytes = self.data.trash_bytes.saturating_sub(row.version.len);
        Ok(())
    }

    fn give_up(&mut self, row_key: &[u8]) -> KvResult<()> {
        let Some(row) = load::<TrashRow>(self.rows, row_key)? else {
            return Err(corrupt(row_key, "the index of the trash names a version that is not there"));
        };
        self.take_from_trash(row_key, &row)?;
        self.drop_references(&row.version.owner, &row.version.manifest)
    }

    fn restore_version(&mut self, cx: Context<'_>, restore: &RestoreVersion) -> Outcome<MetaReply> {
        check_key(&restore.key)?;
        let Some(bucket) = self.bucket(restore.bucket)? else {
            return refuse(Code::NoSuchBucket, format!("bucket {} does not exist any more", restore.bucket));
        };
        let mut key = self.key_state(&bucket, &restore.key)?;
        if let Some(reply) = self.restored_before(&key, restore.nonce)? {
            return Ok(reply);
        }
        let row_key = keyspace::trash(bucket.id, &restore.key, restore.version.commit_seq);
        let found = load::<TrashRow>(self.rows, &row_key)?.filter(|row| row.version.nonce == restore.version.nonce);
        let Some(found) = found else {
            let detail = format!("version {} of {:?} is not in the trash", restore.version, restore.key);
            return refuse(Code::NoSuchVersion, detail);
        };
        let null_version = writes_null(&bucket);
        let replaced = match key.row.null.filter(|_| null_version) {
            Some(seq) => self.removable(cx, &key, seq, false)?,
            None => None,
        };
        if replaced.as_ref().is_some_and(|replaced| !replaced.row.delete_marker) && !restore.replace {
            let detail = format!(
                "{:?} exists, and bucket {} keeps one version: move it, or replace it",
                restore.key, bucket.name
            );
            return refuse(Code::PreconditionFailed, detail);
        }
        self.take_from_trash(&row_key, &found)?;
        if let Some(replaced) = replaced {
            // One command, two entries: the removal's salt is derived from the other one.
            self.remove_version(cx, &mut key, replaced, (Event::Overwrite, derive_removal_salt(&restore.salt)))?;
        }
        let lock = at_commit(&bucket, &found.version.lock, cx.now);
        let (nonce, modified, log_index) = (restore.nonce, cx.now, LogIndex(0));
        let row = VersionRow { nonce, null_version, modified, log_index, lock, ..found.version };
        let (id, row) = self.insert_version(cx, &mut key, row, restore.salt)?;
        self.save_key(&key)?;
        Ok(MetaReply::Committed(committed(id, row)))
    }

    /// The reply of an earlier command with this nonce, if what it restored is still the newest version.
    fn restored_before(&self, key: &KeyState<'_>, nonce: u64) -> KvResult<Option<MetaReply>> {
        let Some(seq) = key.row.newest else { return Ok(None) };
        let row = self.version_row(key, seq)?.filter(|row| row.nonce == nonce);
        Ok(row.map(|row| MetaReply::Committed(committed(VersionId { commit_seq: seq, nonce }, row))))
    }

    fn purge_trash(
        &mut self,
        cx: Context<'_>,
        (bucket, key): (BucketId, &str),
        version: Option<VersionId>,
    ) -> Outcome<MetaReply> {
        check_key(key)?;
        let found = match version {
            Some(id) => {
                let row_key = keyspace::trash(bucket, key, id.commit_seq);
                let row = load::<TrashRow>(self.rows, &row_key)?.filter(|row| row.version.nonce == id.nonce);
                row.map(|_| row_key).into_iter().collect()
            }
            None => {
                let rows = self.collect(&keyspace::named(Tag::Trash, bucket, key), TRASH_PAGE_MAX as usize)?;
                rows.into_iter().map(|(row_key, _)| row_key).collect::<Vec<_>>()
            }
        };
        for row_key in &found {
            self.give_up(row_key)?;
        }
        let count = found.len() as u64;
        if count > 0 {
            let detail = format!("{count} removed versions of a key of bucket {bucket} were purged from the trash");
            self.log_act(cx, CLUSTER_SUBJECT, &detail)?;
        }
        Ok(MetaReply::Purged(count))
    }

    fn expire_trash(&mut self, cx: Context<'_>, max: u32) -> Outcome<MetaReply> {
        if !(1..=TRASH_PAGE_MAX).contains(&max) {
            return refuse(Code::Malformed, format!("a step gives up 1 to {TRASH_PAGE_MAX} versions, not {max}"));
        }
        let (from, to) = keyspace::table(Tag::TrashAt);
        let kept = self.data.trash_ms.unwrap_or(0);
        let mut due = Vec::new();
        let mut damaged = None;
        self.rows.scan(&from, &to, &mut |key, _| {
            let Some((removed, row_key)) = keyspace::split_trash_at(key) else {
                damaged = Some(corrupt(key, "a key of the trash by age"));
                return ControlFlow::Break(());
            };
            if removed.saturating_add(kept) > cx.now || due.len() >= max as usize {
                return ControlFlow::Break(());
            }
            due.push(row_key);
            ControlFlow::Continue(())
        })?;
        if let Some(error) = damaged {
            return Err(error.into());
        }
        for row_key in &due {
            self.give_up(row_key)?;
        }
        Ok(MetaReply::Purged(due.len() as u64))
    }
}
