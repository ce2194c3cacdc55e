use super::*;
use crate::cosignature::sign_note;
use crate::keys::Ed25519Signer;

/// The worked example of the signed-note specification.
const EXAMPLE_KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
const EXAMPLE: &str = "This is an example message.\n\n\u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

/// The example in the documentation of Go's note package.
const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const GO_NOTE: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

/// The example at the head of the specification; it publishes no key.
const POEM: &str = "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n\u{2014} quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n";

fn key(text: &str) -> TrustedKey {
    TrustedKey::parse(text).unwrap()
}

fn signer(name: &str, seed: u8) -> Ed25519Signer {
    Ed25519Signer::for_notes(KeyName::new(name).unwrap(), &[seed; 32])
}

#[test]
fn published_notes_verify() {
    for (vkey, note) in [(EXAMPLE_KEY, EXAMPLE), (PETER, GO_NOTE)] {
        let keys = [key(vkey)];
        let note = Note::parse(note.as_bytes()).unwrap();
        assert_eq!(note.verify(&keys), Ok(vec![Verified { key: &keys[0], time: None }]));
    }
    let note = Note::parse(POEM.as_bytes()).unwrap();
    assert!(note.text().ends_with("sole:\n\ned è subito sera.\n"), "the last blank line ends the text");
    assert_eq!(note.signatures()[0].name().as_str(), "quasimodo.example/salvatore");
    assert_eq!(note.signatures()[0].id().to_string(), "367ba04b");
    assert_eq!(note.verify(&[key(PETER)]), Err(VerifyError::NoKnownSignature));
}

#[test]
fn parsing_and_printing_keep_every_byte() {
    for text in [EXAMPLE, GO_NOTE, POEM] {
        let note = Note::parse(text.as_bytes()).unwrap();
        assert_eq!(note.as_bytes(), text.as_bytes());
        assert_eq!(Note::build(note.text(), note.signatures()), Ok(note.clone()));
        assert_eq!(note.with(note.signatures()), Ok(note), "no line twice");
    }
}

#[test]
fn malformed_notes_are_refused() {
    let line = EXAMPLE.lines().last().unwrap();
    let blob = line.rsplit(' ').next().unwrap();
    for (text, error) in [
        (String::new(), NoteError::NoSignatures),
        ("text\n".to_owned(), NoteError::NoSignatures),
        ("text\n\n".to_owned(), NoteError::NoSignatures),
        (format!("text\n{line}\n"), NoteError::NoSignatures),
        (format!("text\n\n{line}"), NoteError::NoSignatures),
        (format!("text\n\n{line}\n\n"), NoteError::NoSignatures),
        (format!("text\r\n\r\n{line}\r\n"), NoteError::Text),
        (format!("text\n\n{line}\r\n"), NoteError::Text),
        (format!("te\txt\n\n{line}\n"), NoteError::Text),
        (format!("te\0xt\n\n{line}\n"), NoteError::Text),
        (format!("text\n\n{line}\ntext\n"), NoteError::Line { number: 2 }),
        (format!("text\n\n {line}\n"), NoteError::Line { number: 1 }),
        (format!("text\n\n{line} \n"), NoteError::Line { number: 1 }),
        (format!("text\n\n- example.com/foo {blob}\n"), NoteError::Line { number: 1 }),
        (format!("text\n\n\u{2014}example.com/foo {blob}\n"), NoteError::Line { number: 1 }),
        (format!("text\n\n\u{2014}  {blob}\n"), NoteError::Line { number: 1 }),
        (format!("text\n\n\u{2014} example.com/foo  {blob}\n"), NoteError::Line { number: 1 }),
        (format!("text\n\n\u{2014} example+com {blob}\n"), NoteError::Line { number: 1 }),
        (format!("text\n\n\u{2014} example\u{2003}com {blob}\n"), NoteError::Line { number: 1 }),
        (format!("text\n\n\u{2014} example.com/foo {}\n", blob.trim_end_matches('=')), NoteError::Line { number: 1 }),
        (format!("text\n\n\u{2014} example.com/foo {}\n", blob.replace("QM=", "QN=")), NoteError::Line { number: 1 }),
        ("text\n\n\u{2014} example.com/foo Uw2QOg==\n".to_owned(), NoteError::Line { number: 1 }),
        ("text\n\n\u{2014} example.com/foo \n".to_owned(), NoteError::Line { number: 1 }),
    ] {
        assert_eq!(Note::parse(text.as_bytes()), Err(error), "{text:?}");
    }
    assert_eq!(Note::parse(b"te\xffxt\n\n"), Err(NoteError::Text));
    assert_eq!(Note::parse(&vec![b'a'; NOTE_MAX + 1]), Err(NoteError::TooLarge));
    assert_eq!(Note::build("text", &[]), Err(NoteError::Unterminated));
    assert_eq!(Note::build("text\n", &[]), Err(NoteError::NoSignatures));
}

