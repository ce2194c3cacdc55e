//! Garbage collection: packs that nothing refers to are condemned, and one run later, after a new
//! fence and a new question, deleted. DESIGN.md section 7.
//!
//! | step | does |
//! |---|---|
//! | W1 fence | raises the epoch and fences G: no commit with a start epoch at or below G succeeds any more |
//! | W2 list | packs of a PG started and touched at or below G, from all its drives |
//! | W3 ask | the group's referenced packs of the PG, at fence G |
//! | W4 decide | condemn, pardon, delete: [`plan`] |
//! | W5 act | on every drive that holds the pack; a refusal anywhere takes the condemnation back |
//!
//! Any doubt leaves a PG as it is: a drive missing beyond the scheme's m, a group that does not
//! answer, a list that is not ordered. Deleting less than possible is always right.

mod backups;
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stele_rpc::client::{MetaClient, StorageClient, unexpected};
use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::{Command, CommandEnvelope, MetaReply, MetaRequest, Origin};
use stele_rpc::storage::{InventoryRow, StorageReply, StorageRequest};
use stele_types::ids::{CommandSequence, DriveId, Epoch, MapEpoch, NodeId, PackId, PgId};
use stele_types::map::{ClusterMap, PgRow};
use stele_types::seam::{Clock, UnixMillis};

use self::plan::{Holdings, Plan, decide};
use crate::config::Sabotage;

/// Settings of a sweep.
#[derive(Clone, Copy, Debug)]
pub struct SweepConfig {
    /// Least time between condemnation and deletion.
    pub grace: Duration,
    /// Rows per question.
    pub page: u32,
    /// Patience with one answer.
    pub timeout: Duration,
    /// Broken on purpose.
    pub sabotage: Sabotage,
}

impl Default for SweepConfig {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(24 * 3600),
            page: 1000,
            timeout: Duration::from_secs(30),
            sabotage: Sabotage::default(),
        }
    }
}

/// What one run did. Packs count once, whatever the number of drives.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SweepReport {
    /// The fence.
    pub fence: Epoch,
    /// PGs swept.
    pub pgs: u64,
    /// PGs left as they were, and why.
    pub voided: Vec<(PgId, String)>,
    /// Packs looked at.
    pub examined: u64,
    /// Newly condemned.
    pub condemned: u64,
    /// Deleted.
    pub deleted: u64,
    /// Condemned before, found referenced now. Above zero: look into it.
    pub pardoned: u64,
    /// Touched meanwhile, so not condemned.
    pub refused: u64,
}

/// The cluster as one run sees it.
#[derive(Debug)]
struct Cluster {
    map: Box<ClusterMap>,
    writable: BTreeSet<DriveId>,
}

/// Sweeps a cluster. One at a time.
#[derive(Debug)]
pub struct SweepWorker {
    meta: MetaClient,
    storage: StorageClient,
    clock: Arc<dyn Clock>,
    config: SweepConfig,
    /// Fences of earlier runs and when they were made, monotonic ms. Lost at a restart, which
    /// starts the grace time of everything anew.
    runs: Vec<(Epoch, UnixMillis)>,
}

impl SweepWorker {
    /// A worker that has not run yet.
    pub fn new(meta: MetaClient, storage: StorageClient, clock: Arc<dyn Clock>, config: SweepConfig) -> Self {
        Self { meta, storage, clock, config, runs: Vec::new() }
    }

    /// Runs for ever, every `interval`; reports go to `tell`.
    pub async fn run(mut self, interval: Duration, tell: impl Fn(Result<SweepReport, RpcError>) + Send) {
        loop {
            tokio::time::sleep(interval).await;
            tell(self.run_once().await);
        }
    }

    /// Sweeps every PG once.
    ///
    /// # Errors
    /// If there is no fence or no map; nothing was swept then. Trouble with one PG is in the report.
    pub async fn run_once(&mut self) -> Result<SweepReport, RpcError> {
        let map = self.map().await?;
        let fence = self.fence().await?;
        let now = self.clock.monotonic_micros() / 1000;
        // A pack condemned at E has waited since the first run known that fenced E or more.
        let grace = u64::try_from(self.config.grace.as_millis()).unwrap_or(u64::MAX);
        let ripe = self.runs.iter().filter(|(_, at)| now.saturating_sub(*at) >= grace).map(|(fence, _)| *fence).max();
        if self.runs.last().is_none_or(|(last, _)| *last < fence) {
            self.runs.push((fence, now));
        }
        self.runs.retain(|(old, _)| Some(*old) >= ripe);
        let mut report = SweepReport { fence, ..SweepReport::default() };
        let cluster = Cluster { writable: self.writable_drives(&map).await, map };
        for pg in &cluster.map.pgs {
            match self.sweep_pg(&cluster, pg, (fence, ripe), &mut report).await {
                Ok(()) => report.pgs += 1,
                Err(error) => report.voided.push((pg.id, error.to_string())),
            }
        }
        Ok(report)
    }

