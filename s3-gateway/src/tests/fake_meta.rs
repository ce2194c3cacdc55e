//! A metadata service in memory: one group, no raft, enough of each command for the flows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::{
    BucketChange, Changed, Command, CommandEnvelope, Committed, Deleted, Expected, Lease, ListPage, ListedKey,
    MetaReply, MetaRequest, PutVersion, RenameKey, VersionChange, VersionSelector, WriteGuard,
};
use stele_rpc::transport::{Message, Reply, Request, Response, Service};
use stele_types::ids::{
    BucketId, CommitSeq, ConfigEpoch, Epoch, LeaseId, LogIndex, NodeId, OwnerId, PackId, RangeEpoch, RangeId, UploadId,
    VersionId,
};
use stele_types::manifest::Manifest;
use stele_types::map::ClusterMap;
use stele_types::object::{Attributes, BucketRow, Cors, Facts, Part, Tags, Upload, Verdict, Version, Versioning};
use stele_types::pack::PackRow;

mod log;
pub(super) use log::{FakeLog, record};

#[derive(Default)]
struct State {
    map: ClusterMap,
    seq: u64,
    leases: BTreeSet<u64>,
    fence: u64,
    epoch: u64,
    reported: Vec<Epoch>,
    replies: BTreeMap<(u64, u64), Result<MetaReply, RpcError>>,
    applied: u64,
    lose_replies: u64,
    unreachable: bool,
    buckets: BTreeMap<String, BucketRow>,
    versions: BTreeMap<(BucketId, String), Version>,
    packs: BTreeMap<PackId, PackRow>,
    references: BTreeSet<(PackId, OwnerId)>,
    completed: BTreeMap<UploadId, MetaReply>,
    uploads: BTreeMap<UploadId, (Upload, BTreeMap<u16, Part>)>,
    overtaken: Option<(String, String)>,
    principal: String,
    log: FakeLog,
}

/// The service.
#[derive(Default, Clone)]
pub(super) struct FakeMeta {
    state: Arc<Mutex<State>>,
    gate: Arc<tokio::sync::RwLock<()>>,
}

fn err<T>(code: Code) -> Result<T, RpcError> {
    Err(RpcError::new(code, "fake"))
}

impl FakeMeta {
    pub(super) fn new(map: ClusterMap) -> Self {
        let fake = Self::default();
        fake.state.lock().unwrap().map = map;
        fake
    }

    /// Requests wait until the guard is dropped.
    pub(super) async fn hold(&self) -> tokio::sync::OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.gate).write_owned().await
    }

    /// The next `n` commands apply, and their replies get lost.
    pub(super) fn lose_replies(&self, n: u64) {
        self.state.lock().unwrap().lose_replies = n;
    }

    /// Every request is lost on its way, or none.
    pub(super) fn set_unreachable(&self, unreachable: bool) {
        self.state.lock().unwrap().unreachable = unreachable;
    }

    pub(super) fn expire_leases(&self) {
        self.state.lock().unwrap().leases.clear();
    }

    pub(super) fn fence_all(&self) {
        self.state.lock().unwrap().fence = 1;
    }

    pub(super) fn set_map(&self, map: ClusterMap) {
        self.state.lock().unwrap().map = map;
    }

    pub(super) fn set_map_epoch(&self, epoch: u64) {
        self.state.lock().unwrap().map.epoch.0 = epoch;
    }

    /// Fences every epoch that was given out so far.
    pub(super) fn raise_fence(&self) {
        let mut state = self.state.lock().unwrap();
        state.fence = state.epoch.max(state.fence + 1);
    }

    pub(super) fn set_epoch(&self, epoch: u64) {
        self.state.lock().unwrap().epoch = epoch;
    }

    /// Lowest open start epochs that renewals reported.
    pub(super) fn reported(&self) -> Vec<u64> {
        self.state.lock().unwrap().reported.iter().map(|epoch| epoch.0).collect()
    }

    pub(super) fn applied(&self) -> u64 {
        self.state.lock().unwrap().applied
    }

    /// Raises the bucket's configuration epoch behind the gateway's back.
    pub(super) fn reconfigure(&self, bucket: &str) {
        self.state.lock().unwrap().buckets.get_mut(bucket).unwrap().config_epoch.0 += 1;
    }

    pub(super) fn pack_rows(&self) -> Vec<PackRow> {
        self.state.lock().unwrap().packs.values().cloned().collect()
    }

    pub(super) fn change_pack(&self, pack: PackId, change: impl FnOnce(&mut PackRow)) {
        change(self.state.lock().unwrap().packs.get_mut(&pack).unwrap());
    }

    /// Just before rows of packs are asked for the next time, `by` takes the place of `key`.
    pub(super) fn overtake(&self, key: &str, by: &str) {
        self.state.lock().unwrap().overtaken = Some((key.to_owned(), by.to_owned()));
    }

    pub(super) fn change_attributes(&self, key: &str, change: impl FnOnce(&mut Attributes)) {
        let mut state = self.state.lock().unwrap();
        let found = state.versions.iter_mut().find(|((_, name), _)| name == key).unwrap();
        change(&mut found.1.attributes);
    }

    pub(super) fn references_of(&self, owner: OwnerId) -> BTreeSet<PackId> {
        let state = self.state.lock().unwrap();
        state.references.iter().filter(|(_, o)| *o == owner).map(|(p, _)| *p).collect()
    }
}

