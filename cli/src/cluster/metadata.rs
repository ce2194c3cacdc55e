//! `stele metadata`: one voter of the metadata group. Lets nodes in, looks after them while it leads, and
//! sweeps.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, bail};
use stele_metadata::{Founding, MetadataConfig, MetadataNode, files, overseer};
use stele_rpc::client::MetaClient;
use stele_rpc::meta::Command;
use stele_rpc::tls::authority::ClusterCa;
use stele_storage_node::sweep::SweepWorker;
use stele_types::ids::{MapEpoch, NodeId};
use stele_types::map::{ClusterMap, NodeRow, NodeState};
use stele_types::role::Role;
use stele_types::seam::{Clock, Rng};
use tokio::task::JoinHandle;

use super::compare::Comparer;
use super::desk::Desk;
use super::follow::Follower;
use super::init::FIRST_NODE;
use super::join::member;
use super::node_dir::{Member, NodeDir};
use super::process::{Running, start_admin};
use super::wire::{Home, Wire};
use crate::admin::metrics::Metrics;
use crate::admin::view::View;
use crate::backup::make::Maker;
use crate::config::Config;
use crate::dev::signals::StopSignals;
use crate::dev::store::tell_sweep;
use crate::dev::watch::cluster_command;
use crate::real::{OsRng, RealClock};

/// How often a node that waits for its peers says so.
const SAY_EVERY: Duration = Duration::from_secs(10);
const FOUND_TIMEOUT: Duration = Duration::from_secs(30);
/// How long another voter may take to take over before this one stops.
const HAND_OVER: Duration = Duration::from_secs(3);

/// Runs until a signal, or until the raft group can't go on.
///
/// # Errors
/// Says what can't be opened, who refused this node, or why it had to stop.
pub(crate) async fn run(config: Config, token: Option<String>, json: bool) -> anyhow::Result<ExitCode> {
    let mut signals = StopSignals::new()?;
    let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
    let rng: Arc<dyn Rng> = Arc::new(OsRng);
    let (pages, admin, admin_addr) = start_admin(&config).await?;
    let dir = Arc::new(NodeDir::open(&config.data).await?);
    let member = tokio::select! {
        biased;
        _ = signals.wait() => return Ok(ExitCode::SUCCESS),
        member = member(&dir, Role::Metadata, token.as_deref(), &config, &clock) => member?,
    };
    let papers = dir.papers().await?;
    let ca_key = papers.ca_key_pem.as_deref().context("papers.toml lacks the CA's key; restore it, or join anew")?;
    let ca = ClusterCa::from_pem(&papers.ca_pem, ca_key)?;
    let wire = Wire::of_node(&config, &member, papers.credentials()?, Arc::clone(&clock), Arc::clone(&rng))?;
    let service = Arc::new(OnceLock::new());
    let home = Arc::new(Home { me: member.node, service: Arc::clone(&service), quic: wire.quic.clone() });
    let meta = MetaClient::new(home, member.metadata.keys().copied().collect::<Vec<_>>());

    let node = open(&config, &member, &clock, &wire).await?;
    let desk = Desk {
        me: member.node,
        ca,
        meta: meta.clone(),
        node: Arc::clone(&node),
        clock: Arc::clone(&clock),
        rng: Arc::clone(&rng),
    };
    let desk = Arc::new(desk);
    service.get_or_init(|| Arc::clone(&desk) as _);
    let mut running = Running::new(wire.clone());
    running.server = Some(wire.serve(Arc::clone(&desk) as _, Some(desk)));
    running.background.push(tokio::spawn(overseer::run(Arc::downgrade(&node), rng)));
    let mut fatal = node.fatal();
    let follower = Follower::new(&config, (&wire, &meta), &dir, &member, &clock);
    let following = tokio::select! {
        biased;
        signal = signals.wait() => { tracing::info!(signal, "stopping"); None }
        why = fatal.wait_for(Option::is_some) => return Err(cannot_go_on(why.ok().and_then(|why| why.clone()))),
        started = take_part(&config, &member, &node, follower) => Some(started?),
    };
    let Some(following) = following else { return stop(running, &node).await };
    running.background.push(following);
    // When which fence was made is in the metadata: a new leader goes on where the last one ended.
    let sweeper = SweepWorker::new(meta.clone(), wire.storage(), clock, config.gc.settings());
    let leader = Arc::clone(&node);
    let leads = move || leader.leads();
    running.background.push(tokio::spawn(sweeper.run(config.gc.interval.duration(), leads, tell_sweep)));
    look_after_rows(&mut running, &config, (&meta, &wire), &node)?;
    let view = View::of_node(&meta, &wire, None);
    let metrics = Metrics::new(|registry| node.metrics().register(registry));
    pages.opened(view, metrics);
    running.tell_ready(&member, &[("admin", format!("http://{admin_addr}"))], json)?;
    tokio::select! {
        biased;
        why = fatal.wait_for(Option::is_some) => return Err(cannot_go_on(why.ok().and_then(|why| why.clone()))),
        signal = signals.wait() => tracing::info!(signal, "stopping"),
    }
    match node.hand_over(HAND_OVER).await {
        Ok(Some(heir)) => tracing::info!(%heir, "leadership handed over"),
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "nobody took leadership over; the others elect a leader"),
    }
    admin.abort();
    stop(running, &node).await
}

