//! The anchor of a process: its directory with keys and memory, and the task that closes and signs the log.
//!
//! | file | holds |
//! |---|---|
//! | `origin` | name of the log and of its keys |
//! | `ed25519.seed`, `ml-dsa-44.seed` | the log's signing keys, 32 bytes as hex; for the owner only |
//! | `next-ed25519.seed`, `next-ml-dsa-44.seed` | while keys change: the pair that takes over |
//! | `verifier-keys` | what auditors need: one key per line |
//! | `signed`, `signed-2`, ... | every size and root that was signed, under the log's first name and those that followed |
//! | `ledger`, `ledger.seed` | the embedded chain and its key |
//! | `chains` | what auditors need of chains: one per line |

pub(crate) mod chains;
mod keys;
mod lineage;
pub(crate) mod stamps;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use stele_anchor::anchor::{Anchor, AnchorError, Done, Seat};
use stele_anchor::cosign;
use stele_evidence::keys::{Ed25519Signer, MlDsa44Signer, SEED_LEN, Signer};
use stele_evidence::vkey::KeyName;
use stele_rpc::meta::POLICY_BYTES_MAX;
use stele_storage_node::media::Media as _;
use stele_storage_node::media::file::{DirectIo, FileMedia};
use stele_types::ids::ClusterId;
use stele_types::seam::{Rng, random_bytes};

use chains::{Chains, Host};

use crate::config::Anchor as Settings;
use crate::web;

const ORIGIN: &str = "origin";
/// Of a witness.
const NAME: &str = "name";
const ED25519: &str = "ed25519.seed";
const ML_DSA: &str = "ml-dsa-44.seed";
const VERIFIER_KEYS: &str = "verifier-keys";
const SIGNED: &str = "signed";
const FILE_BYTES_MAX: usize = 64 * 1024;
/// For one question to the metadata service.
const TIMEOUT: Duration = Duration::from_secs(15);

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
        media.lock().await.with_context(|| format!("another anchor or witness may use {}", path.display()))?;
        Ok(Self { path: path.to_owned(), media })
    }

    /// The anchor of this directory. At first its keys are drawn, and the log gets its name.
    ///
    /// # Errors
    /// If a file can't be read or written, does not belong to this cluster's log, or is no policy.
    pub(crate) async fn anchor(&self, settings: &Settings, host: &Host) -> anyhow::Result<Anchor> {
        let (name, memory) = self.log_of(host).await?;
        let signers = self.signers(&name, host.rng.as_ref()).await?;
        let seat = Seat { meta: host.meta.clone(), node: host.node, rng: Arc::clone(&host.rng) };
        let anchor = Anchor::new(seat, signers, Box::new(memory), settings.adopt);
        let Some(path) = &settings.policy else { return Ok(anchor) };
        let policy = web::read_small(path, POLICY_BYTES_MAX).await?;
        anchor.with_policy(&policy, cosign::TIMEOUT).with_context(|| format!("anchor.policy {}", path.display()))
    }

    async fn signers(&self, origin: &str, rng: &dyn Rng) -> anyhow::Result<Signers> {
        let name = self.own_seeds(ORIGIN, origin, rng).await?;
        let ed25519 = Ed25519Signer::for_notes(name.clone(), &self.seed(ED25519).await?);
        let (name, signers) = self.with_keys(ORIGIN, name, ed25519).await?;
        let signers = self.with_next(&name, signers).await?;
        Ok((name, signers))
    }

    /// The keys of the witness `name`, which are drawn at first. A directory that cosigned before and has none is
    /// refused: other keys under its name would cosign another history.
    ///
    /// # Errors
    /// If a file can't be read or written, or the directory is another witness's.
    pub(crate) async fn cosigners(&self, name: &str, rng: &dyn Rng) -> anyhow::Result<Signers> {
        if self.read(NAME).await?.is_none() && self.has_seen()? {
            bail!("{} has what a witness cosigned, and not its keys; restore them", self.path.display());
        }
        let name = self.own_seeds(NAME, name, rng).await?;
        let ed25519 = Ed25519Signer::for_cosignatures(name.clone(), &self.seed(ED25519).await?);
        self.with_keys(NAME, name, ed25519).await
    }

    fn has_seen(&self) -> anyhow::Result<bool> {
        let entries = std::fs::read_dir(&self.path).with_context(|| format!("reading {}", self.path.display()))?;
        for entry in entries {
            if entry?.path().extension().is_some_and(|ending| ending == "seen") {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Draws both seeds unless this directory is `name`'s already, as its file `file` says.
    async fn own_seeds(&self, file: &str, name: &str, rng: &dyn Rng) -> anyhow::Result<KeyName> {
        match self.read(file).await? {
            Some(found) if found == name => {}
            Some(found) => {
                bail!("{} has the keys of {found:?}, not of {name:?}; use another directory", self.path.display())
            }
            None => {
                let [first, second] = [(); 2].map(|()| hex::encode(random_bytes::<SEED_LEN>(rng)));
                self.write(ED25519, first).await?;
                self.write(ML_DSA, second).await?;
            }
        }
        Ok(KeyName::new(name)?)
    }

    /// Both signers of a name. It is written down last, so that a directory with a name has its keys.
    async fn with_keys(&self, file: &str, name: KeyName, ed25519: Ed25519Signer) -> anyhow::Result<Signers> {
        let ml_dsa = MlDsa44Signer::new(name.clone(), &self.seed(ML_DSA).await?);
        self.write(VERIFIER_KEYS, format!("{}\n{}\n", ed25519.vkey(), ml_dsa.vkey())).await?;
        self.write(file, name.to_string()).await?;
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
        Err(AnchorError::Unwitnessed(error)) if error.is_alarm() => {
            tracing::error!("a witness saw another history of the evidence log, or a longer one: {error}");
        }
        Err(error) if error.is_final() => tracing::error!("the evidence log is not signed any more: {error}"),
        Err(error) => tracing::warn!(%error, "the evidence log could not be signed now; trying again"),
    }
}