impl State {
    /// What an overwrite by another gateway does: the old version goes, and the rows of its packs with it.
    fn overtaken(&mut self) {
        let Some((key, by)) = self.overtaken.take() else { return };
        let place = |name: &str| self.versions.keys().find(|(_, key)| key == name).cloned().unwrap();
        let (key, by) = (place(&key), place(&by));
        let newer = self.versions.remove(&by).unwrap();
        let older = self.versions.insert(key, newer).unwrap();
        let gone = |pack: &PackId| self.references.contains(&(*pack, older.owner));
        let gone: BTreeSet<PackId> = self.packs.keys().copied().filter(gone).collect();
        self.packs.retain(|pack, _| !gone.contains(pack));
    }

    fn read(&self, request: MetaRequest) -> Result<MetaReply, RpcError> {
        match request {
            MetaRequest::ClusterMap { known } => {
                let newer = (self.map.epoch > known).then(|| Box::new(self.map.clone()));
                Ok(MetaReply::ClusterMap(newer))
            }
            MetaRequest::Bucket { name } => match self.buckets.get(&name) {
                Some(row) => Ok(MetaReply::Bucket(Box::new(row.clone()))),
                None => err(Code::NoSuchBucket),
            },
            MetaRequest::Resolve { range, key, version } => {
                self.bucket(range.bucket)?;
                let Some(found) = self.versions.get(&(range.bucket, key)) else { return err(Code::NoSuchKey) };
                if version != VersionSelector::Current && version != VersionSelector::Id(found.id) {
                    return err(Code::NoSuchVersion);
                }
                let ids: Vec<PackId> = match &found.manifest {
                    Manifest::Inline(entries) => entries.iter().map(|e| e.pack).collect(),
                    Manifest::Paged { root, .. } => vec![root.page.pack],
                };
                let packs = self.rows(&ids);
                Ok(MetaReply::Version { version: Box::new(found.clone()), packs, latest: true })
            }
            MetaRequest::Log(asked) => self.log.read(asked).map(MetaReply::Log),
            MetaRequest::Packs { packs } => Ok(MetaReply::Packs(self.rows(&packs))),
            MetaRequest::List { range, query } => {
                let keys = self.versions.iter().filter(|((b, k), _)| {
                    *b == range.bucket && k.starts_with(&query.prefix) && Some(k) > query.after.as_ref()
                });
                let row = |((_, key), v): (&(BucketId, String), &Version)| ListedKey {
                    key: key.clone(),
                    id: v.id,
                    null_version: true,
                    latest: true,
                    delete_marker: false,
                    modified: v.modified,
                    len: v.attributes.len,
                    etag: v.attributes.etag.to_string(),
                    checksums: Vec::new(),
                };
                let mut rows: Vec<_> = keys.map(row).collect();
                let truncated = rows.len() > query.max as usize;
                rows.truncate(query.max as usize);
                let next_after = rows.last().filter(|_| truncated).map(|r| r.key.clone());
                let page =
                    ListPage { rows, common_prefixes: Vec::new(), truncated, next_after, next_after_version: None };
                Ok(MetaReply::Keys(page))
            }
            MetaRequest::Parts { upload, after, max, .. } => {
                let Some((row, parts)) = self.uploads.get(&upload) else { return err(Code::NoSuchUpload) };
                let mut parts: Vec<Part> = parts.range(after + 1..).map(|(_, p)| p.clone()).collect();
                let truncated = parts.len() > max as usize;
                parts.truncate(max as usize);
                Ok(MetaReply::Parts { upload: Box::new(row.clone()), parts, truncated })
            }
            _ => err(Code::Malformed),
        }
    }

