//! What is said in the evidence log of an administrative act: one plain sentence, in the same apply that carries it
//! out, and only if it changed something. So a command that is repeated after a lost answer is logged once.

use std::collections::BTreeSet;

use stele_evidence::record::{DETAIL_BYTES_MAX, Event};
use stele_rpc::meta::{BucketChange, Command, LogCommand, TrashCommand};
use stele_types::ids::DriveId;
use stele_types::map::{ClusterMap, DriveRow, DriveState, NodeRow, NodeState, SlotMove};
use stele_types::object::{BucketRow, Cors, CorsMethod, ObjectLock, RetentionMode, RetentionPeriod, Tags, Versioning};

use crate::apply::data::ClusterEvent;
use crate::apply::{Batch, Context, Outcome};

/// Ends a sentence that was too long.
const ELLIPSIS: &str = "…";

/// Subject of acts about the cluster as a whole.
pub(crate) const CLUSTER_SUBJECT: &str = "cluster";
/// Subject of acts about who signs the log.
pub(crate) const POLICY_SUBJECT: &str = "log/policy";

/// Whether a command changes the cluster or a bucket, so that it is logged and needs a salt.
pub(crate) fn is_act(command: &Command) -> bool {
    match command {
        Command::Backup(backup) => super::backups::is_act(backup),
        Command::InitCluster { .. }
        | Command::SetDriveState { .. }
        | Command::CreateJoinToken { .. }
        | Command::RevokeJoinToken { .. }
        | Command::RedeemJoinToken { .. }
        | Command::RegisterNode { .. }
        | Command::SetAnswerKey { .. }
        | Command::SetNodeState { .. }
        | Command::PlanPlacement { .. }
        | Command::MoveSlots { .. }
        | Command::FlipSlot { .. }
        | Command::SetMaintenance { .. }
        | Command::PauseRebalancing { .. }
        | Command::CreateBucket { .. }
        | Command::ConfigureBucket { .. }
        | Command::DeleteBucket { .. }
        | Command::Trash(TrashCommand::Keep { .. } | TrashCommand::Purge { .. })
        | Command::Log(
            LogCommand::PublishNote(_)
            | LogCommand::Audit(_)
            | LogCommand::SetEvidenceRetention { .. }
            | LogCommand::Erase { .. }
            | LogCommand::Close { .. },
        ) => true,
        Command::GrantLease { .. }
        | Command::RenewLease { .. }
        | Command::ReleaseLease { .. }
        | Command::AdvanceEpoch
        | Command::Fence { .. }
        | Command::Gc(_)
        | Command::Trash(TrashCommand::Restore(_) | TrashCommand::Expire { .. })
        | Command::Log(
            LogCommand::CommitCheckpoint { .. }
            | LogCommand::SaveChain { .. }
            | LogCommand::KeepAnchor(_)
            | LogCommand::Archive(_)
            | LogCommand::MoveToArchive { .. }
            | LogCommand::ArchiveAnchors(_)
            | LogCommand::WantTile { .. }
            | LogCommand::RestoreTile { .. },
        )
        | Command::StageReferences { .. }
        | Command::PutVersion(_)
        | Command::Delete { .. }
        | Command::CreateUpload { .. }
        | Command::PutPart { .. }
        | Command::CompleteUpload(_)
        | Command::AbortUpload { .. }
        | Command::ChangeVersion(_)
        | Command::AppendVersion(_)
        | Command::RenameKey(_) => false,
    }
}

/// As much of a text as a record takes, without control characters.
fn fitting(detail: &str) -> String {
    let mut text: String = detail.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.len() > DETAIL_BYTES_MAX {
        let end = text.floor_char_boundary(DETAIL_BYTES_MAX - ELLIPSIS.len());
        text.truncate(end);
        text.push_str(ELLIPSIS);
    }
    text
}

impl Batch<'_> {
    /// Appends an act to the log.
    pub(crate) fn log_act(&mut self, cx: Context<'_>, subject: &str, detail: &str) -> Outcome<()> {
        let (digest, detail, erased) = (None, fitting(detail), Vec::new());
        self.log_cluster_event(cx, ClusterEvent { event: Event::Act, subject, digest, detail, erased }).map(drop)
    }
}

const fn drive_state(state: DriveState) -> &'static str {
    match state {
        DriveState::Ok => "ok",
        DriveState::Suspect => "suspect",
        DriveState::Failed => "failed",
        DriveState::Removed => "removed",
    }
}

