//! The keys of a bulk deletion in the audit log: one line each, as each has an outcome of its own.

use s3s::dto::{DeleteObjectsInput, Error as DtoError, ObjectIdentifier};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result};
use stele_rpc::meta::Deleted;

use super::headers::log_text;
use crate::http::audit::watch::Note;

/// Makes room for the lines before anything is deleted.
pub(super) fn reserve(req: &S3Request<DeleteObjectsInput>, objects: &[ObjectIdentifier]) -> S3Result<()> {
    let Some(note) = req.extensions.get::<Note>() else { return Ok(()) };
    let items = objects.iter().map(|object| (object.key.as_str(), object.version_id.as_deref()));
    note.reserve_items(items).map_err(|refusal| {
        let mut error = S3Error::with_message(S3ErrorCode::ServiceUnavailable, refusal.message);
        error.set_status_code(http::StatusCode::SERVICE_UNAVAILABLE);
        error
    })
}

/// Writes the line of one key.
pub(super) fn tell(note: Option<&Note>, object: &ObjectIdentifier, outcome: &Result<Deleted, DtoError>) {
    let Some(note) = note else { return };
    let version = object.version_id.as_deref().filter(|id| !id.is_empty());
    let outcome = match outcome {
        Ok(deleted) => Ok(deleted.log_index.map(log_text)),
        Err(error) => Err(error.code.as_deref().unwrap_or_default()),
    };
    note.item(&object.key, version, outcome);
}
