//! The shard index of one drive: where each shard is, what sweeps have said about each pack, and
//! how much of each segment is still needed. Pure; derived from segments and never the truth.
//!
//! Events are applied in sequence order. At run time that is the order of commits; at open all
//! records are sorted first, so both give the same index.
//!
//! A deleted pack must not come back, so `buried` counts the pack's dead shard records that still
//! exist in some segment: while there are any, its delete record must exist too.

use std::collections::{BTreeMap, BTreeSet};

use stele_types::ids::{Epoch, PackId, PgId};
use stele_types::segment::{ListItem, ListKind, RecordSequence, SegmentNumber};

/// Where one shard record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ShardAt {
    pub(crate) generation: u32,
    pub(crate) shard: u8,
    pub(crate) segment: SegmentNumber,
    /// First byte of the header in the segment.
    pub(crate) offset: u64,
    pub(crate) header_len: u32,
    pub(crate) payload_len: u32,
    pub(crate) sequence: RecordSequence,
}

impl ShardAt {
    /// Bytes of the whole record.
    pub(crate) fn record_len(&self) -> u64 {
        u64::from(self.header_len) + u64::from(self.payload_len)
    }
}

/// A shard record as the index takes it in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ShardEvent {
    pub(crate) pack: PackId,
    pub(crate) pg: PgId,
    pub(crate) start_epoch: Epoch,
    pub(crate) at: ShardAt,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    at: ShardAt,
    /// Failed its CRC; kept so that its segment is not thrown away, but not offered.
    corrupt: bool,
}

#[derive(Debug)]
struct Entry {
    pg: PgId,
    start_epoch: Epoch,
    touched: Epoch,
    condemned: Option<Epoch>,
    judged_at: RecordSequence,
    deleted_at: RecordSequence,
    shards: Vec<Held>,
    buried: u32,
}

/// One segment's account.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct SegmentAccount {
    /// Length of the file, preallocation included.
    pub(crate) bytes: u64,
    /// How far it has been written.
    pub(crate) written: u64,
    /// Bytes of shard records that are the current copy of their shard.
    pub(crate) live: u64,
    /// Nothing is written to it any more.
    pub(crate) sealed: bool,
    /// Emptying it failed or gained nothing; tried again once this many segments were removed, or
    /// its live bytes are not `stuck_live` any more.
    pub(crate) retry_at: u64,
    /// See `retry_at`.
    pub(crate) stuck_live: u64,
}

impl SegmentAccount {
    /// Value of `retry_at` for segments that only the next open may empty.
    pub(crate) const NEVER: u64 = u64::MAX;

    /// It may be emptied, `removed` segments having been removed.
    pub(crate) fn due(&self, removed: u64) -> bool {
        self.sealed && (self.retry_at <= removed || (self.retry_at != Self::NEVER && self.live != self.stuck_live))
    }

    /// Lets it be until something changes.
    pub(crate) fn put_off(&mut self, removed: u64) {
        (self.retry_at, self.stuck_live) = (removed.saturating_add(1), self.live);
    }
}

/// One pack as inventories show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PackView {
    pub(crate) pack: PackId,
    pub(crate) start_epoch: Epoch,
    pub(crate) touched: Epoch,
    pub(crate) condemned: Option<Epoch>,
    pub(crate) generation: u32,
    pub(crate) shards: Vec<u8>,
    pub(crate) stored_bytes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Index {
    packs: BTreeMap<PackId, Entry>,
    by_pg: BTreeSet<(PgId, PackId)>,
    segments: BTreeMap<SegmentNumber, SegmentAccount>,
    removed_segments: u64,
    /// Some segment could not be read in full: it may hold shards of deleted packs, so no delete
    /// record is ever dropped.
    pub(crate) incomplete: bool,
}

impl Index {
    pub(crate) fn apply_shard(&mut self, event: &ShardEvent) {
        let entry = self.packs.entry(event.pack).or_insert_with(|| Entry {
            pg: event.pg,
            start_epoch: event.start_epoch,
            touched: Epoch(0),
            condemned: None,
            judged_at: RecordSequence(0),
            deleted_at: RecordSequence(0),
            shards: Vec::with_capacity(1),
            buried: 0,
        });
        if event.at.sequence < entry.deleted_at {
            entry.buried += 1;
            return;
        }
        if entry.shards.is_empty() {
            entry.pg = event.pg;
            entry.start_epoch = event.start_epoch;
        }
        let at = event.at;
        let same = |h: &&mut Held| h.at.generation == at.generation && h.at.shard == at.shard;
        match entry.shards.iter_mut().find(same) {
            Some(held) => {
                // A later copy of the same shard: a repair, or a copy into another segment.
                entry.buried += 1;
                let before = held.at;
                if at.sequence >= before.sequence {
                    *held = Held { at, corrupt: false };
                    self.add_live(at.segment, at.record_len());
                    self.sub_live(before.segment, before.record_len());
                }
            }
            None => {
                entry.shards.push(Held { at, corrupt: false });
                self.by_pg.insert((event.pg, event.pack));
                self.add_live(at.segment, at.record_len());
            }
        }
    }

