//! One seed from beginning to end.
//!
//! Boot phases end with a power loss: clients work and faults happen in each, the last ends by itself.
//! Then faults stop, everything late arrives, and all is read; then power is lost once more, drives
//! are taken away up to what the scheme survives, and all is read again. At last the history is judged.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::client::Client;
use crate::content::Values;
use crate::env::{Env, GatewayPool};
use crate::findings::Findings;
use crate::history::History;
use crate::keeper::verify_kept;
use crate::net::NetFaults;
use crate::oracle::judge;
use crate::panics;
use crate::plan::{Fault, Plan};
use crate::runtime::{SimClock, run_phase};
use crate::sabotage::Sabotage;
use crate::seed::SimRng;
use crate::topology::Topology;
use crate::trace::Trace;
use crate::verify::verify;
use crate::world::World;

/// Longest time clients get to finish after the faults ended.
const FINISH_MAX: Duration = Duration::from_secs(90);
/// Longest time that a power loss waits for an acknowledgement.
const AIM_MAX: Duration = Duration::from_secs(3);
/// Longer than every patience inside the store, so that nothing is under way after it.
const SETTLE: Duration = Duration::from_secs(20);

/// Which cluster, on which network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setting {
    /// The smallest, in memory.
    Small,
    /// Several nodes of every kind, drawn from the seed, in memory.
    Cluster,
    /// A cluster of the usual size, over QUIC and simulated packets.
    Quic,
    /// A cluster with spare drives whose slots move all the time, in memory.
    Moving,
}

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What is simulated.
    pub setting: Setting,
    /// The seed.
    pub seed: u64,
    /// A promise broken on purpose. Needs the feature `sabotage`; without it nothing is broken.
    pub sabotage: Option<Sabotage>,
    /// More of the faults that bring this defect to light.
    pub focus: Option<Sabotage>,
    /// Keep every line of the trace, not only the last ones.
    pub keep_trace: bool,
}

/// How a seed went.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Broken promises; empty is a pass.
    pub findings: Vec<String>,
    /// Lines of the trace, all or the last ones.
    pub trace: Vec<String>,
    /// Number of lines.
    pub lines: u64,
    /// Hash of all lines.
    pub hash: String,
    /// Operations that clients saw the end of.
    pub operations: usize,
    /// Virtual time, microseconds.
    pub micros: u64,
    /// Keys whose history was too large to judge.
    pub undecided: usize,
    /// Slots that moved and were handed over.
    pub moved: u64,
}

impl Report {
    /// One line.
    pub fn summary(&self) -> String {
        let verdict = if self.findings.is_empty() { "ok" } else { "FAILED" };
        format!(
            "seed {} {verdict}: {} operations in {} s of virtual time, trace {} lines {}{}",
            self.seed,
            self.operations,
            self.micros / 1_000_000,
            self.lines,
            self.hash,
            if self.undecided > 0 { format!(", {} keys undecided", self.undecided) } else { String::new() },
        )
    }
}

/// Runs one seed.
///
/// # Errors
/// When a runtime cannot be built. What the store does wrong is in the report.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    panics::watch();
    let rng = SimRng::new(options.seed);
    let clock = Arc::new(SimClock::default());
    let trace = Trace::new(Arc::clone(&clock), options.keep_trace);
    let findings = Findings::new(trace.clone());
    let draw = rng.stream("plan");
    let plan = match options.setting {
        Setting::Small => Plan::focused(&draw, Topology::SMALL, options.focus),
        Setting::Cluster => Plan::of_cluster(&draw, Topology::draw(&draw.stream("topology")), options.focus),
        Setting::Quic => Plan::of_cluster(&draw, Topology::USUAL, options.focus).over_quic(),
        Setting::Moving => Plan::of_cluster(&draw, Topology::ROOMY, options.focus).moving(),
    };
    trace.line(format_args!("seed {} {plan:?}", options.seed));
    let env = Arc::new(Env {
        clock: Arc::clone(&clock),
        trace: trace.clone(),
        values: Values::new(rng.stream("values")),
        history: History::default(),
        findings: findings.clone(),
        gateways: GatewayPool::default(),
        large_left: AtomicU32::new(plan.workload.large_values),
        flips_bits: plan.net.corrupt_read > 0,
        acknowledged: tokio::sync::watch::Sender::new(0),
        committed: Mutex::default(),
        kept: Mutex::default(),
        signed: Mutex::default(),
        moved: AtomicU64::new(0),
    });
    let world = World::new(&rng, plan, Arc::clone(&env), options.sabotage);
    Run { rng, clock: Arc::clone(&clock), env: Arc::clone(&env), world }.all_phases()?;
    for panic in panics::seen() {
        env.findings.add("PANIC", panic);
    }
    let undecided = judge(&env);
    let (lines, hash) = trace.digest();
    Ok(Report {
        seed: options.seed,
        findings: findings.all(),
        trace: trace.lines(),
        lines,
        hash,
        operations: env.history.by_key().values().flatten().filter(|op| op.certain).count(),
        micros: clock.micros(),
        undecided,
        moved: env.moved.load(Ordering::Relaxed),
    })
}

