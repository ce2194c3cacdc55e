//! One suite for both transports, and what only QUIC can get wrong: certificates, paths, strangers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod both;
mod group;
mod join;
mod limits;
mod meta_client;
mod paths;
mod service;
mod trust;
mod world;
