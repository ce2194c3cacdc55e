//! Multipart uploads and their parts.

use std::ops::ControlFlow;

use stele_rpc::error::Code;
use stele_rpc::meta::{ListPage, ListQuery, MetaReply, RangeRef};
use stele_types::ids::UploadId;
use stele_types::object::{Part, Upload};

use super::listing::Walk;
use super::{ROWS_PER_CALL, ReadResult, admit, refuse};
use crate::keyspace::{self, Tag};
use crate::kv::KvRead;
use crate::rows::{UploadRow, corrupt, decode, load};

pub(super) fn list(
    rows: &dyn KvRead,
    range: RangeRef,
    query: &ListQuery,
    after_upload: Option<UploadId>,
) -> ReadResult<MetaReply> {
    admit(rows, range)?;
    let start = query.after.as_ref().zip(after_upload).map(|(key, upload)| {
        let mut start = keyspace::upload(range.bucket, key, upload);
        start.push(0);
        start
    });
    let walk = Walk { table: Tag::Upload, bucket: range.bucket, query, start };
    let mut page: Vec<Upload> = Vec::new();
    let walked = walk.run(rows, &mut |key, rest, value| {
        let row_key = [Tag::Upload as u8];
        let id = keyspace::upload_id(rest).ok_or_else(|| corrupt(&row_key, "an upload's key"))?;
        let row: UploadRow = decode(&row_key, value)?;
        page.push(row.into_upload(id, key.to_owned()));
        Ok(())
    })?;
    let next_after = walked.next_after(page.last().map(|row| row.key.as_str()));
    Ok(MetaReply::Uploads(ListPage {
        rows: page,
        common_prefixes: walked.common_prefixes,
        truncated: walked.truncated,
        next_after,
        next_after_version: None,
    }))
}

pub(super) struct PartsQuery<'a> {
    pub(super) range: RangeRef,
    pub(super) key: &'a str,
    pub(super) upload: UploadId,
    pub(super) after: u16,
    pub(super) max: u32,
}

pub(super) fn parts(rows: &dyn KvRead, query: PartsQuery<'_>) -> ReadResult<MetaReply> {
    admit(rows, query.range)?;
    let row_key = keyspace::upload(query.range.bucket, query.key, query.upload);
    let Some(row) = load::<UploadRow>(rows, &row_key)? else {
        return refuse(Code::NoSuchUpload, format!("upload {} does not exist", query.upload));
    };
    let upload = row.into_upload(query.upload, query.key.to_owned());
    let max = usize::try_from(query.max).unwrap_or(usize::MAX).min(ROWS_PER_CALL);
    let mut start = keyspace::part(query.upload, query.after);
    start.push(0);
    let end = keyspace::successor(&keyspace::parts(query.upload));
    let mut found = Vec::new();
    rows.scan(&start, &end, &mut |key, value| {
        found.push(decode::<Part>(key, value));
        if found.len() <= max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let truncated = found.len() > max && max > 0;
    found.truncate(max);
    let parts = found.into_iter().collect::<Result<_, _>>()?;
    Ok(MetaReply::Parts { upload: Box::new(upload), parts, truncated })
}
