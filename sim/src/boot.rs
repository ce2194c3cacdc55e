//! Starts processes as `stele` does: metadata first, then storage nodes, gateways, sweeps.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use stele_metadata::placement::initial_map;
use stele_metadata::seed_raft_randomness;
use stele_rpc::client::{MetaClient, StorageClient};
use stele_rpc::meta::{Command, CommandEnvelope, MetaReply, MetaRequest, Origin};
use stele_s3_gateway::api::{Cpu, GatewayConfig, GatewayDeps};
use stele_s3_gateway::bucket;
use stele_s3_gateway::error::GatewayError;
use stele_s3_gateway::gateway::Gateway;
use stele_storage_node::config::{DriveConfig, NodeConfig, ReclaimConfig, Sabotage as DriveSabotage};
use stele_storage_node::exec::Executor;
use stele_storage_node::identity::{DriveIdentity, format};
use stele_storage_node::metrics::Metrics;
use stele_storage_node::node::{DriveHealth, DriveSpec, StorageNode};
use stele_types::ids::{CommandSequence, MapEpoch, Salt};
use stele_types::map::{ClusterMap, DriveRow, DriveState};
use stele_types::seam::random_bytes;
use tokio::sync::watch;

use crate::env::{BUCKET, GatewayHandle};
use crate::net::SimNet;
#[cfg(feature = "sabotage")]
use crate::sabotage::Sabotage;
use crate::seed::SimRng;
use crate::topology::{gateway_node, storage_node};
use crate::world::{Running, World};

/// Patience of the operator.
const PATIENCE: Duration = Duration::from_secs(2);
/// Placement groups: few, so that a sweep is short.
const PGS: usize = 3;
/// A gateway's lease lives this long; sweeps fence it soon after.
const LEASE: Duration = Duration::from_secs(3);

impl World {
    /// Starts everything. False (with a finding) if the cluster doesn't come up.
    pub async fn boot(self: &Arc<Self>, phase: u32) -> bool {
        self.env().trace.line(format_args!("boot {phase}"));
        seed_raft_randomness(self.rng().stream(&format!("raft {phase}")).number());
        let (rng, trace) = (self.rng().stream(&format!("net {phase}")), self.env().trace.clone());
        let net = match self.plan().over_quic {
            false => SimNet::new(rng, trace),
            true => SimNet::of_packets(rng, trace, Arc::clone(&self.env().clock)),
        };
        self.processes().net = Some(net);
        for drive in 0..self.topology().drives {
            self.drive(drive).set_latency(self.usual_latency());
        }
        if !self.start_metadata(phase == 0).await {
            return false;
        }
        if phase == 0 && !self.found().await {
            return false;
        }
        for node in 0..self.topology().storage_nodes {
            self.start_storage(node).await;
        }
        for place in 0..self.topology().gateways {
            self.start_gateway(place).await;
        }
        if phase == 0 && !self.create_bucket().await {
            return false;
        }
        self.start_sweeps();
        self.start_mover(phase);
        self.start_anchors(phase);
        true
    }

    async fn found(&self) -> bool {
        for drive in 0..self.topology().drives {
            let identity = DriveIdentity { drive: self.drive_ids[drive], cluster: self.cluster };
            if let Err(error) = format(&*self.drive(drive).media(), identity).await {
                self.env().findings.add("BOOT", format_args!("drive {drive} can't be formatted: {error}"));
                return false;
            }
        }
        let row = |drive: usize| DriveRow {
            id: self.drive_ids[drive],
            node: storage_node(self.topology().node_of(drive)),
            name: format!("drive-{drive}"),
            state: DriveState::Ok,
            reason: String::new(),
            capacity: 0,
        };
        let drives: Vec<DriveRow> = (0..self.topology().drives).map(row).collect();
        let mut map = match initial_map(self.cluster, &drives, self.topology().scheme) {
            Ok(map) => map,
            Err(error) => return self.not_up(format_args!("no map: {error}")),
        };
        map.pgs.truncate(PGS);
        let command = Command::InitCluster { cluster: self.cluster, drives, map: Box::new(map) };
        match self.operator().command(own(command, self.rng()), PATIENCE).await {
            Ok(_) => true,
            Err(error) => self.not_up(format_args!("the cluster can't be founded: {error}")),
        }
    }

    pub(crate) fn not_up(&self, why: std::fmt::Arguments<'_>) -> bool {
        self.env().findings.add("BOOT", why);
        false
    }

    pub(crate) fn drive_sabotage(&self) -> DriveSabotage {
        #[cfg(feature = "sabotage")]
        return DriveSabotage {
            acknowledge_before_sync: self.sabotage == Some(Sabotage::AcknowledgeBeforeSync),
            delete_without_asking: self.sabotage == Some(Sabotage::DeleteWithoutAsking),
            ..DriveSabotage::default()
        };
        #[cfg(not(feature = "sabotage"))]
        DriveSabotage::default()
    }

