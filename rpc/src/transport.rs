//! Requests and responses, and the two sides of a transport.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use stele_types::ids::NodeId;

use crate::error::RpcError;
use crate::meta::{MetaReply, MetaRequest};
use crate::raft::{RaftReply, RaftRequest};
use crate::storage::{StorageReply, StorageRequest};

/// A typed message; bulk bytes travel beside it, uncopied.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// To a metadata group.
    Meta(MetaRequest),
    /// To a storage node.
    Storage(StorageRequest),
    /// From voter to voter of a metadata group.
    Raft(RaftRequest),
    /// To a metadata node: issue a new certificate to the caller. Holds a signing request as in
    /// [`crate::join::JoinRequest`].
    Renew(Bytes),
}

/// The answer to a [`Message`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// From a metadata group.
    Meta(MetaReply),
    /// From a storage node.
    Storage(StorageReply),
    /// From a voter of a metadata group.
    Raft(RaftReply),
    /// From a metadata node.
    Renewed {
        /// The caller's new certificate.
        certificate_pem: String,
        /// CA certificates to trust from now on.
        ca_pem: String,
    },
}

/// How urgent a call is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub enum Class {
    /// Somebody waits for it.
    #[default]
    Foreground,
    /// Repair, rebalance, scrub: may wait behind everything else.
    Repair,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is asked.
    pub message: Message,
    /// Bulk bytes, for example a shard.
    pub body: Bytes,
    /// How long the caller waits. Past it the outcome is unknown, not failed.
    pub timeout: Duration,
    /// How urgent it is.
    pub class: Class,
}

impl Request {
    /// A foreground request to a metadata group.
    pub fn meta(request: MetaRequest, timeout: Duration) -> Self {
        Self { message: Message::Meta(request), body: Bytes::new(), timeout, class: Class::Foreground }
    }

    /// A foreground request to a storage node, with bulk bytes beside it.
    pub fn storage(request: StorageRequest, body: Bytes, timeout: Duration) -> Self {
        Self { message: Message::Storage(request), body, timeout, class: Class::Foreground }
    }

    /// A request for a new certificate.
    pub fn renew(signing_request: Bytes, timeout: Duration) -> Self {
        Self { message: Message::Renew(signing_request), body: Bytes::new(), timeout, class: Class::Foreground }
    }

    /// A message from voter to voter.
    pub fn raft(request: RaftRequest, body: Bytes, timeout: Duration) -> Self {
        Self { message: Message::Raft(request), body, timeout, class: Class::Foreground }
    }
}

/// One response.
#[derive(Clone, Debug)]
pub struct Response {
    /// What is answered.
    pub reply: Reply,
    /// Bulk bytes, for example a shard range.
    pub body: Bytes,
}

/// Carries requests to other processes.
#[async_trait]
pub trait Transport: Send + Sync + std::fmt::Debug + 'static {
    /// Sends a request and waits for its answer or its timeout.
    ///
    /// # Errors
    /// What the service answered, or `Unreachable` (certainly without effect) or `DeadlineExceeded`
    /// (outcome unknown).
    async fn call(&self, to: NodeId, request: Request) -> Result<Response, RpcError>;
}

/// Answers requests.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Answers one request. Must be safe to drop at any await.
    async fn serve(&self, from: NodeId, request: Request) -> Result<Response, RpcError>;
}

/// A shared transport.
pub type SharedTransport = Arc<dyn Transport>;
