//! kill -9 under load, then `check`: three rounds here; `STELE_KILL_ROUNDS` asks for more.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::server::{Server, report};

/// Longest wait for the load of one round.
const ROUND_TIMEOUT: Duration = Duration::from_secs(120);

fn acknowledged(ledger: &Path) -> usize {
    let text = std::fs::read_to_string(ledger).unwrap_or_default();
    text.lines().filter(|line| line.starts_with("a ")).count()
}

#[test]
fn acknowledged_writes_survive_kill_9_under_load() {
    let rounds: usize = std::env::var("STELE_KILL_ROUNDS").map_or(3, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let (data, ledger) = (dir.path().join("data"), dir.path().join("ledger"));
    for round in 0..rounds {
        let server = Server::start(&data);
        let before = acknowledged(&ledger);
        let mut load = server.loadtest("run", &ledger);
        load.args(["--seconds", "300", "--clients", "16", "--stop-when-unreachable"]);
        let load = load.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Each round is killed after another number of acknowledgements: at another instant.
        let wanted = before + 20 + (round * 97) % 400;
        let started = Instant::now();
        while acknowledged(&ledger) < wanted {
            assert!(started.elapsed() < ROUND_TIMEOUT, "round {round}: no load came through");
            std::thread::sleep(Duration::from_millis(5));
        }
        server.kill();
        report(load.wait_with_output());

        let server = Server::start(&data);
        let checked = server.check(&ledger);
        assert!(checked["acknowledged"].as_u64().unwrap() as usize >= wanted, "{checked:#}");
        assert!(server.terminate().success());
    }
}
