//! Cached cluster map, and which drives are avoided: for a while because they failed a request, or because
//! their node does not answer (nodes.rs).
//!
//! Choosing a placement group is a pure function over the map and a health predicate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use stele_chunker::shards::slots_for;
use stele_rpc::client::{MetaClient, unexpected};
use stele_rpc::error::RpcError;
use stele_rpc::meta::{MetaReply, MetaRequest};
use stele_types::ids::{DriveId, MapEpoch, NodeId, PackId};
use stele_types::map::{ClusterMap, DriveState, PgRow};
use stele_types::pack::PackRow;
use stele_types::scheme::Scheme;
use stele_types::seam::Clock;

use crate::error::GatewayError;
use crate::nodes::Nodes;

/// A drive that keeps failing is avoided twice as long each time, up to this many times the start.
const SUSPECT_GROWTH_MAX: u32 = 8;

/// A drive and the node that serves it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct DriveAt {
    pub(crate) drive: DriveId,
    pub(crate) node: NodeId,
}

/// A placement group chosen for one pack, with the slots that take its shards.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) pg: PgRow,
    pub(crate) scheme: Scheme,
    /// One per shard: PG slot and drive.
    pub(crate) slots: Vec<(u8, DriveAt)>,
}

#[derive(Debug)]
struct Suspect {
    since: u64,
    until: u64,
    growth: u32,
    reason: String,
}

/// The cached map with an index by drive.
#[derive(Debug, Default)]
pub(crate) struct MapView {
    map: ClusterMap,
    drives: BTreeMap<DriveId, (NodeId, DriveState)>,
}

impl MapView {
    fn new(map: ClusterMap) -> Self {
        let drives = map.drives.iter().map(|d| (d.id, (d.node, d.state))).collect();
        Self { map, drives }
    }

    pub(crate) fn map(&self) -> &ClusterMap {
        &self.map
    }

    /// A row names drives that the map does not have yet.
    fn is_strange(&self, row: &PgRow) -> bool {
        row.slots.iter().any(|slot| self.at(slot.takes()).is_none())
    }

    fn at(&self, drive: DriveId) -> Option<DriveAt> {
        self.drives.get(&drive).map(|(node, _)| DriveAt { drive, node: *node })
    }

    /// The map says nothing against this drive.
    pub(crate) fn is_ok(&self, drive: DriveId) -> bool {
        self.drives.get(&drive).is_some_and(|(_, state)| *state == DriveState::Ok)
    }

    /// As [`Self::is_ok`], and its node answers.
    fn answers(&self, away: &BTreeSet<NodeId>, drive: DriveId) -> bool {
        self.drives.get(&drive).is_some_and(|(node, state)| *state == DriveState::Ok && !away.contains(node))
    }

    /// Drives that may hold shard `index` of a pack: the one that new shards go to, then, while the slot moves, the
    /// one that it moves away from.
    pub(crate) fn holders(&self, row: &PackRow, index: usize) -> Vec<DriveAt> {
        let slot = row.slots.get(index).and_then(|s| self.map.pg(row.pg)?.slots.get(usize::from(*s)));
        let Some(slot) = slot else { return Vec::new() };
        slot.holders().filter_map(|drive| self.at(drive)).collect()
    }
}

/// The cached map and the drives avoided.
#[derive(Debug)]
pub(crate) struct Placement {
    meta: MetaClient,
    meta_timeout: Duration,
    suspect_for: Duration,
    clock: Arc<dyn Clock>,
    view: ArcSwap<MapView>,
    refreshing: tokio::sync::Mutex<()>,
    suspects: Mutex<BTreeMap<DriveId, Suspect>>,
    nodes: Arc<Nodes>,
}

impl Placement {
    pub(crate) fn new(
        meta: MetaClient,
        clock: Arc<dyn Clock>,
        meta_timeout: Duration,
        suspect_for: Duration,
        nodes: Arc<Nodes>,
    ) -> Self {
        Self {
            meta,
            meta_timeout,
            suspect_for,
            clock,
            view: ArcSwap::default(),
            refreshing: tokio::sync::Mutex::default(),
            suspects: Mutex::default(),
            nodes,
        }
    }

    pub(crate) fn view(&self) -> Arc<MapView> {
        self.view.load_full()
    }

    pub(crate) fn epoch(&self) -> MapEpoch {
        self.view.load().map.epoch
    }

    /// Fetches the map if there is a newer one than `known`, the epoch with which the caller failed.
    pub(crate) async fn refresh(&self, known: MapEpoch) -> Result<(), RpcError> {
        let _turn = self.refreshing.lock().await;
        let have = self.epoch();
        if have > known {
            return Ok(());
        }
        match self.meta.call(MetaRequest::ClusterMap { known: have }, self.meta_timeout).await? {
            MetaReply::ClusterMap(Some(map)) => {
                if map.epoch > have {
                    tracing::info!(epoch = %map.epoch, pgs = map.pgs.len(), "cluster map");
                    self.nodes.set_members(&map.drives.iter().map(|drive| drive.node).collect());
                    self.view.rcu(|view| MapView::new(merged((*map).clone(), &view.map.pgs)));
                }
                Ok(())
            }
            MetaReply::ClusterMap(None) => Ok(()),
            _ => Err(unexpected("no map to a request for the map")),
        }
    }

