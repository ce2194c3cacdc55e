//! Listing and apply figures of the metadata service (issue clause 2.16), as JSON lines. In one
//! process, on real files, without raft: what the rows and the code cost. Run it with
//! `cargo run --release -p stele-metadata --example bench_list`.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark prints, and measures with the real clock"
)]

use std::ops::ControlFlow;
use std::time::Instant;

use stele_metadata::apply::{ApplyOptions, Batch};
use stele_metadata::keyspace::{self, Tag};
use stele_metadata::kv::{MetaKv, RedbKv};
use stele_metadata::{files, reads};
use stele_rpc::meta::{
    Command, CommandEnvelope, Contents, DeleteItem, ListQuery, MetaReply, MetaRequest, Origin, PutVersion, RangeRef,
    VersionSelector, WriteGuard,
};
use stele_types::ids::{
    BucketId, ChunkId, CommandSequence, ConfigEpoch, Epoch, LeaseId, NodeId, ObjectRoot, OwnerId, PackId, PgId,
    RangeEpoch, RangeId, Salt,
};
use stele_types::manifest::{ChunkEntry, Manifest};
use stele_types::object::{Attributes, BucketRow, ETag, Lock, Precondition, Tags, Versioning};
use stele_types::pack::{Codec, PackRow};

type Failure = Box<dyn std::error::Error>;

const KEYS: u64 = 1_000_000;
const DELETED: u64 = 500_000;
const BATCH: usize = 512;
const PAGE: u32 = 1000;

struct Bench {
    kv: RedbKv,
    sequence: u64,
    queue: Vec<CommandEnvelope>,
}

impl Bench {
    fn send(&mut self, command: Command) -> Result<(), Failure> {
        self.sequence += 1;
        self.queue.push(CommandEnvelope {
            lease: Some(LeaseId(1)),
            sequence: CommandSequence(self.sequence),
            lowest_open: CommandSequence(self.sequence.saturating_sub(64)),
            origin: Origin { principal: "bench".into(), source: "127.0.0.1".into(), node: NodeId(1) },
            // Nobody reads this log.
            salt: Some(Salt::from_bytes([0; 32])),
            command,
        });
        if self.queue.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let queue = std::mem::take(&mut self.queue);
        let mut refused = None;
        self.kv.write(&mut |txn| {
            let mut batch = Batch::begin(txn, ApplyOptions::default())?;
            for envelope in &queue {
                if let Err(error) = batch.apply(1, envelope)? {
                    refused = Some(error);
                }
            }
            batch.finish()
        })?;
        refused.map_or(Ok(()), |error| Err(error.into()))
    }

    fn bucket(&mut self, name: &str, id: u64, versioning: Versioning) -> Result<BucketId, Failure> {
        self.send(Command::CreateBucket { name: name.to_owned(), object_lock: false })?;
        self.flush()?;
        let row_key = keyspace::bucket(BucketId(id));
        let mut row: BucketRow =
            stele_metadata::rows::load(&*self.kv.view()?, &row_key)?.ok_or("the bucket was not created")?;
        row.versioning = versioning;
        self.kv.write(&mut |txn| txn.put(&row_key, &stele_metadata::rows::encode(&row)))?;
        Ok(row.id)
    }

    fn put(&mut self, bucket: BucketId, key: String) -> Result<(), Failure> {
        let n = self.sequence;
        let pack = PackId::from_bytes(spread(n / 50));
        let entry = ChunkEntry {
            id: ChunkId::from_bytes(spread(n)),
            len: 4096,
            pack,
            offset: 0,
            stored_len: 4096,
            codec: Codec::Raw,
            key_id: 0,
        };
        let row = PackRow {
            pack,
            pg: PgId(u32::try_from(n / 50 % 100)?),
            scheme: "rs-1-2".parse()?,
            generation: 0,
            payload_len: 300_000,
            slots: vec![0, 1, 2],
            start_epoch: Epoch(1),
        };
        let mut owner = [0; 16];
        owner.copy_from_slice(&spread(n ^ 0xffff)[..16]);
        self.send(Command::PutVersion(Box::new(PutVersion {
            guard: guard(bucket),
            key,
            nonce: n,
            salt: Salt::from_bytes(spread(n)),
            replaced_salt: Salt::from_bytes(spread(n + 1)),
            precondition: Precondition::None,
            attributes: Attributes {
                len: 4096,
                etag: ETag { md5: u128::from(n) << 64, parts: 0 },
                root: ObjectRoot::from_bytes(spread(n)),
                body_hash: None,
                checksums: Vec::new(),
                headers: Box::default(),
                part_lens: Vec::new(),
                tags: Tags::default(),
                part_checksums: bytes::Bytes::new(),
            },
            contents: Contents {
                owner: OwnerId::from_bytes(owner),
                manifest: Manifest::Inline(vec![entry]),
                packs: vec![row],
            },
            lock: Lock::default(),
        })))
    }

