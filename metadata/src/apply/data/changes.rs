//! Changes of a version in place: tags, which the log does not know, and its lock, which it does.

use stele_evidence::record::Event;
use stele_rpc::error::Code;
use stele_rpc::meta::{ChangeVersion, Changed, MetaReply, VersionChange, VersionSelector};
use stele_types::ids::{CommitSeq, VersionId};
use stele_types::limits::OBJECT_TAGS_MAX;

use super::evidence_log::Logged;
use super::lock::{check_change, require_lock};
use super::versions::KeyState;
use crate::apply::guard::{bad_tags, check_key};
use crate::apply::{Batch, Context, Outcome, refuse};
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

    pub(crate) fn change_version(&mut self, cx: Context<'_>, command: &ChangeVersion) -> Outcome<MetaReply> {
        check_key(&command.key)?;
        if let VersionChange::Tags(tags) = &command.change {
            tags.check(OBJECT_TAGS_MAX).map_err(bad_tags)?;
        }
        let bucket = self.admit(&command.guard)?;
        if !matches!(command.change, VersionChange::Tags(_)) {
            require_lock(&bucket)?;
        }
        let mut key = self.key_state(&bucket, &command.key)?;
        let (seq, mut row) = self.selected(&key, command.version)?;
        let logged = match &command.change {
            VersionChange::Tags(tags) => {
                row.tags = tags.clone();
                None
            }
            VersionChange::Retention(new) => {
                check_change(row.lock.retention, new, cx.now)?;
                row.lock.retention = new.retention;
                Some((Event::Retention, new.salt))
            }
            VersionChange::LegalHold { on, salt } => {
                row.lock.legal_hold = Some(*on);
                Some((Event::LegalHold, *salt))
            }
        };
        let id = VersionId { commit_seq: seq, nonce: row.nonce };
        let mut log_index = None;
        if let Some((event, salt)) = logged {
            let logged = Logged { event, bucket: key.bucket, key: key.key, id, row: &row, salt };
            log_index = Some(self.log_event(cx, &logged, &mut key.row)?);
            self.save_key(&key)?;
        }
        self.put_row(&key.version_key(seq), &row)?;
        Ok(MetaReply::Changed(Changed { id, null_version: row.null_version, log_index }))
    }
}
