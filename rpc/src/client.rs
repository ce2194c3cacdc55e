//! Typed clients over a transport.

use std::time::Duration;

use bytes::Bytes;
use stele_types::ids::NodeId;

use crate::error::{Code, RpcError};
pub use crate::meta_client::{MetaClient, MetaNodes};
use crate::storage::{StorageReply, StorageRequest};
use crate::transport::{Class, Reply, Request, Response, SharedTransport};

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
            Reply::Meta(_) | Reply::Raft(_) | Reply::Renewed { .. } => {
                Err(unexpected("a metadata reply to a storage request"))
            }
        }
    }
}

/// A reply of another type than the request's: a defect of the peer.
pub fn unexpected(what: &str) -> RpcError {
    RpcError::new(Code::Internal, format!("unexpected answer: {what}"))
}
