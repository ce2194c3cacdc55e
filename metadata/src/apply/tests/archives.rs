//! Old entries of the log in archives: nothing is lost on the way, whatever a gateway brings, and what is erased is gone
//! from them, too.

use std::collections::{BTreeMap, BTreeSet};

use stele_evidence::anchor_archive;
use stele_evidence::log_archive::{Height, Item, Section, decode_section, leaves, path};
use stele_evidence::record::Entry;
use stele_rpc::meta::{
    AnchorsMade, ArchiveInfo, ArchiveMade, ArchiveObject, ArchivePlan, ERASED_ENTRIES_MAX, Fold, KeptAnchor,
    LOG_BUCKET, LogCommand, LogItem, LogRead, LogReply, RecordCopy, TreeHead, WANTED_TILES_MAX,
};
use stele_types::ids::{BucketId, LogIndex};

use super::erasure::{ask, head, keep, publish};
use super::*;
use crate::archives::HELD_BACK_MS;
use crate::keyspace::ARCHIVES;
use crate::rows::ArchivesRow;

/// What a gateway does about archives, in memory, one section each.
pub(super) struct Keeper {
    bucket: BucketId,
    /// What the newest object of each archive holds.
    pub(super) stored: BTreeMap<u64, Vec<Item>>,
}

fn own(item: LogItem) -> Item {
    match item {
        LogItem::Kept { record, salt } => Item::Kept { salt, record: record.to_vec() },
        LogItem::Erased { entry, previous, by } => Item::Erased { entry: Entry(entry), previous, by },
    }
}

fn message(item: &Item) -> LogItem {
    match item {
        Item::Kept { salt, record } => LogItem::Kept { record: record.clone().into(), salt: *salt },
        Item::Erased { entry, previous, by } => LogItem::Erased { entry: entry.0, previous: *previous, by: *by },
    }
}

fn encode(items: &[Item]) -> Vec<u8> {
    let mut out = Vec::new();
    items.iter().for_each(|item| item.encode_to(&mut out));
    out
}

pub(super) fn plan(m: &Machine) -> ArchivePlan {
    match ask(m, LogRead::ArchivePlan) {
        LogReply::ArchivePlan(plan) => *plan,
        other => panic!("{other:?}"),
    }
}

fn info(m: &Machine, number: u64) -> Option<ArchiveInfo> {
    match ask(m, LogRead::Archive { number }) {
        LogReply::Archive(info) => info.map(|info| *info),
        other => panic!("{other:?}"),
    }
}

impl Keeper {
    /// Archives of one tile, so that short histories fill some.
    pub(super) fn new(m: &mut Machine) -> Self {
        let row = ArchivesRow { level: Height::Tile.level(), ..ArchivesRow::default() };
        m.kv.write(&mut |txn| txn.put(&ARCHIVES, &crate::rows::encode(&row))).unwrap();
        Self { bucket: m.bucket(LOG_BUCKET), stored: BTreeMap::new() }
    }

    pub(super) fn items(&self, number: u64) -> &[Item] {
        &self.stored[&number]
    }

    /// Stores bytes as an archive, and takes note of it.
    fn store(
        &mut self,
        m: &mut Machine,
        number: u64,
        bytes: Vec<u8>,
        folded: Vec<LogIndex>,
    ) -> Result<MetaReply, RpcError> {
        let key = format!("log/{number:020}-{}", m.draws.number());
        let version = m.put(self.bucket, &key).id;
        let object = ArchiveObject { bucket: LOG_BUCKET.into(), key, version };
        let replaces = info(m, number).map(|info| info.object.version);
        let sections = vec![Section::of(&bytes).hash];
        self.stored.insert(number, decode_section(&bytes, 256).unwrap_or_default());
        m.cluster(Command::Log(LogCommand::Archive(Box::new(ArchiveMade {
            number,
            object,
            sections,
            replaces,
            folded,
        }))))
    }

    fn from_rows(m: &Machine, number: u64) -> Vec<u8> {
        let (mut items, first) = (Vec::new(), number * 256);
        while items.len() < 256 {
            let from = LogIndex(first + items.len() as u64);
            let LogReply::Items(some) = ask(m, LogRead::Items { from, max: 256 - items.len() as u32 }) else {
                panic!()
            };
            assert!(!some.is_empty(), "rows end at {}", items.len());
            items.extend(some.into_iter().map(own));
        }
        encode(&items)
    }

