//! Appends and renames of the workload. Both name the ETag of a value that the client saw, so that it is
//! known which value comes out.

use futures::FutureExt as _;
use stele_s3_gateway::api::{AppendRequest, BodyRequest, EtagCondition, PutRequest, ReadConditions, RenameRequest};
use stele_s3_gateway::error::GatewayError;
use stele_s3_gateway::{append, rename};
use stele_types::object::{ETag, Lock, Precondition, StoredHeaders, Tags};

use crate::client::{Answer, Client, outcome};
use crate::env::{BUCKET, GatewayHandle};
use crate::history::Effect;
use crate::plan::KEYS;

fn parsed(text: &str) -> Option<ETag> {
    let (md5, parts) = text.split_once('-').unwrap_or((text, "0"));
    Some(ETag { md5: u128::from_str_radix(md5, 16).ok()?, parts: parts.parse().ok()? })
}

impl Client {
    pub(crate) async fn append(&self, gateway: &GatewayHandle) {
        let Some((key, seen)) = self.last_seen else { return };
        let Some(text) = self.env.values.etag_of(seen) else { return };
        let Some(etag) = parsed(&text) else { return };
        let offset = self.env.values.bytes(seen).len() as u64;
        let (new, bytes, _) = self.env.values.appended((seen, etag), self.rng.between(24, 6_000));
        let put = PutRequest {
            bucket: BUCKET.to_owned(),
            key: KEYS[key].to_owned(),
            body: BodyRequest::from_bytes(bytes),
            headers: StoredHeaders::default(),
            tags: Tags::default(),
            lock: Lock::default(),
            precondition: Precondition::Matches(vec![text]),
            origin: self.origin(),
        };
        let start = self.env.clock.micros();
        let effect = Effect::WriteIfMatch { seen, new };
        let token = self.begin(key, &format!("append at {offset}"), effect);
        let request = append::append_object(&gateway.gateway, AppendRequest { put, offset });
        let answer = self.ask(gateway, request.boxed()).await;
        self.note_commit(key, start, &answer);
        if let Answer::Failed(GatewayError::InvalidWriteOffset { .. }) = &answer {
            self.env
                .findings
                .add("I-3", format_args!("{:?} has the ETag of value {} and another length", KEYS[key], seen.0));
        }
        self.end_write(&token, &answer, effect, Some(Effect::RefusedMatch(seen)));
    }

    pub(crate) async fn rename(&self, gateway: &GatewayHandle, to: usize) {
        let Some((from, seen)) = self.last_seen.filter(|(from, _)| *from != to) else { return };
        let Some(etag) = self.env.values.etag_of(seen) else { return };
        let request = RenameRequest {
            bucket: BUCKET.to_owned(),
            source: KEYS[from].to_owned(),
            destination: KEYS[to].to_owned(),
            source_conditions: ReadConditions { if_match: Some(EtagCondition::Tags(vec![etag])), ..Default::default() },
            destination_conditions: ReadConditions::default(),
            token: self.rng.chance(500).then(|| format!("c{}-{}", self.id, self.rng.below(u64::MAX))),
            origin: self.origin(),
        };
        let start = self.env.clock.micros();
        let source = self.begin(from, "rename from", Effect::DeleteIfMatch(seen));
        let destination = self.begin(to, "rename to", Effect::Write(seen));
        let answer = self.ask(gateway, rename::rename_object(&gateway.gateway, request).boxed()).await;
        self.note_commit(to, start, &answer);
        let (now, history) = (self.env.clock.micros(), &self.env.history);
        match &answer {
            Answer::Failed(error @ (GatewayError::NoSuchKey { .. } | GatewayError::PreconditionFailed)) => {
                let shown = match error {
                    GatewayError::NoSuchKey { .. } => Effect::Read(None),
                    _ => Effect::RefusedMatch(seen),
                };
                history.done(&source, now, shown);
                history.void(&destination);
                self.env.trace.line(format_args!("c{} {}", self.id, outcome(&answer)));
            }
            _ => {
                self.end_write(&source, &answer, Effect::DeleteIfMatch(seen), None);
                self.end_write(&destination, &answer, Effect::Write(seen), None);
            }
        }
    }
}
