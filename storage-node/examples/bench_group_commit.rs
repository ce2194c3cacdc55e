//! Clause 2.14: what group commit gains and costs, against a bare write and fdatasync.
//!
//! `cargo run --release --ignore-rust-version -p stele-storage-node --example bench_group_commit -- DIR`
//!
//! DIR must be on the device to be measured. Each comparison runs A-B-B-A; medians and counts are
//! printed as JSON lines. A = the drive with group commit, B = the plain way: a file per writer,
//! written with the same O_DIRECT blocks and synced by itself.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time on real files")]
#![expect(clippy::print_stdout, reason = "its output is JSON lines on stdout")]

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::fs::{FallocateFlags, Mode, OFlags};
use stele_storage_node::config::DriveConfig;
use stele_storage_node::drive::{Drive, DriveOptions};
use stele_storage_node::exec::Executor;
use stele_storage_node::identity::{DriveIdentity, format};
use stele_storage_node::media::aligned::AlignedBuf;
use stele_storage_node::media::file::{DirectIo, FileMedia};
use stele_storage_node::media::model::{Latency, ModelDisk};
use stele_storage_node::media::{Media, MediaFile};
use stele_storage_node::metrics::Metrics;
use stele_types::ids::{ClusterId, DriveId, Epoch, PackId, PgEpoch, PgId, ShardRoot, TreeHash};
use stele_types::pack::{Encoding, PackPreimage};
use stele_types::segment::ShardHeader;

const WRITERS: u64 = 64;
const SHARD: usize = 16 * 1024;
const RECORD: usize = SHARD + 4096;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Copy, Debug)]
struct Outcome {
    per_second: f64,
    p50: Duration,
    syncs_per_write: f64,
}

