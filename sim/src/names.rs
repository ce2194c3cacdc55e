//! Short names of messages, for the trace.

use stele_rpc::meta::{Command, GcCommand, LogCommand, MetaReply, MetaRequest, TrashCommand};
use stele_rpc::storage::{StorageReply, StorageRequest};
use stele_rpc::transport::{Message, Reply};

/// What a request asks.
pub(crate) fn message_name(message: &Message) -> &'static str {
    match message {
        Message::Meta(request) => meta_name(request),
        Message::Storage(request) => storage_name(request),
        Message::Raft(_) => "raft",
        Message::Renew(_) => "Renew",
    }
}

fn meta_name(request: &MetaRequest) -> &'static str {
    match request {
        MetaRequest::ClusterMap { .. } => "ClusterMap",
        MetaRequest::Bucket { .. } => "Bucket",
        MetaRequest::Buckets { .. } => "Buckets",
        MetaRequest::Resolve { .. } => "Resolve",
        MetaRequest::Packs { .. } => "Packs",
        MetaRequest::List { .. } => "List",
        MetaRequest::ListVersions { .. } => "ListVersions",
        MetaRequest::ListUploads { .. } => "ListUploads",
        MetaRequest::Parts { .. } => "Parts",
        MetaRequest::ReferencedPacks { .. } => "ReferencedPacks",
        MetaRequest::Status => "Status",
        MetaRequest::Heartbeat(_) => "Heartbeat",
        MetaRequest::Liveness => "Liveness",
        MetaRequest::Peers => "Peers",
        MetaRequest::JoinTokens => "JoinTokens",
        MetaRequest::Log(_) => "Log",
        MetaRequest::AnswerKeys => "AnswerKeys",
        MetaRequest::GcStatus => "GcStatus",
        MetaRequest::Trash(_) => "Trash",
        MetaRequest::Command(envelope) => command_name(&envelope.command),
    }
}

fn command_name(command: &Command) -> &'static str {
    match command {
        Command::InitCluster { .. } => "InitCluster",
        Command::SetDriveState { .. } => "SetDriveState",
        Command::CreateJoinToken { .. } => "CreateJoinToken",
        Command::RevokeJoinToken { .. } => "RevokeJoinToken",
        Command::RedeemJoinToken { .. } => "RedeemJoinToken",
        Command::RegisterNode { .. } => "RegisterNode",
        Command::SetAnswerKey { .. } => "SetAnswerKey",
        Command::SetNodeState { .. } => "SetNodeState",
        Command::PlanPlacement { .. } => "PlanPlacement",
        Command::MoveSlots { .. } => "MoveSlots",
        Command::FlipSlot { .. } => "FlipSlot",
        Command::SetMaintenance { .. } => "SetMaintenance",
        Command::PauseRebalancing { .. } => "PauseRebalancing",
        Command::Backup(_) => "Backup",
        Command::GrantLease { .. } => "GrantLease",
        Command::RenewLease { .. } => "RenewLease",
        Command::ReleaseLease { .. } => "ReleaseLease",
        Command::AdvanceEpoch => "AdvanceEpoch",
        Command::Fence { .. } => "Fence",
        Command::CreateBucket { .. } => "CreateBucket",
        Command::ConfigureBucket { .. } => "ConfigureBucket",
        Command::DeleteBucket { .. } => "DeleteBucket",
        Command::StageReferences { .. } => "StageReferences",
        Command::PutVersion(_) => "PutVersion",
        Command::Delete { .. } => "DeleteKeys",
        Command::CreateUpload { .. } => "CreateUpload",
        Command::PutPart { .. } => "PutPart",
        Command::CompleteUpload(_) => "CompleteUpload",
        Command::AbortUpload { .. } => "AbortUpload",
        Command::ChangeVersion(_) => "ChangeVersion",
        Command::AppendVersion(_) => "AppendVersion",
        Command::RenameKey(_) => "RenameKey",
        Command::Gc(GcCommand::Begin { .. }) => "BeginGc",
        Command::Gc(GcCommand::Finish(_)) => "FinishGc",
        Command::Trash(TrashCommand::Keep { .. }) => "KeepTrash",
        Command::Trash(TrashCommand::Restore(_)) => "RestoreVersion",
        Command::Trash(TrashCommand::Purge { .. }) => "PurgeTrash",
        Command::Trash(TrashCommand::Expire { .. }) => "ExpireTrash",
        Command::Log(LogCommand::CommitCheckpoint { .. }) => "CommitCheckpoint",
        Command::Log(LogCommand::PublishNote(_)) => "PublishNote",
        Command::Log(LogCommand::SetEvidenceRetention { .. }) => "SetEvidenceRetention",
        Command::Log(LogCommand::Erase { .. }) => "Erase",
        Command::Log(LogCommand::SaveChain { .. }) => "SaveChain",
        Command::Log(LogCommand::KeepAnchor(_)) => "KeepAnchor",
        Command::Log(LogCommand::Audit(_)) => "Audit",
        Command::Log(LogCommand::Close { .. }) => "CloseLog",
        Command::Log(LogCommand::Archive(_)) => "Archive",
        Command::Log(LogCommand::MoveToArchive { .. }) => "MoveToArchive",
        Command::Log(LogCommand::ArchiveAnchors(_)) => "ArchiveAnchors",
        Command::Log(LogCommand::WantTile { .. }) => "WantTile",
        Command::Log(LogCommand::RestoreTile { .. }) => "RestoreTile",
    }
}

fn storage_name(request: &StorageRequest) -> &'static str {
    match request {
        StorageRequest::StoreShard { .. } => "StoreShard",
        StorageRequest::ReadShard { .. } => "ReadShard",
        StorageRequest::DescribePack { .. } => "DescribePack",
        StorageRequest::Inventory { .. } => "Inventory",
        StorageRequest::Condemn { .. } => "Condemn",
        StorageRequest::Pardon { .. } => "Pardon",
        StorageRequest::Delete { .. } => "DeletePacks",
        StorageRequest::Drives => "Drives",
        StorageRequest::AcknowledgePg(_) => "AcknowledgePg",
        StorageRequest::Encodings { .. } => "Encodings",
        StorageRequest::TakeChallenge(_) => "TakeChallenge",
        StorageRequest::Challenge(_) => "Challenge",
        StorageRequest::Groups { .. } => "Groups",
        StorageRequest::Holds { .. } => "Holds",
        StorageRequest::DeleteStrays { .. } => "DeleteStrays",
    }
}

/// What an answer is.
pub(crate) fn reply_name(reply: &Reply) -> &'static str {
    match reply {
        Reply::Meta(MetaReply::Committed(_)) => "Committed",
        Reply::Meta(MetaReply::Version { .. }) => "Version",
        Reply::Meta(MetaReply::Keys(_)) => "Keys",
        Reply::Meta(MetaReply::Lease(_)) => "Lease",
        Reply::Meta(MetaReply::Epochs { .. }) => "Epochs",
        Reply::Meta(MetaReply::Deleted(_)) => "Deleted",
        Reply::Meta(MetaReply::Referenced { .. }) => "Referenced",
        Reply::Renewed { .. } => "Renewed",
        Reply::Meta(_) => "meta reply",
        Reply::Storage(StorageReply::Bytes) => "Bytes",
        Reply::Storage(StorageReply::Inventory { .. }) => "Inventory",
        Reply::Storage(StorageReply::Packs(_)) => "Packs",
        Reply::Storage(_) => "storage reply",
        Reply::Raft(_) => "raft reply",
    }
}