/// Backups, and what follows a restore from one. A leader does it.
fn look_after_rows(
    running: &mut Running,
    config: &Config,
    (meta, wire): (&MetaClient, &Wire),
    node: &Arc<MetadataNode>,
) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
    if let Some(maker) = Maker::new(&config.backup, node, &clock)? {
        running.background.push(tokio::spawn(maker.run()));
    }
    let comparer = Comparer::new(meta.clone(), wire.storage(), Arc::clone(node));
    running.background.push(tokio::spawn(comparer.run()));
    Ok(())
}

/// Founds the cluster if that is to be done, registers, follows, and waits until the group has a leader.
async fn take_part(
    config: &Config,
    member: &Member,
    node: &Arc<MetadataNode>,
    follower: Follower,
) -> anyhow::Result<JoinHandle<()>> {
    if !member.founded {
        wait_for_group(node, member).await?;
        found(member, config, &follower.dir, &follower.meta).await?;
    }
    // A node that just joined becomes a voter once the leader has heard of it.
    follower.register(&[]).await?;
    let following = tokio::spawn(follower.run());
    wait_for_group(node, member).await?;
    Ok(following)
}

fn cannot_go_on(why: Option<Arc<str>>) -> anyhow::Error {
    let why = why.unwrap_or_else(|| "it ended".into());
    anyhow::anyhow!("this voter can't go on and acknowledges nothing more: {why}")
}

async fn stop(running: Running, node: &MetadataNode) -> anyhow::Result<ExitCode> {
    running.stop().await;
    node.shutdown().await.context("syncing the metadata at the end; the raft log still holds everything")?;
    Ok(ExitCode::SUCCESS)
}

async fn open(
    config: &Config,
    member: &Member,
    clock: &Arc<dyn Clock>,
    wire: &Wire,
) -> anyhow::Result<Arc<MetadataNode>> {
    // Once it was founded, an empty directory is a lost one, and must not found a second cluster.
    let founds = member.node == FIRST_NODE && !member.founded;
    let settings = MetadataConfig {
        cluster: Some(member.cluster),
        founding: if founds { Founding::Found } else { Founding::Join },
        ready_timeout: SAY_EVERY,
        replace_after: config.healing.replace_after.duration(),
        settle: config.healing.settle.duration(),
        ..MetadataConfig::new(member.node)
    };
    let files = files::in_directory(&config.data.join("metadata"))?;
    Ok(MetadataNode::open(settings, files, Arc::clone(clock), wire.transport()).await?)
}

/// Waits for a leader, and says so while there is none.
async fn wait_for_group(node: &MetadataNode, member: &Member) -> anyhow::Result<()> {
    while let Err(error) = node.ready().await {
        if let Some(why) = node.fatal().borrow().as_deref() {
            bail!("{why}");
        }
        let peers = member.metadata.iter().filter(|(peer, _)| **peer != member.node);
        let peers: Vec<String> = peers.map(|(peer, at)| format!("{peer} at {}", at.join(", "))).collect();
        let peers =
            if peers.is_empty() { "a leader".to_owned() } else { format!("metadata nodes {}", peers.join("; ")) };
        tracing::warn!(%error, "waiting for {peers}; a node that just joined waits until the leader adds it");
    }
    Ok(())
}

/// On the first node: the cluster's first rows. Safe to repeat after a crash.
async fn found(member: &Member, config: &Config, dir: &NodeDir, meta: &MetaClient) -> anyhow::Result<()> {
    if member.founded {
        return Ok(());
    }
    let name = if config.place.name.is_empty() { member.advertise.join(",") } else { config.place.name.clone() };
    let first = NodeRow {
        id: member.node,
        role: Role::Metadata,
        name,
        addresses: member.advertise.clone(),
        zone: config.place.zone.clone(),
        rack: config.place.rack.clone(),
        state: NodeState::Active,
        key: [0; 32],
        maintenance_until: 0,
    };
    let map = ClusterMap { epoch: MapEpoch(1), nodes: vec![first], ..ClusterMap::default() };
    let command = Command::InitCluster { cluster: member.cluster, drives: Vec::new(), map: Box::new(map) };
    meta.command(cluster_command(command, member.node), FOUND_TIMEOUT).await.context("founding the cluster")?;
    dir.save(&Member { founded: true, ..member.clone() }).await
}

/// Node ids of operators' certificates.
pub(crate) const OPERATOR: NodeId = NodeId(0);
