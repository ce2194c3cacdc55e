//! The evidence log of the metadata service in memory: rows, and archives that take their place.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use stele_evidence::anchor_archive;
use stele_evidence::log_archive::{Copied, Height, Item, Section};
use stele_evidence::record::{Entry, Event, Record};
use stele_evidence::tiles::complete_root;
use stele_evidence::tree::{Hash, leaf_hash};
use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::{
    AnchorsArchive, ArchiveInfo, ArchiveObject, ArchivePlan, Checkpoint, Fold, KeptAnchor, KeyEvent, LogCommand,
    LogHead, LogItem, LogRead, LogRecord, LogReply, MetaReply, RecordCopy, SignedNote, TreeHead,
};
use stele_types::ids::{BucketId, CommitSeq, LogIndex, NodeId, Salt, VersionId};

use super::{FakeMeta, State, err};

/// The log.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeLog {
    pub(crate) height: Height,
    /// Entries that the published checkpoint covers.
    pub(crate) published: u64,
    /// Its time.
    pub(crate) time: u64,
    pub(crate) archives: Vec<ArchiveInfo>,
    /// Records that erasing was given.
    pub(crate) copies: Vec<RecordCopy>,
    /// Record that erasing has come to.
    pub(crate) erasing: Option<LogIndex>,
    pub(crate) keep_ms: Option<u64>,
    /// Tiles that somebody wants, and what was brought back.
    pub(crate) wanted: BTreeMap<u64, Option<(Bytes, Bytes)>>,
    /// Anchors that have rows, and files with older ones by their last size.
    pub(crate) anchors: Vec<KeptAnchor>,
    pub(crate) anchor_files: Vec<(u64, AnchorsArchive)>,
    entries: Vec<Entry>,
    rows: BTreeMap<u64, LogItem>,
    newest: BTreeMap<(BucketId, String), LogIndex>,
    /// Archives that were noted, however often.
    pub(crate) noted: usize,
    /// Erased as soon as an archive was noted.
    pub(crate) erased_meanwhile: Option<LogIndex>,
}

/// A record of an event of a key.
pub(crate) fn record(event: Event, bucket: BucketId, key: &str, version: u64) -> Record {
    Record {
        event,
        bucket: "b".into(),
        bucket_id: bucket,
        key: key.into(),
        version: VersionId { commit_seq: CommitSeq(version), nonce: version },
        null_version: false,
        root: None,
        len: 0,
        time: 1_000,
        principal: String::new(),
        source: String::new(),
        node: NodeId(1),
        key_event: 0,
        previous: None,
        body_hash: None,
        digests: Vec::new(),
        retention: None,
        legal_hold: false,
        digest: None,
        detail: String::new(),
        erased: Vec::new(),
    }
}

impl FakeLog {
    /// Appends an event, as one of its key.
    pub(crate) fn append(&mut self, mut record: Record) -> LogIndex {
        let index = LogIndex(self.entries.len() as u64);
        record.previous = self.newest.insert((record.bucket_id, record.key.clone()), index);
        let (salt, record) = (Salt::from_bytes(*blake3::hash(&index.0.to_le_bytes()).as_bytes()), record.encode());
        self.entries.push(Entry::new(&salt, &record));
        self.rows.insert(index.0, LogItem::Kept { record: Bytes::from(record), salt });
        index
    }

    /// Erases a record. Of an archived one a row says so.
    pub(crate) fn erase(&mut self, index: LogIndex, previous: Option<LogIndex>) {
        let entry = self.entries[usize::try_from(index.0).unwrap()].0;
        self.rows.insert(index.0, LogItem::Erased { entry, previous, by: LogIndex(7) });
    }

