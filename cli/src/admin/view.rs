//! Asks the parts of the store what they know, for status, readiness and metrics.

use std::sync::Arc;
use std::time::Duration;

use stele_rpc::client::{MetaClient, StorageClient, unexpected};
use stele_rpc::error::RpcError;
use stele_rpc::meta::{MetaReply, MetaRequest, MetaStatus};
use stele_s3_gateway::gateway::Gateway;
use stele_types::ids::NodeId;

use super::status::{Parts, Status};
use crate::dev::watch::{cluster_map, drives};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Who is asked.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) meta: MetaClient,
    pub(crate) storage: StorageClient,
    pub(crate) node: NodeId,
    pub(crate) gateway: Arc<Gateway>,
}

impl View {
    /// State of the store now. Parts that do not answer are problems, not errors.
    pub(crate) async fn status(&self) -> Status {
        let (map, meta, seen) =
            tokio::join!(cluster_map(&self.meta), meta_status(&self.meta), drives(&self.storage, self.node));
        let health = self.gateway.health();
        let mut parts = Parts { memory_used_bytes: health.memory_used_bytes, ..Parts::default() };
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
        match seen {
            Ok(seen) => parts.drives = seen,
            Err(error) => note("storage node", error),
        }
        if !health.lease {
            parts.gateway_problems.push("the gateway has no lease: it takes no writes until it gets one".into());
        }
        parts.avoided = health.avoided_drives;
        parts.gateway_ready = answered && health.lease;
        Status::new(parts)
    }
}

async fn meta_status(meta: &MetaClient) -> Result<MetaStatus, RpcError> {
    match meta.call(MetaRequest::Status, TIMEOUT).await? {
        MetaReply::Status(status) => Ok(*status),
        _ => Err(unexpected("to Status")),
    }
}
