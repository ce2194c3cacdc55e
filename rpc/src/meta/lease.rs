//! A gateway's licence to write.

use serde::{Deserialize, Serialize};
use stele_types::ids::{Epoch, LeaseId, MapEpoch};

/// A lease as granted or renewed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// Current root epoch: start epoch of writes that begin now.
    pub epoch: Epoch,
    /// Highest fenced epoch.
    pub fence: Epoch,
    /// Map epoch, so that a renewal tells of a newer map.
    pub map_epoch: MapEpoch,
}
