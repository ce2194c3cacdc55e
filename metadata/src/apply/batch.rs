//! One batch: the rows of one store transaction, with the singleton rows decoded once and written
//! back once. The result does not depend on how entries are cut into batches.

use std::collections::BTreeMap;

use stele_evidence::tiles::{TileAppender, TileSource};
use stele_evidence::tree::{Edge, Hash};
use stele_types::ids::{BucketId, LeaseId};
use stele_types::object::BucketRow;
use stele_types::seam::UnixMillis;

use crate::keyspace;
use crate::kv::{KvError, KvRead, KvResult, KvTxn};
use crate::rows::{DataRow, GroupRow, HashRow, LeaseRow, RootRow, SpaceRow, corrupt, encode, load};

/// Switches of the state machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ApplyOptions {
    /// Sabotage: accept commits whose start epoch is fenced.
    #[cfg(feature = "sabotage")]
    pub accept_fenced: bool,
    /// Sabotage: forget every reply at once.
    #[cfg(feature = "sabotage")]
    pub no_replies: bool,
    /// Sabotage: accept writes planned with an old row of their bucket.
    #[cfg(feature = "sabotage")]
    pub stale_bucket_configuration_accepted: bool,
    /// Sabotage: remove versions whatever their retention and legal hold say.
    #[cfg(feature = "sabotage")]
    pub locked_versions_removed: bool,
    /// Sabotage: commit whatever root is proposed for a size, again and again.
    #[cfg(feature = "sabotage")]
    pub checkpoints_unchecked: bool,
    /// Sabotage: erase what the log says of removed versions at once.
    #[cfg(feature = "sabotage")]
    pub evidence_erased_early: bool,
    /// Sabotage: drop rows of the log without comparing them with the archive.
    #[cfg(feature = "sabotage")]
    pub archives_unchecked: bool,
    /// Sabotage: make and remove versions without a word in the log, so that a benchmark sees what the log costs.
    #[cfg(feature = "sabotage")]
    pub log_left_out: bool,
}

impl ApplyOptions {
    pub(crate) fn accepts_fenced(self) -> bool {
        #[cfg(feature = "sabotage")]
        return self.accept_fenced;
        #[cfg(not(feature = "sabotage"))]
        false
    }

    pub(crate) fn removes_locked(self) -> bool {
        #[cfg(feature = "sabotage")]
        return self.locked_versions_removed;
        #[cfg(not(feature = "sabotage"))]
        false
    }

    pub(crate) fn commits_any_checkpoint(self) -> bool {
        #[cfg(feature = "sabotage")]
        return self.checkpoints_unchecked;
        #[cfg(not(feature = "sabotage"))]
        false
    }

    pub(crate) fn erases_early(self) -> bool {
        #[cfg(feature = "sabotage")]
        return self.evidence_erased_early;
        #[cfg(not(feature = "sabotage"))]
        false
    }

    pub(crate) fn drops_unarchived(self) -> bool {
        #[cfg(feature = "sabotage")]
        return self.archives_unchecked;
        #[cfg(not(feature = "sabotage"))]
        false
    }

    pub(crate) fn leaves_log_out(self) -> bool {
        #[cfg(feature = "sabotage")]
        return self.log_left_out;
        #[cfg(not(feature = "sabotage"))]
        false
    }

    pub(crate) fn forgets_replies(self) -> bool {
        #[cfg(feature = "sabotage")]
        return self.no_replies;
        #[cfg(not(feature = "sabotage"))]
        false
    }
}

/// Applies commands to the rows of one transaction.
pub struct Batch<'a> {
    pub(crate) rows: &'a mut dyn KvTxn,
    pub(crate) options: ApplyOptions,
    pub(crate) group: GroupRow,
    pub(crate) root: RootRow,
    pub(crate) data: DataRow,
    pub(crate) log: Option<LogTail>,
    /// What buckets take, where it changed.
    pub(crate) space: BTreeMap<BucketId, SpaceRow>,
    buckets: BTreeMap<BucketId, Option<BucketRow>>,
    leases: BTreeMap<LeaseId, Option<LeaseRow>>,
}

impl std::fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("root", &self.root).field("data", &self.data).finish_non_exhaustive()
    }
}

/// The growing end of the evidence log.
pub(crate) struct LogTail {
    pub(crate) edge: Edge,
    pub(crate) tiles: TileAppender,
}

/// Tiles as rows.
#[derive(Debug)]
pub struct TileRows<'a, R: KvRead + ?Sized>(pub &'a R);

impl<R: KvRead + ?Sized> TileSource for TileRows<'_, R> {
    type Error = KvError;

    fn tile(&self, level: u8, index: u64) -> Result<Vec<Hash>, KvError> {
        let key = keyspace::tile(level, index);
        let bytes = self.0.get(&key)?.unwrap_or_default();
        let (hashes, rest) = bytes.as_chunks::<32>();
        if rest.is_empty() { Ok(hashes.to_vec()) } else { Err(corrupt(&key, "a tile is not a list of hashes")) }
    }
}

pub(crate) fn edge_of(data: &DataRow) -> KvResult<Edge> {
    let peaks = data.log_edge.iter().map(|hash| hash.0).collect();
    Edge::from_parts(data.log_size, peaks)
        .ok_or_else(|| corrupt(&keyspace::DATA, "the log's edge does not fit its size"))
}

