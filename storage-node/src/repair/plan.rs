//! R3: which shards are missing, and which packs come first. Pure.

use std::collections::{BTreeMap, BTreeSet};

use stele_types::ids::{DriveId, PackId, PgId};
use stele_types::map::{ClusterMap, DriveRow, PgRow};
use stele_types::pack::PackRow;

/// What a drive holds of a pack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Held {
    pub(super) generation: u32,
    pub(super) shards: Vec<u8>,
}

/// What each drive that answered holds of a PG.
pub(super) type Inventories = BTreeMap<DriveId, BTreeMap<PackId, Held>>;

/// A pack that is not whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Job {
    pub(super) row: PackRow,
    /// Shards to be made, and the drive that each belongs on.
    pub(super) missing: Vec<(u8, DriveId)>,
    /// Drives that hold a shard.
    pub(super) sources: Vec<(u8, DriveId)>,
}

impl Job {
    /// Shards that may still be lost before the pack is.
    pub(super) fn tolerance(&self) -> usize {
        let held: BTreeSet<u8> = self.sources.iter().map(|(shard, _)| *shard).collect();
        held.len().saturating_sub(self.row.scheme.k())
    }
}

/// What is to be done for a PG.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Plan {
    /// Most endangered first, then oldest.
    pub(super) jobs: Vec<Job>,
    /// Packs of which too few shards were found. Certain only if every drive answered.
    pub(super) unreadable: Vec<PackId>,
    /// Missing shards whose drive takes no writes.
    pub(super) waiting: u64,
    /// Slots that move, with their incoming drive: it takes writes, and holds what it should, or will once `jobs` are
    /// done. A shard of an unreadable pack counts only if the drive that goes has it.
    pub(super) filled: Vec<(u8, DriveId)>,
}

/// What is missing. `targets`: drives that take writes; only those whose inventory is known count.
pub(super) fn decide(pg: &PgRow, rows: &[PackRow], held: &Inventories, targets: &BTreeSet<DriveId>) -> Plan {
    let mut plan = Plan::default();
    let known = |drive: &DriveId| held.contains_key(drive);
    let mut filled: BTreeMap<u8, DriveId> = (0u8..)
        .zip(&pg.slots)
        .filter_map(|(at, slot)| Some((at, slot.incoming.filter(|to| targets.contains(to) && known(to))?)))
        .collect();
    for row in rows {
        let holds = |drive: DriveId, shard: u8| {
            let of = held.get(&drive).and_then(|packs| packs.get(&row.pack));
            of.is_some_and(|of| of.generation == row.generation && of.shards.contains(&shard))
        };
        let mut job = Job { row: row.clone(), missing: Vec::new(), sources: Vec::new() };
        for (shard, slot) in (0u8..).zip(&row.slots) {
            let Some(slot) = pg.slots.get(usize::from(*slot)) else { continue };
            let target = slot.incoming.unwrap_or(slot.drive);
            let holders = std::iter::once(slot.drive).chain(slot.incoming);
            job.sources.extend(holders.filter(|drive| holds(*drive, shard)).map(|drive| (shard, drive)));
            if !holds(target, shard) {
                match targets.contains(&target) && held.contains_key(&target) {
                    true => job.missing.push((shard, target)),
                    false => plan.waiting += 1,
                }
            }
        }
        let found: BTreeSet<u8> = job.sources.iter().map(|(shard, _)| *shard).collect();
        if found.len() < row.scheme.k() {
            plan.unreadable.push(row.pack);
            for (shard, at) in (0u8..).zip(&row.slots) {
                let Some(slot) = pg.slots.get(usize::from(*at)) else { continue };
                if !holds(slot.takes(), shard) && (holds(slot.drive, shard) || !known(&slot.drive)) {
                    filled.remove(at);
                }
            }
        } else if !job.missing.is_empty() {
            plan.jobs.push(job);
        }
    }
    plan.jobs.sort_by_key(|job| (job.tolerance(), job.row.start_epoch, job.row.pack));
    plan.filled = filled.into_iter().collect();
    plan
}

/// PGs whose row is another one, or a drive of which is in another state or on another node.
pub(super) fn changed(old: &ClusterMap, new: &ClusterMap) -> BTreeSet<PgId> {
    let rows: BTreeMap<PgId, &PgRow> = old.pgs.iter().map(|pg| (pg.id, pg)).collect();
    let before: BTreeMap<DriveId, &DriveRow> = old.drives.iter().map(|drive| (drive.id, drive)).collect();
    let same = |drive: &DriveRow| before.get(&drive.id).is_some_and(|b| (b.state, b.node) == (drive.state, drive.node));
    let drives: BTreeSet<DriveId> = new.drives.iter().filter(|drive| !same(drive)).map(|drive| drive.id).collect();
    let concerned = |pg: &&PgRow| {
        rows.get(&pg.id) != Some(pg) || pg.slots.iter().any(|slot| slot.holders().any(|on| drives.contains(&on)))
    };
    new.pgs.iter().filter(concerned).map(|pg| pg.id).collect()
}

