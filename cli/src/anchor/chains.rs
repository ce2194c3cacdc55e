//! Takes signed checkpoints to the chains of the configuration, each at its own pace and with its own troubles.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use stele_anchor::chain::meta_store::MetaStore;
use stele_anchor::chain::open::{Backend, open};
use stele_anchor::chain::steps::Rules;
use stele_anchor::chain::submit::{Done, SubmitError, Submitter};
use stele_evidence::chain::log_id;
use stele_evidence::keys::Ed25519Signer;
use stele_evidence::vkey::KeyName;
use stele_rpc::client::MetaClient;
use stele_rpc::meta::{LogRead, LogReply, MetaReply, MetaRequest, TreeHead};
use stele_types::ids::{ClusterId, NodeId};
use stele_types::seam::{Clock, Rng};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{AnchorDir, ORIGIN};
use crate::config::{ChainKind, ChainSettings};

const LEDGER: &str = "ledger";
const LEDGER_SEED: &str = "ledger.seed";
const FOR_AUDITORS: &str = "chains";
/// For one question to a node of a chain.
const NODE_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest pause between two looks at something that is under way.
const LOOK: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(15);

/// The process that takes checkpoints to chains.
pub(crate) struct Host {
    pub(crate) meta: MetaClient,
    pub(crate) node: NodeId,
    pub(crate) cluster: ClusterId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
}

/// Chains that run. They end with their tasks.
pub(crate) struct Chains {
    published: watch::Sender<Option<TreeHead>>,
    pub(crate) tasks: Vec<JoinHandle<()>>,
}

impl Chains {
    /// A checkpoint was published.
    pub(super) fn announce(&self, head: TreeHead) {
        self.published.send_replace(Some(head));
    }
}

impl AnchorDir {
    /// Opens all chains and starts taking checkpoints to them. Writes down what auditors need to know of them.
    ///
    /// # Errors
    /// If one can't be used as it is configured. What a chain answers later stops that chain only.
    pub(crate) async fn chains(&self, settings: &[ChainSettings], host: &Host) -> anyhow::Result<Chains> {
        let Some(origin) = self.read(ORIGIN).await? else { bail!("{} has no keys of a log", self.path.display()) };
        let (published, newest) = watch::channel(None);
        let (mut tasks, mut lines) = (Vec::new(), String::new());
        for chain in settings {
            let backend = self.backend(chain, host).await.with_context(|| format!("chain {}", chain.name))?;
            lines.push_str(&backend.line_for_auditors(&chain.name)?);
            lines.push('\n');
            let id = log_id(&origin);
            let opened = tokio::task::spawn_blocking(move || open(backend, id)).await?;
            let opened = opened.with_context(|| format!("chain {}", chain.name))?;
            let store = MetaStore::new(host.meta.clone(), host.node, chain.name.clone());
            let rules = Rules { fee_cap: chain.fee_cap.map(u128::from), ..Rules::default() };
            let (paced, wanted) = watch::channel(None);
            let pause = chain.interval.duration();
            tasks.push(tokio::spawn(pace(newest.clone(), paced, pause)));
            let name = chain.name.clone();
            let run = Submitter::new(opened, store, rules).run(wanted, LOOK.min(pause), move |done| tell(&name, done));
            tasks.push(tokio::spawn(run));
        }
        self.write(FOR_AUDITORS, lines).await?;
        let chains = Chains { published, tasks };
        if let Some(head) = already_published(&host.meta).await {
            chains.announce(head);
        }
        Ok(chains)
    }

    async fn backend(&self, chain: &ChainSettings, host: &Host) -> anyhow::Result<Backend> {
        match chain.kind {
            ChainKind::Ledger => {
                let name = KeyName::new(&format!("stele/{}/ledger", host.cluster))?;
                let seed = self.seed_or_new(LEDGER_SEED, host.rng.as_ref()).await?;
                let signer = Arc::new(Ed25519Signer::for_ledger(name, &seed));
                let path = self.path.join(LEDGER);
                Ok(Backend::Ledger { path, signer, clock: Arc::clone(&host.clock) })
            }
            ChainKind::Evm => {
                let evm = chain.evm().map_err(anyhow::Error::msg)?;
                Ok(Backend::Evm {
                    endpoints: evm.endpoints,
                    timeout: NODE_TIMEOUT,
                    key: evm.key_file,
                    chain: evm.chain_id,
                    contract: evm.contract,
                    finality: evm.finality,
                    dialect: evm.dialect,
                })
            }
        }
    }
}

/// What was published before this process began. Not knowing costs nothing but time: the next one is announced.
async fn already_published(meta: &MetaClient) -> Option<TreeHead> {
    match meta.call(MetaRequest::Log(LogRead::Head), TIMEOUT).await {
        Ok(MetaReply::Log(LogReply::Head(head))) => head.published.map(|published| published.head),
        _ => None,
    }
}

/// Hands on the newest checkpoint, and another one after the pause at the earliest.
async fn pace(mut newest: watch::Receiver<Option<TreeHead>>, paced: watch::Sender<Option<TreeHead>>, pause: Duration) {
    loop {
        let head = *newest.borrow_and_update();
        if head.is_some() {
            paced.send_replace(head);
            tokio::time::sleep(pause).await;
        }
        if newest.changed().await.is_err() {
            return;
        }
    }
}

fn tell(chain: &str, outcome: &Result<Done, SubmitError>) {
    match outcome {
        Ok(Done::Anchored(head)) => tracing::info!(chain, size = head.size, "checkpoint anchored"),
        Ok(Done::Released(why)) => tracing::warn!(chain, ?why, "an anchor was given up; the next one follows"),
        Ok(Done::Waited(why)) => tracing::debug!(chain, ?why, "waiting"),
        Ok(done) => tracing::debug!(chain, ?done, "anchoring"),
        Err(error) if error.is_final() => tracing::error!(chain, "nothing is anchored there any more: {error}"),
        Err(error) => tracing::warn!(chain, %error, "no anchor now; trying again"),
    }
}
