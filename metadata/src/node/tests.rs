//! A node on the model disk: what is acknowledged survives crashes, commands share fsyncs, a failed
//! sync is fatal, and the same seed gives the same run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering as AtomicOrdering};
use std::time::Duration;

use stele_rpc::meta::{Command, MetaReply, MetaRequest, VersionSelector};
use stele_types::ids::{BucketId, LeaseId};
use stele_types::seam::UnixMillis;

use super::*;
use crate::executor::Executor;
use crate::model_disk::ModelDisk;
use crate::testing::{Draws, LEASE_MS, envelope, guard, range};

#[derive(Debug, Default)]
struct CountingClock(AtomicU64);

impl Clock for CountingClock {
    fn unix_millis(&self) -> UnixMillis {
        self.0.fetch_add(1, AtomicOrdering::Relaxed)
    }

    fn monotonic_micros(&self) -> u64 {
        self.0.load(AtomicOrdering::Relaxed) * 1000
    }
}

fn simulate<T>(seed: u64, run: impl Future<Output = T>) -> T {
    crate::seed_raft_randomness(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()))
        .build()
        .unwrap();
    runtime.block_on(run)
}

async fn open(disk: &ModelDisk) -> Result<Arc<MetadataNode>, OpenError> {
    let executor = Executor::Inline { sync_delay: Duration::from_millis(2) };
    let config = MetadataConfig { executor, snapshot_every: 50, ..MetadataConfig::new(NodeId(1)) };
    open_alone(config, disk.storage()).await
}

async fn open_alone(config: MetadataConfig, storage: Storage) -> Result<Arc<MetadataNode>, OpenError> {
    let transport = Arc::new(Arc::new(stele_rpc::memory::MemoryNetwork::default()).transport(config.node));
    let node = MetadataNode::open(config, storage, Arc::new(CountingClock::default()), transport).await?;
    node.ready().await?;
    Ok(node)
}

struct Client {
    node: Arc<MetadataNode>,
    draws: Draws,
    lease: LeaseId,
    sequence: u64,
}

impl Client {
    async fn new(node: &Arc<MetadataNode>, draws: Draws) -> Self {
        let grant = Command::GrantLease { node: NodeId(1), ttl_ms: LEASE_MS };
        let reply = node.answer(MetaRequest::Command(Box::new(envelope(None, 0, 0, grant)))).await.unwrap();
        let MetaReply::Lease(lease) = reply else { panic!("{reply:?}") };
        Self { node: Arc::clone(node), draws, lease: lease.id, sequence: 0 }
    }

    async fn run(&mut self, command: Command) -> Result<MetaReply, RpcError> {
        self.sequence += 1;
        let envelope = envelope(Some(self.lease), self.sequence, self.sequence, command);
        self.node.answer(MetaRequest::Command(Box::new(envelope))).await
    }

    async fn put_ten(&mut self, bucket: BucketId, writer: usize) {
        for n in 0..10 {
            let put = self.draws.put(guard(bucket, 1), &format!("{writer}/{n}"));
            self.run(Command::PutVersion(Box::new(put))).await.unwrap();
        }
    }

    async fn bucket(&mut self, name: &str) -> BucketId {
        match self.run(Command::CreateBucket { name: name.to_owned(), object_lock: false }).await {
            Ok(MetaReply::Bucket(row)) => row.id,
            other => panic!("{other:?}"),
        }
    }
}

async fn exists(node: &MetadataNode, bucket: BucketId, key: &str) -> bool {
    let request = MetaRequest::Resolve { range: range(bucket), key: key.to_owned(), version: VersionSelector::Current };
    match node.answer(request).await {
        Ok(MetaReply::Version { .. }) => true,
        Err(error) if error.code == Code::NoSuchKey => false,
        other => panic!("{other:?}"),
    }
}

async fn status(node: &MetadataNode) -> MetaStatus {
    match node.answer(MetaRequest::Status).await {
        Ok(MetaReply::Status(status)) => *status,
        other => panic!("{other:?}"),
    }
}

