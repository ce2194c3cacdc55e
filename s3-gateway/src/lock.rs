//! Retention and legal hold of a version. Whether a change is allowed is decided at its commit, by commit
//! time; no clock of a gateway has a say.

use stele_rpc::meta::{self, Changed, Origin, VersionChange};
use stele_types::ids::Salt;
use stele_types::object::Retention;
use stele_types::seam::random_bytes;

use crate::api::VersionRef;
use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::tags::change;

/// A change of a version's retention.
#[derive(Clone, Copy, Debug)]
pub struct NewRetention {
    /// `None` takes it away.
    pub retention: Option<Retention>,
    /// Shorten, change or take away what is in governance mode.
    pub bypass_governance: bool,
}

/// Changes a version's retention, and logs that.
///
/// # Durability
/// Ok: committed. Err: unchanged, except that `Unavailable` may hide a commit that took place.
///
/// # Errors
/// `Locked` if the retention in force does not allow it, `NoObjectLock`, `InvalidArgument` for a date that
/// is not in the future, and as [`crate::tags::put_tags`].
pub async fn put_retention(
    gw: &Gateway,
    at: &VersionRef,
    new: NewRetention,
    origin: Origin,
) -> Result<Changed, GatewayError> {
    let salt = Salt::from_bytes(random_bytes(gw.rng.as_ref()));
    let NewRetention { retention, bypass_governance: bypass } = new;
    let new = meta::NewRetention { retention, bypass, salt };
    change(gw, at, VersionChange::Retention(new), origin).await
}

/// Puts a version under legal hold, or takes that off, and logs it.
///
/// # Durability
/// As [`put_retention`].
///
/// # Errors
/// `NoObjectLock`, and as [`crate::tags::put_tags`].
pub async fn put_legal_hold(gw: &Gateway, at: &VersionRef, on: bool, origin: Origin) -> Result<Changed, GatewayError> {
    let salt = Salt::from_bytes(random_bytes(gw.rng.as_ref()));
    change(gw, at, VersionChange::LegalHold { on, salt }, origin).await
}
