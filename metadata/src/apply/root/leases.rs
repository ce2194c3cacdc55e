//! Leases, epochs and the fence (DESIGN section 7). The fence admits a sweep only past every start
//! epoch that an unexpired lease still has open; commits at or below it are refused by
//! [`crate::apply`]'s guards.

use std::ops::ControlFlow;

use stele_rpc::error::Code;
use stele_rpc::meta::{Lease, MetaReply};
use stele_types::ids::{CommandSequence, Epoch, LeaseId, MapEpoch, NodeId, OwnerId};
use stele_types::map::ClusterMap;

use crate::apply::{Batch, Context, Outcome, refuse};
use crate::keyspace::{self, MAP, Tag};
use crate::kv::KvResult;
use crate::rows::{LeaseRow, corrupt, decode, load};

/// References of abandoned staged owners that one fence command drops; the next one goes on.
const STAGED_DROPPED_PER_FENCE: usize = 10_000;

impl Batch<'_> {
    fn lease_reply(&self, id: LeaseId) -> KvResult<MetaReply> {
        let map_epoch = load::<ClusterMap>(self.rows, &MAP)?.map_or(MapEpoch(0), |map| map.epoch);
        Ok(MetaReply::Lease(Lease { id, epoch: self.root.epoch, fence: self.root.fence, map_epoch }))
    }

    pub(crate) fn grant_lease(&mut self, cx: Context<'_>, node: NodeId, ttl_ms: u64) -> Outcome<MetaReply> {
        let id = LeaseId(self.root.next_lease);
        self.root.next_lease += 1;
        let row = LeaseRow {
            node,
            expires: cx.now.saturating_add(ttl_ms),
            lowest_epoch: self.root.epoch,
            lowest_sequence: CommandSequence(0),
        };
        self.set_lease(id, Some(row));
        Ok(self.lease_reply(id)?)
    }

    pub(crate) fn renew_lease(
        &mut self,
        cx: Context<'_>,
        id: LeaseId,
        ttl_ms: u64,
        lowest_open: Epoch,
    ) -> Outcome<MetaReply> {
        let gone = || format!("lease {id} does not exist or has expired: take a new one");
        let Some(mut row) = self.lease(id)? else {
            return refuse(Code::NoLease, gone());
        };
        if row.expires <= cx.now {
            return refuse(Code::NoLease, gone());
        }
        row.expires = row.expires.max(cx.now.saturating_add(ttl_ms));
        row.lowest_epoch = row.lowest_epoch.max(lowest_open.min(self.root.epoch));
        self.set_lease(id, Some(row));
        Ok(self.lease_reply(id)?)
    }

    pub(crate) fn release_lease(&mut self, id: LeaseId) -> Outcome<MetaReply> {
        self.drop_lease(id)?;
        Ok(MetaReply::Done)
    }

    pub(crate) fn advance_epoch(&mut self) -> Outcome<MetaReply> {
        self.root.epoch = Epoch(self.root.epoch.0 + 1);
        Ok(self.epochs())
    }

    fn epochs(&self) -> MetaReply {
        MetaReply::Epochs { fence: self.root.fence, epoch: self.root.epoch }
    }

    pub(crate) fn fence(&mut self, cx: Context<'_>, limit: Epoch) -> Outcome<MetaReply> {
        self.refuse_while_comparing()?;
        self.flush_leases()?;
        let mut lowest = self.root.epoch;
        for (id, row) in self.all_leases()? {
            if row.expires <= cx.now {
                self.drop_lease(id)?;
            } else {
                lowest = lowest.min(row.lowest_epoch);
            }
        }
        let admitted = Epoch(lowest.0.saturating_sub(1)).min(limit);
        self.root.fence = self.root.fence.max(admitted);
        self.drop_abandoned_owners()?;
        Ok(self.epochs())
    }

    fn all_leases(&self) -> KvResult<Vec<(LeaseId, LeaseRow)>> {
        let (from, to) = keyspace::table(Tag::Lease);
        let mut leases = Vec::new();
        let mut failed = None;
        self.rows.scan(&from, &to, &mut |key, value| {
            let id = key.get(1..).and_then(|id| id.try_into().ok()).map(u64::from_be_bytes);
            match id.ok_or_else(|| corrupt(key, "a lease's key")).and_then(|id| Ok((LeaseId(id), decode(key, value)?)))
            {
                Ok(lease) => {
                    leases.push(lease);
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        failed.map_or(Ok(leases), Err)
    }

    /// Drops staged references whose write can't commit any more.
    fn drop_abandoned_owners(&mut self) -> KvResult<()> {
        let (from, _) = keyspace::table(Tag::Staged);
        let to = keyspace::staged(Epoch(self.root.fence.0 + 1), &OwnerId::from_bytes([0; 16]));
        let mut owners = Vec::new();
        self.rows.scan(&from, &to, &mut |key, _| {
            owners.push(key.to_vec());
            if owners.len() < 100 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        let mut budget = STAGED_DROPPED_PER_FENCE;
        for key in owners {
            let owner = keyspace::staged_owner(&key).ok_or_else(|| corrupt(&key, "a staged owner's key"))?;
            budget -= self.drop_listed_packs(&owner, budget)?;
            if budget == 0 {
                return Ok(());
            }
            self.rows.delete(&key)?;
        }
        Ok(())
    }
}
