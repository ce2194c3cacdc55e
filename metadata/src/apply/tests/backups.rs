//! Backups, what waits for them, and what a restore changes.

use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::{
    BackupCommand, BackupMade, BackupState, Command, Compared, LogCommand, MetaReply, MetaRequest, RestoredFrom,
    TreeHead,
};
use stele_types::ids::{ClusterId, Epoch};

use crate::keyspace::{CHECKPOINT, RESTORE, Tag};
use crate::rows::encode;
use crate::testing::Machine;

fn founded() -> Machine {
    let mut m = Machine::new();
    let cluster = ClusterId::from_bytes([1; 16]);
    m.cluster(Command::InitCluster { cluster, drives: Vec::new(), map: Box::default() }).unwrap();
    m
}

fn backup(m: &mut Machine, command: BackupCommand) -> Result<MetaReply, RpcError> {
    m.cluster(Command::Backup(command))
}

fn state(m: &Machine) -> BackupState {
    match m.read(&MetaRequest::Status) {
        Ok(MetaReply::Status(status)) => status.backups,
        other => panic!("{other:?}"),
    }
}

fn made(index: u64, fence: u64) -> BackupCommand {
    let name = format!("c/{index}.stele-backup");
    BackupCommand::Made(Box::new(BackupMade {
        name,
        hash: [u8::try_from(index).unwrap(); 32],
        index,
        fence: Epoch(fence),
        ..BackupMade::default()
    }))
}

/// Raises the epoch and fences it.
fn fence(m: &mut Machine) -> Result<u64, RpcError> {
    m.cluster(Command::AdvanceEpoch)?;
    match m.cluster(Command::Fence { limit: Epoch(u64::MAX) })? {
        MetaReply::Epochs { fence, .. } => Ok(fence.0),
        other => panic!("{other:?}"),
    }
}

fn admitted(m: &mut Machine, condemned: u64) -> u64 {
    match backup(m, BackupCommand::AdmitDeletion { condemned: Epoch(condemned) }) {
        Ok(MetaReply::Epochs { fence, .. }) => fence.0,
        other => panic!("{other:?}"),
    }
}

fn log(m: &Machine) -> TreeHead {
    match m.read(&MetaRequest::Status) {
        Ok(MetaReply::Status(status)) => TreeHead { size: status.log_size, root: status.log_root },
        other => panic!("{other:?}"),
    }
}

#[test]
fn packs_wait_for_a_backup_behind_their_condemnation_and_older_backups_are_superseded() {
    let mut m = founded();
    // A lease holds the fence back.
    let lease = m.lease;
    m.cluster(Command::ReleaseLease { lease }).unwrap();
    assert_eq!(admitted(&mut m, 7), 7, "without backups nothing waits");
    backup(&mut m, BackupCommand::Expect { interval_ms: Some(60_000) }).unwrap();
    let fences: Vec<u64> = (0..4).map(|_| fence(&mut m).unwrap()).collect();
    assert_eq!(admitted(&mut m, fences[0]), 0, "none was made yet");
    backup(&mut m, made(3, fences[1])).unwrap();
    assert_eq!(state(&m).superseded, Epoch(0));
    assert_eq!(
        admitted(&mut m, fences[3]),
        fences[1] - 1,
        "at the fence itself it may have been before the condemnation"
    );
    assert_eq!(state(&m).superseded, Epoch(0), "nothing is deleted yet");
    assert_eq!((admitted(&mut m, fences[0]), fences[1]), (fences[0], fences[0] + 1));
    assert_eq!(state(&m).superseded, Epoch(fences[0]));
    backup(&mut m, BackupCommand::Expect { interval_ms: None }).unwrap();
    assert_eq!(admitted(&mut m, fences[3]), fences[3]);
    assert_eq!(state(&m).superseded, Epoch(fences[3]), "backups of before are superseded all the same");
}

#[test]
fn backups_are_noted_once_in_order_and_in_the_log() {
    let mut m = founded();
    assert_eq!(backup(&mut m, BackupCommand::Want).unwrap_err().code, Code::Malformed);
    assert_eq!(backup(&mut m, BackupCommand::Expect { interval_ms: Some(1) }).unwrap_err().code, Code::Malformed);
    backup(&mut m, BackupCommand::Expect { interval_ms: Some(60_000) }).unwrap();
    backup(&mut m, BackupCommand::Want).unwrap();
    backup(&mut m, made(5, 0)).unwrap();
    let size = log(&m).size;
    backup(&mut m, made(5, 0)).unwrap();
    assert_eq!(log(&m).size, size, "a repeat says nothing");
    for late in [made(4, 0), made(9, 1000)] {
        assert_eq!(backup(&mut m, late).unwrap_err().code, Code::Malformed, "older, or from a fence that never was");
    }
    backup(&mut m, made(9, 0)).unwrap();
    assert_eq!((log(&m).size, state(&m).newest.unwrap().index), (size + 1, 9));
}

