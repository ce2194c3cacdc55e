//! `stele storage-node`: drives, served to the cluster.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use stele_evidence::keys::Ed25519Signer;
use stele_rpc::client::{MetaClient, StorageClient};
use stele_rpc::error::RpcError;
use stele_rpc::transport::{Request, Response, Service, SharedTransport, Transport};
use stele_storage_node::config::NodeConfig;
use stele_storage_node::exec::Executor;
use stele_storage_node::metrics::Metrics as StorageMetrics;
use stele_storage_node::node::{Answers, StorageNode};
use stele_storage_node::repair::RepairWorker;
use stele_types::ids::NodeId;
use stele_types::map::{ClusterMap, DriveRow, DriveState};
use stele_types::role::Role;
use stele_types::seam::{Clock, Rng};
use tokio::sync::watch;

use super::drive_list::{self, NamedDrive};
use super::follow::Follower;
use super::join::member;
use super::node_dir::{Member, NodeDir};
use super::process::{Running, start_admin};
use super::wire::Wire;
use crate::admin::metrics::Metrics;
use crate::admin::view::View;
use crate::answer_key;
use crate::config::Config;
use crate::dev::signals::StopSignals;
use crate::dev::store::{slowed, tell_repair};
use crate::dev::watch::{DriveWatch, newer_map};
use crate::real::{OsRng, RealClock};

/// Between two fetches of the map that requests asked for.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(100);

/// Runs until a signal.
///
/// # Errors
/// Says what can't be opened, or who refused this node.
pub(crate) async fn run(config: Config, token: Option<String>, json: bool) -> anyhow::Result<ExitCode> {
    let mut signals = StopSignals::new()?;
    let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
    let rng: Arc<dyn Rng> = Arc::new(OsRng);
    let (pages, admin, admin_addr) = start_admin(&config).await?;
    let dir = Arc::new(NodeDir::open(&config.data).await?);
    let member = tokio::select! {
        biased;
        _ = signals.wait() => return Ok(ExitCode::SUCCESS),
        member = member(&dir, Role::StorageNode, token.as_deref(), &config, &clock) => member?,
    };
    let credentials = dir.papers().await?.credentials()?;
    let wire = Wire::of_node(&config, &member, credentials, Arc::clone(&clock), Arc::clone(&rng))?;
    let meta = wire.meta(&member);
    let drives = drive_list::open(&dir, member.cluster, &config.storage.drives, &*rng).await?;
    let metrics = StorageMetrics::default();
    let (rows, node) = open(&config, &member, drives, &metrics).await;
    let signer = dir.answer_key(&member, &*rng).await?;
    let mut running = Running::new(wire.clone());
    running.server = Some(wire.serve(Arc::clone(&node) as _, None));
    let follower = Follower::new(&config, (&wire, &meta), &dir, &member, &clock);
    let registered = tokio::select! {
        biased;
        signal = signals.wait() => { tracing::info!(signal, "stopping"); None }
        registered = register(&follower, &rows, (&meta, &signer)) => Some(registered),
    };
    if let Some(key_known) = registered.transpose()? {
        if key_known {
            node.answer_audits(Answers::new(signer, Arc::clone(&clock), Executor::Threads));
        }
        running.background.push(tokio::spawn(follower.run()));
        running.background.push(tokio::spawn(take_maps(wire.map.subscribe(), Arc::clone(&node))));
        running.background.push(tokio::spawn(watch(&meta, &member, &node).run()));
        let near = Near { id: member.node, node: Arc::clone(&node), far: wire.transport() };
        let clients = (meta.clone(), StorageClient::new(Arc::new(near)));
        let repairer =
            RepairWorker::new(member.node, clients, Arc::clone(&rng), config.repair.settings(), metrics.clone());
        running.background.push(tokio::spawn(repairer.run(config.repair.interval.duration(), tell_repair)));
        running.background.push(tokio::spawn(catch_up(wire.clone(), meta.clone(), Arc::clone(&node))));
        let view = View::of_node(&meta, &wire, None);
        pages.opened(view, Metrics::new(|registry| metrics.register(registry)));
        running.tell_ready(&member, &[("admin", format!("http://{admin_addr}"))], json)?;
        let signal = signals.wait().await;
        tracing::info!(signal, "stopping");
    }
    admin.abort();
    running.stop().await;
    node.close().await;
    Ok(ExitCode::SUCCESS)
}

/// Says where this node is, what it has, and which key it signs with. False if that key is refused.
async fn register(
    follower: &Follower,
    rows: &[DriveRow],
    (meta, signer): (&MetaClient, &Ed25519Signer),
) -> anyhow::Result<bool> {
    follower.register(rows).await?;
    Ok(answer_key::tell(meta, follower.member.node, signer).await)
}

/// The node's own drives without the network, others over it.
#[derive(Debug)]
struct Near {
    id: NodeId,
    node: Arc<StorageNode>,
    far: SharedTransport,
}

#[async_trait]
impl Transport for Near {
    async fn call(&self, to: NodeId, request: Request) -> Result<Response, RpcError> {
        match to == self.id {
            true => self.node.serve(self.id, request).await,
            false => self.far.call(to, request).await,
        }
    }
}

fn watch(meta: &MetaClient, member: &Member, node: &Arc<StorageNode>) -> DriveWatch {
    DriveWatch { meta: meta.clone(), id: member.node, node: Arc::clone(node), gateway: None }
}

async fn open(
    config: &Config,
    member: &Member,
    drives: Vec<NamedDrive>,
    metrics: &StorageMetrics,
) -> (Vec<DriveRow>, Arc<StorageNode>) {
    let names: Vec<_> = drives.iter().map(|drive| (drive.id, drive.name.clone())).collect();
    let specs =
        slowed(drives.into_iter().map(|drive| drive.spec).collect(), config.bench.drive_sync_latency.duration());
    let settings = NodeConfig::new(member.node, member.cluster);
    let node = StorageNode::open(settings, specs, Executor::Threads, metrics.clone()).await;
    let statuses = node.drives();
    let host = member.advertise.first().map(String::as_str).unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    let row = |(id, name): (stele_types::ids::DriveId, String)| DriveRow {
        id,
        node: member.node,
        name: format!("{host}:{name}"),
        state: DriveState::Ok,
        reason: String::new(),
        capacity: statuses.iter().find(|status| status.id == id).map_or(0, |status| status.capacity_bytes),
    };
    (names.into_iter().map(row).collect(), node)
}

/// Fetches the map when a request named one that this node does not have yet.
async fn catch_up(wire: Wire, meta: MetaClient, node: Arc<StorageNode>) {
    let mut behind = node.watch_behind();
    while behind.changed().await.is_ok() {
        behind.borrow_and_update();
        match newer_map(&meta, node.map_epoch()).await {
            Ok(Some(map)) => wire.take_map(map),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a newer cluster map could not be fetched"),
        }
        tokio::time::sleep(CATCH_UP_PAUSE).await;
    }
}

/// Hands every new map to the node.
async fn take_maps(mut maps: watch::Receiver<ClusterMap>, node: Arc<StorageNode>) {
    loop {
        let map = maps.borrow_and_update().clone();
        if map.cluster.is_some() {
            node.set_map(map);
        }
        if maps.changed().await.is_err() {
            return;
        }
    }
}
