//! Conditions of a write, looked at before its body is read. It only saves an upload: what fails here
//! would fail at this instant in the commit too, and what passes is decided there.

use stele_types::limits::SHARED_PACK_BODY_BYTES_MAX;
use stele_types::object::{Facts, Precondition, Verdict};

use crate::api::BodyRequest;
use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::get::current_version;

/// Refuses a write whose condition fails already, if that saves reading a large or withheld body.
///
/// # Errors
/// `PreconditionFailed`, `PreconditionNoKey`; and those of resolving a key, as the commit would fail as well.
pub(crate) async fn refuse_early(
    gw: &Gateway,
    (bucket, key): (&str, &str),
    precondition: &Precondition,
    body: &BodyRequest,
) -> Result<(), GatewayError> {
    let large = body.declared_len.is_none_or(|len| len > SHARED_PACK_BODY_BYTES_MAX as u64);
    if *precondition == Precondition::None || !(large || body.withheld) {
        return Ok(());
    }
    let current = match current_version(gw, bucket, key).await {
        Ok(found) => Some(Facts { etag: found.attributes.etag, len: found.attributes.len, modified: found.modified }),
        Err(GatewayError::NoSuchKey { .. }) => None,
        Err(error) => return Err(error),
    };
    match precondition.verdict(current.as_ref()) {
        Verdict::Holds => Ok(()),
        Verdict::Fails => Err(GatewayError::PreconditionFailed),
        Verdict::NoKey => Err(GatewayError::PreconditionNoKey),
    }
}
