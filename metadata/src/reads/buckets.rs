//! Buckets by name.

use std::ops::ControlFlow;

use stele_rpc::error::Code;
use stele_rpc::meta::{ListPage, MetaReply};
use stele_types::ids::BucketId;
use stele_types::object::BucketRow;

use super::{ROWS_PER_CALL, ReadResult, refuse};
use crate::keyspace;
use crate::kv::KvRead;
use crate::rows::{corrupt, decode, load};

pub(super) fn bucket(rows: &dyn KvRead, name: &str) -> ReadResult<MetaReply> {
    let missing = || refuse(Code::NoSuchBucket, format!("bucket {name} does not exist"));
    let Some(id) = load::<BucketId>(rows, &keyspace::bucket_name(name))? else { return missing() };
    match load::<BucketRow>(rows, &keyspace::bucket(id))? {
        Some(row) => Ok(MetaReply::Bucket(Box::new(row))),
        None => missing(),
    }
}

pub(super) fn buckets(rows: &dyn KvRead, prefix: &str, after: Option<&str>, max: u32) -> ReadResult<MetaReply> {
    let max = usize::try_from(max).unwrap_or(usize::MAX).min(ROWS_PER_CALL);
    let first = keyspace::bucket_name(prefix);
    let end = keyspace::successor(&first);
    let mut start = first;
    if let Some(after) = after {
        let mut behind = keyspace::bucket_name(after);
        behind.push(0);
        start = start.max(behind);
    }
    let mut found = Vec::new();
    rows.scan(&start, &end, &mut |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        if found.len() <= max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let truncated = found.len() > max && max > 0;
    found.truncate(max);
    let mut page = Vec::with_capacity(found.len());
    for (key, value) in found {
        let id: BucketId = decode(&key, &value)?;
        let row = load::<BucketRow>(rows, &keyspace::bucket(id))?;
        page.push(row.ok_or_else(|| corrupt(&key, "a bucket's name without its row"))?);
    }
    let next_after = page.last().filter(|_| truncated).map(|row| row.name.clone());
    Ok(MetaReply::Buckets(ListPage {
        rows: page,
        common_prefixes: Vec::new(),
        truncated,
        next_after,
        next_after_version: None,
    }))
}
