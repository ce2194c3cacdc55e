//! Changes of a version in place: which version is meant, and its tags.

use stele_rpc::error::Code;
use stele_rpc::meta::{Changed, MetaReply, VersionSelector};
use stele_types::ids::{CommitSeq, LogIndex, VersionId};
use stele_types::limits::OBJECT_TAGS_MAX;
use stele_types::object::Tags;

use super::VersionAt;
use super::versions::KeyState;
use crate::apply::guard::{bad_tags, check_key};
use crate::apply::{Batch, Outcome, refuse};
use crate::rows::VersionRow;

impl Batch<'_> {
    /// The version that a change in place is about. Delete markers can't be changed.
    pub(crate) fn selected(&self, key: &KeyState<'_>, version: VersionSelector) -> Outcome<(CommitSeq, VersionRow)> {
        let seq = match version {
            VersionSelector::Current => key.row.newest,
            VersionSelector::Null => key.row.null,
            VersionSelector::Id(id) => Some(id.commit_seq),
        };
        let found = match seq {
            Some(seq) => self.version_row(key, seq)?.map(|row| (seq, row)),
            None => None,
        };
        let of_id = |row: &VersionRow| !matches!(version, VersionSelector::Id(id) if id.nonce != row.nonce);
        match found.filter(|(_, row)| of_id(row)) {
            Some((_, row)) if row.delete_marker && version == VersionSelector::Current => {
                refuse(Code::NoSuchKey, format!("{:?} is deleted", key.key))
            }
            Some((_, row)) if row.delete_marker => {
                refuse(Code::DeleteMarker, format!("that version of {:?} is a delete marker", key.key))
            }
            Some(found) => Ok(found),
            None if version == VersionSelector::Current => {
                refuse(Code::NoSuchKey, format!("{:?} does not exist", key.key))
            }
            None => refuse(Code::NoSuchVersion, format!("{:?} has no such version", key.key)),
        }
    }

    pub(crate) fn put_tags(&mut self, at: &VersionAt<'_>, tags: &Tags) -> Outcome<MetaReply> {
        check_key(at.key)?;
        tags.check(OBJECT_TAGS_MAX).map_err(bad_tags)?;
        let bucket = self.admit(at.guard)?;
        let key = self.key_state(&bucket, at.key)?;
        let (seq, mut row) = self.selected(&key, at.version)?;
        row.tags = tags.clone();
        self.put_row(&key.version_key(seq), &row)?;
        Ok(changed(seq, &row, None))
    }
}

pub(crate) fn changed(seq: CommitSeq, row: &VersionRow, log_index: Option<LogIndex>) -> MetaReply {
    let id = VersionId { commit_seq: seq, nonce: row.nonce };
    MetaReply::Changed(Changed { id, null_version: row.null_version, log_index })
}
