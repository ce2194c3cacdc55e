//! What the processes of a cluster share: the admin port from the first moment on, what is said once they
//! serve, and stopping in order.

use std::net::SocketAddr;
use std::sync::Arc;

use stele_rpc::error::{Code, RpcError};
use stele_rpc::quic::server::QuicServer;
use stele_rpc::transport::{Request, Response, Service};
use stele_types::ids::NodeId;
use tokio::task::JoinHandle;

use super::node_dir::Member;
use super::wire::Wire;
use crate::admin::{self, Pages};
use crate::config::Config;
use crate::dev::listen;

/// What must be stopped.
#[derive(Debug)]
pub(crate) struct Running {
    wire: Wire,
    pub(crate) server: Option<QuicServer>,
    pub(crate) background: Vec<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn new(wire: Wire) -> Self {
        Self { wire, server: None, background: Vec::new() }
    }

    /// Says that the process serves: to people on stderr, or one line of JSON on stdout.
    ///
    /// # Errors
    /// The socket has no address.
    pub(crate) fn tell_ready(&self, member: &Member, addresses: &[(&str, String)], json: bool) -> anyhow::Result<()> {
        let rpc = self.wire.endpoint.local_addr()?.to_string();
        let Member { role, node, cluster, .. } = member;
        if json {
            let mut line = serde_json::json!({
                "event": "ready", "role": role.name(), "node": node.0, "cluster": cluster.to_string(), "rpc": rpc,
            });
            for (name, address) in addresses {
                line[*name] = address.clone().into();
            }
            crate::print(line.to_string());
        } else {
            let more: String = addresses.iter().map(|(name, address)| format!(", {name} at {address}")).collect();
            crate::print(format!(
                "{role} {node} of cluster {cluster} serves: cluster at {rpc}{more}. Ctrl-C stops it."
            ));
        }
        Ok(())
    }

    /// Ends background work, then calls under way, then connections.
    pub(crate) async fn stop(mut self) {
        for task in &self.background {
            task.abort();
        }
        match self.server.take() {
            Some(server) => self.wire.close(server).await,
            None => self.wire.endpoint.close().await,
        }
    }
}

/// Serves the admin port; its pages say that the process is starting.
///
/// # Errors
/// The address is taken.
pub(crate) async fn start_admin(config: &Config) -> anyhow::Result<(Arc<Pages>, JoinHandle<()>, SocketAddr)> {
    let (listener, address) = listen(config.admin_addr, "--admin-addr").await?;
    let pages = Arc::new(Pages::default());
    let task = tokio::spawn(admin::serve(listener, Arc::clone(&pages)));
    Ok((pages, task, address))
}

/// Of a node that others ask nothing; holds what it is.
pub(crate) struct NoService(pub(crate) &'static str);

#[async_trait::async_trait]
impl Service for NoService {
    async fn serve(&self, _from: NodeId, _request: Request) -> Result<Response, RpcError> {
        Err(RpcError::new(Code::Malformed, format!("this node is {}: other nodes ask it nothing", self.0)))
    }
}
