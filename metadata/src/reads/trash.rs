//! Pages of the trash.

use std::ops::ControlFlow;

use stele_rpc::error::Code;
use stele_rpc::meta::{MetaReply, TRASH_PAGE_MAX, TrashPage, TrashQuery, TrashedVersion};
use stele_types::ids::VersionId;
use stele_types::object::BucketRow;

use super::{ReadResult, refuse};
use crate::keyspace::{self, Tag};
use crate::kv::{KvRead, KvResult};
use crate::rows::{DataRow, TrashRow, corrupt, decode, load};

pub(super) fn page(rows: &dyn KvRead, query: &TrashQuery) -> ReadResult<MetaReply> {
    if !(1..=TRASH_PAGE_MAX).contains(&query.max) {
        return refuse(
            Code::Malformed,
            format!("a page of the trash has 1 to {TRASH_PAGE_MAX} rows, not {}", query.max),
        );
    }
    let (from, to) = match query.bucket {
        Some(bucket) => {
            let prefix = keyspace::name_prefix(Tag::Trash, bucket, &query.prefix);
            let to = keyspace::successor(&prefix);
            (prefix, to)
        }
        None if query.prefix.is_empty() => keyspace::table(Tag::Trash),
        None => return refuse(Code::Malformed, "a prefix of keys needs a bucket"),
    };
    let behind = query.after.as_ref().map(|(bucket, key, id)| {
        let mut behind = keyspace::trash(*bucket, key, id.commit_seq);
        behind.push(0);
        behind
    });
    let from = behind.map_or(from.clone(), |behind| behind.max(from));
    let data: DataRow = load(rows, &keyspace::DATA)?.unwrap_or_default();
    let mut page = TrashPage { window_ms: data.trash_ms, ..TrashPage::default() };
    let mut found = Vec::new();
    rows.scan(&from, &to, &mut |key, value| {
        if found.len() >= query.max as usize {
            page.more = true;
            return ControlFlow::Break(());
        }
        found.push(shown(key, value));
        ControlFlow::Continue(())
    })?;
    page.rows = found.into_iter().collect::<KvResult<Vec<_>>>()?;
    name_buckets(rows, &mut page.rows)?;
    Ok(MetaReply::Trash(page))
}

fn shown(key: &[u8], value: &[u8]) -> KvResult<TrashedVersion> {
    let damaged = || corrupt(key, "a key of the trash");
    let bucket = keyspace::bucket_in(key).ok_or_else(damaged)?;
    let (name, rest) = keyspace::split_name(key).ok_or_else(damaged)?;
    let commit_seq = keyspace::version_seq(rest).ok_or_else(damaged)?;
    let TrashRow { version, removed, overwritten } = decode(key, value)?;
    Ok(TrashedVersion {
        bucket,
        bucket_name: String::new(),
        key: name.into_owned(),
        id: VersionId { commit_seq, nonce: version.nonce },
        len: version.len,
        root: version.root,
        modified: version.modified,
        removed,
        overwritten,
    })
}

/// Rows come by bucket, so each bucket is read once.
fn name_buckets(rows: &dyn KvRead, page: &mut [TrashedVersion]) -> ReadResult<()> {
    let mut last = None;
    for row in page {
        let name = match last.take() {
            Some((bucket, name)) if bucket == row.bucket => name,
            _ => load::<BucketRow>(rows, &keyspace::bucket(row.bucket))?.map(|bucket| bucket.name).unwrap_or_default(),
        };
        row.bucket_name.clone_from(&name);
        last = Some((row.bucket, name));
    }
    Ok(())
}
