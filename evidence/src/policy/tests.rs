use super::*;
use crate::cosignature::{cosign, sign_note};
use crate::keys::{Ed25519Signer, MlDsa44Signer, Signer};
use crate::note::SignatureLine;
use crate::proof::Head;
use crate::vkey::KeyName;

pub(crate) const ORIGIN: &str = "example.com/log";
pub(crate) const TIME: u64 = 1_800_000_000;

fn name(text: &str) -> KeyName {
    KeyName::new(text).unwrap()
}

pub(crate) fn log() -> Ed25519Signer {
    Ed25519Signer::for_notes(name(ORIGIN), &[1; 32])
}

pub(crate) fn log_pq() -> MlDsa44Signer {
    MlDsa44Signer::new(name(ORIGIN), &[2; 32])
}

/// Witness number `n`, from 0.
pub(crate) fn witness(n: u8) -> Ed25519Signer {
    Ed25519Signer::for_cosignatures(name(&format!("w{n}.example")), &[100 + n; 32])
}

pub(crate) fn witness_pq(n: u8) -> MlDsa44Signer {
    MlDsa44Signer::new(name(&format!("w{n}.example")), &[150 + n; 32])
}

/// Lines for the log and the witnesses W0 to W5.
pub(crate) fn parties() -> String {
    let mut text = format!("log {}\n", log().vkey());
    for n in 0..6 {
        text.push_str(&format!("witness W{n} {}\n", witness(n).vkey()));
    }
    text
}

fn policy(rest: &str) -> Policy {
    Policy::parse(format!("{}{rest}", parties()).as_bytes()).unwrap()
}

fn fault(text: &str) -> PolicyFault {
    Policy::parse(text.as_bytes()).unwrap_err().reason
}

fn text() -> String {
    Checkpoint::new(&name(ORIGIN), Head { size: 7, root: [9; 32] }).text()
}

/// A checkpoint signed by the log, and by these witnesses each a second after the other.
fn note(witnesses: &[u8]) -> Note {
    let mut lines = vec![sign_note(&log(), &text()).unwrap()];
    for n in witnesses {
        lines.push(cosign(&witness(*n), &text(), TIME + u64::from(*n)).unwrap());
    }
    Note::build(&text(), &lines).unwrap()
}

fn names(signed: &[SignedBy]) -> Vec<String> {
    signed.iter().map(|by| String::from_utf8(by.party.name.clone()).unwrap()).collect()
}

#[test]
fn the_example_of_the_specification() {
    let policy = policy("group X 2 W0 W1 W2\ngroup Y any W3 W4 W5\ngroup X-and-Y all X Y\nquorum X-and-Y\n");
    for (witnesses, enough) in [
        (&[][..], false),
        (&[0, 1], false),
        (&[0, 3], false),
        (&[3, 4, 5], false),
        (&[0, 1, 2], false),
        (&[0, 1, 3], true),
        (&[1, 2, 5], true),
        (&[0, 1, 2, 3, 4, 5], true),
    ] {
        match policy.evaluate(&note(witnesses)) {
            Ok(found) => assert!(enough && found.witnesses.len() == witnesses.len(), "{witnesses:?}"),
            Err(Refusal::NoQuorum(found)) => assert!(!enough && found.witnesses.len() == witnesses.len()),
            Err(other) => panic!("{witnesses:?}: {other}"),
        }
    }
}

#[test]
fn the_result_says_who_signed_and_when() {
    let found = policy("quorum W4\n").evaluate(&note(&[4, 2])).unwrap();
    assert_eq!(found.checkpoint.head().size, 7);
    assert_eq!(found.logs.len(), 1);
    assert_eq!((found.logs[0].party.key.name().as_str(), found.logs[0].time), (ORIGIN, None));
    assert_eq!(names(&found.witnesses), ["W2", "W4"]);
    assert_eq!((found.witnesses[0].time, found.witnesses[1].time), (Some(TIME + 2), Some(TIME + 4)));
}

