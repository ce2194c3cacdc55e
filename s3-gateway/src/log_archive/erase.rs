//! Erasing comes to entries that only archives hold: the metadata service walks over records, and is given those that it
//! will come to, each with what proves that it is the log's.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use stele_evidence::log_archive::{Footer, Height, Item, leaves, path};
use stele_evidence::record::{Event, Record};
use stele_evidence::tiles::TILE_WIDTH;
use stele_rpc::meta::{ArchivePlan, COPIES_MAX, LogCommand, LogItem, LogRead, LogReply, RecordCopy};
use stele_types::ids::{LogIndex, VersionId};
use stele_types::seam::UnixMillis;

use super::command;
use super::object::{height_of, section_with, tiles};
use super::read::ask_metadata;
use crate::error::{GatewayError, unexpected_reply};
use crate::gateway::Gateway;

/// Records that one step looks at.
const STEP_ENTRIES: u32 = 512;
/// Bytes of one command's copies: well below a raft entry.
const STEP_BYTES: usize = 640_000;
/// Bytes of a copy besides its record: salt, path, lengths.
const COPY_BYTES: usize = 32 + 16 * 32 + 64;
/// Sections that a step holds.
const SECTIONS_OPEN: usize = 4;
/// Events of a key that one step goes back.
const CHAIN_MAX: usize = 64;

/// One step of erasing. False: nothing is due.
pub(super) async fn step(gw: &Arc<Gateway>, plan: &ArchivePlan) -> Result<bool, GatewayError> {
    let (Some(at), Some(keep_ms)) = (plan.erasing, plan.keep_ms) else { return Ok(false) };
    let due = gw.clock.unix_millis().checked_sub(keep_ms);
    let height = height_of(plan)?;
    let mut copies = Copies { height, due, found: BTreeMap::new(), bytes: 0, open: BTreeMap::new() };
    copies.collect(gw, at).await?;
    if copies.found.is_empty() {
        return Ok(false);
    }
    let copies = copies.found.into_values().collect();
    command(gw, LogCommand::Erase { max_entries: STEP_ENTRIES, copies }).await?;
    Ok(true)
}

/// What is known of an entry on the way back.
struct Seen {
    previous: Option<LogIndex>,
    /// Its record, unless it was erased.
    record: Option<Record>,
}

struct Copies {
    height: Height,
    /// Removals at this time and before are due; `None`: none is.
    due: Option<UnixMillis>,
    found: BTreeMap<LogIndex, RecordCopy>,
    bytes: usize,
    /// By archive and section.
    open: BTreeMap<(u64, usize), Opened>,
}

/// A section, and the hashes over its archive.
type Opened = (Arc<Vec<Item>>, Arc<Footer>);

impl Copies {
    /// The metadata service goes back from `at`, or looks at one record after the other from there on: which of the two it
    /// is only it knows.
    async fn collect(&mut self, gw: &Arc<Gateway>, at: LogIndex) -> Result<(), GatewayError> {
        let Some(first) = self.archived(gw, at).await? else { return Ok(()) };
        if first.record.as_ref().is_some_and(|record| is_removal(record) && !self.is_due(record)) {
            self.found.clear();
            return Ok(());
        }
        let version = first.record.as_ref().filter(|record| is_removal(record)).map(|record| record.version);
        self.chain(gw, first.previous, version).await?;
        let end = (at.0 / self.height.entries()).saturating_add(1).saturating_mul(self.height.entries());
        for index in (at.0..end).skip(1).map(LogIndex) {
            if self.is_full() || self.look_at(gw, index).await?.is_break() {
                break;
            }
        }
        Ok(())
    }

