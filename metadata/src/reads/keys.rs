//! Versions: resolve one, list current ones, list all.

use stele_rpc::error::Code;
use stele_rpc::meta::{ListPage, ListQuery, ListedKey, MetaReply, RangeRef, VersionSelector};
use stele_types::ids::{CommitSeq, VersionId};
use stele_types::limits::LIST_PAGE_MAX;
use stele_types::manifest::Manifest;
use stele_types::object::Version;
use stele_types::pack::PackRow;

use super::listing::Walk;
use super::{ReadResult, admit, refuse};
use crate::keyspace::{self, Tag};
use crate::kv::{KvRead, KvResult};
use crate::rows::{CurrentRow, KeyRow, VersionRow, corrupt, decode, load};

fn selected(
    rows: &dyn KvRead,
    range: RangeRef,
    key: &str,
    version: VersionSelector,
) -> ReadResult<(CommitSeq, Option<u64>)> {
    match version {
        VersionSelector::Current => match CurrentRow::load(rows, &keyspace::named(Tag::Current, range.bucket, key))? {
            Some(row) => Ok((row.id.commit_seq, Some(row.id.nonce))),
            // What is newest and not current is a delete marker; the answer names it.
            None => {
                let row: KeyRow = load(rows, &keyspace::named(Tag::Key, range.bucket, key))?.unwrap_or_default();
                match row.newest {
                    Some(seq) => Ok((seq, None)),
                    None => refuse(Code::NoSuchKey, format!("{key:?} does not exist")),
                }
            }
        },
        VersionSelector::Null => {
            let row: KeyRow = load(rows, &keyspace::named(Tag::Key, range.bucket, key))?.unwrap_or_default();
            match row.null {
                Some(seq) => Ok((seq, None)),
                None => refuse(Code::NoSuchVersion, format!("{key:?} has no null version")),
            }
        }
        VersionSelector::Id(id) => Ok((id.commit_seq, Some(id.nonce))),
    }
}

pub(super) fn resolve(
    rows: &dyn KvRead,
    range: RangeRef,
    key: &str,
    version: VersionSelector,
) -> ReadResult<MetaReply> {
    admit(rows, range)?;
    let (seq, nonce) = selected(rows, range, key, version)?;
    let row_key = keyspace::version(range.bucket, key, seq);
    let row: Option<VersionRow> = load(rows, &row_key)?;
    let Some(row) = row.filter(|row| nonce.is_none_or(|nonce| nonce == row.nonce)) else {
        return refuse(Code::NoSuchVersion, format!("{key:?} has no such version"));
    };
    let latest = match version {
        VersionSelector::Current => true,
        _ => {
            let state: KeyRow = load(rows, &keyspace::named(Tag::Key, range.bucket, key))?.unwrap_or_default();
            state.newest == Some(seq)
        }
    };
    let version = row.into_version(seq);
    let packs = packs_of(rows, &row_key, &version)?;
    Ok(MetaReply::Version { version: Box::new(version), packs, latest })
}

fn packs_of(rows: &dyn KvRead, row_key: &[u8], version: &Version) -> KvResult<Vec<PackRow>> {
    let mut named: Vec<_> = match &version.manifest {
        Manifest::Inline(entries) => entries.iter().map(|entry| entry.pack).collect(),
        Manifest::Paged { root, .. } => vec![root.page.pack],
    };
    named.dedup();
    let row = |pack| {
        load::<PackRow>(rows, &keyspace::pack(pack))?.ok_or_else(|| corrupt(row_key, format!("pack {pack} has no row")))
    };
    named.iter().map(row).collect()
}

pub(super) fn list(rows: &dyn KvRead, range: RangeRef, query: &ListQuery) -> ReadResult<MetaReply> {
    admit(rows, range)?;
    let walk = Walk { table: Tag::Current, bucket: range.bucket, query, start: None };
    let rows_expected = usize::try_from(query.max).map_or(LIST_PAGE_MAX, |max| max.min(LIST_PAGE_MAX));
    let mut page: Vec<ListedKey> = Vec::with_capacity(rows_expected);
    let walked = walk.run(rows, &mut |key, _, value| {
        page.push(CurrentRow::decode(&[Tag::Current as u8], value)?.into_listed(key.to_owned()));
        Ok(())
    })?;
    let next_after = walked.next_after(page.last().map(|row| row.key.as_str()));
    Ok(MetaReply::Keys(ListPage {
        rows: page,
        common_prefixes: walked.common_prefixes,
        truncated: walked.truncated,
        next_after,
        next_after_version: None,
    }))
}

/// Where a version listing that stopped inside a key goes on.
fn behind_version(rows: &dyn KvRead, range: RangeRef, query: &ListQuery) -> ReadResult<Option<Vec<u8>>> {
    let (Some(after), Some(version)) = (&query.after, query.after_version) else { return Ok(None) };
    let seq = match version {
        VersionSelector::Current => return Ok(None),
        VersionSelector::Id(id) => id.commit_seq,
        VersionSelector::Null => {
            let row: KeyRow = load(rows, &keyspace::named(Tag::Key, range.bucket, after))?.unwrap_or_default();
            match row.null {
                Some(seq) => seq,
                None => return Ok(None),
            }
        }
    };
    let mut start = keyspace::version(range.bucket, after, seq);
    start.push(0);
    Ok(Some(start))
}

pub(super) fn list_versions(rows: &dyn KvRead, range: RangeRef, query: &ListQuery) -> ReadResult<MetaReply> {
    admit(rows, range)?;
    let start = behind_version(rows, range, query)?;
    // A page that starts inside a key has not seen its newest version, which may have gone since.
    let inside_of = query.after.as_deref().filter(|_| start.is_some());
    let newest_there: Option<CommitSeq> = match inside_of {
        Some(key) => load::<KeyRow>(rows, &keyspace::named(Tag::Key, range.bucket, key))?.and_then(|row| row.newest),
        None => None,
    };
    let mut last_key: Option<String> = None;
    let mut last_id: Option<VersionId> = None;
    let mut page: Vec<ListedKey> = Vec::new();
    let walk = Walk { table: Tag::Version, bucket: range.bucket, query, start };
    let walked = walk.run(rows, &mut |key, rest, value| {
        let row_key = [Tag::Version as u8];
        let seq = keyspace::version_seq(rest).ok_or_else(|| corrupt(&row_key, "a version's key"))?;
        let row: VersionRow = decode(&row_key, value)?;
        let latest = match inside_of {
            Some(inside) if inside == key => newest_there == Some(seq),
            _ => last_key.as_deref() != Some(key),
        };
        last_id = Some(VersionId { commit_seq: seq, nonce: row.nonce });
        page.push(row.listed(key, seq, latest));
        if latest {
            last_key = Some(key.to_owned());
        }
        Ok(())
    })?;
    let next_after = walked.next_after(page.last().map(|row| row.key.as_str()));
    // A page that ends with a common prefix goes on behind that, not behind a version.
    let inside = page.last().is_some_and(|row| Some(&row.key) == next_after.as_ref());
    Ok(MetaReply::Keys(ListPage {
        rows: page,
        common_prefixes: walked.common_prefixes,
        truncated: walked.truncated,
        next_after,
        next_after_version: last_id.filter(|_| inside),
    }))
}