#[test]
fn without_a_quorum_nobody_needs_to_cosign() {
    assert_eq!(policy("quorum none\n").evaluate(&note(&[])).map(|found| found.witnesses), Ok(Vec::new()));
    let nobody = Policy::parse(b"quorum none\n").unwrap();
    assert_eq!(nobody.evaluate(&note(&[])), Err(Refusal::UnknownOrigin { origin: ORIGIN.to_owned() }));
}

#[test]
fn a_witness_counts_once_and_with_its_earliest_time() {
    let policy = policy("group G 2 W0 W1\nquorum G\n");
    let lines = [
        sign_note(&log(), &text()).unwrap(),
        cosign(&witness(0), &text(), TIME + 9).unwrap(),
        cosign(&witness(0), &text(), TIME).unwrap(),
    ];
    let Err(Refusal::NoQuorum(found)) = policy.evaluate(&Note::build(&text(), &lines).unwrap()) else {
        panic!("one witness is not two")
    };
    assert_eq!((found.witnesses.len(), found.witnesses[0].time), (1, Some(TIME)));
}

#[test]
fn both_algorithms_serve_logs_and_witnesses() {
    let text_of_policy = format!(
        "log {}\nlog {} https://log.example/\nwitness A {}\nwitness B {}\ngroup G all A B\nquorum G\n",
        log().vkey(),
        log_pq().vkey(),
        witness(0).vkey(),
        witness_pq(1).vkey()
    );
    let policy = Policy::parse(text_of_policy.as_bytes()).unwrap();
    assert_eq!(policy.logs()[1].url.as_deref(), Some(&b"https://log.example/"[..]));
    let mut lines =
        vec![cosign(&witness(0), &text(), TIME).unwrap(), cosign(&witness_pq(1), &text(), TIME + 1).unwrap()];
    let evaluate = |lines: &[SignatureLine]| policy.evaluate(&Note::build(&text(), lines).unwrap());
    assert_eq!(evaluate(&lines), Err(Refusal::NotSigned));
    lines.push(cosign(&log_pq(), &text(), 0).unwrap());
    assert_eq!(evaluate(&lines).unwrap().logs.len(), 1);
    lines.push(sign_note(&log(), &text()).unwrap());
    let found = evaluate(&lines).unwrap();
    assert_eq!((found.logs.len(), found.logs[1].time), (2, None));
    assert_eq!(found.witnesses[1].time, Some(TIME + 1));
}

#[test]
fn a_log_speaks_for_its_own_origin_only() {
    let other = Ed25519Signer::for_notes(name("other.example"), &[3; 32]);
    let text_of_policy = format!("log {}\nlog {}\nquorum none\n", log().vkey(), other.vkey());
    let policy = Policy::parse(text_of_policy.as_bytes()).unwrap();
    let signed = Note::build(&text(), &[sign_note(&other, &text()).unwrap()]).unwrap();
    assert_eq!(policy.evaluate(&signed), Err(Refusal::NotSigned));
    let stranger = Checkpoint::new(&name("third.example"), Head { size: 7, root: [9; 32] }).text();
    let signed = Note::build(&stranger, &[sign_note(&log(), &stranger).unwrap()]).unwrap();
    assert!(matches!(policy.evaluate(&signed), Err(Refusal::UnknownOrigin { .. })));
}

#[test]
fn one_wrong_line_of_a_listed_key_refuses_the_note() {
    let good = note(&[0, 1]);
    let forged = SignatureLine::new(name("w5.example"), witness(5).vkey().id(), vec![0; 72]);
    let spoilt = good.with(&[forged]).unwrap();
    assert!(matches!(policy("quorum W0\n").evaluate(&spoilt), Err(Refusal::Signatures(VerifyError::Wrong { .. }))));
    let unlisted = format!("log {}\nwitness W0 {}\nquorum W0\n", log().vkey(), witness(0).vkey());
    assert!(Policy::parse(unlisted.as_bytes()).unwrap().evaluate(&spoilt).is_ok(), "a stranger's line is ignored");
    assert!(matches!(
        policy("quorum none\n").evaluate(&Note::build("text\n", good.signatures()).unwrap()),
        Err(Refusal::Checkpoint(_))
    ));
}

