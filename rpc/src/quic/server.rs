//! The answering side: [`QuicServer`] accepts connections and hands calls to a service.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::authorize::Authorizer;
use super::budget::Budget;
use super::endpoint::QuicEndpoint;
use super::incoming;
use crate::join::JoinService;
use crate::join::limit::RateLimit;
use crate::transport::Service;

/// Handshakes under way at once. Above half of it strangers must first prove their address.
const HANDSHAKES_MAX: usize = 256;

/// What answers.
pub struct Handlers {
    /// Answers calls of nodes.
    pub service: Arc<dyn Service>,
    /// Decides who may ask what; see [`super::authorize::standard`].
    pub authorizer: Authorizer,
    /// Answers join requests; without it the join channel is closed.
    pub join: Option<Arc<dyn JoinService>>,
}

impl std::fmt::Debug for Handlers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handlers").field("join", &self.join.is_some()).finish_non_exhaustive()
    }
}

/// What every connection shares.
pub(super) struct Shared {
    pub(super) endpoint: Arc<QuicEndpoint>,
    pub(super) handlers: Handlers,
    pub(super) budget: Budget,
    pub(super) handshakes: Arc<Semaphore>,
    pub(super) joins: RateLimit,
    pub(super) stopping: watch::Receiver<bool>,
}

/// Serves one endpoint until it is stopped or dropped. Dropping it ends calls where they stand.
pub struct QuicServer {
    endpoint: Arc<QuicEndpoint>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl std::fmt::Debug for QuicServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuicServer").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl QuicServer {
    /// Starts to answer. Call it within a tokio runtime.
    pub fn start(endpoint: Arc<QuicEndpoint>, handlers: Handlers) -> Self {
        let (stop, stopping) = watch::channel(false);
        let config = &endpoint.config;
        let shared = Arc::new(Shared {
            budget: Budget::new(config.receive_budget_bytes),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            joins: RateLimit::new(config.joins_per_second, Arc::clone(&endpoint.clock)),
            endpoint: Arc::clone(&endpoint),
            handlers,
            stopping,
        });
        endpoint.serve();
        let task = tokio::spawn(accept(shared));
        Self { endpoint, stop, task }
    }

    /// Takes no more connections or calls, and waits for those under way for at most `grace`.
    pub async fn shutdown(mut self, grace: Duration) {
        self.endpoint.stop_serving();
        self.stop.send_replace(true);
        if tokio::time::timeout(grace, &mut self.task).await.is_err() {
            tracing::warn!("calls under way were ended: the time for stopping is over");
        }
    }
}

impl Drop for QuicServer {
    fn drop(&mut self) {
        self.endpoint.stop_serving();
        self.task.abort();
    }
}

async fn accept(shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut stopping = shared.stopping.clone();
    loop {
        let incoming = tokio::select! {
            incoming = shared.endpoint.endpoint.accept() => incoming,
            Some(ended) = connections.join_next() => {
                incoming::note(ended);
                continue;
            }
            _ = stopping.wait_for(|stop| *stop) => None,
        };
        let Some(incoming) = incoming else { break };
        if connections.len() >= shared.endpoint.config.connections_max as usize {
            tracing::warn!(from = %incoming.remote_address(), "connection refused: connections_max are open");
            incoming.refuse();
            continue;
        }
        let Ok(turn) = Arc::clone(&shared.handshakes).try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        if shared.handshakes.available_permits() < HANDSHAKES_MAX / 2 && incoming.may_retry() {
            // May fail only for an address that is proved already, which was asked just now.
            drop(incoming.retry());
            continue;
        }
        connections.spawn(incoming::serve(Arc::clone(&shared), incoming, turn));
    }
    while let Some(ended) = connections.join_next().await {
        incoming::note(ended);
    }
}
