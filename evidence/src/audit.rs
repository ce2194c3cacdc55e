//! Possession audits: does a node still hold the bytes that it says it holds? Pure: the caller logs, draws the beacon,
//! asks the nodes and keeps the report; everything here can be done again by an auditor, offline. Formats:
//! docs/formats/audit.md.
//!
//! | module | holds |
//! |---|---|
//! | [`inventory`] | rows of shards and chunks, and the tree whose root is logged first |
//! | [`challenge`] | the seed, and which groups of which rows are asked for |
//! | [`answer`] | the slice and the signed statement that a node answers with, and what they are worth |
//! | [`progress`] | from the first question to a verdict |
//! | [`report`] | everything that an audit found, in its one encoding |
//! | [`verify`] | a report checked again, offline |
//! | [`words`] | a checked report in words |
//! | [`detection`] | how likely a loss is found |

pub mod answer;
pub mod challenge;
pub mod detection;
pub mod inventory;
pub mod progress;
pub mod report;
pub mod verify;
pub mod words;

/// Why an audit can't be planned.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AuditError {
    /// More rows than an inventory has.
    #[error("the inventory has {0} rows; at most {max} fit, so audit the node's drives one by one", max = inventory::ROWS_MAX)]
    TooManyRows(usize),
    /// A length or slot that no shard or chunk has.
    #[error("row {0} of the inventory has a length or slot that no shard or chunk has")]
    BadRow(usize),
    /// A row that is not behind the one before it.
    #[error("row {0} of the inventory is repeated or out of order")]
    Unsorted(usize),
    /// Inventories that are not in ascending order of nodes, one for each, or too many.
    #[error("inventories are not in ascending order of nodes, or more than {max}", max = challenge::INVENTORIES_MAX)]
    Inventories,
    /// More challenges than an audit has.
    #[error("{0} challenges; one audit has at most {max}, so ask for successive rows in several audits", max = challenge::CHALLENGES_MAX)]
    TooManyChallenges(u64),
    /// How many groups of a row are asked for.
    #[error("{0} groups of each row; at least 1 and at most {max}", max = challenge::GROUPS_PER_ROW_MAX)]
    GroupsPerRow(u8),
    /// The checkpoint does not cover the inventories' entry.
    #[error("the seed hangs on a checkpoint that does not cover the inventories: it was drawn before they were logged")]
    SeedBeforeInventories,
    /// The beacon is empty or too long.
    #[error("the beacon is empty, or longer than {max} bytes, or its name is too long", max = challenge::BEACON_MAX)]
    Beacon,
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
pub(crate) mod tests;
