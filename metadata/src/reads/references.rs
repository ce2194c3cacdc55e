//! Pack rows, and the ordered scan of references that a sweep asks for.

use std::ops::ControlFlow;

use stele_rpc::error::Code;
use stele_rpc::meta::MetaReply;
use stele_types::ids::{Epoch, PackId, PgId};
use stele_types::pack::PackRow;

use super::{ROWS_PER_CALL, ReadResult, refuse};
use crate::keyspace;
use crate::kv::KvRead;
use crate::rows::{RootRow, corrupt, load};

pub(super) fn packs(rows: &dyn KvRead, packs: &[PackId]) -> ReadResult<MetaReply> {
    if packs.len() > ROWS_PER_CALL {
        return refuse(
            Code::Malformed,
            format!("one call reads at most {ROWS_PER_CALL} packs, this one {}", packs.len()),
        );
    }
    let mut found = Vec::with_capacity(packs.len());
    for pack in packs {
        found.extend(load::<PackRow>(rows, &keyspace::pack(pack))?);
    }
    Ok(MetaReply::Packs(found))
}

pub(super) fn referenced(
    rows: &dyn KvRead,
    pg: PgId,
    fence: Epoch,
    after: Option<&PackId>,
    max: u32,
) -> ReadResult<MetaReply> {
    let root: RootRow = load(rows, &keyspace::ROOT)?.unwrap_or_default();
    if root.fence < fence {
        let detail = format!("the group is fenced at {} only, below {fence}: fence it first", root.fence);
        return refuse(Code::SweepRefused, detail);
    }
    let max = usize::try_from(max).unwrap_or(usize::MAX).min(ROWS_PER_CALL);
    let of_pg = keyspace::references_of(pg);
    let start = after.map_or_else(|| of_pg.clone(), |pack| keyspace::successor(&keyspace::references(pg, pack)));
    let mut found: Vec<PackId> = Vec::new();
    let mut more = false;
    let mut visited = 0;
    let mut damaged = None;
    rows.scan(&start, &keyspace::successor(&of_pg), &mut |key, _| {
        visited += 1;
        let Some(pack) = keyspace::referenced_pack(key) else {
            damaged = Some(corrupt(key, "a reference's key"));
            return ControlFlow::Break(());
        };
        if found.last() == Some(&pack) {
            return ControlFlow::Continue(());
        }
        if found.len() >= max || (visited > ROWS_PER_CALL && !found.is_empty()) {
            more = true;
            return ControlFlow::Break(());
        }
        found.push(pack);
        ControlFlow::Continue(())
    })?;
    match damaged {
        Some(error) => Err(error.into()),
        None => Ok(MetaReply::Referenced { packs: found, more }),
    }
}
