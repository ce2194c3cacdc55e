//! The audit log: one JSON line per S3 request, with who asked for what from where, and what came of it.
//!
//! | module | holds |
//! |---|---|
//! | [`record`] | what a line says; pure |
//! | [`backlog`] | lines that wait to be written, bounded; pure |
//! | [`writer`] | [`writer::Auditor`]: the backlog, and the thread that empties it into a [`writer::Sink`] |
//! | `watch` | learns of one request while it runs, and writes its line however it ends |
//!
//! A line is made of a fixed list of fields. Headers, queries and bodies are not among them, so that no
//! signature, token or key can get in.

pub mod backlog;
pub mod record;
pub(crate) mod watch;
pub mod writer;
