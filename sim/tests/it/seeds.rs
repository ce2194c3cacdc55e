//! The store keeps its promises in every one of these runs.

use stele_sim::run::{Options, Setting, run};

/// Seeds that every check of the project runs. More: `cargo run -p stele-sim -- --seeds 0..10000`.
const SEEDS: std::ops::Range<u64> = 0..100;

/// The same for clusters of several nodes of every kind.
const CLUSTER_SEEDS: std::ops::Range<u64> = 0..50;

/// The same over QUIC and simulated packets: fewer, for every packet is encrypted.
const QUIC_SEEDS: std::ops::Range<u64> = 0..10;

/// The same while slots move, with repair on every node.
const MOVING_SEEDS: std::ops::Range<u64> = 0..25;

#[test]
fn promises_hold() {
    hold(Setting::Small, SEEDS, 5_000);
}

#[test]
fn promises_hold_in_clusters() {
    hold(Setting::Cluster, CLUSTER_SEEDS, 2_500);
}

#[test]
fn promises_hold_over_quic() {
    hold(Setting::Quic, QUIC_SEEDS, 500);
}

#[test]
fn promises_hold_while_slots_move() {
    let moved = hold(Setting::Moving, MOVING_SEEDS, 1_000);
    assert!(moved > 100, "only {moved} slots were handed over in all runs");
}

/// Returns how many slots were handed over.
fn hold(setting: Setting, seeds: std::ops::Range<u64>, least: usize) -> u64 {
    let (mut operations, mut moved) = (0, 0);
    for seed in seeds {
        let report = run(&Options { setting, seed, sabotage: None, focus: None, keep_trace: false })
            .expect("a run ends with a report");
        let tail = report.trace.iter().rev().take(40).rev().cloned().collect::<Vec<_>>().join("\n");
        assert!(report.findings.is_empty(), "seed {seed}: {:#?}\n{tail}", report.findings);
        assert_eq!(report.undecided, 0, "seed {seed}: a history is too large to judge");
        operations += report.operations;
        moved += report.moved;
    }
    // A workload that never gets through would pass everything.
    assert!(operations > least, "only {operations} operations in all runs");
    moved
}
