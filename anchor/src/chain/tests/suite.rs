//! What every chain has to do, whatever it is made of.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use stele_rpc::meta::TreeHead;

use super::fuse::{Blow, Fuse, Fused};
use super::store::MemoryStore;
use crate::chain::backend::{Chain, ChainError, Terms};
use crate::chain::state::{Growth, Intent};
use crate::chain::steps::{Rules, Waiting};
use crate::chain::store::StoreError;
use crate::chain::submit::{Done, SubmitError, Submitter};
use crate::chain::view::Fate;

/// A chain with nothing anchored on it, and what a test needs to move and see it.
#[async_trait]
pub(crate) trait World: Sync + fmt::Debug {
    type Chain: Chain;

    /// A connection of its own.
    fn chain(&self) -> Self::Chain;

    /// Lets the chain go on.
    async fn pass(&self);

    /// Every anchor of the log that the chain holds, in its order.
    async fn anchored(&self) -> Vec<Growth>;

    /// Checks a proof as an auditor does.
    fn check(&self, head: TreeHead, proof: &Bytes);
}

pub(crate) type Cut<W> = Submitter<Fused<<W as World>::Chain>, Fused<MemoryStore>>;

pub(crate) fn head(size: u64) -> TreeHead {
    TreeHead { size, root: [u8::try_from(size).unwrap(); 32] }
}

pub(crate) fn growth(previous: u64, size: u64) -> Growth {
    Growth { previous, head: head(size) }
}

pub(crate) fn submitter<W: World>(world: &W, store: &MemoryStore, fuse: &std::sync::Arc<Fuse>) -> Cut<W> {
    let store = Fused(store.clone(), fuse.clone());
    Submitter::new(Fused(world.chain(), fuse.clone()), store, Rules::default())
}

/// Takes steps until `size` is kept.
pub(crate) async fn anchor<W: World>(world: &W, submitter: &mut Cut<W>, size: u64) {
    for _ in 0..200 {
        match submitter.step(Some(head(size))).await {
            Ok(Done::Waited(Waiting::Nothing)) => return,
            Ok(Done::Waited(_)) => world.pass().await,
            Ok(_) => {}
            Err(SubmitError::Chain(ChainError::Unreachable { why, .. })) if why == "cut off" => {}
            Err(SubmitError::Store(StoreError::Failed(why))) if why == "cut off" => {}
            Err(error) => panic!("size {size}: {error}"),
        }
    }
    panic!("size {size} was not anchored");
}

/// Everything kept is on the chain once, proven, and nothing lies between.
pub(crate) async fn check<W: World>(world: &W, store: &MemoryStore, sizes: &[u64]) {
    let mut previous = 0;
    let on_chain = world.anchored().await;
    for growth in &on_chain {
        assert_eq!((growth.previous, growth.head), (previous, head(growth.head.size)), "{on_chain:?}");
        previous = growth.head.size;
    }
    let kept = store.proofs();
    for (head, proof) in &kept {
        assert_eq!(on_chain.iter().filter(|growth| growth.head == *head).count(), 1, "size {}", head.size);
        world.check(*head, proof);
    }
    assert_eq!(store.sizes(), sizes);
}

/// Checkpoints are anchored one after the other, each with a proof; sizes in between are left out.
pub(crate) async fn grows<W: World>(world: &W) {
    let store = MemoryStore::default();
    let mut submitter = submitter(world, &store, &Fuse::never());
    for size in [3, 4, 9] {
        anchor(world, &mut submitter, size).await;
    }
    check(world, &store, &[3, 4, 9]).await;
    assert_eq!(world.anchored().await, [growth(0, 3), growth(3, 4), growth(4, 9)]);
}

