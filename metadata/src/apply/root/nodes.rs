//! Nodes: letting them in, what they say of themselves, and placement of groups on their drives.

use stele_rpc::error::Code;
use stele_rpc::meta::{MetaReply, NewNode};
use stele_types::ids::{MapEpoch, NodeId};
use stele_types::map::{ClusterMap, DriveRow, NodeRow, NodeState};
use stele_types::role::Role;
use stele_types::scheme::Scheme;

use super::acts::{self, CLUSTER_SUBJECT};
use crate::apply::{Batch, Context, Outcome, refuse};
use crate::keyspace::MAP;
use crate::placement;
use crate::rows::{encode, load};

/// Nodes a cluster may ever have had: the map is one row.
const NODES_MAX: usize = 10_000;
/// Addresses of a node.
const ADDRESSES_MAX: usize = 16;
/// Bytes of a name, an address, a zone, a rack.
const TEXT_BYTES_MAX: usize = 255;
/// Drives of a node.
const DRIVES_MAX: usize = 256;

/// What a node says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SaidOfItself<'a> {
    pub(crate) addresses: &'a [String],
    pub(crate) zone: &'a str,
    pub(crate) rack: &'a str,
    pub(crate) drives: &'a [DriveRow],
}

/// What a node says of itself, in limits.
fn check(addresses: &[String], texts: &[&str]) -> Outcome<()> {
    if addresses.is_empty() || addresses.len() > ADDRESSES_MAX {
        return refuse(Code::Malformed, format!("a node has 1 to {ADDRESSES_MAX} addresses, not {}", addresses.len()));
    }
    let long =
        addresses.iter().map(String::as_str).chain(texts.iter().copied()).find(|text| text.len() > TEXT_BYTES_MAX);
    match long {
        Some(text) => {
            refuse(Code::Malformed, format!("a name of {} bytes is too long: {TEXT_BYTES_MAX} fit", text.len()))
        }
        None => Ok(()),
    }
}

impl Batch<'_> {
    pub(super) fn founded_map(&self) -> Outcome<ClusterMap> {
        match load::<ClusterMap>(self.rows, &MAP)? {
            Some(map) => Ok(map),
            None => refuse(Code::Malformed, "the cluster is not founded: run stele cluster init"),
        }
    }

    /// Writes the map if it changed. True if it did.
    pub(super) fn save_map(&mut self, before: &ClusterMap, map: &mut ClusterMap) -> Outcome<bool> {
        if map == before {
            return Ok(false);
        }
        map.epoch = MapEpoch(before.epoch.0 + 1);
        self.rows.put(&MAP, &encode(map))?;
        Ok(true)
    }

    /// Allocates an id and a row. Rows are never dropped, so the highest one tells which ids were used.
    pub(crate) fn admit_node(&mut self, new: &NewNode) -> Outcome<NodeRow> {
        check(&new.addresses, &[&new.name, &new.zone, &new.rack])?;
        let before = self.founded_map()?;
        if before.nodes.len() >= NODES_MAX {
            return refuse(Code::Malformed, format!("the cluster has had {NODES_MAX} nodes, which is the most"));
        }
        let id = NodeId(before.nodes.last().map_or(1, |last| last.id.0.saturating_add(1)));
        let mut map = before.clone();
        let row = NodeRow {
            id,
            role: new.role,
            name: new.name.clone(),
            addresses: new.addresses.clone(),
            zone: new.zone.clone(),
            rack: new.rack.clone(),
            state: NodeState::Joining,
            key: new.key,
            maintenance_until: 0,
        };
        map.nodes.push(row.clone());
        self.save_map(&before, &mut map)?;
        Ok(row)
    }

    pub(crate) fn register_node(&mut self, cx: Context<'_>, id: NodeId, said: &SaidOfItself<'_>) -> Outcome<MetaReply> {
        let SaidOfItself { addresses, zone, rack, drives } = *said;
        check(addresses, &[zone, rack])?;
        let before = self.founded_map()?;
        let mut map = before.clone();
        let Some(node) = map.nodes.iter_mut().find(|node| node.id == id) else {
            return refuse(Code::Forbidden, format!("node {id} is not part of this cluster: join it with a token"));
        };
        if node.state == NodeState::Removed {
            return refuse(Code::Forbidden, format!("node {id} was removed: join it anew, with an empty directory"));
        }
        if drives.len() > DRIVES_MAX || (node.role != Role::StorageNode && !drives.is_empty()) {
            return refuse(
                Code::Malformed,
                format!("a storage node has at most {DRIVES_MAX} drives, other nodes none"),
            );
        }
        if node.state == NodeState::Joining {
            node.state = NodeState::Active;
        }
        node.addresses = addresses.to_vec();
        zone.clone_into(&mut node.zone);
        rack.clone_into(&mut node.rack);
        for drive in drives {
            if drive.name.len() > TEXT_BYTES_MAX {
                return refuse(Code::Malformed, format!("the name of drive {} is too long", drive.id));
            }
            match map.drives.iter_mut().find(|row| row.id == drive.id) {
                Some(row) => {
                    row.node = id;
                    drive.name.clone_into(&mut row.name);
                    // A drive that could not be opened does not say how large it is.
                    row.capacity = if drive.capacity == 0 { row.capacity } else { drive.capacity };
                }
                None => map.drives.push(DriveRow { node: id, ..drive.clone() }),
            }
        }
        map.drives.sort_by_key(|drive| drive.id);
        let row = map.node(id).cloned();
        if self.save_map(&before, &mut map)?
            && let Some(row) = row
        {
            self.log_act(cx, &format!("node/{id}"), &acts::node_registered(&before, &map, &row))?;
        }
        Ok(MetaReply::Done)
    }

    pub(crate) fn plan_placement(&mut self, cx: Context<'_>, scheme: Option<Scheme>) -> Outcome<MetaReply> {
        let before = self.founded_map()?;
        let mut map = before.clone();
        match placement::plan(&before, scheme) {
            Ok(more) => map.pgs.extend(more),
            Err(error) => return refuse(Code::Malformed, error.to_string()),
        }
        if self.save_map(&before, &mut map)? {
            self.log_act(cx, CLUSTER_SUBJECT, &acts::placed(&before, &map))?;
        }
        Ok(MetaReply::Done)
    }
}
