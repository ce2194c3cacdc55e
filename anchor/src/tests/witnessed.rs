//! An anchor whose checkpoints need witnesses.

use std::sync::Arc;
use std::time::Duration;

use stele_evidence::policy::Policy;
use stele_evidence::proof::Head;
use tokio::sync::Semaphore;

use super::{ORIGIN, World, keys, settle};
use crate::anchor::{Anchor, AnchorError, Done};
use crate::cosign::Unwitnessed;
use crate::testing::stand::{Mood, Stand};

const LONG: Duration = Duration::from_secs(60);

/// A log, and three witnesses of it.
struct Town {
    world: World,
    stands: Vec<Stand>,
}

impl Town {
    async fn new() -> Self {
        let mut stands = Vec::new();
        for (at, seed) in [10, 20, 30].into_iter().enumerate() {
            stands.push(Stand::open(&format!("w{at}.example"), seed, keys()).await);
        }
        Self { world: World::new(), stands }
    }

    /// `quorum`: its line, of the groups w0, w1 and w2.
    fn operator(&self, quorum: &str) -> String {
        let lines: String = self.stands.iter().enumerate().map(|(at, stand)| stand.lines(&format!("w{at}"))).collect();
        format!("{lines}{quorum}\n")
    }

    fn anchor(&self, memory: &str, quorum: &str) -> Anchor {
        self.anchor_that_waits(memory, quorum, LONG)
    }

    fn anchor_that_waits(&self, memory: &str, quorum: &str, timeout: Duration) -> Anchor {
        self.world.anchor(memory, true).with_policy(self.operator(quorum).as_bytes(), timeout).unwrap()
    }

    /// The published size, if its note satisfies the policy that is published with it; and how many witnesses' keys
    /// signed it.
    fn published(&self) -> Option<(u64, usize)> {
        let head = self.world.published()?;
        let signed = self.world.log(|log| log.published.clone()).unwrap();
        let note = stele_evidence::note::Note::parse(&signed.note).unwrap();
        let evaluation = Policy::parse(&signed.policy).unwrap().evaluate(&note).unwrap();
        assert_eq!(evaluation.checkpoint.head(), Head { size: head.size, root: head.root });
        Some((head.size, evaluation.witnesses.len()))
    }
}

const ALL: &str = "group q all w0 w1 w2\nquorum q";
const TWO_OF_THREE: &str = "group q 2 w0 w1 w2\nquorum q";

