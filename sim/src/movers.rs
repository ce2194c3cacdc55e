//! Slots that move all the time, and the repair that fills them and hands them over: what a cluster does that grows,
//! shrinks and loses drives, without rest. Sweeps, which also take what the old drives keep, run beside it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use stele_rpc::client::{MetaClient, StorageClient};
use stele_rpc::meta::Command;
use stele_storage_node::metrics::Metrics;
use stele_storage_node::repair::{RepairConfig, RepairWorker};
use stele_types::ids::{DriveId, MapEpoch};
use stele_types::map::{ClusterMap, DriveState, SlotMove};

use crate::boot::{fetch_map, own};
use crate::net::Alive;
use crate::seed::SimRng;
use crate::topology::storage_node;
use crate::world::World;

/// Patience of who moves slots.
const PATIENCE: Duration = Duration::from_secs(2);
/// From one look of repair to the next.
const LOOK_EVERY: Duration = Duration::from_millis(900);

impl World {
    /// Repair on one storage node, as long as that lives.
    pub(crate) fn start_repair(self: &Arc<Self>, node: usize, alive: &Alive) {
        if !self.plan().moving {
            return;
        }
        let id = storage_node(node);
        let transport = self.net().transport(id, Arc::clone(alive));
        let meta = MetaClient::new(Arc::clone(&transport), self.meta_nodes());
        let rng = self.rng().stream(&format!("repair {node} {}", self.env().clock.micros()));
        let config = RepairConfig {
            page: u32::try_from(rng.between(1, 12)).unwrap_or(12),
            timeout: Duration::from_millis(1500),
            rate: 0,
            sabotage: self.drive_sabotage(),
        };
        let clients = (meta, StorageClient::new(transport));
        let worker = RepairWorker::new(id, clients, Arc::new(rng), config, Metrics::default());
        let env = Arc::clone(self.env());
        tokio::spawn(worker.run(LOOK_EVERY, move |report| match report {
            Ok(report) => {
                env.moved.fetch_add(report.moved, Ordering::Relaxed);
                env.trace.line(format_args!("repair {node}: {report:?}"));
            }
            Err(error) => env.trace.line(format_args!("repair {node}: {error}")),
        }));
    }

    /// Somebody who moves slots without rest.
    pub(crate) fn start_mover(self: &Arc<Self>, phase: u32) {
        if !self.plan().moving {
            return;
        }
        let (client, rng) = (self.operator(), self.rng().stream(&format!("mover {phase}")));
        let trace = self.env().trace.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(rng.between(100, 1500))).await;
                let Some(map) = fetch_map(&client, MapEpoch(0)).await else { continue };
                let Some(moved) = draw(&map, &rng) else { continue };
                let sent = client.command(own(Command::MoveSlots { moves: vec![moved] }, &rng), PATIENCE).await;
                trace.line(format_args!("{moved:?}: {:?}", sent.map(drop)));
            }
        });
    }
}

/// Some slot that may move, and a drive for it.
fn draw(map: &ClusterMap, rng: &SimRng) -> Option<SlotMove> {
    let row = map.pgs.get(rng.index(map.pgs.len().max(1)))?;
    let slot = rng.index(row.slots.len());
    if row.moving() >= row.moving_max() || row.slots.get(slot)?.incoming.is_some() {
        return None;
    }
    let usable = map.drives.iter().filter(|drive| drive.state == DriveState::Ok && !row.uses(drive.id));
    let free: Vec<DriveId> = usable.map(|drive| drive.id).collect();
    let to = *free.get(rng.index(free.len().max(1)))?;
    Some(SlotMove { pg: row.id, epoch: row.epoch, slot: u8::try_from(slot).ok()?, to })
}
