//! The parts of a store in one process, wired as separate processes would be: each behind its node
//! id on a transport, here the in-memory one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use stele_metadata::placement::initial_map;
use stele_metadata::{MetadataConfig, MetadataNode, files};
use stele_rpc::client::{MetaClient, StorageClient};
use stele_rpc::error::RpcError;
use stele_rpc::memory::MemoryNetwork;
use stele_rpc::meta::{Command, GcRun};
use stele_s3_gateway::api::{Cpu, GatewayConfig, GatewayDeps};
use stele_s3_gateway::gateway::Gateway;
use stele_s3_gateway::log_archive::run_archiver;
use stele_s3_gateway::possession::run_schedule;
use stele_storage_node::config::NodeConfig;
use stele_storage_node::exec::Executor;
use stele_storage_node::metrics::Metrics as StorageMetrics;
use stele_storage_node::node::{Answers, DriveSpec, StorageNode};
use stele_storage_node::repair::{RepairReport, RepairWorker};
use stele_storage_node::sweep::SweepWorker;
use stele_types::ids::NodeId;
use stele_types::map::ClusterMap;
use stele_types::scheme::Scheme;
use stele_types::seam::{Clock, Rng};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::data_dir::{Cluster, DataDir, Founding};
use super::founding::{FoundDrive, cluster, find_drives, format_drives, rows, specs};
use super::slow_media::SlowMedia;
use super::watch::{DriveWatch, changes, cluster_command, cluster_map, set_drive_state};
use crate::anchor::chains::Host;
use crate::anchor::{self, AnchorDir, stamps};
use crate::answer_key;
use crate::config::Config;
use crate::real;

/// Node ids within the process.
const METADATA: NodeId = NodeId(1);
const STORAGE: NodeId = NodeId(2);
const GATEWAY: NodeId = NodeId(3);
const ANCHOR: NodeId = NodeId(4);

const FOUND_TIMEOUT: Duration = Duration::from_secs(30);

/// A running store without its doors.
pub(crate) struct Store {
    pub(crate) metadata: Arc<MetadataNode>,
    pub(crate) storage: Arc<StorageNode>,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) meta_client: MetaClient,
    pub(crate) storage_client: StorageClient,
    pub(crate) storage_metrics: StorageMetrics,
    background: Vec<JoinHandle<()>>,
}

impl Store {
    /// Opens metadata, drives and gateway; founds the store in a fresh directory.
    ///
    /// # Errors
    /// Says what can't be opened and what to do. Missing drives are no error.
    pub(crate) async fn open(
        config: &Config,
        data: &DataDir,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
    ) -> anyhow::Result<Self> {
        let cluster = cluster(data, config.drives, rng.as_ref()).await?;
        if cluster.founding == Founding::Begun {
            format_drives(data, &cluster, rng.as_ref()).await?;
        }
        let network = Arc::new(MemoryNetwork::default());
        let files = files::in_directory(&data.metadata())?;
        let peers = Arc::new(network.transport(METADATA));
        let metadata = MetadataNode::open(MetadataConfig::new(METADATA), files, Arc::clone(&clock), peers).await?;
        network.bind(METADATA, Arc::clone(&metadata) as _);
        metadata.ready().await?;
        let meta_client = MetaClient::new(Arc::new(network.transport(GATEWAY)), METADATA);
        let storage_client = StorageClient::new(Arc::new(network.transport(GATEWAY)));

        let (found, refused) = find_drives(data, &cluster).await;
        for why in refused {
            tracing::error!("{why}");
        }
        let map = founded_map(data, &cluster, &found, &meta_client).await?;
        let storage_metrics = StorageMetrics::default();
        let specs = slowed(specs(data, &map, &found), config.bench.drive_sync_latency.duration());
        let node_config = NodeConfig::new(STORAGE, cluster.id);
        let storage = StorageNode::open(node_config, specs, Executor::Threads, storage_metrics.clone()).await;
        tell_states(&meta_client, &map, &storage).await?;
        storage.set_map(cluster_map(&meta_client).await?);
        network.bind(STORAGE, Arc::clone(&storage) as _);

        let deps = GatewayDeps {
            node: GATEWAY,
            meta: meta_client.clone(),
            storage: storage_client.clone(),
            clock: Arc::clone(&clock),
            rng: Arc::clone(&rng),
            cpu: Cpu::Threads(real::processors()),
        };
        let gateway = Gateway::start(gateway_config(config)?, deps).await?;
        for node in [STORAGE, GATEWAY] {
            let signer = data.answer_key(cluster.id, node, rng.as_ref()).await?;
            let meta = MetaClient::new(Arc::new(network.transport(node)), METADATA);
            if !answer_key::tell(&meta, node, &signer).await {
                continue;
            }
            if node == STORAGE {
                storage.answer_audits(Answers::new(signer, Arc::clone(&clock), Executor::Threads));
            } else {
                gateway.answer_audits(signer);
            }
        }
        let mut store =
            Self { metadata, storage, gateway, meta_client, storage_client, storage_metrics, background: Vec::new() };
        store.start_background(config, Arc::clone(&clock), Arc::clone(&rng));
        let meta = MetaClient::new(Arc::new(network.transport(ANCHOR)), METADATA);
        store.start_anchor(config, data, Host { meta, node: ANCHOR, cluster: cluster.id, clock, rng }).await?;
        Ok(store)
    }

