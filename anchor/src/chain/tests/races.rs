//! Anchors that share a modelled chain and die, while blocks go away, pools forget and fees rise, in any order.

use std::sync::Arc;

use proptest::prelude::*;

use super::fuse::{Blow, Fuse};
use super::model::{FINAL, Model};
use super::store::MemoryStore;
use super::suite::{self, Cut, World as _, head, submitter};

#[derive(Clone, Debug)]
enum Event {
    Step(usize),
    Grow,
    Mine,
    Reorganise(usize),
    ForgetPool,
    Fee(u128),
    /// All nodes that answer stand still, until they catch up.
    StandStill,
    CatchUp,
    /// An anchor dies within its next calls and is started again.
    Die(usize, i64),
    Fail(usize, i64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..3usize).prop_map(Event::Step),
        2 => Just(Event::Grow),
        5 => Just(Event::Mine),
        1 => (1..FINAL).prop_map(Event::Reorganise),
        1 => Just(Event::ForgetPool),
        1 => (0..20u128).prop_map(Event::Fee),
        1 => Just(Event::StandStill),
        2 => Just(Event::CatchUp),
        1 => (0..3usize, 0..8i64).prop_map(|(who, after)| Event::Die(who, after)),
        1 => (0..3usize, 0..8i64).prop_map(|(who, after)| Event::Fail(who, after)),
    ]
}

/// Two anchors share a row, the third has one of its own, and all have one key. `apart`: the third takes part.
fn run(events: &[Event], apart: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let world = Model::default();
        let shared = MemoryStore::default();
        let stores = [shared.clone(), shared.clone(), MemoryStore::default()];
        let fresh = |who: usize, fuse: &Arc<Fuse>| -> Cut<Model> { submitter(&world, &stores[who], fuse) };
        let mut fuses: Vec<_> = (0..3).map(|_| Fuse::never()).collect();
        let mut anchors: Vec<Cut<Model>> = (0..3).map(|who| fresh(who, &fuses[who])).collect();
        let mut size = 1;
        for event in events {
            match *event {
                Event::Grow => size += 1,
                Event::Mine => world.pass().await,
                Event::Reorganise(depth) => world.0.lock().unwrap().reorganise(depth),
                Event::ForgetPool => world.0.lock().unwrap().forget_pool(),
                Event::Fee(floor) => world.0.lock().unwrap().floor = floor,
                Event::StandStill => world.stand_still(),
                Event::CatchUp => world.catch_up(),
                Event::Die(who, after) | Event::Fail(who, after) => {
                    let blow = if matches!(event, Event::Die(..)) { Blow::Die } else { Blow::Fail };
                    fuses[who] = Fuse::new(after, blow);
                    anchors[who] = fresh(who, &fuses[who]);
                }
                Event::Step(2) if !apart => {}
                Event::Step(who) => {
                    let died = tokio::select! {
                        biased;
                        // What an anchor may not do is seen on the chain; that it fails here and there is meant.
                        _ = anchors[who].step(Some(head(size))) => false,
                        () = fuses[who].blown() => true,
                    };
                    if died {
                        fuses[who] = Fuse::never();
                        anchors[who] = fresh(who, &fuses[who]);
                    }
                }
            }
        }
        // Calm: everybody gets to the newest checkpoint.
        world.catch_up();
        world.0.lock().unwrap().floor = 1;
        for (store, own) in [(&shared, 0), (&stores[2], 2)].into_iter().take(if apart { 2 } else { 1 }) {
            let mut last = fresh(own, &Fuse::never());
            for _ in 0..120 {
                let _outcome = last.step(Some(head(size))).await;
                world.pass().await;
            }
            assert_eq!(store.sizes().last(), Some(&size));
            suite::check(&world, store, &store.sizes()).await;
        }
        if !apart {
            let on_chain: Vec<u64> = world.anchored().await.iter().map(|growth| growth.head.size).collect();
            assert_eq!(shared.sizes(), on_chain, "the proof of each anchor");
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn one_anchor_for_each_size_whatever_happens(events in proptest::collection::vec(event(), 0..120)) {
        run(&events, true);
    }

    #[test]
    fn one_anchor_with_one_proof_for_each_size(events in proptest::collection::vec(event(), 0..120)) {
        run(&events, false);
    }
}
