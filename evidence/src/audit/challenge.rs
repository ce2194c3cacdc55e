//! Which groups are asked for: everything follows from a seed that nobody could know before the inventories were
//! logged, so that anybody can draw the challenges again. Hashes are SHA-256: a few lines of any language redo them.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};
use stele_types::ids::{LogIndex, NodeId};

use super::{AuditError, inventory::InventoryHead};
use crate::proof::Head;
use crate::tree::Hash;

const SEED_DOMAIN: &[u8] = b"stele/audit-seed/v1";
const SAMPLE_DOMAIN: &[u8] = b"stele/audit-sample/v1";
const GROUP_DOMAIN: &[u8] = b"stele/audit/v1";

/// Most challenges of one audit. A larger audit is several ones over successive rows.
pub const CHALLENGES_MAX: usize = 65_536;
/// Most groups that are asked of one row.
pub const GROUPS_PER_ROW_MAX: u8 = 16;
/// Most inventories of one audit.
pub const INVENTORIES_MAX: usize = 4096;
/// Longest beacon value, bytes.
pub const BEACON_MAX: usize = 4096;
/// Longest name of a beacon, bytes.
pub const BEACON_NAME_MAX: usize = 255;

/// Identity of an audit: random, drawn by whoever runs it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AuditId(pub [u8; 16]);

/// What the challenges are drawn from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seed(pub Hash);

/// Which rows of each inventory are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// So many rows of each node, drawn without repetition; all rows of a node that has fewer.
    Sample(u64),
    /// The rows at these positions of every inventory: with `first` 0 and a count of at least the largest size, all.
    Rows {
        /// Position of the first one.
        first: u64,
        /// How many.
        count: u64,
    },
}

/// What an audit asks, but for the seed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Which audit.
    pub id: AuditId,
    /// Number of the audit period: the same seed asks for other groups in another one.
    pub epoch: u64,
    /// Which rows.
    pub scope: Scope,
    /// How many groups of each row, at least 1.
    pub groups_per_row: u8,
}

/// Where the seed comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeedSource {
    /// Log index of the entry that commits to the inventories.
    pub entry: LogIndex,
    /// A signed checkpoint that covers the entry. Its root can't be known before the entry is in the log.
    pub head: Head,
    /// Where the beacon comes from, in words: for the reader.
    pub beacon_name: String,
    /// Randomness that was public or drawn only after the checkpoint: a round of a public beacon, a witness's
    /// cosignature, or the auditor's own 32 random bytes.
    pub beacon: Vec<u8>,
}

impl SeedSource {
    /// Draws the seed.
    ///
    /// # Errors
    /// The checkpoint does not cover the inventories' entry, or the beacon is empty or too long.
    pub fn draw(&self, plan: &Plan, inventories: &[InventoryHead]) -> Result<Seed, AuditError> {
        if self.entry.0 >= self.head.size {
            return Err(AuditError::SeedBeforeInventories);
        }
        let fits = (1..=BEACON_MAX).contains(&self.beacon.len()) && self.beacon_name.len() <= BEACON_NAME_MAX;
        if !fits {
            return Err(AuditError::Beacon);
        }
        let hash = Sha256::new()
            .chain_update(SEED_DOMAIN)
            .chain_update(plan.id.0)
            .chain_update(commitment(inventories))
            .chain_update(self.entry.0.to_be_bytes())
            .chain_update(self.head.size.to_be_bytes())
            .chain_update(self.head.root)
            .chain_update(&self.beacon);
        Ok(Seed(hash.finalize().into()))
    }
}

/// What is logged before the seed is drawn: one hash over all inventories, in ascending order of nodes.
pub fn commitment(inventories: &[InventoryHead]) -> Hash {
    let mut hash = Sha256::new().chain_update(b"stele/audit-inventories/v1");
    for head in inventories {
        hash.update(head.node.0.to_be_bytes());
        hash.update(head.size.to_be_bytes());
        hash.update(head.root);
    }
    hash.finalize().into()
}

/// One row that is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Which inventory, by its place in the audit.
    pub inventory: usize,
    /// Which row.
    pub position: u64,
    /// Which of the row's challenges, from 0.
    pub repeat: u8,
}