    fn rows(&self, ids: &[PackId]) -> Vec<PackRow> {
        ids.iter().filter_map(|id| self.packs.get(id).cloned()).collect()
    }

    fn bucket(&self, id: BucketId) -> Result<&BucketRow, RpcError> {
        self.buckets.values().find(|b| b.id == id).map_or_else(|| err(Code::NoSuchBucket), Ok)
    }

    fn command(&mut self, envelope: CommandEnvelope) -> Result<MetaReply, RpcError> {
        let key = envelope.lease.map(|lease| (lease.0, envelope.sequence.0));
        if let Some((lease, _)) = key {
            if !self.leases.contains(&lease) {
                return err(Code::NoLease);
            }
            let lowest = (lease, envelope.lowest_open.0);
            self.replies.retain(|k, _| k.0 != lease || *k >= lowest);
        }
        if let Some(reply) = key.and_then(|k| self.replies.get(&k)) {
            return reply.clone();
        }
        self.applied += u64::from(key.is_some());
        self.principal = envelope.origin.principal;
        let reply = self.apply(envelope.command);
        if let Some(key) = key {
            self.replies.insert(key, reply.clone());
        }
        if key.is_some() && self.lose_replies > 0 {
            self.lose_replies -= 1;
            return err(Code::DeadlineExceeded);
        }
        reply
    }

    fn guard(&self, guard: &WriteGuard) -> Result<(), RpcError> {
        let bucket = self.bucket(guard.range.bucket)?;
        if bucket.config_epoch != guard.config_epoch {
            return err(Code::StaleConfig);
        }
        if guard.start_epoch.0 <= self.fence {
            return err(Code::Fenced);
        }
        Ok(())
    }

