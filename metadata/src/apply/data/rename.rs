//! Rename: the current version of one key becomes that of another, with its owner and references, in one
//! apply. Both keys get their log entry: a creation at the destination, a removal at the source.

use stele_evidence::record::Event;
use stele_rpc::error::Code;
use stele_rpc::meta::{Expected, MetaReply, RenameKey, RenameToken};
use stele_types::ids::{BucketId, LogIndex};

use super::append::committed;
use super::versions::KeyState;
use crate::apply::guard::check_key;
use crate::apply::{Batch, Context, Outcome, refuse};
use crate::keyspace::{self, Tag};
use crate::kv::KvResult;
use crate::rows::{VersionRow, corrupt, decode, encode_named};

/// A repeated token is answered from the earlier result for this long, in ms of commit time.
const TOKEN_KEPT_MS: u64 = 24 * 60 * 60 * 1000;
/// Old results that one rename removes.
const TOKENS_PRUNED: usize = 4;

impl Batch<'_> {
    pub(crate) fn rename_key(&mut self, cx: Context<'_>, rename: &RenameKey) -> Outcome<MetaReply> {
        let bucket_id = rename.guard.range.bucket;
        if let Some(token) = &rename.token
            && let Some(reply) = self.earlier_rename(bucket_id, token)?
        {
            return Ok(reply);
        }
        check_key(&rename.source)?;
        check_key(&rename.destination)?;
        if rename.source == rename.destination {
            return refuse(Code::Malformed, format!("{:?} can't be renamed to itself", rename.source));
        }
        let bucket = self.admit(&rename.guard)?;
        self.require_no_versions(&bucket, "renaming")?;
        let mut from = self.key_state(&bucket, &rename.source)?;
        let mut to = self.key_state(&bucket, &rename.destination)?;
        let (seq, row) = self.current_as_planned(&from, rename.moved)?;
        self.check_expected(&to, rename.replaced)?;
        let moved = self.must_be_removable(cx, &from, seq)?;
        if let Some(replaced) = to.row.null {
            let replaced = self.must_be_removable(cx, &to, replaced)?;
            self.remove_version(cx, &mut to, replaced, (Event::Overwrite, rename.replaced_salt))?;
        }
        self.detach_version(cx, &mut from, moved, (Event::Delete, rename.moved_salt))?;
        self.find_newest(&mut from)?;
        self.save_key(&from)?;
        let row = VersionRow { nonce: rename.nonce, log_index: LogIndex(0), ..row };
        let (id, row) = self.insert_version(cx, &mut to, row, rename.salt)?;
        self.save_key(&to)?;
        let reply = MetaReply::Committed(committed(id, row));
        if let Some(token) = &rename.token {
            self.remember_rename(cx, bucket_id, token, &reply)?;
        }
        Ok(reply)
    }

    fn check_expected(&self, key: &KeyState<'_>, expected: Expected) -> Outcome<()> {
        match expected {
            Expected::Any => Ok(()),
            Expected::Version(id) => self.current_as_planned(key, id).map(|_| ()),
            Expected::Absent if self.current(key)?.is_none() => Ok(()),
            Expected::Absent => {
                refuse(Code::StaleVersion, format!("{:?} exists by now: read it, then repeat", key.key))
            }
        }
    }

    fn earlier_rename(&self, bucket: BucketId, token: &RenameToken) -> Outcome<Option<MetaReply>> {
        let key = keyspace::renamed(bucket, &token.id);
        let Some(bytes) = self.rows.get(&key)? else { return Ok(None) };
        let (request, reply): ([u8; 32], MetaReply) = decode(&key, &bytes)?;
        if request != token.request {
            return refuse(Code::TokenReused, "this token named another rename: draw a new one");
        }
        Ok(Some(reply))
    }

    fn remember_rename(
        &mut self,
        cx: Context<'_>,
        bucket: BucketId,
        token: &RenameToken,
        reply: &MetaReply,
    ) -> KvResult<()> {
        for (key, _) in self.collect(&[Tag::RenamedAt as u8], TOKENS_PRUNED)? {
            let (time, named) =
                keyspace::split_renamed_at(&key).ok_or_else(|| corrupt(&key, "the key of a rename's age"))?;
            if time.saturating_add(TOKEN_KEPT_MS) <= cx.now {
                self.rows.delete(&named)?;
                self.rows.delete(&key)?;
            }
        }
        self.rows.put(&keyspace::renamed(bucket, &token.id), &encode_named(&(token.request, reply)))?;
        self.rows.put(&keyspace::renamed_at(cx.now, bucket, &token.id), &[])
    }
}
