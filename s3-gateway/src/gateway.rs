//! What all flows share: configuration, clients, lease, map, budget, CPU, cache, metrics.
//!
//! Made once per process by [`Gateway::start`]; the flows take it by reference. It holds nothing
//! durable.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::registry::Registry;
use stele_chunker::buffer::BufferPool;
use stele_rpc::client::MetaClient;
use stele_rpc::error::RpcError;
use stele_rpc::meta::{MetaReply, MetaRequest};
use stele_types::ids::{DriveId, MapEpoch, NodeId, PackId, Salt};
use stele_types::seam::{Clock, Rng, random_bytes};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::api::{GatewayConfig, GatewayDeps, GatewayHealth};
use crate::bucket::BucketCache;
use crate::budget::Budget;
use crate::cache::ChunkCache;
use crate::cpu::CpuPool;
use crate::error::{GatewayError, StartError};
use crate::evidence::EXPORTS_MAX;
use crate::fetch::Latency;
use crate::lease::{Leases, renew_forever};
use crate::log_archive::Archives;
use crate::map::Placement;
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::packer::Packer;
use crate::possession::Audits;
use crate::store::Coders;

/// Unused pack buffers are kept up to this share of the memory budget, beside it.
const IDLE_SHARE_OF_BUDGET: u64 = 8;
/// Repair reports kept until somebody takes them; older ones are dropped.
const REPAIR_REPORTS_MAX: usize = 256;

/// A shard that was missing or whose bytes were wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RepairReport {
    /// The pack.
    pub pack: PackId,
    /// Which of its shards.
    pub shard: u8,
    /// The drive that should hold it.
    pub drive: DriveId,
    /// What was wrong, for people.
    pub reason: String,
}