impl Plan {
    /// Everything that is asked, inventory by inventory, rows ascending.
    ///
    /// # Errors
    /// Inventories out of order or too many, more challenges than an audit has, or a plan that makes no sense.
    pub fn draw(&self, seed: &Seed, inventories: &[InventoryHead]) -> Result<Vec<Asked>, AuditError> {
        if !(1..=GROUPS_PER_ROW_MAX).contains(&self.groups_per_row) {
            return Err(AuditError::GroupsPerRow(self.groups_per_row));
        }
        let ascending = inventories.windows(2).all(|pair| matches!(pair, [a, b] if a.node < b.node));
        if !ascending || inventories.len() > INVENTORIES_MAX {
            return Err(AuditError::Inventories);
        }
        let rows = inventories.iter().map(|head| self.rows_of(head)).fold(0u64, u64::saturating_add);
        let challenges = rows.saturating_mul(u64::from(self.groups_per_row));
        if challenges > CHALLENGES_MAX as u64 {
            return Err(AuditError::TooManyChallenges(challenges));
        }
        let mut asked = Vec::new();
        for (inventory, head) in inventories.iter().enumerate() {
            for position in self.positions(seed, head) {
                asked.extend((0..self.groups_per_row).map(|repeat| Asked { inventory, position, repeat }));
            }
        }
        Ok(asked)
    }

    /// How many rows of a node are asked for.
    pub fn rows_of(&self, head: &InventoryHead) -> u64 {
        match self.scope {
            Scope::Sample(rows) => rows.min(head.size),
            Scope::Rows { first, count } => head.size.saturating_sub(first).min(count),
        }
    }

    fn positions(&self, seed: &Seed, head: &InventoryHead) -> Vec<u64> {
        let rows = self.rows_of(head);
        match self.scope {
            Scope::Sample(_) => sample(seed, self.epoch, (head.node, head.size), rows),
            Scope::Rows { first, .. } => (first..first.saturating_add(rows)).collect(),
        }
    }

    /// Which group of a shard or chunk of `groups` groups is asked for.
    pub fn group(&self, seed: &Seed, node: NodeId, (subject, groups): ([u8; 32], u32), repeat: u8) -> u32 {
        let hash = Sha256::new()
            .chain_update(GROUP_DOMAIN)
            .chain_update(seed.0)
            .chain_update(self.epoch.to_be_bytes())
            .chain_update(node.0.to_be_bytes())
            .chain_update(subject)
            .chain_update(u64::from(repeat).to_be_bytes());
        u32::try_from(below(hash.finalize().into(), u64::from(groups))).unwrap_or(0)
    }
}

/// A number below `bound` (0 for bound 0) from the first 16 bytes of a hash: uniform to within 2^-64.
fn below(hash: Hash, bound: u64) -> u64 {
    let number = hash.iter().take(16).fold(0u128, |number, byte| number << 8 | u128::from(*byte));
    number.checked_rem(u128::from(bound)).and_then(|rest| u64::try_from(rest).ok()).unwrap_or(0)
}

