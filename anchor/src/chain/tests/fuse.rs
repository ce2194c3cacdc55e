//! Cuts an anchor off: before or after any of the calls it makes, it dies, or is told that the call failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use stele_rpc::meta::TreeHead;
use tokio::sync::Notify;

use crate::chain::backend::{Chain, ChainError, Terms};
use crate::chain::state::{Candidate, Growth, Hash, Intent};
use crate::chain::store::{ChainStore, StoreError};
use crate::chain::view::View;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Blow {
    /// Nothing more happens.
    Die,
    /// One call fails; after it took effect, where the count is odd.
    Fail,
}

/// Blows once, at one of the places it is asked.
#[derive(Debug)]
pub(crate) struct Fuse {
    left: AtomicI64,
    blow: Blow,
    blown: Notify,
}

impl Fuse {
    pub(crate) fn new(after: i64, blow: Blow) -> Arc<Self> {
        Arc::new(Self { left: AtomicI64::new(after), blow, blown: Notify::new() })
    }

    pub(crate) fn never() -> Arc<Self> {
        Self::new(i64::MAX, Blow::Die)
    }

    /// Returns once an anchor has died.
    pub(crate) async fn blown(&self) {
        self.blown.notified().await;
    }

    pub(crate) fn has_blown(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }

    /// True: the call has to fail.
    async fn asked(&self) -> bool {
        if self.left.fetch_sub(1, Ordering::SeqCst) != 0 {
            return false;
        }
        if self.blow == Blow::Fail {
            return true;
        }
        self.blown.notify_one();
        std::future::pending().await
    }
}

/// Something whose calls may be cut off.
#[derive(Debug)]
pub(crate) struct Fused<T>(pub(crate) T, pub(crate) Arc<Fuse>);

macro_rules! fused {
    ($self:ident, $failed:expr, $call:expr) => {{
        if $self.1.asked().await {
            return Err($failed);
        }
        let answer = $call.await;
        if $self.1.asked().await { Err($failed) } else { answer }
    }};
}

fn lost() -> ChainError {
    ChainError::Unreachable { endpoint: "test".to_owned(), method: "any", why: "cut off".to_owned() }
}

fn failed() -> StoreError {
    StoreError::Failed("cut off".to_owned())
}

#[async_trait]
impl<C: Chain> Chain for Fused<C> {
    fn place(&self) -> String {
        self.0.place()
    }

    async fn look(&self, intent: Option<&Intent>) -> Result<View, ChainError> {
        fused!(self, lost(), self.0.look(intent))
    }

    async fn sign(&self, growth: Growth, terms: Terms) -> Result<Candidate, ChainError> {
        fused!(self, lost(), self.0.sign(growth, terms))
    }

    async fn send(&self, candidate: &Candidate) -> Result<(), ChainError> {
        fused!(self, lost(), self.0.send(candidate))
    }

    async fn find(&self, head: TreeHead) -> Result<Option<(Hash, u64)>, ChainError> {
        fused!(self, lost(), self.0.find(head))
    }

    async fn capture(&self, head: TreeHead, id: Hash) -> Result<Bytes, ChainError> {
        fused!(self, lost(), self.0.capture(head, id))
    }
}

#[async_trait]
impl<S: ChainStore> ChainStore for Fused<S> {
    async fn load(&self) -> Result<Option<(u64, Bytes)>, StoreError> {
        fused!(self, failed(), self.0.load())
    }

    async fn save(&self, expected: u64, row: Bytes) -> Result<u64, StoreError> {
        fused!(self, failed(), self.0.save(expected, row))
    }

    async fn keep(&self, head: TreeHead, proof: Bytes) -> Result<(), StoreError> {
        fused!(self, failed(), self.0.keep(head, proof))
    }
}
