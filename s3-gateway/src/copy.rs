//! CopyObject: the manifest is copied, never the bytes.
//!
//! | step | does | if we die here |
//! |---|---|---|
//! | 1 begin | a start epoch, as for a PUT | nothing |
//! | 2 resolve | the source version and every pack it needs | nothing |
//! | 3 stage | references of the new owner to those packs, at the start epoch | dropped when the fence passes the epoch |
//! | 4 confirm | the source version is still there, so its references held until ours did | as 3 |
//! | 5 commit | the new version takes the staged references over, fenced by the epoch | the copy exists |
//!
//! Without step 4 a sweep could take a pack between the source's deletion and step 3.

use std::collections::BTreeSet;
use std::sync::Arc;

use stele_chunker::pages::{Located, ManifestWalk, Step as WalkStep};
use stele_chunker::tree::object_root;
use stele_rpc::client::unexpected;
use stele_rpc::meta::{Command, Committed, Contents, MetaReply, MetaRequest, Origin, PutVersion, WriteGuard};
use stele_types::ids::{OwnerId, PackId};
use stele_types::manifest::Manifest;
use stele_types::object::{Attributes, Version};
use stele_types::pack::PackRow;

use crate::api::{CopyReply, CopyRequest, GetRequest, ReadConditions};
use crate::bucket::{guard_of, with_bucket};
use crate::error::{GatewayError, unexpected_reply};
use crate::fetch::{FetchError, RowBook, fetch_chunk};
use crate::gateway::Gateway;
use crate::get::head_object;
use crate::lease::WriteStart;
use crate::put::{VersionIds, begin, check_headers, check_key, commit_with, new_owner, plan};

/// How often a copy begins anew because its source was replaced meanwhile.
const SOURCE_TRIES: usize = 4;
/// Pack rows of one command or question; far below the size of a raft entry.
const ROWS_AT_ONCE: usize = 1000;

/// Copies one object.
///
/// # Durability
/// Ok: the copy is committed; its bytes are those of the source, which were durable before.
/// Err: nothing became visible, except that `Unavailable` may hide a commit that took place.
///
/// # Errors
/// As [`crate::get::head_object`] for the source (a condition that does not hold is
/// `PreconditionFailed`), then as [`crate::put::put_object`]; `Conflict` if the source keeps changing.
pub async fn copy_object(gw: &Arc<Gateway>, request: CopyRequest) -> Result<CopyReply, GatewayError> {
    check_key(&request.key)?;
    if let Some(headers) = &request.headers {
        check_headers(headers)?;
    }
    let start = begin(gw, &request.bucket).await?;
    plan(gw, &request.bucket).await?;
    for _ in 0..SOURCE_TRIES {
        let source = resolve(gw, request.source.clone()).await?;
        let owner = new_owner(gw);
        if !secured(gw, &start, &request, &source, owner).await? {
            continue;
        }
        let committed = commit(gw, &start, &request, &source, owner).await?;
        return Ok(CopyReply { committed, source });
    }
    Err(GatewayError::Conflict { what: "the source of the copy keeps changing".into() })
}

async fn resolve(gw: &Arc<Gateway>, source: GetRequest) -> Result<Box<Version>, GatewayError> {
    match head_object(gw, source).await {
        Ok(reply) => Ok(reply.version),
        // A copy knows no 304.
        Err(GatewayError::NotModified { .. }) => Err(GatewayError::PreconditionFailed),
        Err(error) => Err(error),
    }
}

/// Steps 2 to 4; `false` if the source is another version by now.
async fn secured(
    gw: &Arc<Gateway>,
    start: &WriteStart,
    request: &CopyRequest,
    source: &Version,
    owner: OwnerId,
) -> Result<bool, GatewayError> {
    let Some(packs) = rows_of(gw, &source.manifest).await? else { return Ok(false) };
    if packs.is_empty() {
        return Ok(true);
    }
    for batch in packs.chunks(ROWS_AT_ONCE) {
        stage(gw, start, request, (owner, batch)).await?;
    }
    let again = GetRequest { conditions: ReadConditions::default(), ..request.source.clone() };
    match head_object(gw, again).await {
        Ok(now) => Ok(now.version.id == source.id),
        Err(GatewayError::NoSuchKey { .. } | GatewayError::NoSuchVersion) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Rows of every pack that the manifest and its pages name; `None` if one is gone, and with it the
/// version.
async fn rows_of(gw: &Gateway, manifest: &Manifest) -> Result<Option<Vec<PackRow>>, GatewayError> {
    let Some(packs) = packs_of(gw, manifest).await? else { return Ok(None) };
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

async fn packs_of(gw: &Gateway, manifest: &Manifest) -> Result<Option<BTreeSet<PackId>>, GatewayError> {
    let root = match manifest {
        Manifest::Inline(entries) => return Ok(Some(entries.iter().map(|entry| entry.pack).collect())),
        Manifest::Paged { root, .. } => object_root(root.bytes, root.chunks, &root.top),
    };
    let damaged = |what: String| GatewayError::Corrupt { what: format!("manifest of the source: {what}") };
    let mut walk = ManifestWalk::new(&root, manifest, 0..manifest.total_len()).map_err(|e| damaged(e.to_string()))?;
    let rows = RowBook::default();
    let mut packs = BTreeSet::new();
    loop {
        match walk.next_step() {
            WalkStep::Done => return Ok(Some(packs)),
            WalkStep::Chunk(Located { item, .. }) => drop(packs.insert(item.pack)),
            WalkStep::NeedPage(page) => {
                packs.insert(page.pack);
                let bytes = match fetch_chunk(gw, &rows, &page).await {
                    Ok(bytes) => bytes,
                    Err(FetchError::PackGone(_)) => return Ok(None),
                    Err(FetchError::Failed(error)) => return Err(error),
                };
                walk.page(&bytes.concat()).map_err(|e| damaged(e.to_string()))?;
            }
        }
    }
}

async fn stage(
    gw: &Gateway,
    start: &WriteStart,
    request: &CopyRequest,
    (owner, packs): (OwnerId, &[PackRow]),
) -> Result<(), GatewayError> {
    let origin: &Origin = &request.origin;
    with_bucket(gw, &request.bucket, |row| {
        let guard = guard_of(&row, start.epoch());
        let command = Command::StageReferences { guard, owner, packs: packs.to_vec() };
        let origin = origin.clone();
        async move {
            match gw.leases.command(origin, command).await? {
                MetaReply::Done => Ok(()),
                _ => Err(unexpected("to StageReferences")),
            }
        }
    })
    .await
}

async fn commit(
    gw: &Gateway,
    start: &WriteStart,
    request: &CopyRequest,
    source: &Version,
    owner: OwnerId,
) -> Result<Committed, GatewayError> {
    let mut attributes: Attributes = source.attributes.clone();
    if let Some(headers) = &request.headers {
        *attributes.headers = headers.clone();
    }
    if let Some(tags) = &request.tags {
        attributes.tags = tags.clone();
    }
    let ids = VersionIds::draw(gw);
    let make = |guard: WriteGuard| {
        Command::PutVersion(Box::new(PutVersion {
            guard,
            key: request.key.clone(),
            nonce: ids.nonce,
            salt: ids.salt,
            replaced_salt: ids.replaced_salt,
            precondition: request.precondition.clone(),
            attributes: attributes.clone(),
            // Staged ahead, so none is given again.
            contents: Contents { owner, manifest: source.manifest.clone(), packs: Vec::new() },
        }))
    };
    commit_with(gw, &request.bucket, start, request.origin.clone(), make).await
}
