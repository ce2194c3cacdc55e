//! Each promise that is broken on purpose is found by some seed, and the same seeds pass without.

use stele_sim::run::{Options, Setting, run};
use stele_sim::sabotage::Sabotage;

/// The first seed below `bound` that finds the sabotage; every seed tried passes without it, under
/// the same plan.
fn first_seed(setting: Setting, sabotage: Sabotage, bound: u64) -> (u64, Vec<String>) {
    for seed in 0..bound {
        let honest = run(&Options { setting, seed, sabotage: None, focus: Some(sabotage), keep_trace: false })
            .expect("a run ends with a report");
        assert!(honest.findings.is_empty(), "seed {seed} fails without sabotage: {:#?}", honest.findings);
        let broken =
            run(&Options { setting, seed, sabotage: Some(sabotage), focus: Some(sabotage), keep_trace: false })
                .expect("a run ends with a report");
        if !broken.findings.is_empty() {
            return (seed, broken.findings);
        }
    }
    panic!("{sabotage:?} was not found by {bound} seeds");
}

fn found(sabotage: Sabotage, bound: u64, invariants: &[&str]) {
    found_in(Setting::Small, sabotage, bound, invariants);
}

fn found_in(setting: Setting, sabotage: Sabotage, bound: u64, invariants: &[&str]) {
    let (seed, findings) = first_seed(setting, sabotage, bound);
    let names_it = |finding: &String| invariants.iter().any(|invariant| finding.starts_with(invariant));
    assert!(findings.iter().any(names_it), "seed {seed} finds something else: {findings:#?}");
}

#[test]
fn acknowledge_before_sync_is_found() {
    found(Sabotage::AcknowledgeBeforeSync, 30, &["I-1", "I-5"]);
}

#[test]
fn delete_without_asking_is_found() {
    found(Sabotage::DeleteWithoutAsking, 10, &["I-1", "I-5"]);
}

#[test]
fn commit_when_fenced_is_found() {
    found(Sabotage::CommitWhenFenced, 30, &["I-1", "I-5"]);
}

#[test]
fn reply_cache_off_is_found() {
    found(Sabotage::ReplyCacheOff, 20, &["I-3", "I-4"]);
}

#[test]
fn skipped_chunk_check_is_found() {
    found(Sabotage::SkipChunkCheck, 20, &["I-2"]);
}

#[test]
fn removal_of_locked_versions_is_found() {
    found(Sabotage::RemoveLocked, 5, &["I-6"]);
}

#[test]
fn commits_of_any_checkpoint_are_found() {
    found(Sabotage::CommitAnyCheckpoint, 10, &["I-4"]);
}

#[test]
fn follower_read_without_read_index_is_found() {
    found_in(Setting::Cluster, Sabotage::FollowerReadWithoutReadIndex, 10, &["I-3"]);
}

#[test]
fn reused_node_id_is_found() {
    found_in(Setting::Cluster, Sabotage::NodeIdReused, 5, &["I-1", "I-3", "I-4"]);
}

#[test]
fn retry_applied_twice_is_found_in_a_cluster() {
    found_in(Setting::Cluster, Sabotage::ReplyCacheOff, 30, &["I-3", "I-4"]);
}

#[test]
fn reused_node_id_is_found_over_quic() {
    found_in(Setting::Quic, Sabotage::NodeIdReused, 5, &["I-1", "I-3", "I-4"]);
}
