//! Erasing what the log tells of removed versions: exactly that of versions whose removal lies back far enough, and the
//! tree stays as it was.

use std::collections::{BTreeMap, BTreeSet};

use stele_evidence::log_archive::Item;
use stele_evidence::record::{CLUSTER_ID, Entry, Event, Record};
use stele_evidence::tree::{Edge, leaf_hash};
use stele_rpc::meta::{
    ERASED_ENTRIES_MAX, KEY_EVENTS_MAX, KeyEvent, LOG_ENTRIES_MAX, LogCommand, LogHead, LogRead, LogReply, RangeRef,
    SignedNote,
};
use stele_types::ids::{BucketId, LogIndex};

use super::archives::Keeper;
use super::lock::{hold, locked_bucket};
use super::*;
use crate::rows::{ErasedRow, HashRow, KeyRow, RecordRow};

pub(super) fn ask(m: &Machine, asked: LogRead) -> LogReply {
    match m.read(&MetaRequest::Log(asked)) {
        Ok(MetaReply::Log(reply)) => reply,
        other => panic!("{other:?}"),
    }
}

pub(super) fn head(m: &Machine) -> LogHead {
    match ask(m, LogRead::Head) {
        LogReply::Head(head) => *head,
        other => panic!("{other:?}"),
    }
}

fn rows(m: &Machine) -> Vec<RecordRow> {
    m.table(Tag::Record).iter().map(|(key, value)| crate::rows::decode(key, value).unwrap()).collect()
}

/// Signs the log as it is. The first time that itself logs an act.
pub(super) fn publish(m: &mut Machine) {
    let LogHead { now, checkpoint, .. } = head(m);
    let previous = checkpoint.map(|checkpoint| checkpoint.head);
    if previous != Some(now) {
        m.cluster(Command::Log(LogCommand::CommitCheckpoint { previous, next: now })).unwrap();
    }
    let signed = SignedNote { head: now, note: b"note".to_vec().into(), policy: b"quorum none\n".to_vec().into() };
    m.cluster(Command::Log(LogCommand::PublishNote(signed))).unwrap();
}

pub(super) fn keep(m: &mut Machine, keep_ms: Option<u64>) {
    m.cluster(Command::Log(LogCommand::SetEvidenceRetention { keep_ms })).unwrap();
}

fn erase(m: &mut Machine, max_entries: u32) {
    m.cluster(Command::Log(LogCommand::Erase { max_entries, copies: Vec::new() })).unwrap();
}

fn due(m: &Machine) -> bool {
    erasure_is_due(&*m.kv.view().unwrap(), m.now).unwrap()
}

/// Erases until nothing more happens.
fn erase_all(m: &mut Machine) {
    loop {
        let before = m.dump();
        erase(m, ERASED_ENTRIES_MAX);
        if m.dump() == before {
            return;
        }
    }
}

fn erased(m: &Machine) -> BTreeSet<u64> {
    (0..).zip(rows(m)).filter(|(_, row)| row.erased.is_some()).map(|(index, _)| index).collect()
}

fn events(m: &Machine, range: RangeRef, key: &str) -> Vec<KeyEvent> {
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let asked = LogRead::KeyEvents { range, key: key.into(), before, max: KEY_EVENTS_MAX };
        let LogReply::KeyEvents(page) = ask(m, asked) else { panic!() };
        let Some(last) = page.last() else { return all };
        before = Some(last.index);
        all.extend(page);
    }
}

/// The events of one version at one key, from its creation to its removal.
#[derive(Clone, Debug, Default)]
struct Life {
    events: Vec<u64>,
    /// Log index and time.
    removed: Option<(u64, u64)>,
}

/// Everything that was ever logged, kept apart from the machine.
#[derive(Default)]
struct Shadow {
    entries: Vec<[u8; 32]>,
    records: Vec<Record>,
    lives: Vec<Life>,
    open: BTreeMap<(BucketId, String, VersionId), usize>,
}

impl Shadow {
    fn take_new(&mut self, m: &Machine) {
        // New ones are no old ones: they have their rows.
        let new = m.table(Tag::Record).into_iter().filter_map(|(key, value)| {
            let index = crate::keyspace::record_index(&key)?.0;
            (index >= self.records.len() as u64)
                .then(|| (index, crate::rows::decode::<RecordRow>(&key, &value).unwrap()))
        });
        for (at, row) in new.collect::<Vec<_>>() {
            let record = Record::decode(&row.record).unwrap();
            self.entries.push(Entry::new(&row.salt.unwrap(), &row.record).0);
            self.take(at, &record);
            self.records.push(record);
        }
    }

