//! What garbage collection did, and what space is used for.

use std::ops::ControlFlow;

use stele_rpc::meta::{GcStatus, PackCount};

use super::{ROWS_PER_CALL, ReadResult};
use crate::keyspace::{self, Tag};
use crate::kv::KvRead;
use crate::rows::{DataRow, GcRow, RootRow, UploadRow, decode, load};

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
