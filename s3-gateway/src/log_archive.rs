//! Old entries of the evidence log, which stand in objects of a bucket of the store's own and no longer in rows of the
//! metadata service. Format of the objects: docs/formats/log-archive.md.
//!
//! | module | holds |
//! |---|---|
//! | `read` | the one place where a gateway reads the log: from rows, and where these are gone from archives |
//! | `object` | archives as objects: footers and sections, checked, the last ones in memory |
//! | [`anchors`] | files with old anchors of a chain |
//! | [`make`] | makes an archive, reads it back, and has it noted |
//! | [`erase`] | records that erasing needs of archives |
//! | [`leftover`] | objects that became no archive |
//! | [`pages`] | the log as others read it (C2SP tlog-tiles) |
//! | `schedule` | what runs beside the requests |
//!
//! The metadata service says what is to be done and checks all of it against what it holds itself; a gateway that is
//! wrong is refused. So any number of gateways may do the same at once.

mod anchors;
mod erase;
mod leftover;
mod make;
mod object;
pub mod pages;
mod read;
mod schedule;

use stele_rpc::meta::{Command, LOG_BUCKET, LogCommand, Origin};
use stele_types::ids::Salt;
use stele_types::seam::random_bytes;

pub(crate) use self::object::Archives;
pub(crate) use self::read::{ask, ask_metadata, resolve};
pub use self::schedule::run_archiver;
#[cfg(test)]
pub(crate) use self::schedule::{Turn, take_turn};

use crate::bucket::{create_bucket, head_bucket};
use crate::error::GatewayError;
use crate::gateway::Gateway;

/// Who owns the bucket, and who the log says made and removed archives. No access key has a slash.
pub(crate) const PRINCIPAL: &str = "stele/log";

/// On whose behalf this gateway acts here.
fn origin(gw: &Gateway) -> Origin {
    Origin { principal: PRINCIPAL.to_owned(), source: String::new(), node: gw.node() }
}

/// Sends a command about archives. Each is idempotent by nature.
async fn command(gw: &Gateway, command: LogCommand) -> Result<(), GatewayError> {
    let salt = Salt::from_bytes(random_bytes(gw.rng.as_ref()));
    let answer = gw.leases.of_cluster(origin(gw), salt, Command::Log(command)).await;
    answer.map(drop).map_err(|error| GatewayError::from_meta(error, LOG_BUCKET))
}

/// Makes the bucket unless it is there.
///
/// # Errors
/// `BucketExists` if it belongs to a client.
async fn bucket_of_ours(gw: &Gateway) -> Result<(), GatewayError> {
    let row = match head_bucket(gw, LOG_BUCKET).await {
        Err(GatewayError::NoSuchBucket { .. }) => match create_bucket(gw, LOG_BUCKET, false, origin(gw)).await {
            // Another gateway, or a client whose request was under way, was faster.
            Err(GatewayError::BucketAlreadyOwned | GatewayError::BucketExists) => head_bucket(gw, LOG_BUCKET).await?,
            made => made?,
        },
        found => found?,
    };
    if row.owner == PRINCIPAL { Ok(()) } else { Err(GatewayError::BucketExists) }
}
