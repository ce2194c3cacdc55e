//! A soak of garbage collection in simulated time: millions of versions through the real state machine and the real
//! sweep, on a real storage node with model drives. There is no raft and no gateway: what a gateway would
//! send is sent here, so that one run is long rather than wide. After each sweep no pack that a version refers to
//! is condemned or gone; at the end nothing else is left. Each version has a pack of its own: what packs that are
//! shared keep is not what this measures.

mod metadata;
mod place;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stele_metadata::apply::ApplyOptions;
use stele_rpc::client::{MetaClient, StorageClient};
use stele_rpc::memory::MemoryNetwork;
use stele_rpc::meta::GcRun;
use stele_rpc::transport::Service;
use stele_storage_node::config::Sabotage;
use stele_storage_node::node::StorageNode;
use stele_storage_node::sweep::{SweepConfig, SweepWorker};
use stele_types::ids::{NodeId, PackId, PgId};
use stele_types::pack::PackRow;

use self::place::drives_of;
use self::writer::Writer;

/// Virtual time that a batch takes.
const PACE: Duration = Duration::from_millis(100);
const SWEEP_EVERY: Duration = Duration::from_secs(8);
const GRACE: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(60);

/// What a soak is.
#[derive(Clone, Copy, Debug)]
pub struct SoakOptions {
    /// Everything random.
    pub seed: u64,
    /// Versions that are written.
    pub versions: u64,
    /// Broken on purpose: commits are accepted however old they are.
    #[cfg(feature = "sabotage")]
    pub commit_when_fenced: bool,
    /// Broken on purpose: the sweep deletes without asking.
    #[cfg(feature = "sabotage")]
    pub delete_without_asking: bool,
}

impl SoakOptions {
    /// Nothing is broken.
    pub fn new(seed: u64, versions: u64) -> Self {
        Self {
            seed,
            versions,
            #[cfg(feature = "sabotage")]
            commit_when_fenced: false,
            #[cfg(feature = "sabotage")]
            delete_without_asking: false,
        }
    }
}

impl SoakOptions {
    #[cfg(feature = "sabotage")]
    fn apply(self) -> ApplyOptions {
        ApplyOptions { accept_fenced: self.commit_when_fenced, ..ApplyOptions::default() }
    }

    #[cfg(not(feature = "sabotage"))]
    fn apply(self) -> ApplyOptions {
        ApplyOptions::default()
    }

    #[cfg(feature = "sabotage")]
    fn sweep_sabotage(self) -> Sabotage {
        Sabotage { delete_without_asking: self.delete_without_asking, ..Sabotage::default() }
    }

    #[cfg(not(feature = "sabotage"))]
    fn sweep_sabotage(self) -> Sabotage {
        Sabotage::default()
    }
}

/// What a soak found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SoakReport {
    /// Versions that were committed, copies included.
    pub committed: u64,
    /// Writes that were refused, because the fence had passed them.
    pub fenced: u64,
    /// Packs that no commit followed.
    pub abandoned: u64,
    /// Versions that were deleted or overwritten.
    pub removed: u64,
    /// Sweeps.
    pub sweeps: u64,
    /// Packs they condemned.
    pub condemned: u64,
    /// Packs they deleted.
    pub deleted: u64,
    /// Packs they pardoned.
    pub pardoned: u64,
    /// Referenced packs that were found condemned or missing. Zero, or something is broken.
    pub violations: u64,
    /// At the end: packs that versions refer to.
    pub live_packs: u64,
    /// At the end: packs on drives that nothing refers to.
    pub left_over: u64,
    /// At the end: bytes of shards that versions refer to, headers included.
    pub live_bytes: u64,
    /// At the end: bytes of segments on drives.
    pub used_bytes: u64,
}

