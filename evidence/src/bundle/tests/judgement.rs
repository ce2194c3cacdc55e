//! What a report says of good bundles, and how bytes, ranges and objects are chosen.

use std::io::Cursor;

use crate::bundle::claims::{Class, Outcome, Question};
use crate::bundle::files::{Files, ReadSeek};
use crate::bundle::report::Report;
use crate::bundle::testing::{
    WHOLE, deletion, event, judge, judge_bytes, leaves, log, long_chunks, policy, range, whole, writer,
};
use crate::bundle::verify::{ByteRange, Request, Unusable, verify};
use crate::bundle::writer::WriteError;

fn classes(report: &Report, question: Question) -> Vec<(Class, Outcome)> {
    let of = report.claims.iter().filter(|claim| claim.question == question);
    of.map(|claim| (claim.class, claim.outcome)).collect()
}

const GOOD: (Class, Outcome) = (Class::Verified, Outcome::Agrees);
const WORD: (Class, Outcome) = (Class::Asserted, Outcome::Open);
const OPEN: (Class, Outcome) = (Class::NotChecked, Outcome::Open);

#[test]
fn a_good_bundle_under_the_auditors_policy() {
    let report = judge(&whole(true)).unwrap();
    for question in [
        Question::Bag,
        Question::OneCheckpoint,
        Question::Time,
        Question::NonEquivocation,
        Question::Record,
        Question::Checkpoint,
        Question::Inclusion,
        Question::Root,
        Question::Bytes,
        Question::Chain,
    ] {
        assert_eq!(classes(&report, question), [GOOD], "{question:?}");
    }
    // BLAKE3, MD5, CRC-64, SHA-256; the composite checksum can't be computed.
    assert_eq!(classes(&report, Question::Digest), [GOOD, GOOD, GOOD, GOOD, OPEN]);
    assert_eq!(classes(&report, Question::EventTime), [WORD]);
    for question in [Question::Later, Question::Possession, Question::BeforeIngest] {
        assert_eq!(classes(&report, question), [OPEN], "{question:?}");
    }
    let time = report.claims.iter().find(|claim| claim.question == Question::Time).unwrap();
    assert!(time.time == "2026-09-21T14:15:00Z" && time.trusted.en.contains("witness.example/bundle"));
}

#[test]
fn further_digests_are_left_out_only_where_the_auditor_says_so() {
    let request = Request { root_only: true, ..Request::default() };
    let mut body = WHOLE.concat();
    for (change, expected) in [(0, GOOD), (1, (Class::Verified, Outcome::Differs))] {
        body[20] ^= change;
        let mut brought = Cursor::new(&body);
        let brought = ("brought.bin", &mut brought as &mut dyn ReadSeek);
        let report = verify(&whole(false), &request, Some(brought)).unwrap();
        assert_eq!(classes(&report, Question::Bytes), [expected]);
        assert_eq!(classes(&report, Question::Digest), [OPEN]);
    }
}

#[test]
fn by_the_bundles_own_policy_time_is_the_operators_word() {
    let report = verify(&deletion(), &Request::default(), None).unwrap();
    assert!(report.consistent());
    for question in [Question::Policy, Question::Time, Question::NonEquivocation] {
        assert_eq!(classes(&report, question), [WORD], "{question:?}");
    }
    assert_eq!(classes(&report, Question::Bytes), [OPEN, OPEN, OPEN]);
}

#[test]
fn files_of_another_length_are_named_by_what_is_missing_or_too_much() {
    let (bundle, body) = (whole(false), WHOLE.concat());
    let says = |bytes: &[u8], text: &str| {
        let report = judge_bytes(&bundle, bytes, None).unwrap();
        assert!(!report.consistent() && report.to_text().contains(text), "{}", report.to_text());
    };
    says(&body[..30], "bytes 30-43 are missing");
    says(&body[..5], "bytes 5-43 are missing");
    says(&[], "bytes 0-43 are missing");
    says(&[&body[..], b"more"].concat(), "4 bytes follow behind the end");
}

#[test]
fn a_range_of_the_whole_reads_only_its_chunks() {
    let (bundle, mut body) = (whole(false), WHOLE.concat());
    body[0] ^= 1;
    let report = judge_bytes(&bundle, &body, Some("18-20")).unwrap();
    assert!(report.consistent() && report.to_text().contains("bytes 18-20; 12 bytes were compared"));
    assert_eq!(classes(&report, Question::Digest), [OPEN]);
    assert!(!judge_bytes(&bundle, &body, Some("16-20")).unwrap().consistent());
    assert!(matches!(judge_bytes(&bundle, &body, Some("40-44")), Err(Unusable::Range { end: 43, .. })));
}

#[test]
fn a_range_bundle_takes_the_part_or_the_whole_file() {
    let (bundle, body) = (range(), long_chunks().concat());
    for (bytes, range, good) in [
        (&body[16_990..17_200], None, true),
        (&body[..], None, true),
        (&body[16_999..17_003], Some("16999-17002"), true),
        (&body[16_998..17_002], Some("16999-17002"), false),
        (&body[..], Some("16999-17002"), true),
        (&body[..17_299], None, false),
        (&[], None, false),
    ] {
        let report = judge_bytes(&bundle, bytes, range).unwrap();
        assert_eq!(report.consistent(), good, "{} bytes, {range:?}\n{}", bytes.len(), report.to_text());
    }
    assert!(matches!(judge_bytes(&bundle, &body, Some("16989-17000")), Err(Unusable::Range { start: 16_990, .. })));
}

