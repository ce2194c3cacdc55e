use super::*;
use crate::keys::{Ed25519Signer, MlDsa44Signer};
use crate::note::{Note, VerifyError};
use crate::proof::Head;

const TIME: u64 = 1_679_315_147;

fn name(text: &str) -> KeyName {
    KeyName::new(text).unwrap()
}

fn trusted(signer: &dyn Signer) -> TrustedKey {
    TrustedKey::new(signer.vkey().clone()).unwrap()
}

fn checkpoint(size: u64) -> String {
    Checkpoint::new(&name("example.com/log"), Head { size, root: [9; 32] }).text()
}

/// A subtree cosignature made by torchwood, a Go library, from the tests of transparency-dev/formats:
/// leaves 8 to 13 of example.com/log.
#[test]
fn a_foreign_subtree_cosignature_verifies() {
    let mut lines = include_str!("../../golden/foreign-ml-dsa-subtree.txt").lines();
    let key = TrustedKey::parse(lines.next().unwrap()).unwrap();
    let line = SignatureLine::parse(lines.next().unwrap()).unwrap();
    assert_eq!((line.name(), line.id()), (key.vkey().name(), key.vkey().id()));
    let root = crate::lines::parse_hash(b"E7ERCtFloiK1fdb+B6/dLG0pM1nmIR0ETKBSauCjtVw=").unwrap();
    let statement =
        Statement { cosigner: key.vkey().name(), time: 0, origin: "example.com/log", start: 8, end: 13, root };
    assert_eq!(check_statement(&key, statement, line.signature()), Ok(None));
    for wrong in [
        Statement { origin: "example.com/other", ..statement },
        Statement { start: 4, ..statement },
        Statement { end: 12, ..statement },
        Statement { root: [0; 32], ..statement },
    ] {
        assert_eq!(check_statement(&key, wrong, line.signature()), Err(SignatureError::Mismatch));
    }
}

/// A checkpoint of a log with a published key, from C2SP/C2SP#99.
#[test]
fn a_foreign_checkpoint_verifies() {
    let origin = "sigsum.org/v1/tree/e796172b92befd62d9dc67e41c2f5bc9d3100a3023b20b1ca40288dd1c679e69";
    let public = hex::decode("66e0b858e462a609e66fe71370c816d8846ff103d5499a22a7fec37fdbc424a7").unwrap();
    let key = TrustedKey::new(crate::vkey::VerifierKey::new(name(origin), 1, public)).unwrap();
    let note = format!(
        "{origin}\n10\nHA5HAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n\u{2014} {origin} \
         gJ2ho0n8F8olcerUF1FFdv235A/5as/coWrpLrtE7ovMeP5whgwouYExowG/lTznxu6OUGjjt5yJQ6bXtTcf718MqAQ=\n"
    );
    let note = Note::parse(note.as_bytes()).unwrap();
    assert_eq!(note.verify(&[key]).unwrap().len(), 1);
    assert_eq!(Checkpoint::parse(note.text()).unwrap().head().size, 10);
}

/// The cosigned checkpoint that the specification shows, and the time it says is in it. It publishes
/// no keys.
#[test]
fn the_time_in_the_example_of_the_specification() {
    let line = "\u{2014} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==";
    let line = SignatureLine::parse(line).unwrap();
    assert_eq!(line.id().to_string(), "8d66cf3f");
    let (time, signature) = split_time(line.signature()).unwrap();
    assert_eq!((time, signature.len()), (TIME, 64));
}

#[test]
fn messages_are_laid_out_as_specified() {
    let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    let timed = format!("cosignature/v1\ntime 1679315147\n{text}");
    assert_eq!(timed_message(TIME, text), timed.as_bytes());
    let cosigner = name("w.example");
    let statement = Statement { cosigner: &cosigner, time: TIME, origin: "o/l", start: 0, end: 258, root: [0xab; 32] };
    let expected = "737562747265652f76310a00\
                    09772e6578616d706c65\
                    0000000064185\
                    0cb\
                    036f2f6c\
                    0000000000000000\
                    0000000000000102";
    assert_eq!(hex::encode(statement.message().unwrap()), format!("{expected}{}", "ab".repeat(32)));
}

