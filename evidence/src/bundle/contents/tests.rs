use super::*;
use crate::bundle::testing::{range, whole};

fn text() -> String {
    String::from_utf8(whole(true).files["stele-bundle.json"].clone()).unwrap()
}

#[test]
fn what_is_printed_is_read() {
    for files in [whole(true), whole(false), range()] {
        let bytes = &files.files["stele-bundle.json"];
        let contents = Contents::parse(bytes).unwrap();
        assert_eq!(contents.print().as_ref(), Ok(bytes));
        assert!(contents.files().all(|name| files.files.contains_key(name)));
    }
}

#[test]
fn other_texts_are_refused() {
    let good = text();
    for (from, to) in [
        ("\"format\": \"stele-bundle\"", "\"format\": \"stele\""),
        ("\"version\": 1", "\"version\": 0"),
        ("\"version\": 1", "\"version\": \"1\""),
        ("\"version\": 1,", "\"version\": 1, \"version\": 1,"),
        ("\"version\": 1,", "\"version\": 1, \"more\": 1,"),
        ("\"bucket\"", "\"extra\": {}, \"bucket\""),
        ("stele 0.1.0", ""),
        ("stele 0.1.0", "stele\\n0.1.0"),
        ("stele 0.1.0", " stele"),
        ("2026-09-21T15:00:00Z", "2026-09-21"),
        ("\"scans\"", "\"\""),
        ("\"put\"", "\"Put\""),
        ("deadbeef\"", "deadbeeF\""),
        ("deadbeef\"", "deadbee\""),
        ("4343\"", "43\""),
        ("\"index\": 3", "\"index\": -3"),
        ("\"index\": 3", "\"index\": 3.0"),
        ("data/object-0001/record.cbor", "bagit.txt"),
        ("data/object-0001/record.cbor", "data/policy.txt"),
        ("data/object-0001/record.cbor", "data/object-0001/entry.tlog-proof"),
        ("\"chunks\": \"data/object-0001/chunks.bin\",", ""),
    ] {
        assert!(good.contains(from), "{from}");
        assert!(Contents::parse(good.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
    }
    assert!(Contents::parse(format!("{good}x").as_bytes()).is_err());
    assert!(matches!(Contents::parse(&vec![b' '; CONTENTS_MAX + 1]), Err(ContentsError::TooLarge)));
    let newer = good.replacen("\"version\": 1,", "\"version\": 3, \"more\": [],", 1);
    assert_eq!(Contents::parse(newer.as_bytes()), Err(ContentsError::Version(3)));
    let bare = good.replacen("\"version\": 1,", "\"version\": 2,", 1);
    assert_eq!(Contents::parse(bare.as_bytes()), Err(ContentsError::OutsideVersion));
    for list in ["anchors", "timestamps"] {
        for version in [1, 2] {
            let empty = good.replacen("\"version\": 1,", &format!("\"version\": {version}, \"{list}\": [],"), 1);
            assert!(matches!(Contents::parse(empty.as_bytes()), Err(ContentsError::Json(_))), "{list}");
        }
    }
}

#[test]
fn objects_contradict_neither_themselves_nor_each_other() {
    let good = Contents::parse(text().as_bytes()).unwrap();
    let fault = |change: &dyn Fn(&mut Contents)| {
        let mut contents = good.clone();
        change(&mut contents);
        contents.print().map(|_| ())
    };
    let object = |fault| Err(ContentsError::Object { number: 1, fault });
    let range = |first, length, slices: usize| {
        let slices = (0..slices).map(|n| format!("data/{n}")).collect();
        Some(BundleRange { first, length, proof: "data/r".to_owned(), slices })
    };
    let part = |range: Option<BundleRange>| {
        fault(&move |c: &mut Contents| {
            (c.objects[0].range, c.objects[0].chunks, c.objects[0].payload) = (range.clone(), None, None);
        })
    };
    assert_eq!(fault(&|_| ()), Ok(()));
    assert_eq!(part(range(0, 1, 1)), Ok(()));
    assert_eq!(part(range(0, 0, 1)), object(ObjectFault::Range));
    assert_eq!(part(range(u64::MAX, 1, 1)), object(ObjectFault::Range));
    assert_eq!(part(range(0, 1, 0)), object(ObjectFault::Slices));
    assert_eq!(part(range(0, 1, RANGE_CHUNKS_MAX + 1)), object(ObjectFault::Slices));
    assert_eq!(fault(&|c| c.objects[0].range = range(0, 1, 1)), object(ObjectFault::Both));
    assert_eq!(fault(&|c| c.objects[0].chunks = None), object(ObjectFault::Payload));
    assert_eq!(fault(&|c| c.objects[0].key = "k".repeat(KEY_BYTES_MAX + 1)), object(ObjectFault::Name));
    assert_eq!(fault(&|c| c.objects.clear()), Err(ContentsError::Objects));
    let many = fault(&|c| {
        (c.objects[0].range, c.objects[0].chunks, c.objects[0].payload) = (range(0, 1, 4000), None, None);
        c.objects = vec![c.objects[0].clone(); 5];
    });
    assert_eq!(many, Err(ContentsError::Files));
    let again = fault(&|c| {
        let mut second = c.objects[0].clone();
        (second.record, second.proof) = ("data/x".to_owned(), "data/y".to_owned());
        (second.chunks, second.payload) = (None, None);
        c.objects.push(second);
    });
    assert_eq!(again, Err(ContentsError::Object { number: 2, fault: ObjectFault::Order }));
}

#[test]
fn anchors_and_time_stamps_name_files_of_their_own() {
    let good = Contents { version: VERSION_OUTSIDE, ..Contents::parse(text().as_bytes()).unwrap() };
    let anchor = |proof: &str, consistency: Option<&str>| BundleAnchor {
        chain: ChainKind::Ledger,
        name: "own".to_owned(),
        proof: proof.to_owned(),
        size: 5,
        root: [7; 32],
        consistency: consistency.map(str::to_owned),
    };
    let with = |anchors: Vec<BundleAnchor>| Contents { anchors, ..good.clone() };
    let stamped = |response: &str, checkpoint: Option<&str>| {
        let timestamp = BundleTimestamp {
            response: response.to_owned(),
            checkpoint: checkpoint.map(str::to_owned),
            consistency: None,
        };
        Contents { timestamps: vec![timestamp], ..good.clone() }
    };
    let two = with(vec![anchor("data/a", Some("data/b")), anchor("data/c", None)]);
    for contents in [two, stamped("data/a", None), stamped("data/a", Some("data/b"))] {
        let text = contents.print().unwrap();
        assert_eq!(Contents::parse(&text).as_ref(), Ok(&contents));
        assert!(contents.files().any(|name| name == "data/a"));
        let bad = String::from_utf8(text).unwrap();
        for (from, to) in [("\"ledger\"", "\"Ledger\""), ("0707\"", "07\""), ("\"size\": 5", "\"size\": -5")] {
            assert!(!bad.contains(from) || Contents::parse(bad.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
        }
        assert!(Contents { version: VERSION, ..contents }.print().is_err());
    }
    let fault = |contents: Contents| contents.print().unwrap_err();
    for name in ["data/policy.txt", "data/object-0001/record.cbor"] {
        assert!(matches!(fault(with(vec![anchor(name, None)])), ContentsError::File { .. }));
        assert!(matches!(fault(stamped(name, None)), ContentsError::File { .. }));
        assert!(matches!(fault(stamped("data/a", Some(name))), ContentsError::File { .. }));
    }
    for name in ["bagit.txt", "data/../a"] {
        assert!(matches!(fault(with(vec![anchor("data/a", Some(name))])), ContentsError::File { .. }));
    }
    assert!(matches!(fault(with(vec![anchor("data/a", Some("data/a"))])), ContentsError::File { .. }));
    for name in ["", "a b", "a\u{3000}b", "a\nb"] {
        let named = BundleAnchor { name: name.to_owned(), ..anchor("data/a", None) };
        assert_eq!(fault(with(vec![named])), ContentsError::ChainName);
    }
    let many = (0..=crate::bundle::ANCHORS_MAX).map(|n| anchor(&format!("data/{n}"), None));
    assert_eq!(fault(with(many.collect())), ContentsError::Outside);
}
