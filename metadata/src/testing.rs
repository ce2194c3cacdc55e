//! What the tests of this crate share: command builders with counted "random" ids, and a state
//! machine without raft.

use stele_rpc::error::RpcError;
use stele_rpc::meta::{
    Command, CommandEnvelope, Committed, CompleteUpload, Contents, DeleteItem, ListQuery, ListedKey, MetaReply,
    MetaRequest, Origin, PutVersion, RangeRef, VersionSelector, WriteGuard,
};
use stele_types::ids::{
    BucketId, ChunkId, CommandSequence, ConfigEpoch, Epoch, LeaseId, NodeId, ObjectRoot, OwnerId, PackId, PgId,
    RangeEpoch, RangeId, Salt, UploadId,
};
use stele_types::manifest::{ChunkEntry, Manifest};
use stele_types::object::{Attributes, ETag, Lock, Part, Precondition, StoredHeaders, Tags, Versioning};
use stele_types::pack::{Codec, PackRow};

use crate::apply::{ApplyOptions, Batch};
use crate::keyspace;
use crate::kv::{MemoryKv, MetaKv};
use crate::reads::{self, ReadError};
use crate::rows;

/// Ids that never repeat.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draws(u64);

impl Draws {
    pub(crate) fn starting_at(first: u64) -> Self {
        Self(first)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        out[..8].copy_from_slice(&self.number().to_be_bytes());
        out
    }
}

pub(crate) fn guard(bucket: BucketId, epoch: u64) -> WriteGuard {
    WriteGuard { range: range(bucket), config_epoch: ConfigEpoch(1), start_epoch: Epoch(epoch) }
}

pub(crate) fn range(bucket: BucketId) -> RangeRef {
    RangeRef { bucket, range: RangeId(bucket.0), epoch: RangeEpoch(1) }
}

pub(crate) fn pack_row(pack: PackId) -> PackRow {
    PackRow {
        pack,
        pg: PgId(u32::from(pack.as_bytes()[7] % 3)),
        scheme: "rs-4-2".parse().unwrap(),
        generation: 0,
        payload_len: 4096,
        slots: vec![0, 1, 2, 3, 4, 5],
        start_epoch: Epoch(1),
    }
}

pub(crate) fn chunk(pack: PackId, len: u32) -> ChunkEntry {
    ChunkEntry { id: ChunkId::from_bytes([3; 32]), len, pack, offset: 0, stored_len: len, codec: Codec::Raw, key_id: 0 }
}

pub(crate) fn attributes(len: u64, md5: u64) -> Attributes {
    Attributes {
        len,
        etag: ETag { md5: u128::from(md5), parts: 0 },
        root: ObjectRoot::from_bytes([5; 32]),
        body_hash: None,
        checksums: Vec::new(),
        headers: Box::default(),
        part_lens: Vec::new(),
        tags: Tags::default(),
        part_checksums: bytes::Bytes::new(),
    }
}

impl Draws {
    /// A PUT of one chunk in a pack of its own.
    pub(crate) fn put(&mut self, guard: WriteGuard, key: &str) -> PutVersion {
        let pack = PackId::from_bytes(self.bytes());
        let md5 = self.number();
        PutVersion {
            guard,
            key: key.to_owned(),
            nonce: self.number(),
            salt: Salt::from_bytes(self.bytes()),
            replaced_salt: Salt::from_bytes(self.bytes()),
            precondition: Precondition::None,
            attributes: attributes(100, md5),
            contents: Contents {
                owner: OwnerId::from_bytes(self.bytes()),
                manifest: Manifest::Inline(vec![chunk(pack, 100)]),
                packs: vec![pack_row(pack)],
            },
            lock: Lock::default(),
        }
    }

    pub(crate) fn delete(&mut self, key: &str, version: VersionSelector) -> DeleteItem {
        DeleteItem {
            key: key.to_owned(),
            version,
            precondition: Precondition::None,
            nonce: self.number(),
            salt: Salt::from_bytes(self.bytes()),
            bypass: false,
        }
    }

