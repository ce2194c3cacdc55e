use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
use proptest::test_runner::RngSeed;
use stele_types::ids::CommitSeq;

use super::*;

pub(crate) fn sample() -> Record {
    Record {
        event: Event::Put,
        bucket: "scans".into(),
        bucket_id: BucketId(7),
        key: "ct/0001.dcm".into(),
        version: VersionId { commit_seq: CommitSeq(42), nonce: 0xdead_beef },
        null_version: true,
        root: Some(ObjectRoot::from_bytes([0x11; 32])),
        len: 4096,
        time: 1_790_000_000_000,
        principal: "root".into(),
        source: "127.0.0.1".into(),
        node: NodeId(1),
        key_event: 3,
        previous: Some(LogIndex(900)),
        body_hash: Some(BodyHash::from_bytes([0x22; 32])),
        digests: vec![
            Digest::ETag { md5: [0x33; 16], parts: 0 },
            Digest::Checksum {
                algorithm: ChecksumAlgorithm::Crc32c,
                kind: ChecksumType::FullObject,
                value: vec![1, 2, 3, 4],
            },
        ],
        retention: None,
        legal_hold: false,
        digest: None,
        detail: String::new(),
        erased: Vec::new(),
    }
}

pub(crate) fn locked() -> Record {
    let retention = Retention { mode: RetentionMode::Compliance, until: 1_800_000_000_000 };
    Record { event: Event::Retention, retention: Some(retention), legal_hold: true, ..sample() }
}

/// Fields 17 and 18 come behind those of [`golden_record_and_entry`], which never change.
#[test]
fn golden_record_of_a_locked_version() {
    let (bytes, plain) = (locked().encode(), sample().encode());
    assert_eq!((bytes[0], plain[0]), (0xb3, 0xb1));
    assert_eq!(bytes[1..5], [0, 1, 1, 5]);
    assert_eq!(bytes[5..plain.len()], plain[5..]);
    assert_eq!(hex::encode(&bytes[plain.len()..]), "1182021b000001a3185c500012f5");
    assert_eq!(Record::decode(&bytes).unwrap(), locked());
    let held = Record { event: Event::LegalHold, retention: None, ..locked() };
    assert_eq!(hex::encode(&held.encode()[plain.len()..]), "12f5");
    assert_eq!(Record::decode(&held.encode()).unwrap(), held);
    for (at, value) in [(bytes.len() - 1, 0xf4), (bytes.len() - 11, 3), (bytes.len() - 12, 0x83), (4, 11)] {
        let mut wrong = bytes.clone();
        wrong[at] = value;
        assert!(Record::decode(&wrong).is_err(), "byte {at}");
    }
}

/// A report's digest, words, and erased entries: fields 19 to 21, behind all others.
pub(crate) fn of_the_cluster() -> Record {
    let run = |first, count| Run { first: LogIndex(first), count };
    Record {
        event: Event::Erasure,
        bucket: CLUSTER.into(),
        bucket_id: CLUSTER_ID,
        key: "erasure".into(),
        digest: Some([0x44; 32]),
        detail: "x".into(),
        erased: vec![run(3, 2), run(900, 1)],
        ..sample()
    }
}

#[test]
fn golden_record_of_the_cluster() {
    let bytes = of_the_cluster().encode();
    assert_eq!(bytes[..5], [0xb4, 0, 1, 1, 10]);
    let end = concat!(
        "135820",
        "4444444444444444444444444444444444444444444444444444444444444444",
        "146178",
        "158282030282190384",
        "01",
    );
    assert!(hex::encode(&bytes).ends_with(end), "{}", hex::encode(&bytes));
    assert_eq!(Record::decode(&bytes).unwrap(), of_the_cluster());
    for number in 1..=10 {
        let event = Event::from_number(number).unwrap();
        assert_eq!((event as u64, Event::from_name(event.name())), (number, Some(event)));
    }
    assert_eq!(Event::from_number(11), None);
}

