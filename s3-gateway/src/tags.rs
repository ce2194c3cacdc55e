//! Changes of a version in place: its tags. The command is decided where all writes of the key are.

use stele_rpc::client::unexpected;
use stele_rpc::meta::{ChangeVersion, Changed, Command, MetaReply, Origin, VersionChange};
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
    change(gw, at, VersionChange::Tags(tags.clone()), origin).await
}

/// Sends a change of a version, again with a fresh bucket row where that changed.
pub(crate) async fn change(
    gw: &Gateway,
    at: &VersionRef,
    change: VersionChange,
    origin: Origin,
) -> Result<Changed, GatewayError> {
    let start = gw.leases.begin().await.map_err(|error| GatewayError::from_meta(error, &at.bucket))?;
    with_bucket(gw, &at.bucket, |row| {
        let (guard, key) = (guard_of(&row, start.epoch()), at.key.clone());
        let command = ChangeVersion { guard, key, version: at.version, change: change.clone() };
        let command = Command::ChangeVersion(Box::new(command));
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
