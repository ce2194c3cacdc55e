//! Slots that move: random moves against a model, refusals, and what the log says.

use std::collections::BTreeSet;

use proptest::prelude::{ProptestConfig, Strategy, prop_oneof, proptest};
use proptest::test_runner::RngSeed;
use stele_rpc::meta::SLOT_MOVES_MAX;
use stele_types::ids::PgEpoch;
use stele_types::map::{PgRow, Slot, SlotMove};

use super::*;

fn id(n: u8) -> DriveId {
    DriveId::from_bytes([n; 16])
}

/// Three groups of rs-1-2 over drives 1 to 5; drives 6 and 7 are spare.
fn founded() -> Machine {
    let row = |n: u8| DriveRow {
        id: id(n),
        node: NodeId(1),
        name: format!("drive-{n}"),
        state: DriveState::Ok,
        reason: String::new(),
        capacity: 0,
    };
    let slot = |n: u8| Slot { drive: id(n), incoming: None };
    let pg = |n: u8| PgRow {
        id: PgId(u32::from(n)),
        epoch: PgEpoch(1),
        scheme: "rs-1-2".parse().unwrap(),
        slots: (n + 1..n + 4).map(slot).collect(),
    };
    let map = Box::new(ClusterMap { pgs: (0..3).map(pg).collect(), ..ClusterMap::default() });
    let mut m = Machine::new();
    let cluster = ClusterId::from_bytes([1; 16]);
    m.cluster(Command::InitCluster { cluster, drives: (1..=7).map(row).collect(), map }).unwrap();
    m
}

fn map(m: &Machine) -> ClusterMap {
    match m.read(&MetaRequest::ClusterMap { known: MapEpoch(0) }) {
        Ok(MetaReply::ClusterMap(Some(map))) => *map,
        other => panic!("{other:?}"),
    }
}

fn moved(pg: u32, epoch: u64, slot: u8, to: u8) -> SlotMove {
    SlotMove { pg: PgId(pg), epoch: PgEpoch(epoch), slot, to: id(to) }
}

fn moves(moves: &[SlotMove]) -> Command {
    Command::MoveSlots { moves: moves.to_vec() }
}

fn flip(SlotMove { pg, epoch, slot, to }: SlotMove) -> Command {
    Command::FlipSlot { pg, epoch, slot, to }
}

fn state(drive: u8, state: DriveState) -> Command {
    Command::SetDriveState { drive: id(drive), state, reason: String::new() }
}

fn log_size(m: &Machine) -> usize {
    m.table(Tag::Record).len()
}

#[test]
fn a_slot_moves_by_way_of_its_incoming_drive() {
    let mut m = founded();
    let before = map(&m);
    assert_eq!(m.cluster(moves(&[moved(0, 1, 0, 6), moved(2, 1, 1, 7)])).unwrap(), MetaReply::Done);
    let moving = map(&m);
    assert_eq!(moving.epoch.0, before.epoch.0 + 1);
    assert_eq!(moving.pgs.iter().map(|pg| pg.epoch.0).collect::<Vec<_>>(), [2, 1, 2]);
    assert_eq!(moving.pgs[0].slots[0], Slot { drive: id(1), incoming: Some(id(6)) });
    m.cluster(flip(moved(0, 2, 0, 6))).unwrap();
    let flipped = map(&m);
    assert_eq!((flipped.epoch.0, flipped.pgs[0].epoch.0), (before.epoch.0 + 2, 3));
    assert_eq!(flipped.pgs[0].slots[0], Slot { drive: id(6), incoming: None });
    assert_eq!(flipped.pgs[2], moving.pgs[2]);
    // Answers may have been lost: all of it again changes nothing.
    let (dump, size) = (m.table(Tag::Record), log_size(&m));
    m.cluster(flip(moved(0, 2, 0, 6))).unwrap();
    m.cluster(moves(&[moved(0, 1, 0, 6), moved(2, 1, 1, 7)])).unwrap();
    assert_eq!((map(&m), m.table(Tag::Record), log_size(&m)), (flipped, dump, size));
}

