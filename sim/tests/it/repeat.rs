//! I-10: the same seed gives the same run. Everything else here rests on it.

use stele_sim::run::{Options, Setting, run};

#[test]
fn same_seed_same_trace() {
    use Setting::{Cluster, Quic, Small};
    for (setting, seed) in
        [(Small, 0), (Small, 3), (Small, 10), (Cluster, 0), (Cluster, 3), (Cluster, 5), (Quic, 0), (Quic, 3)]
    {
        let options = Options { setting, seed, sabotage: None, focus: None, keep_trace: true };
        let (first, second) = (run(&options).unwrap(), run(&options).unwrap());
        let differs = first.trace.iter().zip(&second.trace).position(|(a, b)| a != b);
        if let Some(at) = differs {
            panic!("{setting:?} seed {seed}: line {at} differs:\n{}\n{}", first.trace[at], second.trace[at]);
        }
        assert_eq!(first.trace.join("\n").into_bytes(), second.trace.join("\n").into_bytes());
        assert_eq!((first.lines, &first.hash), (second.lines, &second.hash));
        assert!(first.lines > 500, "a run of {} lines shows nothing", first.lines);
    }
}

#[test]
fn other_seeds_give_other_runs() {
    let hash = |seed| {
        run(&Options { setting: Setting::Small, seed, sabotage: None, focus: None, keep_trace: false }).unwrap().hash
    };
    assert_ne!(hash(1), hash(2));
}
