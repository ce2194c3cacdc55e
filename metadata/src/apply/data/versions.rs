//! Versions: the linearization point of PUT, and the bookkeeping that every creation and removal of
//! a version shares.

use stele_evidence::record::Event;
use stele_rpc::error::Code;
use stele_rpc::meta::{Committed, LOG_BUCKET, MetaReply, PutVersion};
use stele_types::ids::{CommitSeq, OwnerId, Salt, VersionId};
use stele_types::limits::OBJECT_TAGS_MAX;
use stele_types::object::{Attributes, BucketRow, Facts, Lock, Versioning};

use super::evidence_log::Logged;
use super::lock::{Removable, at_commit, check_new};
use super::references::owner_in_use;
use crate::apply::guard::{bad_tags, check_key, check_precondition};
use crate::apply::{Batch, Context, Outcome, refuse};
use crate::keyspace::{self, Tag};
use crate::kv::KvResult;
use crate::rows::{CurrentRow, KeyRow, VersionRow, corrupt, decode, load};

/// A key within its bucket, and what outlives its versions.
pub(crate) struct KeyState<'a> {
    pub(crate) bucket: &'a BucketRow,
    pub(crate) key: &'a str,
    pub(crate) row: KeyRow,
}

impl KeyState<'_> {
    pub(crate) fn version_key(&self, seq: CommitSeq) -> Vec<u8> {
        keyspace::version(self.bucket.id, self.key, seq)
    }

    fn current_key(&self) -> Vec<u8> {
        keyspace::named(Tag::Current, self.bucket.id, self.key)
    }
}

/// A write that passed its checks.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) bucket: BucketRow,
    /// The null version whose place it takes.
    replaced: Option<Removable>,
}

/// Whether writes make null versions.
pub(crate) fn writes_null(bucket: &BucketRow) -> bool {
    bucket.versioning != Versioning::Enabled
}