    pub(super) fn make(&mut self, m: &mut Machine, number: u64) {
        let bytes = Self::from_rows(m, number);
        self.store(m, number, bytes, Vec::new()).unwrap();
    }

    pub(super) fn move_section(&mut self, m: &mut Machine, number: u64, section: u32) {
        let command = Command::Log(LogCommand::MoveToArchive { number, section });
        if m.cluster(command.clone()).is_err() {
            // Something was erased since.
            self.make(m, number);
            m.cluster(command).unwrap();
        }
    }

    fn fold(&mut self, m: &mut Machine, fold: Fold) {
        let mut items = self.items(fold.number).to_vec();
        for (index, erased) in &fold.erased {
            items[usize::try_from(index.0 % 256).unwrap()] = own(erased.clone());
        }
        let folded = fold.erased.iter().map(|(index, _)| *index).collect();
        self.store(m, fold.number, encode(&items), folded).unwrap();
    }

    pub(super) fn copy(&self, index: LogIndex) -> RecordCopy {
        let items = self.items(index.0 / 256);
        let leaves = leaves(items);
        let root = stele_evidence::tiles::complete_root(&leaves).unwrap();
        let path = path(Height::Tile, index, &leaves, &[root]).unwrap();
        RecordCopy { index, item: message(&items[usize::try_from(index.0 % 256).unwrap()]), path }
    }

    /// One thing that the plan asks for. False: there is nothing.
    pub(super) fn work(&mut self, m: &mut Machine, copies: u64) -> bool {
        let plan = plan(m);
        if let Some((number, section)) = plan.moving {
            self.move_section(m, number, section);
        } else if let Some(number) = plan.next {
            self.make(m, number);
        } else if let Some(fold) = plan.fold {
            self.fold(m, fold);
        } else {
            return self.erase(m, copies);
        }
        true
    }

    /// Brings copies to what is erased. False: nothing came of it.
    pub(super) fn erase(&self, m: &mut Machine, copies: u64) -> bool {
        let Some(at) = plan(m).erasing else { return false };
        let end = (at.0 / 256 + 1) * 256;
        let copies = (at.0..end.min(at.0 + copies)).map(|index| self.copy(LogIndex(index))).collect();
        let before = m.dump();
        m.cluster(Command::Log(LogCommand::Erase { max_entries: 64, copies })).unwrap();
        m.dump() != before
    }
}

/// A log of at least `entries` that is published.
fn filled(entries: u64) -> (Machine, BucketId, Keeper) {
    let mut m = Machine::new();
    let keeper = Keeper::new(&mut m);
    let b = m.bucket("b");
    while head(&m).now.size < entries {
        // In one batch: a store in memory copies its rows for each.
        let puts = (0..entries.min(500)).map(|n| {
            let put = m.draws.put(guard(b, 1), ["a", "b", "c"][usize::try_from(n % 3).unwrap()]);
            m.next(Command::PutVersion(Box::new(put)))
        });
        let puts: Vec<CommandEnvelope> = puts.collect();
        assert!(m.apply_all(&puts).iter().all(Result::is_ok));
    }
    publish(&mut m);
    (m, b, keeper)
}

