//! What a change of the cluster leads to: how much moves, and what may be lost afterwards.

use std::collections::BTreeMap;

use stele_types::ids::DriveId;
use stele_types::map::{ClusterMap, NodeRow, PgRow};

/// How many domains of each kind may be lost at once, in the worst group, without losing data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tolerance {
    /// Drives.
    pub drives: usize,
    /// Nodes.
    pub nodes: usize,
    /// Racks; unnamed ones count as one.
    pub racks: usize,
    /// Zones; unnamed ones count as one.
    pub zones: usize,
}

impl Tolerance {
    fn of(map: &ClusterMap) -> Self {
        let node = |drive: DriveId| map.drive(drive).and_then(|row| map.node(row.node));
        Self {
            drives: worst(map, |drive| drive),
            nodes: worst(map, |drive| map.drive(drive).map(|row| row.node)),
            racks: worst(map, |drive| node(drive).map(|node: &NodeRow| (&node.zone, &node.rack))),
            zones: worst(map, |drive| node(drive).map(|node: &NodeRow| &node.zone)),
        }
    }
}

/// The least number, over all groups, of domains that may be lost.
fn worst<D: Ord>(map: &ClusterMap, domain: impl Fn(DriveId) -> D) -> usize {
    let tolerated = |pg: &PgRow| {
        let mut shares: BTreeMap<D, usize> = BTreeMap::new();
        for slot in &pg.slots {
            *shares.entry(domain(slot.takes())).or_default() += 1;
        }
        let mut shares: Vec<usize> = shares.into_values().collect();
        shares.sort_unstable_by_key(|share| std::cmp::Reverse(*share));
        let lost = shares.iter().scan(0usize, |sum, share| {
            *sum += share;
            Some(*sum)
        });
        lost.take_while(|lost| *lost <= pg.scheme.m()).count()
    };
    map.pgs.iter().map(tolerated).min().unwrap_or(0)
}

/// Where a change of the cluster ends, once everything has moved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outlook {
    /// Slots that leave each drive.
    pub from: BTreeMap<DriveId, usize>,
    /// Slots that each drive gets.
    pub to: BTreeMap<DriveId, usize>,
    /// Slots that should leave and have nowhere to go.
    pub stuck: usize,
    /// Shards of the widest group.
    pub widest: usize,
    /// Nodes with a usable drive, afterwards.
    pub nodes: usize,
    /// What may be lost now.
    pub before: Tolerance,
    /// What may be lost then.
    pub after: Tolerance,
}

impl Outlook {
    pub(super) fn new(before: &ClusterMap, after: &ClusterMap, stuck: usize) -> Self {
        let (mut from, mut to) = (BTreeMap::new(), BTreeMap::new());
        for (was, is) in before.pgs.iter().zip(&after.pgs) {
            for (was, is) in was.slots.iter().zip(&is.slots).filter(|(was, is)| was.drive != is.drive) {
                *from.entry(was.drive).or_default() += 1;
                *to.entry(is.drive).or_default() += 1;
            }
        }
        let usable: std::collections::BTreeSet<_> =
            super::candidates(after).iter().map(|candidate| candidate.node).collect();
        Self {
            from,
            to,
            stuck,
            widest: before.pgs.iter().map(|pg| pg.slots.len()).max().unwrap_or(0),
            nodes: usable.len(),
            before: Tolerance::of(before),
            after: Tolerance::of(after),
        }
    }

    /// Slots that move.
    pub fn slots(&self) -> usize {
        self.from.values().sum()
    }

    /// Why this must not be done, and what to do instead.
    pub fn refusal(&self) -> Option<String> {
        let Self { stuck, widest, nodes, .. } = self;
        if self.after.nodes < self.before.nodes {
            return Some(format!(
                "{nodes} storage nodes would be left and the placement groups need {widest}: the loss of {} nodes, not of \
                 {}, would be survived; add a storage node first (stele cluster token --role storage-node)",
                self.after.nodes, self.before.nodes
            ));
        }
        (*stuck > 0).then(|| {
            format!(
                "{stuck} slots of placement groups have nowhere to go: every usable drive of the {nodes} nodes that would \
                 be left is in the group already; add drives or a storage node first (stele cluster token --role storage-node)"
            )
        })
    }
}
