//! Changes of a version in place: its tags. The command is decided where all writes of the key are.

use stele_rpc::client::unexpected;
use stele_rpc::meta::{Changed, Command, MetaReply, Origin, WriteGuard};
use stele_types::object::Tags;

use crate::api::VersionRef;
use crate::bucket::{guard_of, with_bucket};
use crate::error::GatewayError;
use crate::gateway::Gateway;

/// Gives a version other tags; none takes them all away.
///
/// # Durability
/// Ok: committed. Err: unchanged, except that `Unavailable` may hide a commit that took place.
///
/// # Errors
/// `NoSuchBucket`, `NoSuchKey`, `NoSuchVersion`, `MarkerOnly`, `InvalidArgument`, `Unavailable`, `Conflict`.
pub async fn put_tags(gw: &Gateway, at: &VersionRef, tags: &Tags, origin: Origin) -> Result<Changed, GatewayError> {
    change(gw, &at.bucket, origin, |guard| Command::PutTags {
        guard,
        key: at.key.clone(),
        version: at.version,
        tags: tags.clone(),
    })
    .await
}

/// Sends a command that changes a version in place, again with a fresh bucket row where that changed.
pub(crate) async fn change<F>(gw: &Gateway, bucket: &str, origin: Origin, make: F) -> Result<Changed, GatewayError>
where
    F: Fn(WriteGuard) -> Command + Send + Sync,
{
    let start = gw.leases.begin().await.map_err(|error| GatewayError::from_meta(error, bucket))?;
    with_bucket(gw, bucket, |row| {
        let command = make(guard_of(&row, start.epoch()));
        let origin = origin.clone();
        async move {
            match gw.leases.command(origin, command).await? {
                MetaReply::Changed(changed) => Ok(changed),
                _ => Err(unexpected("to a change of a version")),
            }
        }
    })
    .await
}
