//! What a seed means: size of the workload, weather, and a schedule of faults.
//!
//! Each seed gets its own mixture, so that rare combinations come up (swarm testing). Everything here
//! is drawn before the run begins; nothing depends on what the run does.

use std::time::Duration;

use crate::net::NetFaults;
use crate::sabotage::Sabotage;
use crate::seed::SimRng;
use crate::topology::Topology;

/// Keys that clients use: few, so that operations meet; some share a prefix.
pub const KEYS: [&str; 6] = ["a", "dir/x", "dir/y", "dir/sub/z", "ключ", "zz"];

/// One thing that happens to the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Every process dies and every device loses what was not synced.
    PowerLoss,
    /// A gateway dies; another one starts in its place a moment later.
    KillGateway(usize),
    /// A storage node dies (kill -9: nothing written is lost) and starts again a moment later.
    KillStorage(usize),
    /// The machine of a metadata node loses power and starts again a moment later.
    KillVoter(usize),
    /// A sync of a metadata node's device fails; it must stop, and starts again.
    FailRaftSync(usize),
    /// A device fails for good.
    LoseDrive(usize),
    /// The next sync of a device fails, having kept any part.
    FailSync(usize),
    /// The next reads of a device fail.
    FailReads(usize),
    /// A device has no room for a while.
    FillDrive(usize),
    /// A device becomes slow for a while.
    SlowDrive(usize),
    /// A stored byte of a device flips.
    RotDrive(usize),
    /// A gateway can't reach the metadata service for a while, so its lease may run out.
    CutGateway(usize),
    /// A gateway stops in the middle of whatever it does, and goes on long after (SIGSTOP, SIGCONT).
    FreezeGateway(usize),
    /// Messages from one set of nodes to another are lost for a while. Sets are bits over
    /// [`Topology::places`].
    Partition {
        /// One side.
        side: u32,
        /// The other side; what is in both is on the first.
        other: u32,
        /// The other way messages still arrive.
        one_way: bool,
    },
    /// Messages from one set of nodes to the others are slow for a while.
    SlowLinks {
        /// The senders.
        side: u32,
    },
    /// The machines of these nodes lose power at once and come back, perhaps long after.
    CrashSome {
        /// Which.
        nodes: u32,
    },
    /// A metadata node's clock is set wrong for a while.
    StepClock {
        /// Which.
        voter: usize,
        /// How far, milliseconds.
        millis: i64,
    },
    /// A voter that acknowledged writes loses its disk while the leader is down and the third one lags.
    WipeVoter,
}

/// How clients behave.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Clients at work at once.
    pub clients: u32,
    /// Operations of each.
    pub operations: u32,
    /// How many of [`KEYS`] they use.
    pub keys: usize,
    /// Longest pause between two operations.
    pub think: Duration,
    /// Per mille of operations that a client gives up before the answer.
    pub give_up: u32,
    /// Per mille of PUTs whose body comes slowly.
    pub slow_body: u32,
    /// Values of several MiB that the whole run may write.
    pub large_values: u32,
    /// Weights of operations, in the order of [`crate::client::Kind::ALL`].
    pub weights: [u32; 11],
}

/// Everything that a seed decides.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The cluster.
    pub topology: Topology,
    /// Processes talk over QUIC and packets, not in memory.
    pub over_quic: bool,
    /// Clients.
    pub workload: Workload,
    /// Network while faults are on.
    pub net: NetFaults,
    /// What happens when, in order of time since the run began.
    pub faults: Vec<(Duration, Fault)>,
    /// Faults end here.
    pub chaos: Duration,
    /// Pause between two sweeps.
    pub sweep_every: Duration,
    /// How long a sync of any drive takes.
    pub drive_sync: Duration,
    /// How long a sync of the raft log takes.
    pub raft_sync: Duration,
    /// Raft entries between two purges of the log.
    pub snapshot_every: u64,
    /// Power is lost at the first acknowledgement of a write after its time came.
    pub aimed: bool,
    /// Before power is lost, the processes end and close what they hold.
    pub ends_first: bool,
    /// Drives that are taken away before everything is read for the last time, besides those lost.
    pub taken_away: Vec<usize>,
    /// Read cache of the gateways, bytes.
    pub cache_bytes: usize,
    /// One client puts versions under retention and tries to get rid of them.
    pub keeper: bool,
    /// Two anchors close and sign the log.
    pub anchors: bool,
    /// Longest pause of an anchor between two steps, milliseconds.
    pub anchor_pause: u64,
    /// Slots of placement groups move all the time, and storage nodes repair.
    pub moving: bool,
}

