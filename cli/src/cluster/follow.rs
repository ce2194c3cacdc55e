//! What every node of a cluster does all the time: say where it is, say that it lives, follow the cluster map,
//! and renew its certificate (SIGHUP: at once). It never gives up: a cluster that does not answer is named and asked again.

use std::sync::Arc;
use std::time::Duration;

use stele_rpc::client::{MetaClient, unexpected};
use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::{Command, Heartbeat, MetaReply, MetaRequest};
use stele_rpc::tls::authority::NodeKey;
use stele_rpc::transport::{Reply, Request, Transport};
use stele_types::ids::MapEpoch;
use stele_types::map::{ClusterMap, DriveRow, NodeState};
use stele_types::seam::Clock;

use tokio::signal::unix::{SignalKind, signal};

use super::init::NODE_LIFETIME;
use super::node_dir::{Member, NodeDir, Papers};
use super::wire::Wire;
use crate::config::{Config, Place};
use crate::dev::watch::{cluster_command, newer_map};

/// Between two heartbeats.
const BEAT: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(3);
/// While the cluster does not answer, that is said so often.
const SAY_EVERY: u32 = 10;
/// A certificate is renewed when this part of its life is over, in percent.
const RENEW_AFTER_PERCENT: u64 = 66;
/// And tried again so often.
const RENEW_EVERY: Duration = Duration::from_secs(60);

/// One node and its cluster.
pub(crate) struct Follower {
    pub(crate) wire: Wire,
    pub(crate) meta: MetaClient,
    pub(crate) dir: Arc<NodeDir>,
    pub(crate) member: Member,
    pub(crate) place: Place,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Follower {
    pub(crate) fn new(
        config: &Config,
        (wire, meta): (&Wire, &MetaClient),
        dir: &Arc<NodeDir>,
        member: &Member,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        // Who follows is part of a cluster that was founded.
        let mut member = Member { founded: true, ..member.clone() };
        if !config.rpc.advertise.is_empty() {
            member.advertise.clone_from(&config.rpc.advertise);
        }
        Self {
            wire: wire.clone(),
            meta: meta.clone(),
            dir: Arc::clone(dir),
            member,
            place: config.place.clone(),
            clock: Arc::clone(clock),
        }
    }

    /// Says where this node is and what it has; waits until the cluster took it.
    ///
    /// # Errors
    /// The cluster refused it: it was removed, or never joined.
    pub(crate) async fn register(&self, drives: &[DriveRow]) -> anyhow::Result<()> {
        for attempt in 0u32.. {
            let command = Command::RegisterNode {
                node: self.member.node,
                addresses: self.member.advertise.clone(),
                zone: self.place.zone.clone(),
                rack: self.place.rack.clone(),
                drives: drives.to_vec(),
            };
            let error = match self.meta.command(cluster_command(command, self.member.node), TIMEOUT).await {
                Ok(_) => return Ok(()),
                Err(error) if matches!(error.code, Code::Forbidden | Code::Malformed) => {
                    anyhow::bail!("the cluster refused this node: {error}")
                }
                Err(error) => error,
            };
            if attempt.is_multiple_of(SAY_EVERY) {
                tracing::warn!("waiting for the metadata nodes {}: {error}", self.asked());
            }
            tokio::time::sleep(BEAT).await;
        }
        Ok(())
    }

    /// Metadata nodes, for people.
    fn asked(&self) -> String {
        let node = |(node, at): (&_, &Vec<String>)| format!("{node} at {}", at.join(", "));
        self.member.metadata.iter().map(node).collect::<Vec<_>>().join("; ")
    }

    /// Beats, follows the map, renews. For ever.
    pub(crate) async fn run(mut self) {
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut missed = 0u32;
        let mut renewal = self.clock.monotonic_micros();
        let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
        loop {
            let asked = tokio::select! {
                _ = beat.tick() => false,
                hung_up = hangup.recv() => hung_up.is_some(),
            };
            match self.beat().await {
                Ok(()) if missed >= SAY_EVERY => {
                    tracing::info!("the metadata nodes answer again");
                    missed = 0;
                }
                Ok(()) => missed = 0,
                Err(error) => {
                    if missed % SAY_EVERY == SAY_EVERY - 1 {
                        self.wire.ask_for_peers(&self.meta, self.member.metadata.keys().copied()).await;
                        tracing::warn!("waiting for the metadata nodes {}: {error}", self.asked());
                    }
                    missed = missed.saturating_add(1);
                }
            }
            let now = self.clock.monotonic_micros();
            if asked || now >= renewal {
                renewal = now + u64::try_from(RENEW_EVERY.as_micros()).unwrap_or(u64::MAX);
                if let Err(error) = self.renew(asked).await {
                    tracing::error!("the certificate of this node could not be renewed: {error:#}; trying again");
                }
            }
        }
    }

    async fn beat(&mut self) -> Result<(), RpcError> {
        let beat = MetaRequest::Heartbeat(Heartbeat { node: self.member.node });
        let MetaReply::Heard(epoch) = self.meta.call(beat, TIMEOUT).await? else {
            return Err(unexpected("to Heartbeat"));
        };
        let known = self.wire.map.borrow().epoch;
        if epoch == known && known != MapEpoch(0) {
            return Ok(());
        }
        if let Some(map) = newer_map(&self.meta, known).await? {
            self.take(map).await;
        }
        Ok(())
    }

    async fn take(&mut self, map: ClusterMap) {
        let nodes = map.nodes.iter().filter(|node| node.state != NodeState::Removed);
        self.wire.book.replace(nodes.map(|node| (node.id, node.addresses.clone())).collect());
        let metadata: std::collections::BTreeMap<_, _> = map.metadata_nodes().into_iter().collect();
        if !metadata.is_empty() && metadata != self.member.metadata {
            self.meta.set_nodes(metadata.keys().copied().collect::<Vec<_>>());
            self.member.metadata = metadata;
            if let Err(error) = self.dir.save(&self.member).await {
                tracing::warn!("where the metadata nodes are could not be written down: {error:#}");
            }
        }
        self.wire.take_map(map);
    }

    /// Renews the certificate if it is due, or `now`.
    async fn renew(&self, now: bool) -> anyhow::Result<()> {
        let papers = self.dir.papers().await?;
        let life = u64::try_from(NODE_LIFETIME.as_millis()).unwrap_or(u64::MAX);
        let due = papers.issued.saturating_add(life / 100 * RENEW_AFTER_PERCENT);
        if !now && self.clock.unix_millis() < due {
            return Ok(());
        }
        let key = NodeKey::generate()?;
        let request = bytes::Bytes::from(key.signing_request()?);
        let mut last = None;
        for node in self.member.metadata.keys() {
            match self.wire.quic.call(*node, Request::renew(request.clone(), TIMEOUT)).await.map(|answer| answer.reply)
            {
                Ok(Reply::Renewed { certificate_pem, ca_pem }) => {
                    let issued = self.clock.unix_millis();
                    let papers = Papers { issued, certificate_pem, ca_pem, key_pem: key.key_pem(), ..papers };
                    let credentials = papers.credentials()?;
                    // Key and certificate are one file, so that a crash leaves a pair that belongs together.
                    self.dir.save_papers(&papers).await?;
                    self.wire.endpoint.rotate(&credentials)?;
                    tracing::info!("the certificate of this node was renewed");
                    return Ok(());
                }
                Ok(_) => last = Some(unexpected("to Renew")),
                Err(error) => last = Some(error),
            }
        }
        last.map_or(Ok(()), |error| Err(error.into()))
    }
}
