//! Damage: every flipped byte of every file, and files that are missing, cut, renamed or too many.

use std::io;

use crate::bundle::bag::BagError;
use crate::bundle::files::{Files, ListError, Listed, ReadSeek, Source};
use crate::bundle::names::{CONTENTS, COVERED, DECLARATION, FETCH, INFO, POLICY, TAG_DIGESTS};
use crate::bundle::testing::outside::{anchored, stamped};
use crate::bundle::testing::{RANGE, WHOLE, deletion, judge, judge_bytes, long_chunks, range, reseal, whole};
use crate::bundle::verify::{Request, Unusable, verify};

/// What an auditor is told, if it is bad news.
fn refusal(files: &Files, own_policy: bool) -> Option<String> {
    let judged = if own_policy { judge(files) } else { verify(files, &Request::default(), None) };
    match judged {
        Err(error) => Some(error.to_string()),
        Ok(report) if report.consistent() => None,
        Ok(report) => Some(report.to_text()),
    }
}

/// One bit in each byte: the other bits of a byte fare alike.
fn flip_all(good: &Files, own_policy: bool) {
    assert_eq!(refusal(good, own_policy), None);
    for (name, bytes) in &good.files {
        for at in 0..bytes.len() {
            let mut files = good.clone();
            files.files.get_mut(name).unwrap()[at] ^= 1 << (at % 8);
            let said = refusal(&files, own_policy);
            assert!(said.as_ref().is_some_and(|said| said.contains(name)), "{name}, byte {at}: {said:?}");
        }
    }
}

#[test]
fn every_flipped_byte_of_a_whole_object_is_named() {
    flip_all(&whole(true), true);
}

#[test]
fn every_flipped_byte_of_a_range_is_named() {
    flip_all(&range(), true);
}

#[test]
fn every_flipped_byte_of_a_deletion_is_named_even_by_the_bundles_own_policy() {
    flip_all(&deletion(), false);
}

#[test]
fn every_flipped_byte_of_anchors_is_named() {
    flip_all(&anchored(), true);
}

#[test]
fn every_flipped_byte_of_a_time_stamp_is_named() {
    flip_all(&stamped(), true);
}

#[test]
fn every_flipped_byte_of_the_auditors_file_is_named_by_its_chunk() {
    let (bundle, good) = (whole(false), WHOLE.concat());
    assert!(judge_bytes(&bundle, &good, None).unwrap().consistent());
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x80;
        let report = judge_bytes(&bundle, &bytes, None).unwrap();
        let chunk = ["bytes 0-16 differ", "bytes 17-28 differ", "bytes 29-43 differ"];
        let says = chunk[usize::from(at >= 17) + usize::from(at >= 29)];
        let text = report.to_text();
        assert!(!report.consistent() && text.contains(says) && text.contains("brought.bin"), "byte {at}: {text}");
    }
}

#[test]
fn every_flipped_byte_of_the_auditors_part_is_named_exactly() {
    let (bundle, body) = (range(), long_chunks().concat());
    let part = &body[16_990..17_200];
    for at in 0..part.len() {
        let mut bytes = part.to_vec();
        bytes[at] ^= 1;
        let (report, place) = (judge_bytes(&bundle, &bytes, None).unwrap(), RANGE.start + at as u64);
        assert!(!report.consistent());
        assert!(report.to_text().contains(&format!("bytes {place}-{place} differ")), "{}", report.to_text());
    }
}

#[test]
fn missing_cut_longer_and_renamed_files_are_named() {
    for good in [whole(true), range(), deletion(), anchored(), stamped()] {
        for name in good.files.keys() {
            let mut missing = good.clone();
            let mut bytes = missing.files.remove(name).unwrap();
            assert!(refusal(&missing, true).unwrap().contains(name), "{name} is missing");
            let mut renamed = missing.clone();
            renamed.files.insert(format!("{name}x"), bytes.clone());
            assert!(refusal(&renamed, true).unwrap().contains(name), "{name} is renamed");
            let mut longer = good.clone();
            longer.files.get_mut(name).unwrap().push(b'\n');
            assert!(refusal(&longer, true).unwrap().contains(name), "{name} is longer");
            for keep in [0, bytes.len() / 2, bytes.len() - 1] {
                bytes.truncate(bytes.len().min(keep.max(bytes.len() / 2)));
                let mut cut = good.clone();
                cut.files.get_mut(name).unwrap().truncate(keep);
                assert!(refusal(&cut, true).unwrap().contains(name), "{name} is cut to {keep}");
            }
        }
    }
}