    async fn map(&self) -> Result<Box<ClusterMap>, RpcError> {
        match self.meta.call(MetaRequest::ClusterMap { known: MapEpoch(0) }, self.config.timeout).await? {
            MetaReply::ClusterMap(Some(map)) => Ok(map),
            _ => Err(unexpected("no cluster map")),
        }
    }

    /// Drives that take writes: the others can't be asked to condemn, so they count as silent.
    async fn writable_drives(&self, map: &ClusterMap) -> BTreeSet<DriveId> {
        let nodes: BTreeSet<NodeId> = map.drives.iter().map(|row| row.node).collect();
        let mut writable = BTreeSet::new();
        for node in nodes {
            let asked = self.storage.call(node, StorageRequest::Drives, Bytes::new(), self.config.timeout).await;
            if let Ok((StorageReply::Drives(drives), _)) = asked {
                writable.extend(drives.into_iter().filter(|d| d.healthy).map(|d| d.id));
            }
        }
        writable
    }

    async fn command(&self, command: Command) -> Result<(Epoch, Epoch), RpcError> {
        let envelope = CommandEnvelope {
            lease: None,
            sequence: CommandSequence(0),
            lowest_open: CommandSequence(0),
            origin: Origin::default(),
            salt: None,
            command,
        };
        match self.meta.command(envelope, self.config.timeout).await? {
            MetaReply::Epochs { fence, epoch } => Ok((fence, epoch)),
            _ => Err(unexpected("to a command on epochs")),
        }
    }

    async fn fence(&self) -> Result<Epoch, RpcError> {
        let (_, epoch) = self.command(Command::AdvanceEpoch).await?;
        let limit = Epoch(epoch.0.saturating_sub(1));
        let (fence, _) = self.command(Command::Fence { limit }).await?;
        Ok(fence)
    }

    async fn sweep_pg(
        &self,
        cluster: &Cluster,
        pg: &PgRow,
        (fence, ripe): (Epoch, Option<Epoch>),
        report: &mut SweepReport,
    ) -> Result<(), RpcError> {
        let mut holdings = self.list(cluster, pg, fence).await?;
        if holdings.is_empty() {
            return Ok(());
        }
        let referenced = if self.config.sabotage.deletes_without_asking() {
            BTreeSet::new()
        } else {
            self.ask(pg.id, fence, &holdings).await?
        };
        report.examined += holdings.len() as u64;
        let plan = decide(&holdings, &referenced, ripe.filter(|ripe| *ripe < fence));
        let Plan { condemn, pardon, delete } = self.as_backups_admit(plan, &holdings, &referenced).await?;
        holdings.clear();
        let (done, refused) = self.condemn(cluster, fence, condemn).await?;
        report.condemned += done;
        report.refused += refused;
        report.pardoned += distinct(&pardon);
        for (drive, packs) in pardon {
            self.act(cluster, drive, packs, |drive, packs| StorageRequest::Pardon { drive, packs }).await?;
        }
        let mut deleted = BTreeSet::new();
        for (drive, packs) in delete {
            deleted
                .extend(self.act(cluster, drive, packs, |drive, packs| StorageRequest::Delete { drive, packs }).await?);
        }
        report.deleted += deleted.len() as u64;
        Ok(())
    }

    /// W2. Drives that don't answer are left out, at most m of them: a touch is durable on m + 1
    /// drives, so one of those that answer would refuse.
    async fn list(&self, cluster: &Cluster, pg: &PgRow, fence: Epoch) -> Result<Holdings, RpcError> {
        let mut holdings = Holdings::new();
        let mut silent = Vec::new();
        for slot in &pg.slots {
            let mut answers = Vec::new();
            for drive in std::iter::once(slot.drive).chain(slot.incoming) {
                answers.push(self.inventory(cluster, drive, pg.id).await.map(|rows| (drive, rows)));
            }
            let slot: Result<Vec<_>, RpcError> = answers.into_iter().collect();
            match slot {
                Ok(answers) => answers.into_iter().for_each(|(drive, rows)| hold(&mut holdings, fence, drive, rows)),
                Err(error) => silent.push(error.to_string()),
            }
        }
        if silent.len() <= pg.scheme.m() {
            return Ok(holdings);
        }
        let text = format!(
            "PG {}: {} drives did not answer, {} may: {}",
            pg.id,
            silent.len(),
            pg.scheme.m(),
            silent.join("; ")
        );
        Err(RpcError::new(Code::Unreachable, text))
    }