#[test]
fn what_does_not_fit_is_refused_whole_and_says_the_newer_row() {
    let mut m = founded();
    m.cluster(moves(&[moved(0, 1, 0, 6)])).unwrap();
    m.cluster(state(7, DriveState::Suspect)).unwrap();
    let before = m.dump();
    let fits = moved(1, 1, 0, 6);
    for (second, expected) in [
        (moved(0, 1, 1, 5), Code::StalePg),
        (moved(9, 1, 0, 6), Code::Malformed),
        (moved(2, 1, 3, 6), Code::Malformed),
        (moved(2, 1, 0, 9), Code::NoSuchDrive),
        (moved(2, 1, 0, 7), Code::Malformed),
        (moved(2, 1, 0, 4), Code::Malformed),
        (moved(0, 2, 1, 5), Code::Malformed),
        (moved(0, 2, 0, 5), Code::Malformed),
        (fits, Code::Malformed),
    ] {
        assert_eq!(code(m.cluster(moves(&[fits, second]))), expected, "{second:?}");
        assert_eq!(m.dump(), before, "{second:?}");
    }
    let stale = m.cluster(moves(&[moved(0, 1, 1, 5)])).unwrap_err();
    assert_eq!(stale.newer_pg.map(|row| row.epoch), Some(PgEpoch(2)));
    assert_eq!(code(m.cluster(moves(&vec![fits; SLOT_MOVES_MAX + 1]))), Code::Malformed);
    for (flipped, expected) in [
        (moved(0, 1, 0, 6), Code::StalePg),
        (moved(0, 2, 0, 5), Code::Malformed),
        (moved(0, 2, 1, 6), Code::Malformed),
        (moved(1, 1, 0, 6), Code::Malformed),
        (moved(1, 1, 0, 2), Code::Malformed),
        (moved(9, 1, 0, 6), Code::Malformed),
    ] {
        assert_eq!(code(m.cluster(flip(flipped))), expected, "{flipped:?}");
        assert_eq!(m.dump(), before, "{flipped:?}");
    }
}

#[test]
fn an_incoming_drive_that_does_not_serve_takes_nothing_over_and_is_replaced() {
    let mut m = founded();
    m.cluster(moves(&[moved(0, 1, 0, 6)])).unwrap();
    m.cluster(state(6, DriveState::Failed)).unwrap();
    assert_eq!(code(m.cluster(flip(moved(0, 2, 0, 6)))), Code::DriveFailed);
    assert_eq!(code(m.cluster(moves(&[moved(0, 2, 0, 1)]))), Code::Malformed, "it is there already");
    m.cluster(moves(&[moved(0, 2, 0, 7)])).unwrap();
    assert_eq!(map(&m).pgs[0].slots[0], Slot { drive: id(1), incoming: Some(id(7)) });
    m.cluster(flip(moved(0, 3, 0, 7))).unwrap();
    assert_eq!(map(&m).pgs[0].slots[0], Slot { drive: id(7), incoming: None });
}

#[test]
fn one_entry_of_the_log_names_all_slots_of_a_command() {
    let mut m = founded();
    m.cluster(moves(&[moved(0, 1, 0, 6), moved(1, 1, 1, 6), moved(2, 1, 2, 7)])).unwrap();
    m.cluster(flip(moved(1, 2, 1, 6))).unwrap();
    let records = m.table(Tag::Record);
    let said = |(key, value): &(Vec<u8>, Vec<u8>)| {
        let row: crate::rows::RecordRow = crate::rows::decode(key, value).unwrap();
        stele_evidence::record::Record::decode(&row.record).unwrap().detail
    };
    let said: Vec<String> = records.iter().rev().take(2).map(said).collect();
    assert_eq!(
        said,
        [
            "slot 1 of placement group 1 is drive drive-6 of node 1; it was drive drive-3 of node 1",
            "slots to be moved: 3, away from drive drive-1 of node 1, drive drive-3 of node 1, drive drive-5 of node 1, \
             of placement groups 0-2",
        ]
    );
}

#[derive(Clone, Debug)]
enum Op {
    Move(Vec<SlotMove>, bool),
    Flip(SlotMove, bool),
    State(u8, DriveState),
    Repeat,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let one = || (0..3u32, 1..6u64, 0..3u8, 1..8u8).prop_map(|(pg, epoch, slot, to)| moved(pg, epoch, slot, to));
    let state = prop_oneof![
        3 => proptest::strategy::Just(DriveState::Ok),
        1 => proptest::strategy::Just(DriveState::Suspect),
        1 => proptest::strategy::Just(DriveState::Failed),
    ];
    // Most moves name the epoch that the row has, or nearly all would be refused for it.
    let op = prop_oneof![
        5 => (proptest::collection::vec(one(), 1..3), proptest::bool::weighted(0.9))
            .prop_map(|(moves, current)| Op::Move(moves, current)),
        5 => (one(), proptest::bool::weighted(0.9)).prop_map(|(moved, current)| Op::Flip(moved, current)),
        2 => (1..8u8, state).prop_map(|(drive, state)| Op::State(drive, state)),
        1 => proptest::strategy::Just(Op::Repeat),
    ];
    proptest::collection::vec(op, 1..80)
}

