//! Opening a drive: identity, then every segment from its summary or by a scan, then the index.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use stele_types::ids::{ClusterId, DriveId};
use stele_types::limits::SEGMENT_ALIGN;
use stele_types::segment::{RecordSequence, SegmentNumber};

use super::health::{Health, HealthCell};
use super::index::{Index, SegmentAccount};
use super::row::{Row, replay};
use super::scan::{Scanned, has_header, scan};
use super::shared::{Shared, number_in, segment_name, summary_name};
use super::summary::{SUMMARY_BYTES_MAX, Summary};
use crate::config::DriveConfig;
use crate::identity::{IdentityError, check_identity};
use crate::media::aligned::align_up;
use crate::media::{Media, MediaError, MediaFile};
use crate::metrics::Metrics;

/// What an opened drive starts with.
pub(super) struct Opened {
    pub(super) shared: Arc<Shared>,
    pub(super) next_segment: SegmentNumber,
    pub(super) last: RecordSequence,
}

/// Locks and reads a drive. Nothing is written before its identity was found right.
pub(super) async fn open(
    media: Arc<dyn Media>,
    (cluster, drive): (ClusterId, Option<DriveId>),
    config: DriveConfig,
    metrics: Metrics,
) -> Result<Opened, IdentityError> {
    // First without the lock: an unmounted directory is not even locked.
    check_identity(&*media, cluster, drive).await?;
    media.lock().await?;
    let identity = check_identity(&*media, cluster, drive).await?;
    let health = HealthCell::new(Health::good());
    let shared = Arc::new(Shared::new(identity, media, config, metrics, (Index::default(), health)));
    let (next_segment, last) = read_segments(&shared).await?;
    shared.total_bytes.store(shared.media.space().await?.total, Ordering::Relaxed);
    Ok(Opened { shared, next_segment, last })
}

async fn read_segments(shared: &Arc<Shared>) -> Result<(SegmentNumber, RecordSequence), IdentityError> {
    let names = shared.media.list().await?;
    let segments: Vec<SegmentNumber> = names.iter().filter_map(|n| number_in(n, "seg-")).collect();
    let stray = |n: &&String| match number_in(n, "sum-") {
        Some(number) => !segments.contains(&number),
        None => n.ends_with(".tmp"),
    };
    let strays: Vec<&String> = names.iter().filter(stray).collect();
    for name in &strays {
        shared.media.remove(name).await?;
    }
    // Names of segments made just before a crash are made durable before anything relies on them.
    shared.media.sync_dir().await?;
    let mut rows = Vec::new();
    for number in &segments {
        rows.extend(read_segment(shared, *number).await?);
    }
    let next = segments.last().map_or(1, |n| n.0 + 1);
    let last = replay(&mut shared.index_mut(), rows);
    Ok((SegmentNumber(next), last))
}

async fn read_segment(shared: &Arc<Shared>, number: SegmentNumber) -> Result<Vec<Row>, MediaError> {
    let file = shared.media.open(&segment_name(number)).await?;
    let len = file.size().await?;
    shared.keep_open(number, &file);
    let found = match summary_of(shared, &*file, number).await {
        Some(summary) => {
            note(shared, number, len);
            return Ok(summary.rows);
        }
        None => recover(shared, &file, number).await?,
    };
    shared.metrics.skipped_blocks.inc_by(found.skipped);
    if found.skipped > 0 {
        tracing::warn!(drive = %shared.name, segment = %number, blocks = found.skipped,
            "blocks without a valid record were stepped over: a torn tail after a crash, or damage");
    }
    if let Some(reason) = &found.unreadable {
        shared.index_mut().incomplete = true;
        shared.health.suspect(reason);
        shared.index_mut().segment_mut(number).retry_at = SegmentAccount::NEVER;
        note(shared, number, len);
        return Ok(found.rows);
    }
    // Only zeros are cut off: what can't be read as a record is left for who wants to look at it.
    let used = align_up(found.used).min(align_up(len));
    let kept = shared.close_segment(&file, number, used, found.rows.clone()).await;
    note(shared, number, kept.unwrap_or(len));
    Ok(found.rows)
}

fn note(shared: &Shared, number: SegmentNumber, bytes: u64) {
    let mut index = shared.index_mut();
    let account = index.segment_mut(number);
    (account.bytes, account.written) = (bytes, bytes);
    account.sealed = true;
}

/// Makes what a crash left durable, or finds it gone, and only then reads it: a record that is
/// accepted here counts as stored.
async fn recover(shared: &Shared, file: &Arc<dyn MediaFile>, number: SegmentNumber) -> Result<Scanned, MediaError> {
    file.sync().await?;
    file.drop_cache().await;
    scan(&**file, shared.identity.drive, number).await
}

/// The summary of a closed segment, if there is one that fits it.
pub(super) async fn summary_of(shared: &Shared, file: &dyn MediaFile, number: SegmentNumber) -> Option<Summary> {
    let bytes = shared.media.read_whole(&summary_name(number), SUMMARY_BYTES_MAX).await.ok()??;
    let summary = Summary::decode(&bytes)?;
    let len = file.size().await.ok()?;
    let fits = summary.drive == shared.identity.drive
        && summary.segment == number
        && summary.end >= SEGMENT_ALIGN as u64
        && summary.end <= len
        && summary.rows.iter().all(|row| within(row, summary.end));
    (fits && has_header(file, shared.identity.drive, number).await).then_some(summary)
}

fn within(row: &Row, end: u64) -> bool {
    match row {
        Row::Shard(event) => event.at.offset.checked_add(event.at.record_len()).is_some_and(|e| e <= end),
        Row::Item(..) => true,
    }
}
