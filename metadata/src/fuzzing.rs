//! Entry points for the fuzz targets of this crate. Each takes any bytes at all and panics only if a
//! promise is broken. `fuzz/` runs them under libFuzzer; the test below replays their corpora.

use serde::Serialize;
use serde::de::DeserializeOwned;
use stele_rpc::meta::CommandEnvelope;
use stele_types::map::ClusterMap;
use stele_types::object::{BucketRow, Part};
use stele_types::pack::PackRow;

use crate::backup;
use crate::keyspace;
use crate::kv::{MemoryKv, MetaKv};
use crate::rows::{
    CurrentRow, DataRow, GroupRow, HashRow, KeyRow, LeaseRow, RecordRow, ReplyRow, RootRow, UploadRow, VersionRow,
    decode, encode, encode_named,
};
use crate::snapshot;

pub use crate::raft::fuzz_entry as fuzz_raft_entry;

/// What decodes survives a round trip.
fn round_trip<T: Serialize + DeserializeOwned + PartialEq>(data: &[u8]) {
    if let Ok(row) = decode::<T>(&[], data) {
        let again = decode::<T>(&[], &encode(&row));
        assert!(again.is_ok_and(|again| again == row), "a row changed on its way");
    }
}

/// Keys and values of every table.
pub fn fuzz_rows(data: &[u8]) {
    let _neither = (keyspace::split_name(data), keyspace::split_completed_at(data), keyspace::version_seq(data));
    let _ids = (keyspace::upload_id(data), keyspace::referenced_pack(data), keyspace::pack_of_owner(data));
    let _owner = keyspace::staged_owner(data);
    if let Ok(row) = CurrentRow::decode(&[], data) {
        assert_eq!(row.encode(), data);
    }
    let Some((table, value)) = data.split_first() else { return };
    match table % 14 {
        0 => round_trip::<GroupRow>(value),
        1 => round_trip::<RootRow>(value),
        2 => round_trip::<DataRow>(value),
        3 => round_trip::<HashRow>(value),
        4 => round_trip::<LeaseRow>(value),
        5 => round_trip::<VersionRow>(value),
        6 => round_trip::<KeyRow>(value),
        7 => round_trip::<UploadRow>(value),
        8 => round_trip::<RecordRow>(value),
        9 => round_trip::<BucketRow>(value),
        10 => round_trip::<PackRow>(value),
        11 => round_trip::<Part>(value),
        12 => round_trip::<ClusterMap>(value),
        _ => drop(decode::<ReplyRow>(&[], value)),
    }
}

/// A command as the raft log holds it.
pub(crate) fn fuzz_command(data: &[u8]) {
    if let Ok(envelope) = rmp_serde::from_slice::<CommandEnvelope>(data) {
        let again = rmp_serde::from_slice::<CommandEnvelope>(&encode_named(&envelope));
        assert!(again.is_ok_and(|again| again == envelope), "a command changed on its way");
    }
}

/// A snapshot stream is refused, or it is what would be written of its rows. Hashes keep a fuzzer
/// out, so that the rows of a frame are tried by themselves too.
pub fn fuzz_snapshot(data: &[u8]) {
    for stream in [data.to_vec(), snapshot::framed(data)] {
        let Ok(rows) = snapshot::read(&mut stream.as_slice()) else { continue };
        let kv = MemoryKv::default();
        kv.replace_all(&rows).expect("rows in order");
        let mut again = Vec::new();
        let view = kv.view().expect("a view of memory");
        let written = snapshot::write(&*view, &mut again).expect("memory takes it");
        let back = snapshot::read(&mut again.as_slice()).expect("what was written is read");
        assert_eq!(written, back.rows() as u64);
    }
}

/// A backup is refused, or read to its end without the key; nothing of one that nobody sealed opens. Hashes keep a fuzzer
/// out, so that a header and a frame are also tried with right ones: what stands before a zero byte, and what behind.
pub fn fuzz_backup(data: &[u8]) {
    static KEY: std::sync::OnceLock<backup::SecretKey> = std::sync::OnceLock::new();
    let key = KEY.get_or_init(|| backup::SecretKey::generate().expect("the system has randomness"));
    let at = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (text, frame) = data.split_at(at);
    for bytes in [data.to_vec(), backup::hashed(text, frame)] {
        if let Ok(proven) = backup::prove(&mut bytes.as_slice()) {
            assert_eq!((proven.bytes, proven.hash), (bytes.len() as u64, *blake3::hash(&bytes).as_bytes()));
            assert!(backup::read_facts(&mut bytes.as_slice()).is_ok_and(|facts| facts == proven.facts));
        }
        assert!(backup::open_rows(&mut bytes.as_slice(), key).is_err(), "nobody sealed it");
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _neither = (text.parse::<backup::Recipient>().is_ok(), backup::SecretKey::parse(text).is_ok());
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "test inputs, not stored data")]
    fn replay(target: &str, run: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut count = 0;
        for file in files {
            run(&std::fs::read(file.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0, "no seeds in {}", folder.display());
    }

    #[test]
    fn corpora_hold() {
        replay("metadata_rows", fuzz_rows);
        replay("raft_entry", fuzz_raft_entry);
        replay("snapshot", fuzz_snapshot);
        replay("backup", fuzz_backup);
    }

    #[test]
    #[ignore = "writes fuzz/corpus"]
    #[expect(clippy::disallowed_methods, reason = "test inputs, not stored data")]
    fn write_seeds() {
        let row = |table: u8, value: &[u8]| [&[table], value].concat();
        let version = crate::rows::tests::small_version();
        let current = CurrentRow::of(&version, stele_types::ids::CommitSeq(7)).encode();
        let seeds: [(&str, Vec<u8>); 8] = [
            ("metadata_rows", row(1, &encode(&RootRow::default()))),
            ("metadata_rows", row(2, &encode(&DataRow::default()))),
            ("metadata_rows", row(5, &encode(&version))),
            ("metadata_rows", row(6, &encode(&KeyRow::default()))),
            ("metadata_rows", current),
            ("raft_entry", crate::raft::entry_seed()),
            ("snapshot", snapshot::framed(b"\x02\0\0\0ab\x01\0\0\0c")),
            ("snapshot", b"\x02\0\0\0ab\x01\0\0\0c".to_vec()),
        ];
        for (at, (target, seed)) in seeds.into_iter().enumerate() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(format!("seed-{at}")), seed).unwrap();
        }
    }
}