/// Rounds of PUTs, each ended by a crash at some moment; every acknowledged PUT must be there after
/// every restart.
async fn crash_rounds(seed: u64) -> Vec<String> {
    let disk = ModelDisk::new(seed);
    let mut acknowledged: Vec<String> = Vec::new();
    let mut draws = Draws::default();
    let mut bucket = None;
    for round in 0..6u64 {
        let node = open(&disk).await.unwrap();
        let mut client = Client::new(&node, draws.clone()).await;
        let id = match bucket {
            Some(id) => id,
            None => *bucket.insert(client.bucket("b").await),
        };
        for key in &acknowledged {
            assert!(exists(&node, id, key).await, "seed {seed}: {key} was acknowledged and is gone in round {round}");
        }
        let before = status(&node).await;
        assert_eq!(before.log_size, before.versions + before.buckets, "only creations so far");
        let crash_after = 5 + (seed * 7 + round * 13) % 90;
        for n in 0..crash_after {
            let key = format!("{round}-{n}");
            let put = client.draws.put(guard(id, 1), &key);
            let writing = client.run(Command::PutVersion(Box::new(put)));
            // The last one is under way when the power goes.
            if n + 1 == crash_after {
                tokio::select! { biased; _ = writing => acknowledged.push(key), () = tokio::time::sleep(Duration::from_millis(round % 4)) => {} }
            } else {
                writing.await.unwrap();
                acknowledged.push(key);
            }
        }
        draws = client.draws.clone();
        disk.crash();
        node.abandon().await;
    }
    acknowledged
}

#[test]
fn acknowledged_commands_survive_crashes() {
    for seed in 0..12 {
        let acknowledged = simulate(seed, crash_rounds(seed));
        assert!(acknowledged.len() > 100, "the test wrote something");
    }
}