#[test]
fn strangers_are_refused() {
    for name in ["report.html", "manifest-md5.txt", "data/object-0001/more.bin", FETCH, "datax/a", "data"] {
        let mut files = whole(true);
        files.files.insert(name.to_owned(), b"x".to_vec());
        assert!(refusal(&files, true).unwrap().contains(name), "{name}");
        // Neither does it help to list it.
        reseal(&mut files);
        assert!(refusal(&files, true).unwrap().contains(name), "{name}");
    }
    let mut files = whole(true);
    files.files.insert(FETCH.to_owned(), Vec::new());
    assert!(matches!(judge(&files), Err(Unusable::Bag(BagError::Fetch))));
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for name in [
        "../policy.txt",
        "data/../../policy.txt",
        "/policy.txt",
        "data/Policy.txt",
        "data//policy.txt",
        "data/./policy.txt",
        "data\\policy.txt",
        "data/.policy.txt",
        "data/poli\u{ff43}y.txt",
        "c:policy.txt",
    ] {
        let mut on_disk = whole(true);
        on_disk.files.insert(name.to_owned(), b"x".to_vec());
        assert!(matches!(judge(&on_disk), Err(Unusable::Bag(BagError::Name { .. }))), "{name}");
        // The same in the list and in the contents, without such a file.
        for file in ["manifest-sha256.txt", CONTENTS] {
            let mut listed = whole(true);
            let text = String::from_utf8(listed.files[file].clone()).unwrap();
            let escaped = if file == CONTENTS { name.replace('\\', "\\\\") } else { name.to_owned() };
            let text = text.replacen("data/object-0001/record.cbor", &escaped, 1);
            listed.files.insert(file.to_owned(), text.into_bytes());
            seal_tags(&mut listed);
            let said = refusal(&listed, true).unwrap();
            assert!(said.contains(file), "{name} in {file}: {said}");
        }
    }
}

/// As `reseal`, and leaves the list of payload digests as it is.
fn seal_tags(files: &mut Files) {
    use sha2::Digest as _;
    let digest = |name: &&str| ((*name).to_owned(), sha2::Sha256::digest(&files.files[*name]).into());
    let covered = COVERED.iter().map(digest).collect();
    files.files.insert(TAG_DIGESTS.to_owned(), crate::bundle::bag::print_digests(&covered).into_bytes());
}

#[test]
fn the_bag_states_what_it_holds() {
    let replaced = |name: &str, from: &str, to: &str| {
        let mut files = whole(true);
        let text = String::from_utf8(files.files[name].clone()).unwrap();
        assert!(text.contains(from), "{text}");
        files.files.insert(name.to_owned(), text.replacen(from, to, 1).into_bytes());
        seal_tags(&mut files);
        refusal(&files, true)
    };
    for (name, from, to) in [
        (DECLARATION, "1.0", "0.97"),
        (DECLARATION, "UTF-8", "UTF-16"),
        (DECLARATION, "\n", "\r\n"),
        (INFO, "Payload-Oxum: ", "Payload-Oxum: 1"),
        (INFO, "Payload-Oxum: ", "Payload-Oxum: 0.0\nPayload-Oxum: "),
        (INFO, "Bagging-Date: ", "Bagging-Date"),
        ("manifest-sha256.txt", "  data", " data"),
        ("manifest-sha256.txt", "  data", " *data"),
        ("manifest-sha256.txt", "  data/object-0001/record.cbor", "  data/object-0001/entry.tlog-proof"),
        (CONTENTS, "\"version\": 1", "\"version\": 2"),
        (CONTENTS, "stele-bundle", "other-bundle"),
        (CONTENTS, "\"tool\"", "\"toll\""),
    ] {
        let said = replaced(name, from, to);
        assert!(said.as_ref().is_some_and(|said| said.contains(name)), "{name}, {to}: {said:?}");
    }
    // People may add what they like to bag-info.txt.
    assert_eq!(replaced(INFO, "Bagging-Date: ", "Contact-Name: A Clerk,\n  Court\nBagging-Date: "), None);
}

/// A source that lists more than there is.
struct Listing<'a>(&'a Files, Vec<String>);

impl Source for Listing<'_> {
    fn list(&self) -> Result<Vec<Listed>, ListError> {
        let mut listed = self.0.list()?;
        listed.extend(self.1.iter().map(|name| Listed { name: name.clone(), len: 1 }));
        Ok(listed)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn ReadSeek + '_>> {
        self.0.open(name)
    }
}

#[test]
fn archives_with_two_files_of_a_name_or_too_many_are_refused() {
    let files = whole(true);
    let judge = |names: Vec<String>| verify(&Listing(&files, names), &Request::default(), None);
    assert!(judge(Vec::new()).is_ok());
    assert!(matches!(judge(vec![POLICY.to_owned()]), Err(Unusable::Bag(BagError::Twice { name })) if name == POLICY));
    let many = (0..=crate::bundle::FILES_MAX).map(|n| format!("data/{n}")).collect();
    assert!(matches!(judge(many), Err(Unusable::Bag(BagError::TooMany))));
}