#[test]
fn whitespace_comments_and_octets() {
    let spaced = format!(
        "# a comment\n\n \t \n\t# another\n  log\t{}  \nwitness \u{212a} {}\t\nwitness K {} http://w.example/é\n\
         group g 1 K \u{212a}\nquorum g\n# end\n",
        log().vkey(),
        witness(0).vkey(),
        witness(1).vkey()
    );
    let policy = Policy::parse(spaced.as_bytes()).unwrap();
    assert_eq!(policy.witnesses().len(), 2, "a Kelvin sign is no K");
    assert!(policy.evaluate(&note(&[1])).is_ok());
    let octets = [
        format!("witness \u{e9} {}\n", witness(0).vkey()).into_bytes(),
        b"group \xff\xfe all \xc3\xa9\nquorum \xff\xfe\n".to_vec(),
    ];
    assert!(Policy::parse(&octets.concat()).is_ok(), "names are octets");
    for byte in [0u8, 1, 8, 0x0b, 0x0c, b'\r', 0x1f, 0x7f] {
        let text = [b"# \n#", &[byte][..], b"\nquorum none\n"].concat();
        assert_eq!(Policy::parse(&text), Err(PolicyError { line: 2, reason: PolicyFault::Byte }), "{byte:#x}");
    }
    // A no-break space is part of a word.
    assert_eq!(fault("quorum\u{a0}none\n"), PolicyFault::Keyword);
}

#[test]
fn every_rule_has_its_error() {
    let cases = [
        ("", PolicyFault::NoQuorum),
        ("group g all W0 W1\n", PolicyFault::NoQuorum),
        ("quorum", PolicyFault::Unterminated),
        ("quorum none", PolicyFault::Unterminated),
        ("quorum\n", PolicyFault::Words),
        ("quorum W0 W1\n", PolicyFault::Words),
        ("quorum none\nquorum none\n", PolicyFault::SecondQuorum),
        ("quorum nobody\n", PolicyFault::UnknownName),
        ("quorum g\ngroup g any W0\n", PolicyFault::UnknownName),
        ("group g any W0 nobody\nquorum g\n", PolicyFault::UnknownName),
        ("group g any g\nquorum g\n", PolicyFault::UnknownName),
        ("group g any h\ngroup h any W0\nquorum g\n", PolicyFault::UnknownName),
        ("group g any none\nquorum g\n", PolicyFault::Reserved),
        ("group none any W0\nquorum none\n", PolicyFault::Reserved),
        ("group W0 any W1\nquorum W0\n", PolicyFault::DuplicateName),
        ("group g any W0\ngroup g any W1\nquorum g\n", PolicyFault::DuplicateName),
        ("group g any W0 W0\nquorum g\n", PolicyFault::SecondMembership),
        ("group g any W0\ngroup h any W0\nquorum h\n", PolicyFault::SecondMembership),
        ("group g 0 W0\nquorum g\n", PolicyFault::Threshold),
        ("group g 3 W0 W1\nquorum g\n", PolicyFault::Threshold),
        ("group g +1 W0\nquorum g\n", PolicyFault::Threshold),
        ("group g 01 W0\nquorum g\n", PolicyFault::Threshold),
        ("group g -1 W0\nquorum g\n", PolicyFault::Threshold),
        ("group g ALL W0\nquorum g\n", PolicyFault::Threshold),
        ("group g 18446744073709551617 W0\nquorum g\n", PolicyFault::Threshold),
        ("group g any\nquorum g\n", PolicyFault::Words),
        ("group g\nquorum g\n", PolicyFault::Words),
        ("log\nquorum none\n", PolicyFault::Words),
        ("witness W9\nquorum none\n", PolicyFault::Words),
        ("Quorum none\n", PolicyFault::Keyword),
        ("policy x\n", PolicyFault::Keyword),
        ("log key\nquorum none\n", PolicyFault::Key(KeyError::Vkey(crate::vkey::VkeyError::Shape))),
    ];
    for (rest, expected) in cases {
        assert_eq!(fault(&format!("{}{rest}", parties())), expected, "{rest:?}");
    }
    assert!(Policy::parse(format!("{}group any any W0\ngroup log 1 any\nquorum log\n", parties()).as_bytes()).is_ok());
    assert_eq!(Policy::parse(&vec![b'\n'; POLICY_MAX + 1]).unwrap_err().reason, PolicyFault::TooLarge);
}

