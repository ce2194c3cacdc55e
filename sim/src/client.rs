//! One client of the workload: draws operations, sends them to a gateway, writes down what it saw.
//!
//! Bytes are compared as they come; the order of operations is judged later, from the history.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use stele_rpc::meta::{Committed, Origin, VersionSelector};
use stele_s3_gateway::api::{DeleteOne, DeleteRequest, PutRequest};
use stele_s3_gateway::error::GatewayError;
use stele_s3_gateway::{delete, put};
use stele_types::ids::NodeId;
use stele_types::object::{Precondition, StoredHeaders, Tags};

use crate::body::body;
use crate::content::ValueId;
use crate::env::{BUCKET, Commit, Env, GatewayHandle};
use crate::history::{Effect, OpToken};
use crate::plan::{KEYS, Workload};
use crate::seed::SimRng;

/// Longest wait for one answer; every patience inside the store is far shorter.
const PATIENCE: Duration = Duration::from_secs(60);

/// Kinds of operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// PUT.
    Put,
    /// GET of a whole object.
    Get,
    /// GET of a range.
    GetRange,
    /// HEAD.
    Head,
    /// DELETE of one key, or of two in one request.
    Delete,
    /// A multipart upload, completed or aborted.
    Multipart,
    /// A listing to its end, in pages.
    List,
    /// PUT with If-None-Match: *.
    PutIfAbsent,
    /// PUT with If-Match.
    PutIfMatch,
}

impl Kind {
    /// All, in the order of [`Workload::weights`].
    pub const ALL: [Self; 9] = [
        Self::Put,
        Self::Get,
        Self::GetRange,
        Self::Head,
        Self::Delete,
        Self::Multipart,
        Self::List,
        Self::PutIfAbsent,
        Self::PutIfMatch,
    ];
}

/// How a request ended, as its client sees it.
#[derive(Debug)]
pub enum Answer<T> {
    /// Success.
    Ok(T),
    /// Refused, or failed with a known error.
    Failed(GatewayError),
    /// The connection broke, or the client gave up.
    Lost,
}

/// One client.
#[derive(Debug)]
pub struct Client {
    /// Its number.
    pub id: u32,
    /// Its randomness.
    pub rng: SimRng,
    /// What all clients share.
    pub env: Arc<Env>,
    /// How it behaves.
    pub workload: Workload,
    /// A value it saw lately, for If-Match.
    pub last_seen: Option<(usize, ValueId)>,
}

impl Client {
    /// A client that saw nothing yet.
    pub fn new(id: u32, rng: SimRng, env: Arc<Env>, workload: Workload) -> Self {
        Self { id, rng, env, workload, last_seen: None }
    }

    /// Works until its operations are done.
    pub async fn run(mut self, operations: u32) {
        for _ in 0..operations {
            let think = u64::try_from(self.workload.think.as_micros()).unwrap_or(0);
            tokio::time::sleep(Duration::from_micros(self.rng.below(think))).await;
            let Some(gateway) = self.env.gateways.pick(&self.rng) else { continue };
            let kind = self.draw_kind();
            let key = self.rng.index(self.workload.keys);
            match kind {
                Kind::Put => self.put(&gateway, key, Precondition::None).await,
                Kind::PutIfAbsent => self.put(&gateway, key, Precondition::Absent).await,
                Kind::PutIfMatch => self.put_if_match(&gateway, key).await,
                Kind::Get => self.get(&gateway, key, None).await,
                Kind::GetRange => {
                    let range = self.draw_range();
                    self.get(&gateway, key, Some(range)).await;
                }
                Kind::Head => self.head(&gateway, key).await,
                Kind::Delete => self.delete(&gateway, key).await,
                Kind::Multipart => self.multipart(&gateway, key).await,
                Kind::List => self.list(&gateway).await,
            }
        }
    }

    fn draw_kind(&self) -> Kind {
        let total: u32 = self.workload.weights.iter().sum();
        let mut draw = u32::try_from(self.rng.below(u64::from(total))).unwrap_or(0);
        for (kind, weight) in Kind::ALL.into_iter().zip(self.workload.weights) {
            if draw < weight {
                return kind;
            }
            draw -= weight;
        }
        Kind::Get
    }

