//! What garbage collection did, and what space is used for.

use std::ops::ControlFlow;

use stele_rpc::meta::{BUCKETS_TOLD_MAX, BucketSpace, GcStatus, PackCount};
use stele_types::object::BucketRow;

use super::{ROWS_PER_CALL, ReadResult};
use crate::keyspace::{self, Tag};
use crate::kv::{KvRead, KvResult};
use crate::rows::{DataRow, GcRow, RootRow, SpaceRow, UploadRow, corrupt, decode, load};

pub(super) fn status(rows: &dyn KvRead) -> ReadResult<GcStatus> {
    let root: RootRow = load(rows, &keyspace::ROOT)?.unwrap_or_default();
    let data: DataRow = load(rows, &keyspace::DATA)?.unwrap_or_default();
    let gc: GcRow = load(rows, &keyspace::GC)?.unwrap_or_default();
    let mut status = GcStatus {
        epoch: root.epoch,
        fence: root.fence,
        begun: gc.begun,
        last_begun: gc.last_begun,
        last: gc.last,
        totals: gc.totals,
        unique: PackCount { packs: data.packs, bytes: data.unique_bytes },
        stored_bytes: data.stored_bytes,
        logical_bytes: data.logical_bytes,
        trash_versions: data.trash_versions,
        trash_bytes: data.trash_bytes,
        trash_window_ms: data.trash_ms,
        ..GcStatus::default()
    };
    uploads(rows, &mut status)?;
    buckets(rows, &mut status)?;
    Ok(status)
}

/// Uploads under way, as far as one call looks.
fn uploads(rows: &dyn KvRead, status: &mut GcStatus) -> ReadResult<()> {
    let (from, to) = keyspace::table(Tag::Upload);
    let mut visited = 0;
    let mut found = Vec::new();
    rows.scan(&from, &to, &mut |key, value| {
        if visited == ROWS_PER_CALL {
            status.more_uploads = true;
            return ControlFlow::Break(());
        }
        visited += 1;
        found.push(decode::<UploadRow>(key, value).map(|row| row.initiated));
        ControlFlow::Continue(())
    })?;
    for initiated in found {
        let initiated = initiated?;
        status.uploads += 1;
        status.oldest_upload = Some(status.oldest_upload.map_or(initiated, |oldest| oldest.min(initiated)));
    }
    Ok(())
}

/// What buckets take, as far as one call looks.
fn buckets(rows: &dyn KvRead, status: &mut GcStatus) -> ReadResult<()> {
    let (from, to) = keyspace::table(Tag::Space);
    let mut found = Vec::new();
    rows.scan(&from, &to, &mut |key, value| {
        if found.len() == BUCKETS_TOLD_MAX {
            status.more_buckets = true;
            return ControlFlow::Break(());
        }
        found.push(shown(key, value));
        ControlFlow::Continue(())
    })?;
    for row in found {
        let mut row = row?;
        let bucket: Option<BucketRow> = load(rows, &keyspace::bucket(row.bucket))?;
        row.name = bucket.map(|bucket| bucket.name).unwrap_or_default();
        status.buckets.push(row);
    }
    Ok(())
}

fn shown(key: &[u8], value: &[u8]) -> KvResult<BucketSpace> {
    let bucket = keyspace::bucket_in(key).ok_or_else(|| corrupt(key, "a key of what buckets take"))?;
    let SpaceRow { versions, logical_bytes, packs, unique_bytes, stored_bytes } = decode(key, value)?;
    let unique = PackCount { packs, bytes: unique_bytes };
    Ok(BucketSpace { bucket, name: String::new(), versions, logical_bytes, unique, stored_bytes })
}
