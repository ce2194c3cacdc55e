//! One client of a run: draws an operation, does it, notes what happened.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;

use super::Plan;
use super::mix::{Op, draw_len};
use super::report::Tally;
use super::verify::{GENERATION_HEADER, ReadEnd, Want, read};
use crate::content::Content;
use crate::ledger::history::{Effect, Outcome, Seen};
use crate::s3::connection::CallError;
use crate::s3::payload::Payload;
use crate::s3::{Answer, Call, S3, xml};

/// Pause before the next try, once the server can't be reached.
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(50);
/// All parts of a multipart upload but the last; the smallest S3 allows.
const PART_BYTES: u64 = 5 << 20;
/// Body pieces, so that a large body needs no contiguous buffer.
const PIECE_BYTES: u64 = 1 << 20;

/// A client with its connection and keys.
pub(crate) struct Client {
    id: u32,
    s3: S3,
    plan: Arc<Plan>,
    rng: ChaCha8Rng,
    tally: Tally,
    /// Per key slot, the incarnation in use: a key whose state became unknown is never written again.
    incarnations: Vec<u32>,
}

impl Client {
    pub(crate) fn new(id: u32, s3: S3, plan: Arc<Plan>) -> Self {
        // A continued ledger goes on with other operations than it began with.
        let stream = u64::from(id) ^ plan.ledger.acked().rotate_left(32);
        let mut rng = ChaCha8Rng::seed_from_u64(plan.ledger.origin.seed);
        rng.set_stream(stream);
        let incarnations = vec![0; plan.keys.max(1) as usize];
        Self { id, s3, plan, rng, tally: Tally::default(), incarnations }
    }

    /// Works until the plan says stop.
    pub(crate) async fn drive(mut self) -> Tally {
        while self.plan.next_operation() {
            let op = self.plan.mix.draw(&mut self.rng);
            let started = Instant::now();
            let outcome = match op {
                Op::Put => self.put().await,
                Op::Multipart => self.multipart().await,
                Op::Delete => self.delete().await,
                Op::Get => self.get().await,
                Op::Head => self.head().await,
                Op::List => self.list().await,
            };
            let reached = self.note(op, outcome, started.elapsed());
            if !reached {
                tokio::time::sleep(UNREACHABLE_PAUSE).await;
            }
        }
        self.tally
    }

    /// Counts an outcome; `false` if the server was not reached.
    fn note(&mut self, op: Op, outcome: Result<u64, Trouble>, took: Duration) -> bool {
        match outcome {
            Ok(bytes) => self.tally.done(op, bytes, took),
            Err(Trouble::Answered(text) | Trouble::Call(CallError::Unknown(text))) => self.tally.error(op, text),
            Err(Trouble::Call(CallError::NotSent(_))) => {
                self.tally.unreachable();
                self.plan.stop.fetch_or(self.plan.stop_when_unreachable, Ordering::Relaxed);
                return false;
            }
        }
        true
    }

    fn key(&self, client: u32, slot: usize, incarnation: u32) -> String {
        format!("{}c{client:03}/k{slot:05}.{incarnation}", self.plan.ledger.origin.prefix)
    }

    /// A key of this client whose state is certain, and that state.
    fn own_key(&mut self) -> (String, Seen) {
        let slot = self.rng.random_range(0..self.incarnations.len());
        loop {
            let key = self.key(self.id, slot, self.incarnations[slot]);
            if let Some(state) = self.plan.ledger.history(&key).certain() {
                return (key, state);
            }
            self.incarnations[slot] += 1;
        }
    }

    fn settle(&mut self, key: &str, generation: u64, result: &Result<Answer, CallError>) {
        let outcome = match result {
            Ok(answer) if answer.status.is_success() => Outcome::Acked,
            Ok(answer) if answer.status.is_client_error() => Outcome::Failed,
            Err(CallError::NotSent(_)) => Outcome::Failed,
            // A server error does not promise that nothing happened.
            Ok(_) | Err(CallError::Unknown(_)) => Outcome::Open,
        };
        if outcome == Outcome::Open {
            self.tally.unknown();
        }
        self.plan.ledger.settle(key, generation, outcome);
    }

    async fn put(&mut self) -> Result<u64, Trouble> {
        let (key, _) = self.own_key();
        let len = draw_len(&self.plan.sizes, &mut self.rng);
        let generation = self.plan.ledger.begin(&key, Effect::Put(len));
        let tag = generation.to_string();
        let content = Content::new(self.plan.ledger.origin.seed, &key, generation);
        let call = Call {
            method: Method::PUT,
            key: &key,
            headers: &[(GENERATION_HEADER, &tag)],
            payload: payload(content, 0, len),
            ..Call::default()
        };
        let result = self.s3.call(call).await;
        self.settle(&key, generation, &result);
        success(result).map(|_| len)
    }

    async fn delete(&mut self) -> Result<u64, Trouble> {
        let (key, _) = self.own_key();
        let generation = self.plan.ledger.begin(&key, Effect::Delete);
        let result = self.s3.call(Call { method: Method::DELETE, key: &key, ..Call::default() }).await;
        self.settle(&key, generation, &result);
        success(result).map(|_| 0)
    }

