//! Carries out the schedule of faults.

use std::sync::Arc;
use std::time::Duration;

use stele_storage_node::media::model::{Faults, Latency};

use crate::plan::Fault;
use crate::topology::gateway_node;
use crate::world::World;

/// Room of a device, bytes.
pub(crate) const DRIVE_BYTES: u64 = 512 << 20;

impl World {
    /// Lets the faults between two times of the schedule happen; returns after the last one ended.
    pub async fn faults_between(self: Arc<Self>, begin: Duration, end: Duration) {
        let started = tokio::time::Instant::now();
        let due = self.plan().faults.iter().filter(|(at, _)| (begin..end).contains(at));
        let running: Vec<_> = due
            .copied()
            .map(|(at, fault)| {
                let world = Arc::clone(&self);
                tokio::spawn(async move {
                    tokio::time::sleep_until(started + (at - begin)).await;
                    world.happen(fault).await;
                })
            })
            .collect();
        for fault in running {
            if let Err(error) = fault.await {
                self.env().findings.add("PANIC", format_args!("a fault's task: {error}"));
            }
        }
    }

    async fn happen(self: &Arc<Self>, fault: Fault) {
        self.env().trace.line(format_args!("fault {fault:?}"));
        match fault {
            // Ends the phase: the run sees to it.
            Fault::PowerLoss => {}
            Fault::KillGateway(place) => {
                if self.kill_gateway(place) {
                    self.pause(1500).await;
                    self.start_gateway(place).await;
                }
            }
            Fault::KillStorage(node) => {
                if self.kill_storage(node) {
                    self.pause(2500).await;
                    self.start_storage(node).await;
                }
            }
            Fault::KillVoter(voter) => {
                if self.kill_voter(voter) {
                    self.pause(if self.topology().voters > 1 { 8000 } else { 1500 }).await;
                    self.start_voter(voter, false).await;
                }
            }
            Fault::FailRaftSync(voter) => {
                if let Some(voter) = self.voters().get(voter) {
                    voter.disk.fail_syncs_after(self.rng().below(3));
                }
            }
            Fault::LoseDrive(drive) => self.lose_drive(drive),
            Fault::FailSync(drive) => {
                self.drive(drive).set_faults(Faults { next_syncs_fail: 1, ..Faults::default() });
            }
            Fault::FailReads(drive) => {
                self.drive(drive).set_faults(Faults { next_reads_fail: 2, ..Faults::default() });
            }
            Fault::FillDrive(drive) => {
                self.drive(drive).set_capacity(0);
                self.pause(4000).await;
                self.drive(drive).set_capacity(DRIVE_BYTES);
            }
            Fault::SlowDrive(drive) => {
                let slow = Duration::from_millis(self.rng().between(5, 900));
                self.drive(drive).set_latency(Latency { read: slow, write: slow, sync: slow });
                self.pause(5000).await;
                self.drive(drive).set_latency(self.usual_latency());
            }
            Fault::RotDrive(drive) => self.rot(drive),
            Fault::FreezeGateway(place) => {
                let node = gateway_node(place);
                if self.rng().chance(800) {
                    self.net().freeze_at_commit(node, Duration::from_secs(4)).await;
                }
                self.net().set_frozen(node, true);
                // Mostly longer than a lease and two sweeps.
                tokio::time::sleep(Duration::from_millis(self.rng().between(5_000, 14_000))).await;
                self.net().set_frozen(node, false);
            }
            Fault::CutGateway(place) => {
                let node = gateway_node(place);
                let nodes = self.meta_nodes();
                nodes.iter().for_each(|to| self.net().set_cut(node, *to, true));
                self.pause(8000).await;
                nodes.iter().for_each(|to| self.net().set_cut(node, *to, false));
            }
            Fault::Partition { .. }
            | Fault::SlowLinks { .. }
            | Fault::CrashSome { .. }
            | Fault::StepClock { .. }
            | Fault::WipeVoter => self.happen_to_many(fault).await,
        }
    }

    /// Waits between a twentieth and all of `millis`.
    pub(crate) async fn pause(&self, millis: u64) {
        tokio::time::sleep(Duration::from_millis(self.rng().between(millis / 20, millis))).await;
    }

    /// How fast drives are when nothing is wrong.
    pub(crate) fn usual_latency(&self) -> Latency {
        let plan = self.plan();
        Latency { read: Duration::from_micros(200), write: Duration::from_micros(200), sync: plan.drive_sync }
    }

    /// Flips a few stored bits.
    fn rot(&self, drive: usize) {
        let disk = self.drive(drive);
        for name in disk.files().into_iter().filter(|name| name.contains("segment") || name.ends_with(".seg")) {
            let Some(len) = disk.file_len(&name).filter(|len| *len > 0) else { continue };
            for _ in 0..3 {
                disk.flip(&name, self.rng().below(len), 1 << self.rng().below(8));
            }
        }
    }

    /// Ends every fault and restarts what is down. Drives that are lost stay lost.
    pub async fn heal(self: &Arc<Self>) {
        self.env().trace.line(format_args!("heal"));
        for drive in 0..self.topology().drives {
            let disk = self.drive(drive);
            disk.set_faults(Faults::default());
            disk.set_latency(self.usual_latency());
            disk.set_capacity(DRIVE_BYTES);
        }
        self.net().mend();
        for place in 0..self.topology().gateways {
            self.net().set_frozen(gateway_node(place), false);
        }
        // A drive that failed a sync takes no writes until its node starts again.
        for node in 0..self.topology().storage_nodes {
            self.kill_storage(node);
            self.start_storage(node).await;
        }
    }
}
