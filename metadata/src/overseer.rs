//! What the leader does without being asked: drives of a silent node are counted out until it is back, drives that are
//! lost are replaced in their placement groups, slots of storage nodes that are to leave and, once arrivals have settled,
//! slots for drives that came are moved, metadata nodes that joined become voters, removed ones lose their vote,
//! and evidence that was kept long enough is erased step by step. [`decide`] is pure; [`run`] carries it out, on every metadata node, and does nothing where it does not lead.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use stele_rpc::meta::{Command, CommandEnvelope, ERASED_ENTRIES_MAX, LogCommand, MetaRequest, Origin, SLOT_MOVES_MAX};
use stele_types::ids::{CommandSequence, DriveId, NodeId, Salt};
use stele_types::map::{ClusterMap, DriveRow, DriveState, NodeRow, NodeState, SlotMove};
use stele_types::role::Role;
use stele_types::seam::{Rng, random_bytes};

use crate::node::MetadataNode;
use crate::placement;

/// A node that was not heard of for so long is taken for dead until it is heard again. Heartbeats come
/// every second.
pub const SILENCE: Duration = Duration::from_secs(10);
/// Pause between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Looks between two times of erasing what the log tells of removed versions. Once begun, each look is a step, until
/// nothing is due.
const LOOKS_PER_ERASURE: u32 = 60;
/// Voters a group takes by itself.
const VOTERS_MAX: usize = 5;

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// Count a drive of a silent node out.
    Suspect(DriveId, String),
    /// Give slots another drive.
    Move(Vec<SlotMove>),
    /// A storage node that was to leave holds nothing any more.
    Drained(NodeId),
    /// Make a metadata node a voter.
    AddVoter(NodeId),
    /// Take a removed metadata node's vote.
    RemoveVoter(NodeId),
    /// Erase what the evidence log told long enough of removed versions.
    Erase,
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Move(moves) => write!(f, "Move({} slots)", moves.len()),
            other => write!(f, "{other:?}"),
        }
    }
}

/// What the leader must do, given the map, its voters, who is silent, and which drives have been suspect for too long.
pub(crate) fn decide(
    map: &ClusterMap,
    leader: NodeId,
    voters: &BTreeSet<NodeId>,
    silent: impl Fn(NodeId) -> bool,
    overdue: &BTreeSet<DriveId>,
) -> Vec<Action> {
    let mut actions = if cut_off(map, &silent) { Vec::new() } else { about_drives(map, &silent, overdue) };
    actions.extend(drained(map).map(Action::Drained));
    let metadata = || map.nodes.iter().filter(|node| node.role == Role::Metadata);
    let mut count = voters.len();
    for node in metadata().filter(|node| node.state == NodeState::Removed && voters.contains(&node.id)) {
        // The last voter stays, and a leader hands over before it goes.
        if count > 1 && node.id != leader {
            actions.push(Action::RemoveVoter(node.id));
            count -= 1;
        }
    }
    let waiting = metadata().filter(|node| node.state == NodeState::Active && !voters.contains(&node.id));
    for node in waiting.filter(|node| !silent(node.id)) {
        if count < VOTERS_MAX {
            actions.push(Action::AddVoter(node.id));
            count += 1;
        }
    }
    actions
}

/// Storage nodes that serve, also those that are to leave.
fn storage(map: &ClusterMap) -> impl Iterator<Item = &NodeRow> {
    let serves = |node: &&NodeRow| matches!(node.state, NodeState::Active | NodeState::Draining | NodeState::Drained);
    map.nodes.iter().filter(|node| node.role == Role::StorageNode).filter(serves)
}

/// When most storage nodes are silent it is more likely that the leader is cut off than that all of them died.
/// Gateways, which see for themselves, must not be kept from writing, and nothing may move.
fn cut_off(map: &ClusterMap, silent: impl Fn(NodeId) -> bool) -> bool {
    storage(map).filter(|node| silent(node.id)).count() * 2 > storage(map).count()
}

/// Suspicions, or moves. A drive that is to be suspected must not be given a slot, so moves wait for the next look.
fn about_drives(map: &ClusterMap, silent: impl Fn(NodeId) -> bool, overdue: &BTreeSet<DriveId>) -> Vec<Action> {
    let suspicions = suspicions(map, silent);
    if !suspicions.is_empty() {
        return suspicions;
    }
    let lost = map.drives.iter().filter(|drive| is_lost(drive, overdue)).map(|drive| drive.id).collect();
    let mut moves = placement::replacements(map, &lost);
    if moves.is_empty() {
        moves = placement::departures(map);
    }
    move_some(moves).into_iter().collect()
}

/// As many as a command takes. The others follow at the next looks.
fn move_some(mut moves: Vec<SlotMove>) -> Option<Action> {
    moves.truncate(SLOT_MOVES_MAX);
    (!moves.is_empty()).then_some(Action::Move(moves))
}

/// Whether every storage node is heard of: otherwise slots are left where they are rather than rebalanced.
pub(crate) fn all_heard(map: &ClusterMap, silent: impl Fn(NodeId) -> bool) -> bool {
    !storage(map).any(|node| silent(node.id))
}

