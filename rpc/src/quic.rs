//! The transport between processes: QUIC with mutual TLS, one connection per peer, direction and
//! class, one stream per call.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | limits, times, windows |
//! | [`endpoint`] | the UDP socket and the credentials, replaceable while connections live |
//! | [`frame`] | prefix, header, body: what a call and its answer look like on a stream |
//! | [`hello`] | the first exchange of a connection: versions, features, who is who |
//! | [`address`] | node id -> where to dial |
//! | [`peer`] | one peer as seen from here: its connection, its bounds, its path |
//! | [`transport`] | [`transport::QuicTransport`]: the calling side |
//! | [`server`] | [`server::QuicServer`]: the answering side |
//! | [`authorize`] | which role may ask what |
//! | [`packets`] | a packet network in memory, for simulators and tests |

pub mod address;
pub mod authorize;
mod budget;
pub mod config;
pub mod endpoint;
mod errors;
pub mod frame;
pub mod hello;
mod identifiers;
mod incoming;
pub mod packets;
pub mod peer;
pub mod server;
mod stream;
pub mod transport;

pub(crate) use errors::describe;
pub(crate) use stream::exchange_once;

/// What a simulator implements to replace the network: see [`endpoint::Socket::Abstract`].
pub mod seam {
    pub use quinn::udp::{RecvMeta, Transmit};
    pub use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
}
