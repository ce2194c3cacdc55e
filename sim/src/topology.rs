//! How many nodes of each kind a run has, and their ids.

use stele_types::ids::NodeId;
use stele_types::role::Role;
use stele_types::scheme::Scheme;

use crate::seed::SimRng;

/// Sweeps, set-up and checks.
pub const OPERATOR: NodeId = NodeId(2);
/// Takes the place of a voter whose disk was wiped: its old id must not come back.
pub const SPARE_VOTER: NodeId = NodeId(109);

/// Nodes of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Topology {
    /// Metadata nodes.
    pub voters: usize,
    /// Storage nodes.
    pub storage_nodes: usize,
    /// Drives of all storage nodes; drive i belongs to node i modulo their number.
    pub drives: usize,
    /// Gateways.
    pub gateways: usize,
    /// How objects are coded.
    pub scheme: Scheme,
}

impl Topology {
    /// The smallest that shows anything: what a single server is, with a second gateway.
    pub const SMALL: Self =
        Self { voters: 1, storage_nodes: 2, drives: 6, gateways: 2, scheme: Scheme::for_domains(6) };

    /// A cluster of the usual size.
    pub const USUAL: Self =
        Self { voters: 3, storage_nodes: 6, drives: 6, gateways: 2, scheme: Scheme::for_domains(6) };

    /// With drives that a group does not use, so that its slots have somewhere to go.
    pub const ROOMY: Self =
        Self { voters: 3, storage_nodes: 9, drives: 9, gateways: 2, scheme: Scheme::for_domains(9) };

    /// A cluster: 3 to 5 voters, 6 to 12 storage nodes, 2 or 3 gateways; now and then a smaller one.
    pub fn draw(rng: &SimRng) -> Self {
        let voters = *rng.pick(&[1, 3, 3, 3, 3, 5, 5]);
        let storage_nodes = if rng.chance(150) { 1 + rng.index(5) } else { 6 + rng.index(7) };
        let per_node = if storage_nodes > 6 { 1 } else { 1 + rng.index(3) };
        let drives = (storage_nodes * per_node).max(3);
        let gateways = if rng.chance(100) { 1 } else { 2 + rng.index(2) };
        let scheme = Scheme::for_domains(if storage_nodes < 3 { drives } else { storage_nodes });
        Self { voters, storage_nodes, drives, gateways, scheme }
    }

    /// Drives that may be lost for good.
    pub fn losses_max(&self) -> usize {
        self.scheme.m()
    }

    /// The storage node that serves a drive.
    pub fn node_of(&self, drive: usize) -> usize {
        drive % self.storage_nodes
    }

    /// Places of all nodes: voters, then storage nodes, then gateways. Sets of nodes are bits of it.
    pub fn places(&self) -> Vec<Place> {
        let voters = (0..self.voters).map(Place::Voter);
        let storage = (0..self.storage_nodes).map(Place::Storage);
        voters.chain(storage).chain((0..self.gateways).map(Place::Gateway)).collect()
    }
}

/// One place for a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// A metadata node.
    Voter(usize),
    /// A storage node.
    Storage(usize),
    /// A gateway.
    Gateway(usize),
}

/// The first node of a metadata place.
pub fn voter_node(place: usize) -> NodeId {
    if place == 0 { NodeId(1) } else { NodeId(100 + place as u64) }
}

/// The node of a storage process.
pub fn storage_node(index: usize) -> NodeId {
    NodeId(10 + index as u64)
}

/// The node of a gateway.
pub fn gateway_node(place: usize) -> NodeId {
    NodeId(40 + place as u64)
}

/// The node of an anchor.
pub fn anchor_node(at: usize) -> NodeId {
    NodeId(200 + at as u64)
}

/// What a node is by its id. The operator's tools run beside the metadata service.
pub fn role(node: NodeId) -> Role {
    match node.0 {
        10..40 => Role::StorageNode,
        40..100 => Role::S3Gateway,
        200.. => Role::Anchor,
        _ => Role::Metadata,
    }
}
