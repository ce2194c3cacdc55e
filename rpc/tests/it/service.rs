//! A service that does what the name of the bucket asked for says, and counts what it saw.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::MetaRequest;
use stele_rpc::storage::{StorageReply, StorageRequest};
use stele_rpc::transport::{Class, Message, Reply, Request, Response, Service};
use stele_types::ids::{NodeId, PgEpoch, PgId};
use stele_types::map::PgRow;
use tokio::sync::watch;

/// What a [`Probe`] saw.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) started: usize,
    pub(crate) dropped: usize,
}

/// `echo` returns the body, `hang` never answers, `gate` answers once opened, others are errors.
pub(crate) struct Probe {
    seen: watch::Sender<Seen>,
    gate: watch::Sender<bool>,
}

struct Started<'a>(&'a Probe);

impl Drop for Started<'_> {
    fn drop(&mut self) {
        self.0.seen.send_modify(|seen| seen.dropped += 1);
    }
}

impl Probe {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { seen: watch::Sender::new(Seen::default()), gate: watch::Sender::new(false) })
    }

    pub(crate) fn seen(&self) -> Seen {
        *self.seen.borrow()
    }

    pub(crate) async fn wait(&self, reached: impl FnMut(&Seen) -> bool) {
        self.seen.subscribe().wait_for(reached).await.unwrap();
    }

    pub(crate) fn open_gate(&self) {
        self.gate.send_replace(true);
    }
}

pub(crate) fn newer_row() -> PgRow {
    PgRow { id: PgId(3), epoch: PgEpoch(9), scheme: "rs-1-2".parse().unwrap(), slots: vec![] }
}

#[async_trait]
impl Service for Probe {
    async fn serve(&self, from: NodeId, request: Request) -> Result<Response, RpcError> {
        self.seen.send_modify(|seen| seen.started += 1);
        let started = Started(self);
        let name = match request.message {
            Message::Meta(MetaRequest::Bucket { name }) => name,
            Message::Storage(StorageRequest::Drives) => "echo".to_owned(),
            _ => "unexpected".to_owned(),
        };
        let answer = match name.as_str() {
            "echo" => Ok(request.body),
            "who" => Ok(Bytes::from(from.to_string())),
            "hang" => std::future::pending().await,
            "gate" => {
                self.gate.subscribe().wait_for(|open| *open).await.unwrap();
                Ok(request.body)
            }
            "stale" => {
                let newer_pg = Some(Box::new(newer_row()));
                Err(RpcError { newer_pg, ..RpcError::new(Code::StalePg, "the PG moved") })
            }
            "busy" => Err(RpcError::new(Code::Busy, "the queue is full")),
            "huge" => Ok(Bytes::from(vec![0; stele_types::limits::RPC_BODY_BYTES_MAX + 1])),
            _ => Err(RpcError::new(Code::Internal, name)),
        };
        drop(started);
        answer.map(|body| Response { reply: Reply::Storage(StorageReply::Bytes), body })
    }
}

/// A request that makes the probe do `name`.
pub(crate) fn ask(name: &str, body: impl Into<Bytes>) -> Request {
    Request {
        message: Message::Meta(MetaRequest::Bucket { name: name.to_owned() }),
        body: body.into(),
        timeout: Duration::from_secs(60),
        class: Class::Foreground,
    }
}
