//! What is counted of packs and versions, for the whole store and by bucket. Only people read it.

use stele_types::ids::BucketId;
use stele_types::pack::PackRow;

use crate::apply::Batch;
use crate::keyspace;
use crate::kv::KvResult;
use crate::rows::{DataRow, SpaceRow, encode, load};

/// Adds to a count, or takes away.
pub(crate) type Change = fn(u64, u64) -> u64;

impl Batch<'_> {
    fn change_space(&mut self, bucket: BucketId, change: impl FnOnce(&mut SpaceRow)) -> KvResult<()> {
        let mut row = match self.space.get(&bucket) {
            Some(row) => *row,
            None => load(self.rows, &keyspace::space(bucket))?.unwrap_or_default(),
        };
        change(&mut row);
        self.space.insert(bucket, row);
        Ok(())
    }

    /// Writes back what [`Self::change_space`] changed.
    pub(crate) fn flush_space(&mut self) -> KvResult<()> {
        for (bucket, row) in std::mem::take(&mut self.space) {
            let key = keyspace::space(bucket);
            match row == SpaceRow::default() {
                true => self.rows.delete(&key)?,
                false => self.rows.put(&key, &encode(&row))?,
            }
        }
        Ok(())
    }

    /// A version of so many bytes came or went.
    pub(crate) fn count_version(&mut self, bucket: BucketId, len: u64, change: Change) -> KvResult<()> {
        let DataRow { versions, logical_bytes, .. } = &mut self.data;
        (*versions, *logical_bytes) = (change(*versions, 1), change(*logical_bytes, len));
        self.change_space(bucket, |row| {
            (row.versions, row.logical_bytes) = (change(row.versions, 1), change(row.logical_bytes, len));
        })
    }

    /// A pack row is made by a write to `bucket`.
    pub(crate) fn count_new_pack(&mut self, row: &PackRow, bucket: BucketId) -> KvResult<()> {
        self.rows.put(&keyspace::pack_bucket(&row.pack), &encode(&bucket))?;
        self.count_pack(row, bucket, u64::saturating_add)
    }

    /// A pack row takes the place of another one.
    pub(crate) fn count_other_encoding(&mut self, old: &PackRow, new: &PackRow) -> KvResult<()> {
        let bucket = self.bucket_of(old)?;
        self.count_pack(old, bucket, u64::saturating_sub)?;
        self.count_pack(new, bucket, u64::saturating_add)
    }

    /// A pack row goes.
    pub(crate) fn count_pack_out(&mut self, row: &PackRow) -> KvResult<()> {
        let bucket = self.bucket_of(row)?;
        self.rows.delete(&keyspace::pack_bucket(&row.pack))?;
        self.count_pack(row, bucket, u64::saturating_sub)
    }

    /// No bucket has the id 0: it stands for packs of which the bucket is not known.
    fn bucket_of(&self, row: &PackRow) -> KvResult<BucketId> {
        Ok(load(self.rows, &keyspace::pack_bucket(&row.pack))?.unwrap_or(BucketId(0)))
    }

    fn count_pack(&mut self, row: &PackRow, bucket: BucketId, change: Change) -> KvResult<()> {
        let payload = u64::from(row.payload_len);
        let shards = row.scheme.shard_len(row.payload_len as usize) as u64 * row.scheme.shards() as u64;
        let data = &mut self.data;
        data.packs = change(data.packs, 1);
        data.unique_bytes = change(data.unique_bytes, payload);
        data.stored_bytes = change(data.stored_bytes, shards);
        self.change_space(bucket, |row| {
            row.packs = change(row.packs, 1);
            row.unique_bytes = change(row.unique_bytes, payload);
            row.stored_bytes = change(row.stored_bytes, shards);
        })
    }
}