    /// Bytes of a new value: mostly small, rarely of several chunks and packs.
    pub(crate) fn draw_len(&self) -> u64 {
        match self.rng.below(20) {
            0 => 24,
            1..=12 => self.rng.between(24, 6_000),
            13..=17 => self.rng.between(6_000, 80_000),
            18 => self.rng.between(200_000, 700_000),
            _ if self.env.take_large() => self.rng.between(3_000_000, 9_500_000),
            _ => self.rng.between(24, 6_000),
        }
    }

    /// Who asks.
    pub(crate) fn origin(&self) -> Origin {
        Origin { principal: format!("client-{}", self.id), source: String::new(), node: NodeId(0) }
    }

    /// Waits for an answer, unless the gateway dies or the client gives up.
    pub(crate) async fn ask<T>(
        &self,
        gateway: &GatewayHandle,
        request: BoxFuture<'_, Result<T, GatewayError>>,
    ) -> Answer<T> {
        let patience = if self.rng.chance(self.workload.give_up) {
            Duration::from_micros(self.rng.below(60_000))
        } else {
            PATIENCE
        };
        let mut killed = gateway.killed.clone();
        tokio::select! {
            biased;
            answer = request => match answer {
                Ok(answer) => Answer::Ok(answer),
                Err(error) => Answer::Failed(error),
            },
            _ = killed.wait_for(|killed| *killed) => Answer::Lost,
            () = tokio::time::sleep(patience) => {
                if patience == PATIENCE {
                    self.env.findings.add("LIVENESS", format_args!("c{} got no answer within 60 s", self.id));
                }
                Answer::Lost
            }
        }
    }

    pub(crate) fn begin(&self, key: usize, what: &str, effect: Effect) -> OpToken {
        let now = self.env.clock.micros();
        self.env.trace.line(format_args!("c{} {what} {:?} {effect:?}", self.id, KEYS[key]));
        self.env.history.begin(KEYS[key], self.id, now, effect)
    }

    /// Writes down how a write ended. `refused` is what a failed precondition shows.
    pub(crate) fn end_write<T>(&self, token: &OpToken, answer: &Answer<T>, effect: Effect, refused: Option<Effect>) {
        let (now, history) = (self.env.clock.micros(), &self.env.history);
        match (answer, refused) {
            (Answer::Ok(_), _) => {
                history.done(token, now, effect);
                self.env.acknowledged.send_modify(|count| *count += 1);
            }
            (Answer::Failed(GatewayError::PreconditionFailed | GatewayError::PreconditionNoKey), Some(shown)) => {
                history.done(token, now, shown);
            }
            (Answer::Failed(error), _) if had_no_effect(error) => history.void(token),
            (Answer::Failed(_) | Answer::Lost, _) => {}
        }
        self.env.trace.line(format_args!("c{} {}", self.id, outcome(answer)));
    }

    async fn put(&self, gateway: &GatewayHandle, key: usize, precondition: Precondition) {
        let (value, bytes, _) = self.env.values.single(self.draw_len());
        let (effect, refused) = match precondition {
            Precondition::Absent => (Effect::WriteIfAbsent(value), Some(Effect::RefusedPresent)),
            _ => (Effect::Write(value), None),
        };
        self.put_value(gateway, key, bytes, (precondition, effect, refused)).await;
    }

    async fn put_if_match(&self, gateway: &GatewayHandle, key: usize) {
        let Some((key, seen)) = self.last_seen.filter(|(k, _)| *k == key || self.rng.chance(500)) else {
            return self.put(gateway, key, Precondition::Absent).await;
        };
        let Some(etag) = self.env.values.etag_of(seen) else { return };
        let (new, bytes, _) = self.env.values.single(self.draw_len());
        let effect = Effect::WriteIfMatch { seen, new };
        let refused = Some(Effect::RefusedMatch(seen));
        self.put_value(gateway, key, bytes, (Precondition::Matches(vec![etag]), effect, refused)).await;
    }