fn unwitnessed(outcome: Result<Done, AnchorError>) -> Unwitnessed {
    match outcome {
        Err(AnchorError::Unwitnessed(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_checkpoint_is_published_with_its_cosignatures() {
    let town = Town::new().await;
    let mut anchor = town.anchor("a", ALL);
    for (more, size) in [(1, 1), (2, 3), (600, 603)] {
        town.world.append(more);
        assert_eq!(settle(&mut anchor).await.unwrap(), [size]);
        assert_eq!(town.published(), Some((size, 6)));
    }
    assert_eq!(town.stands[0].olds(), [0, 1, 3], "the proof begins where the witness stands");
    assert!(anchor.missing_witnesses().unwrap().list().is_empty());
}

#[tokio::test]
async fn two_of_three_are_enough_and_one_is_not() {
    let mut town = Town::new().await;
    let mut anchor = town.anchor("a", TWO_OF_THREE);
    town.world.append(4);
    town.stands[1].shut();
    assert_eq!(settle(&mut anchor).await.unwrap(), [4]);
    assert_eq!(town.published(), Some((4, 4)));
    let missing = anchor.missing_witnesses().unwrap().list();
    assert!(missing.len() == 1 && missing[0].witness.starts_with("w1-ed, w1-pq (127.0.0.1:"), "{missing:?}");

    town.world.append(3);
    town.stands[2].turn(Mood::Says(500, "disk full".into()));
    assert_eq!(anchor.step().await.unwrap(), Done::Committed(town.world.log(|log| log.now())));
    let why = unwitnessed(anchor.step().await);
    assert_eq!((why.size, why.missing.len(), why.is_alarm()), (7, 2, false));
    assert!(why.to_string().contains("disk full") && why.to_string().contains("w1-ed"), "{why}");

    // The log grows; the checkpoint that waits stays the one to be published.
    town.world.append(5);
    let why = unwitnessed(anchor.step().await);
    assert_eq!((why.size, town.published()), (7, Some((4, 4))));
    town.stands[2].turn(Mood::Honest);
    assert_eq!(settle(&mut anchor).await.unwrap(), [7, 12]);
    assert_eq!(town.published(), Some((12, 4)));
}

#[tokio::test]
async fn a_crash_between_any_two_steps_publishes_nothing_without_its_witnesses() {
    let town = Town::new().await;
    for round in 1..=8u64 {
        town.world.append(5);
        let mut anchor = town.anchor("a", ALL);
        // Some steps, then it dies: with the witnesses' answers lost, or with the answer to what it published lost.
        if round % 2 == 0 {
            town.stands[0].turn(Mood::Mute);
            town.stands[1].turn(Mood::Mute);
        }
        let steps = round % 3;
        for _ in 0..steps {
            let outcome = anchor.step().await;
            assert!(!outcome.is_err_and(|error| error.is_final()));
            town.world.log(|log| log.lose_answer = round % 4 == 1);
        }
        drop(anchor);
        town.stands[0].turn(Mood::Honest);
        town.stands[1].turn(Mood::Honest);
        town.world.log(|log| log.lose_answer = false);
        let mut again = town.anchor("a", ALL);
        settle(&mut again).await.unwrap();
        assert_eq!(town.published(), Some((5 * round, 6)));
    }
}

#[tokio::test]
async fn cosigned_and_not_published_is_cosigned_and_published_by_the_next_run() {
    let town = Town::new().await;
    town.world.append(5);
    let mut anchor = town.anchor("a", ALL);
    anchor.step().await.unwrap();
    for stand in &town.stands {
        stand.turn(Mood::Mute);
    }
    let why = unwitnessed(anchor.step().await);
    assert_eq!((why.missing.len(), town.published()), (3, None));
    drop(anchor);
    // It goes on elsewhere: the witnesses stand at 5 already, and the log has grown.
    for stand in &town.stands {
        stand.turn(Mood::Honest);
        stand.olds();
    }
    town.world.append(5);
    assert_eq!(settle(&mut town.anchor("a", ALL)).await.unwrap(), [5, 10]);
    assert_eq!(town.stands[0].olds(), [0, 5, 5]);
}

#[tokio::test]
async fn a_lying_witness_counts_for_nothing() {
    let town = Town::new().await;
    let mut anchor = town.anchor("a", TWO_OF_THREE);
    let (stranger, _folder) = crate::testing::stand::witness("w0.example", 70, keys());
    let forged = stele_evidence::note::SignatureLine::new(
        town.stands[1].vkeys()[0].name().clone(),
        town.stands[1].vkeys()[0].id(),
        vec![1; 72],
    );
    town.world.append(5);
    anchor.step().await.unwrap();
    town.stands[0].turn(Mood::Asks(stranger));
    town.stands[1].turn(Mood::Says(200, format!("{forged}\n").into()));
    let why = unwitnessed(anchor.step().await);
    assert_eq!((why.missing.len(), town.published()), (2, None), "{why}");
    town.stands[1].turn(Mood::Honest);
    assert_eq!(settle(&mut anchor).await.unwrap(), [5]);
    assert_eq!(town.published(), Some((5, 4)));
}

#[tokio::test]
async fn a_slow_witness_holds_up_only_what_needs_it() {
    let town = Town::new().await;
    town.world.append(5);
    town.stands[2].turn(Mood::Silent);
    assert_eq!(settle(&mut town.anchor("a", TWO_OF_THREE)).await.unwrap(), [5]);
    assert_eq!(town.published(), Some((5, 4)));
    town.world.append(5);
    let mut all = town.anchor_that_waits("a", ALL, Duration::from_secs(2));
    all.step().await.unwrap();
    let why = unwitnessed(all.step().await);
    assert!(why.missing.iter().any(|missing| missing.witness.starts_with("w2-ed")), "{why}");
    assert_eq!(town.published(), Some((5, 4)));
}

#[tokio::test]
async fn without_a_quorum_missing_witnesses_hold_up_nothing() {
    let mut town = Town::new().await;
    let mut anchor = town.anchor("a", "quorum none");
    for stand in &mut town.stands {
        stand.shut();
    }
    for round in 1..=3 {
        town.world.append(5);
        assert_eq!(settle(&mut anchor).await.unwrap(), [5 * round]);
        assert_eq!(town.published(), Some((5 * round, 0)));
    }
    assert_eq!(anchor.missing_witnesses().unwrap().list().len(), 3);
}

#[tokio::test]
async fn a_log_that_was_rolled_back_is_found_out_by_its_witnesses() {
    let town = Town::new().await;
    town.world.append(5);
    let early = town.world.log(|log| log.clone());
    town.world.append(5);
    settle(&mut town.anchor("a", TWO_OF_THREE)).await.unwrap();
    // Metadata and memory are restored from before; the witnesses are not.
    town.world.log(|log| *log = early.clone());
    let mut restored = town.anchor("b", TWO_OF_THREE);
    restored.step().await.unwrap();
    let why = unwitnessed(restored.step().await);
    assert!(why.is_alarm() && why.to_string().contains("cosigned size 10 of this log"), "{why}");
    // It grows beyond what they saw with other entries.
    town.world.log(|log| {
        *log = early.clone();
        (100..120).for_each(|entry| log.append(entry));
    });
    let mut forked = town.anchor("c", TWO_OF_THREE);
    forked.step().await.unwrap();
    let why = unwitnessed(forked.step().await);
    assert!(why.is_alarm() && why.to_string().contains("does not extend size 10"), "{why}");
    assert_eq!(town.published(), None);
}

#[tokio::test]
async fn of_two_anchors_with_witnesses_none_takes_the_other_for_a_fork() {
    let town = Town::new().await;
    let (mut one, mut two) = (town.anchor("one", ALL), town.anchor("two", ALL));
    for round in 1..=10u64 {
        town.world.append(3);
        for at in 0..8 {
            let anchor = if (round + at) % 3 == 0 { &mut one } else { &mut two };
            anchor.step().await.unwrap();
        }
        settle(&mut one).await.unwrap();
        settle(&mut two).await.unwrap();
        assert_eq!(town.published(), Some((3 * round, 6)));
    }
    let hashes = <sha2::Sha256 as sha2::Digest>::digest(ORIGIN);
    assert!(town.stands[0].witness.checkpoint(&hex::encode(hashes)).is_some());
}

#[tokio::test]
async fn an_anchor_that_another_one_overtakes_takes_it_for_no_alarm() {
    let town = Town::new().await;
    town.world.append(5);
    let (mut one, mut two) = (town.anchor("one", ALL), town.anchor("two", ALL));
    one.step().await.unwrap();
    let gate = Arc::new(Semaphore::new(0));
    town.stands.iter().for_each(|stand| stand.turn(Mood::Waits(Arc::clone(&gate))));
    let missing = one.missing_witnesses().unwrap();
    let late = tokio::spawn(async move { one.step().await });
    while town.stands.iter().any(|stand| stand.asked.lock().unwrap().is_empty()) {
        tokio::task::yield_now().await;
    }
    town.stands.iter().for_each(|stand| stand.turn(Mood::Honest));
    assert_eq!(settle(&mut two).await.unwrap(), [5]);
    town.world.append(5);
    assert_eq!(settle(&mut two).await.unwrap(), [10]);
    gate.add_permits(3);
    assert_eq!(late.await.unwrap().unwrap(), Done::Overtaken);
    assert!(missing.list().is_empty());
    assert_eq!(town.published(), Some((10, 6)));
}
