//! Garbage collection over many versions. More of them: `stele-sim --soak 1000000`.

use stele_sim::soak::{SoakOptions, soak};

const VERSIONS: u64 = 30_000;

#[test]
fn no_referenced_pack_is_condemned_and_space_comes_back() {
    for seed in 0..2 {
        let report = soak(SoakOptions::new(seed, VERSIONS)).unwrap();
        assert_eq!(report.verdict(), Ok(()), "{report:?}");
        assert!(report.committed > VERSIONS / 2 && report.deleted > VERSIONS / 4, "{report:?}");
        assert!(report.fenced > 0 && report.abandoned > 0, "late and abandoned writes were among them: {report:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_soak() {
    let run = || soak(SoakOptions::new(7, 3000)).unwrap();
    assert_eq!(run(), run());
}

#[cfg(feature = "sabotage")]
#[test]
fn a_soak_in_which_commits_are_never_fenced_is_found() {
    let report = soak(SoakOptions { commit_when_fenced: true, ..SoakOptions::new(1, VERSIONS) }).unwrap();
    // A pack that was condemned and is committed late is pardoned if a sweep comes in time, and missing if not.
    assert!(report.violations + report.pardoned > 0, "{report:?}");
}

#[cfg(feature = "sabotage")]
#[test]
fn a_soak_that_deletes_without_asking_is_found() {
    let report = soak(SoakOptions { delete_without_asking: true, ..SoakOptions::new(1, VERSIONS) }).unwrap();
    assert!(report.violations > 0, "{report:?}");
}
