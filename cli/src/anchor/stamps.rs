//! Has published checkpoints time-stamped (RFC 3161) now and then. What comes back is kept as anchors are, so that
//! bundles carry it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use stele_anchor::chain::meta_store::MetaStore;
use stele_anchor::chain::store::ChainStore as _;
use stele_anchor::tsa::stamp;
use stele_evidence::bundle::writer::Outside;
use stele_evidence::note::Note;
use stele_evidence::timestamp::roots::Roots;
use stele_rpc::meta::{LogRead, LogReply, MetaReply, MetaRequest, SignedNote, TreeHead};
use tokio::task::JoinHandle;

use super::chains::Host;
use crate::config::{Anchor as Settings, TSA_PREFIX};
use crate::web;

const TIMEOUT: Duration = Duration::from_secs(15);
/// Pause after a failure, where the interval is longer.
const AGAIN: Duration = Duration::from_secs(60);
const ROOTS_BYTES_MAX: usize = 64 * 1024;

/// Begins with all authorities of the configuration.
///
/// # Errors
/// The roots can't be read.
pub(crate) async fn start(settings: &Settings, host: &Arc<Host>) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let roots = Arc::new(roots(settings.tsa_roots.as_deref()).await?);
    let authorities = (1..).zip(settings.tsa.iter().cloned());
    let authority = |(number, url): (usize, String)| {
        let (name, host, roots) = (format!("{TSA_PREFIX}{number}"), Arc::clone(host), Arc::clone(&roots));
        tokio::spawn(run(Authority { name, url, host, roots }, settings.tsa_interval.duration()))
    };
    Ok(authorities.map(authority).collect())
}

async fn roots(path: Option<&Path>) -> anyhow::Result<Roots> {
    let mut roots = Roots::default();
    if let Some(path) = path {
        let pem = web::read_small(path, ROOTS_BYTES_MAX).await?;
        roots.add(&pem).with_context(|| format!("anchor.tsa_roots {}", path.display()))?;
    }
    Ok(roots)
}

struct Authority {
    name: String,
    url: String,
    host: Arc<Host>,
    roots: Arc<Roots>,
}

async fn run(authority: Authority, interval: Duration) {
    let mut stamped = None;
    loop {
        let pause = match authority.stamp_newest(stamped).await {
            Ok(Some(head)) => {
                tracing::info!(authority = authority.name, size = head.size, "checkpoint time-stamped");
                stamped = Some(head);
                interval
            }
            Ok(None) => AGAIN.min(interval),
            Err(error) => {
                tracing::warn!(authority = authority.name, "no time stamp now; trying again: {error:#}");
                AGAIN.min(interval)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

impl Authority {
    /// Has the newest published checkpoint stamped, unless it was.
    async fn stamp_newest(&self, stamped: Option<TreeHead>) -> anyhow::Result<Option<TreeHead>> {
        let Some(SignedNote { head, note, .. }) = self.published().await? else { return Ok(None) };
        if stamped == Some(head) {
            return Ok(None);
        }
        let response = stamp(&self.url, &Note::parse(&note)?, &self.roots, self.host.rng.as_ref()).await?;
        let store = MetaStore::new(self.host.meta.clone(), self.host.node, self.name.clone());
        // The row is what makes bundles look for what is kept under the name.
        if store.load().await?.is_none() {
            store.save(0, Bytes::new()).await?;
        }
        store.keep(head, Outside::keep_timestamp(&note, &response).into()).await?;
        Ok(Some(head))
    }

    async fn published(&self) -> anyhow::Result<Option<SignedNote>> {
        match self.host.meta.call(MetaRequest::Log(LogRead::Head), TIMEOUT).await? {
            MetaReply::Log(LogReply::Head(head)) => Ok(head.published),
            _ => bail!("the metadata service did not say where the log stands"),
        }
    }
}
