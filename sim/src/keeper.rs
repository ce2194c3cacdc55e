//! The keeper: a client that puts versions under retention and legal hold in a bucket of its own, and keeps
//! trying to get rid of them (I-6). What it was told to be kept must be there until its date, whatever
//! else happens.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use stele_rpc::meta::VersionSelector;
use stele_s3_gateway::api::{BodyRequest, DeleteOne, DeleteRequest, GetRequest, PutRequest, VersionRef};
use stele_s3_gateway::error::GatewayError;
use stele_s3_gateway::lock::{NewRetention, put_retention};
use stele_s3_gateway::{bucket, delete, get, put};
use stele_types::ids::VersionId;
use stele_types::object::{Lock, Precondition, Retention, RetentionMode, StoredHeaders, Tags};
use stele_types::seam::UnixMillis;

use crate::client::{Answer, Client, outcome};
use crate::env::{Env, GatewayHandle};
use crate::evidence_log::CLOCK_SLACK;
use crate::runtime::EPOCH_UNIX_MILLIS;

/// The bucket that only the keeper uses.
pub(crate) const VAULT: &str = "vault";
const KEYS: [&str; 3] = ["kept/a", "kept/b", "kept/c"];
/// Past the end of every run.
const LONG: UnixMillis = 24 * 60 * 60 * 1000;
/// How often a version is looked for after a failure.
const LOOKS: u32 = 40;

/// A version that the keeper was told of.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    key: String,
    id: VersionId,
    /// Kept in compliance mode at least until then.
    until: UnixMillis,
    /// Under a legal hold that nobody takes off.
    held: bool,
    /// It was told to be removed.
    gone: bool,
}

impl Kept {
    /// It can't have been removed by now, whatever a clock says that may lead.
    fn must_be_there(&self, now: UnixMillis) -> bool {
        !self.gone && (self.held || now + CLOCK_SLACK < self.until)
    }

    fn at(&self) -> VersionRef {
        VersionRef { bucket: VAULT.to_owned(), key: self.key.clone(), version: VersionSelector::Id(self.id) }
    }
}

fn now(env: &Env) -> UnixMillis {
    EPOCH_UNIX_MILLIS + env.clock.micros() / 1000
}

impl Client {
    /// Works until its operations are done.
    pub(crate) async fn keep(self, operations: u32) {
        let mut made = false;
        for _ in 0..operations {
            tokio::time::sleep(Duration::from_millis(self.rng.between(20, 700))).await;
            let Some(gateway) = self.env.gateways.pick(&self.rng) else { continue };
            if !made {
                let create = bucket::create_bucket(&gateway.gateway, VAULT, true, self.origin()).boxed();
                let answer = self.ask(&gateway, create).await;
                made = matches!(answer, Answer::Ok(_) | Answer::Failed(GatewayError::BucketAlreadyOwned));
                self.env.trace.line(format_args!("keeper create {}", outcome(&answer)));
                continue;
            }
            match (self.rng.below(10), self.one_kept()) {
                (0..4, _) | (_, None) => self.put_kept(&gateway).await,
                (4..6, Some((at, kept))) => self.retain(&gateway, at, kept).await,
                (_, Some((at, kept))) => self.remove(&gateway, at, &kept).await,
            }
        }
    }

    fn one_kept(&self) -> Option<(usize, Kept)> {
        let kept = self.env.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.rng.index(kept.len());
        kept.get(at).map(|one| (at, one.clone()))
    }

    fn change(&self, at: usize, change: impl FnOnce(&mut Kept)) {
        let mut kept = self.env.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(one) = kept.get_mut(at) {
            change(one);
        }
    }

    async fn put_kept(&self, gateway: &GatewayHandle) {
        let ahead = if self.rng.chance(500) { LONG } else { self.rng.between(4_000, 9_000) };
        let until = now(&self.env) + ahead;
        let held = self.rng.chance(200);
        let key = *self.rng.pick(&KEYS);
        let request = PutRequest {
            bucket: VAULT.to_owned(),
            key: key.to_owned(),
            body: BodyRequest::from_bytes(bytes::Bytes::from(format!("{key} until {until}"))),
            headers: StoredHeaders::default(),
            tags: Tags::default(),
            lock: Lock {
                retention: Some(Retention { mode: RetentionMode::Compliance, until }),
                legal_hold: held.then_some(true),
            },
            precondition: Precondition::None,
            origin: self.origin(),
        };
        let answer = self.ask(gateway, put::put_object(&gateway.gateway, request).boxed()).await;
        self.env.trace.line(format_args!("keeper put {key:?} until {until}: {}", outcome(&answer)));
        if let Answer::Ok(committed) = answer {
            let kept = Kept { key: key.to_owned(), id: committed.id, until, held, gone: false };
            self.env.kept.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
        }
    }

    /// Extends a retention, or tries what must be refused: to shorten it.
    async fn retain(&self, gateway: &GatewayHandle, at: usize, kept: Kept) {
        let shorter = self.rng.chance(500);
        let until = if shorter { kept.until - 500 } else { kept.until + self.rng.below(4_000) };
        let new = NewRetention {
            retention: Some(Retention { mode: RetentionMode::Compliance, until }),
            bypass_governance: true,
        };
        let place = kept.at();
        let answer = self.ask(gateway, put_retention(&gateway.gateway, &place, new, self.origin()).boxed()).await;
        self.env.trace.line(format_args!("keeper retain {} until {until}: {}", kept.id, outcome(&answer)));
        if matches!(answer, Answer::Ok(_)) {
            if shorter && now(&self.env) + CLOCK_SLACK < kept.until {
                self.env.findings.add("I-6", format_args!("{kept:?} was shortened to {until}"));
            }
            self.change(at, |kept| kept.until = until);
        }
    }

    async fn remove(&self, gateway: &GatewayHandle, at: usize, kept: &Kept) {
        let VersionRef { key, version, .. } = kept.at();
        let request = DeleteRequest {
            bucket: VAULT.to_owned(),
            items: vec![DeleteOne { key, version, precondition: Precondition::None }],
            bypass_governance: true,
            origin: self.origin(),
        };
        let answer = self.ask(gateway, delete::delete_objects(&gateway.gateway, request).boxed()).await;
        self.env.trace.line(format_args!("keeper remove {}: {}", kept.id, outcome(&answer)));
        let Answer::Ok(mut outcomes) = answer else { return };
        if let Some(Ok(deleted)) = outcomes.pop() {
            // Removed now, or not found because an attempt without an answer had removed it.
            if kept.must_be_there(now(&self.env)) {
                self.env.findings.add("I-6", format_args!("{kept:?} is gone: {deleted:?}"));
            }
            self.change(at, |kept| kept.gone = true);
        }
    }
}

/// Looks for everything that must still be there.
pub(crate) async fn verify_kept(env: &Arc<Env>, gateway: &GatewayHandle, when: &str) {
    let all = env.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for kept in all {
        let mut last = String::new();
        for _ in 0..LOOKS {
            let request = GetRequest { version: VersionSelector::Id(kept.id), ..GetRequest::current(VAULT, &kept.key) };
            match get::head_object(&gateway.gateway, request).await {
                Ok(_) => {
                    last.clear();
                    break;
                }
                Err(error) => last = error.to_string(),
            }
            if !kept.must_be_there(now(env)) {
                last.clear();
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        if !last.is_empty() {
            env.findings.add("I-6", format_args!("{when}: {kept:?} is not there: {last}"));
        }
    }
}
