//! Writes, copies, deletions and late commits, as gateways would send them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::{
    Command, CommandEnvelope, Contents, DeleteItem, Lease, MetaReply, Origin, PutVersion, RangeRef, VersionSelector,
    WriteGuard,
};
use stele_rpc::storage::{PgRef, StorageRequest};
use stele_rpc::transport::{Request, Service};
use stele_storage_node::node::StorageNode;
use stele_types::ids::{
    ChunkId, ClusterId, CommandSequence, Epoch, LeaseId, NodeId, ObjectRoot, OwnerId, PackId, PgEpoch, PgId, Salt,
    ShardRoot, TreeHash,
};
use stele_types::manifest::{ChunkEntry, Manifest};
use stele_types::map::ClusterMap;
use stele_types::object::{Attributes, BucketRow, ETag, Lock, Precondition, StoredHeaders, Tags};
use stele_types::pack::{Codec, Encoding, PackPreimage, PackRow};
use stele_types::seam::random_bytes;

use super::metadata::Metadata;
use super::place::{GROUPS, cluster_map, drives_of, scheme, storage_node};
use super::{SWEEP_EVERY, SoakOptions, SoakReport, TIMEOUT};
use crate::seed::SimRng;

const KEYS: u64 = 4000;
/// Payload of a pack; its shard is padded to 16 KiB.
const PAYLOAD: u32 = 16_000;
/// Nobody reads it.
static SHARD: [u8; 16 << 10] = [7; 16 << 10];
/// Packs stored beside each other.
const BATCH: usize = 64;
/// Versions that are written while a late commit waits, at most.
const LATE: u64 = 8000;
const LEASE_MS: u64 = 3_600_000;
/// Looks at the drives until they have emptied what they want to.
const SETTLING: u32 = 200;

/// A write whose pack is stored and which has not committed.
#[derive(Clone, Debug)]
struct Write {
    key: u64,
    epoch: Epoch,
    preimage: PackPreimage,
    row: PackRow,
    /// Commits when the driver has come so far.
    due: u64,
    /// The lease does not tell of it: its gateway was frozen.
    forgotten: bool,
}

/// Does what gateways would.
pub(super) struct Writer {
    rng: SimRng,
    pub(super) metadata: Arc<Metadata>,
    pub(super) node: Arc<StorageNode>,
    map: ClusterMap,
    bucket: Box<BucketRow>,
    lease: Lease,
    sequence: u64,
    /// What each key's version refers to. Shared with the sweeps' check.
    pub(super) live: Arc<Mutex<BTreeMap<u64, PackRow>>>,
    open: Vec<Write>,
    pub(super) report: SoakReport,
}

impl Writer {
    pub(super) async fn new(options: SoakOptions) -> anyhow::Result<Self> {
        let rng = SimRng::new(options.seed);
        let cluster = ClusterId::from_bytes(random_bytes(&rng));
        let map = cluster_map(cluster)?;
        let node = storage_node(cluster, options.seed).await?;
        node.set_map(map.clone());
        let metadata = Arc::new(Metadata::new(options.apply()));
        let first = |command| metadata.apply(&envelope((None, 0), command, &rng));
        let drives = map.drives.clone();
        first(Command::InitCluster { cluster, drives, map: Box::new(map.clone()) })?;
        let bucket = match first(Command::CreateBucket { name: "soak".into(), object_lock: false })? {
            MetaReply::Bucket(row) => row,
            other => anyhow::bail!("{other:?} to CreateBucket"),
        };
        let lease = match first(Command::GrantLease { node: NodeId(3), ttl_ms: LEASE_MS })? {
            MetaReply::Lease(lease) => lease,
            other => anyhow::bail!("{other:?} to GrantLease"),
        };
        let (sequence, live, open, report) = (0, Arc::default(), Vec::new(), SoakReport::default());
        Ok(Self { rng, metadata, node, map, bucket, lease, sequence, live, open, report })
    }

    fn command(&mut self, command: Command) -> Result<MetaReply, RpcError> {
        let leased = matches!(command, Command::PutVersion(_) | Command::Delete { .. });
        if leased {
            self.sequence += 1;
        }
        let lease = leased.then_some(self.lease.id);
        self.metadata.apply(&envelope((lease, self.sequence), command, &self.rng))
    }

