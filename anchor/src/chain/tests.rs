//! Every chain passes the same suite; the submitter also meets a modelled chain whose blocks go away.

pub(crate) mod fuse;
mod model;
mod races;
pub(crate) mod store;
pub(crate) mod suite;
