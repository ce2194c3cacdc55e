//! W4: what to do with a pack, from what drives hold and whether something refers to it. Pure.

use std::collections::BTreeMap;

use stele_types::ids::{DriveId, Epoch};

/// What a drive holds of a pack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Held {
    pub(super) drive: DriveId,
    /// Fence at which the drive condemned it.
    pub(super) condemned: Option<Epoch>,
    pub(super) bytes: u64,
}

/// What is done with a pack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Something refers to it, and no drive has condemned it.
    Keep,
    /// Something refers to it: drives that condemned it take that back.
    Pardon,
    /// Nothing does: drives that have not condemned it do so.
    Condemn,
    /// Nothing does, and some drive has not waited long enough.
    Wait,
    /// Nothing does, as before, and every holder has waited long enough.
    Delete,
}

impl Verdict {
    /// Whether a drive that condemned the pack, or did not, is to be asked.
    pub(super) const fn concerns(self, condemned: bool) -> bool {
        match self {
            Self::Keep | Self::Wait => false,
            Self::Pardon | Self::Delete => condemned,
            Self::Condemn => !condemned,
        }
    }
}

/// Judges a pack. It is deleted only if every holder condemned it at or below `ripe`, a fence below the present one
/// whose grace time is over; nothing is while there is no such fence. A drive that was away in an earlier run thus
/// delays the deletion everywhere, and condemns now.
pub(super) fn judge(holders: &[Held], referenced: bool, ripe: Option<Epoch>) -> Verdict {
    let is_ripe = |held: &Held| held.condemned.is_some() && held.condemned <= ripe;
    if referenced {
        return if holders.iter().any(|held| held.condemned.is_some()) { Verdict::Pardon } else { Verdict::Keep };
    }
    if holders.iter().any(|held| held.condemned.is_none()) {
        Verdict::Condemn
    } else if holders.iter().all(is_ripe) {
        Verdict::Delete
    } else {
        Verdict::Wait
    }
}

/// Packs for each drive.
pub(super) type ByDrive<T> = BTreeMap<DriveId, Vec<T>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn held(condemned: [Option<u64>; 2]) -> [Held; 2] {
        let one =
            |n: u8, c: Option<u64>| Held { drive: DriveId::from_bytes([n; 16]), condemned: c.map(Epoch), bytes: 1 };
        [one(1, condemned[0]), one(2, condemned[1])]
    }

    #[test]
    fn a_pack_goes_only_when_every_holder_condemned_it_in_a_ripe_run() {
        let ripe = Some(Epoch(4));
        for (condemned, unreferenced, referenced) in [
            ([None, None], Verdict::Condemn, Verdict::Keep),
            ([Some(4), None], Verdict::Condemn, Verdict::Pardon),
            ([Some(4), Some(4)], Verdict::Delete, Verdict::Pardon),
            ([Some(4), Some(3)], Verdict::Delete, Verdict::Pardon),
            ([Some(4), Some(5)], Verdict::Wait, Verdict::Pardon),
        ] {
            assert_eq!(judge(&held(condemned), false, ripe), unreferenced, "{condemned:?}");
            assert_eq!(judge(&held(condemned), true, ripe), referenced, "{condemned:?}");
            assert_ne!(judge(&held(condemned), false, None), Verdict::Delete, "{condemned:?}");
        }
        assert!(Verdict::Condemn.concerns(false) && !Verdict::Condemn.concerns(true));
        assert!(Verdict::Delete.concerns(true) && !Verdict::Keep.concerns(true) && !Verdict::Wait.concerns(true));
    }
}