#[test]
fn keys_stand_in_one_line_and_sign_what_they_may() {
    let public = witness(0).vkey().public_key().to_vec();
    let renamed = VerifierKey::new(name("alias.example"), 4, public.clone());
    let as_log = VerifierKey::new(name("alias.example"), 1, public);
    for (rest, expected) in [
        (format!("log {}\n", log().vkey()), PolicyFault::DuplicateKey),
        (format!("log {as_log}\n"), PolicyFault::DuplicateKey),
        (format!("witness again {}\n", witness(0).vkey()), PolicyFault::DuplicateKey),
        (format!("witness again {renamed}\n"), PolicyFault::DuplicateKey),
        (format!("log {}\n", witness(9).vkey()), PolicyFault::KeyType(4)),
        (format!("witness again {}\n", Ed25519Signer::for_notes(name("x"), &[77; 32]).vkey()), PolicyFault::KeyType(1)),
        (format!("witness W0 {}\n", witness(9).vkey()), PolicyFault::DuplicateName),
        (format!("witness none {}\n", witness(9).vkey()), PolicyFault::Reserved),
    ] {
        assert_eq!(fault(&format!("{}{rest}quorum none\n", parties())), expected, "{rest:?}");
    }
    let changed = log().vkey().to_string().replace("example.com/log", "example.com/lag");
    assert_eq!(fault(&format!("log {changed}\n")), PolicyFault::Key(KeyError::Vkey(crate::vkey::VkeyError::WrongId)));
    let bytes = [b"log \xff\xfe".as_slice(), log().vkey().to_string().as_bytes(), b"\nquorum none\n"].concat();
    assert!(matches!(Policy::parse(&bytes).unwrap_err().reason, PolicyFault::Key(_)));
}

#[test]
fn thirty_two_of_everything_and_more_fit() {
    let mut text = String::new();
    for n in 0..64u8 {
        let log = Ed25519Signer::for_notes(name(&format!("log{n}.example")), &[n; 32]);
        text.push_str(&format!("log {}\n", log.vkey()));
        let witness = Ed25519Signer::for_cosignatures(name(&format!("w{n}.example")), &[100 + n; 32]);
        text.push_str(&format!("witness W{n} {}\ngroup G{n} any W{n}\n", witness.vkey()));
    }
    assert!(Policy::parse(format!("{text}quorum G63\n").as_bytes()).is_ok());
    let extra = [
        format!("log {}\n", log_pq().vkey()),
        format!("witness x {}\n", witness(90).vkey()),
        "group x any G1\n".to_owned(),
    ];
    for line in extra {
        assert_eq!(fault(&format!("{text}{line}quorum G63\n")), PolicyFault::TooMany);
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_judged(bytes in proptest::collection::vec(0u8.., 0..200)) {
        proptest::prop_assert!(Policy::parse(&bytes).is_err() || bytes.windows(6).any(|word| word == b"quorum"));
    }

    /// The quorum of one group is a count.
    #[test]
    fn thresholds_count(k in 1u64..=6, cosigners in proptest::collection::btree_set(0u8..6, 0..=6)) {
        let policy = policy(&format!("group g {k} W0 W1 W2 W3 W4 W5\nquorum g\n"));
        let cosigners: Vec<u8> = cosigners.into_iter().collect();
        let accepted = policy.evaluate(&note(&cosigners)).is_ok();
        proptest::prop_assert_eq!(accepted, cosigners.len() as u64 >= k);
    }
}
