//! Making backups: on the metadata node that leads, when one is due or wanted. Each is read back before anything relies
//! on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use stele_metadata::MetadataNode;
use stele_metadata::backup::{self, Facts, Recipient};
use stele_rpc::client::unexpected;
use stele_rpc::meta::{BackupCommand, BackupMade, BackupState, Command, MetaReply, MetaRequest};
use stele_types::ids::{Epoch, MapEpoch};
use stele_types::seam::{Clock, random_bytes};

use super::place::{ENDING, Listed, Place};
use crate::config::Backup as Settings;
use crate::dev::watch::cluster_command;
use crate::real::OsRng;

/// Between two looks at what is due.
const LOOK: Duration = Duration::from_secs(1);
/// After a backup failed, the next try waits this much longer each time, up to the second figure.
const PAUSE: Duration = Duration::from_secs(10);
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// Makes backups of one node's view while it leads.
pub(crate) struct Maker {
    node: Arc<MetadataNode>,
    clock: Arc<dyn Clock>,
    place: Place,
    recipient: Recipient,
    interval: Duration,
    keep: usize,
    /// Up to where backups were marked.
    marked: AtomicU64,
}

impl Maker {
    /// As it is configured; `None` if no backups are.
    ///
    /// # Errors
    /// The settings are of no use.
    pub(crate) fn new(
        settings: &Settings,
        node: &Arc<MetadataNode>,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<Option<Self>> {
        let (Some(url), Some(recipient)) = (&settings.url, &settings.recipient) else { return Ok(None) };
        Ok(Some(Self {
            node: Arc::clone(node),
            clock: Arc::clone(clock),
            place: Place::open(url).context("backup.url")?,
            recipient: recipient.parse().context("backup.recipient")?,
            interval: settings.interval.duration(),
            keep: usize::try_from(settings.keep).unwrap_or(usize::MAX),
            marked: AtomicU64::new(0),
        }))
    }

    /// For ever.
    pub(crate) async fn run(self) {
        let mut pause = PAUSE;
        loop {
            tokio::time::sleep(LOOK).await;
            if !self.node.leads() {
                continue;
            }
            match self.step().await {
                Ok(()) => pause = PAUSE,
                Err(error) => {
                    self.node.metrics().backup_errors.inc();
                    tracing::error!("the metadata could not be backed up: {error:#}; trying again in {pause:?}");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    async fn send(&self, command: BackupCommand) -> anyhow::Result<MetaReply> {
        let envelope = cluster_command(Command::Backup(command), self.node.id());
        Ok(self.node.answer(MetaRequest::Command(Box::new(envelope))).await?)
    }

    async fn state(&self) -> anyhow::Result<BackupState> {
        match self.node.answer(MetaRequest::Status).await? {
            MetaReply::Status(status) => Ok(status.backups),
            _ => bail!(unexpected("to Status")),
        }
    }

    async fn step(&self) -> anyhow::Result<()> {
        let state = self.state().await?;
        let interval = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX);
        if state.interval_ms != Some(interval) {
            self.send(BackupCommand::Expect { interval_ms: Some(interval) }).await?;
            return Ok(());
        }
        self.show(&state);
        if !is_due(&state, self.clock.unix_millis()) {
            return self.mark(&state, false).await;
        }
        let begun = self.clock.monotonic_micros();
        let made = self.make().await?;
        let millis = self.clock.monotonic_micros().saturating_sub(begun) / 1000;
        let BackupMade { name, bytes, rows, .. } = &made;
        tracing::info!(name, bytes, rows, millis, "the metadata was backed up, and the backup read back");
        self.send(BackupCommand::Made(Box::new(made))).await?;
        self.node.metrics().backups.inc();
        self.mark(&self.state().await?, true).await?;
        self.retire().await
    }

    fn show(&self, state: &BackupState) {
        let metrics = self.node.metrics();
        if let Some(newest) = &state.newest {
            metrics.backup_time.set(i64::try_from(newest.time / 1000).unwrap_or(i64::MAX));
            metrics.backup_bytes.set(i64::try_from(newest.bytes).unwrap_or(i64::MAX));
        }
    }

    /// Writes one backup, and reads it back.
    async fn make(&self) -> anyhow::Result<BackupMade> {
        // The read point: everything that was acknowledged before is in the view.
        self.state().await?;
        let (view, recipient) = (Arc::new(self.node.view()?), self.recipient);
        let same = Arc::clone(&view);
        let facts = tokio::task::spawn_blocking(move || Facts::of(&**same, &recipient)).await??;
        let name = format!("{}{ENDING}", backup::name(&facts, random_bytes(&OsRng)));
        let write = move |out: &mut dyn std::io::Write| Ok(backup::write(&**view, facts, out)?);
        let sealed = self.place.put(&name, write).await?;
        let back = self.place.get(&name, |source| Ok(backup::prove(source)?)).await.context("reading it back")?;
        ensure!(
            (back.hash, back.bytes) == (sealed.hash, sealed.bytes),
            "{name} came back from {} with other bytes than were sent; nothing relies on it",
            self.place.shown()
        );
        let Facts { rows, index, time, fence, .. } = sealed.facts;
        let (hash, bytes, fence) = (sealed.hash, sealed.bytes, Epoch(fence));
        Ok(BackupMade { name, hash, bytes, rows, index, time, fence })
    }

    /// Marks backups whose packs may have been deleted. The place is looked at when `now`, or when the mark moved.
    async fn mark(&self, state: &BackupState, now: bool) -> anyhow::Result<()> {
        let superseded = state.superseded.0;
        if superseded == 0 || (superseded == self.marked.load(Ordering::Relaxed) && !now) {
            return Ok(());
        }
        let newest = state.newest.as_ref().map(|made| made.name.as_str());
        for listed in self.own().await? {
            if listed.superseded || Some(listed.name.as_str()) == newest {
                continue;
            }
            let facts = self.place.get_head(&listed, |source| Ok(backup::read_facts(source)?)).await;
            // One that can't be read is of no use either way.
            if facts.is_ok_and(|facts| facts.fence <= superseded) {
                self.place.mark(&listed).await?;
                tracing::info!(name = listed.name, "this backup may miss packs from now on, and is marked");
            }
        }
        self.marked.store(superseded, Ordering::Relaxed);
        Ok(())
    }

    /// Backups of this cluster.
    async fn own(&self) -> anyhow::Result<Vec<Listed>> {
        let asked = self.node.answer(MetaRequest::ClusterMap { known: MapEpoch(0) }).await?;
        let MetaReply::ClusterMap(Some(map)) = asked else { bail!(unexpected("to ClusterMap")) };
        let prefix = format!("{}/", map.cluster.map(|id| id.to_string()).unwrap_or_default());
        Ok(self.place.list().await?.into_iter().filter(|listed| listed.name.starts_with(&prefix)).collect())
    }

    /// Removes the oldest ones.
    async fn retire(&self) -> anyhow::Result<()> {
        let own = self.own().await?;
        for listed in own.iter().take(own.len().saturating_sub(self.keep)) {
            self.place.remove(listed).await?;
            tracing::info!(name = listed.name, "an old backup was removed");
        }
        Ok(())
    }
}

/// Whether one is to be made at `now`.
fn is_due(state: &BackupState, now: u64) -> bool {
    let (Some(interval), Some(newest)) = (state.interval_ms, &state.newest) else {
        return state.interval_ms.is_some();
    };
    state.wanted > newest.time || now >= newest.time.saturating_add(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_due_when_there_is_none_when_it_is_time_and_when_somebody_asks() {
        let mut state = BackupState::default();
        assert!(!is_due(&state, 1_000_000), "none are expected");
        state.interval_ms = Some(60_000);
        assert!(is_due(&state, 0));
        state.newest = Some(BackupMade { time: 100_000, ..BackupMade::default() });
        assert!(!is_due(&state, 159_999) && is_due(&state, 160_000));
        state.wanted = 100_001;
        assert!(is_due(&state, 100_002));
    }
}
