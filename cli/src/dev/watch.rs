//! Watches the drives: what the storage node says of them becomes drive states in the metadata, so
//! that gateways stop using a dead drive and status names it. Hands the cluster map back to the node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stele_rpc::client::{MetaClient, StorageClient, unexpected};
use stele_rpc::error::RpcError;
use stele_rpc::meta::{Command, CommandEnvelope, MetaReply, MetaRequest, Origin};
use stele_rpc::storage::{DriveStatus, StorageReply, StorageRequest};
use stele_s3_gateway::gateway::Gateway;
use stele_storage_node::node::{DriveHealth, StorageNode};
use stele_types::ids::{CommandSequence, DriveId, MapEpoch, NodeId, Salt};
use stele_types::map::{ClusterMap, DriveState};
use stele_types::seam::random_bytes;

use crate::real::OsRng;

/// Pause between two looks. A dead drive must be named within 10 s.
const INTERVAL: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(5);

/// A change to be made known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Change {
    pub(crate) drive: DriveId,
    pub(crate) state: DriveState,
    pub(crate) reason: String,
}

/// What must change in the map, given what the node says of its drives.
pub(crate) fn changes(map: &ClusterMap, node: NodeId, seen: &[DriveHealth]) -> Vec<Change> {
    let seen: BTreeMap<DriveId, &DriveHealth> = seen.iter().map(|health| (health.id, health)).collect();
    let wanted = |id: DriveId| match seen.get(&id) {
        None => (DriveState::Failed, "no directory of this node is this drive".to_owned()),
        Some(health) => (health.state, health.reason.clone()),
    };
    let served = map.drives.iter().filter(|row| row.node == node && row.state != DriveState::Removed);
    served
        .filter_map(|row| {
            let (state, reason) = wanted(row.id);
            let same = row.state == state && row.reason == reason;
            (!same).then_some(Change { drive: row.id, state, reason })
        })
        .collect()
}

/// One node's drives and those who should know of them.
#[derive(Debug)]
pub(crate) struct DriveWatch {
    pub(crate) meta: MetaClient,
    pub(crate) id: NodeId,
    pub(crate) node: Arc<StorageNode>,
    /// A gateway in the same process, told at once.
    pub(crate) gateway: Option<Arc<Gateway>>,
}

impl DriveWatch {
    /// Looks for ever: at each change the node tells, and from time to time.
    pub(crate) async fn run(self) {
        let mut states = self.node.watch_drives();
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut map = ClusterMap::default();
        loop {
            tokio::select! {
                biased;
                changed = states.changed() => if changed.is_err() { return },
                _ = tick.tick() => {}
            }
            let seen = states.borrow_and_update().clone();
            match self.look(&mut map, &seen).await {
                Ok(0) => {}
                Ok(_) => self.tell_gateway().await,
                Err(error) => tracing::warn!(%error, "drive states could not be compared; trying again"),
            }
        }
    }

    async fn tell_gateway(&self) {
        let Some(gateway) = &self.gateway else { return };
        if let Err(error) = gateway.refresh_map().await {
            tracing::warn!(%error, "the gateway did not get the new map; it asks again by itself");
        }
    }

    async fn look(&self, map: &mut ClusterMap, seen: &[DriveHealth]) -> Result<usize, RpcError> {
        self.take_newer(map).await?;
        let changes = changes(map, self.id, seen);
        let count = changes.len();
        for change in changes {
            let name = map.drive(change.drive).map(|row| row.name.clone()).unwrap_or_default();
            match change.state {
                DriveState::Ok => tracing::info!(drive = name, "drive serves again"),
                state => tracing::error!(drive = name, ?state, reason = change.reason, "drive is out of service"),
            }
            set_drive_state(&self.meta, self.id, change).await?;
        }
        if count > 0 {
            self.take_newer(map).await?;
        }
        Ok(count)
    }

