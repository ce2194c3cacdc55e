//! Joining: a node without papers asks a metadata node for them, with a token. The key is written down before
//! it asks, so that a repeat after a lost answer is the same request and gets the same node id.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use stele_rpc::error::Code;
use stele_rpc::join::JoinRequest;
use stele_rpc::join::client::join;
use stele_rpc::join::token::JoinToken;
use stele_rpc::tls::authority::{NodeKey, fingerprint_of_pem};
use stele_types::role::Role;
use stele_types::seam::Clock;

use super::node_dir::{Member, NodeDir, Papers, check_address};
use crate::config::Config;

/// Pause before a cluster that did not answer is asked again.
const PAUSE: Duration = Duration::from_secs(2);

/// Who this node is: as its directory says, or, in a fresh one, as the cluster says to the token. Waits for
/// a cluster that does not answer.
///
/// # Errors
/// The directory is another role's, there is neither a member nor a token, or the token is refused.
pub(crate) async fn member(
    dir: &NodeDir,
    role: Role,
    token: Option<&str>,
    config: &Config,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Member> {
    let known = dir.member().await?;
    if let Some(member) = &known {
        let path = dir.path().display();
        ensure!(
            member.role == role,
            "{path} belongs to a {}, not to a {role}; choose another with --data",
            member.role
        );
        if !rejoins(dir, role, token).await? {
            return Ok(member.clone());
        }
    }
    let Some(token) = token else {
        bail!("{} is empty: join a cluster with --join TOKEN (stele cluster token makes one)", dir.path().display());
    };
    let token = JoinToken::parse(token).context("--join")?;
    let before = known.as_ref().map(|member| &member.advertise).filter(|_| config.rpc.advertise.is_empty());
    let advertise = before.unwrap_or(&config.rpc.advertise).clone();
    ensure!(!advertise.is_empty(), "say where other nodes reach this one: --advertise HOST:PORT");
    advertise.iter().try_for_each(|address| check_address(address))?;
    let key = if known.is_some() { dir.rejoin_key(&token.id).await? } else { dir.key().await? };
    let first = advertise.first().cloned().unwrap_or_default();
    let request = JoinRequest {
        token_id: token.id,
        secret: token.secret,
        role,
        signing_request: NodeKey::from_pem(&key)?.signing_request()?.into(),
        addresses: advertise.clone(),
        name: if config.place.name.is_empty() { first } else { config.place.name.clone() },
        zone: config.place.zone.clone(),
        rack: config.place.rack.clone(),
    };
    let reply = loop {
        match join(&token, &request, Arc::clone(clock)).await {
            Ok(reply) => break reply,
            Err(error)
                if matches!(error.code, Code::Unreachable | Code::DeadlineExceeded | Code::NotLeader | Code::Busy) =>
            {
                tracing::warn!(%error, "waiting for the cluster to let this node in");
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => bail!("the cluster refused this node: {error}"),
        }
    };
    if let Some(before) = known.filter(|before| before.cluster != reply.cluster) {
        let path = dir.path().display();
        bail!("{path} is of cluster {}, and the token of {}: nothing was changed", before.cluster, reply.cluster);
    }
    let member = Member {
        cluster: reply.cluster,
        node: reply.node,
        role,
        advertise,
        metadata: reply.peers.into_iter().collect(),
        founded: true,
    };
    let papers = Papers {
        issued: clock.unix_millis(),
        ca_pem: reply.ca_pem,
        certificate_pem: reply.certificate_pem,
        key_pem: key,
        ca_key_pem: reply.ca_key_pem,
    };
    papers.credentials().context("the papers the cluster sent")?;
    dir.found(&member, &papers).await?;
    tracing::info!(node = %member.node, cluster = %member.cluster, "joined");
    Ok(member)
}

/// Whether a directory that has papers is to get others: the token was made under another CA, so that the cluster was
/// restored from a backup. What the node holds stays; its id does not.
async fn rejoins(dir: &NodeDir, role: Role, token: Option<&str>) -> anyhow::Result<bool> {
    let Some(token) = token else { return Ok(false) };
    // A token that is not understood was used long ago.
    let Ok(token) = JoinToken::parse(token) else { return Ok(false) };
    if fingerprint_of_pem(&dir.papers().await?.ca_pem)? == token.ca {
        return Ok(false);
    }
    let path = dir.path().display();
    ensure!(
        role != Role::Metadata,
        "{path} is a metadata node of before the restore, and its rows are not those of the restored cluster: keep it, and \
         join with an empty directory"
    );
    tracing::info!("{path} has papers of another CA than the token: this node joins anew and keeps what it holds");
    Ok(true)
}
