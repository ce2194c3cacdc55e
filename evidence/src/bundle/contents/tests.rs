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
    let newer = good.replacen("\"version\": 1,", "\"version\": 2, \"anchors\": [],", 1);
    assert_eq!(Contents::parse(newer.as_bytes()), Err(ContentsError::Version(2)));
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