fn restored(m: &mut Machine) -> TreeHead {
    let log = log(m);
    let row = RestoredFrom { log, epoch: Epoch(1), ..RestoredFrom::default() };
    m.kv.write(&mut |txn| txn.put(&RESTORE, &encode(&row))).unwrap();
    log
}

#[test]
fn nothing_is_fenced_moved_or_deleted_before_a_restored_cluster_was_compared() {
    let mut m = founded();
    let found = Compared { packs: 5, ..Compared::default() };
    assert_eq!(backup(&mut m, BackupCommand::EndComparison(found)).unwrap_err().code, Code::Malformed, "not restored");
    restored(&mut m);
    assert_eq!(fence(&mut m).unwrap_err().code, Code::SweepRefused);
    assert_eq!(m.cluster(Command::MoveSlots { moves: Vec::new() }).unwrap_err().code, Code::SweepRefused);
    let deletion = BackupCommand::AdmitDeletion { condemned: Epoch(1) };
    assert_eq!(backup(&mut m, deletion).unwrap_err().code, Code::SweepRefused);
    for found in [Compared { lost: 1, ..found }, Compared { silent: 1, ..found }] {
        assert_eq!(backup(&mut m, BackupCommand::EndComparison(found)).unwrap_err().code, Code::Malformed);
    }
    assert_eq!(state(&m).restored.unwrap().compared, None);
    backup(&mut m, BackupCommand::EndComparison(found)).unwrap();
    fence(&mut m).unwrap();
    assert_eq!(state(&m).restored.unwrap().compared, Some(found));
}

#[test]
fn an_operator_can_accept_what_is_lost() {
    let mut m = founded();
    restored(&mut m);
    let lost = Compared { lost: 3, silent: 1, accepted: true, ..Compared::default() };
    backup(&mut m, BackupCommand::EndComparison(lost)).unwrap();
    fence(&mut m).unwrap();
}

#[test]
fn a_log_is_closed_only_if_a_restore_lost_what_was_signed() {
    let mut m = founded();
    let close = |head: TreeHead, origin: &str, next: &str| {
        Command::Log(LogCommand::Close { origin: origin.into(), head, next: next.into() })
    };
    let signed = TreeHead { size: 500, root: [9; 32] };
    assert_eq!(m.cluster(close(signed, "a", "a/2")).unwrap_err().code, Code::Malformed, "no restore");
    let at_restore = restored(&mut m);
    assert_eq!(m.cluster(close(at_restore, "a", "a/2")).unwrap_err().code, Code::StaleCheckpoint, "it has that one");
    m.bucket("more");
    let now = log(&m);
    assert_eq!(m.cluster(close(now, "a", "a/2")).unwrap_err().code, Code::StaleCheckpoint, "signed since");
    let commit = LogCommand::CommitCheckpoint { previous: None, next: now };
    m.cluster(Command::Log(commit)).unwrap();
    for (origin, next) in [("a", "a"), ("", "b"), ("a", "b c"), ("a", "b+c")] {
        assert_eq!(m.cluster(close(signed, origin, next)).unwrap_err().code, Code::Malformed, "{origin:?} {next:?}");
    }
    let other = TreeHead { root: [8; 32], ..now };
    assert_ne!(other.root, now.root);
    m.cluster(close(other, "a", "a/2")).unwrap();
    let size = log(&m).size;
    assert_eq!(size, now.size + 1);
    m.cluster(close(other, "a", "a/2")).unwrap();
    assert_eq!(log(&m).size, size, "a repeat says nothing");
    let closed = state(&m).closed;
    assert_eq!((closed.len(), closed[0].head, closed[0].next.as_str(), closed[0].entry), (1, other, "a/2", now.size));
    assert!(m.kv.view().unwrap().get(&CHECKPOINT).unwrap().is_none() && m.table(Tag::Chain).is_empty());
    assert_eq!(m.cluster(close(signed, "a", "a/3")).unwrap_err().code, Code::Malformed, "closed already");
    m.cluster(close(signed, "a/2", "a/3")).unwrap();
    assert_eq!(state(&m).closed.len(), 2);
}