impl Plan {
    /// The plan of a seed.
    pub fn new(rng: &SimRng, topology: Topology) -> Self {
        let chaos = Duration::from_millis(rng.between(6_000, 16_000));
        let mut faults: Vec<(Duration, Fault)> = (0..rng.between(2, 9))
            .map(|_| (Duration::from_millis(rng.below(chaos.as_millis() as u64)), Self::fault(rng, &topology)))
            .collect();
        faults.sort_by_key(|(at, _)| *at);
        let lost: Vec<usize> = limit_losses(&mut faults, topology.losses_max());
        let mut taken_away = Vec::new();
        while lost.len() + taken_away.len() < topology.losses_max() {
            let drive = rng.index(topology.drives);
            if !lost.contains(&drive) && !taken_away.contains(&drive) {
                taken_away.push(drive);
            }
        }
        Self {
            topology,
            over_quic: false,
            workload: Self::workload(rng),
            net: Self::net(rng),
            faults,
            chaos,
            sweep_every: Duration::from_millis(rng.between(300, 1500)),
            drive_sync: Duration::from_micros(if rng.chance(300) { rng.below(250_000) } else { rng.below(4_000) }),
            raft_sync: Duration::from_micros(rng.between(100, 6_000)),
            snapshot_every: rng.between(15, 400),
            aimed: rng.chance(700),
            ends_first: rng.chance(150),
            taken_away,
            cache_bytes: if rng.chance(300) { 4 << 20 } else { 0 },
            keeper: false,
            anchors: false,
            anchor_pause: 700,
            moving: false,
        }
    }

    /// The plan of a seed, with more of what brings one kind of defect to light. Everything else stays
    /// as drawn, and the store must keep its promises under it as under any other.
    pub fn focused(rng: &SimRng, topology: Topology, focus: Option<Sabotage>) -> Self {
        let mut plan = Self::new(rng, topology);
        let at = |rng: &SimRng, plan: &Self| Duration::from_millis(rng.below(plan.chaos.as_millis() as u64));
        match focus {
            // Streams of their own: the rest of the plan is the same with and without them.
            None => {
                plan.keeper = rng.stream("keeper").chance(250);
                plan.anchors = rng.stream("anchors").chance(300);
            }
            // Close enough together that one commits what it read before the other committed more.
            Some(Sabotage::CommitAnyCheckpoint) => (plan.anchors, plan.anchor_pause) = (true, 30),
            Some(Sabotage::DeleteWithoutAsking) => {}
            Some(Sabotage::RemoveLocked) => plan.keeper = true,
            Some(Sabotage::AcknowledgeBeforeSync) => {
                plan.drive_sync = Duration::from_millis(rng.between(100, 300));
                plan.aimed = true;
                plan.ends_first = false;
                plan.faults.extend([(at(rng, &plan), Fault::PowerLoss), (at(rng, &plan), Fault::PowerLoss)]);
            }
            Some(Sabotage::CommitWhenFenced) => {
                let freeze =
                    |rng: &SimRng, plan: &Self| (at(rng, plan), Fault::FreezeGateway(rng.index(topology.gateways)));
                plan.faults = vec![freeze(rng, &plan), freeze(rng, &plan), freeze(rng, &plan)];
                plan.sweep_every = Duration::from_millis(300);
                plan.workload.keys = KEYS.len();
                plan.workload.weights[0] += 20;
                plan.net = NetFaults { late_micros: plan.net.late_micros, ..NetFaults::CALM };
            }
            Some(Sabotage::ReplyCacheOff) => {
                plan.net.duplicate = plan.net.duplicate.max(60);
                plan.net.drop_reply = plan.net.drop_reply.max(30);
            }
            // See `weather.rs`: these need a cluster.
            Some(Sabotage::FollowerReadWithoutReadIndex | Sabotage::NodeIdReused) => {}
            Some(Sabotage::SkipChunkCheck) => plan.net.corrupt_read = plan.net.corrupt_read.max(60),
        }
        plan.faults.sort_by_key(|(at, _)| *at);
        plan
    }

