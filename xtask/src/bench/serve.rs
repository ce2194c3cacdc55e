//! One `stele dev` under measurement, on free loopback ports; ended by its own process.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

pub(super) const ACCESS: &str = "bench-access";
pub(super) const SECRET: &str = "bench-secret-key";

/// A running store over a directory that goes with it.
pub(super) struct Server {
    child: Child,
    data: PathBuf,
    pub(super) s3: String,
    pub(super) admin: String,
}

impl Server {
    /// Starts a store over an empty `data`, with settings as its environment names them.
    pub(super) fn start(stele: &Path, data: &Path, settings: &[(&str, &str)]) -> Result<Self> {
        remove(data)?;
        let mut command = Command::new(stele);
        command
            .args(["dev", "--json", "--s3-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--data"])
            .arg(data)
            .env("STELE_ROOT_ACCESS_KEY", ACCESS)
            .env("STELE_ROOT_SECRET_KEY", SECRET)
            .env("STELE_LOG_LEVEL", "error")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| stele.display().to_string())?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("stdout of stele dev")?;
        BufReader::new(stdout).read_line(&mut line).context("ready line of stele dev")?;
        let ready: Value = serde_json::from_str(&line).with_context(|| format!("ready line {line:?}"))?;
        let url =
            |name: &str| ready[name].as_str().map(str::to_owned).with_context(|| format!("no {name} in {line:?}"));
        let (s3, admin) = (url("s3")?, url("admin")?);
        Ok(Self { child, data: data.to_owned(), s3, admin })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it and removes its data.
    pub(super) fn stop(mut self) -> Result<()> {
        let still_running = self.child.try_wait().context("waiting for stele dev")?.is_none();
        ensure!(still_running, "stele dev ended while it was measured");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        remove(&self.data).ok();
    }
}

fn remove(data: &Path) -> Result<()> {
    if data.exists() {
        std::fs::remove_dir_all(data).with_context(|| format!("removing {}", data.display()))?;
    }
    Ok(())
}
