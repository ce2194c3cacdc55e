//! What was acknowledged is there: after a restart, without two of six drives, with two drives full
//! of garbage.

use std::io::{Seek as _, Write as _};
use std::path::Path;

use crate::server::Server;

const OPS: u32 = 300;

/// Names of drives that `status` does not call ok.
fn drives_not_ok(server: &Server) -> Vec<String> {
    let status = server.status();
    let drives = status["drives"].as_array().unwrap();
    let bad = drives.iter().filter(|drive| drive["state"] != "ok");
    bad.map(|drive| drive["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn everything_is_there_after_a_restart_and_after_losing_two_of_six_drives() {
    let dir = tempfile::tempdir().unwrap();
    let (data, ledger) = (dir.path().join("data"), dir.path().join("ledger"));
    let server = Server::start(&data);
    server.run_load(&ledger, OPS);
    server.check(&ledger);
    assert_eq!(server.status()["placement"]["lowest_tolerance"], 2);
    let ended = server.terminate();
    assert!(ended.success(), "SIGTERM ended with {ended}");

    let server = Server::start(&data);
    let report = server.check(&ledger);
    assert!(report["present"].as_u64().unwrap() > 0, "{report:#}");
    server.run_load(&ledger, OPS);
    server.check(&ledger);
    assert!(server.terminate().success());

    for drive in ["drive-1", "drive-4"] {
        std::fs::remove_dir_all(data.join(drive)).unwrap();
    }
    let server = Server::start(&data);
    let bad = drives_not_ok(&server);
    assert!(bad.len() == 2 && bad[0].contains("drive-1") && bad[1].contains("drive-4"), "{bad:?}");
    assert_eq!(server.status()["placement"]["lowest_tolerance"], 0);
    server.check(&ledger);
    server.run_load(&ledger, OPS);
    server.check(&ledger);
    assert!(server.terminate().success());
    for drive in ["drive-1", "drive-4"] {
        assert!(!data.join(drive).exists(), "{drive} was made anew");
    }
    let server = Server::start(&data);
    server.check(&ledger);
}

/// Overwrites every segment of a drive, keeping lengths and the identity.
fn fill_with_garbage(drive: &Path) -> u64 {
    let mut overwritten = 0;
    for entry in std::fs::read_dir(drive).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            overwritten += fill_with_garbage(&path);
        } else if !name.contains("identity") {
            let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            let len = file.metadata().unwrap().len();
            file.rewind().unwrap();
            let garbage: Vec<u8> = (0..len).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 7) as u8).collect();
            file.write_all(&garbage).unwrap();
            overwritten += len;
        }
    }
    overwritten
}

#[test]
fn everything_is_there_with_two_drives_full_of_garbage() {
    let dir = tempfile::tempdir().unwrap();
    let (data, ledger) = (dir.path().join("data"), dir.path().join("ledger"));
    let server = Server::start(&data);
    server.run_load(&ledger, OPS);
    assert!(server.terminate().success());
    for drive in ["drive-0", "drive-3"] {
        assert!(fill_with_garbage(&data.join(drive)) > 0, "{drive} held nothing");
    }
    let server = Server::start(&data);
    let report = server.check(&ledger);
    assert!(report["present"].as_u64().unwrap() > 0, "{report:#}");
    server.run_load(&ledger, OPS);
    server.check(&ledger);
}

#[test]
fn a_drive_that_vanishes_under_a_running_store_is_named_and_reads_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (data, ledger) = (dir.path().join("data"), dir.path().join("ledger"));
    let server = Server::start(&data);
    server.run_load(&ledger, OPS);
    std::fs::rename(data.join("drive-2"), dir.path().join("aside")).unwrap();
    // The promise of `stele dev`: noticed within 10 s.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while drives_not_ok(&server).is_empty() {
        assert!(std::time::Instant::now() < deadline, "nobody noticed");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let bad = drives_not_ok(&server);
    assert!(bad.len() == 1 && bad[0].contains("drive-2"), "{bad:?}");
    server.check(&ledger);
    server.run_load(&ledger, OPS);
    server.check(&ledger);
}

#[test]
fn a_second_process_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let _server = Server::start(&data);
    let second = Server::command(&data).output().unwrap();
    assert!(!second.status.success());
    let stderr = String::from_utf8_lossy(&second.stderr);
    assert!(stderr.contains("another stele process"), "{stderr}");
}

#[test]
fn lost_metadata_is_never_replaced_by_an_empty_store() {
    let dir = tempfile::tempdir().unwrap();
    let (data, ledger) = (dir.path().join("data"), dir.path().join("ledger"));
    let server = Server::start(&data);
    server.run_load(&ledger, 20);
    assert!(server.terminate().success());
    std::fs::remove_dir_all(data.join("metadata")).unwrap();
    let refused = Server::command(&data).output().unwrap();
    assert!(!refused.status.success());
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(stderr.contains("metadata"), "{stderr}");
}