    async fn take_newer(&self, map: &mut ClusterMap) -> Result<(), RpcError> {
        if let Some(newer) = newer_map(&self.meta, map.epoch).await? {
            self.node.set_map(newer.clone());
            *map = newer;
        }
        Ok(())
    }
}

/// Makes one change known.
///
/// # Errors
/// If the metadata service did not take it.
pub(crate) async fn set_drive_state(meta: &MetaClient, node: NodeId, change: Change) -> Result<(), RpcError> {
    let Change { drive, state, reason } = change;
    let command = Command::SetDriveState { drive, state, reason };
    meta.command(cluster_command(command, node), TIMEOUT).await.map(drop)
}

/// A command of the cluster itself: idempotent, so it needs no lease. It is logged with a salt of its own.
pub(crate) fn cluster_command(command: Command, node: NodeId) -> CommandEnvelope {
    CommandEnvelope {
        lease: None,
        sequence: CommandSequence(0),
        lowest_open: CommandSequence(0),
        origin: Origin { principal: "stele".into(), source: String::new(), node },
        salt: Some(Salt::from_bytes(random_bytes(&OsRng))),
        command,
    }
}

/// The cluster map.
///
/// # Errors
/// If the metadata service did not answer.
pub(crate) async fn cluster_map(meta: &MetaClient) -> Result<ClusterMap, RpcError> {
    Ok(newer_map(meta, MapEpoch(0)).await?.unwrap_or_default())
}

/// The cluster map, if it is not the known one.
///
/// # Errors
/// If the metadata service did not answer.
pub(crate) async fn newer_map(meta: &MetaClient, known: MapEpoch) -> Result<Option<ClusterMap>, RpcError> {
    match meta.call(MetaRequest::ClusterMap { known }, TIMEOUT).await? {
        MetaReply::ClusterMap(map) => Ok(map.map(|map| *map)),
        _ => Err(unexpected("to ClusterMap")),
    }
}

/// What a node says of its drives.
///
/// # Errors
/// If the node did not answer.
pub(crate) async fn drives(storage: &StorageClient, node: NodeId) -> Result<Vec<DriveStatus>, RpcError> {
    match storage.call(node, StorageRequest::Drives, bytes::Bytes::new(), TIMEOUT).await?.0 {
        StorageReply::Drives(drives) => Ok(drives),
        _ => Err(unexpected("to Drives")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stele_types::map::DriveRow;

    const NODE: NodeId = NodeId(1);

    fn id(n: u8) -> DriveId {
        DriveId::from_bytes([n; 16])
    }

    fn row(n: u8, state: DriveState) -> DriveRow {
        DriveRow { id: id(n), node: NODE, name: format!("drive-{n}"), state, reason: String::new(), capacity: 0 }
    }

    fn health(n: u8, state: DriveState) -> DriveHealth {
        let reason = if state == DriveState::Ok { String::new() } else { "EIO".to_owned() };
        DriveHealth { id: id(n), name: format!("drive-{n}"), state, reason }
    }

    #[test]
    fn only_differences_are_reported_and_each_names_its_reason() {
        let elsewhere = DriveRow { node: NodeId(2), ..row(9, DriveState::Ok) };
        let map = ClusterMap {
            drives: vec![
                row(0, DriveState::Ok),
                row(1, DriveState::Ok),
                row(2, DriveState::Ok),
                row(3, DriveState::Failed),
                row(4, DriveState::Removed),
                elsewhere,
            ],
            ..ClusterMap::default()
        };
        let seen = [health(0, DriveState::Ok), health(1, DriveState::Suspect), health(3, DriveState::Ok)];
        let found = changes(&map, NODE, &seen);
        let short: Vec<_> = found.iter().map(|c| (c.drive, c.state)).collect();
        let expected = [(id(1), DriveState::Suspect), (id(2), DriveState::Failed), (id(3), DriveState::Ok)];
        assert_eq!(short, expected);
        assert_eq!(found[0].reason, "EIO");
        assert!(found[1].reason.contains("no directory"));
    }
}
