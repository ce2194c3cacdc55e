//! Random histories against a model that keeps everything in plain maps: what is visible, what is
//! referenced, what is logged, and that neither batching nor the store makes a difference.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::test_runner::RngSeed;
use stele_evidence::proof::{Head, verify_consistency, verify_inclusion};
use stele_evidence::record::{Entry, Event, Record};
use stele_evidence::tree::{Edge, Hash, leaf_hash};
use stele_types::ids::{BucketId, LogIndex, Salt};
use stele_types::object::{Lock, Tags, Upload};

use super::*;
use crate::apply::TileRows;
use crate::kv::{KvTxn, MemoryKv, MetaKv, RedbKv};
use crate::model_disk::ModelDisk;
use crate::rows::RecordRow;

mod locks;

use locks::Change;

#[derive(Clone, Debug)]
enum Op {
    Put { key: u8, shared: Option<u8>, absent: bool, lock: Lock },
    Delete { key: u8, which: u8, bypass: bool },
    Change(Change),
    Lock,
    Wait(u8),
    Upload { key: u8 },
    Part { upload: u8, number: u8 },
    Complete { upload: u8, skip: bool },
    Abort { upload: u8 },
    Append { key: u8 },
    Rename { from: u8, to: u8 },
    Versioning(Versioning),
    Repeat,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let versioning = prop_oneof![Just(Versioning::Enabled), Just(Versioning::Suspended), Just(Versioning::Unset)];
    let op = prop_oneof![
        6 => (0..4u8, proptest::option::of(0..3u8), any::<bool>(), locks::lock())
            .prop_map(|(key, shared, absent, lock)| Op::Put { key, shared, absent, lock }),
        4 => (0..4u8, 0..6u8, any::<bool>()).prop_map(|(key, which, bypass)| Op::Delete { key, which, bypass }),
        4 => locks::change().prop_map(Op::Change),
        1 => Just(Op::Lock),
        1 => (0..60u8).prop_map(Op::Wait),
        1 => (0..4u8).prop_map(|key| Op::Upload { key }),
        3 => (0..3u8, 1..4u8).prop_map(|(upload, number)| Op::Part { upload, number }),
        2 => (0..3u8, any::<bool>()).prop_map(|(upload, skip)| Op::Complete { upload, skip }),
        1 => (0..3u8).prop_map(|upload| Op::Abort { upload }),
        2 => (0..4u8).prop_map(|key| Op::Append { key }),
        2 => (0..4u8, 0..4u8).prop_map(|(from, to)| Op::Rename { from, to }),
        1 => versioning.prop_map(Op::Versioning),
        2 => Just(Op::Repeat),
    ];
    proptest::collection::vec(op, 1..60)
}

#[derive(Clone, Debug, PartialEq)]
struct ModelVersion {
    id: VersionId,
    null: bool,
    marker: bool,
    packs: BTreeSet<PackId>,
    tags: Tags,
    lock: Lock,
}

type PartsByNumber = BTreeMap<u16, (Part, PackId)>;

/// What should be there.
#[derive(Default)]
struct Model {
    /// Newest last.
    keys: BTreeMap<String, Vec<ModelVersion>>,
    uploads: Vec<(UploadId, String, PartsByNumber)>,
    events: Vec<(Event, String, Lock)>,
    versioning: Versioning,
    object_lock: bool,
}

impl Model {
    fn remove_null(&mut self, key: &str, event: Event) -> Option<ModelVersion> {
        let versions = self.keys.entry(key.to_owned()).or_default();
        let at = versions.iter().position(|version| version.null)?;
        let removed = versions.remove(at);
        self.events.push((event, key.to_owned(), removed.lock));
        Some(removed)
    }

    fn insert(&mut self, key: &str, version: ModelVersion) {
        if version.null {
            self.remove_null(key, Event::Overwrite);
        }
        let event = if version.marker { Event::DeleteMarker } else { Event::Put };
        self.events.push((event, key.to_owned(), version.lock));
        self.keys.entry(key.to_owned()).or_default().push(version);
    }

    fn current(&self, key: &str) -> Option<&ModelVersion> {
        self.keys.get(key)?.last().filter(|version| !version.marker)
    }
}

struct Run {
    m: Machine,
    b: BucketId,
    model: Model,
    history: Vec<CommandEnvelope>,
    /// Passes before the next command.
    wait: u64,
}