/// The drive whose node repairs the PG: the first that serves.
pub(super) fn primary(pg: &PgRow, serving: &BTreeSet<DriveId>) -> Option<DriveId> {
    let drives = pg.slots.iter().flat_map(|slot| std::iter::once(slot.drive).chain(slot.incoming));
    drives.into_iter().find(|drive| serving.contains(drive))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
    use proptest::test_runner::RngSeed;
    use stele_types::ids::{Epoch, MapEpoch, NodeId, PgEpoch};
    use stele_types::map::{DriveState, Slot};

    use super::*;

    fn drive(n: u8) -> DriveId {
        DriveId::from_bytes([n; 16])
    }

    fn pack(n: u8) -> PackId {
        PackId::from_bytes([n; 32])
    }

    /// Six slots on drives 0 to 5.
    fn pg() -> PgRow {
        let slots = (0..6).map(|n| Slot { drive: drive(n), incoming: None }).collect();
        PgRow { id: PgId(1), epoch: PgEpoch(1), scheme: "rs-4-2".parse().unwrap(), slots }
    }

    fn row(n: u8, epoch: u64) -> PackRow {
        PackRow {
            pack: pack(n),
            pg: PgId(1),
            scheme: "rs-4-2".parse().unwrap(),
            generation: 0,
            payload_len: 1 << 20,
            slots: (0..6).map(|slot| (slot + n) % 6).collect(),
            start_epoch: Epoch(epoch),
        }
    }

    /// Everything where it belongs.
    fn whole(rows: &[PackRow]) -> Inventories {
        let mut held: Inventories = (0..6).map(|n| (drive(n), BTreeMap::new())).collect();
        for row in rows {
            for (shard, slot) in (0u8..).zip(&row.slots) {
                let of = Held { generation: 0, shards: vec![shard] };
                held.get_mut(&drive(*slot)).unwrap().insert(row.pack, of);
            }
        }
        held
    }

    fn all() -> BTreeSet<DriveId> {
        (0..8).map(drive).collect()
    }

    #[test]
    fn what_is_whole_is_left_alone_and_the_most_endangered_comes_first() {
        let rows = [row(1, 9), row(2, 5), row(3, 7), row(4, 8)];
        let mut held = whole(&rows);
        assert_eq!(decide(&pg(), &rows, &held, &all()), Plan::default());
        held.get_mut(&drive(0)).unwrap().remove(&pack(1));
        held.get_mut(&drive(0)).unwrap().remove(&pack(2));
        held.get_mut(&drive(0)).unwrap().remove(&pack(4));
        held.get_mut(&drive(1)).unwrap().remove(&pack(4));
        let plan = decide(&pg(), &rows, &held, &all());
        let order: Vec<PackId> = plan.jobs.iter().map(|job| job.row.pack).collect();
        assert_eq!(order, [pack(4), pack(2), pack(1)], "tolerance, then age");
        assert_eq!(plan.jobs[0].missing.len(), 2);
        assert_eq!(plan.jobs.iter().map(Job::tolerance).collect::<Vec<_>>(), [0, 1, 1]);
        for n in 2..4 {
            held.get_mut(&drive(n)).unwrap().remove(&pack(4));
        }
        assert_eq!(decide(&pg(), &rows, &held, &all()).unreadable, [pack(4)]);
    }

    #[test]
    fn an_older_generation_is_no_shard() {
        let rows = [PackRow { generation: 1, ..row(1, 1) }];
        let mut held = whole(&rows);
        assert_eq!(decide(&pg(), &rows, &held, &all()).unreadable, [pack(1)]);
        for packs in held.values_mut() {
            packs.get_mut(&pack(1)).unwrap().generation = 1;
        }
        assert_eq!(decide(&pg(), &rows, &held, &all()), Plan::default());
    }

    #[test]
    fn a_slot_that_moves_is_filled_from_the_drive_that_goes() {
        let rows = [row(1, 1)];
        let mut held = whole(&rows);
        let mut moving = pg();
        moving.slots[2].incoming = Some(drive(7));
        let plan = decide(&moving, &rows, &held, &all());
        assert_eq!(plan.waiting, 1, "nobody knows what the new drive holds");
        held.insert(drive(7), BTreeMap::new());
        let plan = decide(&moving, &rows, &held, &all());
        let shard = u8::try_from(rows[0].slots.iter().position(|slot| *slot == 2).unwrap()).unwrap();
        assert_eq!(plan.jobs[0].missing, [(shard, drive(7))]);
        assert!(plan.jobs[0].sources.contains(&(shard, drive(2))), "it need not be computed");
    }

    #[test]
    fn a_slot_is_filled_when_its_new_drive_has_what_can_be_had() {
        let rows = [row(1, 1), row(2, 1)];
        let mut held = whole(&rows);
        let mut moving = pg();
        moving.slots[2].incoming = Some(drive(7));
        let ends = |held: &Inventories| decide(&moving, &rows, held, &all()).filled;
        assert_eq!(ends(&held), [], "nobody knows what the new drive holds");
        held.insert(drive(7), BTreeMap::new());
        assert_eq!(ends(&held), [(2, drive(7))], "two copies will do it");
        assert_eq!(decide(&moving, &rows, &held, &(0..6).map(drive).collect()).filled, [], "it takes no writes");
        // With two more gone the first pack can't be read, but for the shard on the drive that goes.
        for n in 3..6 {
            held.get_mut(&drive(n)).unwrap().remove(&pack(1));
        }
        assert_eq!(decide(&moving, &rows, &held, &all()).unreadable, [pack(1)]);
        assert_eq!(ends(&held), [], "the old drive has a shard that counts");
        held.get_mut(&drive(2)).unwrap().remove(&pack(1));
        assert_eq!(ends(&held), [(2, drive(7))], "it is on neither");
        held.remove(&drive(2));
        assert_eq!(ends(&held), [], "it may be on the old drive, which is away");
    }

    #[test]
    fn a_change_of_the_map_concerns_the_groups_of_what_changed() {
        let of = |n: u8| DriveRow {
            id: drive(n),
            node: NodeId(u64::from(n)),
            name: String::new(),
            state: DriveState::Ok,
            reason: String::new(),
            capacity: 0,
        };
        let second = PgRow { id: PgId(2), slots: vec![Slot { drive: drive(7), incoming: None }], ..pg() };
        let drives = (0..8).map(of).collect();
        let old = ClusterMap { epoch: MapEpoch(1), drives, pgs: vec![pg(), second], ..ClusterMap::default() };
        assert_eq!(changed(&old, &ClusterMap { epoch: MapEpoch(2), ..old.clone() }), BTreeSet::new());
        let mut new = old.clone();
        new.drives[7].state = DriveState::Failed;
        assert_eq!(changed(&old, &new), [PgId(2)].into());
        new.pgs[0].slots[1].incoming = Some(drive(6));
        assert_eq!(changed(&old, &new), [PgId(1), PgId(2)].into());
        let mut grown = old.clone();
        grown.pgs.push(PgRow { id: PgId(3), ..pg() });
        assert_eq!(changed(&old, &grown), [PgId(3)].into());
    }

    #[test]
    fn the_first_drive_that_serves_leads() {
        let mut pg = pg();
        assert_eq!(primary(&pg, &[drive(3), drive(1)].into()), Some(drive(1)));
        pg.slots[0].incoming = Some(drive(7));
        assert_eq!(primary(&pg, &[drive(3), drive(7)].into()), Some(drive(7)));
        assert_eq!(primary(&pg, &BTreeSet::new()), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

        /// Whatever is away: a shard is made exactly where it is missing and can be, from shards that are there.
        #[test]
        fn every_missing_shard_is_accounted_for(lost in proptest::collection::vec((0u8..6, 1u8..6), 0..20), dead in any::<u8>()) {
            let rows: Vec<PackRow> = (1..6).map(|n| row(n, u64::from(n))).collect();
            let mut held = whole(&rows);
            for (on, of) in &lost {
                held.get_mut(&drive(*on)).unwrap().remove(&pack(*of));
            }
            let targets: BTreeSet<DriveId> = (0..6).filter(|n| dead & (1 << n) == 0).map(drive).collect();
            let plan = decide(&pg(), &rows, &held, &targets);
            let gone: BTreeSet<(u8, u8)> = lost.iter().copied().collect();
            let mut expected = 0;
            for row in &rows {
                let missing = (0..6u8).filter(|n| gone.contains(&(*n, row.pack.as_bytes()[0]))).count();
                let unreadable = missing > 2;
                prop_assert_eq!(plan.unreadable.contains(&row.pack), unreadable);
                expected += missing;
                let job = plan.jobs.iter().find(|job| job.row.pack == row.pack);
                prop_assert_eq!(job.map_or(0, |job| job.sources.len()), if job.is_some() { 6 - missing } else { 0 });
            }
            let made: usize = plan.jobs.iter().map(|job| job.missing.len()).sum();
            let given_up: usize = rows.iter().filter(|row| plan.unreadable.contains(&row.pack)).map(|row| {
                (0..6u8).filter(|n| gone.contains(&(*n, row.pack.as_bytes()[0])) && targets.contains(&drive(*n))).count()
            }).sum();
            prop_assert_eq!(made + usize::try_from(plan.waiting).unwrap() + given_up, expected);
            for job in &plan.jobs {
                prop_assert!(job.missing.iter().all(|(shard, on)| targets.contains(on) && !job.sources.contains(&(*shard, *on))));
            }
        }
    }
}
