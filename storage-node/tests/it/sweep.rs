//! The sweep against a metadata service that a test plays.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use stele_rpc::client::{MetaClient, StorageClient};
use stele_rpc::error::{Code, RpcError};
use stele_rpc::memory::MemoryNetwork;
use stele_rpc::meta::{BackupCommand, Command, MetaReply, MetaRequest};
use stele_rpc::transport::{Message, Reply, Request, Response, Service};
use stele_storage_node::exec::Executor;
use stele_storage_node::media::model::ModelDisk;
use stele_storage_node::sweep::{SweepConfig, SweepReport, SweepWorker};
use stele_types::ids::{Epoch, NodeId, PackId};
use stele_types::seam::{Clock, UnixMillis};

use crate::world::{TestPack, World, drive_id, formatted_disk, map, small_drive, test_pack_at, virtual_time};

/// Metadata as far as a sweep asks.
#[derive(Default)]
struct Metadata {
    epoch: AtomicU64,
    referenced: Mutex<BTreeSet<PackId>>,
    silent: AtomicU64,
    /// Condemnations up to this epoch are in a backup.
    backed_up: AtomicU64,
}

#[async_trait]
impl Service for Metadata {
    async fn serve(&self, _from: NodeId, request: Request) -> Result<Response, RpcError> {
        let Message::Meta(message) = request.message else { panic!("not for metadata") };
        let epochs = |epoch: u64| MetaReply::Epochs { fence: Epoch(epoch - 1), epoch: Epoch(epoch) };
        let reply = match message {
            MetaRequest::ClusterMap { .. } => MetaReply::ClusterMap(Some(Box::new(map(1)))),
            MetaRequest::Command(envelope) => match envelope.command {
                Command::AdvanceEpoch => epochs(self.epoch.fetch_add(1, Ordering::Relaxed) + 1),
                Command::Fence { .. } => epochs(self.epoch.load(Ordering::Relaxed)),
                Command::Backup(BackupCommand::AdmitDeletion { condemned }) => {
                    let admitted = condemned.min(Epoch(self.backed_up.load(Ordering::Relaxed)));
                    MetaReply::Epochs { fence: admitted, epoch: Epoch(self.epoch.load(Ordering::Relaxed)) }
                }
                other => panic!("a sweep never sends {other:?}"),
            },
            MetaRequest::ReferencedPacks { after, max, .. } => {
                if self.silent.load(Ordering::Relaxed) > 0 {
                    return Err(RpcError::new(Code::Unreachable, "the group is away"));
                }
                let all = self.referenced.lock().unwrap();
                let mut behind = all.iter().filter(|p| Some(**p) > after).copied();
                let packs: Vec<PackId> = behind.by_ref().take(max as usize).collect();
                MetaReply::Referenced { packs, more: behind.next().is_some() }
            }
            other => panic!("a sweep never asks {other:?}"),
        };
        Ok(Response { reply: Reply::Meta(reply), body: bytes::Bytes::new() })
    }
}

#[derive(Debug)]
struct TokioClock(tokio::time::Instant);

impl Clock for TokioClock {
    fn unix_millis(&self) -> UnixMillis {
        self.monotonic_micros() / 1000
    }

    fn monotonic_micros(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap()
    }
}

struct Stage {
    disk: ModelDisk,
    world: World,
    metadata: Arc<Metadata>,
    worker: SweepWorker,
    packs: Vec<TestPack>,
}

const HOUR: Duration = Duration::from_secs(3600);

impl Stage {
    async fn new(config: SweepConfig) -> Self {
        let disk = formatted_disk(0, 1 << 30, 1).await;
        let world = World::open(vec![disk.media()], small_drive(), Executor::Tasks).await;
        let packs: Vec<TestPack> = (0..20).map(|n| test_pack_at(n, 1000, Epoch(3))).collect();
        for pack in &packs {
            world.store(pack).await.unwrap();
        }
        let metadata = Arc::new(Metadata {
            epoch: AtomicU64::new(10),
            backed_up: AtomicU64::new(u64::MAX),
            ..Metadata::default()
        });
        metadata.referenced.lock().unwrap().extend(packs.iter().step_by(2).map(|p| p.id));
        let network = Arc::new(MemoryNetwork::default());
        network.bind(NodeId(1), Arc::clone(&world.node) as Arc<dyn Service>);
        network.bind(NodeId(2), Arc::clone(&metadata) as Arc<dyn Service>);
        let transport = Arc::new(network.transport(NodeId(1)));
        let clock = Arc::new(TokioClock(tokio::time::Instant::now()));
        let meta = MetaClient::new(transport.clone(), NodeId(2));
        let worker = SweepWorker::new(meta, StorageClient::new(transport), clock, config);
        Self { disk, world, metadata, worker, packs }
    }

