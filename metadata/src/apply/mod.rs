//! The state machine: pure `apply(entry) -> reply`. No clock, no randomness, no IO besides the rows of
//! one batch, so that every replica that applies the same entries holds the same rows, however they
//! were batched. Called by [`crate::raft`]; rows are described in [`crate::keyspace`].
//!
//! A command either passes all its checks and then writes, or is refused and writes nothing: the
//! batch also holds other commands' rows, so nothing can be rolled back.

mod batch;
mod data;
mod guard;
mod replies;
mod root;

use root::{SaidOfItself, acts};

pub(crate) use batch::edge_of;
pub use batch::{ApplyOptions, Batch, TileRows};
pub(crate) use data::erasure_is_due;

use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::{Command, CommandEnvelope, LogCommand, MetaReply, Origin};
use stele_types::ids::Salt;
use stele_types::map::SlotMove;
use stele_types::seam::UnixMillis;

use crate::kv::KvError;
use crate::rows::UploadRow;

/// Why a command has no reply.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command is refused: that is its reply.
    Refused(RpcError),
    /// The store failed: the group stops.
    Broken(KvError),
}

impl From<KvError> for Failure {
    fn from(error: KvError) -> Self {
        Self::Broken(error)
    }
}

impl From<RpcError> for Failure {
    fn from(error: RpcError) -> Self {
        Self::Refused(error)
    }
}

pub(crate) type Outcome<T> = Result<T, Failure>;

/// Refuses a command.
pub(crate) fn refuse<T>(code: Code, detail: impl Into<String>) -> Outcome<T> {
    Err(Failure::Refused(RpcError::new(code, detail)))
}

/// What apply knows of a command besides its contents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    /// Commit time.
    pub(crate) now: UnixMillis,
    /// Who asked.
    pub(crate) origin: &'a Origin,
    /// For the record of what is done to the cluster itself.
    pub(crate) salt: Option<Salt>,
}

impl Context<'_> {
    /// The salt of an event about the cluster itself.
    ///
    /// # Errors
    /// There is none, so that nothing can be logged and nothing may be done.
    pub(crate) fn salt(&self) -> Outcome<Salt> {
        match self.salt {
            Some(salt) => Ok(salt),
            None => refuse(Code::Malformed, "what is done to the cluster is logged, and this command has no salt"),
        }
    }
}

