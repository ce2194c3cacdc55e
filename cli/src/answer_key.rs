//! The key that a node signs answers to possession audits with: drawn once, kept in the node's directory, told to the
//! cluster at each start. Another key under the same node id is refused there, so that a node can't disown what it
//! signed.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use stele_evidence::keys::{Ed25519Signer, SEED_LEN, Signer as _};
use stele_evidence::vkey::KeyName;
use stele_rpc::client::MetaClient;
use stele_rpc::error::Code;
use stele_rpc::meta::Command;
use stele_storage_node::media::Media as _;
use stele_storage_node::media::file::FileMedia;
use stele_types::ids::{ClusterId, NodeId};
use stele_types::seam::{Rng, random_bytes};

use crate::dev::watch::cluster_command;

const FILE_BYTES_MAX: usize = 4096;
const TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before the cluster is told again.
const PAUSE: Duration = Duration::from_secs(1);

/// The key of a node, in the directory that holds who it is.
///
/// # Errors
/// If it can't be read or written, or is damaged.
pub(crate) async fn open(
    media: &FileMedia,
    (cluster, node): (ClusterId, NodeId),
    rng: &dyn Rng,
) -> anyhow::Result<Ed25519Signer> {
    let file = format!("answer-{node}.seed");
    let damaged = || format!("{file} in {} is damaged; restore it", media.name());
    let text = match media.read_whole(&file, FILE_BYTES_MAX).await? {
        Some(text) => text,
        None => {
            let text = Bytes::from(hex::encode(random_bytes::<SEED_LEN>(rng)));
            media.replace(&file, text.clone()).await.with_context(|| format!("writing {file}"))?;
            text
        }
    };
    let mut seed = [0; SEED_LEN];
    hex::decode_to_slice(text.trim_ascii_end(), &mut seed).ok().with_context(damaged)?;
    let name = KeyName::new(&format!("stele/{cluster}/node/{node}"))?;
    Ok(Ed25519Signer::for_audit_answers(name, &seed))
}

/// Tells the cluster, until it knows. False if it knows this node with another key: a lost seed must not keep a node
/// from serving data, but its answers would convince nobody, so that it gives none.
pub(crate) async fn tell(meta: &MetaClient, node: NodeId, signer: &Ed25519Signer) -> bool {
    let command = Command::SetAnswerKey { node, key: signer.vkey().to_string() };
    let envelope = cluster_command(command, node);
    loop {
        match meta.command(envelope.clone(), TIMEOUT).await {
            Ok(_) => return true,
            Err(error) if matches!(error.code, Code::Forbidden | Code::Malformed) => {
                tracing::error!("possession audits get no answers from here: {error}");
                return false;
            }
            Err(error) => tracing::debug!(%error, "the key for answers to possession audits is not known yet"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