/// What the rows must be after a command, from the rules as docs tell them; `None`: refused.
fn expected(map: &ClusterMap, command: &Command) -> Option<Vec<PgRow>> {
    let ok = |drive| map.drive(drive).is_some_and(|row| row.state == DriveState::Ok);
    let mut pgs = map.pgs.clone();
    let mut raised = BTreeSet::new();
    match command {
        Command::MoveSlots { moves } => {
            if moves.iter().map(|one| (one.pg, one.slot)).collect::<BTreeSet<_>>().len() != moves.len() {
                return None;
            }
            for one in moves {
                let (group, slot) = (one.pg.0 as usize, usize::from(one.slot));
                let was = &map.pgs[group];
                let flipped = was.slots[slot].drive == one.to && was.epoch > one.epoch;
                if was.slots[slot].incoming == Some(one.to) || flipped {
                    continue;
                }
                let twice = pgs[group].slots.iter().any(|slot| slot.drive == one.to || slot.incoming == Some(one.to));
                let taken = was.slots[slot].incoming.is_some_and(ok);
                if was.epoch != one.epoch || !ok(one.to) || twice || taken {
                    return None;
                }
                pgs[group].slots[slot].incoming = Some(one.to);
                raised.insert(group);
            }
        }
        Command::FlipSlot { pg, epoch, slot, to } => {
            let (group, slot) = (pg.0 as usize, usize::from(*slot));
            let was = &map.pgs[group];
            if was.slots[slot].drive == *to && was.epoch > *epoch {
                return Some(pgs);
            }
            if was.epoch != *epoch || was.slots[slot].incoming != Some(*to) || !ok(*to) {
                return None;
            }
            pgs[group].slots[slot] = Slot { drive: *to, incoming: None };
            raised.insert(group);
        }
        _ => {}
    }
    for group in raised {
        pgs[group].epoch.0 += 1;
    }
    // rs-1-2: one slot of a group moves at a time.
    let single = pgs.iter().all(|pg| pg.slots.iter().filter(|slot| slot.incoming.is_some()).count() <= 1);
    single.then_some(pgs)
}

/// The command of a step; with `current`, the epochs are those of the rows.
fn command(map: &ClusterMap, op: &Op) -> Command {
    let at = |one: SlotMove, current: bool| {
        let epoch = if current { map.pgs[one.pg.0 as usize].epoch } else { one.epoch };
        SlotMove { epoch, ..one }
    };
    match op {
        Op::Move(planned, current) => moves(&planned.iter().map(|one| at(*one, *current)).collect::<Vec<_>>()),
        Op::Flip(one, current) => {
            // Mostly of a slot that moves, and where it moves to.
            let pg = &map.pgs[one.pg.0 as usize];
            let slot = pg.slots.iter().position(|slot| slot.incoming.is_some()).filter(|_| *current);
            let slot = slot.map_or(one.slot, |slot| u8::try_from(slot).unwrap());
            let to = pg.slots[usize::from(slot)].incoming.filter(|_| *current).unwrap_or(one.to);
            flip(at(SlotMove { slot, to, ..*one }, *current))
        }
        Op::State(drive, to) => state(*drive, *to),
        Op::Repeat => unreachable!("has no command of its own"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, rng_seed: RngSeed::Fixed(4), ..ProptestConfig::default() })]

    #[test]
    fn moves_match_the_model(ops in ops()) {
        let mut m = founded();
        let mut last = None;
        for op in &ops {
            let before = map(&m);
            let sent = match (op, &last) {
                (Op::Repeat, None) => continue,
                (Op::Repeat, Some(last)) => Command::clone(last),
                (op, _) => command(&before, op),
            };
            let (expected, size) = (expected(&before, &sent), log_size(&m));
            let answer = m.cluster(sent.clone());
            let after = map(&m);
            assert_eq!(answer.is_ok(), expected.is_some(), "{sent:?}: {answer:?}");
            assert_eq!(after.pgs, expected.unwrap_or_else(|| before.pgs.clone()), "{sent:?}");
            let changed = usize::from(before != after);
            assert_eq!(after.epoch.0, before.epoch.0 + changed as u64);
            assert_eq!(log_size(&m), size + changed, "an entry for each change");
            for pg in &after.pgs {
                let drives: Vec<DriveId> = pg.slots.iter().flat_map(Slot::holders).collect();
                assert_eq!(drives.iter().collect::<BTreeSet<_>>().len(), drives.len(), "a drive twice: {pg:?}");
            }
            last = Some(sent);
        }
    }
}