#[test]
fn a_set_of_erased_entries_has_one_encoding() {
    let with = |runs: &[(u64, u64)]| {
        let erased = runs.iter().map(|(first, count)| Run { first: LogIndex(*first), count: *count }).collect();
        Record::decode(&Record { erased, ..of_the_cluster() }.encode())
    };
    assert!(with(&[(0, 1), (2, 1)]).is_ok() && with(&[(u64::MAX, 0)]).is_err());
    // Touching, overlapping, descending, empty, past the end.
    for runs in [&[(0, 2), (2, 1)][..], &[(0, 3), (2, 1)], &[(5, 1), (1, 1)], &[(0, 0)], &[(u64::MAX, 2)]] {
        assert_eq!(with(runs), Err(CborError::Field(21)), "{runs:?}");
    }
    let long = Record { detail: "x".repeat(DETAIL_BYTES_MAX + 1), ..of_the_cluster() };
    assert_eq!(Record::decode(&long.encode()), Err(CborError::Field(20)));
    let runs: Vec<(u64, u64)> = (0..=ERASED_RUNS_MAX as u64).map(|n| (n * 2, 1)).collect();
    assert!(with(&runs[..ERASED_RUNS_MAX]).is_ok() && with(&runs).is_err());
    let run = Run { first: LogIndex(5), count: 2 };
    let inside: Vec<u64> = (0..9).filter(|index| run.contains(LogIndex(*index))).collect();
    assert_eq!(inside, [5, 6]);
}

#[test]
fn golden_record_and_entry() {
    let bytes = sample().encode();
    let expected = concat!(
        "b1",
        "0001",
        "0101",
        "02657363616e73",
        "0307",
        "046b63742f303030312e64636d",
        "0550000000000000002a00000000deadbeef",
        "06f5",
        "075820",
        "1111111111111111111111111111111111111111111111111111111111111111",
        "08191000",
        "091b000001a0c4506c00",
        "0a64726f6f74",
        "0b693132372e302e302e31",
        "0c01",
        "0d03",
        "0e190384",
        "0f5820",
        "2222222222222222222222222222222222222222222222222222222222222222",
        "1082",
        "83000050",
        "33333333333333333333333333333333",
        "8302004401020304",
    );
    assert_eq!(hex::encode(&bytes), expected);
    assert_eq!(Record::decode(&bytes).unwrap(), sample());
    let entry = Entry::new(&Salt::from_bytes([9; 32]), &bytes);
    assert_eq!(hex::encode(entry.0), "bb0db4d55fa5e9dfa1e659b8e427d1a7e52fcb32afcced6218718502edaf4b86");
}

#[test]
fn entry_is_plain_hmac_sha_256() {
    // Computed independently, with Python's hmac module.
    let entry = Entry::new(&Salt::from_bytes([0x0b; 32]), b"Hi There");
    assert_eq!(hex::encode(entry.0), "198a607eb44bfbc69903a0f1cf2bbdc5ba0aa3f3d9ae3c1c7a3b1696a0b68cf7");
}

#[test]
fn every_cut_and_every_other_encoding_is_refused() {
    let bytes = sample().encode();
    for bytes in [&bytes, &locked().encode(), &of_the_cluster().encode()] {
        for cut in 0..bytes.len() {
            assert!(Record::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(Record::decode(&longer), Err(CborError::Trailing(1)));
    // Version number 1 written in two bytes.
    let mut wide = bytes.clone();
    wide.splice(2..3, [0x18, 0x01]);
    assert_eq!(Record::decode(&wide), Err(CborError::NotShortest(2)));
    // Field 0 repeated in place of field 1.
    let mut repeated = bytes;
    repeated[3] = 0;
    assert!(Record::decode(&repeated).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn whatever_decodes_encodes_to_the_same_bytes(flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..4)) {
        let mut bytes = if flips.len() % 2 == 0 { locked() } else { of_the_cluster() }.encode();
        for (at, value) in flips {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        if let Ok(record) = Record::decode(&bytes) {
            prop_assert_eq!(record.encode(), bytes);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let decoded = Record::decode(&bytes);
        prop_assert!(decoded.is_err() || decoded.unwrap().encode() == bytes);
    }
}

/// Found by the fuzz target: the greatest field number once stood for "nothing" in the reader.
#[test]
fn fields_behind_the_last_are_refused_whatever_their_number() {
    let mut bytes = sample().encode();
    let fields = bytes[0] - 0xa0;
    bytes[0] = 0xa0 + fields + 1;
    for number in [vec![22], [&[0x1b][..], &u64::MAX.to_be_bytes()].concat()] {
        let more = [&bytes[..], &number, &[0]].concat();
        assert!(Record::decode(&more).is_err(), "field {number:x?}");
    }
}