impl Run {
    fn on(kv: Box<dyn MetaKv>) -> Self {
        let mut m = Machine::on(kv);
        let b = m.bucket("b");
        let events = vec![(Event::Act, "bucket/b".to_owned(), Lock::default())];
        Self { m, b, model: Model { events, ..Model::default() }, history: Vec::new(), wait: 0 }
    }

    fn send(&mut self, command: Command) -> Result<MetaReply, RpcError> {
        let envelope = self.m.next(command);
        self.history.push(envelope.clone());
        self.m.now = self.next_now();
        self.wait = 0;
        self.m.apply(&envelope)
    }

    fn step(&mut self, op: &Op) {
        let name = |key: u8| ["a", "a/b", "b", "c\0"][usize::from(key)].to_owned();
        match op {
            Op::Put { key, shared, absent, lock } => self.put(&name(*key), *shared, *absent, *lock),
            Op::Delete { key, which, bypass } => self.delete(&name(*key), *which, *bypass),
            Op::Change(change) => self.change(&name(change.key), change),
            Op::Lock => self.lock(),
            Op::Wait(ms) => self.wait += u64::from(*ms),
            Op::Upload { key } => {
                let id = UploadId::from_bytes(self.m.draws.bytes());
                self.send(create_upload(guard(self.b, 1), &name(*key), id)).unwrap();
                self.model.uploads.push((id, name(*key), BTreeMap::new()));
            }
            Op::Part { upload, number } => self.part(usize::from(*upload), u16::from(*number)),
            Op::Complete { upload, skip } => self.complete(usize::from(*upload), *skip),
            Op::Abort { upload } => {
                if usize::from(*upload) < self.model.uploads.len() {
                    let (id, key, _) = self.model.uploads.remove(usize::from(*upload));
                    self.send(Command::AbortUpload { guard: guard(self.b, 1), key, upload: id }).unwrap();
                }
            }
            Op::Append { key } => self.append(&name(*key)),
            Op::Rename { from, to } => self.rename(&name(*from), &name(*to)),
            Op::Versioning(versioning) => {
                self.m.set_versioning(self.b, *versioning);
                // Unset after Enabled does not exist in S3: the model's rules for it differ from Suspended's only in deletes.
                self.model.versioning = *versioning;
            }
            Op::Repeat => {
                if let Some(last) = self.history.last().cloned() {
                    let before = self.m.dump();
                    self.m.apply(&last).ok();
                    assert_eq!(self.m.dump(), before, "a repeat changed something");
                }
            }
        }
    }

