//! The state machine as a service, without raft and without an engine.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use stele_metadata::apply::{ApplyOptions, Batch};
use stele_metadata::keyspace::Tag;
use stele_metadata::kv::{KvError, KvRead, KvResult, KvTxn, Visit};
use stele_metadata::reads;
use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::{CommandEnvelope, MetaReply, MetaRequest};
use stele_rpc::transport::{Message, Reply, Request, Response, Service};
use stele_types::ids::NodeId;
use stele_types::seam::{Clock, UnixMillis};
use tokio::time::Instant;

/// Rows without an engine. Records of the evidence log are dropped: nothing here reads them.
#[derive(Debug, Default)]
struct Rows(BTreeMap<Vec<u8>, Vec<u8>>);

impl KvRead for Rows {
    fn get(&self, key: &[u8]) -> KvResult<Option<Vec<u8>>> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> KvResult<()> {
        if from >= to {
            return Ok(());
        }
        for (key, value) in self.0.range(from.to_vec()..to.to_vec()) {
            if let ControlFlow::Break(()) = visit(key, value) {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl KvTxn for Rows {
    fn put(&mut self, key: &[u8], value: &[u8]) -> KvResult<()> {
        if key.first() != Some(&(Tag::Record as u8)) {
            self.0.insert(key.to_vec(), value.to_vec());
        }
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> KvResult<()> {
        self.0.remove(key);
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct VirtualClock(Instant);

impl Clock for VirtualClock {
    fn unix_millis(&self) -> UnixMillis {
        1_760_000_000_000 + self.monotonic_micros() / 1000
    }

    fn monotonic_micros(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// The state machine as a service.
#[derive(Debug)]
pub(super) struct Metadata {
    rows: Mutex<Rows>,
    options: ApplyOptions,
    pub(super) clock: VirtualClock,
}

impl Metadata {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn new(options: ApplyOptions) -> Self {
        Self { rows: Mutex::default(), options, clock: VirtualClock(Instant::now()) }
    }

    pub(super) fn apply(&self, envelope: &CommandEnvelope) -> Result<MetaReply, RpcError> {
        let broken = |error: KvError| RpcError::new(Code::Internal, error.to_string());
        let mut rows = self.rows();
        let mut batch = Batch::begin(&mut *rows, self.options).map_err(broken)?;
        let answer = batch.apply(self.clock.unix_millis(), envelope).map_err(broken)?;
        batch.finish().map_err(broken)?;
        answer
    }
}

#[async_trait]
impl Service for Metadata {
    async fn serve(&self, _from: NodeId, request: Request) -> Result<Response, RpcError> {
        let Message::Meta(message) = request.message else {
            return Err(RpcError::new(Code::Malformed, "not for metadata"));
        };
        let reply = match &message {
            MetaRequest::Command(envelope) => self.apply(envelope)?,
            other => reads::read(&*self.rows(), other)?,
        };
        Ok(Response { reply: Reply::Meta(reply), body: Bytes::new() })
    }
}
