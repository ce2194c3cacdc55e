//! Backups: what is expected of them, which one is the newest, which packs may be deleted in view of it, and when sweeps go
//! on after a restore. Why: docs/decisions/0014-what-a-restore-does.md.

use stele_rpc::error::Code;
use stele_rpc::meta::{BACKUP_NAME_BYTES_MAX, BackupCommand, BackupMade, Compared, MetaReply};
use stele_types::ids::Epoch;

use super::acts::CLUSTER_SUBJECT;
use crate::apply::{Batch, Context, Outcome, refuse};
use crate::keyspace::{BACKUPS, RESTORE};
use crate::kv::KvResult;
use crate::rows::{BackupsRow, RestoreRow, load};

/// Most often that backups may be expected, milliseconds.
const INTERVAL_MIN_MS: u64 = 1000;

/// Whether a command changes something that the log must tell.
pub(crate) const fn is_act(command: &BackupCommand) -> bool {
    match command {
        BackupCommand::Expect { .. } | BackupCommand::Made(_) | BackupCommand::EndComparison(_) => true,
        BackupCommand::Want | BackupCommand::AdmitDeletion { .. } => false,
    }
}

impl Batch<'_> {
    fn backups_row(&self) -> KvResult<BackupsRow> {
        Ok(load(self.rows, &BACKUPS)?.unwrap_or_default())
    }

    pub(crate) fn backup(&mut self, cx: Context<'_>, command: &BackupCommand) -> Outcome<MetaReply> {
        match command {
            BackupCommand::Expect { interval_ms } => self.expect_backups(cx, *interval_ms),
            BackupCommand::Want => self.want_backup(cx),
            BackupCommand::Made(made) => self.note_backup(cx, made),
            BackupCommand::AdmitDeletion { condemned } => self.admit_deletion(*condemned),
            BackupCommand::EndComparison(found) => self.end_comparison(cx, *found),
        }
    }

    fn expect_backups(&mut self, cx: Context<'_>, interval_ms: Option<u64>) -> Outcome<MetaReply> {
        if interval_ms.is_some_and(|interval| interval < INTERVAL_MIN_MS) {
            return refuse(Code::Malformed, format!("backups are made every {INTERVAL_MIN_MS} ms at most"));
        }
        let row = self.backups_row()?;
        if row.interval_ms == interval_ms {
            return Ok(MetaReply::Done);
        }
        let since = if row.interval_ms.is_some() { row.since } else { cx.now };
        self.put_row(&BACKUPS, &BackupsRow { interval_ms, since, ..row })?;
        let detail = match interval_ms {
            Some(interval) => format!("a backup of the metadata is made every {interval} ms"),
            None => "no backups of the metadata are made any more, and no pack waits for one".to_owned(),
        };
        self.log_act(cx, CLUSTER_SUBJECT, &detail)?;
        Ok(MetaReply::Done)
    }

    fn want_backup(&mut self, cx: Context<'_>) -> Outcome<MetaReply> {
        let row = self.backups_row()?;
        if row.interval_ms.is_none() {
            let detail = "no backups are made: set backup.url and backup.recipient on every metadata node";
            return refuse(Code::Malformed, detail);
        }
        self.put_row(&BACKUPS, &BackupsRow { wanted: cx.now, ..row })?;
        Ok(MetaReply::Done)
    }

    fn note_backup(&mut self, cx: Context<'_>, made: &BackupMade) -> Outcome<MetaReply> {
        if !(1..=BACKUP_NAME_BYTES_MAX).contains(&made.name.len()) || made.name.chars().any(char::is_control) {
            return refuse(Code::Malformed, format!("the name of a backup has 1 to {BACKUP_NAME_BYTES_MAX} bytes"));
        }
        let row = self.backups_row()?;
        if row.newest.as_ref().is_some_and(|newest| newest.hash == made.hash) {
            return Ok(MetaReply::Done);
        }
        // A leader that was deposed while it wrote must not put an older one in the place of a newer one.
        if row.newest.as_ref().is_some_and(|newest| newest.index >= made.index) || made.fence > self.root.fence {
            return refuse(Code::Malformed, format!("backup {} is not newer than the newest one", made.name));
        }
        self.put_row(&BACKUPS, &BackupsRow { newest: Some(made.clone()), ..row })?;
        let BackupMade { name, bytes, rows, index, .. } = made;
        let hash = hex::encode(made.hash);
        let detail =
            format!("backup {name} of {rows} rows up to command {index} was made: {bytes} bytes, BLAKE3 {hash}");
        self.log_act(cx, CLUSTER_SUBJECT, &detail)?;
        Ok(MetaReply::Done)
    }

    /// Strictly below the fence of the newest backup: what was condemned at that fence may have lost its reference after
    /// the backup's view was taken. Only what is admitted as a whole supersedes older backups: else nothing is deleted yet.
    fn admit_deletion(&mut self, condemned: Epoch) -> Outcome<MetaReply> {
        self.refuse_while_comparing()?;
        let row = self.backups_row()?;
        let safe = row.newest.as_ref().map_or(0, |newest| newest.fence.0.saturating_sub(1));
        let expected = row.interval_ms.is_some();
        let reply = |fence| MetaReply::Epochs { fence, epoch: self.root.epoch };
        if expected && condemned.0 > safe {
            return Ok(reply(Epoch(safe)));
        }
        let reply = reply(condemned);
        if (expected || row.newest.is_some()) && condemned > row.superseded {
            self.put_row(&BACKUPS, &BackupsRow { superseded: condemned, ..row })?;
        }
        Ok(reply)
    }

    /// Refuses what sweeps need, until references and inventories were compared.
    pub(crate) fn refuse_while_comparing(&self) -> Outcome<()> {
        let restored: Option<RestoreRow> = load(self.rows, &RESTORE)?;
        if restored.is_some_and(|row| row.compared.is_none()) {
            let detail = "the cluster was restored from a backup: sweeps are off until references and inventories were \
                          compared (stele cluster status says how far that is)";
            return refuse(Code::SweepRefused, detail);
        }
        Ok(())
    }

    fn end_comparison(&mut self, cx: Context<'_>, found: Compared) -> Outcome<MetaReply> {
        let Some(row) = load::<RestoreRow>(self.rows, &RESTORE)? else {
            return refuse(Code::Malformed, "the cluster was not restored from a backup: there is nothing to compare");
        };
        if row.compared.is_some() {
            return Ok(MetaReply::Done);
        }
        let Compared { packs, degraded, lost, surplus, pardoned, silent, accepted } = found;
        if (lost > 0 || silent > 0) && !accepted {
            let detail = format!("{lost} packs are lost and {silent} drives silent: an operator must accept that");
            return refuse(Code::Malformed, detail);
        }
        self.put_row(&RESTORE, &RestoreRow { compared: Some(found), ..row })?;
        let by = if accepted { "an operator ended the comparison" } else { "the comparison ended" };
        let detail = format!(
            "{by} of references and inventories after the restore: {packs} packs, {degraded} with missing shards, {lost} \
             lost, {pardoned} pardoned, {surplus} without a reference, {silent} drives silent; sweeps go on"
        );
        self.log_act(cx, CLUSTER_SUBJECT, &detail)?;
        Ok(MetaReply::Done)
    }
}
