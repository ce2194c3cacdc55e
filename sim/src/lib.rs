//! Deterministic simulation of a whole cluster: real gateway, metadata and storage code on an
//! in-memory network, model drives and virtual time, all of it drawn from one seed.
//!
//! | module | holds |
//! |---|---|
//! | [`seed`] | independent streams of randomness |
//! | [`runtime`] | virtual time, one seeded runtime per boot phase |
//! | [`trace`] | one line per event, with a running hash |
//! | [`net`] | the network: delays, losses, repeats, wire forms |
//! | `packets` | the network as packets between real QUIC endpoints |
//! | [`content`] | unique values that clients write |
//! | [`history`] | what clients saw |
//! | [`linear`] | is there an order that explains it (I-3)? |
//! | [`topology`] | how many nodes of which kind |
//! | [`plan`], `weather`, [`sabotage`] | what a seed means; promises broken on purpose |
//! | [`client`], [`env`], [`verify`] | the clients, what they share, the last reader |
//! | [`world`], [`faults`] | processes and devices, and what happens to them |
//! | [`soak`] | garbage collection alone, over millions of versions |
//! | [`run`], [`oracle`], [`findings`] | one seed from beginning to end, and its verdict |

mod anchors;
mod body;
mod boot;
pub mod client;
mod cluster_faults;
pub mod content;
pub mod env;
mod evidence_log;
pub mod faults;
pub mod findings;
pub mod history;
mod keeper;
pub mod linear;
mod movers;
mod moves;
mod names;
pub mod net;
pub mod oracle;
mod packets;
mod panics;
pub mod plan;
mod reads;
pub mod run;
pub mod runtime;
pub mod sabotage;
pub mod seed;
pub mod soak;
mod sweeps;
pub mod topology;
pub mod trace;
mod uploads;
pub mod verify;
mod voters;
mod weather;
pub mod world;