impl<'a> Batch<'a> {
    /// Begins a batch on the rows of one transaction.
    ///
    /// # Errors
    /// The store failed or a singleton row is damaged.
    pub fn begin(rows: &'a mut dyn KvTxn, options: ApplyOptions) -> KvResult<Self> {
        let group = load(rows, &keyspace::GROUP)?.unwrap_or_default();
        let root = load(rows, &keyspace::ROOT)?.unwrap_or_default();
        let data = load(rows, &keyspace::DATA)?.unwrap_or_default();
        let (space, buckets, leases) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Ok(Self { rows, options, group, root, data, log: None, space, buckets, leases })
    }

    /// Writes back what was decoded once.
    ///
    /// # Errors
    /// The store failed.
    pub fn finish(mut self) -> KvResult<()> {
        self.flush_leases()?;
        self.flush_space()?;
        if let Some(log) = &self.log {
            self.data.log_size = log.edge.size();
            self.data.log_edge = log.edge.peaks().iter().map(|hash| HashRow(*hash)).collect();
            for (level, index, hashes) in log.tiles.open_tiles() {
                self.rows.put(&keyspace::tile(level, index), hashes.as_flattened())?;
            }
        }
        self.rows.put(&keyspace::GROUP, &encode(&self.group))?;
        self.rows.put(&keyspace::ROOT, &encode(&self.root))?;
        self.rows.put(&keyspace::DATA, &encode(&self.data))
    }

    /// Commit time of a command proposed at `proposed`: never goes back.
    pub(crate) fn advance_clock(&mut self, proposed: UnixMillis) -> UnixMillis {
        self.group.last_time = self.group.last_time.max(proposed);
        self.group.last_time
    }

    pub(crate) fn put_row<T: serde::Serialize>(&mut self, key: &[u8], row: &T) -> KvResult<()> {
        self.rows.put(key, &encode(row))
    }

    /// Keys and values of at most `max` rows whose key starts with `prefix`.
    pub(crate) fn collect(&self, prefix: &[u8], max: usize) -> KvResult<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut found = Vec::new();
        if max == 0 {
            return Ok(found);
        }
        self.rows.scan(prefix, &keyspace::successor(prefix), &mut |key, value| {
            found.push((key.to_vec(), value.to_vec()));
            if found.len() < max { std::ops::ControlFlow::Continue(()) } else { std::ops::ControlFlow::Break(()) }
        })?;
        Ok(found)
    }

    /// Whether a row's key starts with `prefix`.
    pub(crate) fn any(&self, prefix: &[u8]) -> KvResult<bool> {
        Ok(!self.collect(prefix, 1)?.is_empty())
    }

    pub(crate) fn bucket(&mut self, id: BucketId) -> KvResult<Option<BucketRow>> {
        if let Some(known) = self.buckets.get(&id) {
            return Ok(known.clone());
        }
        let row: Option<BucketRow> = load(self.rows, &keyspace::bucket(id))?;
        self.buckets.insert(id, row.clone());
        Ok(row)
    }

    /// Sabotage: a deleted bucket as the writer still knows it, in memory only.
    #[cfg(feature = "sabotage")]
    pub(crate) fn recall_bucket(&mut self, row: BucketRow) -> BucketRow {
        self.buckets.insert(row.id, Some(row.clone()));
        row
    }

    pub(crate) fn put_bucket(&mut self, row: &BucketRow) -> KvResult<()> {
        self.buckets.insert(row.id, Some(row.clone()));
        self.put_row(&keyspace::bucket(row.id), row)
    }

    pub(crate) fn remove_bucket(&mut self, id: BucketId) -> KvResult<()> {
        self.buckets.insert(id, None);
        self.rows.delete(&keyspace::bucket(id))
    }

    pub(crate) fn lease(&mut self, id: LeaseId) -> KvResult<Option<LeaseRow>> {
        if let Some(known) = self.leases.get(&id) {
            return Ok(known.clone());
        }
        load(self.rows, &keyspace::lease(id))
    }

    /// Changes a lease; written back by [`Batch::flush_leases`].
    pub(crate) fn set_lease(&mut self, id: LeaseId, row: Option<LeaseRow>) {
        self.leases.insert(id, row);
    }

    /// Makes the lease rows what [`Batch::lease`] says they are.
    pub(crate) fn flush_leases(&mut self) -> KvResult<()> {
        for (id, row) in std::mem::take(&mut self.leases) {
            let key = keyspace::lease(id);
            match row {
                Some(row) => self.rows.put(&key, &encode(&row))?,
                None => self.rows.delete(&key)?,
            }
        }
        Ok(())
    }

    /// The evidence log's growing end, loaded on first use.
    pub(crate) fn log_tail(&mut self) -> KvResult<&mut LogTail> {
        let tail = match self.log.take() {
            Some(tail) => tail,
            None => {
                let edge = edge_of(&self.data)?;
                let tiles = TileAppender::load(&TileRows(&*self.rows), edge.size())
                    .map_err(|error| corrupt(&keyspace::tile(0, 0), error.to_string()))?;
                LogTail { edge, tiles }
            }
        };
        Ok(self.log.insert(tail))
    }
}
