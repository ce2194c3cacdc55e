//! DELETE: keys or versions, each with its own outcome; one command for as many as fit into a raft entry.
//!
//! Only rows and references go, and their deletion is logged in the same apply; space comes back by
//! garbage collection.

use stele_rpc::client::unexpected;
use stele_rpc::meta::{Command, DeleteItem, Deleted, MetaReply, Origin};
use stele_types::ids::Salt;
use stele_types::limits::{LIST_PAGE_MAX, RAFT_ENTRY_BYTES_MAX};
use stele_types::seam::random_bytes;

use crate::api::{DeleteOne, DeleteRequest};
use crate::bucket::{guard_of, with_bucket};
use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::lease::WriteStart;

/// Encoded bytes of an item besides its key, with room for a list of ETags.
const ITEM_OVERHEAD_BYTES: usize = 256;

/// Deletes keys or versions; outcomes come in the order asked.
///
/// # Durability
/// Ok: every outcome is committed. Err: `Unavailable` may have been applied.
///
/// # Errors
/// Of the whole request: `NoSuchBucket`, `InvalidArgument`, `Unavailable`, `Conflict`.
pub async fn delete_objects(
    gw: &Gateway,
    request: DeleteRequest,
) -> Result<Vec<Result<Deleted, GatewayError>>, GatewayError> {
    if request.items.len() > LIST_PAGE_MAX {
        let what = format!("{} keys to delete; the limit is {LIST_PAGE_MAX}", request.items.len());
        return Err(GatewayError::InvalidArgument { what });
    }
    let start = gw.leases.begin().await.map_err(|e| GatewayError::from_meta(e, &request.bucket))?;
    let bypass = request.bypass_governance;
    let items: Vec<DeleteItem> = request.items.into_iter().map(|item| with_salt(gw, item, bypass)).collect();
    let mut outcomes = Vec::with_capacity(items.len());
    for batch in batches(items) {
        let deleted = delete_batch(gw, &request.bucket, &start, (&request.origin, batch)).await?;
        outcomes.extend(deleted.into_iter().map(|deleted| outcome(deleted, &request.bucket)));
    }
    Ok(outcomes)
}

fn outcome(mut deleted: Deleted, bucket: &str) -> Result<Deleted, GatewayError> {
    match deleted.error.take() {
        Some(error) => Err(GatewayError::from_meta(error, bucket)),
        None => Ok(deleted),
    }
}

/// Splits items so that each command stays well below the largest raft entry.
fn batches(items: Vec<DeleteItem>) -> Vec<Vec<DeleteItem>> {
    let mut batches: Vec<Vec<DeleteItem>> = Vec::new();
    let mut bytes = usize::MAX;
    for item in items {
        let len = item.key.len() + ITEM_OVERHEAD_BYTES;
        if bytes.saturating_add(len) > RAFT_ENTRY_BYTES_MAX / 2 {
            batches.push(Vec::new());
            bytes = 0;
        }
        bytes += len;
        if let Some(batch) = batches.last_mut() {
            batch.push(item);
        }
    }
    batches
}

async fn delete_batch(
    gw: &Gateway,
    bucket: &str,
    start: &WriteStart,
    (origin, items): (&Origin, Vec<DeleteItem>),
) -> Result<Vec<Deleted>, GatewayError> {
    with_bucket(gw, bucket, |row| {
        let command = Command::Delete { guard: guard_of(&row, start.epoch()), items: items.clone() };
        let origin = origin.clone();
        async move {
            match gw.leases.command(origin, command).await? {
                MetaReply::Deleted(deleted) => Ok(deleted),
                _ => Err(unexpected("no outcomes to a deletion")),
            }
        }
    })
    .await
}

fn with_salt(gw: &Gateway, item: DeleteOne, bypass: bool) -> DeleteItem {
    DeleteItem {
        key: item.key,
        version: item.version,
        precondition: item.precondition,
        nonce: gw.random_u64(),
        salt: Salt::from_bytes(random_bytes(gw.rng.as_ref())),
        bypass,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_keys_are_spread_over_several_commands() {
        let item = |n: usize| DeleteItem {
            key: format!("{n:01024}"),
            version: stele_rpc::meta::VersionSelector::Current,
            precondition: stele_types::object::Precondition::None,
            nonce: 0,
            salt: Salt::from_bytes([0; 32]),
            bypass: false,
        };
        let all: Vec<DeleteItem> = (0..1000).map(item).collect();
        let split = batches(all.clone());
        assert!(split.len() > 1);
        for batch in &split {
            assert!(batch.iter().map(|i| i.key.len()).sum::<usize>() < RAFT_ENTRY_BYTES_MAX / 2);
        }
        assert_eq!(split.concat(), all);
        assert!(batches(Vec::new()).is_empty());
    }
}