#[test]
fn rows_go_only_once_an_archive_holds_them() {
    let (mut m, _, mut keeper) = filled(200);
    assert_eq!((plan(&m).next, plan(&m).moving), (None, None), "two archives' worth is not published yet");
    let early = keeper.store(&mut m, 0, vec![0], Vec::new());
    assert_eq!(code(early), Code::Malformed);
    let (mut m, b, mut keeper) = filled(520);
    assert_eq!(plan(&m).next, Some(0));
    let all = m.table(Tag::Record).len();
    let mut bytes = Keeper::from_rows(&m, 0);
    let good = bytes.clone();
    // A byte of the last record.
    *bytes.last_mut().unwrap() ^= 1;
    keeper.store(&mut m, 0, bytes, Vec::new()).unwrap();
    assert_eq!(plan(&m).moving, Some((0, 0)));
    let step = Command::Log(LogCommand::MoveToArchive { number: 0, section: 0 });
    assert_eq!(code(m.cluster(step.clone())), Code::Malformed);
    assert_eq!(m.table(Tag::Record).len(), all + 1, "the object was logged, and nothing dropped");
    let stale = ArchiveMade {
        number: 0,
        object: ArchiveObject { bucket: "b".into(), key: "a".into(), version: m.put(b, "a").id },
        sections: vec![[0; 32]],
        replaces: info(&m, 0).map(|info| info.object.version),
        folded: Vec::new(),
    };
    let stale = Command::Log(LogCommand::Archive(Box::new(stale)));
    assert_eq!(code(m.cluster(stale)), Code::Malformed, "an object that clients may change");
    keeper.store(&mut m, 0, good.clone(), Vec::new()).unwrap();
    m.cluster(step.clone()).unwrap();
    let after = m.dump();
    m.cluster(step).unwrap();
    assert_eq!(m.dump(), after, "a repeat changes nothing");
    assert!(m.table(Tag::Record).iter().all(|(key, _)| crate::keyspace::record_index(key).unwrap().0 >= 256));
    assert!(matches!(ask(&m, LogRead::Record { index: LogIndex(7) }), LogReply::Archived(LogIndex(7))));
    let Ok(MetaReply::Status(status)) = m.read(&MetaRequest::Status) else { panic!() };
    assert_eq!(status.archived, 256);
    let tile = LogRead::Tile { level: 0, index: 0 };
    assert!(matches!(ask(&m, tile.clone()), LogReply::Archived(LogIndex(0))));
    let from = LogRead::Entries { from: LogIndex(9), max: 4 };
    assert!(matches!(ask(&m, from), LogReply::Archived(LogIndex(9))));
    // The archive can't be removed, nor replaced by another.
    let held = info(&m, 0).unwrap();
    let item = m.draws.delete(&held.object.key, VersionSelector::Current);
    let Ok(MetaReply::Deleted(gone)) = m.run(Command::Delete { guard: guard(keeper.bucket, 1), items: vec![item] })
    else {
        panic!()
    };
    assert_eq!(gone[0].error.as_ref().unwrap().code, Code::Locked);
    let mut other = good;
    other[40] ^= 1;
    assert_eq!(code(keeper.store(&mut m, 0, other, Vec::new())), Code::Malformed);
    assert_eq!(info(&m, 0).unwrap(), held);
}

#[test]
fn tiles_that_somebody_wants_come_back_for_a_while() {
    let (mut m, _, mut keeper) = filled(256 * (WANTED_TILES_MAX as u64 + 4));
    let mut tiles = Vec::new();
    for number in 0..=WANTED_TILES_MAX as u64 {
        let LogReply::Tile(tile) = ask(&m, LogRead::Tile { level: 0, index: number }) else { panic!() };
        tiles.push(tile);
        keeper.make(&mut m, number);
        keeper.move_section(&mut m, number, 0);
    }
    let root = |tile: &[u8]| stele_evidence::tiles::complete_root(tile.as_chunks::<32>().0).unwrap();
    for (index, tile) in (0u64..).zip(&tiles) {
        m.cluster(Command::Log(LogCommand::WantTile { level: 0, index })).unwrap();
        assert_eq!(plan(&m).wanted, [index]);
        let restore = |leaves: &bytes::Bytes| {
            let tiles = root(&leaves[..]).to_vec().into();
            Command::Log(LogCommand::RestoreTile { index, leaves: leaves.clone(), tiles })
        };
        let mut wrong = tile.to_vec();
        wrong[3] ^= 1;
        assert_eq!(code(m.cluster(restore(&wrong.into()))), Code::Malformed);
        m.cluster(restore(tile)).unwrap();
        let LogReply::Tile(back) = ask(&m, LogRead::Tile { level: 0, index }) else { panic!("tile {index}") };
        assert_eq!(&back, tile);
        assert!(plan(&m).wanted.is_empty());
    }
    let first = ask(&m, LogRead::Tile { level: 0, index: 0 });
    assert!(matches!(first, LogReply::Archived(LogIndex(0))), "the oldest wish made room");
    let unasked = m.dump();
    m.cluster(Command::Log(LogCommand::WantTile { level: 0, index: 1 })).unwrap();
    m.cluster(Command::Log(LogCommand::WantTile { level: 0, index: 1 << 40 })).unwrap();
    m.cluster(Command::Log(LogCommand::WantTile { level: 2, index: 0 })).unwrap();
    assert_eq!(m.dump(), unasked, "it is there, or was never dropped");
}