/// Number of the client that is the keeper.
const KEEPER: u32 = 900;

struct Run {
    rng: SimRng,
    clock: Arc<SimClock>,
    env: Arc<Env>,
    world: Arc<World>,
}

impl Run {
    fn all_phases(&self) -> std::io::Result<()> {
        let plan = self.world.plan();
        let losses = plan.faults.iter().filter(|(_, fault)| *fault == Fault::PowerLoss).map(|(at, _)| *at);
        let ends: Vec<Duration> = losses.chain([plan.chaos]).collect();
        let mut begin = Duration::ZERO;
        for (phase, end) in (0u32..).zip(ends.iter().copied()) {
            let last = phase as usize + 1 == ends.len();
            run_phase(&self.clock, &self.rng, phase, async {
                self.chaos(phase, (begin, end), last).await;
                if !plan.ends_first {
                    // Before the tasks are dropped: nothing they do while they end reaches a device.
                    self.power_loss();
                }
            })?;
            if plan.ends_first {
                self.power_loss();
            }
            begin = end;
        }
        let phase = u32::try_from(ends.len()).unwrap_or(u32::MAX);
        run_phase(&self.clock, &self.rng, phase, self.aftermath(phase))
    }

    fn power_loss(&self) {
        self.env.trace.line(format_args!("power loss"));
        self.env.gateways.clear();
        self.world.power_loss();
        self.env.history.settle(self.clock.micros());
    }

    /// One phase with clients and faults, from `begin` to `end` of the schedule.
    async fn chaos(&self, phase: u32, (begin, end): (Duration, Duration), last: bool) {
        if !self.world.boot(phase).await {
            return;
        }
        if phase > 0 {
            self.verify_all("after power loss").await;
        }
        let plan = self.world.plan();
        self.world.net().set_faults(plan.net);
        let started = tokio::time::Instant::now();
        let share = plan.workload.operations / (1 + self.losses());
        let mut clients: Vec<_> =
            (0..plan.workload.clients).map(|id| tokio::spawn(self.client(id, phase).run(share.max(4)))).collect();
        if plan.keeper {
            clients.push(tokio::spawn(self.client(KEEPER, phase).keep(share.max(12))));
        }
        let world = Arc::clone(&self.world);
        let faults = tokio::spawn(async move { world.faults_between(begin, end).await });
        if !last {
            tokio::time::sleep_until(started + (end - begin)).await;
            if plan.aimed {
                // The worst moment: a client just heard that its write is durable.
                let mut acknowledged = self.env.acknowledged.subscribe();
                drop(tokio::time::timeout(AIM_MAX, acknowledged.changed()).await);
            }
            return;
        }
        drop(faults.await);
        tokio::time::sleep_until(started + (end - begin)).await;
        self.world.net().set_faults(NetFaults::CALM);
        self.world.heal().await;
        let finish = async {
            for client in clients {
                self.note_panic("a client", client.await);
            }
        };
        if tokio::time::timeout(FINISH_MAX, finish).await.is_err() {
            self.env.findings.add("LIVENESS", "clients did not finish after the faults ended");
        }
        tokio::time::sleep(SETTLE).await;
        self.env.history.settle(self.clock.micros());
        self.world.check_voters().await;
        self.verify_all("after the faults").await;
    }

    /// Everything that was ever acknowledged is still there after one more power loss and without as
    /// many drives as the scheme may lose.
    async fn aftermath(&self, phase: u32) {
        self.world.take_drives_away();
        if !self.world.boot(phase).await {
            return;
        }
        self.verify_all("after power loss, without lost drives").await;
        self.world.check_log().await;
    }

    async fn verify_all(&self, when: &str) {
        let reader = self.client(1000, 1000);
        match self.env.gateways.pick(&self.rng.stream(when)) {
            Some(gateway) => {
                verify(&reader, &gateway, when).await;
                verify_kept(&self.env, &gateway, when).await;
            }
            None => self.env.findings.add("LIVENESS", format_args!("{when}: no gateway runs")),
        }
        for broken in self.world.net().broken_wire_forms() {
            self.env.findings.add("WIRE", broken);
        }
    }

    fn client(&self, id: u32, phase: u32) -> Client {
        let rng = self.rng.stream(&format!("client {id} {phase}"));
        Client::new(id, rng, Arc::clone(&self.env), self.world.plan().workload.clone())
    }

    fn losses(&self) -> u32 {
        let losses = self.world.plan().faults.iter().filter(|(_, fault)| *fault == Fault::PowerLoss).count();
        u32::try_from(losses).unwrap_or(u32::MAX)
    }

    fn note_panic<T>(&self, what: &str, ended: Result<T, tokio::task::JoinError>) {
        if let Err(error) = ended {
            self.env.findings.add("PANIC", format_args!("{what}: {error}"));
        }
    }
}
