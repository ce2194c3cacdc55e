//! What happens to a cluster besides what happens to a single server: partitions, slow links, crashes
//! of several machines at once, wrong clocks, wiped voters.

use std::time::Duration;

use crate::plan::{Fault, Plan};
use crate::sabotage::Sabotage;
use crate::seed::SimRng;
use crate::topology::Topology;

impl Plan {
    /// The plan of a cluster seed.
    pub fn of_cluster(rng: &SimRng, mut topology: Topology, focus: Option<Sabotage>) -> Self {
        if matches!(focus, Some(Sabotage::NodeIdReused | Sabotage::FollowerReadWithoutReadIndex)) {
            topology.voters = 3;
            topology.gateways = topology.gateways.max(2);
        }
        let mut plan = Self::focused(rng, topology, focus);
        let rng = rng.stream("weather");
        match focus {
            Some(Sabotage::NodeIdReused) => {
                plan.calm();
                plan.faults = vec![(Duration::from_millis(rng.between(500, 2_000)), Fault::WipeVoter)];
            }
            Some(Sabotage::ReplyCacheOff) => {
                plan.calm();
                plan.net.duplicate = 120;
                plan.net.late_micros = 2_000_000;
                plan.workload.weights[4] += 30;
                plan.faults = vec![(Duration::from_millis(2_000), Fault::KillVoter(rng.index(topology.voters)))];
            }
            Some(Sabotage::FollowerReadWithoutReadIndex) => {
                plan.calm();
                let cut = |at: u64, voter: usize| {
                    let side = 1 << voter;
                    // The gateways still reach the voter that the others left behind.
                    (Duration::from_millis(at), Fault::Partition { side, other: bits(3), one_way: false })
                };
                plan.faults = vec![cut(300, 0), cut(4_000, rng.index(3)), cut(8_000, rng.index(3))];
                plan.workload.weights[1] += 30;
            }
            _ => {
                // Fewer faults of devices, so that the rest gets its turn.
                let mut kept = 0;
                plan.faults.retain(|_| {
                    kept += 1;
                    kept <= 4
                });
                let wrong_clock = rng.index(topology.voters);
                for _ in 0..rng.between(2, 5) {
                    let at = Duration::from_millis(rng.below(plan.chaos.as_millis() as u64));
                    plan.faults.push((at, weather(&rng, &topology, wrong_clock)));
                }
            }
        }
        plan.faults.sort_by_key(|(at, _)| *at);
        // More than one would lose what is durable; and there is one spare node.
        let mut wiped = false;
        plan.faults.retain(|(_, fault)| *fault != Fault::WipeVoter || !std::mem::replace(&mut wiped, true));
        plan
    }

    /// Nothing but what the focus adds, and clients that meet often.
    fn calm(&mut self) {
        self.net = crate::net::NetFaults::CALM;
        self.workload.keys = self.workload.keys.min(3);
        self.workload.clients = 4;
        self.workload.operations = 60;
        self.workload.think = Duration::from_millis(300);
        self.workload.give_up = 0;
    }
}

fn weather(rng: &SimRng, topology: &Topology, wrong_clock: usize) -> Fault {
    let all = bits(topology.places().len());
    let voters = bits(topology.voters);
    // Half of the sets are voters alone: that is where leaders change.
    let some = |rng: &SimRng| {
        let drawn = u32::try_from(rng.below(u64::from(all) + 1)).unwrap_or(all);
        match rng.below(4) {
            0 => drawn,
            1 => drawn & !voters | 1 << rng.index(topology.voters),
            _ => 1 << rng.index(topology.voters) | drawn & voters & u32::try_from(rng.below(32)).unwrap_or(0),
        }
    };
    match rng.below(12) {
        0..=3 => {
            let other = if rng.chance(500) { all } else { some(rng) | voters };
            Fault::Partition { side: some(rng), other, one_way: rng.chance(400) }
        }
        4 => Fault::SlowLinks { side: some(rng) },
        5..=7 => Fault::CrashSome { nodes: if rng.chance(200) { all } else { some(rng) } },
        8 | 9 if topology.voters > 1 => {
            let millis = i64::try_from(rng.between(500, 20_000)).unwrap_or(0);
            Fault::StepClock { voter: wrong_clock, millis: if rng.chance(500) { millis } else { -millis } }
        }
        10 if topology.voters == 3 && rng.chance(400) => Fault::WipeVoter,
        _ => Fault::KillVoter(rng.index(topology.voters)),
    }
}

fn bits(count: usize) -> u32 {
    (1u32 << count.min(31)) - 1
}
