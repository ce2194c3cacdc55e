//! Reads: answers from one consistent view of the rows. Called by [`crate::node`] after ReadIndex, so
//! that every read that starts after a commit sees it. Pure: rows in, reply out.

mod buckets;
mod gc;
mod keys;
mod listing;
mod log;
mod references;
mod trash;
mod uploads;

use stele_evidence::tree::Edge;
use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::{MetaReply, MetaRequest, MetaStatus, RangeRef, TokenRow};
use stele_types::ids::NodeId;
use stele_types::map::ClusterMap;
use stele_types::object::BucketRow;

use crate::apply::edge_of;
use crate::archives::Archives;
use crate::keyspace::{self, MAP, Tag};
use crate::kv::{KvError, KvRead};
use crate::rows::{
    AnswerKeyRow, AuditsRow, ChainStateRow, CheckpointRow, DataRow, RetentionRow, RootRow, backup_state, decode, load,
};

/// Rows one call visits at most before it returns a truncated page.
pub const ROWS_PER_CALL: usize = 10_000;

/// Why a read has no reply.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The request is refused.
    Refused(RpcError),
    /// The store failed.
    Broken(KvError),
}

impl From<KvError> for ReadError {
    fn from(error: KvError) -> Self {
        Self::Broken(error)
    }
}

pub(crate) type ReadResult<T> = Result<T, ReadError>;

pub(crate) fn refuse<T>(code: Code, detail: impl Into<String>) -> ReadResult<T> {
    Err(ReadError::Refused(RpcError::new(code, detail)))
}

/// Answers a read from `rows`, which the caller vouches are recent enough.
///
/// # Errors
/// The request is refused, or the store failed (`Internal`).
pub fn read(rows: &dyn KvRead, request: &MetaRequest) -> Result<MetaReply, RpcError> {
    answer(rows, request).map_err(|error| match error {
        ReadError::Refused(error) => error,
        ReadError::Broken(error) => RpcError::new(Code::Internal, error.to_string()),
    })
}

/// Answers a read.
pub(crate) fn answer(rows: &dyn KvRead, request: &MetaRequest) -> ReadResult<MetaReply> {
    match request {
        MetaRequest::ClusterMap { known } => {
            let map = load::<ClusterMap>(rows, &MAP)?.unwrap_or_default();
            Ok(MetaReply::ClusterMap((map.epoch != *known).then(|| Box::new(map))))
        }
        MetaRequest::Bucket { name } => buckets::bucket(rows, name),
        MetaRequest::Buckets { prefix, after, max } => buckets::buckets(rows, prefix, after.as_deref(), *max),
        MetaRequest::Resolve { range, key, version } => keys::resolve(rows, *range, key, *version),
        MetaRequest::Packs { packs } => references::packs(rows, packs),
        MetaRequest::List { range, query } => keys::list(rows, *range, query),
        MetaRequest::ListVersions { range, query } => keys::list_versions(rows, *range, query),
        MetaRequest::ListUploads { range, query, after_upload } => uploads::list(rows, *range, query, *after_upload),
        MetaRequest::Parts { range, key, upload, after, max } => {
            uploads::parts(rows, uploads::PartsQuery { range: *range, key, upload: *upload, after: *after, max: *max })
        }
        MetaRequest::ReferencedPacks { pg, fence, after, max } => {
            references::referenced(rows, *pg, *fence, after.as_ref(), *max)
        }
        MetaRequest::Status => Ok(MetaReply::Status(Box::new(status(rows)?))),
        MetaRequest::Log(asked) => Ok(MetaReply::Log(log::read(rows, asked)?)),
        MetaRequest::AnswerKeys => Ok(MetaReply::AnswerKeys(answer_keys(rows)?)),
        MetaRequest::GcStatus => Ok(MetaReply::GcStatus(Box::new(gc::status(rows)?))),
        MetaRequest::Trash(query) => trash::page(rows, query),
        MetaRequest::JoinTokens => Ok(MetaReply::JoinTokens(join_tokens(rows)?)),
        MetaRequest::Command(_) | MetaRequest::Heartbeat(_) | MetaRequest::Liveness | MetaRequest::Peers => {
            refuse(Code::Malformed, "this is not a read of rows")
        }
    }
}