    /// One batch: packs are stored beside each other, then what is due commits, and some versions go.
    pub(super) async fn step(&mut self) -> anyhow::Result<()> {
        let step = self.report.committed + self.report.abandoned + self.report.fenced;
        let writes: Vec<Write> = (0..BATCH).map(|_| self.draw(step)).collect::<anyhow::Result<_>>()?;
        let stored = futures::future::join_all(writes.iter().map(|write| self.store(write))).await;
        for (write, stored) in writes.into_iter().zip(stored) {
            stored?;
            if self.rng.chance(20) {
                self.report.abandoned += 1;
            } else {
                self.open.push(write);
            }
        }
        let (due, open) = std::mem::take(&mut self.open).into_iter().partition(|write: &Write| write.due <= step);
        self.open = open;
        for write in due {
            self.commit(write.key, write.row, write.epoch)?;
        }
        for _ in 0..BATCH / 8 {
            self.copy()?;
        }
        for _ in 0..BATCH / 4 {
            self.delete()?;
        }
        let lowest_open = self.open.iter().filter(|write| !write.forgotten).map(|write| write.epoch).min();
        let lowest_open = lowest_open.unwrap_or(self.lease.epoch);
        let renew = Command::RenewLease { lease: self.lease.id, ttl_ms: LEASE_MS, lowest_open };
        if let MetaReply::Lease(lease) = self.command(renew)? {
            self.lease = lease;
        }
        Ok(())
    }

    fn draw(&self, step: u64) -> anyhow::Result<Write> {
        let epoch = self.lease.epoch;
        let pg = PgId(u32::try_from(self.rng.below(GROUPS.into()))?);
        let preimage = PackPreimage {
            start_epoch: epoch,
            nonce: random_bytes(&self.rng),
            payload_len: PAYLOAD,
            chunk_list_offset: PAYLOAD,
            chunk_list_hash: TreeHash::from_bytes([9; 32]),
        };
        let row = PackRow {
            pack: preimage.pack_id(),
            pg,
            scheme: scheme()?,
            generation: 0,
            payload_len: PAYLOAD,
            slots: vec![0, 1],
            start_epoch: epoch,
        };
        // Most commit at once, some after a sweep or two, and some so late that the fence has passed them unless a
        // lease tells of them.
        let (late, forgotten) = (self.rng.chance(30), self.rng.chance(300));
        let wait = match (late, forgotten) {
            (false, _) => 0,
            (true, false) => self.rng.below(LATE),
            (true, true) => self.rng.between(LATE, 3 * LATE),
        };
        Ok(Write { key: self.rng.below(KEYS), epoch, preimage, row, due: step + wait, forgotten: late && forgotten })
    }

    async fn store(&self, write: &Write) -> Result<(), RpcError> {
        let body = Bytes::from_static(&SHARD);
        let root = ShardRoot::from_bytes([1; 32]);
        let encoding = Encoding { generation: 0, scheme: write.row.scheme, slots: vec![0, 1], roots: vec![root, root] };
        for (shard, drive) in (0u8..).zip(drives_of(write.row.pg)) {
            let request = StorageRequest::StoreShard {
                drive,
                pg: PgRef { pg: write.row.pg, epoch: PgEpoch(1) },
                pack: write.row.pack,
                preimage: write.preimage.clone(),
                encoding: encoding.clone(),
                shard,
            };
            self.node.serve(NodeId(3), Request::storage(request, body.clone(), TIMEOUT)).await?;
        }
        Ok(())
    }

