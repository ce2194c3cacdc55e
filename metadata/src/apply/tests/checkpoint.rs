//! Checkpoints of the log: one after the other, each with the log's own root, and what of the log can be read.

use stele_evidence::proof::{Head, consistency, verify_consistency, verify_inclusion};
use stele_evidence::tiles::TileSource;
use stele_evidence::tree::{Hash, leaf_hash};
use stele_rpc::meta::{
    Checkpoint, LOG_ENTRIES_MAX, LogCommand, LogHead, LogRead, LogReply, NOTE_BYTES_MAX, SignedNote, TreeHead,
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
    let b = m.bucket("b");
    let empty = head(&m).now;
    assert_eq!((empty.size, commit(&mut m, None, empty)), (0, Err(Code::Malformed)));
    for n in 0..300 {
        m.put(b, &format!("k{n}"));
    }
    let old = head(&m).now;
    for n in 0..7 {
        m.put(b, &format!("l{n}"));
    }
    let now = head(&m).now;
    assert_eq!((old.size, now.size), (300, 307));
    let other = TreeHead { root: now.root, ..old };
    assert_eq!(commit(&mut m, None, other), Err(Code::Malformed), "not the root of that size");
    assert_eq!(commit(&mut m, None, TreeHead { size: 308, ..now }), Err(Code::Malformed), "not there yet");
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
    assert_eq!(ask(&m, LogRead::Record { index: LogIndex(10) }), LogReply::Record(None));
    assert_eq!(ask(&m, LogRead::Entries { from: LogIndex(u64::MAX), max: 1 }), LogReply::Entries([].as_slice().into()));
    let many = MetaRequest::Log(LogRead::Entries { from: LogIndex(0), max: LOG_ENTRIES_MAX + 1 });
    assert_eq!(code(m.read(&many)), Code::Malformed);
}
