//! Where anchored roots are seen: chains through nodes of the auditor's choice, copies of ledgers, bundles.

mod bundle;
mod chain;
mod ledger;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use stele_anchor::evm::history::Position;
use stele_evidence::chain::trust::{CHAINS_MAX, Chain, TrustedChains};

use super::sighting::Sighting;
use super::source::Trust;
use super::state::Memory;
use crate::web;

use bundle::BundleSource;
use chain::ChainSource;
use ledger::LedgerSource;

/// A name of the file of chains, and what belongs to it.
#[derive(Clone, Debug)]
pub(super) struct Named {
    name: String,
    value: String,
}

impl std::str::FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let both = text.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty());
        let (name, value) = both.ok_or("NAME=VALUE, with a name of the file for --chains")?;
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

/// `stele log monitor`'s sources of anchored roots.
#[derive(clap::Args)]
pub(super) struct AnchoredArgs {
    /// The chains that you trust, as for stele-verify: number, contract and account of each, the key of a ledger.
    #[arg(long, value_name = "FILE")]
    chains: Option<PathBuf>,
    /// A node of the chain NAME, whose anchors of the log are read; further ones for a chain are asked when one fails.
    #[arg(long = "chain-rpc", value_name = "NAME=URL", requires = "chains")]
    nodes: Vec<Named>,
    /// Block of the chain NAME from which it is read for the first time; without it, its first one.
    #[arg(long = "from-block", value_name = "NAME=NUMBER", requires = "chains")]
    from: Vec<Named>,
    /// A copy of the ledger NAME, or the anchor's own file.
    #[arg(long = "ledger", value_name = "NAME=FILE", requires = "chains")]
    ledgers: Vec<Named>,
    /// A bundle, whose checkpoint and anchors are looked at.
    #[arg(long = "bundle", value_name = "DIR", requires = "policy")]
    bundles: Vec<PathBuf>,
}

/// One of them.
pub(super) enum Anchored {
    Chain(ChainSource),
    Ledger(Box<LedgerSource>),
    Bundle(BundleSource),
}

/// What a look brought.
pub(super) struct Look {
    pub(super) sightings: Vec<Sighting>,
    /// What the source is told once all of them are dealt with.
    pub(super) next: Next,
    /// Something is left for the next look.
    pub(super) more: bool,
    /// The keeper of a ledger put another block where one was seen: which, and the new one.
    pub(super) rewritten: Option<(String, Vec<u8>)>,
}

/// Where the next look begins.
pub(super) enum Next {
    Chain(Position),
    Ledger(Box<stele_evidence::chain::ledger::LedgerState>),
    Bundle,
}

impl AnchoredArgs {
    /// The sources, with what was seen on them before.
    ///
    /// # Errors
    /// A file can't be read, or a name is not in the file of chains.
    pub(super) async fn open(&self, memory: &Memory) -> anyhow::Result<Vec<Anchored>> {
        let chains = match &self.chains {
            Some(path) => {
                let bytes = web::read_small(path, CHAINS_MAX).await?;
                TrustedChains::parse(&bytes).with_context(|| format!("chains {}", path.display()))?
            }
            None => TrustedChains::default(),
        };
        let known = |named: &Named| {
            let name = &named.name;
            chains.get(name).with_context(|| format!("the file for --chains has no chain {name:?}"))
        };
        for from in &self.from {
            ensure!(self.nodes.iter().any(|node| node.name == from.name), "--from-block {}: no node of it", from.name);
        }
        let mut sources = Vec::new();
        for (at, node) in self.nodes.iter().enumerate() {
            if self.nodes.iter().take(at).any(|earlier| earlier.name == node.name) {
                continue;
            }
            let of_chain = |named: &&Named| named.name == node.name;
            let urls: Vec<_> = self.nodes.iter().filter(of_chain).map(|named| named.value.clone()).collect();
            let from = self.from.iter().find(of_chain).map(|named| named.value.parse());
            let from = from.transpose().with_context(|| format!("--from-block {}: not a number", node.name))?;
            let Chain::Evm { pin, .. } = known(node)? else {
                anyhow::bail!("{} is a ledger in the file for --chains: give its file with --ledger", node.name);
            };
            sources.push(Anchored::Chain(ChainSource::new(&node.name, *pin, (urls, from), memory)));
        }
        for ledger in &self.ledgers {
            let Chain::Ledger { key, .. } = known(ledger)? else {
                anyhow::bail!("{} is no ledger in the file for --chains: give a node with --chain-rpc", ledger.name);
            };
            let source = LedgerSource::new(&ledger.name, key.clone(), PathBuf::from(&ledger.value), memory);
            sources.push(Anchored::Ledger(Box::new(source)));
        }
        for path in &self.bundles {
            sources.push(Anchored::Bundle(BundleSource { path: path.clone(), chains: chains.clone() }));
        }
        Ok(sources)
    }
}

impl Anchored {
    /// In words.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Chain(source) => format!("chain {}", source.name),
            Self::Ledger(source) => format!("ledger {}", source.name),
            Self::Bundle(source) => format!("bundle {}", source.path.display()),
        }
    }

    /// Looks for what is new of the log `origin`.
    ///
    /// # Errors
    /// It does not answer, or with something that can't be true.
    pub(super) async fn look(&self, origin: &str, trust: &Trust) -> anyhow::Result<Look> {
        match self {
            Self::Chain(source) => source.look(origin).await,
            Self::Ledger(source) => source.look(origin).await,
            Self::Bundle(source) => source.look(origin, trust).await,
        }
    }

    /// All that a look brought is kept. How far a chain was read, if that is worth keeping.
    pub(super) fn settle(&mut self, next: Next, found: bool) -> Option<(String, Position)> {
        match (self, next) {
            (Self::Chain(source), Next::Chain(position)) => source.settle(position, found),
            (Self::Ledger(source), Next::Ledger(state)) => {
                source.settle(*state);
                None
            }
            _ => None,
        }
    }

    /// What shows a sighting to somebody who believes no node.
    ///
    /// # Errors
    /// There is no such thing: the node told of an anchor that its block does not hold.
    pub(super) async fn prove(&self, origin: &str, sighting: &Sighting) -> anyhow::Result<(String, Vec<u8>)> {
        use super::sighting::Found;
        match (&sighting.found, self) {
            (Found::Note(note), _) => Ok((String::new(), note.clone().into_bytes())),
            (Found::Anchor(recorded), source) => match (&recorded.proof, source) {
                (Ok(proof), _) => Ok((String::new(), proof.clone())),
                (Err(event), Self::Chain(source)) => source.prove(origin, *event).await,
                (Err(_), _) => anyhow::bail!("only chains have events"),
            },
        }
    }
}