#[test]
fn copies_that_are_not_the_logs_erase_nothing() {
    let (mut m, b, mut keeper) = filled(600);
    m.delete(b, "a", VersionSelector::Current);
    publish(&mut m);
    keeper.make(&mut m, 0);
    keeper.move_section(&mut m, 0, 0);
    keep(&mut m, Some(0));
    let at = plan(&m).erasing.expect("the rule has not passed the archive");
    assert_eq!(at, LogIndex(0));
    let copies: Vec<RecordCopy> = (0..256).map(|index| keeper.copy(LogIndex(index))).collect();
    let is_overwrite = |copy: &&RecordCopy| match &copy.item {
        LogItem::Kept { record, .. } => {
            stele_evidence::record::Record::decode(record).unwrap().event == stele_evidence::record::Event::Overwrite
        }
        LogItem::Erased { .. } => false,
    };
    let removal = copies.iter().find(is_overwrite).unwrap().clone();
    let mut forged = removal.clone();
    let LogItem::Kept { record, .. } = &mut forged.item else { panic!() };
    *record = [&record[..], &[0]].concat().into();
    let mut moved = removal.clone();
    moved.index.0 -= 1;
    let mut cut = removal;
    cut.path.pop();
    for wrong in [forged, moved, cut] {
        let erase = LogCommand::Erase { max_entries: 300, copies: vec![wrong] };
        assert_eq!(code(m.cluster(Command::Log(erase))), Code::Malformed);
    }
    let before: BTreeSet<Vec<u8>> = m.table(Tag::Record).into_iter().map(|(key, _)| key).collect();
    m.cluster(Command::Log(LogCommand::Erase { max_entries: 300, copies: Vec::new() })).unwrap();
    assert_eq!(plan(&m).erasing, Some(LogIndex(0)), "nothing goes on without copies");
    m.cluster(Command::Log(LogCommand::Erase { max_entries: ERASED_ENTRIES_MAX, copies })).unwrap();
    assert!(plan(&m).erasing.is_none_or(|at| at.0 >= 256));
    let fold = plan(&m).fold.expect("nothing was erased");
    assert!(fold.erased.len() > 100, "{}", fold.erased.len());
    let after: BTreeSet<Vec<u8>> = m.table(Tag::Record).into_iter().map(|(key, _)| key).collect();
    assert!(after.len() > before.len() + 100, "what was erased has rows until the archive is made anew");
    while keeper.work(&mut m, 64) {}
    assert_eq!(plan(&m).fold, None);
    let gone = keeper.items(0).iter().filter(|item| matches!(item, Item::Erased { .. })).count();
    assert_eq!(gone, fold.erased.len());
    let LogReply::Archived(_) = ask(&m, LogRead::Record { index: fold.erased[0].0 }) else { panic!() };
}

#[cfg(feature = "sabotage")]
#[test]
fn dropping_rows_that_no_archive_holds_is_found() {
    let (mut m, _, mut keeper) = filled(520);
    m.options.archives_unchecked = true;
    let mut bytes = Keeper::from_rows(&m, 0);
    *bytes.last_mut().unwrap() ^= 1;
    keeper.store(&mut m, 0, bytes, Vec::new()).unwrap();
    let step = Command::Log(LogCommand::MoveToArchive { number: 0, section: 0 });
    assert!(m.cluster(step).is_ok(), "the sabotage does nothing");
    let LogReply::Entries(_) = ask(&m, LogRead::Entries { from: LogIndex(256), max: 1 }) else { panic!() };
    let root = stele_evidence::tiles::complete_root(&leaves(keeper.items(0))).unwrap();
    assert_ne!(root, info(&m, 0).unwrap().root, "the archive still leads to the log's root: nothing was lost");
}

fn anchors_at(m: &Machine, size: u64) -> LogReply {
    ask(m, LogRead::Anchors { size })
}

