//! One suite for both transports, and what only QUIC can get wrong: certificates, paths, strangers.

mod both;
mod group;
mod join;
mod limits;
mod paths;
mod service;
mod trust;
mod world;