impl Batch<'_> {
    pub(crate) fn key_state<'a>(&self, bucket: &'a BucketRow, key: &'a str) -> KvResult<KeyState<'a>> {
        let row = load(self.rows, &keyspace::named(Tag::Key, bucket.id, key))?.unwrap_or_default();
        Ok(KeyState { bucket, key, row })
    }

    pub(crate) fn save_key(&mut self, key: &KeyState<'_>) -> KvResult<()> {
        self.put_row(&keyspace::named(Tag::Key, key.bucket.id, key.key), &key.row)
    }

    /// What conditions ask of the current version; none if there is none or it is a delete marker.
    pub(crate) fn current(&self, key: &KeyState<'_>) -> KvResult<Option<Facts>> {
        let row = CurrentRow::load(self.rows, &key.current_key())?;
        Ok(row.map(|row| Facts { etag: row.etag, len: row.len, modified: row.modified }))
    }

    pub(crate) fn version_row(&self, key: &KeyState<'_>, seq: CommitSeq) -> KvResult<Option<VersionRow>> {
        load(self.rows, &key.version_key(seq))
    }

    /// Inserts a version as the newest of its key and logs it. The caller replaced the null version
    /// first, saves the key row and has added the references.
    pub(crate) fn insert_version(
        &mut self,
        cx: Context<'_>,
        key: &mut KeyState<'_>,
        mut row: VersionRow,
        salt: Salt,
    ) -> KvResult<(VersionId, VersionRow)> {
        let seq = CommitSeq(self.data.commit_seq.0 + 1);
        self.data.commit_seq = seq;
        let id = VersionId { commit_seq: seq, nonce: row.nonce };
        row.log_index = self.next_log_index()?;
        let event = if row.delete_marker { Event::DeleteMarker } else { Event::Put };
        let logged = Logged { event, bucket: key.bucket, key: key.key, id, row: &row, salt };
        self.log_event(cx, &logged, &mut key.row)?;
        self.put_row(&key.version_key(seq), &row)?;
        self.count_version(key.bucket.id, row.len, u64::saturating_add)?;
        if row.null_version {
            key.row.null = Some(seq);
        }
        self.set_newest(key, Some((seq, &row)))?;
        Ok((id, row))
    }

    /// Removes a version with its references, or keeps both in the trash, and logs that. The caller settles what is
    /// newest.
    pub(crate) fn remove_version(
        &mut self,
        cx: Context<'_>,
        key: &mut KeyState<'_>,
        removable: Removable,
        why: (Event, Salt),
    ) -> KvResult<VersionRow> {
        let (seq, event) = (removable.seq, why.0);
        let row = self.detach_version(cx, key, removable, why)?;
        // Archives of the log are rewritten so that erased records are gone from them.
        if self.data.trash_ms.is_some() && !row.delete_marker && key.bucket.name != LOG_BUCKET {
            self.put_into_trash(cx, key, (seq, &row), event == Event::Overwrite)?;
        } else {
            self.drop_references(&row.owner, &row.manifest)?;
        }
        Ok(row)
    }

    /// Removes a version whose references go over to another one, and logs that. The caller settles what
    /// is newest.
    pub(crate) fn detach_version(
        &mut self,
        cx: Context<'_>,
        key: &mut KeyState<'_>,
        Removable { seq, row }: Removable,
        why: (Event, Salt),
    ) -> KvResult<VersionRow> {
        self.rows.delete(&key.version_key(seq))?;
        self.count_version(key.bucket.id, row.len, u64::saturating_sub)?;
        if key.row.null == Some(seq) {
            key.row.null = None;
        }
        let id = VersionId { commit_seq: seq, nonce: row.nonce };
        let logged = Logged { event: why.0, bucket: key.bucket, key: key.key, id, row: &row, salt: why.1 };
        self.log_event(cx, &logged, &mut key.row)?;
        Ok(row)
    }

    /// Notes the newest version and what listings show of it.
    pub(crate) fn set_newest(
        &mut self,
        key: &mut KeyState<'_>,
        newest: Option<(CommitSeq, &VersionRow)>,
    ) -> KvResult<()> {
        key.row.newest = newest.map(|(seq, _)| seq);
        match newest {
            Some((seq, row)) if !row.delete_marker => {
                self.rows.put(&key.current_key(), &CurrentRow::of(row, seq).encode())
            }
            _ => self.rows.delete(&key.current_key()),
        }
    }

    /// After the newest version went: the one below it is the newest.
    pub(crate) fn find_newest(&mut self, key: &mut KeyState<'_>) -> KvResult<()> {
        let prefix = keyspace::named(Tag::Version, key.bucket.id, key.key);
        let first = self.collect(&prefix, 1)?.pop();
        let Some((row_key, value)) = first else { return self.set_newest(key, None) };
        let seq = row_key.get(prefix.len()..).and_then(keyspace::version_seq);
        let seq = seq.ok_or_else(|| corrupt(&row_key, "a version's key"))?;
        let row: VersionRow = decode(&row_key, &value)?;
        self.set_newest(key, Some((seq, &row)))
    }

    /// Checks that hold for PUT and Complete alike. `sources` own references the version takes over.
    pub(crate) fn check_put(&mut self, cx: Context<'_>, put: &PutVersion, sources: &[OwnerId]) -> Outcome<Admitted> {
        check_key(&put.key)?;
        put.attributes.tags.check(OBJECT_TAGS_MAX).map_err(bad_tags)?;
        let bucket = self.admit(&put.guard)?;
        let key = self.key_state(&bucket, &put.key)?;
        check_precondition(&put.precondition, &put.key, self.current(&key)?.as_ref())?;
        if put.contents.manifest.total_len() != put.attributes.len {
            let detail = format!(
                "the manifest holds {} bytes, the attributes say {}",
                put.contents.manifest.total_len(),
                put.attributes.len
            );
            return refuse(Code::Malformed, detail);
        }
        let owners: Vec<OwnerId> = sources.iter().copied().chain([put.contents.owner]).collect();
        self.check_packs(&put.contents.manifest, &put.contents.packs, &owners)?;
        if let Some(null) = key.row.null
            && self.version_row(&key, null)?.is_some_and(|row| row.owner == put.contents.owner)
        {
            return Err(owner_in_use(&put.contents.owner));
        }
        let replaced = match key.row.null.filter(|_| writes_null(&bucket)) {
            Some(seq) => self.removable(cx, &key, seq, false)?,
            None => None,
        };
        Ok(Admitted { bucket, replaced })
    }

    /// Makes a checked version visible. Its references beyond `contents.packs` are in place.
    pub(crate) fn commit_put(
        &mut self,
        cx: Context<'_>,
        put: &PutVersion,
        Admitted { bucket, replaced }: Admitted,
        (attributes, lock): (Attributes, Lock),
    ) -> KvResult<Committed> {
        let mut key = self.key_state(&bucket, &put.key)?;
        let contents = &put.contents;
        // New references first: a pack both versions share must not lose its row in between.
        self.add_references((bucket.id, &contents.owner), &contents.packs, Some(&contents.manifest))?;
        self.unstage(&put.guard, &contents.owner)?;
        let null_version = writes_null(&bucket);
        if let Some(replaced) = replaced {
            self.remove_version(cx, &mut key, replaced, (Event::Overwrite, put.replaced_salt))?;
        }
        let row = VersionRow {
            nonce: put.nonce,
            null_version,
            delete_marker: false,
            modified: cx.now,
            log_index: stele_types::ids::LogIndex(0),
            owner: contents.owner,
            len: attributes.len,
            etag: attributes.etag,
            root: attributes.root,
            body_hash: attributes.body_hash,
            checksums: attributes.checksums.clone(),
            headers: attributes.headers.clone(),
            part_lens: attributes.part_lens.clone(),
            manifest: contents.manifest.clone(),
            tags: attributes.tags.clone(),
            lock: at_commit(&bucket, &lock, cx.now),
            part_checksums: attributes.part_checksums.clone(),
        };
        let (id, row) = self.insert_version(cx, &mut key, row, put.salt)?;
        self.save_key(&key)?;
        Ok(Committed {
            id,
            null_version,
            modified: row.modified,
            log_index: row.log_index,
            attributes: Box::new(attributes),
        })
    }

    pub(crate) fn put_version(&mut self, cx: Context<'_>, put: &PutVersion) -> Outcome<MetaReply> {
        let admitted = self.check_put(cx, put, &[])?;
        check_new(&admitted.bucket, &put.lock, cx.now)?;
        Ok(MetaReply::Committed(self.commit_put(cx, put, admitted, (put.attributes.clone(), put.lock))?))
    }
}
