//! Checkpoint and anchors of a bundle that somebody took home.

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use stele_evidence::bundle::CONTENTS_MAX;
use stele_evidence::bundle::contents::{BundleAnchor, ChainKind, Contents};
use stele_evidence::bundle::names::CONTENTS;
use stele_evidence::chain::evm::{EVM_PROOF_MAX, EvmProof};
use stele_evidence::chain::ledger::Block;
use stele_evidence::chain::trust::{Chain, TrustedChains};
use stele_evidence::chain::{Anchored, log_id};
use stele_evidence::proof::Head;
use stele_evidence::tlog_proof::{TLOG_PROOF_MAX, TlogProof};

use super::{Look, Next};
use crate::log::sighting::{Found, Recorded, Sighting};
use crate::log::source::Trust;
use crate::web;

/// One bundle.
pub(in crate::log) struct BundleSource {
    pub(super) path: PathBuf,
    pub(super) chains: TrustedChains,
}

impl BundleSource {
    async fn read(&self, name: &str, max: usize) -> anyhow::Result<Vec<u8>> {
        let path = self.path.join(name);
        let kind = tokio::fs::symlink_metadata(&path).await.with_context(|| format!("reading {}", path.display()))?;
        ensure!(kind.is_file(), "{} is no plain file", path.display());
        ensure!(kind.len() <= max as u64, "{} has more than {max} bytes", path.display());
        web::read_small(&path, max).await
    }

    pub(super) async fn look(&self, origin: &str, trust: &Trust) -> anyhow::Result<Look> {
        let contents = Contents::parse(&self.read(CONTENTS, CONTENTS_MAX).await?)?;
        ensure!(contents.origin == origin, "it is of the log {:?}, not {origin:?}", contents.origin);
        let mut sightings = vec![self.checkpoint(&contents, origin, trust).await?];
        for anchor in &contents.anchors {
            let bytes = self.read(&anchor.proof, EVM_PROOF_MAX).await?;
            let shown = self.shown(anchor, &bytes).with_context(|| format!("anchor on {}", anchor.name))?;
            let Some((anchored, recorded, words)) = shown else {
                crate::print(format!(
                    "{}: its anchor on {} was not looked at: no chain of that name in the file for --chains",
                    self.path.display(),
                    anchor.name
                ));
                continue;
            };
            ensure!(anchored.log_id == log_id(origin), "its anchor on {} is of another log", anchor.name);
            let head = Head { size: anchored.size, root: anchored.root };
            let place = format!("bundle {} (anchor on {}, {words})", self.path.display(), anchor.name);
            sightings.push(Sighting { head, place, found: Found::Anchor(recorded) });
        }
        Ok(Look { sightings, next: Next::Bundle, more: false, rewritten: None })
    }

    async fn checkpoint(&self, contents: &Contents, origin: &str, trust: &Trust) -> anyhow::Result<Sighting> {
        let object = contents.objects.first().context("it has no object")?;
        let proof = TlogProof::parse(&self.read(&object.proof, TLOG_PROOF_MAX).await?)?;
        // What a bundle says of whom to trust is worth nothing: anybody can make one.
        let Trust::Own(policy) = trust else { bail!("bring your trust policy with --policy") };
        let checkpoint = policy.evaluate(&proof.checkpoint).context("its checkpoint")?.checkpoint;
        ensure!(checkpoint.origin() == origin, "its checkpoint is of the log {:?}", checkpoint.origin());
        let note = String::from_utf8(proof.checkpoint.as_bytes().to_vec()).context("a checkpoint that is not text")?;
        let place = format!("bundle {} (checkpoint)", self.path.display());
        Ok(Sighting { head: checkpoint.head(), place, found: Found::Note(note) })
    }

    /// What an anchor shows, by what the auditor knows of its chain; `None`: the auditor names no such chain.
    fn shown(&self, anchor: &BundleAnchor, bytes: &[u8]) -> anyhow::Result<Option<(Anchored, Recorded, String)>> {
        let Some(chain) = self.chains.get(&anchor.name) else { return Ok(None) };
        let (anchored, chain, block, words) = match (anchor.chain, chain) {
            (ChainKind::Evm, Chain::Evm { pin, .. }) => {
                let shown = EvmProof::decode(bytes)?.verify(pin)?;
                let words = format!("block {} with hash 0x{}", shown.number, hex::encode(shown.block_hash));
                (shown.anchored, format!("bundle evm:{}", pin.chain_id), shown.number, words)
            }
            (ChainKind::Ledger, Chain::Ledger { key, .. }) => {
                let block = Block::decode(bytes)?;
                key.check(&block)?;
                (
                    block.anchored,
                    format!("bundle ledger:{}", key.vkey()),
                    block.height,
                    format!("block {}", block.height),
                )
            }
            (kind, _) => bail!("the bundle says {}, and your file of chains another kind", kind.name()),
        };
        let recorded = Recorded { chain, block, what: Vec::new(), proof: Ok(bytes.to_vec()) };
        Ok(Some((anchored, recorded, words)))
    }
}