    async fn look_at(&mut self, gw: &Arc<Gateway>, index: LogIndex) -> Result<ControlFlow<()>, GatewayError> {
        let item = self.item(gw, index).await?;
        let seen = read(index, &item)?;
        let removal = seen.record.filter(is_removal);
        if removal.as_ref().is_some_and(|record| !self.is_due(record)) {
            return Ok(ControlFlow::Break(()));
        }
        self.add(gw, index, item).await?;
        if let Some(record) = removal {
            self.chain(gw, record.previous, Some(record.version)).await?;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Events from `next` back to the creation of `version`.
    async fn chain(
        &mut self,
        gw: &Arc<Gateway>,
        mut next: Option<LogIndex>,
        version: Option<VersionId>,
    ) -> Result<(), GatewayError> {
        for _ in 0..CHAIN_MAX {
            let Some(index) = next.filter(|_| !self.is_full()) else { break };
            let Some(seen) = self.archived(gw, index).await? else { break };
            let creates = |record: &Record| matches!(record.event, Event::Put | Event::DeleteMarker);
            if seen.record.is_some_and(|record| creates(&record) && Some(record.version) == version) {
                break;
            }
            next = seen.previous;
        }
        Ok(())
    }

    /// Takes the record, unless the metadata service has it, or has erased it since.
    async fn archived(&mut self, gw: &Arc<Gateway>, index: LogIndex) -> Result<Option<Seen>, GatewayError> {
        match ask_metadata(gw, LogRead::Record { index }).await? {
            LogReply::Archived(_) => {
                let item = self.item(gw, index).await?;
                let seen = read(index, &item)?;
                self.add(gw, index, item).await?;
                Ok(Some(seen))
            }
            LogReply::Record(Some(row)) if row.erased_by.is_some() => {
                Ok(Some(Seen { previous: row.previous, record: None }))
            }
            LogReply::Record(Some(row)) => of_record(index, &row.record).map(Some),
            LogReply::Record(None) => Ok(None),
            _ => Err(unexpected_reply("Record")),
        }
    }

    async fn add(&mut self, gw: &Arc<Gateway>, index: LogIndex, item: Item) -> Result<(), GatewayError> {
        if self.is_full() || self.found.contains_key(&index) {
            return Ok(());
        }
        let (items, footer) = self.opened(gw, index).await?;
        let at = self.place(index);
        let tile = at - at % TILE_WIDTH;
        let hashes = leaves(items.get(tile..tile.saturating_add(TILE_WIDTH)).unwrap_or_default());
        let path = path(self.height, index, &hashes, &footer.tiles).ok_or_else(|| unexpected_reply("Archive"))?;
        let item = match item {
            Item::Kept { salt, record } => LogItem::Kept { record: Bytes::from(record), salt },
            Item::Erased { entry, previous, by } => LogItem::Erased { entry: entry.0, previous, by },
        };
        self.bytes += COPY_BYTES;
        if let LogItem::Kept { record, .. } = &item {
            self.bytes += record.len();
        }
        self.found.insert(index, RecordCopy { index, item, path });
        Ok(())
    }

    async fn item(&mut self, gw: &Arc<Gateway>, index: LogIndex) -> Result<Item, GatewayError> {
        let (items, _) = self.opened(gw, index).await?;
        items.get(self.place(index)).cloned().ok_or_else(|| unexpected_reply("Record"))
    }

    /// Asked once for each section of a step, as a step is hundreds of records.
    async fn opened(&mut self, gw: &Arc<Gateway>, index: LogIndex) -> Result<Opened, GatewayError> {
        let of = self.height.place(index);
        if let Some(opened) = self.open.get(&of) {
            return Ok(opened.clone());
        }
        let (items, _) = section_with(gw, index).await?;
        let opened = (items, tiles(gw, of.0).await?);
        if self.open.len() >= SECTIONS_OPEN {
            self.open.clear();
        }
        self.open.insert(of, opened.clone());
        Ok(opened)
    }

    fn place(&self, index: LogIndex) -> usize {
        usize::try_from(index.0 % self.height.section_entries() as u64).unwrap_or(usize::MAX)
    }

    fn is_full(&self) -> bool {
        self.found.len() >= COPIES_MAX || self.bytes >= STEP_BYTES
    }

    fn is_due(&self, record: &Record) -> bool {
        self.due.is_some_and(|due| record.time <= due)
    }
}

fn read(index: LogIndex, item: &Item) -> Result<Seen, GatewayError> {
    match item {
        Item::Kept { record, .. } => of_record(index, record),
        Item::Erased { previous, .. } => Ok(Seen { previous: *previous, record: None }),
    }
}

fn of_record(index: LogIndex, bytes: &[u8]) -> Result<Seen, GatewayError> {
    let damaged = |error| GatewayError::Corrupt { what: format!("record {} of the evidence log: {error}", index.0) };
    let record = Record::decode(bytes).map_err(damaged)?;
    Ok(Seen { previous: record.previous, record: Some(record) })
}

fn is_removal(record: &Record) -> bool {
    matches!(record.event, Event::Delete | Event::Overwrite)
}