    /// The same with slots that move all the time.
    pub fn moving(self) -> Self {
        Self { moving: true, ..self }
    }

    /// The same over QUIC, where no message is dropped midway or changes on its way.
    pub fn over_quic(self) -> Self {
        Self { over_quic: true, net: NetFaults { cancel: 0, corrupt_read: 0, ..self.net }, ..self }
    }

    fn workload(rng: &SimRng) -> Workload {
        let mut weights = [30, 25, 8, 8, 14, 4, 12, 6, 6, 6, 6];
        for weight in &mut weights {
            *weight = u32::try_from(rng.below(u64::from(*weight) * 2)).unwrap_or(1);
        }
        // Without writes and reads there is nothing to check.
        weights[0] += 10;
        weights[1] += 10;
        Workload {
            clients: u32::try_from(rng.between(2, 5)).unwrap_or(2),
            operations: u32::try_from(rng.between(12, 40)).unwrap_or(12),
            keys: rng.index(KEYS.len() - 1) + 2,
            think: Duration::from_millis(rng.between(20, 600)),
            give_up: if rng.chance(500) { 40 } else { 0 },
            slow_body: if rng.chance(500) { 120 } else { 0 },
            large_values: u32::try_from(rng.below(4)).unwrap_or(0),
            weights,
        }
    }

    fn net(rng: &SimRng) -> NetFaults {
        let rate =
            |rng: &SimRng, max: u64| if rng.chance(500) { u32::try_from(rng.below(max)).unwrap_or(0) } else { 0 };
        NetFaults {
            delay_micros: rng.between(200, 20_000),
            drop_request: rate(rng, 30),
            drop_reply: rate(rng, 30),
            duplicate: rate(rng, 60),
            late_command: rate(rng, 80),
            late_micros: rng.between(100_000, 9_000_000),
            cancel: rate(rng, 20),
            corrupt_read: rate(rng, 100),
        }
    }

    fn fault(rng: &SimRng, topology: &Topology) -> Fault {
        let drive = rng.index(topology.drives);
        match rng.below(19) {
            0..=2 => Fault::PowerLoss,
            3 => Fault::KillGateway(rng.index(topology.gateways)),
            4 => Fault::KillStorage(rng.index(topology.storage_nodes)),
            5 => Fault::KillVoter(a_voter(rng, topology)),
            6 => Fault::LoseDrive(drive),
            7 | 8 => Fault::FailSync(drive),
            9 => Fault::FailReads(drive),
            10 => Fault::FillDrive(drive),
            11 => Fault::SlowDrive(drive),
            12 => Fault::RotDrive(drive),
            13 => Fault::FailRaftSync(a_voter(rng, topology)),
            14 => Fault::CutGateway(rng.index(topology.gateways)),
            _ => Fault::FreezeGateway(rng.index(topology.gateways)),
        }
    }
}

/// A voter; nothing is drawn where there is one.
fn a_voter(rng: &SimRng, topology: &Topology) -> usize {
    if topology.voters > 1 { rng.index(topology.voters) } else { 0 }
}

/// Keeps losses and rot within what the scheme survives: returns the drives that are lost.
fn limit_losses(faults: &mut Vec<(Duration, Fault)>, most: usize) -> Vec<usize> {
    let mut lost = Vec::new();
    faults.retain(|(_, fault)| match fault {
        // A flipped byte costs the shard it is in, so a drive that rots counts as lost.
        Fault::LoseDrive(drive) | Fault::RotDrive(drive) => {
            if !lost.contains(drive) && lost.len() == most {
                return false;
            }
            if !lost.contains(drive) {
                lost.push(*drive);
            }
            true
        }
        _ => true,
    });
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_plan_loses_more_than_m_drives() {
        for seed in 0..500 {
            let rng = SimRng::new(seed);
            let topology = if seed % 2 == 0 { Topology::SMALL } else { Topology::draw(&rng.stream("topology")) };
            let plan = Plan::new(&rng, topology);
            let mut lost: Vec<usize> = plan.taken_away.clone();
            lost.extend(plan.faults.iter().filter_map(|(_, fault)| match fault {
                Fault::LoseDrive(drive) | Fault::RotDrive(drive) => Some(*drive),
                _ => None,
            }));
            lost.sort_unstable();
            lost.dedup();
            assert_eq!(lost.len(), topology.losses_max(), "seed {seed}");
        }
    }
}
