//! A5: asks, and waits for verdicts. `stele_evidence::audit::progress` decides what comes next.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt};
use stele_evidence::audit::answer::{Answer, AnswerKey, Challenge, Judged, judge};
use stele_evidence::audit::challenge::{Asked, Plan, Seed};
use stele_evidence::audit::inventory::Row;
use stele_evidence::audit::progress::{Deadlines, Event, Progress, Step, Verdict};
use stele_evidence::audit::report::Outcome;
use stele_rpc::error::Code;
use stele_rpc::storage::{ShardChallenge, StorageReply, StorageRequest};

use super::{Found, Holder};
use crate::error::GatewayError;
use crate::gateway::Gateway;

/// Challenges that a node has at once.
const PER_NODE: usize = 2;
/// The answer bounds what a node can fetch from elsewhere; a shard of 64 MiB takes a slow disk a second.
const DEADLINES: Deadlines = Deadlines { accept_ms: 5_000, answer_ms: 30_000, asks: 3 };
/// Before the same is asked again, so that a node that restarts is not missed by milliseconds.
const AGAIN: Duration = Duration::from_secs(1);

/// What A5 needs.
pub(super) struct Asking<'a> {
    pub(super) gw: &'a Gateway,
    pub(super) plan: &'a Plan,
    pub(super) seed: Seed,
    pub(super) found: &'a Found,
}

/// What came of it, in the order of the challenges.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) slices: BTreeMap<usize, Bytes>,
}

impl Asking<'_> {
    /// Asks for everything that was drawn: all nodes at once, each for a few things at a time.
    pub(super) async fn all(&self, drawn: &[Asked], done: &(dyn Fn(u64) + Sync)) -> Result<Answers, GatewayError> {
        let count = AtomicU64::new(0);
        let collected = Mutex::new(BTreeMap::new());
        let mut of_nodes: Vec<Vec<(usize, Asked)>> = vec![Vec::new(); self.found.holders.len()];
        for (at, asked) in drawn.iter().enumerate() {
            if let Some(of_node) = of_nodes.get_mut(asked.inventory) {
                of_node.push((at, *asked));
            }
        }
        let one = async |(at, asked): (usize, Asked)| {
            let outcome = self.one(asked).await?;
            done(count.fetch_add(1, Ordering::Relaxed) + 1);
            collected.lock().unwrap_or_else(PoisonError::into_inner).insert(at, outcome);
            Ok::<(), GatewayError>(())
        };
        let of_node = async |asked: Vec<(usize, Asked)>| {
            futures::stream::iter(asked).map(Ok).try_for_each_concurrent(PER_NODE, &one).await
        };
        try_join_all(of_nodes.into_iter().map(of_node)).await?;
        let mut answers = Answers::default();
        for (at, (outcome, slice)) in collected.into_inner().unwrap_or_else(PoisonError::into_inner) {
            answers.outcomes.push(outcome);
            answers.slices.extend(slice.map(|slice| (at, slice)));
        }
        Ok(answers)
    }

    async fn one(&self, asked: Asked) -> Result<(Outcome, Option<Bytes>), GatewayError> {
        let row_of = |holder: &Holder| {
            let rows = holder.inventory.rows();
            usize::try_from(asked.position).ok().and_then(|at| rows.get(at).copied())
        };
        let holder = self.found.holders.get(asked.inventory);
        let Some((holder, row)) = holder.and_then(|holder| Some((holder, row_of(holder)?))) else {
            return Err(GatewayError::Internal { what: "a challenge beyond its inventory was drawn".to_owned() });
        };
        let node = holder.inventory.head().node;
        let group = self.plan.group(&self.seed, node, (row.subject(), row.groups()), asked.repeat);
        let challenge = Challenge { audit: self.plan.id, seed: self.seed, node, row, group };
        let key = AnswerKey::new(holder.key.clone()).map_err(|error| {
            let what = format!("the key of node {node} is none for answers: {error}");
            GatewayError::Corrupt { what }
        })?;
        let mut question = Question { gw: self.gw, challenge, key, found: self.found, answer: None };
        let progress = question.run().await?;
        let place = match row {
            Row::Chunk { object, offset, .. } => Some(self.found.objects.prove(object, offset).await?),
            Row::Shard { .. } => None,
        };
        let verdict = progress.verdict().unwrap_or(Verdict::Offline);
        let (answer, slice) = question.answer.filter(|_| matches!(verdict, Verdict::Ok | Verdict::Failed)).unzip();
        let outcome = Outcome {
            position: asked.position,
            row,
            path: holder.inventory.path(asked.position).unwrap_or_default(),
            place,
            group,
            verdict,
            latency_ms: progress.latency_ms(),
            asks: progress.asks(),
            answer,
        };
        Ok((outcome, slice.filter(|slice| !slice.is_empty())))
    }
}

