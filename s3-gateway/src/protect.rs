//! References of a new owner to packs that another owner refers to: for copies.
//!
//! | step | does | if we die behind it |
//! |---|---|---|
//! | stage | references of the new owner, at the start epoch of the copy | dropped when the fence passes the epoch |
//! | confirm | the source is still there, so its references held until ours did | the same |
//!
//! Without the second step a sweep could take a pack between the source's deletion and the first step. The
//! commit that names the owner takes its references over, fenced by the same epoch.

use std::collections::BTreeSet;
use std::sync::Arc;

use stele_rpc::client::unexpected;
use stele_rpc::meta::{Command, MetaReply, MetaRequest, Origin, VersionSelector};
use stele_types::ids::{OwnerId, PackId, VersionId};
use stele_types::object::Version;
use stele_types::pack::PackRow;

use crate::api::{GetRequest, ReadConditions};
use crate::bucket::{guard_of, with_bucket};
use crate::error::{GatewayError, unexpected_reply};
use crate::gateway::Gateway;
use crate::get::head_object;
use crate::lease::WriteStart;

/// Pack rows of one command or question; far below the size of a raft entry.
const ROWS_AT_ONCE: usize = 1000;

/// The version to copy, if its conditions hold.
///
/// # Errors
/// As [`head_object`]; a condition that does not hold is `PreconditionFailed`, as a copy knows no 304. A
/// delete marker named by its id is `InvalidRequest`.
pub(crate) async fn source_version(gw: &Arc<Gateway>, source: &GetRequest) -> Result<Box<Version>, GatewayError> {
    match head_object(gw, source.clone()).await {
        Ok(reply) => Ok(reply.version),
        Err(GatewayError::NotModified { .. }) => Err(GatewayError::PreconditionFailed),
        Err(GatewayError::DeleteMarker { .. }) => Err(GatewayError::InvalidRequest {
            what: "the source of a copy may not name a delete marker by its version id".into(),
        }),
        Err(error) => Err(error),
    }
}

/// A request for exactly this version of the source.
pub(crate) fn pinned(source: &GetRequest, id: VersionId) -> GetRequest {
    GetRequest {
        version: VersionSelector::Id(id),
        range: None,
        conditions: ReadConditions::default(),
        ..source.clone()
    }
}

/// Who is to refer to packs.
pub(crate) struct Keeper<'a> {
    pub(crate) start: &'a WriteStart,
    pub(crate) bucket: &'a str,
    pub(crate) origin: &'a Origin,
    pub(crate) owner: OwnerId,
}

/// Makes the keeper refer to packs of the version `id` of `source`; `false` if that version has gone.
///
/// # Errors
/// As a commit.
pub(crate) async fn keep(
    gw: &Arc<Gateway>,
    keeper: &Keeper<'_>,
    (source, id): (&GetRequest, VersionId),
    packs: BTreeSet<PackId>,
) -> Result<bool, GatewayError> {
    if packs.is_empty() {
        return Ok(true);
    }
    let Some(rows) = rows_of(gw, packs).await? else { return Ok(false) };
    for batch in rows.chunks(ROWS_AT_ONCE) {
        stage(gw, keeper, batch).await?;
    }
    match head_object(gw, pinned(source, id)).await {
        Ok(_) => Ok(true),
        Err(error) if is_gone(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The version that was read a moment ago exists no more.
pub(crate) const fn is_gone(error: &GatewayError) -> bool {
    matches!(error, GatewayError::NoSuchKey { .. } | GatewayError::NoSuchVersion)
}

/// Rows of all packs; `None` if one is gone, and with it the version that named it.
async fn rows_of(gw: &Gateway, packs: BTreeSet<PackId>) -> Result<Option<Vec<PackRow>>, GatewayError> {
    let packs: Vec<PackId> = packs.into_iter().collect();
    let mut rows = Vec::with_capacity(packs.len());
    for some in packs.chunks(ROWS_AT_ONCE) {
        let answer = gw.read(MetaRequest::Packs { packs: some.to_vec() }).await;
        match answer.map_err(|error| GatewayError::from_meta(error, ""))? {
            MetaReply::Packs(found) => rows.extend(found),
            _ => return Err(unexpected_reply("Packs")),
        }
    }
    Ok((rows.len() == packs.len()).then_some(rows))
}

async fn stage(gw: &Gateway, keeper: &Keeper<'_>, packs: &[PackRow]) -> Result<(), GatewayError> {
    with_bucket(gw, keeper.bucket, |row| {
        let guard = guard_of(&row, keeper.start.epoch());
        let command = Command::StageReferences { guard, owner: keeper.owner, packs: packs.to_vec() };
        let origin = keeper.origin.clone();
        async move {
            match gw.leases.command(origin, command).await? {
                MetaReply::Done => Ok(()),
                _ => Err(unexpected("to StageReferences")),
            }
        }
    })
    .await
}