    async fn run(&mut self) -> SweepReport {
        self.worker.run_once().await.unwrap()
    }

    async fn held(&self) -> BTreeSet<PackId> {
        self.world.inventory().await.into_iter().map(|row| row.pack).collect()
    }
}

fn day() -> SweepConfig {
    SweepConfig { grace: 24 * HOUR, page: 3, ..SweepConfig::default() }
}

#[test]
fn garbage_is_condemned_first_and_deleted_after_the_grace_time() {
    virtual_time(async {
        let mut stage = Stage::new(day()).await;
        let report = stage.run().await;
        assert_eq!((report.examined, report.condemned, report.deleted), (20, 10, 0));
        tokio::time::sleep(23 * HOUR).await;
        let report = stage.run().await;
        assert_eq!((report.condemned, report.deleted), (0, 0), "within the grace time");
        tokio::time::sleep(2 * HOUR).await;
        let report = stage.run().await;
        assert_eq!((report.deleted, report.voided), (10, vec![]));
        assert_eq!(stage.held().await, *stage.metadata.referenced.lock().unwrap());
        stage.disk.crash();
        let world = World::on(&stage.disk, small_drive()).await;
        assert_eq!(world.inventory().await.len(), 10);
    });
}

#[test]
fn a_reference_found_meanwhile_pardons() {
    virtual_time(async {
        let mut stage = Stage::new(day()).await;
        stage.run().await;
        stage.metadata.referenced.lock().unwrap().insert(stage.packs[1].id);
        tokio::time::sleep(25 * HOUR).await;
        let report = stage.run().await;
        assert_eq!((report.pardoned, report.deleted), (1, 9));
        assert!(stage.held().await.contains(&stage.packs[1].id));
        let row = stage.world.inventory().await.into_iter().find(|r| r.pack == stage.packs[1].id).unwrap();
        assert_eq!(row.condemned, None);
    });
}

#[test]
fn a_pack_stays_until_a_backup_does_not_need_it() {
    virtual_time(async {
        let mut stage = Stage::new(SweepConfig { grace: Duration::ZERO, ..day() }).await;
        stage.metadata.backed_up.store(0, Ordering::Relaxed);
        assert_eq!(stage.run().await.condemned, 10);
        for _ in 0..3 {
            let report = stage.run().await;
            assert_eq!((report.condemned, report.deleted, report.pardoned, report.voided.len()), (0, 0, 0, 0));
        }
        assert_eq!(stage.held().await.len(), 20);
        stage.metadata.backed_up.store(10, Ordering::Relaxed);
        assert_eq!(stage.run().await.deleted, 10);
    });
}

#[test]
fn doubt_voids_the_run() {
    virtual_time(async {
        let mut stage = Stage::new(SweepConfig { grace: Duration::ZERO, ..day() }).await;
        stage.run().await;
        stage.metadata.silent.store(1, Ordering::Relaxed);
        let report = stage.run().await;
        assert_eq!((report.deleted, report.voided.len()), (0, 1));
        assert_eq!(stage.held().await.len(), 20);
        stage.metadata.silent.store(0, Ordering::Relaxed);
        assert_eq!(stage.run().await.deleted, 10);
        stage.disk.set_dead(true);
        assert_eq!(stage.world.store(&test_pack_at(99, 10, Epoch(3))).await.unwrap_err().code, Code::DriveFailed);
        tokio::time::sleep(Duration::from_secs(10)).await;
        let report = stage.run().await;
        assert_eq!((report.pgs, report.voided.len()), (0, 1), "rs-1-0 spares no drive");
    });
}

#[test]
fn packs_above_the_fence_and_touched_packs_are_left_alone() {
    virtual_time(async {
        let mut stage = Stage::new(SweepConfig { grace: Duration::ZERO, ..day() }).await;
        let young = test_pack_at(100, 1000, Epoch(1000));
        stage.world.store(&young).await.unwrap();
        let touched = stage.packs[1].id;
        let drive = stage.world.node.drive(drive_id(0)).unwrap();
        drive.touch(Epoch(1000), vec![touched]).await.unwrap();
        stage.run().await;
        let report = stage.run().await;
        assert_eq!(report.deleted, 9);
        let held = stage.held().await;
        assert!(held.contains(&young.id) && held.contains(&touched));
    });
}

#[cfg(feature = "sabotage")]
#[test]
fn deleting_without_asking_is_found() {
    virtual_time(async {
        let mut config = SweepConfig { grace: Duration::ZERO, ..day() };
        config.sabotage.delete_without_asking = true;
        let mut stage = Stage::new(config).await;
        stage.run().await;
        stage.run().await;
        let held = stage.held().await;
        let referenced = stage.metadata.referenced.lock().unwrap();
        assert!(referenced.iter().any(|pack| !held.contains(pack)), "referenced packs were deleted");
    });
}
