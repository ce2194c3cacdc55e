//! The metadata nodes of a run: start, stop, power loss, and a wiped disk's replacement.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use stele_metadata::apply::ApplyOptions;
use stele_metadata::model_disk::ModelDisk;
use stele_metadata::{Executor, Founding, MetadataConfig, MetadataNode, RaftTiming};
use stele_rpc::meta::{MetaReply, MetaRequest, MetaStatus};
use stele_types::ids::NodeId;
use tokio::sync::watch;

use crate::net::Alive;
#[cfg(feature = "sabotage")]
use crate::sabotage::Sabotage;
use crate::topology::{SPARE_VOTER, voter_node};
use crate::world::{Running, Voter, World};

/// How long the operator waits for the voters, in steps of [`STEP`].
const STEPS: u32 = 200;
/// Pause between two looks.
const STEP: Duration = Duration::from_millis(200);

impl World {
    /// Nodes that clients of the metadata service ask.
    pub(crate) fn meta_nodes(&self) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = (0..self.topology().voters).map(voter_node).collect();
        if nodes.len() > 1 {
            nodes.push(SPARE_VOTER);
        }
        nodes
    }

    /// Starts the metadata service and waits until a node leads; the first time, makes all of them vote.
    pub(crate) async fn start_metadata(self: &Arc<Self>, founding: bool) -> bool {
        for place in 0..self.topology().voters {
            if !self.start_voter(place, founding && place == 0).await {
                return false;
            }
        }
        if self.topology().voters == 1 {
            return true;
        }
        let Some((leader, _)) = self.leader().await else {
            return self.not_up(format_args!("no metadata node leads"));
        };
        for place in 1..self.topology().voters {
            if founding && let Err(error) = leader.add_voter(voter_node(place)).await {
                return self.not_up(format_args!("voter {place} can't be added: {error}"));
            }
        }
        true
    }

    /// The node that leads, as it says itself after asking the others.
    pub(crate) async fn leader(&self) -> Option<(Arc<MetadataNode>, MetaStatus)> {
        for _ in 0..STEPS {
            let running: Vec<_> = self.processes().voters.values().map(|voter| Arc::clone(&voter.service)).collect();
            for service in running {
                let asked = tokio::time::timeout(Duration::from_secs(2), service.answer(MetaRequest::Status)).await;
                if let Ok(Ok(MetaReply::Status(status))) = asked
                    && status.leader
                {
                    return Some((service, *status));
                }
            }
            tokio::time::sleep(STEP).await;
        }
        None
    }

    fn config(&self, node: NodeId, founding: bool) -> MetadataConfig {
        MetadataConfig {
            executor: Executor::Inline { sync_delay: self.plan().raft_sync },
            state_cache_bytes: 4 << 20,
            log_cache_bytes: 1 << 20,
            snapshot_every: self.plan().snapshot_every,
            log_kept: self.plan().snapshot_every / 2,
            founding: if founding { Founding::Found } else { Founding::Join },
            timing: RaftTiming { heartbeat_ms: 200, election_min_ms: 800, election_max_ms: 1600, call_timeout_ms: 400 },
            options: self.apply_options(),
            #[cfg(feature = "sabotage")]
            follower_read_without_read_index: self.sabotage == Some(Sabotage::FollowerReadWithoutReadIndex),
            #[cfg(feature = "sabotage")]
            node_id_reused: self.sabotage == Some(Sabotage::NodeIdReused),
            ..MetadataConfig::new(node)
        }
    }

    /// Starts one metadata node. A single one must lead before it counts as started.
    pub(crate) async fn start_voter(self: &Arc<Self>, place: usize, founding: bool) -> bool {
        let mut last = String::new();
        for _ in 0..3 {
            let Some(Voter { node, disk, clock }) = self.voters().get(place).cloned() else { return false };
            let alive: Alive = Arc::new(AtomicBool::new(true));
            let peers = self.net().transport(node, Arc::clone(&alive));
            let opened = match MetadataNode::open(self.config(node, founding), disk.storage(), clock, peers).await {
                Ok(node) if self.topology().voters == 1 => node.ready().await.map(|()| node),
                opened => opened,
            };
            match opened {
                Ok(service) => {
                    tokio::spawn(restart_when_fatal(Arc::clone(self), place, Arc::clone(&alive), service.fatal()));
                    self.net().bind(node, Arc::clone(&service) as Arc<_>, &alive);
                    self.processes().voters.insert(place, Running { service, alive });
                    self.env().trace.line(format_args!("metadata node {node} runs"));
                    return true;
                }
                // Its device failed while it started: the process ends and starts again.
                Err(error) => last = error.to_string(),
            }
            alive.store(false, Ordering::Relaxed);
            self.env().trace.line(format_args!("metadata node {node} does not start: {last}"));
            disk.crash();
        }
        self.not_up(format_args!("metadata node {place} does not start: {last}"))
    }

    /// The machine of a metadata node loses power. False if it was down already.
    pub(crate) fn kill_voter(&self, place: usize) -> bool {
        let Some(running) = self.processes().voters.remove(&place) else { return false };
        let voter = self.voters().get(place).cloned();
        if let Some(voter) = voter {
            self.net().unbind(voter.node);
            voter.disk.crash();
        }
        running.alive.store(false, Ordering::Relaxed);
        // Its media are dead already, so that nothing it still does is kept.
        tokio::spawn(async move { running.service.abandon().await });
        true
    }

    /// The worst time to lose a voter's disk: the leader is down, and the third voter lacks what the
    /// two acknowledged. If the wiped one votes under its old id, the third one leads without it.
    pub(crate) async fn wipe_voter(self: &Arc<Self>) {
        let Some((_, status)) = self.leader().await else { return };
        let places: Vec<(usize, NodeId)> =
            self.voters().iter().enumerate().map(|(place, voter)| (place, voter.node)).collect();
        let Some(&(leads, leader)) = places.iter().find(|(_, node)| Some(*node) == status.leader_node) else { return };
        let others: Vec<(usize, NodeId)> = places.into_iter().filter(|(place, _)| *place != leads).collect();
        let [lagging, wiped] = others[..] else { return };
        let cut = |on: bool| {
            for peer in [leader, wiped.1] {
                self.net().set_cut(lagging.1, peer, on);
                self.net().set_cut(peer, lagging.1, on);
            }
        };
        cut(true);
        tokio::time::sleep(Duration::from_millis(self.rng().between(1_500, 4_000))).await;
        let leader_fell = self.kill_voter(leads);
        let wiped_fell = self.kill_voter(wiped.0);
        if wiped_fell {
            self.env().trace.line(format_args!("disk of {} is wiped", wiped.1));
            let seed = self.rng().number();
            if let Some(voter) = self.voters().get_mut(wiped.0) {
                voter.disk = ModelDisk::new(seed);
            }
            self.start_voter(wiped.0, false).await;
        }
        cut(false);
        tokio::time::sleep(Duration::from_secs(4)).await;
        if leader_fell {
            self.start_voter(leads, false).await;
        }
        // What an operator does then: another id for the empty disk.
        if wiped_fell && !self.reuses_ids() {
            self.kill_voter(wiped.0);
            let seed = self.rng().number();
            if let Some(voter) = self.voters().get_mut(wiped.0) {
                voter.node = SPARE_VOTER;
                voter.disk = ModelDisk::new(seed);
            }
            self.start_voter(wiped.0, false).await;
            self.replace(wiped.1).await;
        }
    }

    async fn replace(&self, old: NodeId) {
        for _ in 0..STEPS {
            let Some((leader, _)) = self.leader().await else { continue };
            let replaced = tokio::time::timeout(Duration::from_secs(5), leader.replace_voter(old, SPARE_VOTER)).await;
            match replaced {
                Ok(Ok(())) => return,
                Ok(Err(error)) => self.env().trace.line(format_args!("{old} is not replaced: {error}")),
                Err(_) => {}
            }
            tokio::time::sleep(STEP).await;
        }
        self.env().findings.add("LIVENESS", format_args!("voter {old} could not be replaced"));
    }

    /// After the faults: every voter runs, one of them leads, and all of them have what it has.
    pub(crate) async fn check_voters(&self) {
        let found = |what: std::fmt::Arguments<'_>| self.env().findings.add("LIVENESS", what);
        let Some((_, status)) = self.leader().await else { return found(format_args!("no metadata node leads")) };
        let expected = self.topology().voters;
        if self.topology().voters > 1 && status.voters.len() != expected {
            found(format_args!("{:?} vote, not {expected} nodes", status.voters));
        }
        let running: Vec<_> = self.processes().voters.values().map(|voter| Arc::clone(&voter.service)).collect();
        if running.len() != expected {
            found(format_args!("{} of {expected} metadata nodes run", running.len()));
        }
        for service in running {
            if service.ready().await.is_err() {
                found(format_args!("a metadata node is not ready after the faults: {service:?}"));
            }
        }
    }

    fn reuses_ids(&self) -> bool {
        #[cfg(feature = "sabotage")]
        return self.sabotage == Some(Sabotage::NodeIdReused);
        #[cfg(not(feature = "sabotage"))]
        false
    }

    fn apply_options(&self) -> ApplyOptions {
        #[cfg(feature = "sabotage")]
        return ApplyOptions {
            accept_fenced: self.sabotage == Some(Sabotage::CommitWhenFenced),
            no_replies: self.sabotage == Some(Sabotage::ReplyCacheOff),
            locked_versions_removed: self.sabotage == Some(Sabotage::RemoveLocked),
            checkpoints_unchecked: self.sabotage == Some(Sabotage::CommitAnyCheckpoint),
            ..ApplyOptions::default()
        };
        #[cfg(not(feature = "sabotage"))]
        ApplyOptions::default()
    }
}

/// What becomes of a metadata process that can't go on: it exits, and its supervisor starts it again.
fn restart_when_fatal(
    world: Arc<World>,
    place: usize,
    alive: Alive,
    mut fatal: watch::Receiver<Option<Arc<str>>>,
) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let why = match fatal.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_else(|| "".into()),
            Err(_) => return,
        };
        if !alive.load(Ordering::Relaxed) {
            return;
        }
        world.env().trace.line(format_args!("metadata node {place} stopped by itself: {why}"));
        // A wiped disk under a known id: the operator sees to it.
        if why.contains("new node id") || !world.kill_voter(place) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        world.start_voter(place, false).await;
    })
}