/// `rows` different positions below `size`, each set of them as likely as any other: Floyd's algorithm.
fn sample(seed: &Seed, epoch: u64, (node, size): (NodeId, u64), rows: u64) -> Vec<u64> {
    let mut chosen = BTreeSet::new();
    for last in size.saturating_sub(rows)..size {
        let hash = Sha256::new()
            .chain_update(SAMPLE_DOMAIN)
            .chain_update(seed.0)
            .chain_update(epoch.to_be_bytes())
            .chain_update(node.0.to_be_bytes())
            .chain_update(last.to_be_bytes());
        let drawn = below(hash.finalize().into(), last + 1);
        if !chosen.insert(drawn) {
            chosen.insert(last);
        }
    }
    chosen.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(node: u64, size: u64) -> InventoryHead {
        InventoryHead { node: NodeId(node), size, root: [u8::try_from(node).unwrap(); 32] }
    }

    fn plan(scope: Scope) -> Plan {
        Plan { id: AuditId([1; 16]), epoch: 5, scope, groups_per_row: 1 }
    }

    fn source() -> SeedSource {
        let head = Head { size: 8, root: [3; 32] };
        SeedSource { entry: LogIndex(7), head, beacon_name: "test".into(), beacon: vec![4; 32] }
    }

    /// Computed independently, with Python's hashlib.
    #[test]
    fn golden_seed_sample_and_group() {
        let (plan, heads) = (plan(Scope::Sample(4)), [head(1, 100), head(2, 3)]);
        let seed = source().draw(&plan, &heads).unwrap();
        assert_eq!(hex::encode(seed.0), GOLDEN_SEED);
        let asked = plan.draw(&seed, &heads).unwrap();
        let positions: Vec<(usize, u64)> = asked.iter().map(|asked| (asked.inventory, asked.position)).collect();
        assert_eq!(positions, GOLDEN_POSITIONS);
        let groups: Vec<u32> = (0..4).map(|repeat| plan.group(&seed, NodeId(1), ([9; 32], 4096), repeat)).collect();
        assert_eq!(groups, GOLDEN_GROUPS);
    }

    const GOLDEN_SEED: &str = "228463cdc9c03736a54665a3659dee27e37c647557a7047d7973966cc709bc80";
    const GOLDEN_POSITIONS: [(usize, u64); 7] = [(0, 1), (0, 9), (0, 65), (0, 78), (1, 0), (1, 1), (1, 2)];
    const GOLDEN_GROUPS: [u32; 4] = [2893, 3515, 2762, 3670];

    #[test]
    fn the_seed_hangs_on_everything_that_was_fixed_before_it() {
        let (base, heads) = (plan(Scope::Sample(4)), [head(1, 100), head(2, 3)]);
        let seeds = [
            source().draw(&base, &heads),
            source().draw(&Plan { id: AuditId([2; 16]), ..base }, &heads),
            source().draw(&base, &heads[..1]),
            source().draw(&base, &[head(1, 101), head(2, 3)]),
            SeedSource { entry: LogIndex(6), ..source() }.draw(&base, &heads),
            SeedSource { head: Head { size: 9, root: [3; 32] }, ..source() }.draw(&base, &heads),
            SeedSource { head: Head { size: 8, root: [4; 32] }, ..source() }.draw(&base, &heads),
            SeedSource { beacon: vec![5; 32], ..source() }.draw(&base, &heads),
        ];
        let different: BTreeSet<Hash> = seeds.iter().map(|seed| seed.as_ref().unwrap().0).collect();
        assert_eq!(different.len(), seeds.len());
        let early = SeedSource { entry: LogIndex(8), ..source() };
        assert_eq!(early.draw(&base, &heads), Err(AuditError::SeedBeforeInventories));
        for len in [0, BEACON_MAX + 1] {
            assert_eq!(SeedSource { beacon: vec![0; len], ..source() }.draw(&base, &heads), Err(AuditError::Beacon));
        }
    }

    #[test]
    fn every_pair_of_rows_is_as_likely_as_any_other() {
        // 21 pairs of 7 rows, 21,000 draws: each about 1,000 times, with a standard deviation of 31.
        let mut count = std::collections::BTreeMap::<Vec<u64>, u32>::new();
        for epoch in 0..21_000 {
            let drawn = sample(&Seed([6; 32]), epoch, (NodeId(3), 7), 2);
            assert!(drawn[0] < drawn[1] && drawn[1] < 7);
            *count.entry(drawn).or_default() += 1;
        }
        assert_eq!(count.len(), 21);
        assert!(count.values().all(|count| (845..=1155).contains(count)), "{count:?}");
    }

    #[test]
    fn every_group_is_as_likely_as_any_other() {
        let mut count = [0u32; 5];
        for epoch in 0..5000 {
            let group = Plan { epoch, ..plan(Scope::Sample(1)) }.group(&Seed([6; 32]), NodeId(1), ([1; 32], 5), 0);
            count[group as usize] += 1;
        }
        assert!(count.iter().all(|count| (858..=1142).contains(count)), "{count:?}");
    }

    #[test]
    fn plans_are_bounded() {
        let seed = Seed([0; 32]);
        let heads = [head(1, 60_000), head(2, 60_000)];
        let too_many = plan(Scope::Rows { first: 0, count: u64::MAX }).draw(&seed, &heads);
        assert_eq!(too_many, Err(AuditError::TooManyChallenges(120_000)));
        let window = plan(Scope::Rows { first: 50_000, count: 20_000 }).draw(&seed, &heads).unwrap();
        assert_eq!(window.len(), 20_000);
        assert_eq!((window[0].position, window[10_000].inventory, window[19_999].position), (50_000, 1, 59_999));
        assert_eq!(plan(Scope::Sample(1)).draw(&seed, &[heads[1], heads[0]]), Err(AuditError::Inventories));
        assert_eq!(plan(Scope::Sample(1)).draw(&seed, &[heads[0], heads[0]]), Err(AuditError::Inventories));
        for groups_per_row in [0, GROUPS_PER_ROW_MAX + 1] {
            let plan = Plan { groups_per_row, ..plan(Scope::Sample(1)) };
            assert_eq!(plan.draw(&seed, &heads), Err(AuditError::GroupsPerRow(groups_per_row)));
        }
        assert_eq!(plan(Scope::Sample(u64::MAX)).draw(&seed, &[head(1, 0)]), Ok(Vec::new()));
    }
}
