//! Changing who votes: one change at a time, guarded by the membership it was decided on. A change that
//! was cut off between its two steps is finished by whoever leads next.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::Precondition;
use stele_rpc::error::{Code, RpcError};
use stele_rpc::raft::RaftKind;

use super::group::{Group, GroupRaft, write_error};
use super::types::{Member, StoredMembership};

/// Voters a group has at most.
const VOTERS_MAX: usize = 5;

type Change = ChangeMembers<u64, Member>;

fn membership(raft: &GroupRaft) -> StoredMembership {
    raft.metrics().borrow_watched().membership_config.as_ref().clone()
}

fn refused(text: String) -> RpcError {
    RpcError::new(Code::Malformed, text)
}

/// Changes the voters, if the membership is still the one that was looked at.
async fn change(raft: &GroupRaft, seen: &StoredMembership, change: Change) -> Result<(), RpcError> {
    let guard = Precondition::LastMembershipLogId { last_membership_log_id: *seen.log_id() };
    raft.change_membership_if(change, false, [guard]).await.map(drop).map_err(write_error)
}

/// Finishes a change that was left half done: the newer set of voters becomes the only one.
pub(super) async fn finish(raft: &GroupRaft) -> Result<StoredMembership, RpcError> {
    let seen = membership(raft);
    let configs = seen.membership().get_joint_config();
    match configs.as_slice() {
        [_, newer] => {
            let newer: BTreeSet<u64> = newer.clone();
            tracing::info!(?newer, "finishing a change of voters");
            change(raft, &seen, ChangeMembers::ReplaceAllVoters(newer)).await?;
            Ok(membership(raft))
        }
        _ => Ok(seen),
    }
}

impl Group {
    /// Makes `node`, which runs and is empty or caught up, a voter. On the leader only. Safe to repeat.
    ///
    /// # Errors
    /// It is unreachable, its id was used with another disk, there are too many voters, or the outcome
    /// is unknown: repeat it.
    pub(crate) async fn add_voter(&self, node: u64) -> Result<(), RpcError> {
        let _turn = self.changing.lock().await;
        let seen = finish(&self.raft).await?;
        let voters: BTreeSet<u64> = seen.membership().voter_ids().collect();
        if voters.contains(&node) {
            return Ok(());
        }
        if voters.len() >= VOTERS_MAX {
            return Err(refused(format!("{VOTERS_MAX} voters are the most: replace or remove one")));
        }
        self.learn(&seen, node).await?;
        change(&self.raft, &membership(&self.raft), ChangeMembers::AddVoterIds(BTreeSet::from([node]))).await
    }

    /// Takes a voter's vote away and forgets it. Its process must be stopped by the caller.
    ///
    /// # Errors
    /// It is the last voter, or the outcome is unknown: repeat it.
    pub(crate) async fn remove_voter(&self, node: u64) -> Result<(), RpcError> {
        let _turn = self.changing.lock().await;
        let seen = finish(&self.raft).await?;
        let voters: BTreeSet<u64> = seen.membership().voter_ids().collect();
        if !voters.contains(&node) {
            return Ok(());
        }
        if voters.len() == 1 {
            return Err(refused(format!("node {node} is the only voter: add another one first")));
        }
        change(&self.raft, &seen, ChangeMembers::RemoveVoters(BTreeSet::from([node]))).await
    }

    /// Replaces voter `old`, which need not run, by `new` in one change.
    ///
    /// # Errors
    /// As [`Group::add_voter`]; or neither of them is a voter.
    pub(crate) async fn replace_voter(&self, old: u64, new: u64) -> Result<(), RpcError> {
        let _turn = self.changing.lock().await;
        let seen = finish(&self.raft).await?;
        let mut voters: BTreeSet<u64> = seen.membership().voter_ids().collect();
        if !voters.remove(&old) {
            let done = voters.contains(&new);
            return if done { Ok(()) } else { Err(refused(format!("node {old} is not a voter"))) };
        }
        if voters.insert(new) {
            self.learn(&seen, new).await?;
        }
        change(&self.raft, &membership(&self.raft), ChangeMembers::ReplaceAllVoters(voters)).await
    }

    /// Sends `node` the log until it has nearly all of it.
    async fn learn(&self, seen: &StoredMembership, node: u64) -> Result<(), RpcError> {
        let known: BTreeMap<u64, Member> = seen.membership().nodes().map(|(id, member)| (*id, *member)).collect();
        let peer = self.peers.peer(node, 0);
        let (reply, _) = peer.call(RaftKind::Hello, Bytes::new(), self.peers.call_timeout).await?;
        if reply.cluster != self.peers.cluster {
            return Err(refused(format!("node {node} belongs to another cluster")));
        }
        if known.get(&node).is_some_and(|member| member.incarnation != reply.incarnation) {
            let text = format!(
                "node {node} came back with another disk than it was added with: an id is never reused; \
                 remove it and add the node under a new id"
            );
            return Err(refused(text));
        }
        let member = Member { incarnation: reply.incarnation };
        self.raft.add_learner(node, member, true).await.map(drop).map_err(write_error)
    }
}
