//! What audits find: 200 simulated runs with lost and exchanged shards, samples, absent and silent nodes, objects.

use std::collections::BTreeSet;

use crate::audit::challenge::Scope;
use crate::audit::detection::{REPLICAS, SHARES, detection_exact};
use crate::audit::progress::Verdict;
use crate::audit::report::Report;
use crate::audit::testing::{GATEWAY, Manner, Numbers, drive, object, shards};
use crate::audit::verify::{Place, Standing};

const ALL: Scope = Scope::Rows { first: 0, count: u64::MAX };
const RUNS: u64 = 200;

/// Half of the runs lose shards, half exchange them; one of them or all of the drive.
#[test]
fn all_finds_every_loss_and_every_exchange_and_names_the_drive() {
    let mut world = shards(3, 2, 5);
    let keys = world.keys();
    let sound: Vec<_> = world.nodes.iter().map(|node| node.held.clone()).collect();
    for run in 0..RUNS {
        let mut numbers = Numbers(run);
        let (node, number) = (numbers.below(3), numbers.below(2));
        let id = drive(node as u64 + 1, number);
        let rows = world.rows_of(node, id);
        let lost = run % 2 == 0;
        let least = if lost { 1 } else { 2 };
        let hit: Vec<usize> = {
            let count = least + numbers.below(rows.len() + 1 - least);
            numbers.some(count, rows.len()).into_iter().map(|at| rows[at]).collect()
        };
        for (at, row) in hit.iter().enumerate() {
            let other = hit[(at + 1) % hit.len()];
            world.nodes[node].held[*row] = if lost { None } else { sound[node][other].clone() };
        }
        let audit = world.audit(ALL, 1, run);
        let checked = audit.verify(&keys).unwrap();
        assert!(checked.complete);
        let failed: BTreeSet<_> = checked.failed.keys().copied().collect();
        let name = Place::Drive(world.nodes[node].inventory.head().node, id);
        assert_eq!(failed, BTreeSet::from([name]), "run {run}");
        let found: Vec<usize> =
            checked.failed[&name].iter().map(|at| audit.report.outcomes[*at].position as usize).collect();
        assert_eq!(found, hit, "run {run}");
        assert_eq!(checked.counts[&(Verdict::Failed, Standing::Proven)], hit.len());
        assert_eq!(checked.counts[&(Verdict::Ok, Standing::Proven)], 30 - hit.len());
        for (node, held) in world.nodes.iter_mut().zip(&sound) {
            node.held.clone_from(held);
        }
    }
}

/// Chance of at most `hits` successes in `RUNS` tries.
fn at_most(hits: u64, p: f64) -> f64 {
    let mut term = (1.0 - p).powi(RUNS as i32);
    let mut sum = term;
    for k in 0..hits {
        term *= (RUNS - k) as f64 / (k + 1) as f64 * p / (1.0 - p);
        sum += term;
    }
    sum
}

/// A right sampler leaves this less often than once in 100,000 times.
fn plausible(hits: u64, p: f64) -> bool {
    let above = if hits == 0 { 1.0 } else { 1.0 - at_most(hits - 1, p) };
    at_most(hits, p) > 5e-6 && above > 5e-6
}

#[test]
fn sampling_finds_a_loss_as_often_as_the_report_says() {
    let mut world = shards(1, 2, 20);
    let keys = world.keys();
    let sound = world.nodes[0].held.clone();
    // Sample, which of the stated shares is lost, and so many rows that is.
    for (sample, share, lost) in [(3u64, 4, 14usize), (10, 3, 2), (20, 2, 1)] {
        let mut hits = 0;
        let mut stated = 0.0;
        for run in 0..RUNS {
            let rows = Numbers(run * 1000 + sample).some(lost, 40);
            rows.iter().for_each(|row| world.nodes[0].held[*row] = None);
            let audit = world.audit(Scope::Sample(sample), 1, run);
            let checked = audit.verify(&keys).unwrap();
            assert!(!checked.complete);
            assert_eq!((checked.coverage[0].rows, checked.coverage[0].asked), (40, sample));
            let (rows, chance) = checked.coverage[0].detection.unwrap()[share];
            assert_eq!(rows, lost as u64);
            stated = chance;
            hits += u64::from(!checked.failed.is_empty());
            world.nodes[0].held.clone_from(&sound);
        }
        assert_eq!(stated, detection_exact(40, lost as u64, sample), "{}", SHARES[share]);
        assert!(plausible(hits, stated), "{hits} of {RUNS}, stated {stated}");
        assert!(!plausible(hits, stated * 0.7) && !plausible(hits, 1.0 - (1.0 - stated) * 0.4), "the test is too weak");
    }
}

