use super::*;
use crate::checkpoint::Checkpoint;
use crate::cosignature::{cosign, sign_note};
use crate::keys::Signer;
use crate::policy::tests::{ORIGIN, TIME, log, parties, witness};
use crate::proof::{Head, inclusion};
use crate::tiles::tests::filled;
use crate::tree::reference;
use crate::vkey::KeyName;

fn policy(rest: &str) -> Policy {
    Policy::parse(format!("{}{rest}", parties()).as_bytes()).unwrap()
}

/// A proof of entry `index` of the tree that tiles::tests fills.
fn proof(index: u64, size: u64) -> TlogProof {
    let (tiles, leaves) = filled(size);
    let head = Head { size, root: reference::root(&leaves) };
    let text = Checkpoint::new(&KeyName::new(ORIGIN).unwrap(), head).text();
    let lines = [sign_note(&log(), &text).unwrap(), cosign(&witness(0), &text, TIME).unwrap()];
    let checkpoint = Note::build(&text, &lines).unwrap();
    TlogProof { index, path: inclusion(&tiles, index, size).unwrap(), extra: Vec::new(), checkpoint }
}

#[test]
fn entries_are_proven_and_others_are_not() {
    let policy = policy("quorum W0\n");
    for (index, size) in [(0u64, 1u64), (0, 2), (5, 7), (6, 7), (255, 300), (299, 300)] {
        let proof = proof(index, size);
        let found = proof.verify(&index.to_be_bytes(), &policy).unwrap();
        assert_eq!((found.checkpoint.head().size, found.witnesses[0].time), (size, Some(TIME)));
        assert!(proof.verify(&(index + 1).to_be_bytes(), &policy).is_err());
        let elsewhere = TlogProof { index: index ^ 1, ..proof.clone() };
        assert!(elsewhere.verify(&index.to_be_bytes(), &policy).is_err());
        let beyond = TlogProof { index: size, ..proof };
        assert_eq!(beyond.verify(&size.to_be_bytes(), &policy), Err(NotProven::Path(ProofError::OutOfRange)));
    }
    let unwitnessed = proof(5, 7).verify(&5u64.to_be_bytes(), &self::policy("quorum W1\n"));
    assert!(matches!(unwitnessed, Err(NotProven::Refused(Refusal::NoQuorum(_)))));
}

#[test]
fn printing_and_parsing_agree() {
    for extra in [Vec::new(), vec![0], vec![7; 300]] {
        let proof = TlogProof { extra, ..proof(5, 7) };
        assert_eq!(TlogProof::parse(&proof.print()), Ok(proof));
    }
    let text = String::from_utf8(proof(0, 1).print()).unwrap();
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nindex 0\n\nexample.com/log\n1\n"), "{text}");
}

#[test]
fn malformed_proofs_are_refused() {
    let good = String::from_utf8(TlogProof { extra: b"extra".to_vec(), ..proof(5, 7) }.print()).unwrap();
    let hash = good.lines().nth(3).unwrap();
    let cases = [
        (String::new(), TlogProofError::Header),
        (good.replace("@v1", "@v2"), TlogProofError::Header),
        (good.replace("@v1\n", "@v1\r\n"), TlogProofError::Header),
        (format!("\n{good}"), TlogProofError::Header),
        ("c2sp.org/tlog-proof@v1".to_owned(), TlogProofError::Header),
        ("c2sp.org/tlog-proof@v1\n".to_owned(), TlogProofError::Truncated),
        ("c2sp.org/tlog-proof@v1\nindex 5".to_owned(), TlogProofError::Truncated),
        ("c2sp.org/tlog-proof@v1\nindex 5\n".to_owned(), TlogProofError::Truncated),
        (format!("c2sp.org/tlog-proof@v1\nindex 5\n{hash}\n"), TlogProofError::Truncated),
        (good.replace("extra ", "extra  "), TlogProofError::Extra),
        (good.replace("extra ZXh0cmE=", "extra "), TlogProofError::Extra),
        (good.replace("ZXh0cmE=", "ZXh0cmE"), TlogProofError::Extra),
        (good.replace("ZXh0cmE=", "ZXh0cmF="), TlogProofError::Extra),
        (good.replace("ZXh0cmE=", &print_base64(&vec![0; EXTRA_MAX + 1])), TlogProofError::Extra),
        (good.replace("extra ", "Extra "), TlogProofError::Index),
        (good.replace("index 5", "index +5"), TlogProofError::Index),
        (good.replace("index 5", "index 05"), TlogProofError::Index),
        (good.replace("index 5", "index  5"), TlogProofError::Index),
        (good.replace("index 5", "index"), TlogProofError::Index),
        (good.replace("index 5\n", ""), TlogProofError::Index),
        (good.replace("index 5", "index 18446744073709551616"), TlogProofError::Index),
        (good.replace(hash, &hash[1..]), TlogProofError::Path { number: 1 }),
        (good.replace(hash, &format!("{hash} ")), TlogProofError::Path { number: 1 }),
        (good.replace("\n\n", "\nx\n\n"), TlogProofError::Path { number: 4 }),
        (good.replacen("\n\n", &format!("\n{}\n", format!("{hash}\n").repeat(62)), 1), TlogProofError::LongPath),
        (
            good.replacen("\n\n", "\n\n\n\n", 1).replace('\u{2014}', "-"),
            TlogProofError::Checkpoint(NoteError::Line { number: 1 }),
        ),
    ];
    for (text, error) in cases {
        assert_eq!(TlogProof::parse(text.as_bytes()), Err(error), "{text}");
    }
    assert_eq!(TlogProof::parse(&vec![b'a'; TLOG_PROOF_MAX + 1]), Err(TlogProofError::TooLarge));
}

/// Nothing in a proof may change without notice, except the extra data that nobody signed, and lines
/// of keys that the policy does not list.
#[test]
fn no_flipped_bit_is_accepted() {
    let policy = policy("quorum W0\n");
    let bytes = proof(5, 7).print();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            let accepted =
                TlogProof::parse(&flipped).is_ok_and(|proof| proof.verify(&5u64.to_be_bytes(), &policy).is_ok());
            assert!(!accepted, "byte {at} bit {bit}");
        }
    }
    let with_extra = TlogProof { extra: vec![1, 2, 3], ..proof(5, 7) };
    assert!(with_extra.verify(&5u64.to_be_bytes(), &policy).is_ok(), "extra data is not authenticated");
}

#[test]
fn a_proof_from_another_log_or_tree_is_refused() {
    let policy = policy("quorum none\n");
    let (five, six) = (proof(5, 7), proof(5, 6));
    let truncated = TlogProof { checkpoint: six.checkpoint, ..five.clone() };
    assert!(matches!(truncated.verify(&5u64.to_be_bytes(), &policy), Err(NotProven::Path(_))));
    let stranger = format!("log {}\nquorum none\n", crate::policy::tests::log_pq().vkey());
    let stranger = Policy::parse(stranger.as_bytes()).unwrap();
    assert!(matches!(five.verify(&5u64.to_be_bytes(), &stranger), Err(NotProven::Refused(_))));
}
