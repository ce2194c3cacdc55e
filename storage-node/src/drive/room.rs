//! How much of a segment and of a drive an operation may take. Pure arithmetic.

use stele_types::limits::SEGMENT_ALIGN;

use crate::media::aligned::align_up;

const MIB: u64 = 1024 * 1024;
/// What stores leave free in the allocated part of a segment, so that condemnations and deletions
/// can be recorded on a full drive.
const CONTROL_RESERVE: u64 = 256 * 1024;

/// What the committer knows when it places an operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placement {
    /// Where the operation would start in the segment.
    pub(super) at: u64,
    /// Bytes it takes at most.
    pub(super) bytes: u64,
    /// It is new data.
    pub(super) store: bool,
    /// How far the segment is allocated.
    pub(super) allocated: u64,
    /// Length at which segments are closed.
    pub(super) segment_bytes: u64,
}

/// What to do with the operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It fits what is allocated.
    Fits,
    /// This segment is to be closed first.
    NextSegment,
    /// The segment is to be allocated up to one of these ends, the first that there is room for.
    Grow { wanted: u64, least: u64 },
}

/// Where an operation goes.
pub(super) fn place(p: Placement) -> Verdict {
    let first = SEGMENT_ALIGN as u64;
    let end = p.at + p.bytes;
    let reserve = if p.store { CONTROL_RESERVE } else { 0 };
    if end > p.segment_bytes && p.at > first {
        return Verdict::NextSegment;
    }
    if end + reserve <= p.allocated {
        return Verdict::Fits;
    }
    let step = (p.at / 16).clamp(MIB, 16 * MIB);
    let least = align_up(end + reserve);
    let wanted = align_up(p.at + step).min(p.segment_bytes.max(least)).max(least);
    Verdict::Grow { wanted, least }
}

/// Room on the drive for `more` bytes of segment; stores leave the reserve alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Bytes of segment files now.
    pub(super) used: u64,
    /// Limit on them, if there is one.
    pub(super) capacity: Option<u64>,
    /// Free bytes of the file system.
    pub(super) free: u64,
    /// What stores leave.
    pub(super) reserve: u64,
}

impl Room {
    pub(super) fn has(&self, more: u64, store: bool) -> bool {
        let reserve = if store { self.reserve } else { 0 };
        let within = |limit: u64, used: u64| used.saturating_add(more).saturating_add(reserve) <= limit;
        self.capacity.is_none_or(|c| within(c, self.used)) && within(self.free, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(at: u64, bytes: u64, store: bool, allocated: u64) -> Verdict {
        place(Placement { at, bytes, store, allocated, segment_bytes: 8 * MIB })
    }

    #[test]
    fn stores_leave_room_for_deletions() {
        assert_eq!(at(4096, 4096, false, 8192), Verdict::Fits);
        assert!(matches!(at(4096, 4096, true, 8192), Verdict::Grow { .. }));
        assert_eq!(at(4096, 4096, true, 8192 + CONTROL_RESERVE), Verdict::Fits);
    }

    #[test]
    fn a_record_larger_than_a_segment_gets_one_of_its_own() {
        assert_eq!(at(8192, 9 * MIB, true, MIB), Verdict::NextSegment);
        let Verdict::Grow { wanted, least } = at(4096, 9 * MIB, true, 4096) else { panic!("it must fit") };
        assert!(wanted >= least && least >= 9 * MIB);
    }

    #[test]
    fn growth_is_within_bounds_and_ends_with_the_segment() {
        let Verdict::Grow { wanted, .. } = at(4096, 4096, false, 4096) else { panic!("nothing is allocated") };
        assert_eq!(wanted, align_up(4096 + MIB));
        let Verdict::Grow { wanted, .. } = at(8 * MIB - 8192, 4096, false, 8 * MIB - 8192) else { panic!("full") };
        assert_eq!(wanted, 8 * MIB);
    }

    #[test]
    fn only_stores_stop_at_the_reserve() {
        let room = Room { used: 80, capacity: Some(100), free: 1000, reserve: 15 };
        assert!(room.has(5, true) && !room.has(6, true) && room.has(20, false) && !room.has(21, false));
        assert!(!Room { free: 10, ..room }.has(11, false));
    }
}
