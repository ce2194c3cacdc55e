//! Taking space back: closed segments with little live data are emptied and removed.
//!
//! Live records are copied, checked, to the segment being written, and so is every list item that
//! still matters, above all the delete records of packs whose dead shards exist in yet another
//! segment. The old file goes only after the copies are durable, and the index forgets it only
//! after its removal is durable: until then its dead records still count as existing.

use std::collections::BTreeMap;
use std::sync::Arc;

use stele_types::ids::PackId;
use stele_types::limits::SHARD_CRC_BYTES;
use stele_types::segment::{ListItem, ListKind, SegmentNumber, payload_crcs};
use tokio::sync::{mpsc, oneshot};

use super::index::{Index, SegmentAccount, ShardAt};
use super::op::{CarriedShard, Op, Task};
use super::open::summary_of;
use super::reader::shard_header;
use super::row::Row;
use super::scan::scan;
use super::shared::{Shared, segment_name, summary_name};
use crate::config::ReclaimConfig;
use crate::media::{MediaError, MediaErrorKind};

/// Payload bytes handed to the committer at once.
const CARRY_BYTES: usize = 8 * 1024 * 1024;

/// What one look at the segments did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reclaimed {
    /// Segments removed.
    pub segments: u64,
    /// Bytes they had.
    pub freed_bytes: u64,
    /// Bytes of live records copied.
    pub carried_bytes: u64,
}

/// Why a segment could not be emptied; it stays as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReclaimError {
    #[error(transparent)]
    Media(#[from] MediaError),
    #[error("a live record of pack {0} fails its CRC; its segment stays until the pack is stored anew or deleted")]
    Corrupt(PackId),
    #[error("the committer refused: {0}")]
    Refused(String),
    #[error("live records were left behind; the segment stays")]
    StillLive,
}

/// What to do next. Pure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Choice {
    Empty(SegmentNumber),
    /// The segment being written holds the garbage: close it, so that it can be emptied.
    CloseActive,
    Nothing,
}

fn choose(index: &Index, config: &ReclaimConfig) -> Choice {
    let share = |s: &SegmentAccount| s.live.saturating_mul(100) / s.written.max(1);
    let garbage = index.garbage();
    // Below a least amount nothing is gained by moving data about.
    let too_much = garbage >= config.garbage_bytes_min
        && garbage.saturating_mul(100) > index.bytes().0.saturating_mul(u64::from(config.garbage_percent_max));
    let emptiest =
        index.segments().filter(|(_, s)| s.due(index.removed_segments())).min_by_key(|(number, s)| (share(s), *number));
    let worth = |s: &SegmentAccount| s.written.saturating_sub(s.live) >= config.garbage_bytes_min;
    let active = index.segments().find(|(_, s)| !s.sealed && worth(s));
    let active_share = active.map(|(_, s)| share(&s)).filter(|s| *s < u64::from(config.live_percent_min));
    match (emptiest, active_share) {
        (Some((number, s)), _) if share(&s) < u64::from(config.live_percent_min) => Choice::Empty(number),
        (_, Some(_)) if too_much => Choice::CloseActive,
        (Some((number, s)), _) if too_much && share(&s) < 95 => Choice::Empty(number),
        _ => Choice::Nothing,
    }
}

/// A request to look now.
pub(crate) type Kick = oneshot::Sender<Reclaimed>;

/// Looks at the segments every interval, and when asked, until the drive is dropped.
pub(super) async fn run(shared: Arc<Shared>, ops: mpsc::WeakSender<Op>, mut kicks: mpsc::Receiver<Kick>) {
    loop {
        let kick = tokio::select! {
            biased;
            kick = kicks.recv() => match kick {
                Some(kick) => Some(kick),
                None => return,
            },
            () = tokio::time::sleep(shared.config.reclaim.interval) => None,
        };
        let Some(sender) = ops.upgrade() else { return };
        let done = pass(&shared, &sender, kick.is_some()).await;
        if let Some(kick) = kick {
            let _gone = kick.send(done);
        }
    }
}

