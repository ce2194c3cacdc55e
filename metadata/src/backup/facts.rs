//! What a backup says of itself in clear: where it stands in the life of the cluster, so that an operator can choose one
//! without the key. No name of an object and no digest of content is among it.

use serde::{Deserialize, Serialize};
use stele_types::ids::ClusterId;
use stele_types::map::ClusterMap;
use stele_types::seam::UnixMillis;

use super::{BackupError, Recipient};
use crate::apply::edge_of;
use crate::keyspace::{BACKUPS, CHECKPOINT, DATA, GROUP, MAP, ROOT};
use crate::kv::KvRead;
use crate::raft::applied_of;
use crate::rows::{BackupsRow, CheckpointRow, DataRow, GroupRow, RootRow, load};
use crate::snapshot;

/// Largest text of facts.
pub const FACTS_BYTES_MAX: usize = 64 * 1024;

/// What a backup says of itself. Fields are only ever appended, with defaults.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// The cluster, in hex.
    pub cluster: String,
    /// Version of the program that wrote it.
    pub version: String,
    /// Who can open it.
    pub recipient: String,
    /// Raft term of the last command in it.
    pub term: u64,
    /// Raft index of the last command in it.
    pub index: u64,
    /// Commit time of that command, milliseconds since 1970.
    pub time: UnixMillis,
    /// Rows.
    pub rows: u64,
    /// Entries of the evidence log.
    pub log_size: u64,
    /// Root of the evidence log, in hex.
    pub log_root: String,
    /// Newest checkpoint that was signed by then.
    pub signed: Option<SignedFacts>,
    /// Epoch of the cluster.
    pub epoch: u64,
    /// Fence of the last sweep. A pack that was condemned below it is not referred to by these rows.
    pub fence: u64,
    /// Backups with a fence at or below this one may miss packs.
    pub superseded: u64,
}

/// A signed checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SignedFacts {
    /// Entries.
    pub size: u64,
    /// Root, in hex.
    pub root: String,
    /// The signed note as it was published.
    pub note: String,
}

impl Facts {
    /// Of the rows of a view, which it counts.
    ///
    /// # Errors
    /// The store failed, or it is not that of a cluster.
    pub fn of(rows: &dyn KvRead, recipient: &Recipient) -> Result<Self, BackupError> {
        let (term, index) = applied_of(rows)?.ok_or(BackupError::Unusable("nothing was ever committed"))?;
        let map: ClusterMap = load(rows, &MAP)?.unwrap_or_default();
        let cluster = map.cluster.ok_or(BackupError::Unusable("the cluster is not founded"))?;
        let root: RootRow = load(rows, &ROOT)?.unwrap_or_default();
        let data: DataRow = load(rows, &DATA)?.unwrap_or_default();
        let checkpoint: Option<CheckpointRow> = load(rows, &CHECKPOINT)?;
        let signed = checkpoint.and_then(|row| row.published).map(|signed| SignedFacts {
            size: signed.size,
            root: hex::encode(signed.root.0),
            note: String::from_utf8_lossy(&signed.note).into_owned(),
        });
        Ok(Self {
            cluster: cluster.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            recipient: recipient.to_string(),
            term,
            index,
            time: load::<GroupRow>(rows, &GROUP)?.unwrap_or_default().last_time,
            rows: snapshot::count(rows)?,
            log_size: data.log_size,
            log_root: hex::encode(edge_of(&data)?.root()),
            signed,
            epoch: root.epoch.0,
            fence: root.fence.0,
            superseded: load::<BackupsRow>(rows, &BACKUPS)?.unwrap_or_default().superseded.0,
        })
    }

    /// The cluster.
    ///
    /// # Errors
    /// It is no id.
    pub fn cluster_id(&self) -> Result<ClusterId, BackupError> {
        ClusterId::from_hex(&self.cluster).ok_or(BackupError::Damaged("the cluster's id is none"))
    }

    /// Refuses rows that say something else of themselves.
    ///
    /// # Errors
    /// [`BackupError::Differs`]; or the store failed.
    pub fn compare(&self, rows: &dyn KvRead, recipient: &Recipient) -> Result<(), BackupError> {
        let found = Self::of(rows, recipient)?;
        let same = [
            ("the cluster", self.cluster == found.cluster),
            ("the raft position", (self.term, self.index) == (found.term, found.index)),
            ("the commit time", self.time == found.time),
            ("the number of rows", self.rows == found.rows),
            ("the evidence log", (self.log_size, &self.log_root) == (found.log_size, &found.log_root)),
            ("the signed checkpoint", self.signed == found.signed),
            ("the epochs", (self.epoch, self.fence) == (found.epoch, found.fence)),
        ];
        match same.iter().find(|(_, same)| !same) {
            Some((what, _)) => Err(BackupError::Differs(what)),
            None => Ok(()),
        }
    }
}

/// Name of a backup, without its ending: cluster, commit time, raft index and something random, so that names sort by
/// time and two leaders never write the same one.
pub fn name(facts: &Facts, nonce: [u8; 4]) -> String {
    let Facts { cluster, time, index, .. } = facts;
    let seconds = i64::try_from(time / 1000).unwrap_or(i64::MAX);
    let at = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second, milli) = (at.hour(), at.minute(), at.second(), time % 1000);
    let at = format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}.{milli:03}Z");
    format!("{cluster}/{at}-{index:012}-{}", hex::encode(nonce))
}