    fn put(&mut self, key: &str, shared: Option<u8>, absent: bool, lock: Lock) {
        let mut put = self.m.draws.put(guard(self.b, 1), key);
        let pack = shared.map_or(put.contents.packs[0].pack, |n| PackId::from_bytes([0xf0 + n; 32]));
        put.contents.manifest = Manifest::Inline(vec![crate::testing::chunk(pack, 100)]);
        put.contents.packs = vec![crate::testing::pack_row(pack)];
        if absent {
            put.precondition = Precondition::Absent;
        }
        let lock = self.with_dates_from_now(lock);
        put.lock = lock;
        let refused = absent && self.model.current(key).is_some();
        let kept = self.keeps_from_overwriting(key);
        let unwanted = !self.model.object_lock && !lock.is_unset();
        match self.send(Command::PutVersion(Box::new(put))) {
            Ok(MetaReply::Committed(committed)) => {
                assert!(!refused && !kept && !unwanted);
                let null = self.model.versioning != Versioning::Enabled;
                assert_eq!(committed.null_version, null);
                self.model.insert(
                    key,
                    ModelVersion {
                        id: committed.id,
                        null,
                        marker: false,
                        packs: [pack].into(),
                        tags: Tags::default(),
                        lock,
                    },
                );
                assert_eq!(committed.log_index.0 + 1, self.model.events.len() as u64);
            }
            Err(error) => match error.code {
                Code::PreconditionFailed => assert!(refused),
                Code::Locked => assert!(kept),
                Code::NoObjectLock => assert!(unwanted),
                _ => panic!("{error}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn delete(&mut self, key: &str, which: u8, bypass: bool) {
        let versions = self.model.keys.entry(key.to_owned()).or_default().clone();
        let selector = match which {
            0..=2 => VersionSelector::Current,
            3 => VersionSelector::Null,
            n => match versions.get(usize::from(n - 4)) {
                Some(version) => VersionSelector::Id(version.id),
                None => return,
            },
        };
        let mut items = vec![self.m.draws.delete(key, selector)];
        items[0].bypass = bypass;
        let Ok(MetaReply::Deleted(outcomes)) = self.send(Command::Delete { guard: guard(self.b, 1), items }) else {
            panic!()
        };
        let outcome = &outcomes[0];
        if self.kept_by_lock(key, selector, bypass) {
            assert_eq!(outcome.error.as_ref().map(|error| error.code), Some(Code::Locked));
            return;
        }
        assert_eq!(outcome.error, None);
        let remove = |at: Option<usize>, model: &mut Model| {
            let removed = at.map(|at| model.keys.get_mut(key).unwrap().remove(at));
            if let Some(removed) = &removed {
                model.events.push((Event::Delete, key.to_owned(), removed.lock));
            }
            assert_eq!(outcome.removed, removed.as_ref().map(|version| version.id));
        };
        match selector {
            VersionSelector::Current if self.model.versioning == Versioning::Unset => {
                remove(versions.len().checked_sub(1), &mut self.model);
            }
            VersionSelector::Current => {
                let null = self.model.versioning == Versioning::Suspended;
                let id = outcome.marker.unwrap();
                self.model.insert(
                    key,
                    ModelVersion {
                        id,
                        null,
                        marker: true,
                        packs: BTreeSet::new(),
                        tags: Tags::default(),
                        lock: Lock::default(),
                    },
                );
            }
            VersionSelector::Null => remove(versions.iter().position(|version| version.null), &mut self.model),
            VersionSelector::Id(id) => remove(versions.iter().position(|version| version.id == id), &mut self.model),
        }
    }

    fn append(&mut self, key: &str) {
        if self.model.current(key).is_none() {
            return;
        }
        let append = moves::append_to(&mut self.m, self.b, key);
        let pack = append.put.contents.packs[0].pack;
        match self.send(Command::AppendVersion(Box::new(append))) {
            Ok(MetaReply::Committed(committed)) => {
                assert_eq!(self.model.versioning, Versioning::Unset);
                let mut longer = self.model.current(key).unwrap().clone();
                longer.packs.insert(pack);
                self.model.insert(key, ModelVersion { id: committed.id, ..longer });
            }
            Err(error) => {
                assert!(self.model.versioning != Versioning::Unset && error.code == Code::Malformed, "{error}");
            }
            other => panic!("{other:?}"),
        }
    }

    fn rename(&mut self, from: &str, to: &str) {
        if self.model.current(from).is_none() {
            return;
        }
        let rename = moves::rename(&mut self.m, self.b, from, to);
        match self.send(Command::RenameKey(Box::new(rename))) {
            Ok(MetaReply::Committed(committed)) => {
                assert!(self.model.versioning == Versioning::Unset && from != to);
                self.model.remove_null(to, Event::Overwrite);
                let moved = self.model.remove_null(from, Event::Delete).unwrap();
                self.model.insert(to, ModelVersion { id: committed.id, ..moved });
            }
            Err(error) => {
                let refused = self.model.versioning != Versioning::Unset || from == to;
                assert!(refused && error.code == Code::Malformed, "{error}");
            }
            other => panic!("{other:?}"),
        }
    }

    fn part(&mut self, upload: usize, number: u16) {
        let Some((id, key, _)) = self.model.uploads.get(upload).cloned() else { return };
        let (part, packs) = self.m.draws.part(number, 5 << 20);
        let pack = packs[0].pack;
        let put = Command::PutPart { guard: guard(self.b, 1), key, upload: id, part, packs };
        let Ok(MetaReply::Part(part)) = self.send(put) else { panic!() };
        self.model.uploads[upload].2.insert(number, (*part, pack));
    }

    fn complete(&mut self, upload: usize, skip: bool) {
        let Some((id, key, parts)) = self.model.uploads.get(upload).cloned() else { return };
        let listed: Vec<&(Part, PackId)> = parts.values().skip(usize::from(skip && parts.len() > 1)).collect();
        if listed.is_empty() {
            return;
        }
        let rows: Vec<Part> = listed.iter().map(|(part, _)| part.clone()).collect();
        let complete = self.m.draws.complete(guard(self.b, 1), &key, id, &rows);
        let kept = self.keeps_from_overwriting(&key);
        let committed = match self.send(Command::CompleteUpload(Box::new(complete))) {
            Ok(MetaReply::Committed(committed)) if !kept => committed,
            Err(error) if kept && error.code == Code::Locked => return,
            other => panic!("{other:?}"),
        };
        let null = committed.null_version;
        let packs = listed.iter().map(|(_, pack)| *pack).collect();
        self.model.insert(
            &key,
            ModelVersion { id: committed.id, null, marker: false, packs, tags: Tags::default(), lock: Lock::default() },
        );
        self.model.uploads.remove(upload);
    }

    fn check_visible(&self) {
        let query = stele_rpc::meta::ListQuery { max: 1000, ..Default::default() };
        let listed: Vec<_> =
            self.m.page(self.b, query.clone(), false).rows.iter().map(|row| (row.key.clone(), row.id)).collect();
        let expected: Vec<_> =
            self.model.keys.keys().filter_map(|key| Some((key.clone(), self.model.current(key)?.id))).collect();
        assert_eq!(listed, expected);
        let all: Vec<_> = self
            .m
            .page(self.b, query, true)
            .rows
            .iter()
            .map(|row| (row.key.clone(), row.id, row.latest, row.delete_marker))
            .collect();
        let mut expected = Vec::new();
        for (key, versions) in &self.model.keys {
            for (age, version) in versions.iter().rev().enumerate() {
                expected.push((key.clone(), version.id, age == 0, version.marker));
            }
        }
        assert_eq!(all, expected);
        for (key, versions) in &self.model.keys {
            match (self.m.resolve(self.b, key, VersionSelector::Current), versions.last()) {
                (Ok(MetaReply::Version { version, .. }), Some(newest)) => {
                    assert_eq!((version.id, version.delete_marker), (newest.id, newest.marker));
                }
                (Err(error), None) => assert_eq!(error.code, Code::NoSuchKey),
                other => panic!("{key}: {other:?}"),
            }
            for version in versions {
                let Ok(MetaReply::Version { version: found, .. }) =
                    self.m.resolve(self.b, key, VersionSelector::Id(version.id))
                else {
                    panic!("{version:?} is gone")
                };
                assert_eq!((&found.attributes.tags, found.lock), (&version.tags, version.lock));
            }
        }
        let uploads: BTreeSet<UploadId> = match self.m.read(&MetaRequest::ListUploads {
            range: range(self.b),
            query: stele_rpc::meta::ListQuery { max: 1000, ..Default::default() },
            after_upload: None,
        }) {
            Ok(MetaReply::Uploads(page)) => page.rows.iter().map(|upload: &Upload| upload.id).collect(),
            other => panic!("{other:?}"),
        };
        assert_eq!(uploads, self.model.uploads.iter().map(|(id, ..)| *id).collect());
    }

    fn check_references(&self) {
        let of_versions = self.model.keys.values().flatten().flat_map(|version| version.packs.iter().copied());
        let of_parts = self.model.uploads.iter().flat_map(|(.., parts)| parts.values().map(|(_, pack)| *pack));
        let packs: Vec<PackId> = of_versions.chain(of_parts).collect();
        assert_eq!(self.m.table(Tag::Reference).len(), packs.len(), "one reference for each owner and pack");
        let distinct: BTreeSet<PackId> = packs.into_iter().collect();
        let rows: BTreeSet<PackId> =
            self.m.table(Tag::Pack).iter().map(|(key, _)| PackId::from_bytes(key[1..].try_into().unwrap())).collect();
        assert_eq!(rows, distinct, "a pack row exists exactly while it is referenced");
        gc::check_counts(&self.m);
    }

    fn check_log(&self) {
        let view = self.m.kv.view().unwrap();
        let mut edge = Edge::default();
        let mut leaves: Vec<Hash> = Vec::new();
        let mut last: BTreeMap<String, (u64, LogIndex)> = BTreeMap::new();
        let mut salts: BTreeSet<Salt> = BTreeSet::new();
        for (index, (_, value)) in self.m.table(Tag::Record).iter().enumerate() {
            let index = LogIndex(index as u64);
            let row: RecordRow = crate::rows::decode(&[], value).unwrap();
            let salt = row.salt.unwrap();
            assert!(salts.insert(salt), "every entry has its own salt");
            let record = Record::decode(&row.record).unwrap();
            let (event, key, lock) = &self.model.events[usize::try_from(index.0).unwrap()];
            assert_eq!((record.event, &record.key), (*event, key));
            assert_eq!((record.retention, record.legal_hold), (lock.retention, lock.is_held()));
            let before = last.insert(key.clone(), (record.key_event, index));
            assert_eq!(record.previous, before.map(|(_, index)| index));
            assert_eq!(record.key_event, before.map_or(0, |(event, _)| event + 1));
            let leaf = leaf_hash(&Entry::new(&salt, &row.record).0);
            edge.push(leaf);
            leaves.push(leaf);
        }
        assert_eq!(leaves.len(), self.model.events.len(), "one entry for each creation, removal and change of a lock");
        let Ok(MetaReply::Status(status)) = self.m.read(&MetaRequest::Status) else { panic!() };
        assert_eq!((status.log_size, status.log_root), (edge.size(), edge.root()));
        assert_eq!(status.versions, self.model.keys.values().map(Vec::len).sum::<usize>() as u64);
        let tiles = TileRows(&*view);
        let head = Head { size: edge.size(), root: edge.root() };
        for (index, leaf) in (0u64..).zip(&leaves).step_by(7) {
            let path = stele_evidence::proof::inclusion(&tiles, index, head.size).unwrap();
            verify_inclusion(*leaf, index, head.size, &head.root, &path).unwrap();
        }
        if head.size > 3 {
            let old = Head { size: 3, root: stele_evidence::tiles::range_root(&tiles, 0, 3).unwrap() };
            let proof = stele_evidence::proof::consistency(&tiles, 3, head.size).unwrap();
            verify_consistency(old, head, &proof).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, rng_seed: RngSeed::Fixed(2), ..ProptestConfig::default() })]

    #[test]
    fn histories_match_the_model(ops in ops()) {
        history(&ops, ApplyOptions::default());
    }
}

fn history(ops: &[Op], options: ApplyOptions) {
    let mut run = Run::on(Box::new(MemoryKv::default()));
    run.m.options = options;
    for op in ops {
        // Once set, versioning never goes back to unset.
        if matches!(op, Op::Versioning(Versioning::Unset)) && run.model.versioning != Versioning::Unset {
            continue;
        }
        run.step(op);
        run.check_visible();
    }
    run.check_references();
    run.check_log();
}

/// The same entries in one batch, in many, and on redb leave the same rows.
#[test]
fn neither_batching_nor_the_store_shows() {
    let history = |run: &mut Run| {
        for n in 0..700u64 {
            let key = format!("{}", n % 50);
            let put = run.m.draws.put(guard(run.b, 1), &key);
            run.send(Command::PutVersion(Box::new(put))).unwrap();
            if n % 5 == 0 {
                let items = vec![run.m.draws.delete(&key, VersionSelector::Current)];
                run.send(Command::Delete { guard: guard(run.b, 1), items }).unwrap();
            }
        }
    };
    let mut one_by_one = Run::on(Box::new(MemoryKv::default()));
    history(&mut one_by_one);
    let disk = ModelDisk::new(1);
    let redb = RedbKv::open(Box::new(disk.file("state")), 1 << 22).unwrap();
    for (kv, size) in [(Box::new(MemoryKv::default()) as Box<dyn MetaKv>, 840), (Box::new(redb), 37)] {
        let batched = Run::on(kv);
        let mut now = batched.m.now;
        for chunk in one_by_one.history.chunks(size) {
            let mut apply = |txn: &mut dyn KvTxn| {
                let mut batch = Batch::begin(txn, ApplyOptions::default())?;
                chunk.iter().try_for_each(|envelope| {
                    now += 1;
                    batch.apply(now, envelope).map(|reply| drop(reply.unwrap()))
                })?;
                batch.finish()
            };
            batched.m.kv.write(&mut apply).unwrap();
        }
        assert!(batched.m.dump() == one_by_one.m.dump(), "batches of {size}");
    }
    // More than one full tile of the log, so that levels above the leaves exist.
    assert!(one_by_one.m.table(Tag::Tile).len() > 6);
}