    /// As [`Self::refresh`], where the old map serves as well.
    pub(crate) async fn refresh_or_warn(&self, known: MapEpoch) {
        if let Err(error) = self.refresh(known).await {
            tracing::warn!(%error, "cluster map not refreshed");
        }
    }

    /// Takes over a PG row that a storage node sent, until the whole map is fetched. False if the map
    /// is too old to use the row.
    pub(crate) fn take_row(&self, row: &PgRow) -> bool {
        if self.view.load().map.pg(row.id).is_some_and(|ours| ours.epoch < row.epoch) {
            self.view.rcu(|view| MapView::new(merged(view.map.clone(), std::slice::from_ref(row))));
        }
        let view = self.view.load();
        view.map.pg(row.id).is_some_and(|ours| ours.epoch >= row.epoch && !view.is_strange(ours))
    }

    /// Notes that a drive failed a request.
    pub(crate) fn suspect(&self, drive: DriveId, reason: &str) {
        let now = self.clock.monotonic_micros();
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        let growth = match suspects.get(&drive) {
            // Several requests of one moment fail together: that is one failure.
            Some(before) if now < before.until => before.growth,
            Some(before) => (before.growth * 2).min(SUSPECT_GROWTH_MAX),
            None => 1,
        };
        let micros = u64::try_from(self.suspect_for.as_micros()).unwrap_or(u64::MAX);
        let until = now.saturating_add(micros.saturating_mul(u64::from(growth)));
        if !suspects.contains_key(&drive) {
            tracing::warn!(%drive, reason, "drive avoided for a while");
        }
        suspects.insert(drive, Suspect { since: now, until, growth, reason: reason.to_owned() });
    }

    /// Notes that a drive did what it was asked.
    pub(crate) fn trust(&self, drive: DriveId, asked_at_micros: u64) {
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        // An answer to a question older than the failure proves nothing.
        if suspects.get(&drive).is_some_and(|s| s.since < asked_at_micros) {
            suspects.remove(&drive);
            tracing::info!(%drive, "drive answers again");
        }
    }

    pub(crate) fn is_suspect(&self, drive: DriveId) -> bool {
        let suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        suspects.get(&drive).is_some_and(|s| self.clock.monotonic_micros() < s.until)
    }

    /// Nothing is known against this drive or its node.
    pub(crate) fn is_healthy(&self, view: &MapView, at: DriveAt) -> bool {
        view.is_ok(at.drive) && !self.is_suspect(at.drive) && self.nodes.away(at.node).is_none()
    }

    /// Drives that are not used now: name and reason.
    pub(crate) fn avoided(&self) -> Vec<(String, String)> {
        let view = self.view();
        let suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.monotonic_micros();
        let mut avoided = Vec::new();
        for row in &view.map.drives {
            let suspect = suspects.get(&row.id).filter(|s| now < s.until);
            let why = match (row.state, self.nodes.away(row.node), suspect) {
                (DriveState::Ok, None, None) => continue,
                (DriveState::Ok, Some(why), _) => format!("node {} does not answer: {why}", row.node),
                (DriveState::Ok, None, Some(suspect)) => suspect.reason.clone(),
                (state, ..) => format!("{state:?}: {}", row.reason),
            };
            avoided.push((row.name.clone(), why));
        }
        avoided
    }

    /// PGs known, and those that take writes now.
    pub(crate) fn pg_counts(&self) -> (usize, usize) {
        let view = self.view();
        let away = self.nodes.all_away();
        let writable = view.map.pgs.iter().filter(|pg| {
            let healthy = pg.slots.iter().filter(|s| self.usable(&view, &away, s.takes()));
            healthy.count() > pg.scheme.m()
        });
        (view.map.pgs.len(), writable.count())
    }

    fn usable(&self, view: &MapView, away: &BTreeSet<NodeId>, drive: DriveId) -> bool {
        view.answers(away, drive) && !self.is_suspect(drive)
    }

