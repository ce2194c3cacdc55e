//! Where a metadata node lets nodes in and renews certificates: the only part of a process that holds the
//! CA's key. Tokens are checked by the state machine; certificates are signed here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use stele_metadata::MetadataNode;
use stele_rpc::client::{MetaClient, unexpected};
use stele_rpc::error::{Code, RpcError};
use stele_rpc::join::{JoinReply, JoinRequest, JoinService};
use stele_rpc::meta::{Command, MetaReply, NewNode};
use stele_rpc::tls::TlsError;
use stele_rpc::tls::authority::{ClusterCa, Validity, key_hash};
use stele_rpc::tls::identity::Identity;
use stele_rpc::transport::{Message, Reply, Request, Response, Service};
use stele_types::ids::NodeId;
use stele_types::map::NodeState;
use stele_types::role::Role;
use stele_types::seam::{Clock, Rng};

use super::init::NODE_LIFETIME;
use crate::dev::watch::{cluster_command, cluster_map};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Lets nodes in and renews their certificates.
pub(crate) struct Desk {
    pub(crate) me: NodeId,
    pub(crate) ca: ClusterCa,
    pub(crate) meta: MetaClient,
    pub(crate) node: Arc<MetadataNode>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
}

fn refused(error: &TlsError) -> RpcError {
    RpcError::new(Code::Malformed, format!("no certificate was issued: {error}"))
}

impl Desk {
    fn issue(&self, role: Role, node: NodeId, request: &[u8]) -> Result<String, RpcError> {
        let identity = Identity { cluster: self.ca.cluster(), role, node };
        let validity = Validity { now: self.clock.unix_millis(), lifetime: NODE_LIFETIME };
        self.ca.issue(identity, request, validity, &*self.rng).map_err(|error| refused(&error))
    }

    async fn let_in(&self, request: JoinRequest) -> Result<JoinReply, RpcError> {
        let secret_hash = *blake3::hash(&request.secret).as_bytes();
        // The state machine compares hashes, before it looks at anything else.
        let key = key_hash(&request.signing_request).map_err(|error| refused(&error))?;
        let node = NewNode {
            role: request.role,
            key,
            name: request.name,
            addresses: request.addresses,
            zone: request.zone,
            rack: request.rack,
        };
        let command = Command::RedeemJoinToken { id: request.token_id, secret_hash, node: Box::new(node) };
        let admitted = self.meta.command(cluster_command(command, self.me), TIMEOUT).await?;
        let MetaReply::Node(node) = admitted else { return Err(unexpected("to RedeemJoinToken")) };
        let map = cluster_map(&self.meta).await?;
        let role = request.role;
        Ok(JoinReply {
            node,
            cluster: self.ca.cluster(),
            certificate_pem: self.issue(role, node, &request.signing_request)?,
            ca_pem: self.ca.certificate_pem().to_owned(),
            ca_key_pem: (role == Role::Metadata).then(|| self.ca.key_pem()),
            peers: map.metadata_nodes(),
        })
    }

    /// A new certificate for a node that has one, by its row: role and state are what the map says.
    async fn renew(&self, from: NodeId, request: &[u8]) -> Result<Reply, RpcError> {
        let map = cluster_map(&self.meta).await?;
        let row = map.node(from).filter(|node| node.state != NodeState::Removed);
        let row = row.ok_or_else(|| {
            RpcError::new(Code::Forbidden, format!("node {from} is not part of this cluster: join it with a token"))
        })?;
        let certificate_pem = self.issue(row.role, from, request)?;
        tracing::info!(%from, role = %row.role, "certificate renewed");
        Ok(Reply::Renewed { certificate_pem, ca_pem: self.ca.certificate_pem().to_owned() })
    }
}

#[async_trait]
impl JoinService for Desk {
    async fn join(&self, from: SocketAddr, request: JoinRequest) -> Result<JoinReply, RpcError> {
        let (role, name) = (request.role, request.name.clone());
        let answer = self.let_in(request).await;
        match &answer {
            Ok(reply) => tracing::info!(%from, %role, name, node = %reply.node, "a node joined"),
            Err(error) => tracing::warn!(%from, %role, name, %error, "a node was not let in"),
        }
        answer
    }
}

#[async_trait]
impl Service for Desk {
    async fn serve(&self, from: NodeId, request: Request) -> Result<Response, RpcError> {
        let Message::Renew(signing_request) = &request.message else { return self.node.serve(from, request).await };
        Ok(Response { reply: self.renew(from, signing_request).await?, body: Bytes::new() })
    }
}
