//! What went wrong with a request's body, for the answer: what reads the body only learns that it broke off.

use std::sync::{Arc, OnceLock};

use super::guard::Refusal;

/// Set at most once.
#[derive(Clone, Debug, Default)]
pub(super) struct Fault(Arc<OnceLock<Refusal>>);

impl Fault {
    /// What to answer instead of what s3s makes of it.
    pub(super) fn refusal(&self) -> Option<&Refusal> {
        self.0.get()
    }

    /// Notes why the body can't be used: 400 with this code.
    pub(super) fn note(&self, code: &'static str, message: &str) -> Broken {
        let refusal = Refusal { status: 400, code, message: message.to_owned() };
        // The first fault is the cause; later ones follow from it.
        self.0.get_or_init(|| refusal);
        Broken
    }
}

/// The body can't be used; its [`Fault`] says why.
#[derive(Debug, thiserror::Error)]
#[error("the request body could not be read or verified")]
pub(super) struct Broken;
