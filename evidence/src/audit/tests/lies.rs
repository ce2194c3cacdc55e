//! Reports that somebody changed, made up or put together otherwise.

use stele_types::ids::{LogIndex, NodeId, ObjectRoot};

use crate::audit::AuditError;
use crate::audit::answer::Answer;
use crate::audit::challenge::{AuditId, Scope};
use crate::audit::inventory::Row;
use crate::audit::progress::Verdict;
use crate::audit::report::{Report, digest};
use crate::audit::testing::{Audit, World, noise, object, shards};
use crate::audit::verify::{OutcomeFault, ReportFault};

const ALL: Scope = Scope::Rows { first: 0, count: u64::MAX };

fn world() -> World {
    let mut world = shards(2, 1, 6);
    world.nodes[1].held[2] = None;
    world
}

/// What the verifier says of a report that somebody changed.
fn verdict(world: &World, change: impl FnOnce(&mut Audit)) -> Result<(), ReportFault> {
    let mut audit = world.audit(Scope::Sample(4), 2, 11);
    let before = audit.report.clone();
    change(&mut audit);
    assert!(audit.report != before || audit.slices != world.audit(Scope::Sample(4), 2, 11).slices, "nothing changed");
    audit.verify(&world.keys()).map(drop)
}

fn outcome(at: usize, fault: OutcomeFault) -> Result<(), ReportFault> {
    Err(ReportFault::Outcome { at, fault })
}

