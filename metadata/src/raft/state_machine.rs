//! openraft's state machine over [`MetaKv`]: feeds committed entries to [`crate::apply`], one store
//! transaction per batch, and answers waiting clients after it. Rows are synced only for a snapshot,
//! which openraft builds before it purges log entries, so every purged entry is durable here.

use std::io;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::type_config::alias::SnapshotOf;
use openraft::{EntryPayload, OptionalSend};
use serde::{Deserialize, Serialize};
use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::CommandEnvelope;
use tokio::sync::watch;

use super::snapshot_handle::SnapshotHandle;
use super::types::{Applied, Entry, LogId, SnapshotMeta, StoredMembership, TypeConfig};
use crate::apply::{ApplyOptions, Batch};
use crate::executor::Executor;
use crate::keyspace::APPLIED;
use crate::kv::{KvResult, KvTxn, MetaKv};
use crate::rows;

/// Entries that share one store transaction at most.
const BATCH_MAX: usize = 1024;

/// What the rows say about themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AppliedRow {
    pub(super) last: Option<LogId>,
    pub(super) membership: StoredMembership,
}

/// The state machine of one group.
pub(crate) struct StateMachine {
    kv: Arc<dyn MetaKv>,
    options: ApplyOptions,
    executor: Executor,
    applied: AppliedRow,
    snapshot: Option<SnapshotMeta>,
    progress: watch::Sender<u64>,
}

impl StateMachine {
    /// A state machine on `kv`; `progress` tells the last applied index.
    pub(crate) fn open(
        kv: Arc<dyn MetaKv>,
        options: ApplyOptions,
        executor: Executor,
        progress: watch::Sender<u64>,
    ) -> KvResult<Self> {
        let applied: AppliedRow = rows::load(&*kv.view()?, &APPLIED)?.unwrap_or_default();
        progress.send_replace(applied.last.as_ref().map_or(0, |last| last.index));
        Ok(Self { kv, options, executor, applied, snapshot: None, progress })
    }

    fn apply_batch(&mut self, entries: Vec<EntryResponder<TypeConfig>>) -> KvResult<()> {
        let mut answers: Vec<(Option<ApplyResponder<TypeConfig>>, Applied)> = Vec::with_capacity(entries.len());
        let mut applied = self.applied.clone();
        let (entries, responders): (Vec<Entry>, Vec<_>) = entries.into_iter().unzip();
        let mut responders = responders.into_iter();
        let options = self.options;
        self.kv.write(&mut |txn| {
            let mut batch = Batch::begin(txn, options)?;
            for entry in &entries {
                let answer = apply_entry(&mut batch, entry, &mut applied)?;
                answers.push((responders.next().flatten(), answer));
            }
            batch.finish()?;
            save_applied(txn, &applied)
        })?;
        self.applied = applied;
        self.progress.send_replace(self.applied.last.as_ref().map_or(0, |last| last.index));
        for (responder, answer) in answers {
            if let Some(responder) = responder {
                responder.send(answer);
            }
        }
        Ok(())
    }

    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.applied.last, last_membership: self.applied.membership.clone() }
    }
}

fn save_applied(txn: &mut dyn KvTxn, applied: &AppliedRow) -> KvResult<()> {
    txn.put(&APPLIED, &rows::encode(applied))
}

fn apply_entry(batch: &mut Batch<'_>, entry: &Entry, applied: &mut AppliedRow) -> KvResult<Applied> {
    applied.last = Some(entry.log_id());
    match &entry.payload {
        EntryPayload::Blank => Ok(Applied(None)),
        EntryPayload::Membership(membership) => {
            applied.membership = StoredMembership::new(Some(entry.log_id()), membership.clone());
            Ok(Applied(None))
        }
        EntryPayload::Normal(proposal) => match rmp_serde::from_slice::<CommandEnvelope>(&proposal.envelope) {
            Ok(envelope) => Ok(Applied(Some(batch.apply(proposal.time, &envelope)?))),
            // Written by a newer version: every replica of this version refuses it alike.
            Err(error) => {
                let detail = format!("the command can't be decoded: {error}; run the same version on all nodes");
                Ok(Applied(Some(Err(RpcError::new(Code::Malformed, detail)))))
            }
        },
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotHandle;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied.last, self.applied.membership.clone()))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut chunks = entries.ready_chunks(BATCH_MAX);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.into_iter().collect::<Result<Vec<_>, _>>()?;
            self.apply_batch(chunk)?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        self.snapshot = Some(self.meta());
        Builder { kv: Arc::clone(&self.kv), executor: self.executor, meta: self.meta(), view: self.kv.view() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotHandle) -> Result<(), io::Error> {
        let kv = Arc::clone(&self.kv);
        let applied = AppliedRow { last: meta.last_log_id, membership: meta.last_membership.clone() };
        let row = applied.clone();
        self.executor
            .blocking(move || match snapshot {
                SnapshotHandle::View(view) => {
                    kv.replace_all(&**view)?;
                    kv.write(&mut |txn| save_applied(txn, &row))?;
                    kv.sync()
                }
                SnapshotHandle::Staged => kv.install_staged(&mut |txn| save_applied(txn, &row)),
            })
            .await??;
        self.applied = applied;
        self.snapshot = Some(meta.clone());
        self.progress.send_replace(self.applied.last.as_ref().map_or(0, |last| last.index));
        Ok(())
    }

    /// A snapshot is always the rows as they are now: it is made in O(1), so none is kept, and no old
    /// view pins space.
    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<TypeConfig, SnapshotHandle>>, io::Error> {
        if self.snapshot.is_none() {
            return Ok(None);
        }
        let view = SnapshotHandle::View(Arc::new(self.kv.view()?));
        Ok(Some(openraft::Snapshot { meta: self.meta(), snapshot: view }))
    }
}

/// Syncs the rows and hands out the view taken when it was made.
pub(crate) struct Builder {
    kv: Arc<dyn MetaKv>,
    executor: Executor,
    meta: SnapshotMeta,
    view: KvResult<crate::kv::View>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotHandle;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, SnapshotHandle>, io::Error> {
        let kv = Arc::clone(&self.kv);
        self.executor.blocking(move || kv.sync()).await??;
        let view = std::mem::replace(&mut self.view, Err(crate::kv::KvError::Closed))?;
        Ok(openraft::Snapshot { meta: self.meta.clone(), snapshot: SnapshotHandle::View(Arc::new(view)) })
    }
}