    async fn put_value(
        &self,
        gateway: &GatewayHandle,
        key: usize,
        bytes: bytes::Bytes,
        (precondition, effect, refused): (Precondition, Effect, Option<Effect>),
    ) {
        let len = bytes.len();
        let (body, spoiled) = body(&self.rng, bytes, self.rng.chance(self.workload.slow_body));
        let request = PutRequest {
            bucket: BUCKET.to_owned(),
            key: KEYS[key].to_owned(),
            body,
            headers: StoredHeaders::default(),
            tags: Tags::default(),
            precondition,
            origin: self.origin(),
        };
        let start = self.env.clock.micros();
        let token = self.begin(key, &format!("put {len}{}", if spoiled { " spoiled" } else { "" }), effect);
        let answer = self.ask(gateway, put::put_object(&gateway.gateway, request).boxed()).await;
        if spoiled {
            if let Answer::Ok(_) = &answer {
                self.env
                    .findings
                    .add("I-2", format_args!("c{}: a body that differs from its digest was stored", self.id));
            }
            self.env.history.void(&token);
            self.env.trace.line(format_args!("c{} {}", self.id, outcome(&answer)));
            return;
        }
        self.note_commit(key, start, &answer);
        self.end_write(&token, &answer, effect, refused);
    }

    /// Remembers what a client was told of its commit.
    pub(crate) fn note_commit(&self, key: usize, start: u64, answer: &Answer<Committed>) {
        if let Answer::Ok(committed) = answer {
            let between = (start, self.env.clock.micros());
            let commit =
                Commit { key: KEYS[key].to_owned(), id: committed.id, log_index: committed.log_index, between };
            self.env.note_commit(commit);
        }
    }

    async fn delete(&self, gateway: &GatewayHandle, key: usize) {
        let mut keys = vec![key];
        let other = self.rng.index(self.workload.keys);
        if self.rng.chance(250) && other != key {
            keys.push(other);
        }
        let item = |key: &usize| DeleteOne {
            key: KEYS[*key].to_owned(),
            version: VersionSelector::Current,
            precondition: Precondition::None,
        };
        let request =
            DeleteRequest { bucket: BUCKET.to_owned(), items: keys.iter().map(item).collect(), origin: self.origin() };
        let tokens: Vec<OpToken> = keys.iter().map(|key| self.begin(*key, "delete", Effect::Delete)).collect();
        match self.ask(gateway, delete::delete_objects(&gateway.gateway, request).boxed()).await {
            Answer::Ok(outcomes) => {
                for (token, outcome) in tokens.iter().zip(outcomes) {
                    let answer = match outcome {
                        Ok(deleted) => Answer::Ok(deleted),
                        Err(error) => Answer::Failed(error),
                    };
                    self.end_write(token, &answer, Effect::Delete, None);
                }
            }
            Answer::Failed(error) => {
                let answer: Answer<()> = Answer::Failed(error);
                tokens.iter().for_each(|token| self.end_write(token, &answer, Effect::Delete, None));
            }
            Answer::Lost => self.env.trace.line(format_args!("c{} lost", self.id)),
        }
    }
}

/// The write certainly did not and will not take effect.
pub(crate) fn had_no_effect(error: &GatewayError) -> bool {
    matches!(
        error,
        GatewayError::NoSuchBucket { .. }
            | GatewayError::PreconditionFailed
            | GatewayError::PreconditionNoKey
            | GatewayError::DigestMismatch { .. }
            | GatewayError::BodyTooShort { .. }
            | GatewayError::BodyTooLong { .. }
            | GatewayError::BodyFailed(_)
            | GatewayError::DrivesMissing { .. }
            | GatewayError::StoreFull { .. }
            | GatewayError::NoSuchUpload
            | GatewayError::InvalidPart { .. }
    )
}

/// One word for the trace, and the error's text.
pub(crate) fn outcome<T>(answer: &Answer<T>) -> String {
    match answer {
        Answer::Ok(_) => "ok".to_owned(),
        Answer::Failed(error) => format!("failed: {error}"),
        Answer::Lost => "lost".to_owned(),
    }
}
