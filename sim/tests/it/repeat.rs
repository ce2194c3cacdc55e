//! I-10: the same seed gives the same run. Everything else here rests on it.

use stele_sim::run::{Options, run};

#[test]
fn same_seed_same_trace() {
    for (cluster, seed) in [(false, 0), (false, 3), (false, 10), (true, 0), (true, 3), (true, 5)] {
        let options = Options { cluster, seed, sabotage: None, focus: None, keep_trace: true };
        let (first, second) = (run(&options).unwrap(), run(&options).unwrap());
        let differs = first.trace.iter().zip(&second.trace).position(|(a, b)| a != b);
        if let Some(at) = differs {
            panic!("seed {seed}: line {at} differs:\n{}\n{}", first.trace[at], second.trace[at]);
        }
        assert_eq!(first.trace.join("\n").into_bytes(), second.trace.join("\n").into_bytes());
        assert_eq!((first.lines, &first.hash), (second.lines, &second.hash));
        assert!(first.lines > 500, "a run of {} lines shows nothing", first.lines);
    }
}

#[test]
fn other_seeds_give_other_runs() {
    let hash =
        |seed| run(&Options { cluster: false, seed, sabotage: None, focus: None, keep_trace: false }).unwrap().hash;
    assert_ne!(hash(1), hash(2));
}
