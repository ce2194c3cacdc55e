//! Reads everything after the faults ended: what was acknowledged must be there, whole.
//!
//! Unlike a client of the workload this one has no excuse left: every key must be answered, with bytes
//! or as missing. What it sees goes into the history, where it must fit.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use stele_rpc::meta::ListQuery;
use stele_s3_gateway::api::GetRequest;
use stele_s3_gateway::error::GatewayError;
use stele_s3_gateway::{get, list};

use crate::client::Client;
use crate::env::{BUCKET, Env, GatewayHandle};
use crate::history::Effect;
use crate::plan::KEYS;

/// Attempts before a key counts as unreadable; with the pauses about 40 s.
const ATTEMPTS: u32 = 12;

/// Reads every key and lists all of them. `when` says which verification this is.
pub async fn verify(reader: &Client, gateway: &GatewayHandle, when: &str) {
    for key in 0..reader.workload.keys {
        read_key(reader, gateway, key, when).await;
    }
    list_all(reader, gateway, when).await;
}

async fn read_key(reader: &Client, gateway: &GatewayHandle, key: usize, when: &str) {
    let env = &reader.env;
    let mut last = String::new();
    for attempt in 0..ATTEMPTS {
        let start = env.clock.micros();
        match read_once(env, gateway, KEYS[key]).await {
            Ok(value) => {
                let effect = Effect::Read(value);
                env.trace.line(format_args!("{when}: {:?} is {effect:?}", KEYS[key]));
                env.history.observe(KEYS[key], reader.id, (start, env.clock.micros()), effect);
                return;
            }
            Err(error) => {
                env.trace.line(format_args!("{when}: {:?} attempt {attempt}: {error}", KEYS[key]));
                last = error;
            }
        }
        tokio::time::sleep(Duration::from_millis(u64::from(attempt + 1) * 500)).await;
    }
    env.findings.add("I-1", format_args!("{when}: {:?} can't be read: {last}", KEYS[key]));
}

/// The value of a key, read to its last byte.
async fn read_once(
    env: &Arc<Env>,
    gateway: &GatewayHandle,
    key: &str,
) -> Result<Option<crate::content::ValueId>, String> {
    let reply = match get::get_object(&gateway.gateway, GetRequest::current(BUCKET, key)).await {
        Ok(reply) => reply,
        Err(GatewayError::NoSuchKey { .. }) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let etag = reply.head.version.attributes.etag.to_string();
    let mut body = reply.body;
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(&piece.map_err(|error| error.to_string())?);
    }
    let Some(value) = env.values.by_etag(&etag) else {
        env.findings.add("I-2", format_args!("{key:?} has an ETag that nobody wrote: {etag}"));
        return Err("foreign ETag".to_owned());
    };
    if env.values.bytes(value) != bytes {
        env.findings.add("I-2", format_args!("{key:?} value {}: the bytes are not those written", value.0));
    }
    Ok(Some(value))
}

async fn list_all(reader: &Client, gateway: &GatewayHandle, when: &str) {
    let env = &reader.env;
    let query = ListQuery { max: 1000, ..ListQuery::default() };
    let start = env.clock.micros();
    match list::list_keys(&gateway.gateway, BUCKET, query).await {
        Ok(page) => {
            for key in KEYS {
                let row = page.rows.iter().find(|row| row.key == key);
                let value = row.and_then(|row| env.values.by_etag(&row.etag));
                env.history.observe(key, reader.id, (start, env.clock.micros()), Effect::Read(value));
            }
        }
        Err(error) => env.findings.add("I-7", format_args!("{when}: the bucket can't be listed: {error}")),
    }
}
