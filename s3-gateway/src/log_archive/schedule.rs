//! Looks from time to time at what is to be done about archives, and does some of it. Every gateway does: whoever comes
//! second is refused, or finds nothing to do.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use stele_evidence::log_archive::leaves;
use stele_evidence::tiles::TILE_WIDTH;
use stele_rpc::meta::{ArchivePlan, Fold, LOG_BUCKET, LogCommand};
use stele_types::ids::{LogIndex, NodeId};

use super::make::{Blueprint, make};
use super::object::{height_of, info, plan, section_with, tiles};
use super::{anchors, command, erase, leftover};
use crate::error::GatewayError;
use crate::gateway::Gateway;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Archives that are made and moved at one look.
const ARCHIVES_PER_LOOK: usize = 4;
/// Steps of erasing at one look.
const ERASURES_PER_LOOK: usize = 16;
/// Between two sections that are moved: each is one command that drops thousands of rows.
const MOVE_PAUSE: Duration = Duration::from_millis(100);
/// Between two archives that are made anew, in microseconds: each is many megabytes for what may be one entry.
const ANEW_EVERY: u64 = 600_000_000;
/// Erased entries of one archive that are worth it at once.
const ANEW_AT_ONCE: usize = 4096;
/// Between two looks for objects that became no archive, in microseconds.
const SWEEP_EVERY: u64 = 3_600_000_000;
/// Between two lines about the same failure, in microseconds.
const SAY_EVERY: u64 = 600_000_000;

/// What a gateway did lately, in microseconds of its clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Turn {
    /// An archive was made anew.
    anew: Option<u64>,
    /// Objects that became no archive were looked for.
    swept: Option<u64>,
    /// A failure was told.
    said: Option<u64>,
}

/// Whether something is done again.
fn again(last: Option<u64>, every: u64, now: u64) -> bool {
    last.is_none_or(|last| last.saturating_add(every) <= now)
}

/// Gateways that were started at once don't look at once.
fn first_pause(node: NodeId) -> Duration {
    let hash = blake3::hash(&node.0.to_le_bytes());
    let share = hash.as_bytes().first_chunk().map_or(0, |bytes| u16::from_le_bytes(*bytes));
    LOOK_EVERY * u32::from(share) / u32::from(u16::MAX)
}

/// Archives old entries of the evidence log while the gateway lives.
pub async fn run_archiver(gw: Weak<Gateway>) {
    let Some(node) = gw.upgrade().map(|gw| gw.node()) else { return };
    tokio::time::sleep(first_pause(node)).await;
    let mut turn = Turn::default();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(gw) = gw.upgrade() else { return };
        take_turn(&gw, &mut turn).await;
    }
}

/// One look. What fails is told and tried again at the next one; the rest is done all the same.
pub(crate) async fn take_turn(gw: &Arc<Gateway>, turn: &mut Turn) {
    let plan = match plan(gw).await {
        Ok(plan) => plan,
        Err(error) => {
            tracing::debug!(%error, "what is to be archived is not known");
            return;
        }
    };
    let now = gw.clock.monotonic_micros();
    let mut failed = Vec::new();
    failed.extend(bring_back(gw, &plan).await.err());
    failed.extend(erase(gw, &plan).await.err());
    failed.extend(archive(gw, turn).await.err());
    if let Some(chain) = &plan.anchors {
        failed.extend(anchors::make(gw, chain).await.err());
    }
    if let Some(fold) = plan.fold.filter(|fold| fold.erased.len() >= ANEW_AT_ONCE || again(turn.anew, ANEW_EVERY, now))
    {
        turn.anew = Some(now);
        failed.extend(fold_in(gw, fold).await.err());
    }
    if again(turn.swept, SWEEP_EVERY, now) {
        turn.swept = Some(now);
        failed.extend(leftover::sweep(gw).await.err());
    }
    for error in failed {
        tell(turn, now, &error);
    }
}

fn tell(turn: &mut Turn, now: u64, error: &GatewayError) {
    if !again(turn.said, SAY_EVERY, now) {
        tracing::debug!(%error, "evidence log not archived");
        return;
    }
    turn.said = Some(now);
    match error {
        GatewayError::BucketExists => tracing::error!(
            "the bucket {LOG_BUCKET} belongs to a client, so that the evidence log can't be archived: copy its objects \
             into another bucket, and delete it"
        ),
        error => tracing::warn!(%error, "evidence log not archived; the next look tries again"),
    }
}

