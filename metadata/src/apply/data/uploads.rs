//! Multipart uploads: create, complete, abort. Completing moves no data: the listed parts'
//! references become the version's, the others are dropped.

use std::collections::BTreeMap;

use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::{CompleteUpload, MetaReply, WriteGuard};
use stele_types::ids::{OwnerId, UploadId};
use stele_types::limits::OBJECT_TAGS_MAX;
use stele_types::object::{BucketRow, Part};

use super::UploadAt;
use super::references::owner_in_use;
use crate::apply::guard::{bad_tags, check_key};
use crate::apply::{Batch, Context, Failure, Outcome, refuse};
use crate::keyspace::{self, Tag};
use crate::kv::KvResult;
use crate::rows::{UploadRow, corrupt, decode, encode, encode_named, load};

/// A repeated Complete is answered from the earlier result for this long, in ms of commit time.
const COMPLETED_KEPT_MS: u64 = 24 * 60 * 60 * 1000;
/// Old results that one completion removes.
const COMPLETED_PRUNED: usize = 4;

impl Batch<'_> {
    pub(crate) fn create_upload(
        &mut self,
        guard: &WriteGuard,
        key: &str,
        upload: UploadId,
        row: UploadRow,
    ) -> Outcome<MetaReply> {
        check_key(key)?;
        row.tags.check(OBJECT_TAGS_MAX).map_err(bad_tags)?;
        let bucket = self.admit(guard)?;
        let row_key = keyspace::upload(bucket.id, key, upload);
        if self.rows.get(&row_key)?.is_some() || self.rows.get(&keyspace::completed(upload))?.is_some() {
            return refuse(Code::Malformed, format!("upload {upload} exists: draw a new id"));
        }
        self.rows.put(&row_key, &encode(&row))?;
        Ok(MetaReply::Upload(Box::new(row.into_upload(upload, key.to_owned()))))
    }

    pub(crate) fn require_upload(&self, bucket: &BucketRow, at: UploadAt<'_>) -> Outcome<UploadRow> {
        match load(self.rows, &keyspace::upload(bucket.id, at.key, at.upload))? {
            Some(row) => Ok(row),
            None => Err(no_upload(at.upload)),
        }
    }

    pub(crate) fn complete_upload(&mut self, cx: Context<'_>, complete: &CompleteUpload) -> Outcome<MetaReply> {
        let put = &complete.put;
        let at = UploadAt { guard: &put.guard, key: &put.key, upload: complete.upload };
        let completed_key = keyspace::completed(complete.upload);
        if let Some(bytes) = self.rows.get(&completed_key)? {
            return self.repeat_completed(&completed_key, &bytes, at);
        }
        let bucket = self.admit(at.guard)?;
        let upload = self.require_upload(&bucket, at)?;
        let chosen = self.chosen_parts(at.upload, &complete.parts)?;
        if chosen.iter().map(|part| part.len).sum::<u64>() != put.attributes.len {
            return refuse(Code::Malformed, "the lengths of the listed parts do not add up to the object's");
        }
        let owners: Vec<OwnerId> = chosen.iter().map(|part| part.owner).collect();
        if owners.contains(&put.contents.owner) {
            return Err(owner_in_use(&put.contents.owner));
        }
        self.check_put(put, &owners)?;
        self.take_over_parts(at, &chosen, complete)?;
        let row_key = keyspace::upload(bucket.id, at.key, at.upload);
        self.rows.delete(&row_key)?;
        let mut attributes = put.attributes.clone();
        attributes.headers = upload.headers;
        attributes.tags = upload.tags;
        let reply = MetaReply::Committed(self.commit_put(cx, put, attributes)?);
        self.remember_completed(cx, at, &reply)?;
        Ok(reply)
    }

    /// Gives the listed parts' references to the version and drops those of the others.
    fn take_over_parts(&mut self, at: UploadAt<'_>, chosen: &[Part], complete: &CompleteUpload) -> KvResult<()> {
        let taken: BTreeMap<u16, &Part> = chosen.iter().map(|part| (part.number, part)).collect();
        let contents = &complete.put.contents;
        for part in self.parts_of(at.upload)? {
            if taken.contains_key(&part.number) {
                self.move_references((&part.owner, &part.manifest), (&contents.owner, &contents.manifest))?;
            }
        }
        for part in self.parts_of(at.upload)? {
            if !taken.contains_key(&part.number) {
                self.drop_references(&part.owner, &part.manifest)?;
            }
            self.rows.delete(&keyspace::part(at.upload, part.number))?;
        }
        Ok(())
    }

    fn repeat_completed(&self, row_key: &[u8], bytes: &[u8], at: UploadAt<'_>) -> Outcome<MetaReply> {
        let (bucket, key, reply): (u64, String, MetaReply) = decode(row_key, bytes)?;
        if bucket != at.guard.range.bucket.0 || key != at.key {
            return Err(no_upload(at.upload));
        }
        Ok(reply)
    }

    fn remember_completed(&mut self, cx: Context<'_>, at: UploadAt<'_>, reply: &MetaReply) -> KvResult<()> {
        let (from, to) = keyspace::table(Tag::CompletedAt);
        let mut old = Vec::new();
        self.rows.scan(&from, &to, &mut |key, _| {
            old.push(key.to_vec());
            if old.len() < COMPLETED_PRUNED {
                std::ops::ControlFlow::Continue(())
            } else {
                std::ops::ControlFlow::Break(())
            }
        })?;
        for key in old {
            let (time, upload) =
                keyspace::split_completed_at(&key).ok_or_else(|| corrupt(&key, "a completion's key"))?;
            if time.saturating_add(COMPLETED_KEPT_MS) <= cx.now {
                self.rows.delete(&keyspace::completed(upload))?;
                self.rows.delete(&key)?;
            }
        }
        let row = encode_named(&(at.guard.range.bucket.0, at.key, reply));
        self.rows.put(&keyspace::completed(at.upload), &row)?;
        self.rows.put(&keyspace::completed_at(cx.now, at.upload), &[])
    }

    pub(crate) fn abort_upload(&mut self, at: UploadAt<'_>) -> Outcome<MetaReply> {
        let bucket = self.admit(at.guard)?;
        self.require_upload(&bucket, at)?;
        for part in self.parts_of(at.upload)? {
            self.drop_references(&part.owner, &part.manifest)?;
            self.rows.delete(&keyspace::part(at.upload, part.number))?;
        }
        self.rows.delete(&keyspace::upload(bucket.id, at.key, at.upload))?;
        Ok(MetaReply::Done)
    }
}

fn no_upload(upload: UploadId) -> Failure {
    let detail = format!("upload {upload} does not exist: it was completed, aborted, or belongs to another key");
    Failure::Refused(RpcError::new(Code::NoSuchUpload, detail))
}
