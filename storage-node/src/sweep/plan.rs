//! W4: what to do with each pack, from what drives hold and what is referenced. Pure.

use std::collections::{BTreeMap, BTreeSet};

use stele_types::ids::{DriveId, Epoch, PackId};

/// Packs at or below the fence: which drives hold them, and since which fence each condemns them.
pub(super) type Holdings = BTreeMap<PackId, BTreeMap<DriveId, Option<Epoch>>>;

/// Orders by drive.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Plan {
    pub(super) condemn: BTreeMap<DriveId, Vec<PackId>>,
    pub(super) pardon: BTreeMap<DriveId, Vec<PackId>>,
    pub(super) delete: BTreeMap<DriveId, Vec<PackId>>,
}

/// Packs whose every holder has condemned them at or below `ripe`, a fence below the present one
/// whose grace time is over, are deleted; nothing is while there is no such fence.
pub(super) fn decide(holdings: &Holdings, referenced: &BTreeSet<PackId>, ripe: Option<Epoch>) -> Plan {
    let mut plan = Plan::default();
    for (pack, holders) in holdings {
        let is_ripe = |condemned: &Option<Epoch>| condemned.is_some() && *condemned <= ripe;
        let delete = holders.values().all(is_ripe);
        for (drive, condemned) in holders {
            let list = match (referenced.contains(pack), condemned) {
                (true, None) => continue,
                (true, Some(_)) => &mut plan.pardon,
                (false, _) if delete => &mut plan.delete,
                (false, None) => &mut plan.condemn,
                (false, Some(_)) => continue,
            };
            list.entry(*drive).or_default().push(*pack);
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(n: u8) -> PackId {
        PackId::from_bytes([n; 32])
    }

    fn drive(n: u8) -> DriveId {
        DriveId::from_bytes([n; 16])
    }

    fn held(n: u8, condemned: [Option<u64>; 2]) -> (PackId, BTreeMap<DriveId, Option<Epoch>>) {
        (pack(n), (1..).map(drive).zip(condemned.map(|c| c.map(Epoch))).collect())
    }

    #[test]
    fn a_pack_goes_only_when_every_holder_condemned_it_in_a_ripe_run() {
        let holdings: Holdings = [
            held(1, [None, None]),
            held(2, [Some(4), None]),
            held(3, [Some(4), Some(4)]),
            held(4, [Some(4), Some(5)]),
            held(5, [Some(4), Some(4)]),
        ]
        .into();
        let plan = decide(&holdings, &[pack(5)].into(), Some(Epoch(4)));
        assert_eq!(plan.condemn, [(drive(1), vec![pack(1)]), (drive(2), vec![pack(1), pack(2)])].into());
        assert_eq!(plan.delete, [(drive(1), vec![pack(3)]), (drive(2), vec![pack(3)])].into());
        assert_eq!(plan.pardon, [(drive(1), vec![pack(5)]), (drive(2), vec![pack(5)])].into());
        let unripe = decide(&holdings, &BTreeSet::new(), None);
        assert!(unripe.delete.is_empty());
    }
}
