//! Asks the parts of the store what they know, for status, readiness and metrics.

use std::sync::Arc;
use std::time::Duration;

use stele_rpc::client::{MetaClient, StorageClient, unexpected};
use stele_rpc::error::RpcError;
use stele_rpc::meta::{GcStatus, Liveness, MetaReply, MetaRequest, MetaStatus};
use stele_rpc::storage::DriveStatus;
use stele_s3_gateway::gateway::Gateway;
use stele_s3_gateway::log_archive::pages::LogSource;
use stele_types::ids::NodeId;
use stele_types::map::{ClusterMap, NodeRow, NodeState};
use stele_types::role::Role;
use stele_types::seam::Clock as _;

use super::status::{Parts, Status};
use crate::cluster::wire::Wire;
use crate::dev::watch::{cluster_map, drives};
use crate::real::RealClock;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Who is asked.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) meta: MetaClient,
    pub(crate) storage: StorageClient,
    /// Storage nodes of a store without a list of nodes.
    pub(crate) storage_nodes: Vec<NodeId>,
    /// The gateway of this process, if it has one.
    pub(crate) gateway: Option<Arc<Gateway>>,
    /// The network of this process, if it has one.
    pub(crate) wire: Option<Wire>,
}

impl View {
    /// Of a process of a cluster.
    pub(crate) fn of_node(meta: &MetaClient, wire: &Wire, gateway: Option<Arc<Gateway>>) -> Self {
        let (meta, storage, wire) = (meta.clone(), wire.storage(), Some(wire.clone()));
        Self { meta, storage, storage_nodes: Vec::new(), gateway, wire }
    }

    /// The evidence log. Only gateways can read what was archived.
    pub(crate) fn log(&self) -> LogSource {
        match &self.gateway {
            Some(gateway) => LogSource::Gateway(Arc::clone(gateway)),
            None => LogSource::Rows(self.meta.clone()),
        }
    }

    /// What every storage node says of its drives, and who did not answer.
    pub(crate) async fn drives(&self, map: &ClusterMap) -> (Vec<DriveStatus>, Vec<String>) {
        let storage = |node: &&NodeRow| node.role == Role::StorageNode && node.state != NodeState::Removed;
        let mut nodes: Vec<NodeId> = map.nodes.iter().filter(storage).map(|node| node.id).collect();
        if map.nodes.is_empty() {
            nodes.clone_from(&self.storage_nodes);
        }
        let asked = nodes.into_iter().map(|node| async move { (node, drives(&self.storage, node).await) });
        let (mut seen, mut silent) = (Vec::new(), Vec::new());
        for (node, answer) in futures::future::join_all(asked).await {
            match answer {
                Ok(drives) => seen.extend(drives),
                Err(error) => silent.push(format!("storage node {node}: {error}")),
            }
        }
        (seen, silent)
    }

    /// State of the store now. Parts that do not answer are problems, not errors.
    pub(crate) async fn status(&self) -> Status {
        let (map, meta, liveness) =
            tokio::join!(cluster_map(&self.meta), meta_status(&self.meta), liveness(&self.meta));
        let health = self.gateway.as_ref().map(|gateway| gateway.health());
        let mut parts =
            Parts { memory_used_bytes: health.as_ref().map_or(0, |h| h.memory_used_bytes), ..Parts::default() };
        parts.gateway_problems = self.wire.as_ref().map(Wire::path_problems).unwrap_or_default();
        let mut note = |what: &str, error: RpcError| parts.gateway_problems.push(format!("{what}: {error}"));
        let answered = map.is_ok() && meta.is_ok();
        match map {
            Ok(map) => parts.map = map,
            Err(error) => note("cluster map", error),
        }
        match meta {
            Ok(meta) => parts.meta = meta,
            Err(error) => note("metadata", error),
        }
        if let Ok(liveness) = liveness {
            parts.liveness = liveness;
        }
        let (seen, silent) = self.drives(&parts.map).await;
        parts.drives = seen;
        // A node the leader calls silent is named there.
        if parts.map.nodes.is_empty() {
            parts.gateway_problems.extend(silent);
        }
        let lease = health.as_ref().is_none_or(|health| health.lease);
        if !lease {
            parts.gateway_problems.push("the gateway has no lease: it takes no writes until it gets one".into());
        }
        parts.avoided = health.map(|health| health.avoided_drives).unwrap_or_default();
        parts.gateway_ready = answered && lease;
        parts.now = RealClock::new().unix_millis();
        Status::new(parts)
    }
}

/// When the leader heard of whom.
async fn liveness(meta: &MetaClient) -> Result<Vec<Liveness>, RpcError> {
    match meta.call(MetaRequest::Liveness, TIMEOUT).await? {
        MetaReply::Liveness(liveness) => Ok(liveness),
        _ => Err(unexpected("to Liveness")),
    }
}

/// What garbage collection did, and what space is used for.
///
/// # Errors
/// The metadata service does not answer.
pub(crate) async fn gc_status(meta: &MetaClient) -> Result<GcStatus, RpcError> {
    match meta.call(MetaRequest::GcStatus, TIMEOUT).await? {
        MetaReply::GcStatus(status) => Ok(*status),
        _ => Err(unexpected("to GcStatus")),
    }
}

async fn meta_status(meta: &MetaClient) -> Result<MetaStatus, RpcError> {
    match meta.call(MetaRequest::Status, TIMEOUT).await? {
        MetaReply::Status(status) => Ok(*status),
        _ => Err(unexpected("to Status")),
    }
}