/// Everything a run leaves behind.
async fn traced(seed: u64) -> (Vec<u8>, u64, (u64, u64)) {
    let disk = ModelDisk::new(seed);
    let node = open(&disk).await.unwrap();
    let bucket = Client::new(&node, Draws::default()).await.bucket("b").await;
    let writers: Vec<_> = (0..8u64)
        .map(|writer| {
            let node = Arc::clone(&node);
            tokio::spawn(async move {
                let mut client = Client::new(&node, Draws::starting_at(writer << 32)).await;
                for n in 0..20 {
                    let put = client.draws.put(guard(bucket, 1), &format!("{}", n % 7));
                    client.run(Command::PutVersion(Box::new(put))).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let mut dump = Vec::new();
    crate::snapshot::write(&*node.view().unwrap(), &mut dump).unwrap();
    let counts = node.log_counts();
    node.shutdown().await.unwrap();
    (dump, disk.syncs(), counts)
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let first = simulate(3, traced(3));
    let again = simulate(3, traced(3));
    assert!(first == again, "rows, syncs or batches differ: {:?} and {:?}", first.2, again.2);
}

#[test]
fn concurrent_commands_share_fsyncs() {
    simulate(1, async {
        let disk = ModelDisk::new(1);
        let node = open(&disk).await.unwrap();
        let bucket = Client::new(&node, Draws::default()).await.bucket("b").await;
        let mut clients = Vec::new();
        for writer in 0..64u64 {
            clients.push(Client::new(&node, Draws::starting_at(writer << 32)).await);
        }
        let before = status(&node).await.raft_fsyncs;
        let writers: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(writer, mut client)| tokio::spawn(async move { client.put_ten(bucket, writer).await }))
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        let status = status(&node).await;
        assert_eq!(status.versions, 640);
        let syncs = status.raft_fsyncs - before;
        assert!(syncs <= 640 / 16, "64 writers, 640 commands: {syncs} fsyncs of the raft log");
        node.shutdown().await.unwrap();
    });
}

#[test]
fn a_failed_sync_is_fatal_and_nothing_after_it_is_acknowledged() {
    simulate(5, async {
        let disk = ModelDisk::new(5);
        let node = open(&disk).await.unwrap();
        let mut client = Client::new(&node, Draws::default()).await;
        let bucket = client.bucket("b").await;
        let mut fatal = node.fatal();
        assert!(fatal.borrow().is_none());
        disk.fail_syncs_after(0);
        let put = client.draws.put(guard(bucket, 1), "lost");
        let error = client.run(Command::PutVersion(Box::new(put))).await.unwrap_err();
        assert_eq!(error.code, Code::DeadlineExceeded, "the outcome is unknown: {error}");
        fatal.wait_for(Option::is_some).await.unwrap();
        let put = client.draws.put(guard(bucket, 1), "later");
        let error = client.run(Command::PutVersion(Box::new(put))).await.unwrap_err();
        assert_eq!(error.code, Code::Unreachable, "certainly without effect: {error}");
        node.abandon().await;
        // The same media serve again only after a restart, here of a drive whose power went too.
        disk.crash();
        let node = open(&disk).await.unwrap();
        assert!(!exists(&node, bucket, "later").await);
        node.shutdown().await.unwrap();
    });
}

#[test]
fn a_full_disk_stops_the_group_and_a_restart_with_room_goes_on() {
    simulate(6, async {
        let disk = ModelDisk::new(6);
        let node = open(&disk).await.unwrap();
        let mut client = Client::new(&node, Draws::default()).await;
        let bucket = client.bucket("b").await;
        let mut written = Vec::new();
        disk.set_capacity(2_000_000);
        for n in 0..20_000 {
            let key = format!("{n}");
            let put = client.draws.put(guard(bucket, 1), &key);
            match client.run(Command::PutVersion(Box::new(put))).await {
                Ok(_) => written.push(key),
                Err(error) => {
                    assert!(matches!(error.code, Code::DeadlineExceeded | Code::Unreachable), "{error}");
                    break;
                }
            }
        }
        assert!(written.len() < 20_000, "the disk was meant to fill up");
        node.fatal().wait_for(Option::is_some).await.unwrap();
        node.abandon().await;
        disk.crash();
        disk.set_capacity(usize::MAX);
        let node = open(&disk).await.unwrap();
        for key in &written {
            assert!(exists(&node, bucket, key).await, "{key}");
        }
        node.shutdown().await.unwrap();
    });
}

#[test]
fn the_log_stays_short_and_restarts_from_synced_rows() {
    simulate(7, async {
        let disk = ModelDisk::new(7);
        let mut draws = Draws::default();
        let mut bucket = None;
        for round in 0..3 {
            let node = open(&disk).await.unwrap();
            let mut client = Client::new(&node, draws.clone()).await;
            let id = match bucket {
                Some(id) => id,
                None => *bucket.insert(client.bucket("b").await),
            };
            for n in 0..1200 {
                let put = client.draws.put(guard(id, 1), &format!("{round}-{n}"));
                client.run(Command::PutVersion(Box::new(put))).await.unwrap();
            }
            draws = client.draws.clone();
            node.shutdown().await.unwrap();
            let log = crate::raft::stored_entries(&disk).await;
            // 1,000 are kept on purpose, and openraft purges 1,000 at a time.
            assert!(log < 2100, "{log} entries are left in the log");
        }
        let node = open(&disk).await.unwrap();
        assert_eq!(status(&node).await.versions, 3600);
        node.shutdown().await.unwrap();
    });
}

#[test]
fn a_foreign_log_is_refused() {
    simulate(8, async {
        let disk = ModelDisk::new(8);
        open(&disk).await.unwrap().shutdown().await.unwrap();
        let executor = Executor::Inline { sync_delay: Duration::ZERO };
        let config = MetadataConfig { executor, ..MetadataConfig::new(NodeId(2)) };
        let error = open_alone(config, disk.storage()).await.unwrap_err();
        assert!(error.to_string().contains("of node 1 found"), "{error}");
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_files_and_threads_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open = || async {
        let storage = crate::files::in_directory(dir.path()).unwrap();
        open_alone(MetadataConfig::new(NodeId(1)), storage).await.unwrap()
    };
    let node = open().await;
    let mut client = Client::new(&node, Draws::default()).await;
    let bucket = client.bucket("b").await;
    let put = client.draws.put(guard(bucket, 1), "k");
    client.run(Command::PutVersion(Box::new(put))).await.unwrap();
    assert!(crate::files::in_directory(dir.path()).is_ok(), "opening files does not lock them, opening databases does");
    node.shutdown().await.unwrap();
    let node = open().await;
    assert!(exists(&node, bucket, "k").await);
    let big = Command::CreateBucket { name: "x".repeat(2 << 20), object_lock: false };
    assert_eq!(client_error(&node, big).await, Code::Malformed);
    node.shutdown().await.unwrap();
}

async fn client_error(node: &MetadataNode, command: Command) -> Code {
    node.answer(MetaRequest::Command(Box::new(envelope(None, 0, 0, command)))).await.unwrap_err().code
}
