//! Whole audits: what they find, what they can't be made to say, and what their reports are held to.

pub(crate) mod golden;
mod lies;
mod runs;
