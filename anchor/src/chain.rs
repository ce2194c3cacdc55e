//! Takes checkpoints to chains. Each chain has its own [`submit::Submitter`], its own row in the metadata service, and
//! fails or lags alone. Anchored are sizes that grow; of several new sizes only the newest is taken, as consistency
//! proofs join the others to it.
//!
//! | module | holds |
//! |---|---|
//! | [`state`] | what is remembered of a chain: the intent, and what was kept last |
//! | [`view`] | what a chain answers |
//! | [`steps`] | which step comes next; pure |
//! | [`backend`] | the trait that every chain implements |
//! | [`store`] | where the memory and the proofs are kept |
//! | [`meta_store`] | the same, in the metadata service |
//! | [`submit`] | carries the steps out |
//! | [`open`] | chains, as they are configured |

pub mod backend;
pub mod meta_store;
pub mod open;
pub mod state;
pub mod steps;
pub mod store;
pub mod submit;
#[cfg(test)]
pub(crate) mod tests;
pub mod view;
