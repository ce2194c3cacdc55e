//! Starts, stops and kills one `stele dev`, and runs `stele-loadtest` against it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Access key of every store in these tests.
pub(crate) const ACCESS_KEY: &str = "it-access";
/// Secret key of every store in these tests.
pub(crate) const SECRET_KEY: &str = "it-secret-key";
/// Longest a start may take, on a machine that is busy with other things.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// A running store; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) s3: String,
    pub(crate) admin: String,
    /// File of the CA to trust, of a store that made its own certificate.
    pub(crate) ca: Option<PathBuf>,
}

fn binary() -> PathBuf {
    let path = match std::env::var_os("STELE_BIN") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug/stele"),
    };
    assert!(path.is_file(), "no stele binary at {}; run `cargo build -p stele-cli`, or set STELE_BIN", path.display());
    path
}

/// A command without this process's STELE_* variables.
fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("STELE_") {
            command.env_remove(name);
        }
    }
    command
}

impl Server {
    /// Starts a store over `data` and waits until it serves.
    pub(crate) fn start(data: &Path) -> Self {
        Self::ready(&mut Self::command(data))
    }

    /// The same over HTTPS, with a certificate that the store makes.
    pub(crate) fn start_https(data: &Path) -> Self {
        Self::ready(Self::command(data).arg("--tls"))
    }

    fn ready(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (line_out, line_in) = sync_channel(1);
        let reader = std::thread::Builder::new().name("ready-line".into());
        reader
            .spawn(move || {
                let mut line = String::new();
                let mut stdout = BufReader::new(stdout);
                if stdout.read_line(&mut line).is_ok() {
                    line_out.send(line).ok();
                }
            })
            .unwrap();
        let line = line_in.recv_timeout(START_TIMEOUT).unwrap_or_else(|_| {
            child.kill().ok();
            panic!("stele dev did not get ready within {START_TIMEOUT:?}")
        });
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("ready line {line:?}: {e}"));
        assert_eq!(ready["event"], "ready", "{line}");
        let url = |name: &str| ready[name].as_str().unwrap().to_owned();
        Self { child, s3: url("s3"), admin: url("admin"), ca: ready["s3_ca"].as_str().map(PathBuf::from) }
    }

    /// The command that starts a store over `data` on free ports, logging only what is wrong.
    pub(crate) fn command(data: &Path) -> Command {
        let mut command = clean(binary());
        command
            .args(["dev", "--json", "--s3-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--data"])
            .arg(data)
            .env("STELE_ROOT_ACCESS_KEY", ACCESS_KEY)
            .env("STELE_ROOT_SECRET_KEY", SECRET_KEY)
            .env("STELE_LOG_LEVEL", "error")
            .env("STELE_MEMORY_BUDGET", "256MiB")
            .stdin(Stdio::null());
        command
    }

    /// SIGTERM; waits for the end and returns how it ended.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }

    /// SIGKILL; waits for the end.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What `stele status --json` prints.
    pub(crate) fn status(&self) -> Value {
        let addr = self.admin.strip_prefix("http://").unwrap();
        let output = clean(binary()).args(["status", "--json", "--admin-addr", addr]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("status {text:?}: {e}"))
    }

    /// `stele-loadtest COMMAND` against this store, not yet started.
    pub(crate) fn loadtest(&self, command: &str, ledger: &Path) -> Command {
        let mut loadtest = clean(env!("CARGO_BIN_EXE_stele-loadtest"));
        loadtest
            .args([command, "--endpoint", &self.s3, "--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY])
            .arg("--ledger")
            .arg(ledger)
            .stdin(Stdio::null());
        loadtest
    }

    /// Runs load that must meet neither mismatch nor error.
    pub(crate) fn run_load(&self, ledger: &Path, ops: u32) {
        let mut command = self.loadtest("run", ledger);
        let report = report(command.args(["--seconds", "600", "--clients", "4", "--ops", &ops.to_string()]).output());
        assert_eq!(report["errors"], 0, "{report:#}");
        assert_eq!(report["unknown"], 0, "{report:#}");
    }

    /// Checks the store against the ledger and returns the report.
    pub(crate) fn check(&self, ledger: &Path) -> Value {
        report(self.loadtest("check", ledger).output())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The report of a `stele-loadtest` that must have found nothing wrong.
pub(crate) fn report(output: std::io::Result<Output>) -> Value {
    let output = output.unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "stele-loadtest: {}\n{stdout}\n{stderr}", output.status);
    let report: Value = serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("report {stdout:?}: {e}"));
    assert_eq!(report["mismatches"], 0, "{report:#}");
    report
}