impl SoakReport {
    /// Whether the promises of garbage collection held.
    ///
    /// # Errors
    /// Says which did not.
    pub fn verdict(&self) -> Result<(), String> {
        if self.violations + self.pardoned > 0 {
            return Err(format!(
                "{} referenced packs condemned or missing, {} pardoned",
                self.violations, self.pardoned
            ));
        }
        if self.left_over > 0 {
            return Err(format!("{} packs that nothing refers to are left", self.left_over));
        }
        if self.used_bytes * 10 > self.live_bytes * 11 {
            return Err(format!(
                "drives hold {} bytes, a tenth more than the {} live ones",
                self.used_bytes, self.live_bytes
            ));
        }
        Ok(())
    }
}

/// Runs a soak from beginning to end, in virtual time.
///
/// # Errors
/// Something did not work that has nothing to do with garbage collection.
pub fn soak(options: SoakOptions) -> anyhow::Result<SoakReport> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(run(options))
}

async fn run(options: SoakOptions) -> anyhow::Result<SoakReport> {
    let mut soak = Writer::new(options).await?;
    let sweeper = sweeper(&soak, options);
    let (live, node) = (Arc::clone(&soak.live), Arc::clone(&soak.node));
    let swept = Arc::new(Mutex::new(SoakReport::default()));
    let told = Arc::clone(&swept);
    let sweeps = tokio::spawn(async move {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            if let Ok(run) = sweeper.run_once().await {
                let violations = violations(&node, &live.lock().unwrap_or_else(PoisonError::into_inner));
                note(&mut told.lock().unwrap_or_else(PoisonError::into_inner), &run, violations);
            }
        }
    });
    while soak.report.committed + soak.report.abandoned + soak.report.fenced < options.versions {
        soak.step().await?;
        tokio::time::sleep(PACE).await;
    }
    soak.settle().await?;
    sweeps.abort();
    let mut report = soak.report.clone();
    let swept = swept.lock().unwrap_or_else(PoisonError::into_inner).clone();
    (report.sweeps, report.condemned, report.deleted) = (swept.sweeps, swept.condemned, swept.deleted);
    (report.pardoned, report.violations) = (swept.pardoned, swept.violations);
    soak.count(&mut report)?;
    soak.node.close().await;
    Ok(report)
}

fn note(told: &mut SoakReport, run: &GcRun, violations: u64) {
    told.sweeps += 1;
    told.condemned += run.condemned.packs;
    told.deleted += run.deleted.packs;
    told.pardoned += run.pardoned;
    told.violations += violations;
}

/// Packs that a version refers to and a drive of their group condemns or lacks.
fn violations(node: &StorageNode, live: &BTreeMap<u64, PackRow>) -> u64 {
    let mut by_group: BTreeMap<PgId, Vec<PackId>> = BTreeMap::new();
    for row in live.values() {
        by_group.entry(row.pg).or_default().push(row.pack);
    }
    let mut found = 0;
    for (pg, packs) in by_group {
        let packs: Vec<PackId> = packs.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        for drive in drives_of(pg) {
            let held = node.drive(drive).and_then(|drive| drive.holds(&packs).ok()).unwrap_or_default();
            found += held.iter().filter(|row| row.condemned.is_some()).count() + packs.len() - held.len();
        }
    }
    found as u64
}

fn sweeper(soak: &Writer, options: SoakOptions) -> SweepWorker {
    let network = Arc::new(MemoryNetwork::default());
    network.bind(NodeId(1), Arc::clone(&soak.node) as Arc<dyn Service>);
    network.bind(NodeId(2), Arc::clone(&soak.metadata) as Arc<dyn Service>);
    let transport = Arc::new(network.transport(NodeId(2)));
    let config = SweepConfig {
        grace: GRACE,
        page: 256,
        timeout: TIMEOUT,
        deletes_per_second: 0,
        sabotage: options.sweep_sabotage(),
    };
    let clock = Arc::new(soak.metadata.clock);
    SweepWorker::new(MetaClient::new(transport.clone(), NodeId(2)), StorageClient::new(transport), clock, config)
}
