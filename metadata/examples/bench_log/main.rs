//! What the evidence log costs a metadata voter per PUT (issue clause 5.15), as JSON lines: CPU of applying the same
//! commands with the log and without, A-B-B-A on two databases, the bytes that the log adds to rows, tree tiles and
//! raft log, and the size of a snapshot while the log grows and old entries move to archives. "Without" is a switch that only the feature `sabotage` compiles in. Run it with
//! `cargo run --release --features stele-metadata/sabotage --example bench_log DIR`; DIR lies on the drive to be measured.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

mod archived;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Mutex;

use serde::Serialize;
use stele_metadata::apply::{ApplyOptions, Batch};
use stele_metadata::kv::{KEYS_END, MetaKv, RedbKv};
use stele_metadata::{files, keyspace, reads};
use stele_rpc::meta::{
    Command, CommandEnvelope, Contents, MetaReply, MetaRequest, Origin, PutVersion, RangeRef, WriteGuard,
};
use stele_types::ids::{
    BodyHash, ChunkId, CommandSequence, Epoch, LeaseId, LogIndex, NodeId, ObjectRoot, OwnerId, PackId, PgId, Salt,
    VersionId,
};
use stele_types::manifest::{ChunkEntry, Manifest};
use stele_types::object::{Attributes, BucketRow, ETag, Lock, Precondition, Tags};
use stele_types::pack::{Codec, PackRow};
use stele_types::seam::{Rng, UnixMillis, random_bytes};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const CACHE_BYTES: usize = 64 << 20;
/// Commands of one round on one side: as many as lie between two syncs of the rows.
const ROUND: u64 = 10_000;
const TURNS: usize = 8;
const GATEWAY: NodeId = NodeId(99);
const NOW: UnixMillis = 1_790_000_000_000;

/// Good enough for ids in a benchmark, and the same on both sides.
#[derive(Debug)]
struct Steps(Mutex<u64>);

