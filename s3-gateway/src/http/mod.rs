//! The HTTP side of the S3 endpoint: connections, request ids, and what must be refused before s3s
//! sees it.
//!
//! | module | holds |
//! |---|---|
//! | [`server`] | the listener loop, limits, timeouts, graceful stop |
//! | [`guard`] | requests that s3s would misread, refused or cleaned |
//! | `document` | XML bodies: digests, idle time, honest errors |
//! | `door` | requests under way, allowances of keys, and the way in and out for the audit log |
//! | `rate` | requests per second of one key |
//! | [`audit`] | one line per request |
//! | `first_bytes`, `write_idle` | peers that say nothing, or stop reading |
//! | [`request_id`] | ids that tie a response to the log |

pub mod audit;
pub(crate) mod document;
pub mod door;
mod first_bytes;
pub mod guard;
pub mod rate;
pub mod request_id;
pub mod server;
mod write_idle;
