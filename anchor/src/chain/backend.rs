//! What every chain can do. Nothing here remembers: whoever calls keeps the intent before it is sent, and asks again
//! after a crash.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use stele_rpc::meta::TreeHead;

use super::state::{Candidate, Fee, Growth, Hash, Intent};
use super::view::View;

/// Why a chain did not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChainError {
    /// No usable answer. The next try may help.
    #[error("{endpoint} did not answer {method}: {why}; the next try follows")]
    Unreachable {
        /// Host of the provider.
        endpoint: String,
        /// What was asked.
        method: &'static str,
        /// What happened.
        why: String,
    },
    /// The provider refused.
    #[error("{endpoint} refused {method}: {message} (code {code})")]
    Refused {
        /// Host of the provider.
        endpoint: String,
        /// What was asked.
        method: &'static str,
        /// Its code.
        code: i64,
        /// Its words.
        message: String,
    },
    /// The provider does not have the method.
    #[error("{endpoint} does not offer {method}")]
    Unsupported {
        /// Host of the provider.
        endpoint: String,
        /// What was asked.
        method: &'static str,
    },
    /// The provider answers for another chain.
    #[error("{endpoint} serves chain {found}, and chain {expected} is configured: correct the one or the other")]
    WrongChain {
        /// Host of the provider.
        endpoint: String,
        /// Configured.
        expected: u64,
        /// Served.
        found: u64,
    },
    /// Nothing is deployed at the contract's address.
    #[error("there is no contract at {contract} on chain {chain}: deploy it, or correct the address")]
    NoContract {
        /// The chain.
        chain: u64,
        /// The address.
        contract: String,
    },
    /// The account can't pay.
    #[error("account {account} holds {balance} and needs {needed} of the chain's smallest coin: send it more")]
    NoFunds {
        /// The account.
        account: String,
        /// What it has.
        balance: String,
        /// What one transaction may cost.
        needed: String,
    },
    /// Another account owns the log on this chain.
    #[error("the log belongs to {owner} on this chain, and not to {account}: use the key that anchored it first")]
    NotOwner {
        /// Who claimed it.
        owner: String,
        /// The configured account.
        account: String,
    },
    /// The growth does not follow the newest one any more.
    #[error("the chain would refuse the anchor ({0}): it is looked at again")]
    Overtaken(String),
    /// An answer contradicts itself or another one.
    #[error(
        "{endpoint} answered something that can't be true: {what}. It is not believed; give another endpoint if it persists"
    )]
    Lying {
        /// Host of the provider.
        endpoint: String,
        /// What does not fit.
        what: String,
    },
    /// The chain's files or keys can't be used until a restart.
    #[error("{0}")]
    Broken(String),
}

impl ChainError {
    /// True if nothing will change until somebody has looked.
    pub fn is_final(&self) -> bool {
        match self {
            Self::WrongChain { .. } | Self::NoContract { .. } | Self::NotOwner { .. } | Self::Broken(_) => true,
            Self::Unreachable { .. }
            | Self::Refused { .. }
            | Self::Unsupported { .. }
            | Self::NoFunds { .. }
            | Self::Overtaken(_)
            | Self::Lying { .. } => false,
        }
    }
}

/// How a transaction is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// Its number within its account.
    pub nonce: u64,
    /// What it offers.
    pub fee: Option<Fee>,
    /// Most gas that it uses; `None`: the chain is asked, and refuses what would have no effect.
    pub gas: Option<u64>,
}

/// A chain on which one account anchors one log.
#[async_trait]
pub trait Chain: Send + Sync + fmt::Debug {
    /// Which chain, contract and account, in one line without secrets. A row is about one place for ever.
    fn place(&self) -> String;

    /// Where the chain stands, and what became of an intent. Changes nothing.
    ///
    /// # Errors
    /// [`ChainError`]. An answer that can't be true is an error, never a view.
    async fn look(&self, intent: Option<&Intent>) -> Result<View, ChainError>;

    /// Signs the transaction that anchors `growth`. Sends nothing.
    ///
    /// # Errors
    /// [`ChainError::Overtaken`] or [`ChainError::NotOwner`]: it would be refused.
    async fn sign(&self, growth: Growth, terms: Terms) -> Result<Candidate, ChainError>;

    /// Hands a signed transaction to the chain. Handing it in again has no further effect and is no error, nor is it
    /// one that its number is used up: [`Self::look`] tells what became of it.
    ///
    /// # Durability
    /// None is promised by most chains; [`Self::look`] tells.
    ///
    /// # Errors
    /// [`ChainError`].
    async fn send(&self, candidate: &Candidate) -> Result<(), ChainError>;

    /// The transaction that anchored this checkpoint, and its block, if that is final.
    ///
    /// # Errors
    /// [`ChainError`].
    async fn find(&self, head: TreeHead) -> Result<Option<(Hash, u64)>, ChainError>;

    /// The proof that the transaction `id` anchored this checkpoint, checked as an auditor will check it.
    ///
    /// # Errors
    /// [`ChainError::Lying`]: the parts do not prove it.
    async fn capture(&self, head: TreeHead, id: Hash) -> Result<Bytes, ChainError>;
}

#[async_trait]
impl Chain for Box<dyn Chain> {
    fn place(&self) -> String {
        self.as_ref().place()
    }

    async fn look(&self, intent: Option<&Intent>) -> Result<View, ChainError> {
        self.as_ref().look(intent).await
    }

    async fn sign(&self, growth: Growth, terms: Terms) -> Result<Candidate, ChainError> {
        self.as_ref().sign(growth, terms).await
    }

    async fn send(&self, candidate: &Candidate) -> Result<(), ChainError> {
        self.as_ref().send(candidate).await
    }

    async fn find(&self, head: TreeHead) -> Result<Option<(Hash, u64)>, ChainError> {
        self.as_ref().find(head).await
    }

    async fn capture(&self, head: TreeHead, id: Hash) -> Result<Bytes, ChainError> {
        self.as_ref().capture(head, id).await
    }
}
