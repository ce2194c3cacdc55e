//! What the voters of a metadata group say to each other. The consensus library's own messages travel
//! as opaque bytes in the body, so that only `metadata` knows them; here is what they are wrapped in.

use serde::{Deserialize, Serialize};
use stele_types::ids::ClusterId;
use stele_types::seam::UnixMillis;

/// Rows in one frame of a snapshot, bytes. A single larger row travels alone.
pub const SNAPSHOT_FRAME_BYTES: usize = 1 << 20;

/// A message from one voter to another; its payload is the request's body.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RaftRequest {
    /// The group.
    pub group: u32,
    /// The sender's cluster; refused by a member of another one.
    pub cluster: Option<ClusterId>,
    /// Incarnation of the receiver's log, as its membership entry says. A voter whose disk was wiped
    /// has another one: it must not vote under its old id.
    pub incarnation: u64,
    /// What the body holds.
    pub kind: RaftKind,
}

/// What a [`RaftRequest`] asks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RaftKind {
    /// Who are you: cluster, incarnation, clock. No body; the incarnation of the request is not checked.
    Hello,
    /// Append entries; a heartbeat without any.
    Append,
    /// Vote for the sender.
    Vote,
    /// Would you vote for the sender?
    PreVote,
    /// Take over leadership.
    TransferLeader,
    /// A snapshot begins. Body: the sender's vote and what the snapshot covers.
    SnapshotBegin {
        /// Tells this transfer from others of the same sender.
        transfer: u64,
    },
    /// Rows of a snapshot, in key order, in the body.
    SnapshotFrame {
        /// The transfer.
        transfer: u64,
        /// Frames from 0, without gaps. The last one may be repeated.
        number: u64,
        /// BLAKE3 over the number as u64le, then the body.
        hash: [u8; 32],
    },
    /// The snapshot is complete: install it.
    SnapshotEnd {
        /// The transfer.
        transfer: u64,
        /// How many frames there were.
        frames: u64,
        /// How many rows they held.
        rows: u64,
    },
}

/// The answer to a [`RaftRequest`]; its payload is the response's body.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RaftReply {
    /// The answering node's wall clock, milliseconds.
    pub clock: UnixMillis,
    /// Incarnation of its log.
    pub incarnation: u64,
    /// Its cluster, if it was told one.
    pub cluster: Option<ClusterId>,
}
