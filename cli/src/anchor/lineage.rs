//! Which name the log has now. It changes only when metadata was restored from before what this anchor signed last: then the
//! log is closed under its name and goes on under another, with a memory of its own.

use anyhow::{Context as _, bail};
use stele_anchor::memory::{Memory, Remembers as _};
use stele_evidence::vkey::KeyName;
use stele_rpc::client::unexpected;
use stele_rpc::error::Code;
use stele_rpc::meta::{BackupState, Command, LogCommand, MetaReply, MetaRequest, TreeHead};

use super::chains::Host;
use super::{AnchorDir, ORIGIN, SIGNED, TIMEOUT, origin};
use crate::dev::watch::cluster_command;

/// File with what was signed under a name.
fn memory_file(first: &str, name: &str) -> String {
    match name.strip_prefix(first) {
        Some("") | None => SIGNED.to_owned(),
        Some(more) => format!("{SIGNED}{}", more.replace('/', "-")),
    }
}

/// The name that follows.
fn next_name(first: &str, state: &BackupState) -> String {
    format!("{first}/{}", state.closed.len() + 2)
}

/// The newest name, by what was closed.
fn newest_name(first: &str, state: &BackupState) -> String {
    state.closed.last().map_or_else(|| first.to_owned(), |closed| closed.next.clone())
}

impl AnchorDir {
    /// The log's name, and this anchor's memory of it. Closes the log if it was restored from before what the memory holds.
    ///
    /// # Errors
    /// The metadata service does not answer, or a file can't be read or written.
    pub(super) async fn log_of(&self, host: &Host) -> anyhow::Result<(String, Memory)> {
        let first = origin(host.cluster);
        let state = state(host).await?;
        let name = newest_name(&first, &state);
        if let Some(found) = self.read(ORIGIN).await? {
            let ours =
                found == first || state.closed.iter().any(|closed| closed.origin == found || closed.next == found);
            if !ours {
                bail!("{} has the keys of {found:?}, not of {name:?}; use another directory", self.path.display());
            }
        }
        let memory = self.memory(&first, &name).await?;
        let (Some(restored), Some(signed)) = (&state.restored, memory.last()) else {
            return self.named(name, memory).await;
        };
        if signed.size <= restored.log.size || !close(host, signed, (&name, &next_name(&first, &state))).await? {
            return self.named(name, memory).await;
        }
        let next = next_name(&first, &state);
        tracing::warn!(
            size = signed.size,
            "metadata was restored from before what was signed: the log {name} is closed, and goes on as {next}. Give the \
             new verifier-keys to auditors"
        );
        let memory = self.memory(&first, &next).await?;
        self.named(next, memory).await
    }

    async fn memory(&self, first: &str, name: &str) -> anyhow::Result<Memory> {
        let (path, name) = (self.path.join(memory_file(first, name)), name.to_owned());
        Ok(tokio::task::spawn_blocking(move || Memory::open(&path, &name)).await??)
    }

    /// Lets the directory's keys sign under this name from now on. Only a directory that has keys has a name.
    async fn named(&self, name: String, memory: Memory) -> anyhow::Result<(String, Memory)> {
        if self.read(ORIGIN).await?.is_some_and(|found| found != name) {
            KeyName::new(&name)?;
            self.write(ORIGIN, name.clone()).await?;
        }
        Ok((name, memory))
    }
}

async fn state(host: &Host) -> anyhow::Result<BackupState> {
    match host.meta.call(MetaRequest::Status, TIMEOUT).await.context("asking for the name of the log")? {
        MetaReply::Status(status) => Ok(status.backups),
        _ => bail!(unexpected("to Status")),
    }
}

/// Closes the log; false if it has what was signed, so that it goes on.
async fn close(host: &Host, head: TreeHead, (origin, next): (&str, &str)) -> anyhow::Result<bool> {
    let command = LogCommand::Close { origin: origin.to_owned(), head, next: next.to_owned() };
    match host.meta.command(cluster_command(Command::Log(command), host.node), TIMEOUT).await {
        Ok(_) => Ok(true),
        Err(error) if error.code == Code::StaleCheckpoint => Ok(false),
        Err(error) => Err(error).context("closing the log under its name"),
    }
}

#[cfg(test)]
mod tests {
    use stele_rpc::meta::ClosedLog;

    use super::*;

    #[test]
    fn names_follow_each_other_and_each_has_a_memory() {
        let mut state = BackupState::default();
        let mut names = Vec::new();
        for _ in 0..3 {
            let name = newest_name("stele/7/log/0", &state);
            let (origin, next) = (name.clone(), next_name("stele/7/log/0", &state));
            state.closed.push(ClosedLog { origin, next, ..ClosedLog::default() });
            names.push(name);
        }
        assert_eq!(names, ["stele/7/log/0", "stele/7/log/0/2", "stele/7/log/0/3"]);
        let files: Vec<String> = names.iter().map(|name| memory_file("stele/7/log/0", name)).collect();
        assert_eq!(files, ["signed", "signed-2", "signed-3"]);
    }
}