    #[expect(clippy::too_many_lines, reason = "one arm per command of a fake")]
    fn apply(&mut self, command: Command) -> Result<MetaReply, RpcError> {
        self.seq += 1;
        match command {
            Command::GrantLease { .. } => {
                self.leases.insert(self.seq);
                Ok(MetaReply::Lease(self.lease(LeaseId(self.seq))))
            }
            Command::RenewLease { lease, lowest_open, .. } => {
                self.reported.push(lowest_open);
                if !self.leases.contains(&lease.0) {
                    return err(Code::NoLease);
                }
                Ok(MetaReply::Lease(self.lease(lease)))
            }
            Command::ReleaseLease { .. } => Ok(MetaReply::Done),
            Command::CreateBucket { name, .. } => {
                if self.buckets.contains_key(&name) {
                    return err(Code::BucketAlreadyOwned);
                }
                let row = BucketRow {
                    id: BucketId(self.seq),
                    name: name.clone(),
                    created: 0,
                    config_epoch: ConfigEpoch(1),
                    range: RangeId(1),
                    range_epoch: RangeEpoch(1),
                    versioning: Versioning::Unset,
                    owner: self.principal.clone(),
                    tags: Tags::default(),
                    object_lock: None,
                    cors: Cors::default(),
                };
                self.buckets.insert(name, row.clone());
                Ok(MetaReply::Bucket(Box::new(row)))
            }
            Command::ConfigureBucket { name, change } => {
                let Some(row) = self.buckets.get_mut(&name) else { return err(Code::NoSuchBucket) };
                match change {
                    BucketChange::Versioning(versioning) => row.versioning = versioning,
                    BucketChange::Tags(tags) => row.tags = tags,
                    BucketChange::ObjectLock(lock) => row.object_lock = Some(lock),
                    BucketChange::Cors(cors) => row.cors = cors,
                }
                row.config_epoch.0 += 1;
                Ok(MetaReply::Bucket(Box::new(row.clone())))
            }
            Command::DeleteBucket { name } => match self.buckets.remove(&name) {
                Some(_) => Ok(MetaReply::Done),
                None => err(Code::NoSuchBucket),
            },
            Command::StageReferences { guard, owner, packs } => {
                self.guard(&guard)?;
                self.add_packs(owner, &packs);
                Ok(MetaReply::Done)
            }
            Command::PutVersion(put) => {
                self.add_packs(put.contents.owner, &put.contents.packs);
                self.put(*put)
            }
            Command::AppendVersion(append) => {
                let at = (append.put.guard.range.bucket, append.put.key.clone());
                if self.versions.get(&at).is_none_or(|current| current.id != append.base) {
                    return err(Code::StaleVersion);
                }
                let owner = append.put.contents.owner;
                self.add_packs(owner, &append.put.contents.packs);
                for pack in append.released {
                    assert!(self.references.remove(&(pack, owner)), "released what was not referenced");
                }
                self.names_referenced_packs(owner, &append.put.contents.manifest)?;
                self.put(append.put)
            }
            Command::RenameKey(rename) => self.rename(*rename),
            Command::Delete { guard, items } => {
                self.guard(&guard)?;
                let outcome = items.into_iter().map(|item| {
                    let removed = self.versions.remove(&(guard.range.bucket, item.key));
                    Deleted { removed: removed.map(|v| v.id), ..Deleted::default() }
                });
                Ok(MetaReply::Deleted(outcome.collect()))
            }
            Command::CreateUpload { guard, key, upload, headers, checksum, tags, lock } => {
                self.guard(&guard)?;
                let row = Upload { id: upload, key, initiated: 0, headers, checksum, tags, lock };
                self.uploads.insert(upload, (row.clone(), BTreeMap::new()));
                Ok(MetaReply::Upload(Box::new(row)))
            }
            Command::PutPart { guard, upload, mut part, packs, .. } => {
                self.guard(&guard)?;
                self.add_packs(part.owner, &packs);
                self.names_referenced_packs(part.owner, &part.manifest)?;
                part.generation = self.seq;
                let Some((_, parts)) = self.uploads.get_mut(&upload) else { return err(Code::NoSuchUpload) };
                parts.insert(part.number, (*part).clone());
                Ok(MetaReply::Part(part))
            }
            Command::CompleteUpload(complete) => {
                let id = complete.upload;
                if let Some(before) = self.completed.get(&id) {
                    return Ok(before.clone());
                }
                let Some((row, parts)) = self.uploads.remove(&id) else { return err(Code::NoSuchUpload) };
                let mut put = complete.put;
                put.attributes.headers = row.headers;
                put.attributes.tags = row.tags;
                let owner = put.contents.owner;
                self.add_packs(owner, &put.contents.packs);
                let listed =
                    |(number, generation): &(u16, u64)| parts.get(number).filter(|p| p.generation == *generation);
                let listed: Option<Vec<&Part>> = complete.parts.iter().map(listed).collect();
                let Some(listed) = listed else { return err(Code::InvalidPart) };
                let owners: Vec<OwnerId> = listed.iter().map(|part| part.owner).collect();
                let moved: Vec<PackId> =
                    self.references.iter().filter(|r| owners.contains(&r.1)).map(|r| r.0).collect();
                self.references.extend(moved.into_iter().map(|pack| (pack, owner)));
                let reply = self.put(put)?;
                self.completed.insert(id, reply.clone());
                Ok(reply)
            }
            Command::ChangeVersion(change) => {
                self.guard(&change.guard)?;
                let Some(found) = self.versions.get_mut(&(change.guard.range.bucket, change.key)) else {
                    return err(Code::NoSuchKey);
                };
                match change.change {
                    VersionChange::Tags(tags) => found.attributes.tags = tags,
                    VersionChange::Retention(new) => found.lock.retention = new.retention,
                    VersionChange::LegalHold { on, .. } => found.lock.legal_hold = Some(on),
                }
                let (id, null_version) = (found.id, found.null_version);
                Ok(MetaReply::Changed(Changed { id, null_version, log_index: None }))
            }
            Command::AbortUpload { upload, .. } => match self.uploads.remove(&upload) {
                Some(_) => Ok(MetaReply::Done),
                None => err(Code::NoSuchUpload),
            },
            Command::Log(command) => self.log_command(command),
            _ => err(Code::Malformed),
        }
    }

