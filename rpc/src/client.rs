//! Typed clients over a transport.

use std::time::Duration;

use bytes::Bytes;
use stele_types::ids::NodeId;

use crate::error::{Code, RpcError};
use crate::meta::{CommandEnvelope, MetaReply, MetaRequest};
use crate::storage::{StorageReply, StorageRequest};
use crate::transport::{Class, Reply, Request, Response, SharedTransport};

/// Speaks to the metadata service.
#[derive(Clone, Debug)]
pub struct MetaClient {
    transport: SharedTransport,
    node: NodeId,
}

impl MetaClient {
    /// A client of the metadata service on `node`.
    pub fn new(transport: SharedTransport, node: NodeId) -> Self {
        Self { transport, node }
    }

    /// Sends one request.
    ///
    /// # Errors
    /// As [`crate::transport::Transport::call`].
    pub async fn call(&self, request: MetaRequest, timeout: Duration) -> Result<MetaReply, RpcError> {
        match self.transport.call(self.node, Request::meta(request, timeout)).await?.reply {
            Reply::Meta(reply) => Ok(reply),
            Reply::Storage(_) => Err(unexpected("a storage reply to a metadata request")),
        }
    }

    /// Sends one command.
    ///
    /// # Errors
    /// As [`crate::transport::Transport::call`]. After `DeadlineExceeded` the outcome is unknown:
    /// repeat the same envelope.
    pub async fn command(&self, envelope: CommandEnvelope, timeout: Duration) -> Result<MetaReply, RpcError> {
        self.call(MetaRequest::Command(Box::new(envelope)), timeout).await
    }
}

/// Speaks to storage nodes.
#[derive(Clone, Debug)]
pub struct StorageClient {
    transport: SharedTransport,
}

impl StorageClient {
    /// A client over `transport`.
    pub fn new(transport: SharedTransport) -> Self {
        Self { transport }
    }

    /// Sends one request, with bulk bytes beside it.
    ///
    /// # Errors
    /// As [`crate::transport::Transport::call`].
    pub async fn call(
        &self,
        to: NodeId,
        request: StorageRequest,
        body: Bytes,
        timeout: Duration,
    ) -> Result<(StorageReply, Bytes), RpcError> {
        self.call_as(Class::Foreground, to, Request::storage(request, body, timeout)).await
    }

    /// Sends one request in the given class.
    ///
    /// # Errors
    /// As [`crate::transport::Transport::call`].
    pub async fn call_as(&self, class: Class, to: NodeId, request: Request) -> Result<(StorageReply, Bytes), RpcError> {
        let request = Request { class, ..request };
        let Response { reply, body } = self.transport.call(to, request).await?;
        match reply {
            Reply::Storage(reply) => Ok((reply, body)),
            Reply::Meta(_) => Err(unexpected("a metadata reply to a storage request")),
        }
    }
}

/// A reply of another type than the request's: a defect of the peer.
pub fn unexpected(what: &str) -> RpcError {
    RpcError::new(Code::Internal, format!("unexpected answer: {what}"))
}
