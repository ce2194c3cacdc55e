//! Append: a version that continues the current one takes its place, its owner and its references. So an
//! append costs what it adds, however long the object is, and no pack is without a reference in between.

use std::collections::BTreeSet;

use stele_evidence::record::Event;
use stele_rpc::error::Code;
use stele_rpc::meta::{AppendVersion, Committed, MetaReply};
use stele_types::ids::{CommitSeq, LogIndex, PackId, VersionId};
use stele_types::object::{Attributes, BucketRow, Versioning};

use super::lock::Removable;
use super::references::named_packs;
use super::versions::KeyState;
use crate::apply::guard::check_key;
use crate::apply::{Batch, Context, Outcome, refuse};
use crate::rows::VersionRow;

impl Batch<'_> {
    /// Refuses what only buckets without versions can do.
    pub(crate) fn require_no_versions(&self, bucket: &BucketRow, what: &str) -> Outcome<()> {
        if bucket.versioning == Versioning::Unset {
            return Ok(());
        }
        refuse(Code::Malformed, format!("{what} needs a bucket whose versioning was never set; {} has it", bucket.name))
    }

    /// The current version of a key, if it is the one that a command was planned with.
    pub(crate) fn current_as_planned(
        &self,
        key: &KeyState<'_>,
        planned: VersionId,
    ) -> Outcome<(CommitSeq, VersionRow)> {
        if key.row.newest == Some(planned.commit_seq)
            && let Some(row) = self.version_row(key, planned.commit_seq)?
            && row.nonce == planned.nonce
            && !row.delete_marker
        {
            return Ok((planned.commit_seq, row));
        }
        refuse(Code::StaleVersion, format!("the current version of {:?} changed: read it, then repeat", key.key))
    }

    /// A version that the command has found already, if nothing keeps it.
    pub(crate) fn must_be_removable(&self, cx: Context<'_>, key: &KeyState<'_>, seq: CommitSeq) -> Outcome<Removable> {
        match self.removable(cx, key, seq, false)? {
            Some(removable) => Ok(removable),
            None => refuse(
                Code::StaleVersion,
                format!("the current version of {:?} changed: read it, then repeat", key.key),
            ),
        }
    }

    pub(crate) fn append_version(&mut self, cx: Context<'_>, append: &AppendVersion) -> Outcome<MetaReply> {
        let put = &append.put;
        check_key(&put.key)?;
        let bucket = self.admit(&put.guard)?;
        self.require_no_versions(&bucket, "appending")?;
        let mut key = self.key_state(&bucket, &put.key)?;
        let (seq, base) = self.current_as_planned(&key, append.base)?;
        self.check_append(append, &base)?;
        let replaced = self.must_be_removable(cx, &key, seq)?;
        let contents = &put.contents;
        self.extend_references((bucket.id, &base.owner), (&base.manifest, &contents.manifest), &contents.packs)?;
        self.release_packs(&base.owner, &append.released)?;
        self.detach_version(cx, &mut key, replaced, (Event::Overwrite, put.replaced_salt))?;
        let attributes = put.attributes.clone();
        let row = VersionRow {
            nonce: put.nonce,
            modified: cx.now,
            log_index: LogIndex(0),
            len: attributes.len,
            etag: attributes.etag,
            root: attributes.root,
            body_hash: attributes.body_hash,
            checksums: attributes.checksums,
            part_lens: attributes.part_lens,
            part_checksums: attributes.part_checksums,
            manifest: contents.manifest.clone(),
            ..base
        };
        let (id, row) = self.insert_version(cx, &mut key, row, put.salt)?;
        self.save_key(&key)?;
        Ok(MetaReply::Committed(committed(id, row)))
    }

    fn check_append(&self, append: &AppendVersion, base: &VersionRow) -> Outcome<()> {
        let (contents, len) = (&append.put.contents, append.put.attributes.len);
        if contents.owner != base.owner {
            return refuse(Code::Malformed, "an append keeps the owner of the version that it continues");
        }
        if contents.manifest.total_len() != len || len < base.len {
            let detail = format!("an append to {} bytes says {len}; its manifest disagrees or is shorter", base.len);
            return refuse(Code::Malformed, detail);
        }
        self.check_packs(&contents.manifest, &contents.packs, &[base.owner])?;
        let mut kept = named_packs(&contents.manifest);
        kept.extend(contents.packs.iter().map(|row| row.pack));
        let released: BTreeSet<PackId> = append.released.iter().copied().collect();
        if released.len() != append.released.len() || !released.is_disjoint(&kept) {
            return refuse(Code::Malformed, "an append releases a pack twice, or one that it names");
        }
        for pack in &released {
            if !self.referenced_by_any(pack, &[base.owner])? {
                return refuse(
                    Code::Malformed,
                    format!("an append releases pack {pack}, which it has no reference to"),
                );
            }
        }
        Ok(())
    }
}

/// What a commit says of a row that it made of another one.
pub(crate) fn committed(id: VersionId, row: VersionRow) -> Committed {
    let (null_version, modified, log_index) = (row.null_version, row.modified, row.log_index);
    let attributes: Attributes = row.into_version(id.commit_seq).attributes;
    Committed { id, null_version, modified, log_index, attributes: Box::new(attributes) }
}