    pub(crate) fn part(&mut self, number: u16, len: u32) -> (Box<Part>, Vec<PackRow>) {
        let pack = PackId::from_bytes(self.bytes());
        let part = Part {
            number,
            generation: 0,
            modified: 0,
            len: u64::from(len),
            etag: ETag { md5: u128::from(self.number()), parts: 0 },
            checksums: Vec::new(),
            owner: OwnerId::from_bytes(self.bytes()),
            manifest: Manifest::Inline(vec![chunk(pack, len)]),
        };
        (Box::new(part), vec![pack_row(pack)])
    }

    /// Completes an upload whose parts are given as the service returned them.
    pub(crate) fn complete(
        &mut self,
        guard: WriteGuard,
        key: &str,
        upload: UploadId,
        parts: &[Part],
    ) -> CompleteUpload {
        let mut put = self.put(guard, key);
        let entries: Vec<ChunkEntry> = parts
            .iter()
            .flat_map(|part| match &part.manifest {
                Manifest::Inline(entries) => entries.clone(),
                Manifest::Paged { .. } => Vec::new(),
            })
            .collect();
        put.attributes.len = entries.iter().map(|entry| u64::from(entry.len)).sum();
        put.contents.manifest = Manifest::Inline(entries);
        put.contents.packs.clear();
        CompleteUpload { put, upload, parts: parts.iter().map(|part| (part.number, part.generation)).collect() }
    }
}

pub(crate) fn origin() -> Origin {
    Origin { principal: "root".into(), source: "127.0.0.1".into(), node: NodeId(1) }
}

/// Never one that [`Draws`] gives.
fn envelope_salt(sequence: u64) -> Salt {
    let mut salt = [0xa5; 32];
    salt[..8].copy_from_slice(&sequence.to_be_bytes());
    Salt::from_bytes(salt)
}

pub(crate) fn envelope(lease: Option<LeaseId>, sequence: u64, lowest: u64, command: Command) -> CommandEnvelope {
    CommandEnvelope {
        lease,
        sequence: CommandSequence(sequence),
        lowest_open: CommandSequence(lowest),
        origin: origin(),
        salt: Some(envelope_salt(sequence)),
        command,
    }
}

/// The state machine on a store, without raft.
pub(crate) struct Machine {
    pub(crate) kv: Box<dyn MetaKv>,
    pub(crate) now: u64,
    pub(crate) draws: Draws,
    pub(crate) lease: LeaseId,
    pub(crate) options: ApplyOptions,
    sequence: u64,
}

pub(crate) const LEASE_MS: u64 = 1_000_000;

impl Machine {
    pub(crate) fn new() -> Self {
        Self::on(Box::new(MemoryKv::default()))
    }

    pub(crate) fn on(kv: Box<dyn MetaKv>) -> Self {
        let mut machine = Self {
            kv,
            now: 1000,
            draws: Draws::default(),
            lease: LeaseId(0),
            options: ApplyOptions::default(),
            sequence: 0,
        };
        machine.lease = machine.grant(LEASE_MS);
        machine
    }

