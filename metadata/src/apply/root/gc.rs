//! Runs of garbage collection: when each fence was made, so that what was condemned waits for the grace time whoever
//! leads meanwhile, and what the last run did. The sweep itself is the storage nodes' and sees no rows.

use stele_rpc::meta::{GcBegun, GcCommand, GcRun, MetaReply};

use crate::apply::{Batch, Context, Outcome};
use crate::keyspace;
use crate::kv::KvResult;
use crate::rows::{FenceRow, GcRow, encode, load};

/// Runs within a grace time that are told apart. What was condemned between two of them waits from the later one on.
const RUNS_PER_GRACE: u64 = 32;

impl Batch<'_> {
    pub(crate) fn gc(&mut self, cx: Context<'_>, command: &GcCommand) -> Outcome<MetaReply> {
        match command {
            GcCommand::Begin { grace_ms } => self.begin_gc(cx, *grace_ms),
            GcCommand::Finish(run) => self.finish_gc(cx, run),
        }
    }

    fn gc_row(&self) -> KvResult<GcRow> {
        Ok(load(self.rows, &keyspace::GC)?.unwrap_or_default())
    }

    /// Safe to repeat: one fence more, which nobody sweeps with, does no harm.
    fn begin_gc(&mut self, cx: Context<'_>, grace_ms: u64) -> Outcome<MetaReply> {
        self.advance_epoch()?;
        let limit = stele_types::ids::Epoch(self.root.epoch.0.saturating_sub(1));
        self.fence(cx, limit)?;
        let (fence, now) = (self.root.fence, cx.now);
        let mut row = self.gc_row()?;
        row.begun += 1;
        row.last_begun = Some(now);
        let ripe = ripe(&row.fences, now, grace_ms).filter(|ripe| *ripe < fence);
        note(&mut row.fences, FenceRow { fence, made: now }, grace_ms);
        self.rows.put(&keyspace::GC, &encode(&row))?;
        Ok(MetaReply::GcBegun(GcBegun { number: row.begun, fence, ripe, began: now }))
    }

    fn finish_gc(&mut self, cx: Context<'_>, run: &GcRun) -> Outcome<MetaReply> {
        let mut row = self.gc_row()?;
        if row.last.as_ref().is_some_and(|last| last.number >= run.number) {
            return Ok(MetaReply::Done);
        }
        let mut run = run.clone();
        run.ended = cx.now;
        run.voided.truncate(GcRun::TOLD_MAX);
        for (_, why) in &mut run.voided {
            why.truncate(why.floor_char_boundary(GcRun::WHY_MAX));
        }
        let totals = &mut row.totals;
        totals.runs += 1;
        totals.condemned = totals.condemned.saturating_add(run.condemned.packs).saturating_add(run.strays.condemned);
        totals.pardoned = totals.pardoned.saturating_add(run.pardoned);
        for deleted in [run.deleted, run.strays.deleted] {
            totals.deleted.packs = totals.deleted.packs.saturating_add(deleted.packs);
            totals.deleted.bytes = totals.deleted.bytes.saturating_add(deleted.bytes);
        }
        row.last = Some(run);
        self.rows.put(&keyspace::GC, &encode(&row))?;
        Ok(MetaReply::Done)
    }
}

/// The highest fence that is as old as the grace time.
fn ripe(fences: &[FenceRow], now: u64, grace_ms: u64) -> Option<stele_types::ids::Epoch> {
    let old = |row: &&FenceRow| now.saturating_sub(row.made) >= grace_ms;
    fences.iter().filter(old).map(|row| row.fence).max()
}

/// Adds a fence, and forgets those that decide nothing any more: all but the newest that is ripe, and those that
/// lie close to another one.
fn note(fences: &mut Vec<FenceRow>, new: FenceRow, grace_ms: u64) {
    if let Some(ripe) = ripe(fences, new.made, grace_ms) {
        fences.retain(|row| row.fence >= ripe);
    }
    if fences.last().is_some_and(|last| last.fence >= new.fence) {
        return;
    }
    if let [.., before, _] = fences.as_slice()
        && new.made.saturating_sub(before.made) < grace_ms / RUNS_PER_GRACE
    {
        fences.pop();
    }
    fences.push(new);
}

#[cfg(test)]
mod tests {
    use super::*;
    use stele_types::ids::Epoch;

    #[test]
    fn fences_ripen_in_time_however_often_a_run_begins_and_few_are_kept() {
        for every in [1, 7, 100, 999, 1000, 5000] {
            let (mut fences, grace) = (Vec::new(), 1000);
            for run in 1..4000u64 {
                let now = run * every;
                let exact = (0..run).filter(|old| now - old * every >= grace).max().unwrap_or(0);
                let found = ripe(&fences, now, grace).map_or(0, |fence| fence.0);
                assert!(found <= exact, "never too early: {found} of {exact} at {now}, every {every}");
                let late = (exact - found) * every;
                assert!(late <= grace / RUNS_PER_GRACE + every, "{late} ms late at {now}, every {every}");
                note(&mut fences, FenceRow { fence: Epoch(run), made: now }, grace);
                assert!(fences.len() <= 2 * RUNS_PER_GRACE as usize + 4, "{} kept", fences.len());
            }
        }
    }

    #[test]
    fn a_fence_that_does_not_move_keeps_its_time() {
        let mut fences = Vec::new();
        note(&mut fences, FenceRow { fence: Epoch(4), made: 10 }, 100);
        note(&mut fences, FenceRow { fence: Epoch(4), made: 90 }, 100);
        assert_eq!(ripe(&fences, 109, 100), None);
        assert_eq!(ripe(&fences, 110, 100), Some(Epoch(4)));
    }
}