#[test]
fn signatures_are_many_but_not_any_number() {
    let text = "text\n";
    let mine = signer("us.example/log", 1);
    let stranger = |n: usize| {
        let name = KeyName::new(&format!("w{n}.example")).unwrap();
        SignatureLine::new(name, KeyId([1, 2, 3, 4]), vec![0; 64])
    };
    let mut lines: Vec<SignatureLine> = (1..SIGNATURES_MAX).map(stranger).collect();
    lines.push(sign_note(&mine, text).unwrap());
    let keys = [TrustedKey::new(crate::keys::Signer::vkey(&mine).clone()).unwrap()];
    assert_eq!(Note::build(text, &lines).unwrap().verify(&keys).unwrap().len(), 1);
    assert_eq!(Note::build(text, &lines[lines.len() - 17..]).unwrap().verify(&keys).unwrap().len(), 1);
    lines.push(stranger(0));
    assert_eq!(Note::build(text, &lines), Err(NoteError::TooManySignatures));
}

#[test]
fn unknown_keys_are_ignored_and_known_ones_are_not() {
    let text = "text\n";
    let (one, two) = (signer("one.example", 1), signer("two.example", 2));
    let line = sign_note(&one, text).unwrap();
    let other = sign_note(&two, text).unwrap();
    let keys = [TrustedKey::new(crate::keys::Signer::vkey(&one).clone()).unwrap()];
    // The same name with another identifier, and the other way round: neither is ours.
    let same_name = SignatureLine::new(line.name().clone(), other.id(), vec![0; 64]);
    let same_id = SignatureLine::new(other.name().clone(), line.id(), vec![0; 64]);
    let note = Note::build(text, &[same_name.clone(), same_id.clone(), line.clone(), other.clone()]).unwrap();
    assert_eq!(note.verify(&keys).unwrap().len(), 1);
    let note = Note::build(text, &[same_name, same_id, other]).unwrap();
    assert_eq!(note.verify(&keys), Err(VerifyError::NoKnownSignature));
    // One wrong line of a known key spoils the right one, wherever it stands.
    let forged = SignatureLine::new(line.name().clone(), line.id(), vec![0; 64]);
    for lines in [[line.clone(), forged.clone()], [forged, line.clone()]] {
        let note = Note::build(text, &lines).unwrap();
        assert!(matches!(note.verify(&keys), Err(VerifyError::Wrong { .. })));
    }
    let twice = Note::build(text, &[line.clone(), line]).unwrap();
    assert_eq!(twice.verify(&keys).unwrap().len(), 2, "counting keys is for the caller");
    assert!(matches!(twice.verify(&[keys.clone(), keys].concat()), Err(VerifyError::Ambiguous { .. })));
}

#[test]
fn no_flipped_bit_verifies() {
    let keys = [key(EXAMPLE_KEY)];
    for at in 0..EXAMPLE.len() {
        for bit in 0..8 {
            let mut bytes = EXAMPLE.as_bytes().to_vec();
            bytes[at] ^= 1 << bit;
            let verified = Note::parse(&bytes).ok().and_then(|note| note.verify(&keys).ok());
            assert_eq!(verified, None, "byte {at} bit {bit}");
        }
    }
}

proptest::proptest! {
    #[test]
    fn what_parses_prints_the_same(text in "[ -~\\n]{0,40}", name in "[a-z./]{1,9}", blob in proptest::collection::vec(0u8.., 1..90)) {
        let line = SignatureLine::new(KeyName::new(&name).unwrap(), KeyId([0, 1, 2, 3]), blob);
        proptest::prop_assert_eq!(SignatureLine::parse(&line.to_string()), Some(line.clone()));
        let text = format!("{text}\n");
        let note = Note::build(&text, std::slice::from_ref(&line)).unwrap();
        proptest::prop_assert_eq!(note.text(), text.as_str());
        proptest::prop_assert_eq!(Note::parse(note.as_bytes()), Ok(note));
    }
}