    /// A copied record: becomes the current one if its original still is.
    pub(crate) fn apply_copy(&mut self, from: &ShardAt, event: &ShardEvent) {
        if self.is_current(event.pack, from) {
            self.apply_shard(event);
        } else if let Some(entry) = self.packs.get_mut(&event.pack) {
            entry.buried += 1;
        }
    }

    pub(crate) fn apply_item(&mut self, kind: ListKind, item: &ListItem) {
        let Some(entry) = self.packs.get_mut(&item.pack) else { return };
        if item.at < entry.deleted_at {
            return;
        }
        match kind {
            ListKind::Touch => entry.touched = entry.touched.max(item.epoch),
            ListKind::Condemn | ListKind::Pardon if item.at <= entry.judged_at => {}
            ListKind::Condemn => {
                entry.condemned = Some(item.epoch);
                entry.judged_at = item.at;
            }
            ListKind::Pardon => {
                entry.condemned = None;
                entry.judged_at = item.at;
            }
            ListKind::Delete => self.apply_delete(item),
        }
    }

    fn apply_delete(&mut self, item: &ListItem) {
        let Some(entry) = self.packs.get_mut(&item.pack) else { return };
        entry.deleted_at = item.at;
        let (dead, kept): (Vec<Held>, Vec<Held>) =
            std::mem::take(&mut entry.shards).into_iter().partition(|h| h.at.sequence < item.at);
        entry.buried += u32::try_from(dead.len()).unwrap_or(u32::MAX);
        entry.shards = kept;
        if entry.shards.is_empty() {
            (entry.touched, entry.condemned, entry.judged_at) = (Epoch(0), None, RecordSequence(0));
            self.by_pg.remove(&(entry.pg, item.pack));
        }
        for held in dead {
            self.sub_live(held.at.segment, held.at.record_len());
        }
    }

    /// The current record of a shard.
    pub(crate) fn shard(&self, pack: PackId, generation: u32, shard: u8) -> Option<ShardAt> {
        let entry = self.packs.get(&pack)?;
        let wanted = |h: &&Held| h.at.generation == generation && h.at.shard == shard;
        entry.shards.iter().find(wanted).map(|h| h.at)
    }

    /// The shard is here, and nothing is known against its bytes.
    pub(crate) fn holds_intact(&self, pack: PackId, generation: u32, shard: u8) -> bool {
        let wanted = |h: &Held| h.at.generation == generation && h.at.shard == shard && !h.corrupt;
        self.packs.get(&pack).is_some_and(|e| e.shards.iter().any(wanted))
    }

    /// A record of the newest generation held.
    pub(crate) fn newest(&self, pack: PackId) -> Option<ShardAt> {
        self.packs.get(&pack)?.shards.iter().map(|h| h.at).max_by_key(|at| at.generation)
    }

    /// This record is the current copy of its shard.
    pub(crate) fn is_current(&self, pack: PackId, at: &ShardAt) -> bool {
        self.shard(pack, at.generation, at.shard) == Some(*at)
    }

    /// Notes that a record fails its CRC, if it is still the current one.
    pub(crate) fn mark_corrupt(&mut self, pack: PackId, at: &ShardAt) {
        let Some(entry) = self.packs.get_mut(&pack) else { return };
        if let Some(held) = entry.shards.iter_mut().find(|h| h.at == *at) {
            held.corrupt = true;
        }
    }

    /// The pack is here, was started and last touched at or below `fence`.
    pub(crate) fn may_condemn(&self, pack: PackId, fence: Epoch) -> bool {
        self.live(pack).is_some_and(|e| e.start_epoch <= fence && e.touched <= fence)
    }

    /// Fence at which the pack is condemned, if it is.
    pub(crate) fn condemned(&self, pack: PackId) -> Option<Epoch> {
        self.live(pack)?.condemned
    }

    /// Any shard of the pack is here.
    pub(crate) fn holds(&self, pack: PackId) -> bool {
        self.live(pack).is_some()
    }

    /// Highest touch, if the pack is here.
    pub(crate) fn touched(&self, pack: PackId) -> Option<Epoch> {
        self.live(pack).map(|e| e.touched)
    }

    fn live(&self, pack: PackId) -> Option<&Entry> {
        self.packs.get(&pack).filter(|e| !e.shards.is_empty())
    }