#[test]
fn old_anchors_move_to_a_file_that_holds_exactly_them() {
    let (mut m, _, keeper) = filled(9000);
    let closed = head(&m).checkpoint.unwrap().head.size;
    assert!(closed > 8200, "{closed}");
    let keep = |size: u64| {
        let proof = vec![0xa5; 40 + usize::try_from(size % 7).unwrap()].into();
        let kept = KeptAnchor { chain: "ledger".into(), head: TreeHead { size, root: [1; 32] }, proof };
        Command::Log(LogCommand::KeepAnchor(kept))
    };
    let envelopes: Vec<CommandEnvelope> = (1..8192).map(|size| envelope(None, 0, 0, keep(size))).collect();
    assert!(m.apply_all(&envelopes).iter().all(Result::is_ok));
    assert_eq!(plan(&m).anchors, None, "two files' worth is not kept yet");
    let LogReply::Anchors(found) = anchors_at(&m, 5) else { panic!() };
    assert_eq!(found[0].head.size, 5);
    m.cluster(keep(8192)).unwrap();
    m.cluster(keep(8192)).unwrap();
    assert_eq!(plan(&m).anchors.as_deref(), Some("ledger"));
    let mut file = anchor_archive::MAGIC.to_vec();
    let mut last = 0;
    'file: loop {
        let LogReply::Anchors(page) = ask(&m, LogRead::KeptAnchors { chain: "ledger".into(), after: last }) else {
            panic!()
        };
        for kept in page {
            anchor_archive::encode_to(kept.head.size, &kept.head.root, &kept.proof, &mut file);
            last = kept.head.size;
            if last == anchor_archive::ANCHORS_MAX as u64 {
                break 'file;
            }
        }
    }
    let key = format!("anchors/ledger/{:020}-{last:020}-1", 1);
    let version = m.put(keeper.bucket, &key).id;
    let object = ArchiveObject { bucket: LOG_BUCKET.into(), key: key.clone(), version };
    let made = AnchorsMade { chain: "ledger".into(), last, object, hash: *blake3::hash(&file).as_bytes() };
    let send = |m: &mut Machine, made: &AnchorsMade| {
        m.cluster(Command::Log(LogCommand::ArchiveAnchors(Box::new(made.clone()))))
    };
    let before = m.dump();
    for wrong in [
        AnchorsMade { last: last - 1, ..made.clone() },
        AnchorsMade { hash: [0; 32], ..made.clone() },
        AnchorsMade { chain: "other".into(), ..made.clone() },
        AnchorsMade { object: ArchiveObject { key: "anchors/x".into(), ..made.object.clone() }, ..made.clone() },
    ] {
        assert_eq!(code(send(&mut m, &wrong)), Code::Malformed);
    }
    assert_eq!(m.dump(), before);
    send(&mut m, &made).unwrap();
    send(&mut m, &made).unwrap();
    assert_eq!(m.table(Tag::Anchor).len(), 4096);
    assert_eq!(plan(&m).anchors, None);
    let LogReply::AnchorsToArchive { kept, archived } = anchors_at(&m, 4096) else { panic!() };
    assert!(kept.is_empty() && archived[0].object == made.object && archived[0].hash == made.hash);
    let LogReply::Anchors(found) = anchors_at(&m, 4097) else { panic!() };
    assert_eq!(found[0].head.size, 4097);
    m.cluster(keep(77)).unwrap();
    assert_eq!(m.table(Tag::Anchor).len(), 4096, "what is archived stays there");
    let item = m.draws.delete(&key, VersionSelector::Current);
    let deleted = m.run(Command::Delete { guard: guard(keeper.bucket, 1), items: vec![item] });
    let Ok(MetaReply::Deleted(gone)) = deleted else { panic!() };
    assert_eq!(gone[0].error.as_ref().unwrap().code, Code::Locked);
}

#[test]
fn entries_wait_for_the_rule_on_erasing_and_not_for_ever() {
    let (mut m, _, _) = filled(520);
    let long = 10 * 365 * 86_400_000;
    keep(&mut m, Some(long));
    assert_eq!(plan(&m).next, None, "the rule has not passed them");
    m.now += HELD_BACK_MS - 1;
    publish(&mut m);
    assert_eq!(plan(&m).next, None);
    m.now += 1;
    m.cluster(Command::Log(LogCommand::SetEvidenceRetention { keep_ms: Some(long + 1) })).unwrap();
    publish(&mut m);
    assert_eq!(plan(&m).next, Some(0));
}