    /// Entries without rows, but for those that were erased since.
    pub(crate) fn end(&self) -> u64 {
        let Some(last) = self.archives.last() else { return 0 };
        let before = (self.archives.len() as u64 - 1) * self.height.entries();
        before + u64::from(last.moved) * self.height.section_entries() as u64
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn hashes(&self, level: u8, index: u64) -> Vec<Hash> {
        let width = 256usize.pow(u32::from(level));
        let from = usize::try_from(index).unwrap() * 256 * width;
        let leaves: Vec<Hash> = self.entries.iter().skip(from).take(256 * width).map(|e| leaf_hash(&e.0)).collect();
        let mut row = leaves;
        for _ in 0..level {
            row = row.chunks_exact(256).filter_map(complete_root).collect();
        }
        row
    }

    fn item(&self, index: LogIndex) -> Option<LogRecord> {
        self.rows.get(&index.0).map(|item| match item.clone() {
            LogItem::Kept { record, salt } => LogRecord { record, salt: Some(salt), erased_by: None, previous: None },
            LogItem::Erased { previous, by, .. } => {
                LogRecord { record: Bytes::new(), salt: None, erased_by: Some(by), previous }
            }
        })
    }

    pub(super) fn read(&self, asked: LogRead) -> Result<LogReply, RpcError> {
        let end = self.end();
        match asked {
            LogRead::Head => Ok(LogReply::Head(Box::new(self.head()))),
            LogRead::Tile { level: 4.., .. } => Ok(LogReply::Tile(Bytes::new())),
            LogRead::Tile { level, index } => {
                let first = index * 256u64.pow(u32::from(level) + 1);
                let behind = first + 256u64.pow(u32::from(level) + 1);
                if level < self.height.level() && behind <= end {
                    return Ok(LogReply::Archived(LogIndex(first)));
                }
                Ok(LogReply::Tile(Bytes::copy_from_slice(self.hashes(level, index).as_flattened())))
            }
            LogRead::Entries { from, .. } if from.0 < end => Ok(LogReply::Archived(from)),
            LogRead::Entries { from, max } => {
                let found = self.entries.iter().skip(usize::try_from(from.0).unwrap()).take(max as usize);
                Ok(LogReply::Entries(found.flat_map(|entry| entry.0).collect()))
            }
            LogRead::Record { index } => match self.item(index) {
                None if index.0 < end => Ok(LogReply::Archived(index)),
                found => Ok(LogReply::Record(found)),
            },
            LogRead::KeyEvents { range, key, before, max } => self.key_events((range.bucket, key), before, max),
            LogRead::Items { from, max } => {
                let found = (from.0..from.0 + u64::from(max)).map_while(|at| self.rows.get(&at).cloned());
                Ok(LogReply::Items(found.take(100).collect()))
            }
            LogRead::ArchivePlan => Ok(LogReply::ArchivePlan(Box::new(self.plan()))),
            LogRead::Archive { number } => {
                let found = usize::try_from(number).ok().and_then(|at| self.archives.get(at));
                Ok(LogReply::Archive(found.cloned().map(Box::new)))
            }
            LogRead::KeptAnchors { chain, after } => {
                let kept = self.anchors.iter().filter(|kept| kept.chain == chain && kept.head.size > after);
                Ok(LogReply::Anchors(kept.take(7).cloned().collect()))
            }
            LogRead::Anchors { size } => {
                let archived = self.anchor_files.iter().find(|(last, _)| *last >= size);
                let Some((_, archive)) = archived else {
                    let kept = self.anchors.iter().find(|kept| kept.head.size >= size);
                    return Ok(LogReply::Anchors(kept.cloned().into_iter().collect()));
                };
                Ok(LogReply::AnchorsToArchive { kept: Vec::new(), archived: vec![archive.clone()] })
            }
            LogRead::Chain { .. } => err(Code::Malformed),
        }
    }

    fn head(&self) -> LogHead {
        let head = TreeHead { size: self.published, root: [0; 32] };
        let published =
            SignedNote { head, note: Bytes::from_static(b"note\n"), policy: Bytes::from_static(b"policy\n") };
        LogHead {
            now: TreeHead { size: self.entries.len() as u64, root: [0; 32] },
            checkpoint: (self.published > 0).then_some(Checkpoint { head, time: self.time }),
            published: (self.published > 0).then_some(published),
        }
    }

    fn key_events(&self, of: (BucketId, String), before: Option<LogIndex>, max: u32) -> Result<LogReply, RpcError> {
        let step = |index: LogIndex| {
            self.item(index).map(|record| match record.erased_by {
                Some(_) => (record.previous, record),
                None => (Record::decode(&record.record).unwrap().previous, record),
            })
        };
        let mut next = match before {
            None => self.newest.get(&of).copied(),
            Some(before) => match step(before) {
                Some((previous, _)) => previous,
                None => return Ok(LogReply::Archived(before)),
            },
        };
        let mut events = Vec::new();
        while let Some(index) = next.filter(|_| events.len() < max as usize) {
            let Some((previous, record)) = step(index) else {
                return Ok(LogReply::KeyEventsToArchive { events, next: index });
            };
            events.push(KeyEvent { index, record });
            next = previous;
        }
        Ok(LogReply::KeyEvents(events))
    }

    fn plan(&self) -> ArchivePlan {
        let (count, sections) = (self.archives.len() as u64, self.height.sections());
        let moving = self.archives.last().filter(|last| (last.moved as usize) < sections);
        let covered = self.published >= (count + 2) * self.height.entries();
        let mut erased: Vec<_> =
            self.rows.range(..self.end()).map(|(at, item)| (LogIndex(*at), item.clone())).collect();
        let first = erased.first().map(|(index, _)| self.height.place(*index).0);
        erased.retain(|(index, _)| Some(self.height.place(*index).0) == first);
        ArchivePlan {
            level: self.height.level(),
            next: (moving.is_none() && covered).then_some(count),
            moving: moving.map(|last| (last.number, last.moved)),
            fold: first.map(|number| Fold { number, erased }),
            wanted: self.wanted.iter().filter(|(_, back)| back.is_none()).map(|(index, _)| *index).collect(),
            erasing: self.erasing,
            keep_ms: self.keep_ms,
            anchors: (self.anchors.len() > 20).then(|| "ledger".to_owned()),
        }
    }

    fn section(&self, number: u64, at: usize) -> Option<[u8; 32]> {
        let (first, mut bytes) = (self.height.first_of(number, at)?, Vec::new());
        for index in first.0..first.0 + self.height.section_entries() as u64 {
            match self.rows.get(&index)?.clone() {
                LogItem::Kept { record, salt } => Item::Kept { record: record.to_vec(), salt },
                LogItem::Erased { entry, previous, by } => Item::Erased { entry: Entry(entry), previous, by },
            }
            .encode_to(&mut bytes);
        }
        Some(Section::of(&bytes).hash)
    }

    fn root(&self, number: u64) -> Hash {
        let at = usize::try_from(number % 256).unwrap();
        self.hashes(self.height.level(), number / 256)[at]
    }
}

impl State {
    fn has(&self, object: &ArchiveObject) -> bool {
        let bucket = self.buckets.get(&object.bucket).map(|bucket| bucket.id);
        let found = bucket.and_then(|bucket| self.versions.get(&(bucket, object.key.clone())));
        found.is_some_and(|version| version.id == object.version)
    }