/// Gives back tiles that somebody wants.
async fn bring_back(gw: &Arc<Gateway>, plan: &ArchivePlan) -> Result<(), GatewayError> {
    let height = height_of(plan)?;
    for index in &plan.wanted {
        let first = LogIndex(index.saturating_mul(TILE_WIDTH as u64));
        let (items, at) = section_with(gw, first).await?;
        let hashes = leaves(items.get(at..at.saturating_add(TILE_WIDTH)).unwrap_or_default());
        let footer = tiles(gw, height.place(first).0).await?;
        let bytes = |hashes: &[[u8; 32]]| Bytes::copy_from_slice(hashes.as_flattened());
        let back = LogCommand::RestoreTile { index: *index, leaves: bytes(&hashes), tiles: bytes(&footer.tiles) };
        command(gw, back).await?;
    }
    Ok(())
}

async fn erase(gw: &Arc<Gateway>, first: &ArchivePlan) -> Result<(), GatewayError> {
    let mut next = first.clone();
    for _ in 0..ERASURES_PER_LOOK {
        if !erase::step(gw, &next).await? {
            break;
        }
        let before = next.erasing;
        next = plan(gw).await?;
        if next.erasing == before {
            break;
        }
    }
    Ok(())
}

/// Makes archives and drops the rows that they hold.
async fn archive(gw: &Arc<Gateway>, turn: &mut Turn) -> Result<(), GatewayError> {
    for _ in 0..ARCHIVES_PER_LOOK {
        let plan = plan(gw).await?;
        let height = height_of(&plan)?;
        match (plan.moving, plan.next) {
            (Some((number, section)), _) => move_rows(gw, turn, &plan, (number, section)).await?,
            (None, Some(number)) => make(gw, &Blueprint::new(number, height)).await?,
            (None, None) => break,
        }
    }
    Ok(())
}

/// Section by section. One that is not what the log holds any more makes the archive be made anew.
async fn move_rows(
    gw: &Arc<Gateway>,
    turn: &mut Turn,
    plan: &ArchivePlan,
    (number, first): (u64, u32),
) -> Result<(), GatewayError> {
    let height = height_of(plan)?;
    for section in first..u32::try_from(height.sections()).unwrap_or(u32::MAX) {
        match command(gw, LogCommand::MoveToArchive { number, section }).await {
            Ok(()) => tokio::time::sleep(MOVE_PAUSE).await,
            Err(error @ GatewayError::InvalidArgument { .. }) => {
                let now = gw.clock.monotonic_micros();
                let known = info(gw, number).await?.filter(|known| known.moved == section);
                let Some(known) = known.filter(|_| again(turn.anew, ANEW_EVERY, now)) else { return Err(error) };
                turn.anew = Some(now);
                tracing::info!(number, section, "archive of the evidence log is made anew: entries were erased since");
                return make(gw, &Blueprint::anew(known, height, plan.fold.clone())).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes an archive anew, without what was erased since.
async fn fold_in(gw: &Arc<Gateway>, fold: Fold) -> Result<(), GatewayError> {
    let plan = plan(gw).await?;
    let Some(known) = info(gw, fold.number).await? else { return Ok(()) };
    make(gw, &Blueprint::anew(known, height_of(&plan)?, plan.fold.filter(|now| now.number == fold.number))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_look_is_within_one_round_and_not_everybodys_at_once() {
        let pauses: std::collections::BTreeSet<Duration> = (1..9).map(|node| first_pause(NodeId(node))).collect();
        assert_eq!(pauses.len(), 8);
        assert!(pauses.iter().all(|pause| *pause <= LOOK_EVERY));
    }

    #[test]
    fn what_is_dear_is_done_at_once_and_then_seldom() {
        assert!(again(None, ANEW_EVERY, 0));
        assert!(!again(Some(5), ANEW_EVERY, 4 + ANEW_EVERY));
        assert!(again(Some(5), ANEW_EVERY, 5 + ANEW_EVERY));
    }
}