    fn view(&self, pack: PackId) -> Option<PackView> {
        let entry = self.live(pack)?;
        let generation = entry.shards.iter().map(|h| h.at.generation).max()?;
        let newest = entry.shards.iter().filter(|h| h.at.generation == generation && !h.corrupt);
        Some(PackView {
            pack,
            start_epoch: entry.start_epoch,
            touched: entry.touched,
            condemned: entry.condemned,
            generation,
            shards: newest.map(|h| h.at.shard).collect(),
            stored_bytes: entry.shards.iter().map(|h| h.at.record_len()).sum(),
        })
    }

    /// One pack.
    pub(crate) fn pack(&self, pack: PackId) -> Option<(PgId, PackView)> {
        Some((self.live(pack)?.pg, self.view(pack)?))
    }

    /// Packs of a PG behind `after`, by pack id, and whether more follow.
    pub(crate) fn inventory(&self, pg: PgId, after: Option<PackId>, max: usize) -> (Vec<PackView>, bool) {
        use std::ops::Bound::{Excluded, Included};
        let from = match after {
            Some(pack) => Excluded((pg, pack)),
            None => Included((pg, PackId::from_bytes([0; 32]))),
        };
        let to = Included((pg, PackId::from_bytes([0xFF; 32])));
        if after == Some(PackId::from_bytes([0xFF; 32])) {
            return (Vec::new(), false);
        }
        let mut packs = self.by_pg.range((from, to)).filter_map(|(_, pack)| self.view(*pack));
        let rows: Vec<PackView> = packs.by_ref().take(max).collect();
        let more = packs.next().is_some();
        (rows, more)
    }

    /// PGs behind `after` of which there are packs here, and whether more follow.
    pub(crate) fn groups(&self, after: Option<PgId>, max: usize) -> (Vec<PgId>, bool) {
        let (mut found, mut last) = (Vec::new(), after);
        while let Some(next) = self.group_behind(last) {
            if found.len() == max {
                return (found, true);
            }
            found.push(next);
            last = Some(next);
        }
        (found, false)
    }

    fn group_behind(&self, after: Option<PgId>) -> Option<PgId> {
        let from = match after {
            Some(pg) => PgId(pg.0.checked_add(1)?),
            None => PgId(0),
        };
        self.by_pg.range((from, PackId::from_bytes([0; 32]))..).next().map(|(pg, _)| *pg)
    }

    /// Packs here.
    pub(crate) fn packs(&self) -> u64 {
        self.by_pg.len() as u64
    }

    /// A list item must be carried along when its segment, holding `buried_here` dead shard
    /// records of the item's pack, is removed.
    pub(crate) fn still_matters(&self, kind: ListKind, item: &ListItem, buried_here: u32) -> bool {
        let Some(entry) = self.packs.get(&item.pack) else { return self.incomplete && kind == ListKind::Delete };
        match kind {
            ListKind::Delete => item.at == entry.deleted_at && (self.incomplete || entry.buried > buried_here),
            ListKind::Touch => !entry.shards.is_empty() && item.at > entry.deleted_at && item.epoch == entry.touched,
            ListKind::Condemn | ListKind::Pardon => !entry.shards.is_empty() && item.at == entry.judged_at,
        }
    }

    /// A segment file and its summary are durably gone; `shards` are the packs of its shard
    /// records, once per record.
    pub(crate) fn forget_segment(&mut self, number: SegmentNumber, shards: impl IntoIterator<Item = PackId>) {
        self.segments.remove(&number);
        self.removed_segments += 1;
        for pack in shards {
            let Some(entry) = self.packs.get_mut(&pack) else { continue };
            entry.buried = entry.buried.saturating_sub(1);
            if entry.shards.is_empty() && entry.buried == 0 && !self.incomplete {
                self.packs.remove(&pack);
            }
        }
    }

    pub(crate) fn segment(&self, number: SegmentNumber) -> Option<SegmentAccount> {
        self.segments.get(&number).copied()
    }

    pub(crate) fn segment_mut(&mut self, number: SegmentNumber) -> &mut SegmentAccount {
        self.segments.entry(number).or_default()
    }

    pub(crate) fn segments(&self) -> impl Iterator<Item = (SegmentNumber, SegmentAccount)> + '_ {
        self.segments.iter().map(|(number, account)| (*number, *account))
    }

    pub(crate) fn removed_segments(&self) -> u64 {
        self.removed_segments
    }

    /// Bytes written to segments that are not live records.
    pub(crate) fn garbage(&self) -> u64 {
        self.segments.values().map(|s| s.written.saturating_sub(s.live)).sum()
    }

    /// Bytes of segment files, and of live records in them.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        self.segments.values().fold((0, 0), |(used, live), s| (used + s.bytes, live + s.live))
    }

    fn add_live(&mut self, segment: SegmentNumber, bytes: u64) {
        self.segment_mut(segment).live += bytes;
    }

    fn sub_live(&mut self, segment: SegmentNumber, bytes: u64) {
        let account = self.segment_mut(segment);
        account.live = account.live.saturating_sub(bytes);
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
