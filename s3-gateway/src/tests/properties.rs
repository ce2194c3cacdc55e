//! Any body comes back, whole and by range, with up to m shards of every pack missing or wrong.

use bytes::Bytes;
use proptest::prelude::{Strategy, any, prop, proptest};
use proptest::test_runner::Config;

use super::{cluster_with, noise, small_config};
use crate::api::ByteRange;

fn body_len() -> impl Strategy<Value = usize> {
    proptest::prop_oneof![0usize..5_000, 200_000usize..3_000_000, 7_000_000usize..12_000_000]
}

#[derive(Debug, Clone)]
struct Case {
    bodies: Vec<(usize, u64)>,
    ranges: Vec<(f64, f64)>,
    broken: [(u8, bool); 2],
}

fn case() -> impl Strategy<Value = Case> {
    let bodies = prop::collection::vec((body_len(), any::<u64>()), 1..5);
    let ranges = prop::collection::vec((0.0f64..1.0, 0.0f64..1.0), 1..4);
    (bodies, ranges, [(0u8..6, any::<bool>()), (0u8..6, any::<bool>())]).prop_map(|(bodies, ranges, broken)| Case {
        bodies,
        ranges,
        broken,
    })
}

async fn holds(case: Case) {
    let c = cluster_with(small_config(), "rs-4-2", 6).await;
    let bodies: Vec<(String, Bytes)> =
        case.bodies.iter().enumerate().map(|(n, (len, seed))| (format!("k{n}"), noise(*seed, *len))).collect();
    futures::future::join_all(bodies.iter().map(|(key, bytes)| async { c.put(key, bytes).await.unwrap() })).await;
    for (n, lies) in case.broken {
        let drive = c.drives[usize::from(n)];
        if lies { c.storage.make_lie(drive) } else { c.storage.kill(drive) }
    }
    for (key, bytes) in &bodies {
        assert!(c.get(key).await.unwrap() == bytes, "{key}");
        for (from, share) in case.ranges.iter().filter(|_| !bytes.is_empty()) {
            let first = (from * bytes.len() as f64) as usize;
            let len = 1 + (share * (bytes.len() - first - 1) as f64) as usize;
            let range = ByteRange::From { first: first as u64, last: Some((first + len - 1) as u64) };
            assert!(c.get_range(key, Some(range)).await.unwrap() == bytes.slice(first..first + len));
        }
    }
}

proptest! {
    #![proptest_config(Config { cases: 12, failure_persistence: None, ..Config::default() })]

    #[test]
    fn any_body_comes_back_with_two_drives_missing_or_lying(case in case()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(holds(case));
    }
}
