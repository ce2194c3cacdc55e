//! The end of a move: the slot becomes the incoming drive's alone once that holds everything. DESIGN.md section 6.
//!
//! | step | makes sure that |
//! |---|---|
//! | F1 filled | the last look found every shard of a referenced pack on the incoming drive, or made it there |
//! | F2 acknowledge | every member that serves refuses stores at rows older than the move |
//! | F3 barrier | a write that starts from now on stores at the newer row: the epoch is raised |
//! | F4 fence | of the writes that started before, none can commit any more |
//! | F5 look again | all that is referenced now is on the incoming drive |
//! | F6 flip | at the epoch of the row that F5 looked at |
//!
//! A member that does not serve can't take a pack by itself: packs have at least m + 1 shards, so one of them goes to
//! a member that refuses the old row, as long as at most m members are silent.

use std::collections::BTreeSet;

use bytes::Bytes;
use stele_rpc::client::unexpected;
use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::{Command, CommandEnvelope, MetaReply, Origin};
use stele_rpc::storage::{PgRef, StorageRequest};
use stele_rpc::transport::{Class, Request};
use stele_types::ids::{CommandSequence, DriveId, Epoch, NodeId, PgId, Salt};
use stele_types::map::PgRow;
use stele_types::seam::random_bytes;

use super::{Cluster, RepairReport, RepairWorker};

/// A slot whose incoming drive holds everything, as far as the last look saw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    pub(super) to: DriveId,
    /// Writes with a start epoch below it may have stored at an older row. `None` before F3.
    pub(super) barrier: Option<Epoch>,
}

/// The row, if its slot still moves to that drive.
fn moving(cluster: &Cluster, pg: PgId, slot: u8, ready: Ready) -> Option<&PgRow> {
    let row = cluster.map.pg(pg)?;
    (row.slots.get(usize::from(slot))?.incoming == Some(ready.to)).then_some(row)
}

impl RepairWorker {
    /// Takes every slot that is ready as far as it gets now. What is left is tried again at the next look.
    pub(super) async fn finish_moves(&mut self, cluster: &Cluster, report: &mut RepairReport) {
        let mine = |row: &PgRow| cluster.is_of(row, self.node);
        self.ready.retain(|(pg, slot), ready| moving(cluster, *pg, *slot, *ready).is_some_and(mine));
        if self.ready.is_empty() {
            return;
        }
        let fence = match self.fence_of_moves(cluster, report).await {
            Ok(fence) => fence,
            Err(error) => {
                let why = error.to_string();
                return report.unfinished.extend(self.ready.keys().map(|(pg, slot)| (*pg, *slot, why.clone())));
            }
        };
        for ((pg, slot), ready) in self.ready.clone() {
            let Some(row) = moving(cluster, pg, slot, ready) else { continue };
            let Some(barrier) = ready.barrier else { continue };
            if fence.0.saturating_add(1) < barrier.0 && !self.config.sabotage.flips_without_a_fence() {
                let why = format!("writes that started before epoch {barrier} are still open (fence {fence})");
                report.unfinished.push((pg, slot, why));
                continue;
            }
            match self.flip(cluster, row, slot, ready.to).await {
                Ok(()) => {
                    report.moved += 1;
                    self.metrics.moved_slots.inc();
                }
                Err(error) => report.unfinished.push((pg, slot, error.to_string())),
            }
            // Done, or to be looked at anew.
            self.ready.remove(&(pg, slot));
        }
    }

    /// F2 to F4. Slots that every member acknowledged get a barrier; returns the fence.
    async fn fence_of_moves(&mut self, cluster: &Cluster, report: &mut RepairReport) -> Result<Epoch, RpcError> {
        let mut acknowledged = BTreeSet::new();
        for ((pg, slot), ready) in &self.ready {
            let Some(row) = moving(cluster, *pg, *slot, *ready).filter(|_| ready.barrier.is_none()) else { continue };
            match self.acknowledge(cluster, row).await {
                Ok(()) => drop(acknowledged.insert((*pg, *slot))),
                Err(error) => report.unfinished.push((*pg, *slot, error.to_string())),
            }
        }
        if !acknowledged.is_empty() {
            let (_, epoch) = self.epochs(Command::AdvanceEpoch).await?;
            for (_, ready) in self.ready.iter_mut().filter(|(at, _)| acknowledged.contains(at)) {
                ready.barrier = Some(epoch);
            }
        }
        match self.ready.values().filter_map(|ready| ready.barrier).max() {
            Some(barrier) => {
                let limit = Epoch(barrier.0.saturating_sub(1));
                self.epochs(Command::Fence { limit }).await.map(|(fence, _)| fence)
            }
            None => Ok(Epoch(0)),
        }
    }

    /// F2. Each node with a drive of the PG that serves says that it refuses rows older than `row`.
    async fn acknowledge(&self, cluster: &Cluster, row: &PgRow) -> Result<(), RpcError> {
        let silent = row.slots.iter().filter(|slot| slot.holders().any(|drive| !cluster.serving.contains(&drive)));
        let (silent, most) = (silent.count(), row.scheme.m());
        if silent > most {
            let text = format!("{silent} slots of placement group {} do not serve; at most {most} may", row.id);
            return Err(RpcError::new(Code::Unreachable, text));
        }
        let serving = row.slots.iter().flat_map(|slot| slot.holders()).filter(|drive| cluster.serving.contains(drive));
        let nodes: BTreeSet<NodeId> =
            serving.filter_map(|drive| cluster.map.drive(drive)).map(|drive| drive.node).collect();
        for node in nodes {
            let asked = StorageRequest::AcknowledgePg(PgRef { pg: row.id, epoch: row.epoch });
            let request = Request::storage(asked, Bytes::new(), self.config.timeout);
            self.storage.call_as(Class::Repair, node, request).await?;
        }
        Ok(())
    }

    /// F5 and F6.
    async fn flip(&self, cluster: &Cluster, row: &PgRow, slot: u8, to: DriveId) -> Result<(), RpcError> {
        let (plan, _) = self.look(cluster, row).await?;
        let missing = plan.jobs.iter().flat_map(|job| &job.missing).any(|(_, on)| *on == to);
        if missing || !plan.filled.contains(&(slot, to)) {
            let text = format!("drive {to} does not hold all of slot {slot}: it is filled first");
            return Err(RpcError::new(Code::NoSuchPack, text));
        }
        self.command(Command::FlipSlot { pg: row.id, epoch: row.epoch, slot, to }).await.map(drop)
    }

    /// Fence and epoch after a command on them.
    async fn epochs(&self, command: Command) -> Result<(Epoch, Epoch), RpcError> {
        match self.command(command).await? {
            MetaReply::Epochs { fence, epoch } => Ok((fence, epoch)),
            _ => Err(unexpected("to a command on epochs")),
        }
    }

    async fn command(&self, command: Command) -> Result<MetaReply, RpcError> {
        let envelope = CommandEnvelope {
            lease: None,
            sequence: CommandSequence(0),
            lowest_open: CommandSequence(0),
            origin: Origin { principal: "stele".into(), source: String::new(), node: self.node },
            salt: Some(Salt::from_bytes(random_bytes(&*self.rng))),
            command,
        };
        self.meta.command(envelope, self.config.timeout).await
    }
}