    /// Starts one storage node; drives that can't be opened are reported by it.
    pub(crate) async fn start_storage(self: &Arc<Self>, node: usize) {
        let config = NodeConfig {
            drive: DriveConfig {
                segment_bytes: 4 << 20,
                reserve_bytes: 1 << 20,
                reclaim: ReclaimConfig { interval: Duration::from_millis(700), ..ReclaimConfig::default() },
                sabotage: self.drive_sabotage(),
                ..DriveConfig::default()
            },
            verify_shard_roots: true,
            probe_interval: Duration::from_secs(1),
            probe_timeout: Duration::from_secs(2),
            ..NodeConfig::new(storage_node(node), self.cluster)
        };
        let mine = self.drives_of(node).into_iter();
        let specs =
            mine.map(|drive| DriveSpec { media: self.drive(drive).media(), expect: Some(self.drive_ids[drive]) });
        let service = StorageNode::open(config, specs.collect(), Executor::Tasks, Metrics::default()).await;
        let alive = Arc::new(AtomicBool::new(true));
        self.net().bind(storage_node(node), Arc::clone(&service) as Arc<_>, &alive);
        let client = MetaClient::new(self.net().transport(storage_node(node), Arc::clone(&alive)), self.meta_nodes());
        tokio::spawn(keep_map(Arc::clone(&service), client.clone()));
        self.start_repair(node, &alive);
        let rng = self.rng().stream(&format!("drives {node} {}", self.env().clock.micros()));
        tokio::spawn(report_drives(service.watch_drives(), client, rng));
        let mut processes = self.processes();
        processes.storage.resize_with(self.topology().storage_nodes, || None);
        processes.storage[node] = Some(Running { service, alive });
        drop(processes);
        self.env().trace.line(format_args!("storage node {node} runs"));
    }

    /// Starts one gateway; again and again while the metadata service does not answer.
    pub(crate) async fn start_gateway(self: &Arc<Self>, place: usize) {
        for attempt in 0..60u32 {
            let alive = Arc::new(AtomicBool::new(true));
            let node = gateway_node(place);
            let transport = self.net().transport(node, Arc::clone(&alive));
            let deps = GatewayDeps {
                node,
                meta: MetaClient::new(Arc::clone(&transport), self.meta_nodes()),
                storage: StorageClient::new(transport),
                clock: Arc::clone(&self.env().clock) as Arc<_>,
                // Every incarnation draws what no other drew.
                rng: Arc::new(self.rng().stream(&format!("gateway {place} {attempt} {}", self.env().clock.micros()))),
                cpu: Cpu::Inline,
            };
            match Gateway::start(self.gateway_config(), deps).await {
                Ok(gateway) => {
                    let (killer, killed) = watch::channel(false);
                    let mut processes = self.processes();
                    processes.gateways.resize_with(self.topology().gateways, || None);
                    processes.gateways[place] = Some((alive, killer));
                    drop(processes);
                    self.env().gateways.set(place, Some(GatewayHandle { gateway, killed }));
                    self.env().trace.line(format_args!("gateway {place} runs"));
                    return;
                }
                Err(error) => self.env().trace.line(format_args!("gateway {place} does not start: {error}")),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        self.not_up(format_args!("gateway {place} does not start"));
    }

    fn gateway_config(&self) -> GatewayConfig {
        GatewayConfig {
            memory_bytes: 64 << 20,
            cache_bytes: self.plan().cache_bytes,
            lease_ttl: LEASE,
            meta_timeout: Duration::from_millis(1000),
            command_deadline: Duration::from_secs(6),
            store_timeout: Duration::from_millis(1500),
            read_timeout: Duration::from_millis(1000),
            hedge_floor: Duration::from_millis(30),
            budget_wait: Duration::from_secs(3),
            suspect_for: Duration::from_millis(800),
            #[cfg(feature = "sabotage")]
            sabotage: stele_s3_gateway::api::Sabotage {
                skip_chunk_check: self.sabotage == Some(Sabotage::SkipChunkCheck),
            },
            ..GatewayConfig::default()
        }
    }

    async fn create_bucket(&self) -> bool {
        let Some(gateway) = self.env().gateways.pick(self.rng()) else {
            return self.not_up(format_args!("no gateway for the first bucket"));
        };
        match bucket::create_bucket(&gateway.gateway, BUCKET, false, Origin::default()).await {
            Ok(_) | Err(GatewayError::BucketAlreadyOwned) => true,
            Err(error) => self.not_up(format_args!("the bucket can't be created: {error}")),
        }
    }
}

/// A command that belongs to no lease, with a salt for its record.
pub(crate) fn own(command: Command, rng: &SimRng) -> CommandEnvelope {
    CommandEnvelope {
        lease: None,
        sequence: CommandSequence(0),
        lowest_open: CommandSequence(0),
        origin: Origin::default(),
        salt: Some(Salt::from_bytes(random_bytes(rng))),
        command,
    }
}

/// The newest map, if there is one newer than `known`.
pub(crate) async fn fetch_map(client: &MetaClient, known: MapEpoch) -> Option<ClusterMap> {
    match client.call(MetaRequest::ClusterMap { known }, PATIENCE).await {
        Ok(MetaReply::ClusterMap(Some(map))) => Some(*map),
        _ => None,
    }
}

/// Gives a storage node newer maps as they come.
async fn keep_map(node: Arc<StorageNode>, client: MetaClient) {
    let mut known = MapEpoch(0);
    loop {
        if let Some(map) = fetch_map(&client, known).await {
            known = map.epoch;
            node.set_map(map);
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
}

/// Tells the metadata service what became of drives.
async fn report_drives(mut states: watch::Receiver<Vec<DriveHealth>>, client: MetaClient, rng: SimRng) {
    loop {
        let now: Vec<DriveHealth> = states.borrow_and_update().clone();
        for drive in now {
            let command = Command::SetDriveState { drive: drive.id, state: drive.state, reason: drive.reason };
            drop(client.command(own(command, &rng), PATIENCE).await);
        }
        if states.changed().await.is_err() {
            return;
        }
    }
}