/// One challenge until its verdict.
struct Question<'a> {
    gw: &'a Gateway,
    challenge: Challenge,
    key: AnswerKey,
    found: &'a Found,
    /// The last answer that was judged, and its slice.
    answer: Option<(Answer, Bytes)>,
}

impl Question<'_> {
    async fn run(&mut self) -> Result<Progress, GatewayError> {
        let mut progress = Progress::start(self.gw.clock.unix_millis());
        let mut step = Step::Ask;
        loop {
            let event = match step {
                Step::Done(_) => return Ok(progress),
                Step::Ask => {
                    if progress.asks() > 1 {
                        tokio::time::sleep(AGAIN).await;
                    }
                    self.take().await
                }
                Step::WaitUntil(until) => self.answer(until).await?,
            };
            step = progress.on(event, self.gw.clock.unix_millis(), &DEADLINES);
        }
    }

    /// The node takes the question.
    async fn take(&self) -> Event {
        let Some(asked) = self.shard_challenge() else { return Event::Accepted };
        let patience = Duration::from_millis(DEADLINES.accept_ms);
        let request = StorageRequest::TakeChallenge(asked);
        match self.gw.nodes.call(self.challenge.node, request, Bytes::new(), patience).await {
            Ok(_) => Event::Accepted,
            Err(_) => Event::Unreachable,
        }
    }

    /// The node's answer, or that time has passed.
    async fn answer(&mut self, until: u64) -> Result<Event, GatewayError> {
        let Some(asked) = self.shard_challenge() else {
            let answered = self.found.objects.answer(self.gw, &self.challenge).await?;
            return Ok(answered.map_or(Event::Unreachable, |(answer, slice)| self.judged(answer, slice)));
        };
        let patience = Duration::from_millis(until.saturating_sub(self.gw.clock.unix_millis()).max(1));
        let request = StorageRequest::Challenge(asked);
        let reply = self.gw.nodes.call(self.challenge.node, request, Bytes::new(), patience).await;
        Ok(match reply {
            Ok((StorageReply::Answer(answer), slice)) => match Answer::decode(&answer) {
                Ok(answer) => self.judged(answer, slice),
                Err(_) => Event::Unreachable,
            },
            // It took the question; an error is as good as silence.
            Ok(_) => Event::Unreachable,
            Err(error) if error.code == Code::DeadlineExceeded => Event::Tick,
            Err(error) => {
                tracing::debug!(node = %self.challenge.node, %error, "no answer to a possession audit");
                Event::Unreachable
            }
        })
    }

    fn judged(&mut self, answer: Answer, slice: Bytes) -> Event {
        let judged = judge(&self.challenge, &self.key, &answer, &slice);
        if judged != Judged::Holds {
            let (node, row) = (self.challenge.node, self.challenge.row);
            tracing::error!(%node, ?row, ?judged, "possession audit failed");
        }
        self.answer = Some((answer, slice));
        Event::Answered(judged)
    }

    /// For questions about shards: as a storage node is asked.
    fn shard_challenge(&self) -> Option<ShardChallenge> {
        let Challenge { audit, seed, row, group, .. } = self.challenge;
        match row {
            Row::Shard { pack, generation, slot, drive, root, len } => Some(ShardChallenge {
                audit: audit.0,
                seed: seed.0,
                drive,
                pack,
                generation,
                shard: slot,
                root,
                len,
                group,
            }),
            Row::Chunk { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use stele_evidence::audit::challenge::{AuditId, Scope};
    use stele_evidence::keys::Signer;
    use stele_types::ids::{DriveId, PackId, ShardRoot};

    use super::*;
    use crate::tests::fake_storage::answer_signer;
    use crate::tests::{Cluster, cluster_on, small_config, storage_node};

    /// A question for group 2 of a shard on drive 1 of node 1, which holds it.
    async fn asked() -> (Cluster, Challenge) {
        let cluster = cluster_on(small_config(), "rs-1-1", 2, 2).await;
        let bytes = Bytes::from((0..60_000u32).map(|n| n.to_le_bytes()[0]).collect::<Vec<u8>>());
        let row = Row::Shard {
            pack: PackId::from_bytes([5; 32]),
            generation: 0,
            slot: 1,
            drive: DriveId::from_bytes([1; 16]),
            root: ShardRoot::from_bytes(*blake3::hash(&bytes).as_bytes()),
            len: 60_000,
        };
        let challenge =
            Challenge { audit: AuditId([1; 16]), seed: Seed([2; 32]), node: storage_node(1), row, group: 2 };
        let found = nothing();
        let question = Question { gw: &cluster.gw, challenge, key: key(1), found: &found, answer: None };
        cluster.storage.hold(&question.shard_challenge().unwrap(), bytes);
        (cluster, challenge)
    }

    fn key(node: u8) -> AnswerKey {
        AnswerKey::new(answer_signer(storage_node(node)).vkey().clone()).unwrap()
    }

    fn nothing() -> Found {
        Found {
            holders: Vec::new(),
            scope: Scope::Sample(1),
            next: None,
            objects: Default::default(),
            _charges: Vec::new(),
        }
    }

    async fn ends(cluster: &Cluster, challenge: Challenge, key: AnswerKey) -> (Verdict, u32, u64) {
        let found = nothing();
        let mut question = Question { gw: &cluster.gw, challenge, key, found: &found, answer: None };
        let progress = question.run().await.unwrap();
        (progress.verdict().unwrap(), progress.asks(), progress.latency_ms())
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_has_it_is_asked_once() {
        let (cluster, challenge) = asked().await;
        assert_eq!(ends(&cluster, challenge, key(1)).await, (Verdict::Ok, 1, 0));
        assert_eq!(ends(&cluster, challenge, key(0)).await.0, Verdict::Failed, "another node's key");
        let other = Challenge { seed: Seed([3; 32]), ..challenge };
        assert_eq!(ends(&cluster, other, key(1)).await.0, Verdict::Ok);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_there_or_wrong_fails_at_once() {
        let (cluster, challenge) = asked().await;
        cluster.storage.make_lie(DriveId::from_bytes([1; 16]));
        assert_eq!(ends(&cluster, challenge, key(1)).await, (Verdict::Failed, 1, 0));
        cluster.storage.kill(DriveId::from_bytes([1; 16]));
        assert_eq!(ends(&cluster, challenge, key(1)).await, (Verdict::Failed, 1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_takes_the_question_and_is_silent_is_asked_the_same_again() {
        let (cluster, challenge) = asked().await;
        cluster.storage.keep_silent(storage_node(1));
        let (verdict, asks, waited) = ends(&cluster, challenge, key(1)).await;
        assert_eq!((verdict, asks), (Verdict::Contained, DEADLINES.asks));
        let least = u64::from(DEADLINES.asks) * DEADLINES.answer_ms;
        assert!((least..least + 10_000).contains(&waited), "{waited} ms");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_is_away_is_not_blamed() {
        let (cluster, challenge) = asked().await;
        cluster.storage.hang(storage_node(1));
        let (verdict, asks, waited) = ends(&cluster, challenge, key(1)).await;
        assert_eq!((verdict, asks), (Verdict::Offline, DEADLINES.asks));
        assert!(waited < 20_000, "{waited} ms");
    }
}
