//! Checkpoints of the log: one after the other, each with the log's own root, and what of the log can be read.

use stele_evidence::proof::{Head, consistency, verify_consistency, verify_inclusion};
use stele_evidence::record::Record;
use stele_evidence::tiles::TileSource;
use stele_evidence::tree::{Hash, leaf_hash};
use stele_rpc::meta::{
    ANCHOR_PROOF_BYTES_MAX, CHAIN_NAME_BYTES_MAX, CHAIN_STATE_BYTES_MAX, CHAINS_MAX, ChainRow, Checkpoint,
    KEY_EVENTS_MAX, KeptAnchor, LOG_ENTRIES_MAX, LogCommand, LogHead, LogRead, LogReply, NOTE_BYTES_MAX, SignedNote,
    TreeHead,
};
use stele_types::ids::LogIndex;

use super::*;

fn ask(m: &Machine, asked: LogRead) -> LogReply {
    match m.read(&MetaRequest::Log(asked)) {
        Ok(MetaReply::Log(reply)) => reply,
        other => panic!("{other:?}"),
    }
}

fn head(m: &Machine) -> LogHead {
    match ask(m, LogRead::Head) {
        LogReply::Head(head) => *head,
        other => panic!("{other:?}"),
    }
}

fn commit(m: &mut Machine, previous: Option<TreeHead>, next: TreeHead) -> Result<Checkpoint, Code> {
    match m.cluster(Command::Log(LogCommand::CommitCheckpoint { previous, next })) {
        Ok(MetaReply::Log(LogReply::Checkpoint(checkpoint))) => Ok(checkpoint),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.code),
    }
}

/// The log's tiles, as anybody reads them.
struct Served<'a>(&'a Machine);

