//! Checkpoints of the evidence log: sizes whose root the group stands by. They are committed by compare-and-swap,
//! so that of two anchors only one goes on, and a root is never taken from the anchor's word.

use stele_rpc::error::Code;
use stele_rpc::meta::{Checkpoint, LogReply, MetaReply, NOTE_BYTES_MAX, POLICY_BYTES_MAX, SignedNote, TreeHead};

use crate::apply::acts::{self, POLICY_SUBJECT};
use crate::apply::{Batch, Context, Outcome, refuse};
use crate::keyspace::{CHECKPOINT, POLICIES};
use crate::kv::KvResult;
use crate::rows::{CheckpointRow, HashRow, PoliciesRow, PublishedRow, load};

/// Anchors whose policy is remembered; beyond that the one that changed longest ago is forgotten.
const ANCHORS_MAX: usize = 64;

impl Batch<'_> {
    fn checkpoint_row(&self) -> KvResult<Option<CheckpointRow>> {
        load(self.rows, &CHECKPOINT)
    }

    pub(crate) fn commit_checkpoint(
        &mut self,
        cx: Context<'_>,
        previous: Option<TreeHead>,
        next: TreeHead,
    ) -> Outcome<MetaReply> {
        let row = self.checkpoint_row()?;
        let newest = row.as_ref().map(CheckpointRow::checkpoint);
        let committed = |checkpoint: Checkpoint| Ok(MetaReply::Log(LogReply::Checkpoint(checkpoint)));
        if let Some(newest) = newest.filter(|newest| newest.head == next) {
            return committed(newest);
        }
        if !self.options.commits_any_checkpoint() {
            self.check_checkpoint(newest, previous, next)?;
        }
        let row = CheckpointRow {
            size: next.size,
            root: HashRow(next.root),
            time: cx.now,
            published: row.and_then(|row| row.published),
        };
        self.put_row(&CHECKPOINT, &row)?;
        committed(row.checkpoint())
    }

    fn check_checkpoint(
        &mut self,
        newest: Option<Checkpoint>,
        previous: Option<TreeHead>,
        next: TreeHead,
    ) -> Outcome<()> {
        if newest.map(|newest| newest.head) != previous {
            let size = newest.map_or(0, |newest| newest.head.size);
            return refuse(Code::StaleCheckpoint, format!("the newest checkpoint of the log has size {size}"));
        }
        let size = self.log_tail()?.edge.size();
        if next.size > size || next.size <= newest.map_or(0, |newest| newest.head.size) {
            let detail = format!("a checkpoint of size {} of a log of {size}: it must grow with the log", next.size);
            return refuse(Code::Malformed, detail);
        }
        if self.log_root_at(next.size)? != next.root {
            return refuse(Code::Malformed, format!("the log has another root at size {}", next.size));
        }
        Ok(())
    }

    pub(crate) fn publish_note(&mut self, cx: Context<'_>, signed: &SignedNote) -> Outcome<MetaReply> {
        if signed.note.len() > NOTE_BYTES_MAX {
            return refuse(Code::Malformed, format!("a note has at most {NOTE_BYTES_MAX} bytes"));
        }
        if signed.policy.len() > POLICY_BYTES_MAX {
            return refuse(Code::Malformed, format!("a trust policy has at most {POLICY_BYTES_MAX} bytes"));
        }
        let Some(mut row) = self.checkpoint_row()?.filter(|row| row.checkpoint().head == signed.head) else {
            return refuse(Code::StaleCheckpoint, format!("size {} is not the newest checkpoint", signed.head.size));
        };
        let (size, root) = (signed.head.size, HashRow(signed.head.root));
        row.published = Some(PublishedRow { size, root, note: signed.note.clone(), policy: signed.policy.clone() });
        self.put_row(&CHECKPOINT, &row)?;
        self.note_policy(cx, &signed.policy)?;
        Ok(MetaReply::Done)
    }

    /// Logs a policy that this anchor did not publish under before. By anchor: two with keys of their own take turns,
    /// and each turn would let the log grow, and so call for the next.
    fn note_policy(&mut self, cx: Context<'_>, policy: &[u8]) -> Outcome<()> {
        let mut known: PoliciesRow = load(self.rows, &POLICIES)?.unwrap_or_default();
        let (node, hash) = (cx.origin.node, HashRow(*blake3::hash(policy).as_bytes()));
        if known.by.contains(&(node, hash)) {
            return Ok(());
        }
        known.by.retain(|(of, _)| *of != node);
        if known.by.len() >= ANCHORS_MAX {
            known.by.remove(0);
        }
        known.by.push((node, hash));
        self.put_row(&POLICIES, &known)?;
        self.log_act(cx, POLICY_SUBJECT, &acts::policy_changed(policy))
    }
}