    async fn start_anchor(&mut self, config: &Config, data: &DataDir, host: Host) -> anyhow::Result<()> {
        let dir = AnchorDir::open(&data.anchor()).await?;
        let anchor = dir.anchor(&config.anchor, &host).await?;
        let mut chains = dir.chains(&config.anchor.chains, &host).await?;
        self.background.append(&mut chains.tasks);
        self.background.append(&mut stamps::start(&config.anchor, &Arc::new(host)).await?);
        self.background.push(tokio::spawn(anchor::run(anchor, chains, config.anchor.interval.duration())));
        Ok(())
    }

    fn start_background(&mut self, config: &Config, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>) {
        let watch = DriveWatch {
            meta: self.meta_client.clone(),
            id: STORAGE,
            node: Arc::clone(&self.storage),
            gateway: Some(Arc::clone(&self.gateway)),
        };
        self.background.push(tokio::spawn(watch.run()));
        let schedule = config.possession.schedule();
        self.background
            .extend(schedule.map(|schedule| tokio::spawn(run_schedule(Arc::downgrade(&self.gateway), schedule))));
        self.background.push(tokio::spawn(run_archiver(Arc::downgrade(&self.gateway))));
        let (meta, storage) = (self.meta_client.clone(), self.storage_client.clone());
        let sweeper = SweepWorker::new(meta, storage, clock, config.gc.settings());
        self.background.push(tokio::spawn(sweeper.run(config.gc.interval.duration(), || true, tell_sweep)));
        let clients = (self.meta_client.clone(), self.storage_client.clone());
        let repairer = RepairWorker::new(STORAGE, clients, rng, config.repair.settings(), self.storage_metrics.clone());
        self.background.push(tokio::spawn(repairer.run(config.repair.interval.duration(), tell_repair)));
    }

    /// Node id of the storage node.
    pub(crate) const fn storage_id() -> NodeId {
        STORAGE
    }

    /// Becomes `Some(why)` when the metadata can't go on; the process must then end at once.
    pub(crate) fn fatal(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.metadata.fatal()
    }

    /// Stops in order, once no request is running: lease back, metadata synced, drives closed.
    ///
    /// # Errors
    /// If the metadata could not be synced; its log still holds what is missing.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        for task in &self.background {
            task.abort();
        }
        self.gateway.stop().await;
        let synced = self.metadata.shutdown().await;
        self.storage.close().await;
        synced.context("syncing the metadata at the end; the raft log still holds everything")
    }
}

pub(crate) fn gateway_config(config: &Config) -> anyhow::Result<GatewayConfig> {
    let memory = &config.memory;
    Ok(GatewayConfig {
        memory_bytes: memory.budget.0.saturating_sub(memory.cache.0),
        cache_bytes: usize::try_from(memory.cache.0).context("memory.cache")?,
        body_idle: config.limits.idle_timeout.duration(),
        ..GatewayConfig::default()
    })
}