/// The bucket of a read whose range is where the caller believes.
fn admit(rows: &dyn KvRead, range: RangeRef) -> ReadResult<BucketRow> {
    let Some(bucket) = load::<BucketRow>(rows, &keyspace::bucket(range.bucket))? else {
        return refuse(Code::NoSuchBucket, format!("bucket {} does not exist", range.bucket));
    };
    if bucket.range != range.range || bucket.range_epoch != range.epoch {
        return refuse(Code::StaleRange, format!("the range of bucket {} moved: read the bucket again", bucket.name));
    }
    Ok(bucket)
}

fn join_tokens(rows: &dyn KvRead) -> ReadResult<Vec<TokenRow>> {
    let (from, to) = keyspace::table(Tag::JoinToken);
    let mut found = Vec::new();
    rows.scan(&from, &to, &mut |key, value| {
        found.push(decode::<TokenRow>(key, value));
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(found.into_iter().collect::<Result<_, _>>()?)
}

fn answer_keys(rows: &dyn KvRead) -> ReadResult<Vec<(NodeId, String)>> {
    let (from, to) = keyspace::table(Tag::AnswerKey);
    let mut found = Vec::new();
    rows.scan(&from, &to, &mut |key, value| {
        if let Some(node) = keyspace::answer_key_node(key) {
            found.push(decode::<AnswerKeyRow>(key, value).map(|row| (node, row.key)));
        }
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(found.into_iter().collect::<Result<_, _>>()?)
}

/// Of every chain the entries that its newest anchor covers.
fn anchored(rows: &dyn KvRead) -> ReadResult<Vec<(String, u64)>> {
    let (from, to) = keyspace::table(Tag::Chain);
    let mut found = Vec::new();
    rows.scan(&from, &to, &mut |key, value| {
        if let Some(name) = keyspace::chain_name(key) {
            found.push(decode::<ChainStateRow>(key, value).map(|row| (name.to_owned(), row.newest)));
        }
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(found.into_iter().collect::<Result<_, _>>()?)
}

/// What the rows know of the status; leader, applied index and fsyncs are the node's to fill in.
pub(crate) fn status(rows: &dyn KvRead) -> ReadResult<MetaStatus> {
    let root: RootRow = load(rows, &keyspace::ROOT)?.unwrap_or_default();
    let data: DataRow = load(rows, &keyspace::DATA)?.unwrap_or_default();
    let edge: Edge = edge_of(&data)?;
    let checkpoint: Option<CheckpointRow> = load(rows, &keyspace::CHECKPOINT)?;
    let audits: Option<AuditsRow> = load(rows, &keyspace::AUDITS)?;
    let (from, to) = keyspace::table(Tag::Lease);
    let mut leases = 0;
    rows.scan(&from, &to, &mut |_, _| {
        leases += 1;
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(MetaStatus {
        log_size: data.log_size,
        log_root: edge.root(),
        epoch: root.epoch,
        fence: root.fence,
        leases,
        buckets: root.buckets,
        versions: data.versions,
        logical_bytes: data.logical_bytes,
        checkpoint: checkpoint.as_ref().map_or(0, |row| row.size),
        signed: checkpoint.and_then(|row| row.published).map_or(0, |published| published.size),
        anchored: anchored(rows)?,
        last_audit: audits.map(|row| row.last_by_itself),
        archived: Archives::load(rows)?.end().0,
        backups: backup_state(rows)?,
        evidence_kept_ms: load::<RetentionRow>(rows, &keyspace::RETENTION)?.and_then(|row| row.keep_ms),
        ..MetaStatus::default()
    })
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