    fn take(&mut self, index: u64, record: &Record) {
        if record.bucket_id == CLUSTER_ID {
            return;
        }
        let of = (record.bucket_id, record.key.clone(), record.version);
        if matches!(record.event, Event::Put | Event::DeleteMarker) {
            self.open.insert(of.clone(), self.lives.len());
            self.lives.push(Life::default());
        }
        let life = &mut self.lives[self.open[&of]];
        life.events.push(index);
        if matches!(record.event, Event::Delete | Event::Overwrite) {
            life.removed = Some((index, record.time));
            self.open.remove(&of);
        }
    }

    /// What the rule says.
    fn due(&self, published: u64, keep_ms: u64, now: u64) -> BTreeSet<u64> {
        let over = |life: &&Life| life.removed.is_some_and(|(at, time)| at < published && time + keep_ms <= now);
        self.lives.iter().filter(over).flat_map(|life| life.events.iter().copied()).collect()
    }
}

struct Run {
    m: Machine,
    b: BucketId,
    /// Moves old entries to archives.
    keeper: Option<Keeper>,
    shadow: Shadow,
    keep_ms: Option<u64>,
    published: u64,
    /// By the rule, at the times when everything that was due was erased.
    expected: BTreeSet<u64>,
    seed: u64,
}

impl Run {
    fn new(seed: u64, options: ApplyOptions, archived: bool) -> Self {
        let mut m = Machine::new();
        m.options = options;
        let keeper = archived.then(|| Keeper::new(&mut m));
        let b = m.bucket("b");
        let shadow = Shadow::default();
        Self { m, b, keeper, shadow, keep_ms: None, published: 0, expected: BTreeSet::new(), seed }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    fn step(&mut self) -> Result<(), String> {
        let key = ["a", "b", "c"][usize::try_from(self.draw(3)).unwrap()];
        match self.draw(16) {
            0..=4 => drop(self.m.put(self.b, key)),
            5..=6 => drop(self.m.delete(self.b, key, VersionSelector::Current)),
            7..=8 => {
                let ids: Vec<VersionId> = self.shadow.open.keys().filter(|of| of.1 == key).map(|of| of.2).collect();
                if let Some(id) = ids.get(usize::try_from(self.draw(4)).unwrap()) {
                    self.m.delete(self.b, key, VersionSelector::Id(*id));
                }
            }
            9 => {
                let states = [Versioning::Unset, Versioning::Enabled, Versioning::Suspended];
                let state = states[usize::try_from(self.draw(3)).unwrap()];
                self.m.set_versioning(self.b, state);
            }
            10 => {
                publish(&mut self.m);
                self.published = head(&self.m).published.unwrap().head.size;
            }
            11 => {
                let keep_ms = [None, Some(0), Some(50), Some(500)][usize::try_from(self.draw(4)).unwrap()];
                keep(&mut self.m, keep_ms);
                self.keep_ms = keep_ms;
            }
            12..=13 => {
                let max = u32::try_from(1 + self.draw(6)).unwrap();
                erase(&mut self.m, max);
                self.check()?;
            }
            14 => {
                erase_all(&mut self.m);
                while self.keeper.as_ref().is_some_and(|keeper| keeper.erase(&mut self.m, 64)) {
                    erase_all(&mut self.m);
                }
                self.expected = self.erased();
                self.check()?;
                if self.keep_ms.is_some() && (due(&self.m) || !self.due().is_subset(&self.expected)) {
                    return Err("something that is due was left".to_owned());
                }
            }
            _ => self.m.now += self.draw(300),
        }
        let copies = 1 + self.draw(6);
        if let Some(keeper) = self.keeper.as_mut().filter(|_| copies.is_multiple_of(2)) {
            keeper.work(&mut self.m, copies);
            if copies == 6 {
                self.check()?;
            }
        }
        self.shadow.take_new(&self.m);
        Ok(())
    }

    fn due(&self) -> BTreeSet<u64> {
        self.keep_ms.map(|keep_ms| self.shadow.due(self.published, keep_ms, self.m.now)).unwrap_or_default()
    }

    fn check(&mut self) -> Result<(), String> {
        // All of a long history is looked at again and again.
        if self.keeper.is_some() && self.draw(5) != 0 {
            return Ok(());
        }
        let before = self.shadow.records.len();
        self.shadow.take_new(&self.m);
        let found = self.erased();
        let fresh: BTreeSet<u64> = found.iter().filter(|at| self.by(**at) >= before as u64).copied().collect();
        if let Some(at) = fresh.iter().find(|at| !self.due().contains(at)) {
            return Err(format!("entry {at} was erased before its time"));
        }
        if self.named(self.shadow.records.len()) != found {
            return Err(format!("the log names {:?}, erased is {found:?}", self.named(usize::MAX)));
        }
        self.check_tree()?;
        self.check_keys(&found)
    }

    /// Index of the erasure of an erased entry.
    fn by(&self, at: u64) -> u64 {
        self.row(at).erased.unwrap().by.0
    }

    /// What there is of an entry, in its row or in its archive.
    fn row(&self, at: u64) -> RecordRow {
        match ask(&self.m, LogRead::Record { index: LogIndex(at) }) {
            LogReply::Record(Some(_)) => {
                let key = crate::keyspace::record(LogIndex(at));
                crate::rows::load(&*self.m.kv.view().unwrap(), &key).unwrap().unwrap()
            }
            LogReply::Archived(LogIndex(index)) => {
                assert_eq!(index, at);
                let items = self.keeper.as_ref().unwrap().items(at / 256);
                match items[usize::try_from(at % 256).unwrap()].clone() {
                    Item::Kept { salt, record } => RecordRow { record: record.into(), salt: Some(salt), erased: None },
                    Item::Erased { entry, previous, by } => {
                        let erased = ErasedRow { entry: HashRow(entry.0), previous, by };
                        RecordRow { record: bytes::Bytes::new(), salt: None, erased: Some(erased) }
                    }
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn erased(&self) -> BTreeSet<u64> {
        (0..self.shadow.records.len() as u64).filter(|at| self.row(*at).erased.is_some()).collect()
    }

    /// Events of a key, newest first, as a gateway reads them: on from where the rows end.
    fn events(&self, key: &str) -> Vec<(LogIndex, RecordRow)> {
        let mut all: Vec<LogIndex> = Vec::new();
        loop {
            let asked =
                LogRead::KeyEvents { range: range(self.b), key: key.into(), before: all.last().copied(), max: 7 };
            let (page, next) = match ask(&self.m, asked) {
                LogReply::KeyEvents(page) if page.is_empty() => break,
                LogReply::KeyEvents(page) => (page, None),
                LogReply::KeyEventsToArchive { events, next } => (events, Some(next)),
                LogReply::Archived(before) => {
                    assert_eq!(Some(&before), all.last());
                    match previous(&self.row(before.0)) {
                        Some(next) => (Vec::new(), Some(next)),
                        None => break,
                    }
                }
                other => panic!("{other:?}"),
            };
            all.extend(page.iter().map(|event| event.index));
            all.extend(next);
        }
        all.into_iter().map(|index| (index, self.row(index.0))).collect()
    }

    /// Entries that erasures among the first records name.
    fn named(&self, records: usize) -> BTreeSet<u64> {
        let erasures = self.shadow.records.iter().take(records).filter(|record| record.event == Event::Erasure);
        erasures.flat_map(|record| &record.erased).flat_map(|run| run.first.0..run.first.0 + run.count).collect()
    }

    /// Entries are served as they always were, and lead to the root.
    fn check_tree(&self) -> Result<(), String> {
        let size = self.shadow.entries.len() as u64;
        let entry = |at| match self.row(at) {
            RecordRow { record, salt: Some(salt), .. } => Entry::new(&salt, &record).0,
            RecordRow { erased, .. } => erased.unwrap().entry.0,
        };
        let mut served: Vec<u8> = Vec::new();
        let mut at = 0;
        while at < size {
            match ask(&self.m, LogRead::Entries { from: LogIndex(at), max: LOG_ENTRIES_MAX }) {
                LogReply::Entries(some) => {
                    at += some.len() as u64 / 32;
                    served.extend_from_slice(&some);
                }
                LogReply::Archived(LogIndex(index)) if index == at => {
                    served.extend_from_slice(&entry(at));
                    at += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        let mut edge = Edge::default();
        served.as_chunks::<32>().0.iter().for_each(|entry| edge.push(leaf_hash(entry)));
        let now = head(&self.m).now;
        if served[..] != *self.shadow.entries.as_flattened() || (edge.size(), edge.root()) != (now.size, now.root) {
            return Err("the entries of the log changed".to_owned());
        }
        Ok(())
    }

    /// Chains lead through what was erased; a key without versions and without events is forgotten.
    fn check_keys(&self, found: &BTreeSet<u64>) -> Result<(), String> {
        for key in ["a", "b", "c"] {
            let of_key = |(_, record): &(usize, &Record)| record.bucket_id == self.b && record.key == key;
            let all = self.shadow.records.iter().enumerate().filter(of_key);
            let all: Vec<(u64, u64)> = all.map(|(at, record)| (at as u64, record.key_event)).collect();
            // Behind the last time the key was forgotten.
            let begin = all.iter().rposition(|(_, event)| *event == 0).unwrap_or(0);
            let chain: Vec<u64> = all[begin..].iter().map(|(at, _)| *at).rev().collect();
            let forgotten = chain.iter().all(|at| found.contains(at));
            let served = self.events(key);
            let indexes: Vec<u64> = served.iter().map(|(index, _)| index.0).collect();
            if indexes != if forgotten { Vec::new() } else { chain } {
                return Err(format!("key {key}: events {indexes:?}"));
            }
            for (index, row) in served {
                let gone = found.contains(&index.0);
                assert_eq!((row.salt.is_none(), row.record.is_empty(), row.erased.is_some()), (gone, gone, gone));
            }
            let at = crate::keyspace::named(Tag::Key, self.b, key);
            let row: Option<KeyRow> = crate::rows::load(&*self.m.kv.view().unwrap(), &at).unwrap();
            if row.is_some() == forgotten {
                return Err(format!("key {key}: row {row:?}, although {forgotten}"));
            }
        }
        Ok(())
    }
}

fn history(seed: u64, options: ApplyOptions) -> Result<usize, String> {
    let mut run = Run::new(seed, options, false);
    for _ in 0..150 {
        run.step()?;
    }
    Ok(run.erased().len())
}

/// The event before it of the same key.
fn previous(row: &RecordRow) -> Option<LogIndex> {
    match row.erased {
        Some(erased) => erased.previous,
        None => Record::decode(&row.record).unwrap().previous,
    }
}

/// The same, long enough for archives, and what was erased of archived entries.
#[test]
fn what_is_erased_is_the_same_where_old_entries_are_archived() {
    let (mut archives, mut folded) = (0, 0);
    for seed in 0..3 {
        let mut run = Run::new(seed, ApplyOptions::default(), true);
        for step in 0..1000 {
            run.step().unwrap_or_else(|error| panic!("seed {seed}, step {step}: {error}"));
        }
        let keeper = run.keeper.as_ref().unwrap();
        archives += keeper.stored.len();
        folded += keeper.stored.values().flatten().filter(|item| matches!(item, Item::Erased { .. })).count();
    }
    assert!(archives > 3 && folded > 100, "{archives} archives, {folded} erased in them: they show nothing");
}

#[test]
fn what_is_erased_is_what_the_rule_says_and_the_tree_stays() {
    let mut erased = 0;
    for seed in 0..150 {
        erased += history(seed, ApplyOptions::default()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    assert!(erased > 1000, "the histories erase {erased} entries: they show nothing");
}

#[cfg(feature = "sabotage")]
#[test]
fn erasing_evidence_early_is_found() {
    let options = ApplyOptions { evidence_erased_early: true, ..ApplyOptions::default() };
    let noticed = (0..20).filter_map(|seed| history(seed, options).err()).collect::<Vec<_>>();
    assert!(noticed.iter().any(|error| error.ends_with("before its time")), "{noticed:?}");
}

#[test]
fn every_event_of_a_version_goes_and_the_event_says_so() {
    let mut m = Machine::new();
    let b = locked_bucket(&mut m);
    let first = m.put(b, "k");
    let second = m.put(b, "k");
    hold(&mut m, b, first.id, true).unwrap();
    hold(&mut m, b, second.id, true).unwrap();
    hold(&mut m, b, first.id, false).unwrap();
    m.delete(b, "k", VersionSelector::Id(first.id));
    keep(&mut m, Some(1000));
    m.now += 1000;
    erase_all(&mut m);
    assert!(erased(&m).is_empty() && !due(&m), "no checkpoint covers it");
    publish(&mut m);
    assert!(due(&m));
    let at = first.log_index.0;
    // One record at a time: the step stops in the middle of the version.
    let mut steps = 0;
    while due(&m) {
        erase(&mut m, 1);
        steps += 1;
    }
    assert!(steps > 4, "{steps} steps of one record");
    assert_eq!(erased(&m), BTreeSet::from([at, at + 2, at + 4, at + 5]));
    let told: Vec<bool> = events(&m, range(b), "k").iter().map(|event| event.record.erased_by.is_some()).collect();
    assert_eq!(told, [true, true, false, true, false, true], "newest first");
    let erasures = events(&m, RangeRef::CLUSTER, "erasure");
    assert_eq!(erasures.len(), 4, "a step that erases nothing logs nothing");
    for event in &erasures {
        let record = Record::decode(&event.record.record).unwrap();
        assert_eq!((record.event, record.erased.len()), (Event::Erasure, 1));
        assert!(record.detail.contains("1 entries"), "{}", record.detail);
    }
    let LogReply::Record(Some(gone)) = ask(&m, LogRead::Record { index: LogIndex(at) }) else { panic!() };
    assert_eq!((gone.record.len(), gone.salt), (0, None));
    assert_eq!(gone.erased_by, erasures.first().map(|event| event.index), "the creation went last");
    // The way through the hole, from inside it; but not into another key's events.
    let before = Some(LogIndex(at + 4));
    let asked = |key: &str| LogRead::KeyEvents { range: range(b), key: key.into(), before, max: 9 };
    let LogReply::KeyEvents(rest) = ask(&m, asked("k")) else { panic!() };
    assert_eq!(rest.iter().map(|event| event.index.0 - at).collect::<Vec<_>>(), [3, 2, 1, 0]);
    assert_eq!(code(m.read(&MetaRequest::Log(asked("other")))), Code::Malformed);
}

#[test]
fn a_version_that_came_back_by_a_rename_keeps_the_events_of_its_life() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    let put = m.put(b, "k");
    for (from, to) in [("k", "away"), ("away", "k")] {
        let command = moves::rename(&mut m, b, from, to);
        m.run(Command::RenameKey(Box::new(command))).unwrap();
    }
    keep(&mut m, Some(0));
    publish(&mut m);
    erase_all(&mut m);
    let at = put.log_index.0;
    assert_eq!(erased(&m), (at..at + 4).collect(), "both lives that ended");
    let told: Vec<bool> = events(&m, range(b), "k").iter().map(|event| event.record.erased_by.is_some()).collect();
    assert_eq!(told, [false, true, true]);
    assert!(events(&m, range(b), "away").is_empty());
}

#[test]
fn how_long_evidence_is_kept_is_an_act_and_for_ever_at_first() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    m.put(b, "k");
    m.delete(b, "k", VersionSelector::Current);
    publish(&mut m);
    m.now += 1 << 50;
    let before = rows(&m);
    assert!(!due(&m));
    erase(&mut m, ERASED_ENTRIES_MAX);
    keep(&mut m, None);
    assert!(rows(&m) == before, "it is kept for ever");
    for wrong in [0, ERASED_ENTRIES_MAX + 1] {
        let command = Command::Log(LogCommand::Erase { max_entries: wrong, copies: Vec::new() });
        assert_eq!(code(m.cluster(command)), Code::Malformed);
    }
    for _ in 0..2 {
        keep(&mut m, Some(3 * 86_400_000));
    }
    let LogReply::KeyEvents(acts) =
        ask(&m, LogRead::KeyEvents { range: RangeRef::CLUSTER, key: "cluster".into(), before: None, max: 9 })
    else {
        panic!()
    };
    let [act] = &acts[..] else { panic!("{acts:?}") };
    let detail = Record::decode(&act.record.record).unwrap().detail;
    assert!(detail.contains("kept for 3 days after the removal; it was kept for ever"), "{detail}");
    let Ok(MetaReply::Status(status)) = m.read(&MetaRequest::Status) else { panic!() };
    assert_eq!(status.evidence_kept_ms, Some(3 * 86_400_000));
}