/// The map of this cluster; founds it if the founding is not done.
async fn founded_map(
    data: &DataDir,
    cluster: &Cluster,
    found: &[FoundDrive],
    meta: &MetaClient,
) -> anyhow::Result<ClusterMap> {
    let map = cluster_map(meta).await?;
    match (map.cluster, cluster.founding) {
        (Some(id), _) if id != cluster.id => {
            bail!("the metadata belongs to cluster {id}, cluster.toml says {}; restore the right one", cluster.id)
        }
        (Some(_), Founding::Done) => return Ok(map),
        // Founded, but stopped before that was written down.
        (Some(_), Founding::Begun) => {}
        (None, Founding::Done) => {
            bail!("the metadata is empty, but the store was founded; restore the metadata directory")
        }
        (None, Founding::Begun) => {
            let drives = rows(found, STORAGE);
            let scheme = Scheme::for_domains(drives.len());
            let map = Box::new(initial_map(cluster.id, &drives, scheme)?);
            let command = Command::InitCluster { cluster: cluster.id, drives, map };
            meta.command(cluster_command(command, STORAGE), FOUND_TIMEOUT).await?;
        }
    }
    data.save_cluster(Cluster { founding: Founding::Done, ..*cluster }).await?;
    cluster_map(meta).await.map_err(|error| anyhow!(error))
}

/// Before anything is served, the map says which drives are gone.
async fn tell_states(meta: &MetaClient, map: &ClusterMap, storage: &StorageNode) -> anyhow::Result<()> {
    let seen = storage.watch_drives().borrow().clone();
    for change in changes(map, STORAGE, &seen) {
        set_drive_state(meta, STORAGE, change).await?;
    }
    Ok(())
}

pub(crate) fn tell_sweep(outcome: Result<GcRun, RpcError>) {
    let run = match outcome {
        Ok(run) => run,
        Err(error) => return tracing::warn!(%error, "sweep not run; the next one tries again"),
    };
    for (pg, why) in &run.voided {
        tracing::warn!(%pg, why, "placement group not swept");
    }
    let GcRun { number, examined, pardoned, refused, .. } = run;
    let (condemned, deleted, strays) = (run.condemned.packs, run.deleted.packs, run.strays.found.packs);
    tracing::info!(number, fence = %run.fence, examined, condemned, deleted, pardoned, refused, strays, "sweep");
}

/// What a look at missing shards brought, where there was anything to tell.
pub(crate) fn tell_repair(outcome: Result<RepairReport, RpcError>) {
    let report = match outcome {
        Ok(report) => report,
        Err(error) => return tracing::warn!(%error, "missing shards not looked for; the next look tries again"),
    };
    for (pg, why) in &report.skipped {
        tracing::warn!(%pg, why, "placement group not repaired");
    }
    for (pack, shard, why) in &report.failed {
        tracing::warn!(%pack, shard, why, "shard not made anew");
    }
    if let Some(pack) = report.unreadable.first() {
        tracing::error!(packs = report.unreadable.len(), first = %pack, "too few shards of referenced packs were found");
    }
    if let Some((pg, slot, why)) = report.unfinished.first() {
        tracing::info!(slots = report.unfinished.len(), %pg, slot, why, "slots are not handed over yet");
    }
    let RepairReport { examined, rebuilt, waiting, read_bytes, written_bytes, moved, .. } = report;
    if rebuilt > 0 || waiting > 0 || moved > 0 {
        tracing::info!(examined, rebuilt, waiting, read_bytes, written_bytes, moved, "repair");
    }
}

pub(crate) fn slowed(specs: Vec<DriveSpec>, sync_latency: Duration) -> Vec<DriveSpec> {
    if sync_latency.is_zero() {
        return specs;
    }
    tracing::warn!("bench.drive_sync_latency: every drive sync takes {} ms longer", sync_latency.as_millis());
    let slow = |spec: DriveSpec| DriveSpec { media: Arc::new(SlowMedia { inner: spec.media, sync_latency }), ..spec };
    specs.into_iter().map(slow).collect()
}
