//! PUT, from top to bottom. Called by the HTTP edge and the simulator.
//!
//! | step | does | durable after it | if we die here |
//! |---|---|---|---|
//! | P1 admit | names, limits, memory charge (the edge has checked signature and syntax) | nothing | nothing |
//! | P2 lease | the PUT takes a start epoch and keeps it: it stamps the packs and is what P8 compares with the fence | lease | lease expires |
//! | P3 plan | bucket configuration and its epoch, a condition that fails already (early.rs); a PG is picked per pack, in P6 | nothing | nothing |
//! | P4 chunk | stream to chunks; digests on a CPU lane beside it (ingest.rs) | nothing | nothing |
//! | P5 pack | large bodies fill packs of their own (ingest.rs), small ones share (packer.rs) | nothing | nothing |
//! | P6 store | encode and ship; all shards durable (store.rs) | packs | orphans, swept |
//! | P7 check | lengths and digests equal what was declared | nothing new | orphans |
//! | P8 commit | one raft command, fenced by the start epoch | **the linearization point** | the version exists |
//! | P9 answer | ETag, version id, checksums | - | - |
//!
//! Each step's result is the only way into the next: a commit without checked digests, or of packs
//! that are not stored, does not compile.

use std::sync::Arc;

use stele_rpc::client::unexpected;
use stele_rpc::error::RpcError;
use stele_rpc::meta::{Command, Committed, MetaReply, Origin, PutVersion};
use stele_types::ids::{OwnerId, Salt};
use stele_types::limits::{KEY_BYTES_MAX, USER_METADATA_BYTES_MAX};
use stele_types::object::{Attributes, Checksum, ChecksumAlgorithm, ETag, Lock, Precondition, StoredHeaders, Tags};
use stele_types::seam::random_bytes;
use tracing::Instrument;

use crate::api::{BodyRequest, ExpectedDigests, PutReply, PutRequest};
use crate::bucket::{guard_of, lookup, with_bucket};
use crate::budget::Charge;
use crate::digests::{DigestValues, wanted};
use crate::early::refuse_early;
use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::ingest::{BodyInput, charge_for, store_body};
use crate::lease::WriteStart;
use crate::metrics::Step;
use crate::packer::StoredBody;

/// Stores one object.
///
/// # Durability
/// Ok: every shard of every pack, and the commit, are on stable media.
/// Err: nothing became visible, except that `Unavailable` may hide a commit that took place.
///
/// # Errors
/// [`GatewayError`]; `SlowDown`, `Unavailable`, `DrivesMissing`: retry.
///
/// # Cancel
/// Dropping the future before the commit leaves orphans only; during the commit the outcome is
/// unknown.
pub async fn put_object(gw: &Arc<Gateway>, request: PutRequest) -> Result<PutReply, GatewayError> {
    let PutRequest { bucket, key, body, headers, tags, lock, precondition, origin } = request;
    let charge = admit(gw, &key, &headers, &body).await?; // P1
    let start = begin(gw, &bucket).await?; // P2
    plan(gw, &bucket).await?; // P3
    refuse_early(gw, (&bucket, &key), &precondition, &body).await?; // P3
    let (stored, expected) = store(gw, &start, body, charge).await?; // P4, P5, P6
    let checked = check(gw, stored, expected)?; // P7
    let target = CommitTarget { bucket, key, headers, tags, lock, precondition, origin };
    let committed = commit(gw, &start, target, checked).await?; // P8
    Ok(answer(gw, committed)) // P9
}

/// P1. Signature, policy and syntax were the edge's part.
pub(crate) async fn admit(
    gw: &Gateway,
    key: &str,
    headers: &StoredHeaders,
    body: &BodyRequest,
) -> Result<Charge, GatewayError> {
    let _timer = gw.metrics.time(Step::P1Admit);
    check_key(key)?;
    check_headers(headers)?;
    charge_for(gw, body.declared_len).instrument(tracing::debug_span!("put.p1_admit")).await
}

/// A key that can be stored.
pub(crate) fn check_key(key: &str) -> Result<(), GatewayError> {
    if key.is_empty() {
        return Err(GatewayError::InvalidArgument { what: "the key is empty".into() });
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(GatewayError::KeyTooLong { len: key.len(), max: KEY_BYTES_MAX });
    }
    Ok(())
}

/// Headers that can be stored.
pub(crate) fn check_headers(headers: &StoredHeaders) -> Result<(), GatewayError> {
    let len = headers.user.iter().map(|(name, value)| name.len() + value.len()).sum();
    if len > USER_METADATA_BYTES_MAX {
        return Err(GatewayError::MetadataTooLarge { len, max: USER_METADATA_BYTES_MAX });
    }
    Ok(())
}

/// P2.
pub(crate) async fn begin(gw: &Gateway, bucket: &str) -> Result<WriteStart, GatewayError> {
    let _timer = gw.metrics.time(Step::P2Lease);
    let begun = gw.leases.begin().instrument(tracing::debug_span!("put.p2_lease")).await;
    begun.map_err(|error| GatewayError::from_meta(error, bucket))
}

/// P3: fails early if there is no such bucket. The row that counts is the one P8 commits with.
pub(crate) async fn plan(gw: &Gateway, bucket: &str) -> Result<(), GatewayError> {
    let _timer = gw.metrics.time(Step::P3Plan);
    lookup(gw, bucket).instrument(tracing::debug_span!("put.p3_plan")).await.map(|_| ())
}