/// Slots for drives that came.
pub(crate) fn balance(map: &ClusterMap) -> Option<Action> {
    if map.rebalancing_paused { None } else { move_some(placement::rebalance(map)) }
}

/// Nodes that are to leave and whose drives hold no slot.
fn drained(map: &ClusterMap) -> impl Iterator<Item = NodeId> {
    let node_of = |drive| map.drive(drive).map(|row| row.node);
    let holders = map.pgs.iter().flat_map(|pg| &pg.slots).flat_map(|slot| slot.holders());
    let used: BTreeSet<NodeId> = holders.filter_map(node_of).collect();
    let draining = map.nodes.iter().filter(|node| node.state == NodeState::Draining);
    draining.filter(move |node| !used.contains(&node.id)).map(|node| node.id)
}

/// Whether a drive's slots must be filled elsewhere.
fn is_lost(drive: &DriveRow, overdue: &BTreeSet<DriveId>) -> bool {
    match drive.state {
        DriveState::Ok => false,
        DriveState::Suspect => overdue.contains(&drive.id),
        DriveState::Failed | DriveState::Removed => true,
    }
}

/// Drives of silent nodes.
fn suspicions(map: &ClusterMap, silent: impl Fn(NodeId) -> bool) -> Vec<Action> {
    let drives = map.drives.iter().filter(|drive| drive.state == DriveState::Ok);
    let silent_node = |drive: &DriveRow| storage(map).find(|node| node.id == drive.node && silent(node.id));
    let suspicion = |drive: &DriveRow| {
        silent_node(drive).map(|node| Action::Suspect(drive.id, format!("node {} ({}) is silent", node.id, node.name)))
    };
    drives.filter_map(suspicion).collect()
}

/// Looks after the nodes while `node` lives. `rng`: salts of what is logged.
pub async fn run(node: Weak<MetadataNode>, rng: Arc<dyn Rng>) {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut looks, mut erasing) = (0u32, false);
    loop {
        tick.tick().await;
        let Some(node) = node.upgrade() else { return };
        looks = (looks + 1) % LOOKS_PER_ERASURE;
        erasing = (erasing || looks == 0) && node.erasure_is_due();
        let erasure = erasing.then_some(Action::Erase);
        for action in node.due().into_iter().chain(erasure) {
            let what = action.to_string();
            let carrying_out = carry_out(&node, action, &*rng);
            tokio::pin!(carrying_out);
            // A new voter may take minutes to catch up; meanwhile this node is awake all the same.
            let done = loop {
                tokio::select! {
                    done = &mut carrying_out => break done,
                    _ = tick.tick() => node.look(),
                }
            };
            match done {
                Ok(()) => tracing::info!(what, "done by the leader"),
                Err(error) => tracing::warn!(what, %error, "not done; the leader tries again"),
            }
        }
    }
}

async fn carry_out(node: &MetadataNode, action: Action, rng: &dyn Rng) -> Result<(), stele_rpc::error::RpcError> {
    match action {
        Action::AddVoter(id) => node.add_voter(id).await,
        Action::RemoveVoter(id) => node.remove_voter(id).await,
        Action::Suspect(drive, reason) => {
            send(node, Command::SetDriveState { drive, state: DriveState::Suspect, reason }, rng).await
        }
        Action::Move(moves) => send(node, Command::MoveSlots { moves }, rng).await,
        Action::Drained(id) => send(node, Command::SetNodeState { node: id, state: NodeState::Drained }, rng).await,
        Action::Erase => {
            send(node, Command::Log(LogCommand::Erase { max_entries: ERASED_ENTRIES_MAX, copies: Vec::new() }), rng)
                .await
        }
    }
}

