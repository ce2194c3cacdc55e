//! Cluster map: nodes, drives and placement groups; a value that every party caches.

use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, DriveId, MapEpoch, NodeId, PgEpoch, PgId};
use crate::role::Role;
use crate::scheme::Scheme;
use crate::seam::UnixMillis;

/// What a node may be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum NodeState {
    /// Has a certificate and was not heard of yet.
    #[default]
    Joining,
    /// In use.
    Active,
    /// Its drives get no new packs, and their shards leave.
    Draining,
    /// Nothing of the cluster needs it.
    Drained,
    /// Refused by every other node. Its id is never used again.
    Removed,
}

/// One process of the cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeRow {
    /// As in its certificate.
    pub id: NodeId,
    /// As in its certificate.
    pub role: Role,
    /// Name an operator knows it by.
    pub name: String,
    /// Where others dial it, as `host:port`.
    pub addresses: Vec<String>,
    /// Failure domain; empty if unknown.
    pub zone: String,
    /// Failure domain within the zone; empty if unknown.
    pub rack: String,
    /// What it may be used for.
    pub state: NodeState,
    /// SHA-256 of the public key it joined with (the bits of the key alone).
    pub key: [u8; 32],
    /// Its drives are not replaced before this time although it is silent: somebody works on it. 0: not so.
    #[serde(default)]
    pub maintenance_until: UnixMillis,
}

/// What a drive may be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum DriveState {
    /// Reads and writes.
    #[default]
    Ok,
    /// Had an IO error or stopped answering; reads may be tried, no new packs.
    Suspect,
    /// Gone; its shards must be rebuilt.
    Failed,
    /// Taken out by an operator.
    Removed,
}

/// One failure unit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DriveRow {
    /// From the drive's identity file.
    pub id: DriveId,
    /// The node that serves it.
    pub node: NodeId,
    /// Name an operator knows it by, for example its directory.
    pub name: String,
    /// What it may be used for.
    pub state: DriveState,
    /// Why it is not `Ok`; empty otherwise.
    pub reason: String,
    /// Bytes it can hold, its weight in placement. 0: unknown, counts as the median of the others.
    #[serde(default)]
    pub capacity: u64,
}

/// One position of a placement group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Slot {
    /// The drive that serves this slot.
    pub drive: DriveId,
    /// The drive that takes over, while the slot moves.
    #[serde(default)]
    pub incoming: Option<DriveId>,
}

impl Slot {
    /// The drive that takes new shards: while the slot moves, the one that takes over.
    pub fn takes(&self) -> DriveId {
        self.incoming.unwrap_or(self.drive)
    }

    /// Drives that may hold a shard of this slot, the one that takes new shards first.
    pub fn holders(&self) -> impl Iterator<Item = DriveId> {
        self.incoming.into_iter().chain([self.drive])
    }
}

/// A slot that is to move to another drive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct SlotMove {
    /// The placement group.
    pub pg: PgId,
    /// Epoch of the row that the move was planned with.
    pub epoch: PgEpoch,
    /// Position in the row.
    pub slot: u8,
    /// The drive that takes over.
    pub to: DriveId,
}

/// Placement group: k + m slots.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PgRow {
    /// Its id.
    pub id: PgId,
    /// Raised by each change of this row.
    pub epoch: PgEpoch,
    /// Scheme of full-size packs.
    pub scheme: Scheme,
    /// k + m of them.
    pub slots: Vec<Slot>,
}

/// Everything a party needs to place and find shards.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ClusterMap {
    /// The cluster, drawn at initialisation.
    pub cluster: Option<ClusterId>,
    /// Raised by each change of anything below.
    pub epoch: MapEpoch,
    /// All drives, by id.
    pub drives: Vec<DriveRow>,
    /// All placement groups, by id.
    pub pgs: Vec<PgRow>,
    /// All nodes, by id; none in a store of one process.
    #[serde(default)]
    pub nodes: Vec<NodeRow>,
    /// An operator holds rebalancing back: drives that came get no slots of groups there are.
    #[serde(default)]
    pub rebalancing_paused: bool,
}

impl PgRow {
    /// Slots that may move at once, at least 1. While one moves, what its old drive had may be missing on the new
    /// one, so that no more than half of the losses that the scheme tolerates go into moves.
    pub fn moving_max(&self) -> usize {
        (self.scheme.m() / 2).max(1)
    }

    /// Slots that move now.
    pub fn moving(&self) -> usize {
        self.slots.iter().filter(|slot| slot.incoming.is_some()).count()
    }

    /// Whether a slot is on this drive, or moves to it.
    pub fn uses(&self, drive: DriveId) -> bool {
        self.slots.iter().any(|slot| slot.holders().any(|holder| holder == drive))
    }
}

impl ClusterMap {
    /// The drive with this id.
    pub fn drive(&self, id: DriveId) -> Option<&DriveRow> {
        self.drives.iter().find(|d| d.id == id)
    }

    /// The node with this id.
    pub fn node(&self, id: NodeId) -> Option<&NodeRow> {
        let at = self.nodes.binary_search_by_key(&id, |node| node.id).ok()?;
        self.nodes.get(at)
    }

    /// Metadata nodes in use, with their addresses.
    pub fn metadata_nodes(&self) -> Vec<(NodeId, Vec<String>)> {
        let nodes = self.nodes.iter().filter(|n| n.role == Role::Metadata && n.state != NodeState::Removed);
        nodes.map(|node| (node.id, node.addresses.clone())).collect()
    }

    /// The placement group with this id.
    pub fn pg(&self, id: PgId) -> Option<&PgRow> {
        let at = self.pgs.binary_search_by_key(&id, |pg| pg.id).ok()?;
        self.pgs.get(at)
    }
}