impl Batch<'_> {
    /// Applies one command proposed at `proposed`.
    ///
    /// # Errors
    /// The store failed; the batch must be dropped and the group stopped. A refusal is a reply.
    pub fn apply(
        &mut self,
        proposed: UnixMillis,
        envelope: &CommandEnvelope,
    ) -> Result<Result<MetaReply, RpcError>, KvError> {
        let now = self.advance_clock(proposed);
        let answer = match envelope.lease {
            Some(lease) => self.apply_under_lease(now, lease, envelope),
            None => self.apply_without_lease(now, envelope),
        };
        match answer {
            Ok(reply) => Ok(Ok(reply)),
            Err(Failure::Refused(error)) => Ok(Err(error)),
            Err(Failure::Broken(error)) => Err(error),
        }
    }

    fn apply_without_lease(&mut self, now: UnixMillis, envelope: &CommandEnvelope) -> Outcome<MetaReply> {
        if needs_lease(&envelope.command) {
            return refuse(Code::NoLease, "commands on objects need a lease: take one, then repeat");
        }
        self.dispatch(Context { now, origin: &envelope.origin, salt: envelope.salt }, &envelope.command)
    }

    pub(crate) fn dispatch(&mut self, cx: Context<'_>, command: &Command) -> Outcome<MetaReply> {
        if acts::is_act(command) {
            cx.salt()?;
        }
        match command {
            Command::InitCluster { cluster, drives, map } => self.init_cluster(cx, *cluster, drives, map),
            Command::SetDriveState { drive, state, reason } => self.set_drive_state(cx, *drive, *state, reason),
            Command::CreateJoinToken { id, secret_hash, role, ttl_ms } => {
                self.create_join_token(cx, *id, *secret_hash, (*role, *ttl_ms))
            }
            Command::RevokeJoinToken { id } => self.revoke_join_token(cx, *id),
            Command::RedeemJoinToken { id, secret_hash, node } => self.redeem_join_token(cx, *id, *secret_hash, node),
            Command::RegisterNode { node, addresses, zone, rack, drives } => {
                let said = SaidOfItself { addresses, zone, rack, drives };
                self.register_node(cx, *node, &said)
            }
            Command::SetNodeState { node, state } => self.set_node_state(cx, *node, *state),
            Command::PlanPlacement { scheme } => self.plan_placement(cx, *scheme),
            Command::MoveSlots { moves } => self.move_slots(cx, moves),
            Command::FlipSlot { pg, epoch, slot, to } => {
                self.flip_slot(cx, SlotMove { pg: *pg, epoch: *epoch, slot: *slot, to: *to })
            }
            Command::SetMaintenance { node, ttl_ms } => self.set_maintenance(cx, *node, *ttl_ms),
            Command::PauseRebalancing { paused } => self.pause_rebalancing(cx, *paused),
            Command::GrantLease { node, ttl_ms } => self.grant_lease(cx, *node, *ttl_ms),
            Command::RenewLease { lease, ttl_ms, lowest_open } => self.renew_lease(cx, *lease, *ttl_ms, *lowest_open),
            Command::ReleaseLease { lease } => self.release_lease(*lease),
            Command::AdvanceEpoch => self.advance_epoch(),
            Command::Fence { limit } => self.fence(cx, *limit),
            Command::CreateBucket { name, object_lock } => self.create_bucket(cx, name, *object_lock),
            Command::ConfigureBucket { name, change } => self.configure_bucket(cx, name, change),
            Command::DeleteBucket { name } => self.delete_bucket(cx, name),
            Command::StageReferences { guard, owner, packs } => self.stage_references(guard, owner, packs),
            Command::PutVersion(put) => self.put_version(cx, put),
            Command::Delete { guard, items } => self.delete(cx, guard, items),
            Command::CreateUpload { guard, key, upload, headers, checksum, tags, lock } => {
                let (headers, tags) = (headers.clone(), tags.clone());
                let row = UploadRow { initiated: cx.now, headers, checksum: *checksum, tags, lock: *lock };
                self.create_upload(cx, data::UploadAt { guard, key, upload: *upload }, row)
            }
            Command::PutPart { guard, key, upload, part, packs } => {
                let target = data::UploadAt { guard, key, upload: *upload };
                self.put_part(cx, target, part, packs)
            }
            Command::CompleteUpload(complete) => self.complete_upload(cx, complete),
            Command::AbortUpload { guard, key, upload } => {
                self.abort_upload(data::UploadAt { guard, key, upload: *upload })
            }
            Command::ChangeVersion(change) => self.change_version(cx, change),
            Command::AppendVersion(append) => self.append_version(cx, append),
            Command::RenameKey(rename) => self.rename_key(cx, rename),
            Command::Log(LogCommand::CommitCheckpoint { previous, next }) => {
                self.commit_checkpoint(cx, *previous, *next)
            }
            Command::Log(LogCommand::PublishNote(signed)) => self.publish_note(cx, signed),
            Command::Log(LogCommand::SaveChain { chain, expected, state }) => self.save_chain(chain, *expected, state),
            Command::Log(LogCommand::KeepAnchor(anchor)) => self.keep_anchor(anchor),
            Command::Log(LogCommand::Audit(step)) => self.log_audit(cx, step),
            Command::Log(LogCommand::SetEvidenceRetention { keep_ms }) => self.set_evidence_retention(cx, *keep_ms),
            Command::Log(LogCommand::Erase { max_entries, copies }) => self.erase(cx, *max_entries, copies),
            Command::Log(LogCommand::Archive(made)) => self.note_archive(made),
            Command::Log(LogCommand::MoveToArchive { number, section }) => self.move_to_archive(*number, *section),
            Command::Log(LogCommand::ArchiveAnchors(made)) => self.archive_anchors(made),
            Command::Log(LogCommand::Close { origin, head, next }) => self.close_log(cx, *head, (origin, next)),
            Command::Log(LogCommand::WantTile { level, index }) => self.want_tile(*level, *index),
            Command::Log(LogCommand::RestoreTile { index, leaves, tiles }) => self.restore_tile(*index, leaves, tiles),
            Command::Gc(command) => self.gc(cx, command),
            Command::Trash(command) => self.trash(cx, command),
            Command::Backup(command) => self.backup(cx, command),
            Command::SetAnswerKey { node, key } => self.set_answer_key(cx, *node, key),
        }
    }
}

fn needs_lease(command: &Command) -> bool {
    match command {
        Command::InitCluster { .. }
        | Command::SetDriveState { .. }
        | Command::CreateJoinToken { .. }
        | Command::RevokeJoinToken { .. }
        | Command::RedeemJoinToken { .. }
        | Command::RegisterNode { .. }
        | Command::SetAnswerKey { .. }
        | Command::SetNodeState { .. }
        | Command::PlanPlacement { .. }
        | Command::MoveSlots { .. }
        | Command::FlipSlot { .. }
        | Command::SetMaintenance { .. }
        | Command::PauseRebalancing { .. }
        | Command::GrantLease { .. }
        | Command::RenewLease { .. }
        | Command::ReleaseLease { .. }
        | Command::AdvanceEpoch
        | Command::Fence { .. }
        | Command::CreateBucket { .. }
        | Command::ConfigureBucket { .. }
        | Command::DeleteBucket { .. }
        | Command::Gc(_)
        | Command::Trash(_)
        | Command::Backup(_)
        | Command::Log(_) => false,
        Command::StageReferences { .. }
        | Command::PutVersion(_)
        | Command::Delete { .. }
        | Command::CreateUpload { .. }
        | Command::PutPart { .. }
        | Command::CompleteUpload(_)
        | Command::AbortUpload { .. }
        | Command::ChangeVersion(_)
        | Command::AppendVersion(_)
        | Command::RenameKey(_) => true,
    }
}

#[cfg(test)]
mod tests;
