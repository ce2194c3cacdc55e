//! One storage node with a few model drives, and the placement groups on them.

use std::sync::Arc;
use std::time::Duration;

use stele_storage_node::config::{DriveConfig, NodeConfig, ReclaimConfig};
use stele_storage_node::exec::Executor;
use stele_storage_node::identity::{DriveIdentity, format};
use stele_storage_node::media::model::ModelDisk;
use stele_storage_node::metrics::Metrics;
use stele_storage_node::node::{DriveSpec, StorageNode};
use stele_types::ids::{ClusterId, DriveId, MapEpoch, NodeId, PgEpoch, PgId};
use stele_types::map::{ClusterMap, DriveRow, DriveState, PgRow, Slot};
use stele_types::scheme::Scheme;

const DRIVES: u8 = 4;
/// Placement groups.
pub(super) const GROUPS: u32 = 4;

fn drive_id(n: u32) -> DriveId {
    DriveId::from_bytes([u8::try_from(n % u32::from(DRIVES)).unwrap_or(0) + 1; 16])
}

pub(super) fn drives_of(pg: PgId) -> [DriveId; 2] {
    [drive_id(pg.0), drive_id(pg.0 + 1)]
}

pub(super) fn scheme() -> anyhow::Result<Scheme> {
    Scheme::new(1, 1).ok_or_else(|| anyhow::anyhow!("rs-1-1 is a scheme"))
}

pub(super) fn cluster_map(cluster: ClusterId) -> anyhow::Result<ClusterMap> {
    let drive = |n: u32| DriveRow {
        id: drive_id(n),
        node: NodeId(1),
        name: format!("drive-{n}"),
        state: DriveState::Ok,
        reason: String::new(),
        capacity: 0,
    };
    let scheme = scheme()?;
    let slots = |pg| drives_of(PgId(pg)).into_iter().map(|drive| Slot { drive, incoming: None }).collect();
    let pg = |n| PgRow { id: PgId(n), epoch: PgEpoch(1), scheme, slots: slots(n) };
    Ok(ClusterMap {
        rebalancing_paused: false,
        cluster: Some(cluster),
        epoch: MapEpoch(1),
        drives: (0..u32::from(DRIVES)).map(drive).collect(),
        pgs: (0..GROUPS).map(pg).collect(),
        nodes: Vec::new(),
    })
}

pub(super) async fn storage_node(cluster: ClusterId, seed: u64) -> anyhow::Result<Arc<StorageNode>> {
    let mut specs = Vec::new();
    for n in 0..u32::from(DRIVES) {
        let disk = ModelDisk::new(format!("drive-{n}"), 4 << 30, seed ^ u64::from(n));
        format(&*disk.media(), DriveIdentity { drive: drive_id(n), cluster }).await?;
        specs.push(DriveSpec { media: disk.media(), expect: Some(drive_id(n)) });
    }
    // Tight, so that what is on drives says what the sweep left.
    let reclaim =
        ReclaimConfig { interval: Duration::from_secs(1), garbage_percent_max: 6, ..ReclaimConfig::default() };
    let drive = DriveConfig { segment_bytes: 1 << 20, reserve_bytes: 8 << 20, reclaim, ..DriveConfig::default() };
    let config = NodeConfig { drive, verify_shard_roots: false, ..NodeConfig::new(NodeId(1), cluster) };
    Ok(StorageNode::open(config, specs, Executor::Tasks, Metrics::default()).await)
}