    fn pages(&self, bucket: BucketId, query: &ListQuery) -> Result<(usize, usize, f64), Failure> {
        let begun = Instant::now();
        let mut query = query.clone();
        let (mut found, mut pages) = (0, 0);
        loop {
            let view = self.kv.view()?;
            let request = MetaRequest::List { range: range(bucket), query: query.clone() };
            let Ok(MetaReply::Keys(page)) = reads::read(&*view, &request) else {
                return Err("the listing was refused".into());
            };
            found += page.rows.len() + page.common_prefixes.len();
            pages += 1;
            if !page.truncated {
                return Ok((found, pages, begun.elapsed().as_secs_f64()));
            }
            query.after = page.next_after;
        }
    }

    fn scan(&self, bucket: BucketId) -> Result<(usize, f64), Failure> {
        let begun = Instant::now();
        let from = keyspace::in_bucket(Tag::Current, bucket);
        let (mut rows, mut bytes) = (0, 0);
        self.kv.view()?.scan(&from, &keyspace::successor(&from), &mut |key, value| {
            rows += 1;
            bytes += key.len() + value.len();
            ControlFlow::Continue(())
        })?;
        std::hint::black_box(bytes);
        Ok((rows, begun.elapsed().as_secs_f64()))
    }
}

fn spread(n: u64) -> [u8; 32] {
    let mut out = [0; 32];
    for (at, chunk) in out.chunks_mut(8).enumerate() {
        let mixed =
            (n + at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        chunk.copy_from_slice(&mixed.to_be_bytes());
    }
    out
}

fn range(bucket: BucketId) -> RangeRef {
    RangeRef { bucket, range: RangeId(bucket.0), epoch: RangeEpoch(1) }
}

fn guard(bucket: BucketId) -> WriteGuard {
    WriteGuard { range: range(bucket), config_epoch: ConfigEpoch(1), start_epoch: Epoch(1) }
}

fn query(delimiter: Option<&str>) -> ListQuery {
    ListQuery { delimiter: delimiter.map(str::to_owned), max: PAGE, ..ListQuery::default() }
}

fn median(mut runs: Vec<f64>) -> f64 {
    runs.sort_by(f64::total_cmp);
    runs.get(runs.len() / 2).copied().unwrap_or_default()
}

fn fill(bench: &mut Bench, bucket: BucketId) -> Result<(), Failure> {
    let begun = Instant::now();
    for n in 0..KEYS {
        bench.put(bucket, format!("{}/{:07}", n * 10 / KEYS, n))?;
    }
    bench.flush()?;
    let micros = begun.elapsed().as_secs_f64() * 1e6 / (KEYS as f64);
    println!(r#"{{"bench":"apply_put","keys":{KEYS},"batch":{BATCH},"us_per_put":{micros:.1}}}"#);
    bench.kv.sync()?;
    Ok(())
}

fn whole_bucket(bench: &Bench, bucket: BucketId) -> Result<(), Failure> {
    let (mut scans, mut lists) = (Vec::new(), Vec::new());
    // A-B-B-A.
    for listing in [false, true, true, false, false, true, true, false] {
        if listing {
            let (found, _, seconds) = bench.pages(bucket, &query(None))?;
            assert_eq!(found as u64, KEYS);
            lists.push(seconds);
        } else {
            let (rows, seconds) = bench.scan(bucket)?;
            assert_eq!(rows as u64, KEYS);
            scans.push(seconds);
        }
    }
    let (scan, list) = (median(scans), median(lists));
    println!(
        r#"{{"bench":"list_million","scan_s":{scan:.3},"pages_s":{list:.3},"ratio":{:.3},"at_least":0.3}}"#,
        scan / list
    );
    Ok(())
}

fn prefixes(bench: &mut Bench, bucket: BucketId) -> Result<(), Failure> {
    let ten = bench.bucket("ten", 2, Versioning::Unset)?;
    for n in 0..10 {
        bench.put(ten, format!("{n}"))?;
    }
    bench.flush()?;
    let timed = |bucket, delimiter: Option<&str>| -> Result<f64, Failure> {
        let mut runs = Vec::new();
        for _ in 0..201 {
            let (found, pages, seconds) = bench.pages(bucket, &query(delimiter))?;
            assert_eq!((found, pages), (10, 1));
            runs.push(seconds * 1e6);
        }
        Ok(median(runs))
    };
    let (keys, prefixes) = (timed(ten, None)?, timed(bucket, Some("/"))?);
    println!(
        r#"{{"bench":"ten_prefixes","ten_keys_us":{keys:.1},"ten_prefixes_us":{prefixes:.1},"ratio":{:.2},"at_most":3}}"#,
        prefixes / keys
    );
    Ok(())
}

fn history(bench: &mut Bench) -> Result<(), Failure> {
    let bucket = bench.bucket("history", 3, Versioning::Enabled)?;
    for n in 0..1000 {
        bench.put(bucket, "b".to_owned())?;
        if n == 0 {
            bench.put(bucket, "a".to_owned())?;
            bench.put(bucket, "c".to_owned())?;
        }
    }
    bench.flush()?;
    let (found, pages, seconds) = bench.pages(bucket, &query(None))?;
    println!(r#"{{"bench":"thousand_versions","found":{found},"pages":{pages},"us":{:.1}}}"#, seconds * 1e6);
    Ok(())
}

fn deleted(bench: &mut Bench) -> Result<(), Failure> {
    for (name, id, versioning) in [("gone", 4, Versioning::Unset), ("marked", 5, Versioning::Enabled)] {
        let bucket = bench.bucket(name, id, versioning)?;
        let begun = Instant::now();
        for n in 0..DELETED {
            bench.put(bucket, format!("{n:07}"))?;
        }
        for first in (0..DELETED).step_by(500) {
            let item = |n: u64| DeleteItem {
                key: format!("{n:07}"),
                version: VersionSelector::Current,
                precondition: Precondition::None,
                nonce: n,
                salt: Salt::from_bytes(spread(n)),
                bypass: false,
            };
            bench.send(Command::Delete { guard: guard(bucket), items: (first..first + 500).map(item).collect() })?;
        }
        bench.put(bucket, "z".to_owned())?;
        bench.flush()?;
        let written = begun.elapsed().as_secs_f64();
        let mut runs = Vec::new();
        for _ in 0..51 {
            let (found, pages, seconds) = bench.pages(bucket, &query(None))?;
            assert_eq!((found, pages), (1, 1));
            runs.push(seconds * 1e6);
        }
        println!(
            r#"{{"bench":"deleted_keys","bucket":"{name}","deleted":{DELETED},"page_us":{:.1},"filled_s":{written:.1}}}"#,
            median(runs)
        );
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    let dir = tempfile::tempdir()?;
    let storage = files::in_directory(dir.path())?;
    let kv = RedbKv::open(storage.state, 1 << 30)?;
    let mut bench = Bench { kv, sequence: 0, queue: Vec::new() };
    let grant = CommandEnvelope {
        lease: None,
        sequence: CommandSequence(0),
        lowest_open: CommandSequence(0),
        origin: Origin::default(),
        salt: None,
        command: Command::GrantLease { node: NodeId(1), ttl_ms: u64::MAX },
    };
    bench.queue.push(grant);
    let bucket = bench.bucket("million", 1, Versioning::Unset)?;
    fill(&mut bench, bucket)?;
    whole_bucket(&bench, bucket)?;
    prefixes(&mut bench, bucket)?;
    history(&mut bench)?;
    deleted(&mut bench)
}