/// One S3 gateway.
pub struct Gateway {
    pub(crate) config: GatewayConfig,
    pub(crate) meta: MetaClient,
    /// Storage nodes, and which of them answer.
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) placement: Arc<Placement>,
    pub(crate) budget: Budget,
    pub(crate) cpu: CpuPool,
    pub(crate) cache: ChunkCache,
    pub(crate) buckets: BucketCache,
    pub(crate) packer: Packer,
    pub(crate) coders: Coders,
    /// Memory of packs that were stored, for the next ones.
    pub(crate) pool: BufferPool,
    pub(crate) latency: Latency,
    /// Slots of evidence exports.
    pub(crate) exports: Arc<Semaphore>,
    /// Possession audits.
    pub(crate) audits: Audits,
    /// Archives of the evidence log.
    pub(crate) archives: Archives,
    pub(crate) metrics: Metrics,
    node: NodeId,
    repairs: Mutex<VecDeque<RepairReport>>,
    background: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Gateway {
    /// Fetches the cluster map, takes a lease and starts its renewal.
    ///
    /// # Errors
    /// [`StartError`]: fix the configuration, or try again when the metadata service answers.
    pub async fn start(config: GatewayConfig, deps: GatewayDeps) -> Result<Arc<Self>, StartError> {
        let metrics = Metrics::new(Arc::clone(&deps.clock));
        let leases = Arc::new(Leases::new(deps.meta.clone(), deps.node, &config, metrics.leases.clone()));
        let clock = Arc::clone(&deps.clock);
        let nodes = Nodes::new(deps.storage, clock, config.doubt_after, config.probe_timeout);
        let placement = Arc::new(Placement::new(
            deps.meta.clone(),
            Arc::clone(&deps.clock),
            config.meta_timeout,
            config.suspect_for,
            Arc::clone(&nodes),
        ));
        let missing = |what| move |source| StartError::Meta { what, source };
        placement.refresh(MapEpoch(0)).await.map_err(missing("cluster map"))?;
        leases.grant().await.map_err(missing("lease"))?;
        let pool = BufferPool::new(usize::try_from(config.memory_bytes / IDLE_SHARE_OF_BUDGET).unwrap_or(0));
        let gateway = Arc::new(Self {
            budget: Budget::new(config.memory_bytes, config.budget_wait)?,
            cpu: CpuPool::start(deps.cpu)?,
            cache: ChunkCache::new(config.cache_bytes),
            buckets: BucketCache::default(),
            packer: Packer::default(),
            coders: Coders::new(&pool),
            pool,
            latency: Latency::new(config.hedge_floor),
            exports: Arc::new(Semaphore::new(EXPORTS_MAX)),
            audits: Audits::default(),
            archives: Archives::default(),
            meta: deps.meta,
            nodes,
            clock: deps.clock,
            rng: deps.rng,
            leases,
            placement,
            metrics,
            config,
            node: deps.node,
            repairs: Mutex::default(),
            background: Mutex::default(),
        });
        gateway.spawn_renewal();
        Ok(gateway)
    }

    fn spawn_renewal(&self) {
        let leases = Arc::downgrade(&self.leases);
        let placement = Arc::downgrade(&self.placement);
        let on_map = move |epoch: MapEpoch| {
            let Some(placement) = placement.upgrade() else { return };
            let known = placement.epoch();
            if epoch > known {
                tokio::spawn(async move { placement.refresh_or_warn(known).await });
            }
        };
        let renewal = tokio::spawn(renew_forever(leases, self.config.lease_ttl, on_map));
        self.background.lock().unwrap_or_else(PoisonError::into_inner).push(renewal);
    }

    /// Stops background work and gives the lease back. Call it when no request is running.
    pub async fn stop(&self) {
        let background = std::mem::take(&mut *self.background.lock().unwrap_or_else(PoisonError::into_inner));
        for task in background {
            task.abort();
        }
        self.leases.release().await;
    }

    /// This process.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// What health pages and status show.
    pub fn health(&self) -> GatewayHealth {
        let avoided_drives = self.placement.avoided();
        self.metrics.drives_avoided.set(i64::try_from(avoided_drives.len()).unwrap_or(i64::MAX));
        GatewayHealth {
            lease: self.leases.is_held(),
            pgs: self.placement.pg_counts(),
            avoided_drives,
            memory_used_bytes: self.budget.used_bytes(),
        }
    }

    /// Fetches the cluster map if the metadata service has a newer one. Renewal does this by
    /// itself; call it where a change of drive states must be seen sooner.
    ///
    /// # Errors
    /// `Unavailable` if the metadata service does not answer.
    pub async fn refresh_map(&self) -> Result<(), GatewayError> {
        let known = self.placement.epoch();
        self.placement.refresh(known).await.map_err(|error| GatewayError::from_meta(error, ""))
    }

    /// Adds this gateway's metrics to a registry.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// Takes the repair reports gathered since the last call; the newest 256 are kept.
    pub fn repair_reports(&self) -> Vec<RepairReport> {
        self.repairs.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    pub(crate) fn report(&self, report: RepairReport) {
        self.metrics.mismatches.inc();
        let mut repairs = self.repairs.lock().unwrap_or_else(PoisonError::into_inner);
        // A lost drive makes every read of it a mismatch: each shard is told once while it is queued.
        if repairs.iter().any(|known| (known.pack, known.shard) == (report.pack, report.shard)) {
            return;
        }
        tracing::warn!(pack = %report.pack, shard = report.shard, drive = %report.drive, reason = report.reason,
            "shard needs repair");
        if repairs.len() >= REPAIR_REPORTS_MAX {
            repairs.pop_front();
        }
        repairs.push_back(report);
    }

    /// One linearizable metadata read, retried while nobody leads.
    pub(crate) async fn read(&self, request: MetaRequest) -> Result<MetaReply, RpcError> {
        use stele_rpc::error::Code;
        let mut pause = Duration::from_millis(20);
        for _ in 0..4 {
            match self.meta.call(request.clone(), self.config.meta_timeout).await {
                Err(error) if matches!(error.code, Code::NotLeader | Code::Unreachable | Code::Busy) => {
                    tracing::debug!(%error, "metadata read retried");
                }
                answer => return answer,
            }
            tokio::time::sleep(pause).await;
            pause *= 3;
        }
        self.meta.call(request, self.config.meta_timeout).await
    }

    pub(crate) fn random_u64(&self) -> u64 {
        u64::from_le_bytes(random_bytes(self.rng.as_ref()))
    }

    /// A salt for one entry of the evidence log.
    pub(crate) fn draw_salt(&self) -> Salt {
        Salt::from_bytes(random_bytes(self.rng.as_ref()))
    }
}
