//! Everything that knows openraft: type configuration, log store, state machine adapter, network.
//! The rest of the crate sees [`Group`] only, so that a change of openraft's interface ends here.

mod anew;
mod clocks;
mod group;
mod log_store;
mod log_writer;
mod membership;
mod network;
mod receiver;
mod runtime;
mod snapshot_handle;
mod state_machine;
mod types;

pub(crate) use anew::{applied_of, sole_member, write_log};
pub(crate) use clocks::PeerClocks;
pub(crate) use group::{Group, GroupParts};
pub use log_store::fuzz_entry;
pub(crate) use log_store::{LogStore, LogTuning};
pub(crate) use network::Peers;
pub(crate) use runtime::random_u64;
pub use runtime::seed_thread;
pub(crate) use state_machine::StateMachine;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use anew::stand_at;
#[cfg(test)]
pub(crate) use tests::{entry_seed, stored_entries};