    pub(crate) fn grant(&mut self, ttl_ms: u64) -> LeaseId {
        let grant = Command::GrantLease { node: NodeId(1), ttl_ms };
        match self.apply(&envelope(None, 0, 0, grant)) {
            Ok(MetaReply::Lease(lease)) => lease.id,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn apply_all(&mut self, envelopes: &[CommandEnvelope]) -> Vec<Result<MetaReply, RpcError>> {
        let mut answers = Vec::new();
        self.kv
            .write(&mut |txn| {
                let mut batch = Batch::begin(txn, self.options)?;
                for envelope in envelopes {
                    answers.push(batch.apply(self.now, envelope)?);
                }
                batch.finish()
            })
            .unwrap();
        answers
    }

    pub(crate) fn apply(&mut self, envelope: &CommandEnvelope) -> Result<MetaReply, RpcError> {
        self.apply_all(std::slice::from_ref(envelope)).pop().unwrap()
    }

    /// An envelope with the next sequence; earlier replies are given up.
    pub(crate) fn next(&mut self, command: Command) -> CommandEnvelope {
        self.sequence += 1;
        envelope(Some(self.lease), self.sequence, self.sequence, command)
    }

    pub(crate) fn run(&mut self, command: Command) -> Result<MetaReply, RpcError> {
        let envelope = self.next(command);
        self.apply(&envelope)
    }

    pub(crate) fn cluster(&mut self, command: Command) -> Result<MetaReply, RpcError> {
        self.apply(&envelope(None, 0, 0, command))
    }

    pub(crate) fn bucket(&mut self, name: &str) -> BucketId {
        match self.run(Command::CreateBucket { name: name.to_owned(), object_lock: false }) {
            Ok(MetaReply::Bucket(row)) => row.id,
            other => panic!("{other:?}"),
        }
    }

    /// Sets versioning and keeps the configuration epoch, so that guards hold; also back to unset, as no command does.
    pub(crate) fn set_versioning(&mut self, bucket: BucketId, versioning: Versioning) {
        let key = keyspace::bucket(bucket);
        let mut row: stele_types::object::BucketRow = rows::load(&*self.kv.view().unwrap(), &key).unwrap().unwrap();
        row.versioning = versioning;
        self.kv.write(&mut |txn| txn.put(&key, &rows::encode(&row))).unwrap();
    }

    pub(crate) fn put(&mut self, bucket: BucketId, key: &str) -> Committed {
        let put = self.draws.put(guard(bucket, 1), key);
        self.put_as(put).unwrap()
    }

    pub(crate) fn put_as(&mut self, put: PutVersion) -> Result<Committed, RpcError> {
        match self.run(Command::PutVersion(Box::new(put)))? {
            MetaReply::Committed(committed) => Ok(committed),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn delete(&mut self, bucket: BucketId, key: &str, version: VersionSelector) -> stele_rpc::meta::Deleted {
        let items = vec![self.draws.delete(key, version)];
        match self.run(Command::Delete { guard: guard(bucket, 1), items }) {
            Ok(MetaReply::Deleted(mut outcomes)) => outcomes.remove(0),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn read(&self, request: &MetaRequest) -> Result<MetaReply, RpcError> {
        reads::answer(&*self.kv.view().unwrap(), request).map_err(|error| match error {
            ReadError::Refused(error) => error,
            ReadError::Broken(error) => panic!("{error}"),
        })
    }

    pub(crate) fn resolve(&self, bucket: BucketId, key: &str, version: VersionSelector) -> Result<MetaReply, RpcError> {
        self.read(&MetaRequest::Resolve { range: range(bucket), key: key.to_owned(), version })
    }

    pub(crate) fn page(
        &self,
        bucket: BucketId,
        query: ListQuery,
        versions: bool,
    ) -> stele_rpc::meta::ListPage<ListedKey> {
        let range = range(bucket);
        let request =
            if versions { MetaRequest::ListVersions { range, query } } else { MetaRequest::List { range, query } };
        match self.read(&request) {
            Ok(MetaReply::Keys(page)) => page,
            other => panic!("{other:?}"),
        }
    }

    /// All rows of one table.
    pub(crate) fn table(&self, tag: keyspace::Tag) -> Vec<(Vec<u8>, Vec<u8>)> {
        let (from, to) = keyspace::table(tag);
        let mut rows = Vec::new();
        self.kv
            .view()
            .unwrap()
            .scan(&from, &to, &mut |key, value| {
                rows.push((key.to_vec(), value.to_vec()));
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        rows
    }

    pub(crate) fn dump(&self) -> Vec<u8> {
        let mut out = Vec::new();
        crate::snapshot::write(&*self.kv.view().unwrap(), &mut out).unwrap();
        out
    }
}

pub(crate) fn create_upload(guard: WriteGuard, key: &str, upload: UploadId) -> Command {
    let headers = StoredHeaders { content_type: Some("text/plain".into()), ..StoredHeaders::default() };
    let (key, headers) = (key.to_owned(), Box::new(headers));
    Command::CreateUpload { guard, key, upload, headers, checksum: None, tags: Tags::default(), lock: Lock::default() }
}