/// The same bytes may be handed in any number of times, and a growth that does not follow is refused.
pub(crate) async fn is_idempotent_and_compares<W: World>(world: &W) {
    let chain = world.chain();
    let view = chain.look(None).await.unwrap();
    assert_eq!(view.anchored, None);
    let terms = |nonce| Terms { nonce, fee: view.price.map(|price| price.offer), gas: None };
    let candidate = chain.sign(growth(0, 3), terms(view.nonce)).await.unwrap();
    let intent = Intent { growth: growth(0, 3), nonce: view.nonce, candidates: vec![candidate.clone()] };
    assert_eq!(chain.look(Some(&intent)).await.unwrap().fates, [Fate::Unknown], "signing sends nothing");
    for _ in 0..2 {
        chain.send(&candidate).await.unwrap();
    }
    let view = loop {
        let view = chain.look(Some(&intent)).await.unwrap();
        match view.fates[..] {
            [Fate::Included { took_effect, is_final: true, .. }] => {
                assert!(took_effect);
                break view;
            }
            _ => world.pass().await,
        }
    };
    chain.send(&candidate).await.unwrap();
    assert_eq!((view.anchored, view.nonce), (Some(head(3)), intent.nonce + 1));
    assert_eq!(chain.find(head(3)).await.unwrap().map(|(id, _)| id), Some(candidate.id));
    assert_eq!(chain.find(head(4)).await, Ok(None));
    let refused = chain.sign(growth(0, 5), terms(view.nonce)).await;
    assert!(matches!(refused, Err(ChainError::Overtaken(_))), "{refused:?}");
    assert_eq!(world.anchored().await, [growth(0, 3)]);
    world.check(head(3), &chain.capture(head(3), candidate.id).await.unwrap());
    let other = chain.capture(TreeHead { size: 3, root: [9; 32] }, candidate.id).await;
    assert!(other.is_err(), "a proof of another root: {other:?}");
}

/// Before and after each call, an anchor dies or its call fails; the next one goes on.
pub(crate) async fn survives_every_cut<W: World>(world: &W, blow: Blow) {
    let store = MemoryStore::default();
    let mut size = 0;
    for cut in 0.. {
        assert!(cut < 60, "so many calls are none of an anchor that gets on");
        size += 1;
        let fuse = Fuse::new(cut, blow);
        let mut first = submitter(world, &store, &fuse);
        tokio::select! {
            () = anchor(world, &mut first, size) => {}
            () = fuse.blown() => {}
        }
        drop(first);
        if fuse.has_blown() && blow == Blow::Die {
            let mut next = submitter(world, &store, &Fuse::never());
            anchor(world, &mut next, size).await;
        }
        assert_eq!(store.sizes().last(), Some(&size), "cut {cut}");
        if !fuse.has_blown() {
            break;
        }
    }
    let all: Vec<u64> = (1..=size).collect();
    check(world, &store, &all).await;
    assert_eq!(world.anchored().await.len(), all.len());
}

/// A step of an anchor that races: to be overtaken is all that may go wrong.
async fn race<W: World>(submitter: &mut Cut<W>, size: u64) {
    match submitter.step(Some(head(size))).await {
        Ok(_) | Err(SubmitError::Chain(ChainError::Overtaken(_))) => {}
        Err(error) => panic!("{error}"),
    }
}

/// Two anchors over one row, and two that know nothing of each other.
pub(crate) async fn two_at_once<W: World>(world: &W) {
    let (one, other) = (MemoryStore::default(), MemoryStore::default());
    for stores in [[&one, &one], [&one, &other]] {
        let base = world.anchored().await.last().map_or(0, |growth| growth.head.size);
        let never = Fuse::never();
        let [mut left, mut right] = stores.map(|store| submitter(world, store, &never));
        for turn in 0..120 {
            let size = base + 1 + turn / 40;
            race::<W>(&mut left, size).await;
            race::<W>(&mut right, size).await;
            world.pass().await;
        }
        let on_chain = world.anchored().await;
        let sizes: Vec<u64> = on_chain.iter().map(|growth| growth.head.size).collect();
        assert_eq!(sizes, (1..base + 4).collect::<Vec<u64>>(), "once each, and no gap");
    }
    check(world, &one, &[1, 2, 3, 4, 5, 6]).await;
    check(world, &other, &[4, 5, 6]).await;
}

/// A chain that comes late gets the newest checkpoint, and nothing of what was before.
pub(crate) async fn starts_late<W: World>(world: &W) {
    let store = MemoryStore::default();
    anchor(world, &mut submitter(world, &store, &Fuse::never()), 90).await;
    check(world, &store, &[90]).await;
    assert_eq!(world.anchored().await, [growth(0, 90)]);
}
