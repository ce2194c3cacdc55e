//! Which role may ask what. Checked for each call, before the service sees it.

use std::sync::Arc;

use stele_types::role::Role;

use crate::meta::{BackupCommand, Command, LogCommand, MetaRequest};
use crate::storage::StorageRequest;
use crate::transport::Message;

/// Decides whether a peer of this role may ask this.
pub type Authorizer = Arc<dyn Fn(Role, &Message) -> bool + Send + Sync>;

/// What each role needs, and no more: gateways write and read shards but never sweep, storage nodes tell of
/// their drives but touch no object, the anchor speaks to metadata only, an operator's command line looks at
/// drives but does not change what is on them.
pub fn by_role(role: Role, message: &Message) -> bool {
    match message {
        Message::Meta(MetaRequest::Command(envelope)) => commands(role, &envelope.command),
        Message::Meta(_) => true,
        Message::Raft(_) => role == Role::Metadata,
        Message::Renew(_) => role != Role::Admin,
        Message::Storage(storage) => stores(role, storage),
    }
}

fn stores(role: Role, request: &StorageRequest) -> bool {
    let sweeps = matches!(
        request,
        StorageRequest::Condemn { .. }
            | StorageRequest::Pardon { .. }
            | StorageRequest::Delete { .. }
            | StorageRequest::DeleteStrays { .. }
    );
    match role {
        Role::StorageNode | Role::Metadata => true,
        Role::S3Gateway => !sweeps,
        Role::Anchor => false,
        Role::Admin => !sweeps && !matches!(request, StorageRequest::StoreShard { .. }),
    }
}

fn commands(role: Role, command: &Command) -> bool {
    let operator = matches!(
        command,
        Command::InitCluster { .. }
            | Command::CreateJoinToken { .. }
            | Command::RevokeJoinToken { .. }
            | Command::RedeemJoinToken { .. }
            | Command::SetNodeState { .. }
            | Command::PlanPlacement { .. }
            | Command::MoveSlots { .. }
            | Command::SetMaintenance { .. }
            | Command::PauseRebalancing { .. }
    );
    let registers = matches!(command, Command::RegisterNode { .. } | Command::SetAnswerKey { .. });
    let audits = matches!(command, Command::Log(LogCommand::Audit(_)));
    let keeps = matches!(command, Command::Log(LogCommand::SetEvidenceRetention { .. }));
    let archives = matches!(
        command,
        Command::Log(
            LogCommand::Erase { .. }
                | LogCommand::Archive(_)
                | LogCommand::MoveToArchive { .. }
                | LogCommand::ArchiveAnchors(_)
                | LogCommand::RestoreTile { .. }
        )
    );
    if keeps || archives {
        let other = if keeps { Role::Admin } else { Role::S3Gateway };
        return role == Role::Metadata || role == other;
    }
    // Only who looked at the drives can say that one holds all of a slot.
    if matches!(command, Command::FlipSlot { .. }) {
        return matches!(role, Role::Metadata | Role::StorageNode);
    }
    // A grace time that anybody could shorten would be none.
    if matches!(command, Command::Gc(_)) {
        return role == Role::Metadata;
    }
    // What users removed comes back only by an operator's hand.
    if matches!(command, Command::Trash(_)) {
        return matches!(role, Role::Metadata | Role::Admin);
    }
    if let Command::Backup(backup) = command {
        let asked = match backup {
            BackupCommand::Want | BackupCommand::EndComparison(_) => true,
            BackupCommand::Expect { interval_ms } => interval_ms.is_none(),
            BackupCommand::Made(_) | BackupCommand::AdmitDeletion { .. } => false,
        };
        return role == Role::Metadata || (role == Role::Admin && asked);
    }
    let closes = matches!(command, Command::Log(_)) && !audits;
    match role {
        Role::Admin => !closes,
        Role::Metadata => true,
        // Epochs and fences order the end of a slot's move after the writes that began before it.
        Role::StorageNode => {
            let fences = matches!(command, Command::AdvanceEpoch | Command::Fence { .. });
            registers || fences || matches!(command, Command::SetDriveState { .. })
        }
        Role::S3Gateway => !operator && !closes && !matches!(command, Command::SetDriveState { .. }),
        Role::Anchor => registers || closes,
    }
}