#[test]
fn an_empty_object_and_which_object_a_file_is_of() {
    let mut writer = writer();
    let (first, second, proof_1, proof_2) = (event(3), event(9), log().proof(3), log().proof(9));
    let object = writer.object(&first.0, &first.1, &proof_1).unwrap();
    object.whole(3, &mut leaves(&WHOLE).into_iter().map(Ok), None).unwrap();
    let mut nothing: &[u8] = &[];
    let object = writer.object(&second.0, &second.1, &proof_2).unwrap();
    object.whole(0, &mut std::iter::empty(), Some(&mut nothing)).unwrap();
    let bundle = writer.finish().unwrap();
    assert!(judge(&bundle).unwrap().to_text().contains("no bytes, as the record says"));
    assert!(matches!(judge_bytes(&bundle, &[], None), Err(Unusable::WhichObject { count: 2 })));
    let policy = policy();
    let with = |object, bytes: &[u8]| {
        let request = Request { policy: Some(&policy), object: Some(object), ..Request::default() };
        let mut bytes = Cursor::new(bytes.to_vec());
        verify(&bundle, &request, Some(("f", &mut bytes as &mut dyn ReadSeek))).map(|report| report.consistent())
    };
    assert!(with(1, &WHOLE.concat()).unwrap() && with(2, &[]).unwrap());
    assert!(!with(1, &[]).unwrap() && !with(2, &[0]).unwrap());
    assert!(matches!(with(3, &[]), Err(Unusable::NoObject { number: 3, count: 2 })));
    assert!(matches!(judge_bytes(&deletion(), &[], None), Err(Unusable::NothingToCompare)));
}

#[test]
fn the_writer_refuses_what_would_not_verify() {
    let (put, proof) = (event(3), log().proof(3));
    assert!(matches!(writer().object(&put.0, &event(4).1, &proof), Err(WriteError::NotProven(_))));
    assert!(matches!(writer().object(&put.0[1..], &put.1, &proof), Err(WriteError::Record(_))));
    let chunks = leaves(&WHOLE);
    let mut other = writer();
    let object = other.object(&put.0, &put.1, &proof).unwrap();
    assert!(matches!(object.whole(2, &mut chunks[..2].iter().copied().map(Ok), None), Err(WriteError::OtherRoot)));
    assert!(matches!(other.object(&put.0, &put.1, &proof), Err(WriteError::Failed)));
    assert!(matches!(other.finish(), Err(WriteError::Failed)));
    let mut counted = writer();
    let object = counted.object(&put.0, &put.1, &proof).unwrap();
    assert!(matches!(object.whole(2, &mut chunks.iter().copied().map(Ok), None), Err(WriteError::Length { .. })));
    let mut short = writer();
    let object = short.object(&put.0, &put.1, &proof).unwrap();
    let mut body: &[u8] = b"short";
    let written = object.whole(3, &mut chunks.iter().copied().map(Ok), Some(&mut body));
    assert!(matches!(written, Err(WriteError::Length { name }) if name.ends_with("payload.bin")));
    let mut twice = writer();
    for _ in 0..2 {
        twice.object(&put.0, &put.1, &proof).unwrap().without_bytes().unwrap();
    }
    assert!(matches!(twice.finish(), Err(WriteError::Contents(_))));
    assert!(matches!(writer().finish(), Err(WriteError::Contents(_))));
}

#[test]
fn ranges_have_one_text() {
    assert_eq!(ByteRange::parse("0-0"), Some(ByteRange { first: 0, last: 0 }));
    for text in ["", "-", "1", "1-", "-1", "2-1", "01-2", "+1-2", "1-2-3", "0-18446744073709551615", " 1-2"] {
        assert_eq!(ByteRange::parse(text), None, "{text}");
    }
}

#[test]
fn the_three_forms_say_the_same() {
    let report = judge(&whole(true)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    assert_eq!(json["consistent"], true);
    assert_eq!(json["claims"].as_array().unwrap().len(), report.claims.len());
    assert_eq!(json["claims"][0]["outcome"], "agrees");
    let page = report.to_html();
    for part in ["一致", "证据包完整且未被改动", "ct/0001.dcm", "BLAKE3", "asserted by the operator"] {
        assert!(page.contains(part), "{part}");
    }
    for tag in ["<script", "<img", "<link", "src=", "href=", "url(", "@import", "http://", "https://"] {
        assert!(!page.contains(tag), "{tag}");
    }
    let root = crate::bundle::testing::whole_record().root.unwrap().to_string();
    assert!(page.contains(&format!("{} {}", &root[..4], &root[4..8])));
}

/// A payload that is only read as far as it is compared.
#[test]
fn a_bundle_without_its_contents_is_none() {
    assert!(matches!(judge(&Files::default()), Err(Unusable::Bag(_))));
}