impl Rng for Steps {
    fn fill(&self, out: &mut [u8]) {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for piece in out.chunks_mut(8) {
            // SplitMix64.
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut next = *state;
            next = (next ^ next >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            next = (next ^ next >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            piece.copy_from_slice(&(next ^ next >> 31).to_le_bytes()[..piece.len()]);
        }
    }
}

/// One state machine over one database.
struct Side {
    kv: RedbKv,
    options: ApplyOptions,
    rng: Steps,
    bucket: BucketRow,
    lease: LeaseId,
    sequence: u64,
    /// Keys that are written again and again.
    keys: u64,
}

impl Side {
    fn open(dir: &Path, options: ApplyOptions) -> Result<Self, Failure> {
        let kv = RedbKv::open(files::in_directory(dir)?.state, CACHE_BYTES)?;
        let create = Command::CreateBucket { name: "imaging".to_owned(), object_lock: false };
        let MetaReply::Bucket(bucket) = apply_one(&kv, options, create)? else { return Err("no bucket".into()) };
        let grant = Command::GrantLease { node: GATEWAY, ttl_ms: 3_600_000 };
        let MetaReply::Lease(lease) = apply_one(&kv, options, grant)? else { return Err("no lease".into()) };
        Ok(Self {
            kv,
            options,
            rng: Steps(Mutex::new(7)),
            bucket: *bucket,
            lease: lease.id,
            sequence: 0,
            keys: u64::MAX,
        })
    }

    /// Applies a round of PUTs, so many in each batch; CPU microseconds per PUT. The commands are made before.
    fn round(&mut self, per_batch: usize) -> Result<f64, Failure> {
        let commands: Vec<_> = (0..ROUND).map(|_| self.next()).collect();
        let begun = thread_cpu_nanos()?;
        for part in commands.chunks(per_batch) {
            self.apply(part)?;
        }
        self.kv.sync()?;
        Ok((thread_cpu_nanos()? - begun) / 1e3 / ROUND as f64)
    }

    /// Applies commands as one batch; the last reply.
    fn apply(&self, commands: &[CommandEnvelope]) -> Result<MetaReply, Failure> {
        let (mut last, mut refused) = (None, None);
        self.kv.write(&mut |txn| {
            let mut batch = Batch::begin(txn, self.options)?;
            for command in commands {
                match batch.apply(NOW, command)? {
                    Ok(reply) => last = Some(reply),
                    Err(error) => refused = Some(error),
                }
            }
            batch.finish()
        })?;
        refused.map_or(Ok(()), Err)?;
        last.ok_or_else(|| "no reply".into())
    }

    /// So many PUTs more.
    fn some(&mut self, puts: u64) -> Result<(), Failure> {
        let commands: Vec<_> = (0..puts).map(|_| self.next()).collect();
        self.apply(&commands).map(drop)
    }

    /// An object of another bucket.
    fn put_at(&mut self, bucket: &str, key: &str) -> Result<VersionId, Failure> {
        let asked = MetaRequest::Bucket { name: bucket.to_owned() };
        let MetaReply::Bucket(row) = reads::read(&*self.kv.view()?, &asked)? else { return Err("no bucket".into()) };
        self.sequence += 1;
        let mut put = self.put();
        put.guard.range = RangeRef { bucket: row.id, range: row.range, epoch: row.range_epoch };
        put.guard.config_epoch = row.config_epoch;
        key.clone_into(&mut put.key);
        match self.apply(&[self.envelope(put)])? {
            MetaReply::Committed(committed) => Ok(committed.id),
            other => Err(format!("{other:?}").into()),
        }
    }

    fn next(&mut self) -> CommandEnvelope {
        self.sequence += 1;
        self.envelope(self.put())
    }

    fn envelope(&self, put: PutVersion) -> CommandEnvelope {
        let (sequence, command) = (CommandSequence(self.sequence), Command::PutVersion(Box::new(put)));
        CommandEnvelope { lease: Some(self.lease), sequence, lowest_open: sequence, ..without_lease(command) }
    }

    /// 4 KiB in one chunk of a pack that a gateway filled with those of 64 clients.
    fn put(&self) -> PutVersion {
        let bucket = &self.bucket;
        let shared = Steps(Mutex::new(self.sequence / 64));
        let pack = PackId::from_bytes(random_bytes(&shared));
        let offset = u32::try_from(self.sequence % 64 * 4096).unwrap_or_default();
        let chunk = ChunkEntry {
            id: ChunkId::from_bytes(self.draw()),
            len: 4096,
            pack,
            offset,
            stored_len: 4096,
            codec: Codec::Raw,
            key_id: 0,
        };
        let row = PackRow {
            pack,
            pg: PgId(0),
            scheme: "rs-1-2".parse().unwrap_or_else(|_| unreachable!("a scheme")),
            generation: 0,
            payload_len: 64 * 4096,
            slots: vec![0, 1, 2],
            start_epoch: Epoch(1),
        };
        let range = RangeRef { bucket: bucket.id, range: bucket.range, epoch: bucket.range_epoch };
        PutVersion {
            guard: WriteGuard { range, config_epoch: bucket.config_epoch, start_epoch: Epoch(1) },
            key: format!("studies/2026/11/22/{:08}.dcm", self.sequence % self.keys),
            nonce: self.sequence,
            salt: Salt::from_bytes(self.draw()),
            replaced_salt: Salt::from_bytes(self.draw()),
            precondition: Precondition::None,
            attributes: Attributes {
                len: 4096,
                etag: ETag { md5: u128::from_le_bytes(self.draw()), parts: 0 },
                root: ObjectRoot::from_bytes(self.draw()),
                body_hash: Some(BodyHash::from_bytes(self.draw())),
                checksums: Vec::new(),
                headers: Box::default(),
                part_lens: Vec::new(),
                tags: Tags::default(),
                part_checksums: bytes::Bytes::new(),
            },
            contents: Contents {
                owner: OwnerId::from_bytes(self.draw()),
                manifest: Manifest::Inline(vec![chunk]),
                packs: vec![row],
            },
            lock: Lock::default(),
        }
    }

    fn draw<const N: usize>(&self) -> [u8; N] {
        random_bytes(&self.rng)
    }

    /// Bytes of keys and values by table.
    fn bytes(&self) -> Result<BTreeMap<u8, u64>, Failure> {
        let mut bytes = BTreeMap::new();
        self.kv.view()?.scan(&[], &KEYS_END, &mut |key, value| {
            let table = key.first().copied().unwrap_or_default();
            *bytes.entry(table).or_default() += (key.len() + value.len()) as u64;
            ControlFlow::Continue(())
        })?;
        Ok(bytes)
    }
}

fn without_lease(command: Command) -> CommandEnvelope {
    // As long as access keys and addresses usually are.
    let origin = Origin { principal: "AKIAIOSFODNN7EXAMPLE".into(), source: "10.11.12.13".into(), node: GATEWAY };
    CommandEnvelope {
        lease: None,
        sequence: CommandSequence(0),
        lowest_open: CommandSequence(0),
        origin,
        // Only what is done to the cluster takes it from here.
        salt: None,
        command,
    }
}

fn apply_one(kv: &RedbKv, options: ApplyOptions, command: Command) -> Result<MetaReply, Failure> {
    let envelope = CommandEnvelope { salt: Some(Salt::from_bytes([0; 32])), ..without_lease(command) };
    let mut reply = None;
    kv.write(&mut |txn| {
        let mut batch = Batch::begin(txn, options)?;
        reply = Some(batch.apply(NOW, &envelope)?);
        batch.finish()
    })?;
    Ok(reply.ok_or("no reply")??)
}

/// CPU time of this thread, by the scheduler's account.
fn thread_cpu_nanos() -> Result<f64, Failure> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split_whitespace().next().ok_or("schedstat")?.parse()?)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let lower = values.get(middle.saturating_sub(1)).copied().unwrap_or_default();
    let upper = values.get(middle).copied().unwrap_or_default();
    if values.len().is_multiple_of(2) { f64::midpoint(lower, upper) } else { upper }
}

