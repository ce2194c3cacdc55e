//! openraft's own storage suite over this log store and state machine, and what it does not cover:
//! crashes, and what `read_committed` may say.

use std::sync::Arc;
use std::time::Duration;

use openraft::StorageError;
use openraft::entry::RaftEntry;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::testing::log::{StoreBuilder, Suite};
use tokio::sync::watch;

use super::log_store::OpenedLog;
use super::types::{Entry, LogId, TypeConfig};
use super::{LogStore, LogTuning, StateMachine};
use crate::apply::ApplyOptions;
use crate::executor::Executor;
use crate::kv::RedbKv;
use crate::model_disk::ModelDisk;

const INLINE: Executor = Executor::Inline { sync_delay: Duration::ZERO };

fn open_log(disk: &ModelDisk) -> OpenedLog {
    let tuning =
        LogTuning { node: 1, group: 0, cluster: None, fresh_incarnation: 7, cache_bytes: 1 << 20, executor: INLINE };
    LogStore::open(disk.storage().raft_log, tuning).unwrap()
}

struct Stores;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, ModelDisk> for Stores {
    async fn build(&self) -> Result<(ModelDisk, LogStore, StateMachine), StorageError<TypeConfig>> {
        let disk = ModelDisk::new(0);
        let store = open_log(&disk).store;
        let kv = Arc::new(RedbKv::open(disk.storage().state, 1 << 20).unwrap());
        let (progress, _) = watch::channel(0);
        let machine = StateMachine::open(kv, ApplyOptions::default(), INLINE, progress).unwrap();
        Ok((disk, store, machine))
    }
}

#[tokio::test]
async fn openraft_storage_suite() {
    Suite::<TypeConfig, _, _, _, _>::test_all(Stores).await.unwrap();
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(openraft::vote::leader_id_adv::LeaderId { term, node_id: 1 }, index)
}

fn blank(term: u64, index: u64) -> Entry {
    Entry::new_blank(id(term, index))
}

#[tokio::test(start_paused = true)]
async fn committed_is_never_clamped() {
    let disk = ModelDisk::new(1);
    let mut log = open_log(&disk).store;
    log.blocking_append((1..=5).map(|index| blank(1, index))).await.unwrap();
    log.save_committed(Some(id(1, 9))).await.unwrap();
    // A pointer alone makes no transaction; this append carries it.
    log.blocking_append([blank(1, 6)]).await.unwrap();
    assert_eq!(log.read_committed().await.unwrap(), None, "entry 9 is not in the log");
    log.save_committed(Some(id(1, 4))).await.unwrap();
    log.blocking_append([blank(1, 7)]).await.unwrap();
    assert_eq!(log.read_committed().await.unwrap(), Some(id(1, 4)));
    log.save_committed(Some(id(2, 5))).await.unwrap();
    log.blocking_append([blank(1, 8)]).await.unwrap();
    assert_eq!(log.read_committed().await.unwrap(), None, "entry 5 is of another term");
    log.purge(id(1, 6)).await.unwrap();
    log.save_committed(Some(id(1, 3))).await.unwrap();
    log.blocking_append([blank(1, 9)]).await.unwrap();
    assert_eq!(log.read_committed().await.unwrap(), Some(id(1, 3)), "it is purged, so it is committed");
}

/// Entries the log of a stopped node holds.
pub(crate) async fn stored_entries(disk: &ModelDisk) -> u64 {
    let OpenedLog { mut store, closer, .. } = open_log(disk);
    let state = store.get_log_state().await.unwrap();
    drop(store);
    closer.close().await;
    let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
    index(state.last_log_id) - index(state.last_purged_log_id)
}

/// Body of one entry with a command, as the fuzz target takes it.
pub(crate) fn entry_seed() -> Vec<u8> {
    rmp_serde::to_vec(&blank(1, 1)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn flipped_entries_are_refused() {
    use openraft::storage::RaftLogReader;
    let disk = ModelDisk::new(2);
    let OpenedLog { mut store, closer, .. } = open_log(&disk);
    store.blocking_append((1..=3).map(|index| blank(1, index))).await.unwrap();
    drop(store);
    closer.close().await;
    let db = redb::Builder::new().create_with_backend(disk.file("raft-log")).unwrap();
    let txn = db.begin_write().unwrap();
    {
        let mut table = txn.open_table(super::log_writer::ENTRIES).unwrap();
        table.insert((0, 2), [1, 2, 3, 4, 5].as_slice()).unwrap();
    }
    txn.commit().unwrap();
    drop(db);
    let mut reader = open_log(&disk).store.get_log_reader().await;
    assert!(reader.try_get_log_entries(1..2).await.is_ok());
    let error = reader.try_get_log_entries(1..4).await.unwrap_err();
    assert!(error.to_string().contains("entry 2 is damaged"), "{error}");
}