    async fn inventory(&self, cluster: &Cluster, drive: DriveId, pg: PgId) -> Result<Vec<InventoryRow>, RpcError> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let request = StorageRequest::Inventory { drive, pg, after, max: self.config.page };
            let (reply, _) = self.send(cluster, drive, request).await?;
            let StorageReply::Inventory { rows, more } = reply else { return Err(unexpected("to Inventory")) };
            if more && rows.last().map(|row| row.pack) <= after {
                return Err(unexpected("an inventory that does not advance"));
            }
            after = rows.last().map(|row| row.pack).or(after);
            all.extend(rows);
            if !more {
                return Ok(all);
            }
        }
    }

    /// W3: which of the held packs have references.
    async fn ask(&self, pg: PgId, fence: Epoch, holdings: &Holdings) -> Result<BTreeSet<PackId>, RpcError> {
        let (mut referenced, mut after) = (BTreeSet::new(), None);
        loop {
            let question = MetaRequest::ReferencedPacks { pg, fence, after, max: self.config.page };
            let reply = self.meta.call(question, self.config.timeout).await?;
            let MetaReply::Referenced { packs, more } = reply else { return Err(unexpected("to ReferencedPacks")) };
            if !packs.is_sorted() || packs.first().is_some_and(|first| Some(*first) <= after) {
                return Err(unexpected("referenced packs out of order"));
            }
            if more && packs.is_empty() {
                return Err(unexpected("referenced packs that do not advance"));
            }
            after = packs.last().copied().or(after);
            referenced.extend(packs.into_iter().filter(|pack| holdings.contains_key(pack)));
            if !more {
                return Ok(referenced);
            }
        }
    }

    /// Condemns; what any drive refuses is taken back on the others. Packs condemned and refused.
    async fn condemn(
        &self,
        cluster: &Cluster,
        epoch: Epoch,
        wanted: BTreeMap<DriveId, Vec<PackId>>,
    ) -> Result<(u64, u64), RpcError> {
        let mut done: BTreeMap<PackId, Vec<DriveId>> = BTreeMap::new();
        let mut refused = BTreeSet::new();
        for (drive, packs) in wanted {
            let condemned = self
                .act(cluster, drive, packs.clone(), |drive, packs| StorageRequest::Condemn { drive, epoch, packs })
                .await?;
            let condemned: BTreeSet<PackId> = condemned.into_iter().collect();
            refused.extend(packs.into_iter().filter(|pack| !condemned.contains(pack)));
            for pack in condemned {
                done.entry(pack).or_default().push(drive);
            }
        }
        let mut back: BTreeMap<DriveId, Vec<PackId>> = BTreeMap::new();
        for pack in &refused {
            for drive in done.remove(pack).unwrap_or_default() {
                back.entry(drive).or_default().push(*pack);
            }
        }
        for (drive, packs) in back {
            self.act(cluster, drive, packs, |drive, packs| StorageRequest::Pardon { drive, packs }).await?;
        }
        Ok((done.len() as u64, refused.len() as u64))
    }

    /// Sends packs to a drive, a page at a time; the packs for which it was done.
    async fn act(
        &self,
        cluster: &Cluster,
        drive: DriveId,
        packs: Vec<PackId>,
        request: impl Fn(DriveId, Vec<PackId>) -> StorageRequest,
    ) -> Result<Vec<PackId>, RpcError> {
        let mut done = Vec::new();
        for packs in packs.chunks(self.config.page.max(1) as usize) {
            match self.send(cluster, drive, request(drive, packs.to_vec())).await?.0 {
                StorageReply::Packs(packs) => done.extend(packs),
                StorageReply::Done => {}
                _ => return Err(unexpected("to a sweep request")),
            }
        }
        Ok(done)
    }

    async fn send(
        &self,
        cluster: &Cluster,
        drive: DriveId,
        request: StorageRequest,
    ) -> Result<(StorageReply, Bytes), RpcError> {
        let Some(row) = cluster.map.drive(drive) else {
            return Err(RpcError::new(Code::NoSuchDrive, format!("drive {drive} is not in the cluster map")));
        };
        if !cluster.writable.contains(&drive) {
            return Err(RpcError::new(Code::DriveFailed, format!("drive {drive} ({}) takes no writes", row.name)));
        }
        self.storage.call(row.node, request, Bytes::new(), self.config.timeout).await
    }
}

fn hold(holdings: &mut Holdings, fence: Epoch, drive: DriveId, rows: Vec<InventoryRow>) {
    for row in rows.into_iter().filter(|row| row.start_epoch <= fence && row.touched <= fence) {
        holdings.entry(row.pack).or_default().insert(drive, row.condemned);
    }
}

fn distinct(by_drive: &BTreeMap<DriveId, Vec<PackId>>) -> u64 {
    by_drive.values().flatten().collect::<BTreeSet<_>>().len() as u64
}
