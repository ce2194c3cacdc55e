//! The HTTP side of the S3 endpoint: connections, request ids, and what must be refused before s3s
//! sees it.
//!
//! | module | holds |
//! |---|---|
//! | [`server`] | the listener loop, limits, timeouts, graceful stop |
//! | [`target`] | what a request addresses: by path, or by the host's name |
//! | [`tls`] | HTTPS: the certificate, the handshake |
//! | [`guard`] | requests that s3s would misread, refused or cleaned |
//! | `document` | XML bodies: digests, idle time, honest errors |
//! | `version_order` | the order of versions and delete markers in a listing |
//! | `wire`, `write_idle` | one connection's stream; peers that stop reading |
//! | [`request_id`] | ids that tie a response to the log |

pub(crate) mod document;
mod elements;
pub mod guard;
pub mod request_id;
pub mod server;
pub mod target;
pub mod tls;
pub(crate) mod version_order;
mod wire;
mod write_idle;