    /// Picks a PG and one slot per shard for a pack.
    ///
    /// # Errors
    /// `DrivesMissing`, with the names, if no PG has 1 + m drives that take writes.
    pub(crate) fn pick(&self, pack: &PackId, payload_len: usize, draw: u64) -> Result<Target, GatewayError> {
        let view = self.view();
        let away = self.nodes.all_away();
        let picked = choose(&view.map, payload_len, draw, |drive| self.usable(&view, &away, drive))
            // Suspicion is only ours and may be wrong: with nothing else left, try those drives too. Not those
            // of nodes that are away: a probe tells when one is back.
            .or_else(|| choose(&view.map, payload_len, draw, |drive| view.answers(&away, drive)));
        let Some((pg, scheme, healthy)) = picked else {
            let drives = self.avoided().into_iter().map(|(name, why)| format!("{name} ({why})")).collect();
            return Err(GatewayError::DrivesMissing { what: "a write", drives });
        };
        let place = |slot: u8| {
            let row = pg.slots.get(usize::from(slot))?;
            Some((slot, view.at(row.takes())?))
        };
        let slots = slots_for(pack, scheme, &healthy).unwrap_or_default();
        let slots: Vec<_> = slots.into_iter().filter_map(place).collect();
        Ok(Target { pg: pg.clone(), scheme, slots })
    }
}

/// The map with the newer one of each PG row: a storage node may have told of a row after the map was
/// read.
fn merged(mut map: ClusterMap, rows: &[PgRow]) -> ClusterMap {
    for row in rows {
        let Ok(at) = map.pgs.binary_search_by_key(&row.id, |pg| pg.id) else { continue };
        if let Some(ours) = map.pgs.get_mut(at)
            && ours.epoch < row.epoch
        {
            *ours = row.clone();
        }
    }
    map
}

/// The PG that keeps the pack best, beginning the search at `draw`: the first with the largest k'
/// that any number of drives would give, else the one with the largest k' of all.
fn choose<F>(map: &ClusterMap, payload_len: usize, draw: u64, usable: F) -> Option<(&PgRow, Scheme, Vec<u8>)>
where
    F: Fn(DriveId) -> bool,
{
    let count = map.pgs.len();
    let start = usize::try_from(draw % count.max(1) as u64).ok()?;
    let mut best: Option<(&PgRow, Scheme, Vec<u8>)> = None;
    for pg in map.pgs.iter().cycle().skip(start).take(count) {
        let healthy: Vec<u8> =
            (0u8..).zip(&pg.slots).filter(|(_, slot)| usable(slot.takes())).map(|(index, _)| index).collect();
        let Some(scheme) = pg.scheme.for_payload(payload_len, healthy.len()) else { continue };
        if Some(scheme) == pg.scheme.for_payload(payload_len, pg.slots.len()) {
            return Some((pg, scheme, healthy));
        }
        if best.as_ref().is_none_or(|(_, so_far, _)| scheme.k() > so_far.k()) {
            best = Some((pg, scheme, healthy));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use stele_types::ids::{PgEpoch, PgId};
    use stele_types::map::Slot;

    fn drive(n: u8) -> DriveId {
        DriveId::from_bytes([n; 16])
    }

    fn map() -> ClusterMap {
        let pg = |id: u32, drives: [u8; 6]| PgRow {
            id: PgId(id),
            epoch: PgEpoch(1),
            scheme: "rs-4-2".parse().unwrap(),
            slots: drives.into_iter().map(|d| Slot { drive: drive(d), incoming: None }).collect(),
        };
        ClusterMap { pgs: vec![pg(0, [0, 1, 2, 3, 4, 5]), pg(1, [6, 7, 8, 9, 10, 11])], ..Default::default() }
    }

    #[test]
    fn a_whole_group_is_preferred_and_a_degraded_one_keeps_m() {
        let map = map();
        let (pg, scheme, _) = choose(&map, 8 << 20, 0, |d| d != drive(3)).unwrap();
        assert_eq!((pg.id, scheme.to_string()), (PgId(1), "rs-4-2".to_owned()));
        let (pg, scheme, healthy) = choose(&map, 8 << 20, 0, |d| d != drive(3) && d < drive(8)).unwrap();
        assert_eq!((pg.id, scheme.to_string()), (PgId(0), "rs-2-2".to_owned()));
        assert_eq!(healthy, [0, 1, 2, 4, 5]);
        assert!(choose(&map, 8 << 20, 0, |d| d < drive(2)).is_none());
        // A small pack needs three drives only, so a group that lacks one is as good as any.
        let (pg, scheme, _) = choose(&map, 4096, 0, |d| d != drive(3)).unwrap();
        assert_eq!((pg.id, scheme.to_string()), (PgId(0), "rs-1-2".to_owned()));
    }

    #[test]
    fn an_incoming_drive_takes_the_writes_of_its_slot() {
        let mut map = map();
        map.pgs[0].slots[0].incoming = Some(drive(20));
        assert!(choose(&map, 8 << 20, 0, |d| d != drive(0) && d < drive(6)).is_some_and(|(_, s, _)| s.k() == 2));
        let (_, scheme, _) = choose(&map, 8 << 20, 0, |d| d != drive(0)).unwrap();
        assert_eq!(scheme.k(), 4);
    }
}