    fn lease(&self, id: LeaseId) -> Lease {
        Lease { id, epoch: Epoch(self.epoch.max(self.fence + 1)), fence: Epoch(self.fence), map_epoch: self.map.epoch }
    }

    fn add_packs(&mut self, owner: OwnerId, packs: &[PackRow]) {
        for row in packs {
            self.packs.insert(row.pack, row.clone());
            self.references.insert((row.pack, owner));
        }
    }

    fn rename(&mut self, rename: RenameKey) -> Result<MetaReply, RpcError> {
        self.guard(&rename.guard)?;
        let bucket = rename.guard.range.bucket;
        let id = |key: &String| self.versions.get(&(bucket, key.clone())).map(|version| version.id);
        let to = match rename.replaced {
            Expected::Any => true,
            Expected::Absent => id(&rename.destination).is_none(),
            Expected::Version(seen) => id(&rename.destination) == Some(seen),
        };
        if id(&rename.source) != Some(rename.moved) || !to {
            return err(Code::StaleVersion);
        }
        let mut version = self.versions.remove(&(bucket, rename.source)).unwrap();
        version.id = VersionId { commit_seq: CommitSeq(self.seq), nonce: rename.nonce };
        let attributes = Box::new(version.attributes.clone());
        let (id, modified, log_index) = (version.id, version.modified, LogIndex(self.seq));
        self.versions.insert((bucket, rename.destination), version);
        Ok(MetaReply::Committed(Committed { id, null_version: true, modified, log_index, attributes }))
    }

    /// What the real one checks of the packs that a manifest names.
    fn names_referenced_packs(&self, owner: OwnerId, manifest: &Manifest) -> Result<(), RpcError> {
        let named: Vec<PackId> = match manifest {
            Manifest::Inline(entries) => entries.iter().map(|entry| entry.pack).collect(),
            Manifest::Paged { root, .. } => vec![root.page.pack],
        };
        let known = named.iter().all(|pack| self.references.contains(&(*pack, owner)));
        if known { Ok(()) } else { err(Code::Malformed) }
    }

    fn put(&mut self, put: PutVersion) -> Result<MetaReply, RpcError> {
        self.guard(&put.guard)?;
        let at = (put.guard.range.bucket, put.key);
        let current = self.versions.get(&at);
        let facts = current.map(|v| Facts { etag: v.attributes.etag, len: v.attributes.len, modified: v.modified });
        match put.precondition.verdict(facts.as_ref()) {
            Verdict::Holds => {}
            Verdict::NoKey => return err(Code::PreconditionNoKey),
            Verdict::Fails => return err(Code::PreconditionFailed),
        }
        let id = VersionId { commit_seq: CommitSeq(self.seq), nonce: put.nonce };
        let version = Version {
            id,
            null_version: true,
            delete_marker: false,
            modified: self.seq,
            owner: put.contents.owner,
            attributes: put.attributes.clone(),
            manifest: put.contents.manifest,
            log_index: LogIndex(self.seq),
            lock: put.lock,
        };
        self.versions.insert(at, version);
        Ok(MetaReply::Committed(Committed {
            id,
            null_version: true,
            modified: self.seq,
            log_index: LogIndex(self.seq),
            attributes: Box::new(put.attributes),
        }))
    }
}

#[async_trait]
impl Service for FakeMeta {
    async fn serve(&self, _from: NodeId, request: Request) -> Result<Response, RpcError> {
        // A real one waits for its log.
        tokio::task::yield_now().await;
        let _open = self.gate.read().await;
        let mut state = self.state.lock().unwrap();
        if state.unreachable {
            return err(Code::Unreachable);
        }
        let reply = match request.message {
            Message::Meta(MetaRequest::Command(envelope)) => state.command(*envelope)?,
            Message::Meta(read) => {
                if matches!(read, MetaRequest::Packs { .. }) {
                    state.overtaken();
                }
                state.read(read)?
            }
            Message::Storage(_) | Message::Raft(_) | Message::Renew(_) => return err(Code::Malformed),
        };
        Ok(Response { reply: Reply::Meta(reply), body: bytes::Bytes::new() })
    }
}