/// Empties what is due: one segment at a tick, all of them when asked.
async fn pass(shared: &Shared, ops: &mpsc::Sender<Op>, all: bool) -> Reclaimed {
    let mut done = Reclaimed::default();
    // Emptying makes new segments; a pass ends even if every one of them were due again.
    let most = if all { shared.index().segments().count() * 2 + 2 } else { 2 };
    for _ in 0..most {
        if !shared.health.now().writable() {
            return done;
        }
        let choice = choose(&shared.index(), &shared.config.reclaim);
        let number = match choice {
            Choice::Nothing => return done,
            Choice::CloseActive => {
                if ask(ops, Task::Seal).await.is_err() {
                    return done;
                }
                continue;
            }
            Choice::Empty(number) => number,
        };
        match empty(shared, ops, number).await {
            Ok((freed, carried)) => {
                shared.metrics.reclaimed_segments.inc();
                shared.metrics.carried_bytes.inc_by(carried);
                done.segments += 1;
                done.freed_bytes += freed;
                done.carried_bytes += carried;
            }
            Err(error) => {
                tracing::warn!(drive = %shared.name, segment = %number, %error, "segment not emptied");
                if let ReclaimError::Media(error) = &error
                    && error.kind != MediaErrorKind::Full
                {
                    shared.io_error(error);
                }
                let mut index = shared.index_mut();
                let removed = index.removed_segments();
                index.segment_mut(number).put_off(removed);
            }
        }
        if !all {
            return done;
        }
    }
    done
}

async fn ask(ops: &mpsc::Sender<Op>, task: Task) -> Result<(), ReclaimError> {
    let (answer, answered) = oneshot::channel();
    let gone = || ReclaimError::Refused("the drive is closing".to_owned());
    ops.send(Op { task, answer, charge: None }).await.map_err(|_| gone())?;
    match answered.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(ReclaimError::Refused(error.to_string())),
        Err(_) => Err(gone()),
    }
}