/// Bytes of a command in the raft log, and of the fields that are there for the evidence log alone.
fn raft_bytes(side: &mut Side) -> Result<(usize, usize, usize), Failure> {
    #[derive(Serialize)]
    struct Salts {
        salt: Salt,
        replaced_salt: Salt,
    }
    #[derive(Serialize)]
    struct OneSalt {
        salt: Salt,
    }
    let salt = Salt::from_bytes([0xa5; 32]);
    // One byte tells how many fields a map has, with these or without.
    let both = rmp_serde::to_vec_named(&Salts { salt, replaced_salt: salt })?.len() - 1;
    let own = rmp_serde::to_vec_named(&OneSalt { salt })?.len() - 1;
    Ok((rmp_serde::to_vec_named(&side.next())?.len(), own, both))
}

fn cpu(with: &mut Side, without: &mut Side, per_batch: usize) -> Result<(), Failure> {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        a.push(with.round(per_batch)?);
        b.push(without.round(per_batch)?);
        b.push(without.round(per_batch)?);
        a.push(with.round(per_batch)?);
    }
    let (with, without) = (median(a), median(b));
    let line = serde_json::json!({
        "bench": "log_cpu", "puts_per_batch": per_batch, "puts_per_side": ROUND * 2 * TURNS as u64,
        "apply_cpu_us_per_put_with_log": with, "apply_cpu_us_per_put_without": without, "log_cpu_us_per_put": with - without,
    });
    println!("{line}");
    Ok(())
}

fn main() -> Result<(), Failure> {
    let folder = std::env::args().nth(1).ok_or("say which folder to write to")?;
    let dir = tempfile::tempdir_in(folder)?;
    let left_out = ApplyOptions { log_left_out: true, ..ApplyOptions::default() };
    let mut with = Side::open(&dir.path().join("with"), ApplyOptions::default())?;
    let mut without = Side::open(&dir.path().join("without"), left_out)?;
    let empty = (with.bytes()?, without.bytes()?);
    for per_batch in [64, 8, 1] {
        cpu(&mut with, &mut without, per_batch)?;
    }
    let puts = with.sequence as f64;
    let grown = |side: &Side, empty: &BTreeMap<u8, u64>| -> Result<BTreeMap<u8, f64>, Failure> {
        let bytes = side.bytes()?.into_iter();
        Ok(bytes
            .map(|(table, bytes)| (table, (bytes - empty.get(&table).copied().unwrap_or_default()) as f64))
            .collect())
    };
    let (a, b) = (grown(&with, &empty.0)?, grown(&without, &empty.1)?);
    let of = |rows: &BTreeMap<u8, f64>, table: u8| rows.get(&table).copied().unwrap_or_default() / puts;
    let table = |key: Vec<u8>| key.first().copied().unwrap_or_default();
    let (records, tiles) = (table(keyspace::record(LogIndex(0))), table(keyspace::tile(0, 0)));
    let (all_with, all_without) = (a.values().sum::<f64>() / puts, b.values().sum::<f64>() / puts);
    let (command, own_salt, salts) = raft_bytes(&mut with)?;
    let line = serde_json::json!({
        "bench": "log_bytes", "puts": puts, "row_bytes_per_put_with_log": all_with, "row_bytes_per_put_without": all_without,
        "log_row_bytes_per_put": all_with - all_without, "record_rows": of(&a, records), "tile_rows": of(&a, tiles),
        "elsewhere": all_with - all_without - of(&a, records) - of(&a, tiles),
        "raft_bytes_per_put": command, "raft_bytes_of_salt": own_salt, "raft_bytes_of_both_salts": salts,
    });
    println!("{line}");
    archived::snapshots(&dir.path().join("archived"))
}