#[test]
fn statements_that_break_a_rule_are_not_signed() {
    let long = name(&"n".repeat(256));
    let short = name(&"n".repeat(255));
    let origin = "o".repeat(255);
    let good = Statement { cosigner: &short, time: 0, origin: &origin, start: 8, end: 8, root: [0; 32] };
    assert_eq!(good.message().map(|m| m.len()), Ok(12 + 256 + 8 + 256 + 16 + 32));
    for (wrong, error) in [
        (Statement { cosigner: &long, ..good }, StatementError::Name),
        (Statement { origin: "", ..good }, StatementError::Name),
        (Statement { origin: &"o".repeat(256), ..good }, StatementError::Name),
        (Statement { time: 1, ..good }, StatementError::Time),
        (Statement { time: 1 << 63, start: 0, ..good }, StatementError::Time),
        (Statement { start: 9, ..good }, StatementError::Range),
    ] {
        assert_eq!(wrong.message(), Err(error));
    }
    let log = Ed25519Signer::for_notes(name("example.com/log"), &[1; 32]);
    let witness = Ed25519Signer::for_cosignatures(name("w.example"), &[2; 32]);
    let ml_dsa = MlDsa44Signer::new(name("w.example"), &[2; 32]);
    assert_eq!(cosign(&log, &checkpoint(1), TIME), Err(SignError::Type(1)));
    assert_eq!(sign_note(&witness, &checkpoint(1)), Err(SignError::Type(4)));
    assert_eq!(sign_note(&ml_dsa, &checkpoint(1)), Err(SignError::Type(6)));
    assert_eq!(cosign(&witness, &checkpoint(1), 0), Err(StatementError::Time.into()));
    assert_eq!(cosign(&witness, &checkpoint(1), 1 << 63), Err(StatementError::Time.into()));
    assert_eq!(cosign(&ml_dsa, &checkpoint(1), 1 << 63), Err(StatementError::Time.into()));
    assert_eq!(cosign(&witness, "not a checkpoint\n", TIME), Err(SignError::Checkpoint(CheckpointError::Lines)));
}

#[test]
fn log_and_witnesses_sign_one_note_with_both_algorithms() {
    let text = checkpoint(7);
    let log = Ed25519Signer::for_notes(name("example.com/log"), &[1; 32]);
    let log_pq = MlDsa44Signer::new(name("example.com/log"), &[1; 32]);
    let witness = Ed25519Signer::for_cosignatures(name("w.example"), &[2; 32]);
    let witness_pq = MlDsa44Signer::new(name("w.example"), &[2; 32]);
    let lines = [
        sign_note(&log, &text).unwrap(),
        cosign(&log_pq, &text, 0).unwrap(),
        cosign(&witness, &text, TIME).unwrap(),
        cosign(&witness_pq, &text, TIME).unwrap(),
    ];
    let lengths: Vec<usize> = lines.iter().map(|line| line.to_string().rsplit(' ').next().unwrap().len()).collect();
    assert_eq!(lengths, [92, 3244, 104, 3244]);
    let keys = [trusted(&log), trusted(&log_pq), trusted(&witness), trusted(&witness_pq)];
    let note = Note::build(&text, &lines).unwrap();
    let times: Vec<Option<u64>> = note.verify(&keys).unwrap().iter().map(|verified| verified.time).collect();
    assert_eq!(times, [None, None, Some(TIME), Some(TIME)]);
    // An older verifier, which knows only one of the algorithms, is content with that one.
    for key in &keys {
        assert_eq!(note.verify(std::slice::from_ref(key)).unwrap().len(), 1);
    }
    // The same lines under another text.
    for line in &lines {
        let moved = Note::build(&checkpoint(8), std::slice::from_ref(line)).unwrap();
        assert!(matches!(moved.verify(&keys), Err(VerifyError::Wrong { .. })));
    }
}

#[test]
fn time_and_cosigner_are_signed() {
    let text = checkpoint(7);
    let witness = Ed25519Signer::for_cosignatures(name("w.example"), &[2; 32]);
    let witness_pq = MlDsa44Signer::new(name("w.example"), &[2; 32]);
    for signer in [&witness as &dyn Signer, &witness_pq as &dyn Signer] {
        let key = trusted(signer);
        let line = cosign(signer, &text, TIME).unwrap();
        assert_eq!(key.check(&text, line.signature()), Ok(Some(TIME)));
        let mut later = line.signature().to_vec();
        later[7] ^= 1;
        assert_eq!(key.check(&text, &later), Err(SignatureError::Mismatch));
        later[0] = 0x80;
        assert_eq!(key.check(&text, &later), Err(SignatureError::Time));
        assert_eq!(key.check(&text, &later[..7]), Err(SignatureError::Length));
        assert_eq!(key.check(&text, &line.signature()[..71]), Err(SignatureError::Length));
        assert_eq!(key.check("no checkpoint\n", line.signature()), Err(SignatureError::NotACheckpoint));
    }
    let line = cosign(&witness_pq, &text, TIME).unwrap();
    let renamed =
        TrustedKey::new(crate::vkey::VerifierKey::new(name("v.example"), 6, witness_pq.vkey().public_key().to_vec()));
    assert_eq!(renamed.unwrap().check(&text, line.signature()), Err(SignatureError::Mismatch));
}

#[test]
fn only_ed25519_covers_extension_lines() {
    let text = checkpoint(7);
    let witness = Ed25519Signer::for_cosignatures(name("w.example"), &[2; 32]);
    let witness_pq = MlDsa44Signer::new(name("w.example"), &[2; 32]);
    let extended = format!("{text}extension\n");
    let line = cosign(&witness, &extended, TIME).unwrap();
    assert_eq!(trusted(&witness).check(&extended, line.signature()), Ok(Some(TIME)));
    assert_eq!(trusted(&witness).check(&text, line.signature()), Err(SignatureError::Mismatch));
    let line = cosign(&witness_pq, &extended, TIME).unwrap();
    assert_eq!(trusted(&witness_pq).check(&text, line.signature()), Ok(Some(TIME)));
}