    fn guard(&self, start_epoch: Epoch) -> WriteGuard {
        let bucket = &self.bucket;
        let range = RangeRef { bucket: bucket.id, range: bucket.range, epoch: bucket.range_epoch };
        WriteGuard { range, config_epoch: bucket.config_epoch, start_epoch }
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<u64, PackRow>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a pack the version of a key. Only the fence may refuse that.
    fn commit(&mut self, key: u64, row: PackRow, epoch: Epoch) -> anyhow::Result<()> {
        let chunk = ChunkEntry {
            id: ChunkId::from_bytes([3; 32]),
            len: PAYLOAD,
            pack: row.pack,
            offset: 0,
            stored_len: PAYLOAD,
            codec: Codec::Raw,
            key_id: 0,
        };
        let put = PutVersion {
            guard: self.guard(epoch),
            key: format!("key {key}"),
            nonce: self.rng.number(),
            salt: Salt::from_bytes(random_bytes(&self.rng)),
            replaced_salt: Salt::from_bytes(random_bytes(&self.rng)),
            precondition: Precondition::None,
            attributes: attributes(),
            contents: Contents {
                owner: OwnerId::from_bytes(random_bytes(&self.rng)),
                manifest: Manifest::Inline(vec![chunk]),
                packs: vec![row.clone()],
            },
            lock: Lock::default(),
        };
        match self.command(Command::PutVersion(Box::new(put))) {
            Ok(_) => {
                self.report.committed += 1;
                let replaced = self.live().insert(key, row);
                self.report.removed += u64::from(replaced.is_some());
                Ok(())
            }
            Err(error) if error.code == Code::Fenced => {
                self.report.fenced += 1;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// As CopyObject does, but in one step: the source's version is there when the copy commits.
    fn copy(&mut self) -> anyhow::Result<()> {
        let (from, to) = (self.rng.below(KEYS), self.rng.below(KEYS));
        let source = self.live().get(&from).cloned();
        match source {
            Some(row) => self.commit(to, row, self.lease.epoch),
            None => Ok(()),
        }
    }

    fn delete(&mut self) -> anyhow::Result<()> {
        let key = self.rng.below(KEYS);
        let item = DeleteItem {
            key: format!("key {key}"),
            version: VersionSelector::Current,
            precondition: Precondition::None,
            nonce: self.rng.number(),
            salt: Salt::from_bytes(random_bytes(&self.rng)),
            bypass: false,
        };
        self.command(Command::Delete { guard: self.guard(self.lease.epoch), items: vec![item] })?;
        let removed = self.live().remove(&key);
        self.report.removed += u64::from(removed.is_some());
        Ok(())
    }

    /// Nothing is written any more: what is open is given up, and sweeps and drives come to an end.
    pub(super) async fn settle(&mut self) -> anyhow::Result<()> {
        self.report.abandoned += self.open.len() as u64;
        self.open.clear();
        let mut used = u64::MAX;
        for _ in 0..SETTLING {
            let renew = Command::RenewLease { lease: self.lease.id, ttl_ms: LEASE_MS, lowest_open: self.lease.epoch };
            if let MetaReply::Lease(lease) = self.command(renew)? {
                self.lease = lease;
            }
            tokio::time::sleep(SWEEP_EVERY).await;
            let now = self.node.drives().iter().map(|drive| drive.used_bytes).sum();
            if now == used && self.left_over()? == 0 {
                break;
            }
            used = now;
        }
        Ok(())
    }

    /// Packs on drives that no version refers to.
    fn left_over(&self) -> anyhow::Result<u64> {
        let live: BTreeSet<PackId> = self.live().values().map(|row| row.pack).collect();
        let mut found = BTreeSet::new();
        for pg in &self.map.pgs {
            for drive in drives_of(pg.id) {
                let drive = self.node.drive(drive).ok_or_else(|| anyhow::anyhow!("drive {drive} does not serve"))?;
                let (rows, _) = drive.inventory(pg.id, None, usize::MAX)?;
                found.extend(rows.into_iter().map(|row| row.pack).filter(|pack| !live.contains(pack)));
            }
        }
        Ok(found.len() as u64)
    }

    pub(super) fn count(&self, report: &mut SoakReport) -> anyhow::Result<()> {
        let live: BTreeMap<PackId, PgId> = self.live().values().map(|row| (row.pack, row.pg)).collect();
        report.live_packs = live.len() as u64;
        report.left_over = self.left_over()?;
        for (pack, pg) in live {
            for drive in drives_of(pg) {
                let held = self.node.drive(drive).and_then(|drive| drive.holds(&[pack]).ok()).unwrap_or_default();
                report.live_bytes += held.iter().map(|row| row.stored_bytes).sum::<u64>();
            }
        }
        report.used_bytes = self.node.drives().iter().map(|drive| drive.used_bytes).sum();
        Ok(())
    }
}

fn attributes() -> Attributes {
    Attributes {
        len: u64::from(PAYLOAD),
        etag: ETag { md5: 0, parts: 0 },
        root: ObjectRoot::from_bytes([5; 32]),
        body_hash: None,
        checksums: Vec::new(),
        headers: Box::<StoredHeaders>::default(),
        part_lens: Vec::new(),
        tags: Tags::default(),
        part_checksums: Bytes::new(),
    }
}

fn envelope((lease, sequence): (Option<LeaseId>, u64), command: Command, rng: &SimRng) -> CommandEnvelope {
    let sequence = CommandSequence(sequence);
    let origin = Origin { principal: "soak".into(), source: String::new(), node: NodeId(3) };
    let salt = Some(Salt::from_bytes(random_bytes(rng)));
    CommandEnvelope { lease, sequence, lowest_open: sequence, origin, salt, command }
}
