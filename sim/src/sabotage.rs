//! Promises that can be broken on purpose, one at a time, to show that the simulator notices.

use clap::ValueEnum;

/// One broken promise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Sabotage {
    /// Drives answer before their sync (breaks I-1).
    AcknowledgeBeforeSync,
    /// The sweep deletes without asking for references (breaks I-5).
    DeleteWithoutAsking,
    /// Commits are accepted although their start epoch is fenced (breaks I-5).
    CommitWhenFenced,
    /// A repeated command is applied again (breaks I-3 and I-4).
    ReplyCacheOff,
    /// Chunks are served without comparing their hash (breaks I-2).
    SkipChunkCheck,
    /// A metadata node answers reads from the rows it has, whoever leads (breaks I-3).
    FollowerReadWithoutReadIndex,
    /// A metadata node whose disk was wiped votes under its old id (breaks I-1, I-3 and I-4).
    NodeIdReused,
    /// Versions are removed whatever their retention and legal hold say (breaks I-6).
    RemoveLocked,
    /// Checkpoints of the log are committed whatever stood before and whatever their root is (breaks I-4).
    CommitAnyCheckpoint,
}
