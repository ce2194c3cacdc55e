//! The HTTP side of the S3 endpoint: connections, request ids, and what must be refused before s3s
//! sees it.
//!
//! | module | holds |
//! |---|---|
//! | [`server`] | the listener loop, limits, timeouts, graceful stop |
//! | [`target`] | what a request addresses: by path, or by the host's name |
//! | [`tls`] | HTTPS: the certificate, the handshake |
//! | [`guard`] | requests that s3s would misread, refused or cleaned |
//! | `cors` | preflights, and what answers to other origins say |
//! | `document` | XML bodies: digests, idle time, honest errors |
//! | `door` | requests under way, allowances of keys, and the way in and out for the audit log |
//! | `rate` | requests per second of one key |
//! | [`audit`] | one line per request |
//! | `version_order` | the order of versions and delete markers in a listing |
//! | `wire`, `first_bytes`, `write_idle` | one connection's stream; peers that say nothing, or stop reading |
//! | [`request_id`] | ids that tie a response to the log |

pub mod audit;
mod cors;
pub(crate) mod document;
pub mod door;
mod elements;
mod first_bytes;
pub mod guard;
pub mod rate;
pub mod request_id;
pub mod server;
pub mod target;
pub mod tls;
pub(crate) mod version_order;
mod wire;
mod write_idle;