fn main() -> Result<(), Failure> {
    let dir = std::env::args().nth(1).ok_or("usage: bench_group_commit DIR")?;
    let dir = PathBuf::from(dir).join(format!("bench-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    std::fs::create_dir_all(&dir)?;
    let result = measure(&runtime, &dir);
    std::fs::remove_dir_all(&dir)?;
    result
}

fn measure(runtime: &tokio::runtime::Runtime, dir: &Path) -> Result<(), Failure> {
    let alternate = |a: &dyn Fn(u32) -> Result<Outcome, Failure>, b: &dyn Fn(u32) -> Result<Outcome, Failure>| {
        let (a1, b1, b2, a2) = (a(0)?, b(1)?, b(2)?, a(3)?);
        Ok::<_, Failure>((middle(a1, a2), middle(b1, b2)))
    };
    let (group, plain) =
        alternate(&|n| runtime.block_on(drive(real(dir, n)?, WRITERS, 200)), &|n| plain_files(dir, n, WRITERS, 60))?;
    print("64 writers, group commit", group);
    print("64 writers, a file and an fdatasync each", plain);
    verdict("2.14 fdatasync per write at 64 writers", group.syncs_per_write, "<=", 1.0 / 16.0);
    verdict("2.14 throughput against an fsync each", group.per_second / plain.per_second, ">=", 1.2);

    let (group, plain) =
        alternate(&|n| runtime.block_on(drive(real(dir, n + 10)?, 1, 1500)), &|n| plain_files(dir, n + 10, 1, 1500))?;
    print("1 writer, drive", group);
    print("1 writer, bare write and fdatasync", plain);
    verdict("2.14 p50 of one writer against bare", group.p50.as_secs_f64() / plain.p50.as_secs_f64(), "<=", 1.5);

    let slow = || {
        let disk = ModelDisk::new("model", 16 << 30, 1);
        disk.set_latency(Latency { sync: Duration::from_millis(5), ..Latency::default() });
        disk
    };
    let (group, plain) =
        alternate(&|_| runtime.block_on(drive((slow().media(), Executor::Tasks), WRITERS, 100)), &|_| {
            runtime.block_on(plain_model(slow().media(), WRITERS, 4))
        })?;
    print("64 writers, group commit, model drive with 5 ms sync", group);
    print("64 writers, a sync each, model drive with 5 ms sync", plain);
    verdict("2.14 throughput on the model drive", group.per_second / plain.per_second, ">=", 30.0);
    Ok(())
}

fn middle(a: Outcome, b: Outcome) -> Outcome {
    Outcome {
        per_second: f64::midpoint(a.per_second, b.per_second),
        p50: (a.p50 + b.p50) / 2,
        syncs_per_write: f64::midpoint(a.syncs_per_write, b.syncs_per_write),
    }
}

fn print(what: &str, o: Outcome) {
    let line = serde_json::json!({
        "bench": "group_commit", "case": what, "writes_per_second": o.per_second.round(),
        "p50_us": o.p50.as_micros(), "fdatasync_per_write": o.syncs_per_write,
    });
    println!("{line}");
}

fn verdict(what: &str, value: f64, relation: &str, bound: f64) {
    let holds = if relation == "<=" { value <= bound } else { value >= bound };
    let line = serde_json::json!({
        "bench": "group_commit", "claim": what, "value": value, "relation": relation, "bound": bound, "holds": holds,
    });
    println!("{line}");
}

fn outcome(mut latencies: Vec<Duration>, elapsed: Duration, syncs: u64) -> Outcome {
    latencies.sort_unstable();
    let writes = latencies.len();
    Outcome {
        per_second: writes as f64 / elapsed.as_secs_f64(),
        p50: latencies.get(writes / 2).copied().unwrap_or_default(),
        syncs_per_write: syncs as f64 / writes as f64,
    }
}

fn real(dir: &Path, n: u32) -> Result<(Arc<dyn Media>, Executor), Failure> {
    let path = dir.join(format!("drive-{n}"));
    std::fs::create_dir_all(&path)?;
    Ok((Arc::new(FileMedia::new(path, DirectIo::Auto)), Executor::Threads))
}

fn shard(writer: u64, n: u64) -> Result<(ShardHeader, Bytes), Failure> {
    let mut id = [0u8; 32];
    id[..8].copy_from_slice(&writer.to_le_bytes());
    id[8..16].copy_from_slice(&n.to_le_bytes());
    let payload_len = u32::try_from(SHARD)?;
    let preimage = PackPreimage {
        start_epoch: Epoch(1),
        nonce: [0; 16],
        payload_len,
        chunk_list_offset: 0,
        chunk_list_hash: TreeHash::from_bytes([0; 32]),
    };
    let encoding = Encoding {
        generation: 0,
        scheme: "rs-1-2".parse()?,
        slots: vec![0, 1, 2],
        roots: vec![ShardRoot::from_bytes([0; 32]); 3],
    };
    let pack = PackId::from_bytes(id);
    let header = ShardHeader {
        pack,
        pg: PgId(0),
        pg_epoch: PgEpoch(0),
        shard: 0,
        preimage,
        encoding,
        payload_len,
        crcs: Vec::new(),
    };
    let mut payload = AlignedBuf::zeroed(SHARD);
    payload.bytes_mut()[..32].copy_from_slice(&id);
    Ok((header, payload.into_bytes()))
}

/// A: `writers` tasks store shards one behind the other.
async fn drive((media, executor): (Arc<dyn Media>, Executor), writers: u64, each: u64) -> Result<Outcome, Failure> {
    let (drive, cluster) = (DriveId::from_bytes([1; 16]), ClusterId::from_bytes([2; 16]));
    format(&*media, DriveIdentity { drive, cluster }).await?;
    let metrics = Metrics::default();
    let config = DriveConfig { reserve_bytes: 0, ..DriveConfig::default() };
    let options = DriveOptions { cluster, expect: Some(drive), config, executor, metrics: metrics.clone() };
    let drive = Arc::new(Drive::open(media, options).await?);
    let (header, payload) = shard(u64::MAX, 0)?;
    drive.store(header, payload).await?;
    let before = metrics.fsyncs.get();
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let drive = Arc::clone(&drive);
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            for n in 0..each {
                let (header, payload) = shard(writer, n)?;
                let started = Instant::now();
                drive.store(header, payload).await?;
                latencies.push(started.elapsed());
            }
            Ok::<_, Failure>(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(done) = tasks.join_next().await {
        latencies.extend(done??);
    }
    let elapsed = started.elapsed();
    let syncs = metrics.fsyncs.get() - before;
    drive.close().await;
    Ok(outcome(latencies, elapsed, syncs))
}

/// B on files: `writers` threads, each with a preallocated file of its own.
fn plain_files(dir: &Path, run: u32, writers: u64, each: u64) -> Result<Outcome, Failure> {
    let mut files = Vec::new();
    for writer in 0..writers {
        let path = dir.join(format!("plain-{run}-{writer}"));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::DIRECT;
        let fd = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)?;
        // Allocated as the drive allocates: a MiB at first, the rest as it is reached.
        rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, 1 << 20)?;
        rustix::fs::fsync(&fd)?;
        files.push(fd);
    }
    let started = Instant::now();
    let mut latencies = Vec::new();
    std::thread::scope(|scope| {
        let write = |fd: OwnedFd| write_plainly(&fd, each);
        let threads: Vec<_> = files.into_iter().map(|fd| scope.spawn(move || write(fd))).collect();
        for thread in threads {
            latencies.extend(thread.join().map_err(|_| "a writer panicked")??);
        }
        Ok::<_, Failure>(())
    })?;
    Ok(outcome(latencies, started.elapsed(), writers * each))
}

fn write_plainly(fd: &OwnedFd, each: u64) -> Result<Vec<Duration>, Failure> {
    let block = AlignedBuf::zeroed(RECORD).into_bytes();
    let mut latencies = Vec::new();
    for n in 0..each {
        let started = Instant::now();
        let offset = n * RECORD as u64;
        let end = offset + RECORD as u64;
        if end.is_multiple_of(1 << 20) || end % (1 << 20) < RECORD as u64 {
            rustix::fs::fallocate(fd, FallocateFlags::empty(), end, 1 << 20)?;
        }
        rustix::io::pwrite(fd, &block, offset)?;
        rustix::fs::fdatasync(fd)?;
        latencies.push(started.elapsed());
    }
    Ok(latencies)
}

/// B on the model: `writers` tasks, each with a file and a sync of its own.
async fn plain_model(media: Arc<dyn Media>, writers: u64, each: u64) -> Result<Outcome, Failure> {
    media.lock().await?;
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let file: Arc<dyn MediaFile> = media.create(&format!("plain-{writer}")).await?;
        tasks.spawn(async move {
            let block = AlignedBuf::zeroed(RECORD).into_bytes();
            let mut latencies = Vec::new();
            for n in 0..each {
                let started = Instant::now();
                file.write_at(n * RECORD as u64, std::slice::from_ref(&block)).await?;
                file.sync().await?;
                latencies.push(started.elapsed());
            }
            Ok::<_, Failure>(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(done) = tasks.join_next().await {
        latencies.extend(done??);
    }
    Ok(outcome(latencies, started.elapsed(), writers * each))
}
