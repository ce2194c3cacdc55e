//! Digests of bytes that are stored already, read through the verified GET path and written nowhere.

use std::sync::Arc;

use futures::StreamExt;
use stele_types::object::ChecksumAlgorithm;

use crate::api::{BodyError, GetRequest};
use crate::digests::DigestValues;
use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::get::get_object;
use crate::ingest::DigestLane;

/// MD5 and the wanted checksums of what a GET would stream. Memory is that of a GET.
///
/// # Errors
/// As [`get_object`], its body included.
///
/// # Cancel
/// Dropping the future stops the reads.
pub(crate) async fn digest_stored(
    gw: &Arc<Gateway>,
    request: GetRequest,
    wanted: &[ChecksumAlgorithm],
) -> Result<DigestValues, GatewayError> {
    let mut body = get_object(gw, request).await?.body;
    let mut digests = DigestLane::new(wanted);
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| match error {
            BodyError::Store(error) => *error,
            error @ BodyError::Incoming(_) => GatewayError::BodyFailed(error),
        })?;
        digests.push(gw, piece).await?;
    }
    digests.finish(gw).await
}
