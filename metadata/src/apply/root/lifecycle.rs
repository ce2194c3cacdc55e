//! What nodes may be used for: draining, drained, removed, and under maintenance.

use std::collections::BTreeSet;

use stele_rpc::error::Code;
use stele_rpc::meta::MetaReply;
use stele_types::ids::NodeId;
use stele_types::map::{ClusterMap, DriveState, NodeRow, NodeState};
use stele_types::role::Role;

use super::acts::{self, CLUSTER_SUBJECT};
use crate::apply::{Batch, Context, Outcome, refuse};
use crate::placement;

/// Longest time of a maintenance, a week: a node that is away for longer is lost.
const MAINTENANCE_MS_MAX: u64 = 7 * 24 * 3_600_000;

/// Slots that are on drives of the node, or move there.
fn slots_of(map: &ClusterMap, node: NodeId) -> usize {
    let mine = |drive| map.drive(drive).is_some_and(|drive| drive.node == node);
    map.pgs.iter().flat_map(|pg| &pg.slots).filter(|slot| slot.holders().any(mine)).count()
}

/// Whether a node may go from one state to another, and what must hold of the cluster.
fn check(map: &ClusterMap, node: &NodeRow, to: NodeState) -> Outcome<()> {
    let id = node.id;
    let (from, slots) = (node.state, slots_of(map, id));
    if from == NodeState::Removed {
        return refuse(Code::Malformed, format!("node {id} was removed for good: join it anew"));
    }
    match to {
        NodeState::Joining => refuse(Code::Malformed, format!("node {id} has joined already")),
        NodeState::Active => Ok(()),
        NodeState::Draining if node.role != Role::StorageNode => {
            let text = format!("node {id} is a {}: it holds no shards; remove it", node.role);
            refuse(Code::Malformed, text)
        }
        NodeState::Draining => match placement::departure(map, &BTreeSet::from([id])).refusal() {
            Some(why) => refuse(Code::Malformed, format!("node {id} can't be drained: {why}")),
            None => Ok(()),
        },
        NodeState::Drained if from != NodeState::Draining => {
            refuse(Code::Malformed, format!("node {id} is not draining"))
        }
        NodeState::Drained | NodeState::Removed if slots > 0 => {
            let text = format!(
                "node {id} still has {slots} slots of placement groups: they must move away first (stele cluster drain {id})"
            );
            refuse(Code::Malformed, text)
        }
        NodeState::Drained | NodeState::Removed => Ok(()),
    }
}

impl Batch<'_> {
    pub(crate) fn set_node_state(&mut self, cx: Context<'_>, id: NodeId, state: NodeState) -> Outcome<MetaReply> {
        let before = self.founded_map()?;
        let Some(was) = before.node(id) else {
            return refuse(Code::Malformed, format!("node {id} is not part of this cluster"));
        };
        // Draining goes on to drained by itself: asking for it again takes nothing back.
        if was.state == state || (was.state, state) == (NodeState::Drained, NodeState::Draining) {
            return Ok(MetaReply::Done);
        }
        check(&before, was, state)?;
        let mut map = before.clone();
        let Some(node) = map.nodes.iter_mut().find(|node| node.id == id) else {
            return refuse(Code::Internal, "a node went");
        };
        node.state = state;
        let detail = acts::node_state_changed(was, node);
        if state == NodeState::Removed {
            for drive in map.drives.iter_mut().filter(|drive| drive.node == id) {
                drive.state = DriveState::Removed;
                "its node was removed".clone_into(&mut drive.reason);
            }
        }
        if self.save_map(&before, &mut map)? {
            self.log_act(cx, &format!("node/{id}"), &detail)?;
        }
        Ok(MetaReply::Done)
    }

    pub(crate) fn set_maintenance(&mut self, cx: Context<'_>, id: NodeId, ttl_ms: u64) -> Outcome<MetaReply> {
        if ttl_ms > MAINTENANCE_MS_MAX {
            let text = "maintenance takes a week at most: drain a node that is away for longer";
            return refuse(Code::Malformed, text);
        }
        let before = self.founded_map()?;
        let mut map = before.clone();
        let Some(node) = map.nodes.iter_mut().find(|node| node.id == id && node.state != NodeState::Removed) else {
            return refuse(Code::Malformed, format!("node {id} is not part of this cluster"));
        };
        node.maintenance_until = if ttl_ms == 0 { 0 } else { cx.now.saturating_add(ttl_ms) };
        let detail = acts::maintenance_changed(node);
        if self.save_map(&before, &mut map)? {
            self.log_act(cx, &format!("node/{id}"), &detail)?;
        }
        Ok(MetaReply::Done)
    }

    pub(crate) fn pause_rebalancing(&mut self, cx: Context<'_>, paused: bool) -> Outcome<MetaReply> {
        let before = self.founded_map()?;
        let mut map = ClusterMap { rebalancing_paused: paused, ..before.clone() };
        if self.save_map(&before, &mut map)? {
            let detail = if paused { "rebalancing is held back" } else { "rebalancing goes on" };
            self.log_act(cx, CLUSTER_SUBJECT, detail)?;
        }
        Ok(MetaReply::Done)
    }
}