/// Empties and removes one closed segment; bytes freed and bytes carried.
async fn empty(shared: &Shared, ops: &mpsc::Sender<Op>, number: SegmentNumber) -> Result<(u64, u64), ReclaimError> {
    let file = shared.file(number).await?;
    let rows = match summary_of(shared, &*file, number).await {
        Some(summary) => summary.rows,
        None => scan(&*file, shared.identity.drive, number).await?.rows,
    };
    let carried = carry_shards(shared, ops, &rows).await?;
    let items = carry_items(shared, ops, &rows).await?;
    let account = shared.index().segment(number).unwrap_or_default();
    if account.live > 0 {
        return Err(ReclaimError::StillLive);
    }
    match shared.media.remove(&summary_name(number)).await {
        Err(error) if error.kind != MediaErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    shared.media.remove(&segment_name(number)).await?;
    shared.media.sync_dir().await?;
    shared.let_go(number);
    shared.index_mut().forget_segment(number, rows.iter().filter_map(Row::shard_pack));
    // Emptying a segment that is mostly list items gains little and could go on for ever: the
    // items' new home waits until other segments are gone.
    if items > account.bytes / 2 {
        let mut index = shared.index_mut();
        let removed = index.removed_segments();
        let newest = index.segments().last().map(|(number, _)| number);
        if let Some(newest) = newest {
            index.segment_mut(newest).put_off(removed);
        }
    }
    Ok((account.bytes, carried))
}

async fn carry_shards(shared: &Shared, ops: &mpsc::Sender<Op>, rows: &[Row]) -> Result<u64, ReclaimError> {
    let mut group = Vec::new();
    let (mut bytes, mut total) = (0, 0);
    for row in rows {
        let Row::Shard(event) = row else { continue };
        if !shared.index().is_current(event.pack, &event.at) {
            continue;
        }
        let carried = load(shared, event.pack, event.at).await?;
        bytes += carried.payload.len();
        total += event.at.record_len();
        group.push(carried);
        if bytes >= CARRY_BYTES {
            ask(ops, Task::CarryShards(std::mem::take(&mut group))).await?;
            bytes = 0;
        }
    }
    if !group.is_empty() {
        ask(ops, Task::CarryShards(group)).await?;
    }
    Ok(total)
}

async fn load(shared: &Shared, pack: PackId, at: ShardAt) -> Result<CarriedShard, ReclaimError> {
    let file = shared.file(at.segment).await?;
    let header_len = at.header_len as usize;
    let bytes = file.read_at(at.offset, header_len + at.payload_len as usize).await?;
    let corrupt = || {
        shared.metrics.corrupt.inc();
        shared.index_mut().mark_corrupt(pack, &at);
        ReclaimError::Corrupt(pack)
    };
    let header = shard_header(shared, &bytes, pack, &at).ok_or_else(corrupt)?;
    let payload = bytes.slice(header_len..);
    debug_assert!(payload.len().div_ceil(SHARD_CRC_BYTES) == header.crcs.len());
    if payload_crcs(&payload) != header.crcs {
        return Err(corrupt());
    }
    Ok(CarriedShard { from: at, header, payload })
}

/// Carries the list items that still matter; how many bytes they take.
async fn carry_items(shared: &Shared, ops: &mpsc::Sender<Op>, rows: &[Row]) -> Result<u64, ReclaimError> {
    let mut buried_here: BTreeMap<PackId, u32> = BTreeMap::new();
    for pack in rows.iter().filter_map(Row::shard_pack) {
        *buried_here.entry(pack).or_default() += 1;
    }
    let mut kept: BTreeMap<ListKind, Vec<ListItem>> = BTreeMap::new();
    {
        let index = shared.index();
        for row in rows {
            let Row::Item(kind, item) = row else { continue };
            let here = buried_here.get(&item.pack).copied().unwrap_or(0);
            if index.still_matters(*kind, item, here) {
                kept.entry(*kind).or_default().push(*item);
            }
        }
    }
    let mut bytes = 0;
    for (kind, items) in kept {
        for items in items.chunks(stele_types::segment::LIST_ITEMS_MAX) {
            bytes += items.len() as u64 * 64;
            ask(ops, Task::CarryItems(kind, items.to_vec())).await?;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(segments: &[(u64, u64, bool)]) -> Index {
        let mut index = Index::default();
        for (number, (bytes, live, sealed)) in (1..).zip(segments) {
            let account = index.segment_mut(SegmentNumber(number));
            (account.bytes, account.written, account.live, account.sealed) = (*bytes, *bytes, *live, *sealed);
        }
        index
    }

    #[test]
    fn the_emptiest_closed_segment_goes_first() {
        let config = ReclaimConfig { garbage_bytes_min: 10, ..ReclaimConfig::default() };
        let pick = |segments: &[(u64, u64, bool)]| choose(&index(segments), &config);
        assert_eq!(pick(&[(100, 60, true), (100, 10, true), (100, 30, true)]), Choice::Empty(SegmentNumber(2)));
        assert_eq!(pick(&[(100, 100, true), (100, 99, false)]), Choice::Nothing);
        assert_eq!(pick(&[(100, 100, true), (100, 0, false)]), Choice::CloseActive);
        assert_eq!(pick(&[(100, 70, true), (100, 80, true)]), Choice::Empty(SegmentNumber(1)));
        assert_eq!(pick(&[(100, 92, true), (100, 94, true)]), Choice::Nothing);
        assert_eq!(pick(&[]), Choice::Nothing);
        assert_eq!(pick(&[(20, 20, true), (9, 0, false)]), Choice::Nothing, "too little to move data for");
    }
}