/// [`by_role`] as an [`Authorizer`].
pub fn standard() -> Authorizer {
    Arc::new(by_role)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::{AuditStep, AuditStepKind, CommandEnvelope, GcCommand, TrashCommand, TreeHead};
    use crate::storage::PgRef;
    use stele_types::ids::{CommandSequence, DriveId, NodeId, PgEpoch, PgId};
    use stele_types::map::{DriveState, NodeState};

    fn command(command: Command) -> Message {
        let sequence = CommandSequence(0);
        let origin = Default::default();
        let envelope = CommandEnvelope { lease: None, sequence, lowest_open: sequence, origin, salt: None, command };
        Message::Meta(MetaRequest::Command(Box::new(envelope)))
    }

    /// Roles that may ask it.
    fn allowed(message: &Message) -> Vec<Role> {
        Role::ALL.into_iter().filter(|role| by_role(*role, message)).collect()
    }

    #[test]
    fn each_role_may_do_what_it_needs() {
        use Role::{Admin, Anchor, Metadata, S3Gateway, StorageNode};
        assert_eq!(allowed(&command(Command::PlanPlacement { scheme: None })), [Metadata, Admin]);
        assert_eq!(allowed(&command(Command::MoveSlots { moves: Vec::new() })), [Metadata, Admin]);
        let maintenance = Command::SetMaintenance { node: NodeId(1), ttl_ms: 1 };
        assert_eq!(allowed(&command(maintenance)), [Metadata, Admin]);
        assert_eq!(allowed(&command(Command::PauseRebalancing { paused: true })), [Metadata, Admin]);
        assert_eq!(allowed(&command(Command::AdvanceEpoch)), [Metadata, StorageNode, S3Gateway, Admin]);
        let to = DriveId::from_bytes([1; 16]);
        let flip = Command::FlipSlot { pg: PgId(0), epoch: PgEpoch(1), slot: 0, to };
        assert_eq!(allowed(&command(flip)), [Metadata, StorageNode]);
        assert_eq!(allowed(&command(Command::Gc(GcCommand::Begin { grace_ms: 1 }))), [Metadata]);
        assert_eq!(allowed(&command(Command::Trash(TrashCommand::Keep { window_ms: None }))), [Metadata, Admin]);
        let state = Command::SetNodeState { node: NodeId(1), state: NodeState::Removed };
        assert_eq!(allowed(&command(state)), [Metadata, Admin]);
        let drive = DriveId::from_bytes([1; 16]);
        let state = Command::SetDriveState { drive, state: DriveState::Failed, reason: String::new() };
        assert_eq!(allowed(&command(state)), [Metadata, StorageNode, Admin]);
        assert_eq!(
            allowed(&command(Command::CreateBucket { name: "b".into(), object_lock: false })),
            [Metadata, S3Gateway, Admin]
        );
        let next = TreeHead { size: 1, root: [0; 32] };
        let close = Command::Log(LogCommand::CommitCheckpoint { previous: None, next });
        assert_eq!(allowed(&command(close)), [Metadata, Anchor]);
        let step = AuditStep { audit: [0; 16], kind: AuditStepKind::Report, digest: [0; 32] };
        assert_eq!(allowed(&command(Command::Log(LogCommand::Audit(step)))), [Metadata, S3Gateway, Admin]);
        let keep = LogCommand::SetEvidenceRetention { keep_ms: Some(1) };
        assert_eq!(allowed(&command(Command::Log(keep))), [Metadata, Admin]);
        let erase = LogCommand::Erase { max_entries: 1, copies: Vec::new() };
        assert_eq!(allowed(&command(Command::Log(erase))), [Metadata, S3Gateway]);
        let moved = LogCommand::MoveToArchive { number: 0, section: 0 };
        assert_eq!(allowed(&command(Command::Log(moved))), [Metadata, S3Gateway]);
        let want = LogCommand::WantTile { level: 0, index: 0 };
        assert_eq!(allowed(&command(Command::Log(want))), [Metadata, Anchor]);
        let key = Command::SetAnswerKey { node: NodeId(1), key: String::new() };
        assert_eq!(allowed(&command(key)), [Metadata, StorageNode, S3Gateway, Anchor, Admin]);
        assert_eq!(allowed(&Message::Meta(MetaRequest::Liveness)), Role::ALL);
        assert_eq!(allowed(&Message::Renew(bytes::Bytes::new())), [Metadata, StorageNode, S3Gateway, Anchor]);
        let (drive, pg) = (DriveId::from_bytes([1; 16]), PgRef { pg: PgId(0), epoch: PgEpoch(1) });
        let strays = StorageRequest::DeleteStrays { drive, pg, packs: Vec::new() };
        assert_eq!(allowed(&Message::Storage(strays)), [Metadata, StorageNode]);
        assert_eq!(allowed(&Message::Storage(StorageRequest::Drives)), [Metadata, StorageNode, S3Gateway, Admin]);
    }
}
