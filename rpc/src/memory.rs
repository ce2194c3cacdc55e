//! In-memory transport: a table of services in one process.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use stele_types::ids::NodeId;

use crate::error::{Code, RpcError};
use crate::transport::{Request, Response, Service, Transport};

/// The services of this process, by node.
#[derive(Default)]
pub struct MemoryNetwork {
    services: RwLock<BTreeMap<NodeId, Arc<dyn Service>>>,
}

impl std::fmt::Debug for MemoryNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryNetwork").finish_non_exhaustive()
    }
}

impl MemoryNetwork {
    /// Makes a service reachable; replaces an earlier one of the same node.
    pub fn bind(&self, node: NodeId, service: Arc<dyn Service>) {
        self.services.write().unwrap_or_else(PoisonError::into_inner).insert(node, service);
    }

    /// Makes a node unreachable.
    pub fn unbind(&self, node: NodeId) {
        self.services.write().unwrap_or_else(PoisonError::into_inner).remove(&node);
    }

    /// The transport as seen from one node.
    pub fn transport(self: &Arc<Self>, from: NodeId) -> MemoryTransport {
        MemoryTransport { network: Arc::clone(self), from }
    }
}

/// One node's view of a [`MemoryNetwork`].
#[derive(Clone, Debug)]
pub struct MemoryTransport {
    network: Arc<MemoryNetwork>,
    from: NodeId,
}

#[async_trait]
impl Transport for MemoryTransport {
    async fn call(&self, to: NodeId, request: Request) -> Result<Response, RpcError> {
        let service = {
            let services = self.network.services.read().unwrap_or_else(PoisonError::into_inner);
            services.get(&to).cloned()
        };
        let Some(service) = service else {
            return Err(RpcError::new(Code::Unreachable, format!("node {to} is not running")));
        };
        let timeout = request.timeout;
        match tokio::time::timeout(timeout, service.serve(self.from, request)).await {
            Ok(answer) => answer,
            Err(_) => Err(RpcError::new(
                Code::DeadlineExceeded,
                format!("node {to} did not answer within {} ms", timeout.as_millis()),
            )),
        }
    }
}
