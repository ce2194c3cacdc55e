//! The anchor of a process: its directory with keys and memory, and the task that closes and signs the log.
//!
//! | file | holds |
//! |---|---|
//! | `origin` | name of the log and of its keys |
//! | `ed25519.seed`, `ml-dsa-44.seed` | the log's signing keys, 32 bytes as hex; for the owner only |
//! | `verifier-keys` | what auditors need: one key per line |
//! | `signed` | every size and root that was signed |
//! | `ledger`, `ledger.seed` | the embedded chain and its key |
//! | `chains` | what auditors need of chains: one per line |

pub(crate) mod chains;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use stele_anchor::anchor::{Anchor, AnchorError, Done};
use stele_anchor::memory::Memory;
use stele_evidence::keys::{Ed25519Signer, MlDsa44Signer, SEED_LEN, Signer};
use stele_evidence::vkey::KeyName;
use stele_rpc::client::MetaClient;
use stele_storage_node::media::Media as _;
use stele_storage_node::media::file::{DirectIo, FileMedia};
use stele_types::ids::{ClusterId, NodeId};
use stele_types::seam::{Rng, random_bytes};

use chains::Chains;

const ORIGIN: &str = "origin";
const ED25519: &str = "ed25519.seed";
const ML_DSA: &str = "ml-dsa-44.seed";
const VERIFIER_KEYS: &str = "verifier-keys";
const SIGNED: &str = "signed";
const FILE_BYTES_MAX: usize = 64 * 1024;

/// An anchor's directory.
pub(crate) struct AnchorDir {
    path: PathBuf,
    media: FileMedia,
}

/// Keys that sign under one name.
type Signers = (KeyName, Vec<Box<dyn Signer + Send + Sync>>);

impl AnchorDir {
    /// Makes the directory if need be and takes it.
    ///
    /// # Errors
    /// If it can't be made, or another process has it.
    pub(crate) async fn open(path: &Path) -> anyhow::Result<Self> {
        FileMedia::create_directory(path).with_context(|| format!("making {}", path.display()))?;
        let media = FileMedia::new(path, DirectIo::Never);
        media.lock().await.with_context(|| format!("another anchor may use {}", path.display()))?;
        Ok(Self { path: path.to_owned(), media })
    }

    /// The anchor of this directory. At first its keys are drawn, and the log gets its name. `adopt`: see
    /// [`stele_anchor::steps::next_step`].
    ///
    /// # Errors
    /// If a file can't be read or written, or does not belong to this cluster's log.
    pub(crate) async fn anchor(
        &self,
        meta: MetaClient,
        (node, cluster): (NodeId, ClusterId),
        adopt: bool,
        rng: &dyn Rng,
    ) -> anyhow::Result<Anchor> {
        let signers = self.signers(&origin(cluster), rng).await?;
        let path = self.path.join(SIGNED);
        let name = signers.0.to_string();
        let memory = tokio::task::spawn_blocking(move || Memory::open(&path, &name)).await??;
        Ok(Anchor::new(meta, node, signers, Box::new(memory), adopt))
    }

    async fn signers(&self, origin: &str, rng: &dyn Rng) -> anyhow::Result<Signers> {
        match self.read(ORIGIN).await? {
            Some(found) if found == origin => {}
            Some(found) => {
                bail!("{} signs the log {found:?}, not {origin:?}; use another directory", self.path.display())
            }
            // The name comes last, so that a directory with a name has its keys.
            None => {
                let [first, second] = [(); 2].map(|()| hex::encode(random_bytes::<SEED_LEN>(rng)));
                self.write(ED25519, first).await?;
                self.write(ML_DSA, second).await?;
            }
        }
        let name = KeyName::new(origin)?;
        let ed25519 = Ed25519Signer::for_notes(name.clone(), &self.seed(ED25519).await?);
        let ml_dsa = MlDsa44Signer::new(name.clone(), &self.seed(ML_DSA).await?);
        self.write(VERIFIER_KEYS, format!("{}\n{}\n", ed25519.vkey(), ml_dsa.vkey())).await?;
        self.write(ORIGIN, origin.to_owned()).await?;
        Ok((name, vec![Box::new(ed25519), Box::new(ml_dsa)]))
    }

    /// A seed that is drawn the first time.
    async fn seed_or_new(&self, name: &str, rng: &dyn Rng) -> anyhow::Result<[u8; SEED_LEN]> {
        if self.read(name).await?.is_none() {
            self.write(name, hex::encode(random_bytes::<SEED_LEN>(rng))).await?;
        }
        self.seed(name).await
    }

    async fn seed(&self, name: &str) -> anyhow::Result<[u8; SEED_LEN]> {
        let what = || format!("{name} in {} is missing or damaged; restore it", self.path.display());
        let text = self.read(name).await?.with_context(what)?;
        let mut seed = [0; SEED_LEN];
        hex::decode_to_slice(text.trim_end(), &mut seed).ok().with_context(what)?;
        Ok(seed)
    }

    async fn read(&self, name: &str) -> anyhow::Result<Option<String>> {
        let Some(bytes) = self.media.read_whole(name, FILE_BYTES_MAX).await? else { return Ok(None) };
        let text = std::str::from_utf8(&bytes).with_context(|| format!("{name} in {}", self.path.display()))?;
        Ok(Some(text.to_owned()))
    }

    async fn write(&self, name: &str, text: String) -> anyhow::Result<()> {
        let written = self.media.replace(name, Bytes::from(text)).await;
        written.with_context(|| format!("writing {name} in {}", self.path.display()))
    }
}

/// Name of a cluster's log, unless a restored log had to get another one.
fn origin(cluster: ClusterId) -> String {
    format!("stele/{cluster}/log/0")
}

/// Closes and signs the log from time to time, until the task is dropped. What is published is announced to the
/// chains.
pub(crate) async fn run(anchor: Anchor, chains: Chains, interval: Duration) {
    let told = move |outcome: &Result<Done, AnchorError>| {
        tell(outcome);
        if let Ok(Done::Published(head)) = outcome {
            chains.announce(*head);
        }
    };
    anchor.run(interval, told).await;
}

fn tell(outcome: &Result<Done, AnchorError>) {
    match outcome {
        Ok(Done::Nothing | Done::Overtaken) => {}
        Ok(Done::Committed(head)) => tracing::debug!(size = head.size, "checkpoint committed"),
        Ok(Done::Published(head)) => tracing::info!(size = head.size, "checkpoint signed"),
        Err(error) if error.is_final() => tracing::error!("the evidence log is not signed any more: {error}"),
        Err(error) => tracing::warn!(%error, "the evidence log could not be signed now; trying again"),
    }
}