#[test]
fn nodes_that_are_away_or_silent_are_not_said_to_have_lost_anything() {
    let mut world = shards(3, 1, 4);
    world.nodes[0].manner = Manner::Away;
    world.nodes[1].manner = Manner::Silent;
    let audit = world.audit(ALL, 1, 1);
    let checked = audit.verify(&world.keys()).unwrap();
    assert!(checked.failed.is_empty());
    let count = |verdict, standing| checked.counts.get(&(verdict, standing)).copied();
    assert_eq!(count(Verdict::Offline, Standing::Asserted), Some(4));
    assert_eq!(count(Verdict::Contained, Standing::Asserted), Some(4));
    assert_eq!(count(Verdict::Ok, Standing::Proven), Some(4));
    assert_eq!(audit.report.outcomes[4].asks, 2);
    assert_eq!(audit.report.outcomes[4].latency_ms, 4000);
}

#[test]
fn chunks_of_an_object_are_asked_of_a_gateway() {
    let mut world = object(&[30_000, 70_000, 1, 20_000]);
    let checked = world.audit(ALL, 3, 5).verify(&world.keys()).unwrap();
    assert_eq!((checked.count(Verdict::Ok), checked.failed.len()), (12, 0));
    assert_eq!(checked.objects, BTreeSet::from([world.root()]));
    world.nodes[0].held[1] = None;
    let checked = world.audit(ALL, 3, 5).verify(&world.keys()).unwrap();
    assert_eq!(checked.failed[&Place::Object(GATEWAY, world.root())], [3, 4, 5]);
}

/// Without slices and keys a report still has to be one; it only proves less.
#[test]
fn what_is_not_at_hand_is_not_proven() {
    let mut world = shards(1, 1, 4);
    world.nodes[0].held[1] = None;
    world.nodes[0].held[2] = world.nodes[0].held[0].clone();
    let mut audit = world.audit(ALL, 1, 1);
    let standings = |audit: &crate::audit::testing::Audit, keys| {
        let checked = audit.verify(keys).unwrap();
        checked.counts.into_iter().map(|((verdict, standing), count)| (verdict, standing, count)).collect::<Vec<_>>()
    };
    let (keys, none) = (world.keys(), Default::default());
    let proven = [(Verdict::Ok, Standing::Proven, 2), (Verdict::Failed, Standing::Proven, 2)];
    assert_eq!(standings(&audit, &keys), proven);
    let asserted = [(Verdict::Ok, Standing::Asserted, 2), (Verdict::Failed, Standing::Asserted, 2)];
    assert_eq!(standings(&audit, &none), asserted);
    audit.slices.clear();
    let signed = [
        (Verdict::Ok, Standing::Signed, 2),
        (Verdict::Failed, Standing::Proven, 1),
        (Verdict::Failed, Standing::Signed, 1),
    ];
    assert_eq!(standings(&audit, &keys), signed);
    assert_eq!(standings(&audit, &none), asserted);
    let again = Report::decode(&audit.report.encode().unwrap()).unwrap();
    assert_eq!(again, audit.report);
}

#[test]
fn the_text_says_what_was_found_and_what_is_not_shown() {
    let mut world = shards(2, 1, 5);
    world.nodes[1].manner = Manner::Away;
    let all = world.audit(ALL, 1, 1).verify(&world.keys()).unwrap().to_text();
    assert!(all.contains("ok: 5\n  5 proven by a signed answer\noffline: 5\n  5 asserted"), "{all}");
    assert!(
        all.contains("node 1: 5 of 5 rows asked for; chance") && all.contains(" 100 % of 1 lost rows (0.01 %)"),
        "{all}"
    );
    assert!(all.contains("Every row of every inventory was asked for.") && all.contains(REPLICAS), "{all}");
    assert!(!all.contains("FAILED"), "{all}");
    world.nodes[0].held.iter_mut().for_each(|held| *held = None);
    let sample = world.audit(Scope::Sample(2), 1, 1).verify(&world.keys()).unwrap().to_text();
    assert!(sample.contains(&format!("FAILED: drive {} of node 1: 2 challenges", drive(1, 0))), "{sample}");
    assert!(sample.contains("node 1: 2 of 5 rows") && sample.contains(" 40 % of 1 lost rows (1 %)"), "{sample}");
    assert!(sample.contains("Not every row was asked for.") && sample.contains(REPLICAS), "{sample}");
    let window = world.audit(Scope::Rows { first: 1, count: 3 }, 1, 1).verify(&world.keys()).unwrap().to_text();
    assert!(window.contains("3 of 5 rows asked for; the rows were chosen"), "{window}");
}