const fn node_state(state: NodeState) -> &'static str {
    match state {
        NodeState::Joining => "joining",
        NodeState::Active => "active",
        NodeState::Draining => "draining",
        NodeState::Drained => "drained",
        NodeState::Removed => "removed",
    }
}

pub(crate) fn founded(map: &ClusterMap) -> String {
    let id = map.cluster.map(|id| id.to_string()).unwrap_or_default();
    let (nodes, drives, groups) = (map.nodes.len(), map.drives.len(), map.pgs.len());
    format!("the cluster {id} was founded with {nodes} nodes, {drives} drives and {groups} placement groups")
}

fn drive_stands(state: DriveState, reason: &str) -> String {
    match reason {
        "" => drive_state(state).to_owned(),
        reason => format!("{} ({reason})", drive_state(state)),
    }
}

pub(crate) fn drive_changed(before: &DriveRow, now: &DriveRow) -> String {
    let (was, is) = (drive_stands(before.state, &before.reason), drive_stands(now.state, &now.reason));
    format!("drive {} of node {} is {is}; it was {was}", now.name, now.node)
}

pub(crate) fn node_joined(node: &NodeRow, token: &[u8; 16]) -> String {
    let (name, role, key) = (&node.name, node.role, hex::encode(node.key));
    let (token, at) = (hex::encode(token), node.addresses.join(", "));
    format!("{name} joined as {role} with join token {token}; it is at {at}, and its key's SHA-256 is {key}")
}

pub(crate) fn node_state_changed(before: &NodeRow, now: &NodeRow) -> String {
    let (is, was) = (node_state(now.state), node_state(before.state));
    format!("{} ({}) is {is}; it was {was}", now.name, now.role)
}

pub(crate) fn maintenance_changed(node: &NodeRow) -> String {
    match node.maintenance_until {
        0 => format!("{} ({}) is not under maintenance any more", node.name, node.role),
        until => format!("{} ({}) is under maintenance until {until} ms since 1970", node.name, node.role),
    }
}

fn node_stands(node: &NodeRow) -> String {
    let (state, at, zone, rack) = (node_state(node.state), node.addresses.join(", "), &node.zone, &node.rack);
    format!("{state}, at {at}, in zone {zone:?} and rack {rack:?}")
}

/// What a node said of itself, as far as it was news.
pub(crate) fn node_registered(before: &ClusterMap, now: &ClusterMap, node: &NodeRow) -> String {
    let mut news = Vec::new();
    if let Some(was) = before.node(node.id).filter(|was| *was != node) {
        news.push(format!("is {}; it was {}", node_stands(node), node_stands(was)));
    }
    for drive in now.drives.iter().filter(|drive| drive.node == node.id) {
        let known = before.drive(drive.id);
        if known == Some(drive) {
            continue;
        }
        let mut text = format!("has drive {} called {} of {} bytes", drive.id, drive.name, drive.capacity);
        if let Some(was) = known {
            text += &format!("; it was called {}, of {} bytes, at node {}", was.name, was.capacity, was.node);
        }
        news.push(text);
    }
    format!("{} ({}) {}", node.name, node.role, news.join(", and "))
}

pub(crate) fn placed(before: &ClusterMap, now: &ClusterMap) -> String {
    let scheme = now.pgs.last().map(|pg| pg.scheme.to_string()).unwrap_or_default();
    let (more, was) = (now.pgs.len().saturating_sub(before.pgs.len()), before.pgs.len());
    format!("{more} placement groups were added to {was}, the newest of scheme {scheme}")
}

fn drive_named(map: &ClusterMap, drive: DriveId) -> String {
    map.drive(drive).map_or_else(|| format!("drive {drive}"), |row| format!("drive {} of node {}", row.name, row.node))
}

/// Numbers in order, as `1-3, 7`.
fn ranges(numbers: impl Iterator<Item = u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let told = |(first, last): &(u32, u32)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(told).collect::<Vec<_>>().join(", ")
}

/// How many slots move away from which drives, and of which groups.
pub(crate) fn slots_move(before: &ClusterMap, now: &ClusterMap) -> String {
    let (mut count, mut groups, mut from) = (0usize, Vec::new(), BTreeSet::new());
    for (was, is) in before.pgs.iter().zip(&now.pgs).filter(|(was, is)| was != is) {
        for (was, _) in was.slots.iter().zip(&is.slots).filter(|(was, is)| was != is) {
            count += 1;
            from.insert(was.takes());
        }
        groups.push(is.id.0);
    }
    let from: Vec<String> = from.into_iter().map(|drive| drive_named(before, drive)).collect();
    let (from, groups) = (from.join(", "), ranges(groups.into_iter()));
    format!("slots to be moved: {count}, away from {from}, of placement groups {groups}")
}

