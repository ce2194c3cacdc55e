//! A pack is deleted only once a backup of the metadata does not need it, where backups are made. The metadata service
//! decides, and notes which older backups may miss packs from then on.

use std::collections::BTreeSet;

use stele_rpc::error::RpcError;
use stele_rpc::meta::{BackupCommand, Command};
use stele_types::ids::{Epoch, PackId};

use super::SweepWorker;
use super::plan::{Holdings, Plan, decide};

impl SweepWorker {
    /// The plan, without deletions that must wait for a backup.
    pub(super) async fn as_backups_admit(
        &self,
        mut plan: Plan,
        holdings: &Holdings,
        referenced: &BTreeSet<PackId>,
    ) -> Result<Plan, RpcError> {
        while let Some(condemned) = latest(&plan, holdings) {
            let (admitted, _) = self.command(Command::Backup(BackupCommand::AdmitDeletion { condemned })).await?;
            if admitted >= condemned {
                break;
            }
            plan = decide(holdings, referenced, (admitted > Epoch(0)).then_some(admitted));
        }
        Ok(plan)
    }
}

/// The latest condemnation of what is to be deleted.
fn latest(plan: &Plan, holdings: &Holdings) -> Option<Epoch> {
    let doomed = plan.delete.values().flatten().filter_map(|pack| holdings.get(pack));
    doomed.flat_map(|holders| holders.values()).copied().flatten().max()
}