    #[expect(clippy::too_many_lines, reason = "one arm per command of a fake")]
    pub(super) fn log_command(&mut self, command: LogCommand) -> Result<MetaReply, RpcError> {
        match command {
            LogCommand::Archive(made) => {
                if !self.has(&made.object) {
                    return err(Code::Malformed);
                }
                let log = &mut self.log;
                let at = usize::try_from(made.number).unwrap();
                let known = log.archives.get(at).cloned();
                if made.replaces != known.as_ref().map(|known| known.object.version) || at > log.archives.len() {
                    return err(Code::Malformed);
                }
                let folded: BTreeSet<usize> = made.folded.iter().map(|index| log.height.place(*index).1).collect();
                let moved = known.as_ref().map_or(0, |known| known.moved);
                for (section, hash) in made.sections.iter().enumerate().take(moved as usize) {
                    assert!(folded.contains(&section) || known.as_ref().unwrap().sections[section] == *hash);
                }
                made.folded.iter().for_each(|index| drop(log.rows.remove(&index.0).unwrap()));
                let root = log.root(made.number);
                log.noted += 1;
                let (number, object, sections) = (made.number, made.object, made.sections);
                log.archives.splice(
                    at..log.archives.len().min(at + 1),
                    [ArchiveInfo { number, object, sections, moved, root }],
                );
                if let Some(index) = log.erased_meanwhile.take() {
                    log.erase(index, None);
                }
                Ok(MetaReply::Done)
            }
            LogCommand::MoveToArchive { number, section } => {
                let log = &mut self.log;
                let known = log.archives[usize::try_from(number).unwrap()].clone();
                if section < known.moved {
                    return Ok(MetaReply::Done);
                }
                if section > known.moved
                    || log.section(number, section as usize) != Some(known.sections[section as usize])
                {
                    return err(Code::Malformed);
                }
                let first = log.height.first_of(number, section as usize).unwrap().0;
                log.rows.retain(|at, _| !(first..first + log.height.section_entries() as u64).contains(at));
                log.archives.last_mut().unwrap().moved += 1;
                Ok(MetaReply::Done)
            }
            LogCommand::RestoreTile { index, leaves, tiles } => {
                let root = self.log.root(index / self.log.height.tiles() as u64);
                assert_eq!(leaves.as_chunks::<32>().0, self.log.hashes(0, index));
                assert_eq!(complete_root(tiles.as_chunks::<32>().0), Some(root));
                self.log.wanted.insert(index, Some((leaves, tiles)));
                Ok(MetaReply::Done)
            }
            LogCommand::Erase { copies, .. } => {
                for RecordCopy { index, item, path } in &copies {
                    let root = self.log.root(self.log.height.place(*index).0);
                    if let LogItem::Kept { record, salt } = item.clone() {
                        let copied = Copied { index: *index, salt, record: record.to_vec(), path: path.clone() };
                        assert!(copied.verify(self.log.height, &root).is_ok());
                    }
                }
                self.log.copies = copies;
                self.log.erasing = None;
                Ok(MetaReply::Done)
            }
            LogCommand::ArchiveAnchors(made) => {
                let has = self.has(&made.object);
                let log = &mut self.log;
                let (old, new): (Vec<_>, Vec<_>) = log.anchors.drain(..).partition(|kept| kept.head.size <= made.last);
                let mut file = anchor_archive::MAGIC.to_vec();
                old.iter().for_each(|k| anchor_archive::encode_to(k.head.size, &k.head.root, &k.proof, &mut file));
                assert!(has && made.hash == *blake3::hash(&file).as_bytes());
                log.anchors = new;
                let (chain, object, hash) = (made.chain, made.object, made.hash);
                log.anchor_files.push((made.last, AnchorsArchive { chain, object, hash }));
                Ok(MetaReply::Done)
            }
            _ => err(Code::Malformed),
        }
    }
}

impl FakeMeta {
    /// Looks at the log, or changes it.
    pub(crate) fn log<T>(&self, change: impl FnOnce(&mut FakeLog) -> T) -> T {
        change(&mut self.state.lock().unwrap().log)
    }

    /// Id of a bucket.
    pub(crate) fn bucket_id(&self, name: &str) -> BucketId {
        self.state.lock().unwrap().buckets[name].id
    }

    /// Keys of a bucket; none without it.
    pub(crate) fn keys(&self, bucket: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let Some(id) = state.buckets.get(bucket).map(|bucket| bucket.id) else { return Vec::new() };
        state.versions.keys().filter(|(of, _)| *of == id).map(|(_, key)| key.clone()).collect()
    }
}