pub(crate) fn slot_moved(map: &ClusterMap, moved: SlotMove, was: DriveId) -> String {
    let (is, was) = (drive_named(map, moved.to), drive_named(map, was));
    format!("slot {} of placement group {} is {is}; it was {was}", moved.slot, moved.pg)
}

fn versioning(versioning: Versioning) -> &'static str {
    match versioning {
        Versioning::Unset => "unset",
        Versioning::Enabled => "enabled",
        Versioning::Suspended => "suspended",
    }
}

fn lock(lock: Option<ObjectLock>) -> String {
    let Some(lock) = lock else { return "off".to_owned() };
    let Some(default) = lock.default else { return "on, without a default retention".to_owned() };
    let mode = match default.mode {
        RetentionMode::Governance => "governance",
        RetentionMode::Compliance => "compliance",
    };
    let period = match default.period {
        RetentionPeriod::Days(days) => format!("{days} days"),
        RetentionPeriod::Years(years) => format!("{years} years"),
    };
    format!("on, with a default retention of {period} in {mode} mode")
}

fn tags(tags: &Tags) -> String {
    let list: Vec<String> = tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if list.is_empty() { "none".to_owned() } else { list.join(", ") }
}

fn cors(cors: &Cors) -> String {
    let rule = |rule: &stele_types::object::CorsRule| {
        let methods: Vec<&str> = rule.methods.iter().copied().map(CorsMethod::name).collect();
        format!("{} from {}", methods.join(" "), rule.origins.join(" "))
    };
    let list: Vec<String> = cors.rules().iter().map(rule).collect();
    if list.is_empty() { "none".to_owned() } else { list.join(", ") }
}

pub(crate) fn bucket_changed(change: &BucketChange, before: &BucketRow, now: &BucketRow) -> String {
    match change {
        BucketChange::Versioning(_) => {
            format!("versioning is {}; it was {}", versioning(now.versioning), versioning(before.versioning))
        }
        BucketChange::Tags(_) => format!("tags are {}; they were {}", tags(&now.tags), tags(&before.tags)),
        BucketChange::ObjectLock(_) => {
            format!("object lock is {}; it was {}", lock(now.object_lock), lock(before.object_lock))
        }
        BucketChange::Cors(_) => format!("CORS rules are {}; they were {}", cors(&now.cors), cors(&before.cors)),
    }
}

pub(crate) fn bucket_created(bucket: &BucketRow) -> String {
    let (id, owner, lock) = (bucket.id, &bucket.owner, lock(bucket.object_lock));
    let versioning = versioning(bucket.versioning);
    format!("the bucket was created with id {id} for {owner}; versioning is {versioning}, object lock is {lock}")
}

pub(crate) fn policy_changed(policy: &[u8]) -> String {
    let text = String::from_utf8_lossy(policy);
    // A key is named as in a note: name and identifier. An ML-DSA key does not fit as it stands.
    let short = |word: &str| word.splitn(3, '+').take(2).collect::<Vec<_>>().join("+");
    let mut keys = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["log", key, ..] => keys.push(format!("log {}", short(key))),
            ["witness", name, key, ..] => keys.push(format!("witness {name} {}", short(key))),
            ["quorum", quorum, ..] => keys.push(format!("quorum {quorum}")),
            _ => {}
        }
    }
    let hash = blake3::hash(policy).to_hex();
    format!("checkpoints are published under a new trust policy, BLAKE3 {hash}: {}", keys.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_that_is_too_long_is_cut_between_characters() {
        assert_eq!(fitting("two\nlines"), "two lines");
        let exact = "é".repeat(DETAIL_BYTES_MAX / 2);
        assert_eq!(fitting(&exact), exact);
        let cut = fitting(&format!("{exact}x"));
        assert!(cut.len() <= DETAIL_BYTES_MAX && cut.len() > DETAIL_BYTES_MAX - 8, "{} bytes", cut.len());
        assert!(cut.ends_with("é…"));
    }

    #[test]
    fn a_policy_is_told_by_the_names_of_its_keys() {
        let policy = b"# who\nlog stele/7/log/0+0011aabb+AQID\nwitness w1 w.example/1+99887766+BAUG\nquorum w1\n";
        let told = policy_changed(policy);
        let keys = "log stele/7/log/0+0011aabb, witness w1 w.example/1+99887766, quorum w1";
        assert!(told.ends_with(keys), "{told}");
    }
}
