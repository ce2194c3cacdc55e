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
//! | `pace`, `fault` | bodies of requests: clients that stop or drip, and what is answered for a bad body |
//! | `document` | XML bodies: digests, honest errors |
//! | `form` | browser uploads |
//! | `door` | requests under way, allowances of keys, and the way in and out for the audit log |
//! | `rate` | requests per second of one key |
//! | [`audit`] | one line per request |
//! | `version_order` | the order of versions and delete markers in a listing |
//! | `wire`, `first_bytes`, `write_idle`, `linger` | one connection's stream; peers that say nothing, stop reading, or still send |
//! | `busy` | connections without requests |
//! | [`request_id`] | ids that tie a response to the log |

pub mod audit;
mod busy;
mod cors;
pub(crate) mod document;
pub mod door;
pub(crate) mod elements;
mod fault;
mod first_bytes;
pub(crate) mod form;
pub mod guard;
mod linger;
mod pace;
pub mod rate;
pub mod request_id;
pub mod server;
pub mod target;
pub mod tls;
pub(crate) mod version_order;
mod wire;
mod write_idle;
