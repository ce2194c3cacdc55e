//! Rows of a backup as the first rows of a new group. What came after the backup is lost, and what it left behind must not
//! be mistaken for what comes now: docs/decisions/0014-what-a-restore-does.md says why each number is what it is.

use stele_rpc::meta::{Origin, RestoredFrom, TreeHead};
use stele_types::ids::{ClusterId, Epoch, MapEpoch, NodeId, Salt};
use stele_types::map::{ClusterMap, NodeRow, NodeState};
use stele_types::role::Role;
use stele_types::seam::UnixMillis;

use super::BackupError;
use crate::apply::{ApplyOptions, Batch, Context, Failure};
use crate::executor::Executor;
use crate::keyspace::{self, MAP, RESTORE, Tag};
use crate::kv::{KvError, KvResult, KvTxn, MetaKv};
use crate::raft::{LogTuning, random_u64, sole_member, write_log};
use crate::rows::{GroupRow, encode, load};

/// Epochs that are left out. Sweeps raise the epoch by one each, so that a cluster never used as many after its backup.
pub const EPOCH_GAP: u64 = 1 << 32;
/// Ids of buckets and leases, and epochs of the map, that are left out, for the same reason.
pub const ID_GAP: u64 = 1 << 32;
/// Ids of nodes that are left out: more than ever join between two backups.
const NODE_GAP: u64 = 1000;

/// Who founds the group anew, and from what.
#[derive(Clone, Debug)]
pub struct Founder {
    /// Where other nodes reach the first node.
    pub addresses: Vec<String>,
    /// Its name.
    pub name: String,
    /// BLAKE3 of the backup.
    pub backup: [u8; 32],
    /// Now, milliseconds since 1970.
    pub now: UnixMillis,
    /// Salt of what the evidence log says of it.
    pub salt: Salt,
}

/// Makes the rows in `store`, which are those of a backup, the rows of a new group with one member, and writes its raft
/// log. Returns the cluster and the id of the member.
///
/// # Durability
/// Ok: rows and log are on stable media.
///
/// # Errors
/// The rows are not those of a cluster, or the media failed. They are of no use then.
pub fn found_anew(
    store: &dyn MetaKv,
    raft_log: Box<dyn redb::StorageBackend>,
    founder: &Founder,
) -> Result<(ClusterId, NodeId), BackupError> {
    let map: ClusterMap = load(&*store.view()?, &MAP)?.unwrap_or_default();
    let cluster = map.cluster.ok_or(BackupError::Unusable("they are not those of a cluster"))?;
    let highest = map.nodes.last().ok_or(BackupError::Unusable("they are those of a store of one process"))?;
    let node = NodeId(highest.id.0 / NODE_GAP * NODE_GAP + NODE_GAP + 1);
    let incarnation = random_u64();
    store.write(&mut |txn| {
        sole_member(txn, node.0, incarnation)?;
        forget_processes(txn)?;
        let until = load::<GroupRow>(&*txn, &keyspace::GROUP)?.unwrap_or_default().last_time;
        let mut batch = Batch::begin(txn, ApplyOptions::default())?;
        begin(&mut batch, node, founder, until)?;
        batch.finish()
    })?;
    store.sync()?;
    let tuning = LogTuning {
        node: node.0,
        group: 0,
        cluster: Some(cluster),
        fresh_incarnation: incarnation,
        cache_bytes: 1 << 20,
        executor: Executor::Inline { sync_delay: std::time::Duration::ZERO },
    };
    write_log(raft_log, tuning, &*store.view()?).map_err(BackupError::Io)?;
    Ok((cluster, node))
}

/// Leases, remembered replies and join tokens belong to processes and papers of before.
fn forget_processes(txn: &mut dyn KvTxn) -> KvResult<()> {
    for tag in [Tag::Lease, Tag::Reply, Tag::JoinToken] {
        let (from, to) = keyspace::table(tag);
        let mut keys = Vec::new();
        txn.scan(&from, &to, &mut |key, _| {
            keys.push(key.to_vec());
            std::ops::ControlFlow::Continue(())
        })?;
        keys.iter().try_for_each(|key| txn.delete(key))?;
    }
    Ok(())
}

fn begin(batch: &mut Batch<'_>, node: NodeId, founder: &Founder, until: UnixMillis) -> KvResult<()> {
    let now = batch.advance_clock(founder.now);
    let log = TreeHead { size: batch.next_log_index()?.0, root: batch.log_tail()?.edge.root() };
    let epoch = Epoch(batch.root.epoch.0.saturating_add(EPOCH_GAP));
    batch.root.epoch = epoch;
    // Whatever was under way can't commit any more, and what it staged goes with the next sweep.
    batch.root.fence = Epoch(epoch.0 - 1);
    batch.root.next_bucket = batch.root.next_bucket.saturating_add(ID_GAP);
    batch.root.next_lease = batch.root.next_lease.saturating_add(ID_GAP);
    let mut map: ClusterMap = load(batch.rows, &MAP)?.unwrap_or_default();
    for old in &mut map.nodes {
        // Their certificates are those of a CA that may be in other hands: they come back under new ids.
        old.state = NodeState::Removed;
    }
    map.nodes.push(NodeRow {
        id: node,
        role: Role::Metadata,
        name: founder.name.clone(),
        addresses: founder.addresses.clone(),
        zone: String::new(),
        rack: String::new(),
        state: NodeState::Active,
        key: [0; 32],
        maintenance_until: 0,
    });
    map.epoch = MapEpoch(map.epoch.0.saturating_add(ID_GAP));
    batch.rows.put(&MAP, &encode(&map))?;
    let backup = founder.backup;
    let row = RestoredFrom { backup, time: now, until, log, node, epoch, compared: None };
    batch.rows.put(&RESTORE, &encode(&row))?;
    let origin = Origin { principal: "operator".into(), source: String::new(), node };
    let cx = Context { now, origin: &origin, salt: Some(founder.salt) };
    let (hash, size, root) = (hex::encode(backup), log.size, hex::encode(log.root));
    let detail = format!(
        "the cluster was restored from the backup with BLAKE3 {hash} on node {node}: what was committed after {until} ms is \
         lost, and with it all entries of this log from {size} on, where its root was {root}"
    );
    match batch.log_act(cx, "cluster", &detail) {
        Ok(()) => Ok(()),
        Err(Failure::Broken(error)) => Err(error),
        Err(Failure::Refused(error)) => Err(KvError::Engine { what: "noting the restore", cause: error.to_string() }),
    }
}