impl TileSource for Served<'_> {
    type Error = std::convert::Infallible;

    fn tile(&self, level: u8, index: u64) -> Result<Vec<Hash>, Self::Error> {
        match ask(self.0, LogRead::Tile { level, index }) {
            LogReply::Tile(hashes) => Ok(hashes.as_chunks::<32>().0.to_vec()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn checkpoints_follow_each_other_with_the_roots_of_the_log() {
    let mut m = Machine::new();
    let empty = head(&m).now;
    assert_eq!((empty.size, commit(&mut m, None, empty)), (0, Err(Code::Malformed)));
    let b = m.bucket("b");
    let first = head(&m).now.size;
    for n in 0..300 {
        m.put(b, &format!("k{n}"));
    }
    let old = head(&m).now;
    for n in 0..7 {
        m.put(b, &format!("l{n}"));
    }
    let now = head(&m).now;
    assert_eq!((old.size, now.size), (first + 300, first + 307));
    let other = TreeHead { root: now.root, ..old };
    assert_eq!(commit(&mut m, None, other), Err(Code::Malformed), "not the root of that size");
    assert_eq!(commit(&mut m, None, TreeHead { size: now.size + 1, ..now }), Err(Code::Malformed), "not there yet");
    m.now += 5;
    let first = commit(&mut m, None, old).unwrap();
    assert_eq!((first.head, first.time, head(&m).checkpoint), (old, m.now, Some(first)), "a size that is past");
    m.now += 5;
    assert_eq!(commit(&mut m, None, old), Ok(first), "a repeat");
    assert_eq!(commit(&mut m, None, now), Err(Code::StaleCheckpoint), "one that knows of none");
    assert_eq!(commit(&mut m, Some(other), now), Err(Code::StaleCheckpoint));
    let second = commit(&mut m, Some(old), now).unwrap();
    assert_eq!(commit(&mut m, Some(now), old), Err(Code::Malformed), "never back");
    assert_eq!(head(&m).checkpoint, Some(second));

    let proof = consistency(&Served(&m), old.size, now.size).unwrap();
    let heads = [old, now].map(|head| Head { size: head.size, root: head.root });
    verify_consistency(heads[0], heads[1], &proof).unwrap();
}

#[test]
fn notes_are_kept_of_the_newest_checkpoint_only() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    m.put(b, "k");
    let publish = |m: &mut Machine, head: TreeHead, note: &[u8]| {
        let signed = SignedNote { head, note: note.to_vec().into(), policy: b"quorum none\n".to_vec().into() };
        m.cluster(Command::Log(LogCommand::PublishNote(signed))).map_err(|error| error.code)
    };
    let one = head(&m).now;
    assert_eq!(publish(&mut m, one, b"note"), Err(Code::StaleCheckpoint));
    commit(&mut m, None, one).unwrap();
    assert_eq!(publish(&mut m, one, &vec![0; NOTE_BYTES_MAX + 1]), Err(Code::Malformed));
    publish(&mut m, one, b"note").unwrap();
    publish(&mut m, one, b"note with a cosignature").unwrap();
    m.put(b, "k");
    let two = head(&m).now;
    commit(&mut m, Some(one), two).unwrap();
    assert_eq!(publish(&mut m, one, b"late"), Err(Code::StaleCheckpoint));
    let published = head(&m).published.unwrap();
    assert_eq!((published.head, &*published.note), (one, b"note with a cosignature".as_slice()));
}

#[test]
fn a_chain_s_row_is_replaced_only_by_who_knows_it() {
    let mut m = Machine::new();
    let save = |m: &mut Machine, chain: &str, expected: u64, state: Vec<u8>| {
        let command = LogCommand::SaveChain { chain: chain.to_owned(), expected, state: state.into() };
        match m.cluster(Command::Log(command)) {
            Ok(MetaReply::Log(LogReply::Chain(Some(row)))) => Ok(row.sequence),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.code),
        }
    };
    let row = |m: &Machine| match ask(m, LogRead::Chain { chain: "main".into() }) {
        LogReply::Chain(row) => row,
        other => panic!("{other:?}"),
    };
    assert_eq!((row(&m), save(&mut m, "main", 1, vec![1])), (None, Err(Code::StaleCheckpoint)));
    assert_eq!(save(&mut m, "main", 0, vec![1]), Ok(1));
    assert_eq!(save(&mut m, "main", 0, vec![2]), Err(Code::StaleCheckpoint));
    assert_eq!(save(&mut m, "main", 1, vec![2]), Ok(2));
    assert_eq!(row(&m), Some(ChainRow { sequence: 2, state: vec![2].into() }));
    for bad in ["", "Main", "a b", "a\0", &"a".repeat(CHAIN_NAME_BYTES_MAX + 1)] {
        assert_eq!(save(&mut m, bad, 0, vec![1]), Err(Code::Malformed), "{bad:?}");
    }
    assert_eq!(save(&mut m, "main", 2, vec![0; CHAIN_STATE_BYTES_MAX + 1]), Err(Code::Malformed));
    for n in 1..CHAINS_MAX {
        assert_eq!(save(&mut m, &format!("more-{n}"), 0, vec![]), Ok(1));
    }
    assert_eq!(save(&mut m, "one-too-many", 0, vec![]), Err(Code::Malformed));
    assert_eq!(save(&mut m, "main", 2, vec![3]), Ok(3));
}

#[test]
fn anchors_are_kept_of_sizes_that_were_closed() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    let mut heads = Vec::new();
    for n in 0..4 {
        m.put(b, &format!("k{n}"));
        let previous = heads.last().copied();
        heads.push(head(&m).now);
        commit(&mut m, previous, heads[n]).unwrap();
    }
    m.put(b, "later");
    let keep = |m: &mut Machine, chain: &str, head: TreeHead, proof: &[u8]| {
        let anchor = KeptAnchor { chain: chain.into(), head, proof: proof.to_vec().into() };
        m.cluster(Command::Log(LogCommand::KeepAnchor(anchor))).map(drop).map_err(|error| error.code)
    };
    let anchors = |m: &Machine, size| match ask(m, LogRead::Anchors { size }) {
        LogReply::Anchors(found) => {
            found.into_iter().map(|a| (a.chain, a.head.size, a.proof.to_vec())).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    for chain in ["aa", "a"] {
        let row = LogCommand::SaveChain { chain: chain.into(), expected: 0, state: vec![].into() };
        m.cluster(Command::Log(row)).unwrap();
    }
    keep(&mut m, "a", heads[0], b"a1").unwrap();
    keep(&mut m, "a", heads[2], b"a3").unwrap();
    keep(&mut m, "a", heads[2], b"another proof").unwrap();
    keep(&mut m, "aa", heads[1], b"aa2").unwrap();
    let other = TreeHead { root: [7; 32], ..heads[2] };
    assert_eq!(keep(&mut m, "a", other, b""), Err(Code::Malformed));
    let now = head(&m).now;
    assert_eq!(keep(&mut m, "a", now, b""), Err(Code::Malformed), "never closed");
    assert_eq!(keep(&mut m, "a", TreeHead { size: 0, root: [0; 32] }, b""), Err(Code::Malformed));
    assert_eq!(keep(&mut m, "a", heads[3], &vec![0; ANCHOR_PROOF_BYTES_MAX + 1]), Err(Code::Malformed));
    let of = |chain: &str, size, proof: &[u8]| (chain.to_owned(), size, proof.to_vec());
    let size = |n: usize| heads[n - 1].size;
    assert_eq!(anchors(&m, size(1)), [of("a", size(1), b"a1"), of("aa", size(2), b"aa2")]);
    assert_eq!(anchors(&m, size(2)), [of("a", size(3), b"a3"), of("aa", size(2), b"aa2")]);
    assert_eq!(anchors(&m, size(3)), [of("a", size(3), b"a3")]);
    assert_eq!(anchors(&m, size(4)), []);
    // Whatever comes later does not take the newest one back.
    keep(&mut m, "a", heads[1], b"a2").unwrap();
    let row = LogCommand::SaveChain { chain: "a".into(), expected: 1, state: vec![1].into() };
    m.cluster(Command::Log(row)).unwrap();
    let Ok(MetaReply::Status(status)) = m.read(&MetaRequest::Status) else { panic!("a status") };
    assert_eq!(status.anchored, [("a".to_owned(), size(3)), ("aa".to_owned(), size(2))]);
    assert_eq!((status.checkpoint, status.signed), (size(4), 0));
}

#[test]
fn events_of_a_key_are_read_from_the_newest_back() {
    let mut m = Machine::new();
    let (b, c) = (m.bucket("b"), m.bucket("c"));
    let begun = head(&m).now.size;
    for n in 0..5 {
        m.put(b, "k");
        m.put(b, &format!("other{n}"));
        m.put(c, "k");
    }
    let events = |m: &Machine, key: &str, before: Option<u64>, max| {
        let range = range(b);
        let asked = LogRead::KeyEvents { range, key: key.into(), before: before.map(LogIndex), max };
        m.read(&MetaRequest::Log(asked)).map(|reply| match reply {
            MetaReply::Log(LogReply::KeyEvents(events)) => events,
            other => panic!("{other:?}"),
        })
    };
    let all = events(&m, "k", None, KEY_EVENTS_MAX).unwrap();
    let records: Vec<Record> = all.iter().map(|event| Record::decode(&event.record.record).unwrap()).collect();
    assert!(records.iter().all(|record| record.key == "k" && record.bucket == "b"));
    assert_eq!(
        records.iter().map(|record| record.key_event).collect::<Vec<_>>(),
        (0..all.len() as u64).rev().collect::<Vec<_>>()
    );
    assert!(all.len() >= 5 && all.is_sorted_by(|newer, older| newer.index > older.index));
    let first = events(&m, "k", None, 2).unwrap();
    let rest = events(&m, "k", Some(first[1].index.0), KEY_EVENTS_MAX).unwrap();
    assert_eq!([first, rest].concat(), all);
    assert_eq!(events(&m, "k", all.last().map(|event| event.index.0), 9).unwrap(), []);
    assert_eq!(events(&m, "never", None, 9).unwrap(), []);
    // An act, two events of other keys, and none at all.
    for foreign in [0, begun + 1, begun + 2, 999] {
        assert_eq!(events(&m, "k", Some(foreign), 9).unwrap_err().code, Code::Malformed, "{foreign}");
    }
}

#[test]
fn entries_and_records_lead_to_the_leaves() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    for n in 0..10 {
        m.put(b, &format!("k{n}"));
    }
    let LogReply::Entries(entries) = ask(&m, LogRead::Entries { from: LogIndex(3), max: 4 }) else { panic!() };
    let now = head(&m).now;
    let leaves = Served(&m).tile(0, 0).unwrap();
    let (entries, rest) = entries.as_chunks::<32>();
    assert_eq!((entries.len(), rest.len()), (4, 0));
    for (at, entry) in (3..).zip(entries) {
        assert_eq!(leaf_hash(entry), leaves[usize::try_from(at).unwrap()]);
        let path = stele_evidence::proof::inclusion(&Served(&m), at, now.size).unwrap();
        verify_inclusion(leaf_hash(entry), at, now.size, &now.root, &path).unwrap();
        let LogReply::Record(Some(record)) = ask(&m, LogRead::Record { index: LogIndex(at) }) else { panic!() };
        assert_eq!(stele_evidence::record::Entry::new(&record.salt.unwrap(), &record.record).0, *entry);
    }
    assert_eq!(ask(&m, LogRead::Record { index: LogIndex(now.size) }), LogReply::Record(None));
    assert_eq!(ask(&m, LogRead::Entries { from: LogIndex(u64::MAX), max: 1 }), LogReply::Entries([].as_slice().into()));
    let many = MetaRequest::Log(LogRead::Entries { from: LogIndex(0), max: LOG_ENTRIES_MAX + 1 });
    assert_eq!(code(m.read(&many)), Code::Malformed);
}