/// What the client expects of a body's digests, and which checksums are to be kept.
pub(crate) struct Expectation {
    expected: ExpectedDigests,
    compute: Vec<ChecksumAlgorithm>,
}

/// Witness: every pack of the body is on stable media.
pub(crate) struct Stored {
    body: StoredBody,
    digests: DigestValues,
}

/// P4 to P6.
pub(crate) async fn store(
    gw: &Arc<Gateway>,
    start: &WriteStart,
    body: BodyRequest,
    charge: Charge,
) -> Result<(Stored, Expectation), GatewayError> {
    let BodyRequest { stream, declared_len, expected, compute, .. } = body;
    let wanted = wanted(&expected, &compute);
    let input = BodyInput { stream, declared_len, wanted, charge };
    let span = tracing::debug_span!("put.p4_chunk");
    let (body, digests) = store_body(gw, start.epoch(), input).instrument(span).await?;
    Ok((Stored { body, digests }, Expectation { expected, compute }))
}

/// Witness: stored, and every declared digest and length equals what was read.
pub(crate) struct Checked {
    pub(crate) body: StoredBody,
    pub(crate) etag: ETag,
    pub(crate) checksums: Vec<Checksum>,
}

/// P7. The declared length was compared while reading.
pub(crate) fn check(gw: &Gateway, stored: Stored, expectation: Expectation) -> Result<Checked, GatewayError> {
    let _timer = gw.metrics.time(Step::P7Check);
    let _span = tracing::debug_span!("put.p7_check").entered();
    let Expectation { expected, compute } = expectation;
    let checksums = stored.digests.check(expected, &compute)?;
    let etag = ETag { md5: u128::from_be_bytes(stored.digests.md5), parts: 0 };
    Ok(Checked { body: stored.body, etag, checksums })
}

/// Attributes of an object with this body.
pub(crate) fn attributes_of(checked: &Checked, headers: StoredHeaders, tags: Tags) -> Attributes {
    Attributes {
        len: checked.body.len(),
        etag: checked.etag,
        root: checked.body.root(),
        body_hash: Some(checked.body.body_hash()),
        checksums: checked.checksums.clone(),
        headers: Box::new(headers),
        part_lens: Vec::new(),
        tags,
        part_checksums: bytes::Bytes::new(),
    }
}

struct CommitTarget {
    bucket: String,
    key: String,
    headers: StoredHeaders,
    tags: Tags,
    lock: Lock,
    precondition: Precondition,
    origin: Origin,
}

/// P8: the linearization point.
async fn commit(
    gw: &Gateway,
    start: &WriteStart,
    target: CommitTarget,
    checked: Checked,
) -> Result<Committed, GatewayError> {
    let CommitTarget { bucket, key, headers, tags, lock, precondition, origin } = target;
    let attributes = attributes_of(&checked, headers, tags);
    let (manifest, packs, _under_way) = checked.body.into_contents();
    let ids = VersionIds::draw(gw);
    let contents = stele_rpc::meta::Contents { owner: new_owner(gw), manifest, packs };
    let make = |guard| {
        Command::PutVersion(Box::new(PutVersion {
            guard,
            key: key.clone(),
            nonce: ids.nonce,
            salt: ids.salt,
            replaced_salt: ids.replaced_salt,
            precondition: precondition.clone(),
            attributes: attributes.clone(),
            contents: contents.clone(),
            lock,
        }))
    };
    commit_with(gw, &bucket, start, origin, make).await
}

/// Sends a command that makes a version visible, again with a fresh bucket row where that changed.
pub(crate) async fn commit_with<F>(
    gw: &Gateway,
    bucket: &str,
    start: &WriteStart,
    origin: Origin,
    make: F,
) -> Result<Committed, GatewayError>
where
    F: Fn(stele_rpc::meta::WriteGuard) -> Command + Send + Sync,
{
    let _timer = gw.metrics.time(Step::P8Commit);
    let committed = with_bucket(gw, bucket, |row| {
        let command = make(guard_of(&row, start.epoch()));
        let origin = origin.clone();
        async move { committed(gw.leases.command(origin, command).await?) }
    });
    committed.instrument(tracing::debug_span!("put.p8_commit")).await
}

fn committed(reply: MetaReply) -> Result<Committed, RpcError> {
    match reply {
        MetaReply::Committed(committed) => Ok(committed),
        _ => Err(unexpected("no commit to a commit")),
    }
}

/// P9.
fn answer(gw: &Gateway, committed: Committed) -> PutReply {
    let _timer = gw.metrics.time(Step::P9Answer);
    tracing::debug!(version = %committed.id, log_index = %committed.log_index, "put.p9_answer");
    committed
}

/// Random parts of a version's row and log entries.
pub(crate) struct VersionIds {
    pub(crate) nonce: u64,
    pub(crate) salt: Salt,
    pub(crate) replaced_salt: Salt,
}

impl VersionIds {
    pub(crate) fn draw(gw: &Gateway) -> Self {
        Self {
            nonce: gw.random_u64(),
            salt: Salt::from_bytes(random_bytes(gw.rng.as_ref())),
            replaced_salt: Salt::from_bytes(random_bytes(gw.rng.as_ref())),
        }
    }
}

/// A new owner of references.
pub(crate) fn new_owner(gw: &Gateway) -> OwnerId {
    OwnerId::from_bytes(random_bytes(gw.rng.as_ref()))
}
