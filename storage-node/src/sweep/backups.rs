//! A pack is deleted only once a backup of the metadata does not need it, where backups are made. The metadata service
//! decides, and notes which older backups may miss packs from then on. The same holds of strays: an older map may name
//! the drive that they are on.

use std::collections::BTreeMap;

use stele_rpc::client::unexpected;
use stele_rpc::error::RpcError;
use stele_rpc::meta::{BackupCommand, Command, MetaReply};
use stele_types::ids::{Epoch, PackId};

use super::SweepWorker;

/// Packs to be deleted, each with the latest fence at which a drive condemned it.
pub(super) type Doomed = BTreeMap<PackId, Epoch>;

impl SweepWorker {
    /// Leaves those out that must wait for a backup.
    pub(super) async fn as_backups_admit(&self, doomed: &mut Doomed) -> Result<(), RpcError> {
        while let Some(condemned) = doomed.values().copied().max() {
            let asked = self.command(Command::Backup(BackupCommand::AdmitDeletion { condemned })).await?;
            let MetaReply::Epochs { fence: admitted, .. } = asked else { return Err(unexpected("to AdmitDeletion")) };
            if admitted >= condemned {
                break;
            }
            doomed.retain(|_, condemned| *condemned <= admitted);
        }
        Ok(())
    }
}
