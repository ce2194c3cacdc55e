//! Cluster map: founding it, and drive states.

use stele_rpc::error::Code;
use stele_rpc::meta::MetaReply;
use stele_types::ids::{ClusterId, DriveId, MapEpoch};
use stele_types::map::{ClusterMap, DriveRow, DriveState};

use super::acts::{self, CLUSTER_SUBJECT};
use crate::apply::{Batch, Context, Outcome, refuse};
use crate::keyspace::MAP;
use crate::rows::{encode, load};

impl Batch<'_> {
    pub(crate) fn init_cluster(
        &mut self,
        cx: Context<'_>,
        cluster: ClusterId,
        drives: &[DriveRow],
        map: &ClusterMap,
    ) -> Outcome<MetaReply> {
        if let Some(known) = load::<ClusterMap>(self.rows, &MAP)? {
            if known.cluster == Some(cluster) {
                return Ok(MetaReply::Done);
            }
            let detail = "the cluster was founded under another id: point this process at its own data directory";
            return refuse(Code::Malformed, detail);
        }
        let mut map = map.clone();
        map.cluster = Some(cluster);
        map.drives = drives.to_vec();
        map.drives.sort_by_key(|drive| drive.id);
        map.pgs.sort_by_key(|pg| pg.id);
        map.epoch = map.epoch.max(MapEpoch(1));
        let unknown = map.pgs.iter().flat_map(|pg| &pg.slots).find(|slot| map.drive(slot.drive).is_none());
        if let Some(slot) = unknown {
            return refuse(
                Code::Malformed,
                format!("a placement group names drive {}, which is not listed", slot.drive),
            );
        }
        self.rows.put(&MAP, &encode(&map))?;
        self.log_act(cx, CLUSTER_SUBJECT, &acts::founded(&map))?;
        Ok(MetaReply::Done)
    }

    pub(crate) fn set_drive_state(
        &mut self,
        cx: Context<'_>,
        drive: DriveId,
        state: DriveState,
        reason: &str,
    ) -> Outcome<MetaReply> {
        let missing = || format!("drive {drive} is not part of this cluster");
        let Some(mut map) = load::<ClusterMap>(self.rows, &MAP)? else {
            return refuse(Code::NoSuchDrive, missing());
        };
        let Some(row) = map.drives.iter_mut().find(|row| row.id == drive) else {
            return refuse(Code::NoSuchDrive, missing());
        };
        if row.state == state && row.reason == reason {
            return Ok(MetaReply::Done);
        }
        let before = row.clone();
        row.state = state;
        reason.clone_into(&mut row.reason);
        let detail = acts::drive_changed(&before, row);
        map.epoch = MapEpoch(map.epoch.0 + 1);
        self.rows.put(&MAP, &encode(&map))?;
        self.log_act(cx, &format!("drive/{drive}"), &detail)?;
        Ok(MetaReply::Done)
    }
}
