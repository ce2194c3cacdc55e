//! Settings that this version can't honour: refused, never ignored.

use s3s::{S3Result, s3_error};

/// Refuses a setting that is present.
pub(super) fn refuse<T>(present: Option<&T>, what: &str) -> S3Result<()> {
    match present {
        None => Ok(()),
        Some(_) => Err(s3_error!(NotImplemented, "{} is not implemented; the request was not carried out.", what)),
    }
}

/// Only the default storage class exists.
pub(super) fn storage_class(class: Option<&str>) -> S3Result<()> {
    match class {
        None | Some("STANDARD") => Ok(()),
        Some(_) => Err(s3_error!(InvalidStorageClass, "Only the storage class STANDARD exists.")),
    }
}

/// Only the canned ACLs that say what holds anyway: the owner has full control.
pub(super) fn canned_acl(acl: Option<&str>) -> S3Result<()> {
    match acl {
        None | Some("private" | "bucket-owner-full-control") => Ok(()),
        Some(_) => Err(s3_error!(AccessControlListNotSupported, "The bucket does not allow ACLs.")),
    }
}

/// Refuses every setting of PutObject and CreateMultipartUpload that would be lost.
macro_rules! refuse_unsupported {
    ($input:expr) => {{
        use $crate::s3::unsupported::{canned_acl, refuse, storage_class};
        canned_acl($input.acl.as_ref().map(|acl| acl.as_str()))?;
        storage_class($input.storage_class.as_ref().map(|class| class.as_str()))?;
        refuse($input.grant_full_control.as_ref(), "An access grant")?;
        refuse($input.grant_read.as_ref(), "An access grant")?;
        refuse($input.grant_read_acp.as_ref(), "An access grant")?;
        refuse($input.grant_write_acp.as_ref(), "An access grant")?;
        refuse($input.object_lock_legal_hold_status.as_ref(), "Object lock")?;
        refuse($input.object_lock_mode.as_ref(), "Object lock")?;
        refuse($input.object_lock_retain_until_date.as_ref(), "Object lock")?;
        refuse($input.server_side_encryption.as_ref(), "Server-side encryption")?;
        refuse($input.sse_customer_algorithm.as_ref(), "Server-side encryption")?;
        refuse($input.sse_customer_key.as_ref(), "Server-side encryption")?;
        refuse($input.ssekms_key_id.as_ref(), "Server-side encryption")?;
    }};
}

pub(super) use refuse_unsupported;

/// Refuses SSE-C headers on requests that carry no other unsupported setting.
macro_rules! refuse_sse_customer {
    ($input:expr) => {{
        use $crate::s3::unsupported::refuse;
        refuse($input.sse_customer_algorithm.as_ref(), "Server-side encryption")?;
        refuse($input.sse_customer_key.as_ref(), "Server-side encryption")?;
    }};
}

pub(super) use refuse_sse_customer;