/// Whoever ran the audit can't choose what was asked.
#[test]
fn challenges_are_those_of_the_seed() {
    type Change = (&'static str, fn(&mut Report));
    let world = world();
    assert_eq!(world.audit(Scope::Sample(4), 2, 11).verify(&world.keys()).map(drop), Ok(()));
    let changes: [Change; 14] = [
        ("another id", |r| r.plan.id = AuditId([9; 16])),
        ("another epoch", |r| r.plan.epoch += 1),
        ("a smaller sample", |r| r.plan.scope = Scope::Sample(3)),
        ("another scope", |r| r.plan.scope = ALL),
        ("fewer groups", |r| r.plan.groups_per_row = 1),
        ("another beacon", |r| r.seed.beacon[0] ^= 1),
        ("another checkpoint", |r| r.seed.head.root[0] ^= 1),
        ("a larger checkpoint", |r| r.seed.head.size += 1),
        ("another entry", |r| r.seed.entry = LogIndex(10)),
        ("another inventory", |r| r.inventories[0].head.root[0] ^= 1),
        ("a shorter inventory", |r| r.inventories[0].head.size -= 1),
        ("another node", |r| r.inventories[0].head.node = NodeId(0)),
        ("one left out", |r| drop(r.outcomes.pop())),
        ("a node left out", |r| drop(r.inventories.pop())),
    ];
    for (name, change) in changes {
        assert!(verdict(&world, |audit| change(&mut audit.report)).is_err(), "{name}");
    }
    let count = verdict(&world, |audit| drop(audit.report.outcomes.remove(3)));
    assert_eq!(count, Err(ReportFault::Count { expected: 16, found: 15 }));
    let early = verdict(&world, |audit| audit.report.seed.entry = LogIndex(20));
    assert_eq!(early, Err(ReportFault::Plan(AuditError::SeedBeforeInventories)));
}

#[test]
fn outcomes_are_of_what_was_asked() {
    let world = world();
    let not_asked = |at| outcome(at, OutcomeFault::NotAsked);
    assert_eq!(verdict(&world, |a| a.report.outcomes[5].group ^= 1), not_asked(5));
    assert_eq!(verdict(&world, |a| a.report.outcomes[5].position += 1), not_asked(5));
    assert_eq!(verdict(&world, |a| a.report.outcomes.swap(0, 2)), not_asked(0));
    let path = verdict(&world, |a| a.report.outcomes[4].path[0][7] ^= 1);
    assert!(matches!(path, Err(ReportFault::Outcome { at: 4, fault: OutcomeFault::Row(_) })), "{path:?}");
    for change in [
        (|row| {
            if let Row::Shard { generation, .. } = row {
                *generation += 1
            }
        }) as fn(&mut Row),
        |row| {
            if let Row::Shard { slot, .. } = row {
                *slot += 1
            }
        },
        |row| {
            if let Row::Shard { drive, .. } = row {
                *drive = crate::audit::testing::drive(7, 7)
            }
        },
    ] {
        let found = verdict(&world, |a| change(&mut a.report.outcomes[4].row));
        assert!(matches!(found, Err(ReportFault::Outcome { at: 4, fault: OutcomeFault::Row(_) })), "{found:?}");
    }
}

/// A lost shard can't be reported as held, nor a held one as lost.
#[test]
fn verdicts_are_borne_out_by_signed_answers() {
    let world = world();
    let audit = world.audit(ALL, 1, 11);
    let failed = audit.report.outcomes.iter().position(|found| found.verdict == Verdict::Failed).unwrap();
    let held = 0;
    let said = |change: &dyn Fn(&mut Audit)| {
        let mut audit = world.audit(ALL, 1, 11);
        change(&mut audit);
        audit.verify(&world.keys()).map(drop)
    };
    assert_eq!(said(&|_| ()), Ok(()));
    // "I don't have it" is no answer of an `ok`, and none is needed of one who was away.
    assert_eq!(said(&|a| a.report.outcomes[failed].verdict = Verdict::Ok), outcome(failed, OutcomeFault::Verdict));
    assert_eq!(said(&|a| a.report.outcomes[held].verdict = Verdict::Offline), outcome(held, OutcomeFault::Verdict));
    assert_eq!(said(&|a| a.report.outcomes[held].verdict = Verdict::Contained), outcome(held, OutcomeFault::Verdict));
    assert_eq!(said(&|a| a.report.outcomes[held].answer = None), outcome(held, OutcomeFault::Verdict));
    // The node signed the right bytes.
    assert_eq!(
        said(&|a| a.report.outcomes[held].verdict = Verdict::Failed),
        outcome(held, OutcomeFault::Contradiction)
    );
    // An answer that was made up, or is that of another challenge.
    let forged = said(&|a| {
        let slice = noise(b"made up", 16_392);
        let made_up = Answer { slice: Some(*blake3::hash(&slice).as_bytes()), time: 5, signature: [0; 64] };
        (a.report.outcomes[failed].verdict, a.report.outcomes[failed].answer) = (Verdict::Ok, Some(made_up));
        a.slices.insert(failed, slice);
    });
    assert!(matches!(forged, Err(ReportFault::Outcome { at, fault: OutcomeFault::Signature(_) }) if at == failed));
    let replayed = said(&|a| {
        a.report.outcomes[1].answer = a.report.outcomes[0].answer.clone();
        let slice = a.slices[&0].clone();
        a.slices.insert(1, slice);
    });
    assert!(matches!(replayed, Err(ReportFault::Outcome { at: 1, fault: OutcomeFault::Signature(_) })));
    assert_eq!(said(&|a| a.slices.get_mut(&held).unwrap()[99] ^= 1), outcome(held, OutcomeFault::OtherSlice));
}

#[test]
fn answers_of_another_audit_do_not_serve_again() {
    let world = world();
    let (first, mut second) = (world.audit(ALL, 1, 1), world.audit(ALL, 1, 2));
    second.report.outcomes[0].answer = first.report.outcomes[0].answer.clone();
    second.slices.insert(0, first.slices[&0].clone());
    let found = second.verify(&world.keys());
    assert!(matches!(found, Err(ReportFault::Outcome { at: 0, fault: OutcomeFault::Signature(_) })));
}

#[test]
fn chunks_are_proven_to_be_where_the_row_says() {
    let world = object(&[30_000, 70_000, 1, 20_000]);
    let said = |change: fn(&mut Audit)| {
        let mut audit = world.audit(ALL, 1, 5);
        change(&mut audit);
        audit.verify(&world.keys()).map(drop)
    };
    assert_eq!(said(|a| a.report.outcomes[1].place = None), outcome(1, OutcomeFault::OtherPlace));
    let other = said(|a| a.report.outcomes[1].place = a.report.outcomes[0].place.clone());
    assert!(matches!(other, Err(ReportFault::Outcome { at: 1, fault: OutcomeFault::Place(_) })), "{other:?}");
    let total = said(|a| a.report.outcomes[1].place.as_mut().unwrap().total_len += 1);
    assert!(matches!(total, Err(ReportFault::Outcome { at: 1, fault: OutcomeFault::Place(_) })), "{total:?}");
    let object = said(|a| {
        if let Row::Chunk { object, .. } = &mut a.report.outcomes[1].row {
            *object = ObjectRoot::from_bytes([1; 32]);
        }
    });
    assert!(matches!(object, Err(ReportFault::Outcome { at: 1, fault: OutcomeFault::Row(_) })), "{object:?}");
}

/// The event in the log pins every byte of the report.
#[test]
fn digest_and_root_change_with_every_outcome() {
    let world = world();
    let report = world.audit(ALL, 1, 1).report;
    let (bytes, root) = (digest(&report.encode().unwrap()), report.outcomes_root());
    for change in [
        (|found| found.latency_ms += 1) as fn(&mut crate::audit::report::Outcome),
        |found| found.asks += 1,
        |found| found.verdict = Verdict::Contained,
        |found| found.answer = None,
        |found| found.group ^= 1,
    ] {
        let mut other = report.clone();
        change(&mut other.outcomes[7]);
        assert_ne!(digest(&other.encode().unwrap()), bytes);
        assert_ne!(other.outcomes_root(), root);
    }
}
