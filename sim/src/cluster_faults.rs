//! Carries out the faults of several nodes at once.

use std::sync::Arc;

use stele_types::ids::NodeId;

use crate::plan::Fault;
use crate::topology::{Place, gateway_node, storage_node};
use crate::world::World;

impl World {
    pub(crate) async fn happen_to_many(self: &Arc<Self>, fault: Fault) {
        match fault {
            Fault::Partition { side, other, one_way } => {
                let there = self.ways(side, other & !side);
                let back = if one_way { Vec::new() } else { self.ways(other & !side, side) };
                let cut = |on| there.iter().chain(&back).for_each(|(from, to)| self.net().set_cut(*from, *to, on));
                cut(true);
                self.pause(8000).await;
                cut(false);
            }
            Fault::SlowLinks { side } => {
                let ways = self.ways(side, !side);
                let slow = |micros| ways.iter().for_each(|(from, to)| self.net().set_slow(*from, *to, micros));
                slow(self.rng().between(20_000, 900_000));
                self.pause(8000).await;
                slow(0);
            }
            Fault::CrashSome { nodes } => self.crash_some(nodes).await,
            Fault::StepClock { voter, millis } => {
                let clock = self.voters().get(voter).map(|voter| Arc::clone(&voter.clock));
                if let Some(clock) = clock {
                    clock.set_off(millis);
                    self.pause(10_000).await;
                    clock.set_off(0);
                }
            }
            Fault::WipeVoter => self.wipe_voter().await,
            // Those of one node or device: see `faults.rs`.
            _ => {}
        }
    }

    /// Every way from a node of one set to one of the other.
    fn ways(&self, from: u32, to: u32) -> Vec<(NodeId, NodeId)> {
        let to = self.nodes_in(to);
        self.nodes_in(from).into_iter().flat_map(|from| to.iter().map(move |to| (from, *to))).collect()
    }

    /// The nodes of a set.
    fn nodes_in(&self, set: u32) -> Vec<NodeId> {
        let node = |place: Place| match place {
            Place::Voter(voter) => self.voters()[voter].node,
            Place::Storage(node) => storage_node(node),
            Place::Gateway(place) => gateway_node(place),
        };
        let places = self.topology().places();
        let chosen = places.into_iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1);
        chosen.map(|(_, place)| node(place)).collect()
    }

    async fn crash_some(self: &Arc<Self>, nodes: u32) {
        let places = self.topology().places();
        let chosen = places.into_iter().enumerate().filter(|(bit, _)| nodes >> bit & 1 == 1);
        // All of them first: they lose power at once.
        let fell: Vec<Place> = chosen
            .map(|(_, place)| place)
            .filter(|place| match *place {
                Place::Voter(voter) => self.kill_voter(voter),
                Place::Storage(node) => {
                    self.drives_of(node).into_iter().for_each(|drive| self.drive(drive).crash());
                    self.kill_storage(node)
                }
                Place::Gateway(place) => self.kill_gateway(place),
            })
            .collect();
        self.env().trace.line(format_args!("crashed {fell:?}"));
        self.pause(if self.rng().chance(300) { 20_000 } else { 4_000 }).await;
        for place in fell {
            match place {
                Place::Voter(voter) => drop(self.start_voter(voter, false).await),
                Place::Storage(node) => self.start_storage(node).await,
                Place::Gateway(place) => self.start_gateway(place).await,
            }
        }
    }
}
