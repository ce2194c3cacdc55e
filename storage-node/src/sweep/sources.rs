//! W2 and W3: what a drive holds of a PG, and what is referred to, each in the order of pack ids and a page at a
//! time, so that a sweep of any number of packs needs little memory.

use std::collections::VecDeque;

use stele_rpc::client::unexpected;
use stele_rpc::error::RpcError;
use stele_rpc::meta::{MetaReply, MetaRequest};
use stele_rpc::storage::{InventoryRow, StorageReply, StorageRequest};
use stele_types::ids::{DriveId, Epoch, PackId, PgId};

use super::{Cluster, SweepWorker};

/// What a drive holds of a PG.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) drive: DriveId,
    pg: PgId,
    rows: VecDeque<InventoryRow>,
    after: Option<PackId>,
    more: bool,
}

impl Shelf {
    pub(super) fn new(drive: DriveId, pg: PgId) -> Self {
        Self { drive, pg, rows: VecDeque::new(), after: None, more: true }
    }

    /// The next row; [`SweepWorker::fill`] was called before.
    pub(super) fn front(&self) -> Option<&InventoryRow> {
        self.rows.front()
    }

    /// Takes the next row if it is of this pack.
    pub(super) fn take(&mut self, pack: PackId) -> Option<InventoryRow> {
        self.rows.pop_front_if(|row| row.pack == pack)
    }

    /// Takes every row that was fetched.
    pub(super) fn take_all(&mut self) -> Vec<InventoryRow> {
        self.rows.drain(..).collect()
    }
}

/// Packs of a PG that something refers to.
#[derive(Debug)]
pub(super) struct References {
    pg: PgId,
    fence: Epoch,
    packs: VecDeque<PackId>,
    after: Option<PackId>,
    more: bool,
    /// Sabotage: nobody is asked.
    unasked: bool,
}

impl References {
    pub(super) fn new(pg: PgId, fence: Epoch, unasked: bool) -> Self {
        Self { pg, fence, packs: VecDeque::new(), after: None, more: !unasked, unasked }
    }
}

impl SweepWorker {
    /// Sees to it that a shelf shows its next row, if there is one.
    pub(super) async fn fill(&self, cluster: &Cluster, shelf: &mut Shelf) -> Result<(), RpcError> {
        while shelf.rows.is_empty() && shelf.more {
            let Shelf { drive, pg, after, .. } = *shelf;
            let request = StorageRequest::Inventory { drive, pg, after, max: self.config.page };
            let reply = self.send(cluster, drive, request).await?;
            let StorageReply::Inventory { rows, more } = reply else { return Err(unexpected("to Inventory")) };
            let ordered = rows.is_sorted_by(|a, b| a.pack < b.pack);
            if !ordered || rows.first().is_some_and(|first| Some(first.pack) <= after) || (more && rows.is_empty()) {
                return Err(unexpected("an inventory out of order"));
            }
            shelf.after = rows.last().map(|row| row.pack).or(after);
            shelf.more = more;
            shelf.rows.extend(rows);
        }
        Ok(())
    }

    /// Whether something refers to a pack. Packs are asked about in rising order.
    pub(super) async fn is_referenced(&self, references: &mut References, pack: PackId) -> Result<bool, RpcError> {
        if references.unasked {
            return Ok(false);
        }
        loop {
            while references.packs.pop_front_if(|front| *front < pack).is_some() {}
            if let Some(front) = references.packs.front() {
                return Ok(*front == pack);
            }
            if !references.more {
                return Ok(false);
            }
            let References { pg, fence, after, .. } = *references;
            let question = MetaRequest::ReferencedPacks { pg, fence, after, max: self.config.page };
            let reply = self.meta.call(question, self.config.timeout).await?;
            let MetaReply::Referenced { packs, more } = reply else { return Err(unexpected("to ReferencedPacks")) };
            if !packs.is_sorted_by(|a, b| a < b) || packs.first().is_some_and(|first| Some(*first) <= after) {
                return Err(unexpected("referenced packs out of order"));
            }
            if more && packs.is_empty() {
                return Err(unexpected("referenced packs that do not advance"));
            }
            references.after = packs.last().copied().or(after);
            references.more = more;
            references.packs.extend(packs);
        }
    }
}