async fn send(node: &MetadataNode, command: Command, rng: &dyn Rng) -> Result<(), stele_rpc::error::RpcError> {
    let envelope = CommandEnvelope {
        lease: None,
        sequence: CommandSequence(0),
        lowest_open: CommandSequence(0),
        origin: Origin { principal: "stele".into(), source: String::new(), node: node.id() },
        salt: Some(Salt::from_bytes(random_bytes(rng))),
        command,
    };
    node.answer(MetaRequest::Command(Box::new(envelope))).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stele_types::ids::{PgEpoch, PgId};
    use stele_types::map::{PgRow, Slot};

    const NONE: BTreeSet<DriveId> = BTreeSet::new();

    fn node(id: u64, role: Role, state: NodeState) -> NodeRow {
        let (name, addresses) = (format!("n{id}"), vec![format!("n{id}:9100")]);
        NodeRow {
            id: NodeId(id),
            role,
            name,
            addresses,
            zone: String::new(),
            rack: String::new(),
            state,
            key: [0; 32],
            maintenance_until: 0,
        }
    }

    fn drive(n: u8, node: u64, state: DriveState) -> DriveRow {
        let (id, name) = (DriveId::from_bytes([n; 16]), format!("d{n}"));
        DriveRow { id, node: NodeId(node), name, state, reason: String::new(), capacity: 0 }
    }

    #[test]
    fn silent_nodes_drives_are_counted_out_and_voters_follow_the_map() {
        let map = ClusterMap {
            nodes: vec![
                node(1, Role::Metadata, NodeState::Active),
                node(2, Role::Metadata, NodeState::Active),
                node(3, Role::Metadata, NodeState::Removed),
                node(4, Role::StorageNode, NodeState::Active),
                node(5, Role::StorageNode, NodeState::Active),
                node(6, Role::Metadata, NodeState::Active),
                node(7, Role::Metadata, NodeState::Joining),
                node(8, Role::S3Gateway, NodeState::Active),
            ],
            drives: vec![drive(1, 4, DriveState::Ok), drive(2, 5, DriveState::Ok), drive(3, 5, DriveState::Failed)],
            ..ClusterMap::default()
        };
        let silent = |id: NodeId| [5, 6].contains(&id.0);
        let voters = BTreeSet::from([NodeId(1), NodeId(3)]);
        let actions = decide(&map, NodeId(1), &voters, silent, &NONE);
        let reason = "node 5 (n5) is silent".to_owned();
        let suspect = Action::Suspect(DriveId::from_bytes([2; 16]), reason);
        assert_eq!(actions, [suspect, Action::RemoveVoter(NodeId(3)), Action::AddVoter(NodeId(2))]);
        let most = |id: NodeId| [4, 5].contains(&id.0);
        let actions = decide(&map, NodeId(1), &voters, most, &NONE);
        assert!(!actions.iter().any(|action| matches!(action, Action::Suspect(..))), "cut off: {actions:?}");
        let alone = BTreeSet::from([NodeId(3)]);
        assert!(!decide(&map, NodeId(3), &alone, silent, &NONE).contains(&Action::RemoveVoter(NodeId(3))), "it leads");
        let full: BTreeSet<NodeId> = [1, 3, 9, 10, 11].map(NodeId).into();
        let actions = decide(&map, NodeId(1), &full, |_| false, &NONE);
        assert!(actions.contains(&Action::AddVoter(NodeId(2))), "one leaves, one comes: {actions:?}");
        assert!(!actions.contains(&Action::AddVoter(NodeId(6))), "five are enough");
    }

    /// Four storage nodes with a drive each, drives 1 to 3 in the only group.
    fn small() -> ClusterMap {
        let slot = |n| Slot { drive: DriveId::from_bytes([n; 16]), incoming: None };
        let slots = (1..=3).map(slot).collect();
        ClusterMap {
            nodes: (1..=4).map(|n| node(n, Role::StorageNode, NodeState::Active)).collect(),
            drives: (1..=4).map(|n| drive(n, u64::from(n), DriveState::Ok)).collect(),
            pgs: vec![PgRow { id: PgId(0), epoch: PgEpoch(5), scheme: "rs-1-2".parse().unwrap(), slots }],
            ..ClusterMap::default()
        }
    }

    #[test]
    fn a_drive_is_replaced_at_once_if_it_failed_and_after_a_while_if_it_is_suspect() {
        let due = |map: &ClusterMap, silent: &[u64], overdue: &BTreeSet<DriveId>| {
            decide(map, NodeId(9), &BTreeSet::from([NodeId(9)]), |id| silent.contains(&id.0), overdue)
        };
        let to = DriveId::from_bytes([4; 16]);
        let moved = [Action::Move(vec![SlotMove { pg: PgId(0), epoch: PgEpoch(5), slot: 1, to }])];
        let (mut map, second) = (small(), DriveId::from_bytes([2; 16]));
        assert_eq!(due(&map, &[], &NONE), []);
        for state in [DriveState::Failed, DriveState::Removed] {
            map.drives[1].state = state;
            assert_eq!(due(&map, &[], &NONE), moved);
        }
        map.drives[1].state = DriveState::Suspect;
        assert_eq!(due(&map, &[2], &NONE), [], "not yet");
        let overdue = BTreeSet::from([second]);
        assert_eq!(due(&map, &[2], &overdue), moved);
        assert_eq!(due(&map, &[1, 2, 3], &overdue), [], "most are silent: the leader is cut off");
        let suspect = Action::Suspect(to, "node 4 (n4) is silent".to_owned());
        assert_eq!(due(&map, &[2, 4], &overdue), [suspect], "a drive of a silent node is given nothing");
        map.drives[3].state = DriveState::Suspect;
        assert_eq!(due(&map, &[2, 4], &overdue), [], "there is no drive for it");
    }

    #[test]
    fn one_command_takes_a_bounded_number_of_moves() {
        let mut map = small();
        let row = map.pgs.remove(0);
        map.pgs = (0..1500).map(|n| PgRow { id: PgId(n), ..row.clone() }).collect();
        map.drives[0].state = DriveState::Failed;
        let actions = decide(&map, NodeId(9), &BTreeSet::from([NodeId(9)]), |_| false, &NONE);
        let [Action::Move(moves)] = actions.as_slice() else { panic!("{} actions", actions.len()) };
        assert_eq!((moves.len(), actions[0].to_string().as_str()), (SLOT_MOVES_MAX, "Move(1000 slots)"));
    }
}