    async fn multipart(&mut self) -> Result<u64, Trouble> {
        let (key, _) = self.own_key();
        let tail = self.rng.random_range(1..=PIECE_BYTES);
        let len = PART_BYTES + tail;
        let generation = self.plan.ledger.begin(&key, Effect::Put(len));
        let prepared = self.upload_parts(&key, generation, len).await;
        let (upload, list) = match prepared {
            Ok(prepared) => prepared,
            Err(trouble) => {
                // Nothing is visible before Complete is sent.
                self.plan.ledger.settle(&key, generation, Outcome::Failed);
                return Err(trouble);
            }
        };
        let call = Call {
            method: Method::POST,
            key: &key,
            query: &[("uploadId", &upload)],
            payload: Payload::new([Bytes::from(list)]),
            ..Call::default()
        };
        let mut result = self.s3.call(call).await;
        if let Ok(answer) = &mut result
            && answer.status.is_success()
            && !String::from_utf8_lossy(&answer.body).contains("<CompleteMultipartUploadResult")
        {
            // S3 answers 200 early and puts a late error into the body.
            answer.status = http::StatusCode::INTERNAL_SERVER_ERROR;
        }
        self.settle(&key, generation, &result);
        success(result).map(|_| len)
    }

    /// Creates an upload and its two parts; returns the upload id and the body of Complete.
    async fn upload_parts(&mut self, key: &str, generation: u64, len: u64) -> Result<(String, String), Trouble> {
        let tag = generation.to_string();
        let call = Call {
            method: Method::POST,
            key,
            query: &[("uploads", "")],
            headers: &[(GENERATION_HEADER, &tag)],
            ..Call::default()
        };
        let created = success(self.s3.call(call).await)?;
        let upload = xml::text(&String::from_utf8_lossy(&created.body), "UploadId")
            .ok_or_else(|| Trouble::Answered("no UploadId".into()))?;
        let content = Content::new(self.plan.ledger.origin.seed, key, generation);
        let mut list = String::from("<CompleteMultipartUpload>");
        for (number, (offset, part_len)) in [(0, PART_BYTES), (PART_BYTES, len - PART_BYTES)].into_iter().enumerate() {
            let number = (number + 1).to_string();
            let call = Call {
                method: Method::PUT,
                key,
                query: &[("partNumber", &number), ("uploadId", &upload)],
                payload: payload(content, offset, part_len),
                ..Call::default()
            };
            let stored = success(self.s3.call(call).await)?;
            let etag = stored.header("etag").ok_or_else(|| Trouble::Answered("part without ETag".into()))?;
            let etag = etag.replace('"', "&quot;");
            list.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"));
        }
        list.push_str("</CompleteMultipartUpload>");
        Ok((upload, list))
    }

    async fn get(&mut self) -> Result<u64, Trouble> {
        // A quarter of the reads go to keys that another client may be writing right now.
        if self.rng.random_ratio(1, 4) {
            let client = self.rng.random_range(0..self.plan.clients);
            let slot = self.rng.random_range(0..self.incarnations.len());
            let key = self.key(client, slot, 0);
            return self.read(&key, Want::Whole).await;
        }
        let (key, state) = self.own_key();
        let want = match state {
            Seen::Object { len, .. } if len > 0 && self.rng.random_ratio(1, 3) => {
                let offset = self.rng.random_range(0..len);
                let longest = (len - offset).min(self.rng.random_range(1..=2 * PIECE_BYTES));
                Want::Range { offset, len: self.rng.random_range(1..=longest) }
            }
            _ => Want::Whole,
        };
        self.read(&key, want).await
    }

    async fn head(&mut self) -> Result<u64, Trouble> {
        let (key, _) = self.own_key();
        self.read(&key, Want::Head).await
    }

    async fn read(&mut self, key: &str, want: Want) -> Result<u64, Trouble> {
        match read(&mut self.s3, &self.plan.ledger, key, want, &mut self.tally.verdict).await {
            ReadEnd::Answered(bytes) => Ok(bytes),
            ReadEnd::Error(text) => Err(Trouble::Answered(format!("{key}: {text}"))),
            ReadEnd::Failed(e) => Err(Trouble::Call(e)),
        }
    }

    /// Lists this client's keys, which nobody else writes, and compares all of them.
    async fn list(&mut self) -> Result<u64, Trouble> {
        let prefix = format!("{}c{:03}/", self.plan.ledger.origin.prefix, self.id);
        let rows = self.s3.list_all(&prefix).await.map_err(Trouble::Answered)?;
        let verdict = &mut self.tally.verdict;
        verdict.verified_reads += 1;
        if !rows.windows(2).all(|pair| pair[0].key < pair[1].key) {
            verdict.mismatch(format!("{prefix}: listing is not in order, or repeats a key"));
        }
        let listed: BTreeMap<_, _> = rows.into_iter().map(|row| (row.key, row.size)).collect();
        for (key, history) in self.plan.ledger.keys(&prefix) {
            let expected = match history.certain() {
                None => continue,
                Some(Seen::Nothing) => None,
                Some(Seen::Object { len, .. }) => Some(len),
            };
            if listed.get(&key).copied() != expected {
                verdict.mismatch(format!("{key}: listed as {:?}, expected {expected:?}", listed.get(&key)));
            }
        }
        Ok(0)
    }
}

/// Why an operation did not succeed.
#[derive(Debug)]
enum Trouble {
    /// The server said so.
    Answered(String),
    /// There was no answer.
    Call(CallError),
}

fn success(result: Result<Answer, CallError>) -> Result<Answer, Trouble> {
    match result {
        Ok(answer) if answer.status.is_success() => Ok(answer),
        Ok(answer) => Err(Trouble::Answered(answer.describe())),
        Err(e) => Err(Trouble::Call(e)),
    }
}

fn payload(content: Content, offset: u64, len: u64) -> Payload {
    let pieces = (0..len).step_by(PIECE_BYTES as usize).map(|at| {
        let piece = PIECE_BYTES.min(len - at);
        content.bytes(offset + at, piece as usize)
    });
    Payload::new(pieces)
}
