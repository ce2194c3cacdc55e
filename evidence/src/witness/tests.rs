use super::*;
use crate::cosignature::sign_note;
use crate::keys::{Ed25519Signer, MlDsa44Signer};
use crate::policy::tests::{ORIGIN, TIME, log, log_pq, witness, witness_pq};
use crate::proof::consistency;
use crate::tiles::tests::{Tiles, filled};
use crate::tree::reference;
use crate::vkey::KeyName;

struct World {
    tiles: Tiles,
    leaves: Vec<Hash>,
}

impl World {
    fn new() -> Self {
        let (tiles, leaves) = filled(20);
        Self { tiles, leaves }
    }

    fn head(&self, size: u64) -> Head {
        Head { size, root: reference::root(&self.leaves[..usize::try_from(size).unwrap()]) }
    }

    /// An honest request of the log to move the witness from `old` to `new`.
    fn request(&self, old: u64, new: u64) -> AddCheckpoint {
        let proof = consistency(&self.tiles, old, new).unwrap();
        AddCheckpoint::new(old, proof, signed(self.head(new))).unwrap()
    }
}

fn text(origin: &str, head: Head) -> String {
    Checkpoint::new(&KeyName::new(origin).unwrap(), head).text()
}

fn signed(head: Head) -> Note {
    let text = text(ORIGIN, head);
    Note::build(&text, &[sign_note(&log(), &text).unwrap()]).unwrap()
}

fn trusted(signer: &dyn Signer) -> TrustedKey {
    TrustedKey::new(signer.vkey().clone()).unwrap()
}

fn keys() -> Vec<TrustedKey> {
    vec![trusted(&log())]
}

fn forged_line(signer: &dyn Signer) -> SignatureLine {
    let vkey = signer.vkey();
    SignatureLine::new(vkey.name().clone(), vkey.id(), vec![1; 72])
}

/// The request and the answer that the specification shows; it publishes no keys for them.
#[test]
fn the_examples_of_the_specification() {
    let body = "old 20852014\n\
        PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
        jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
        5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n\
        /6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\
        \n\
        example.com/behind-the-sofa\n\
        20852163\n\
        CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\
        \n\
        \u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
        \u{2014} example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=\n";
    let request = AddCheckpoint::parse(body.as_bytes()).unwrap();
    assert_eq!((request.old(), request.proof.len()), (20_852_014, 4));
    assert_eq!((request.checkpoint.head().size, request.note.signatures().len()), (20_852_163, 2));
    assert_eq!(request.print(), body.as_bytes());
    let answer = "\u{2014} witness.example/w1 CMp+6LWBU0anHGH5aNDTJkH/gj79sG+T6+iP2ThYN5krrDJbR1HDnucjL39QsZTSvVjyQLrdk3DXDqI5G2HgLatVs0pWh6Up69HVOw==\n\
        \u{2014} witness.example/w1 I7rEps0pvK2UqkS2gSpVUDhrhVtQV9lgF6pRrWAvjJHjyWpW7VcE3SiOlVlbQNt64vWhO+DlkL0+UfzuOBMh9ChdMkP1vi/lCAsmlw==\n\
        \u{2014} witness.example/w2 AWui8Sk55XjYLOijihBjhqEH6nS1ndDymE0a+6idX7pLcnoB+dhnz0854aLZgrrKbYKA7nC3HNJhm/kWl7oJlqU3rXXvpysAdyP3wQ==\n";
    let lines = parse_lines(answer.trim_end_matches('\n')).unwrap();
    assert_eq!(lines.iter().map(|line| line.signature().len()).collect::<Vec<_>>(), [72, 72, 72]);
    assert_eq!(lines.iter().map(|line| format!("{line}\n")).collect::<String>(), answer);
}

#[test]
fn a_log_grows_under_the_eyes_of_a_witness() {
    let world = World::new();
    let mut stored = None;
    for (old, new) in [(0, 3), (3, 3), (3, 4), (4, 9), (9, 16), (16, 20)] {
        let request = AddCheckpoint::parse(&world.request(old, new).print()).unwrap();
        let decision = decide(stored, &request, &keys());
        assert_eq!(decision, Decision::Accept { state: world.head(new) }, "{old} to {new}");
        assert_eq!(decision.status(), 200);
        stored = Some(world.head(new));
    }
}

#[test]
fn every_status() {
    let world = World::new();
    let stored = Some(world.head(4));
    let request = world.request(4, 9);
    assert_eq!(decide(stored, &request, &[]), Decision::UnknownOrigin);
    assert_eq!(decide(stored, &request, &[trusted(&witness(0))]).status(), 404);
    // The name is known, the key is not.
    let replaced = Ed25519Signer::for_notes(KeyName::new(ORIGIN).unwrap(), &[55; 32]);
    let forbidden = decide(stored, &request, &[trusted(&replaced)]);
    assert_eq!(forbidden, Decision::Forbidden(VerifyError::NoKnownSignature));
    assert_eq!(forbidden.status(), 403);
    for (stored, size) in [(None, 0), (Some(world.head(3)), 3), (Some(world.head(9)), 9), (Some(world.head(20)), 20)] {
        let conflict = decide(stored, &request, &keys());
        assert_eq!((conflict.status(), conflict), (409, Decision::Conflict { size }));
    }
    let probe = AddCheckpoint::new(0, Vec::new(), signed(world.head(9))).unwrap();
    assert_eq!(decide(stored, &probe, &keys()), Decision::Conflict { size: 4 }, "how a client learns the size");
    assert_eq!(parse_size(print_size(4).as_bytes()), Some(4));
    for body in ["4", "+4\n", "04\n", "4\n\n", "4\r\n", "\n", ""] {
        assert_eq!(parse_size(body.as_bytes()), None, "{body:?}");
    }
    let unproven = AddCheckpoint::new(4, Vec::new(), signed(world.head(9))).unwrap();
    assert_eq!(decide(stored, &unproven, &keys()), Decision::Inconsistent(ProofError::WrongLength));
    let forked = AddCheckpoint::new(4, request.proof.clone(), signed(Head { size: 9, root: [9; 32] })).unwrap();
    assert_eq!(decide(stored, &forked, &keys()).status(), 422);
    let another_root = AddCheckpoint::new(4, Vec::new(), signed(Head { size: 4, root: [9; 32] })).unwrap();
    assert_eq!(decide(stored, &another_root, &keys()), Decision::Inconsistent(ProofError::Mismatch));
    let proof_of_nothing = AddCheckpoint::new(4, vec![[0; 32]], signed(world.head(4))).unwrap();
    assert_eq!(decide(stored, &proof_of_nothing, &keys()).status(), 422);
}

#[test]
fn trees_of_no_leaves() {
    let world = World::new();
    let empty = world.request(0, 0);
    assert_eq!(decide(None, &empty, &keys()), Decision::Accept { state: world.head(0) });
    assert_eq!(decide(Some(world.head(0)), &world.request(0, 5), &keys()).status(), 200, "grows from size zero");
    let rootless = AddCheckpoint::new(0, Vec::new(), signed(Head { size: 0, root: [9; 32] })).unwrap();
    for stored in [None, Some(world.head(0))] {
        assert_eq!(decide(stored, &rootless, &keys()), Decision::Inconsistent(ProofError::Mismatch));
        for size in [0, 5] {
            let proof = AddCheckpoint::new(0, vec![[0; 32]], signed(world.head(size))).unwrap();
            assert_eq!(decide(stored, &proof, &keys()), Decision::Inconsistent(ProofError::WrongLength));
        }
    }
}

#[test]
fn wrong_lines_of_the_log_are_forbidden_and_others_ignored() {
    let world = World::new();
    let request = world.request(0, 3);
    let with = |lines: &[SignatureLine]| AddCheckpoint::new(0, Vec::new(), request.note.with(lines).unwrap()).unwrap();
    let both = [trusted(&log()), trusted(&log_pq())];
    let forged = with(&[forged_line(&log_pq())]);
    assert!(matches!(decide(None, &forged, &both), Decision::Forbidden(VerifyError::Wrong { .. })));
    assert_eq!(decide(None, &forged, &keys()).status(), 200, "that key is not trusted yet, so its line is nobody's");
    let text = request.checkpoint.text();
    let rotated = with(&[cosign(&log_pq(), &text, 0).unwrap()]);
    assert_eq!(decide(None, &rotated, &both).status(), 200);
    assert_eq!(decide(None, &rotated, &[trusted(&log_pq())]).status(), 200);
    // A line that pretends to be the witness's own must not get into its answer or its state.
    let pretending = with(&[forged_line(&witness(0))]);
    let decision = decide(None, &pretending, &keys());
    assert_eq!(decision, Decision::Accept { state: world.head(3) });
    let body = cosignatures(&pretending, &[&witness(0)], TIME).unwrap();
    assert_eq!(body.lines().count(), 1);
    assert!(parse_cosignatures(body.as_bytes(), &request.note, &[trusted(&witness(0))]).is_ok());
}

#[test]
fn the_answer_is_the_witnesses_own_lines() {
    let world = World::new();
    let request = world.request(0, 3);
    let (ed25519, ml_dsa) = (witness(0), witness_pq(0));
    let body = cosignatures(&request, &[&ed25519, &ml_dsa], TIME).unwrap();
    assert!(body.starts_with("\u{2014} w0.example ") && body.ends_with('\n'));
    assert!(cosignatures(&request, &[&ml_dsa], 0).is_err(), "an answer states its time");
    assert!(cosignatures(&request, &[&log()], TIME).is_err());
    let known = [trusted(&ed25519), trusted(&ml_dsa)];
    let lines = parse_cosignatures(body.as_bytes(), &request.note, &known).unwrap();
    assert_eq!(lines.len(), 2);
    let complete = request.note.with(&lines).unwrap();
    assert_eq!(complete.signatures().len(), 3);
    assert_eq!(complete.verify(&known).unwrap().iter().filter_map(|one| one.time).collect::<Vec<_>>(), [TIME, TIME]);
    assert_eq!(parse_cosignatures(body.as_bytes(), &request.note, &known[..1]).unwrap().len(), 1);
    let nobody = parse_cosignatures(body.as_bytes(), &request.note, &[trusted(&witness(1))]);
    assert_eq!(nobody, Err(ResponseError::Signatures(VerifyError::NoKnownSignature)));
    let other = parse_cosignatures(body.as_bytes(), &world.request(0, 4).note, &known);
    assert!(matches!(other, Err(ResponseError::Signatures(VerifyError::Wrong { .. }))));
    let timeless = cosign(&ml_dsa, request.note.text(), 0).unwrap();
    let timeless = parse_cosignatures(format!("{timeless}\n").as_bytes(), &request.note, &known);
    assert_eq!(timeless, Err(ResponseError::NoTime));
    for body in ["", "\n", "OK\n", &body[..body.len() - 1], &format!("{body}\n")] {
        assert!(matches!(parse_cosignatures(body.as_bytes(), &request.note, &known), Err(ResponseError::Malformed(_))));
    }
}

#[test]
fn malformed_bodies_are_refused() {
    let world = World::new();
    let good = String::from_utf8(world.request(3, 9).print()).unwrap();
    let hash = good.lines().nth(1).unwrap();
    let lines = |n: usize| format!("{hash}\n").repeat(n);
    let (_, note) = good.split_once("\n\n").unwrap();
    for (body, error) in [
        (String::new(), RequestError::Old),
        (good.replace("old 3", "old +3"), RequestError::Old),
        (good.replace("old 3", "old 03"), RequestError::Old),
        (good.replace("old 3", "old -3"), RequestError::Old),
        (good.replace("old 3", "old  3"), RequestError::Old),
        (good.replace("old 3", "old 3 "), RequestError::Old),
        (good.replace("old 3", "old"), RequestError::Old),
        (good.replace("old 3", "3"), RequestError::Old),
        (good.replace("old 3\n", "old 3\r\n"), RequestError::Old),
        (good.replace("old 3", "old 18446744073709551616"), RequestError::Old),
        ("old 3".to_owned(), RequestError::Old),
        ("old 3\n".to_owned(), RequestError::NoBlankLine),
        (format!("old 3\n{hash}"), RequestError::NoBlankLine),
        (format!("old 3\n{hash}\n"), RequestError::NoBlankLine),
        (format!("old 3\n{note}"), RequestError::Proof { number: 1 }),
        (format!("old 3\n{}\n\n{note}", print_base64(&[0; 16])), RequestError::Proof { number: 1 }),
        (format!("old 3\n{}\n\n{note}", print_base64(&[0; 33])), RequestError::Proof { number: 1 }),
        (format!("old 3\n{hash}\n {hash}\n\n{note}"), RequestError::Proof { number: 2 }),
        (format!("old 3\n{}\n{note}", lines(64)), RequestError::LongProof),
        ("old 3\n\n".to_owned(), RequestError::Note(NoteError::NoSignatures)),
        (format!("old 3\n\n\n{note}"), RequestError::Checkpoint(CheckpointError::Origin)),
        (good.replace("\n9\n", "\n09\n"), RequestError::Checkpoint(CheckpointError::Size)),
        (good.replace("old 3", "old 10"), RequestError::Shrinks),
        (good.replace("=\n\n\u{2014}", "=\nextension\n\n\u{2014}"), RequestError::Extensions),
    ] {
        assert_eq!(AddCheckpoint::parse(body.as_bytes()), Err(error), "{body}");
        assert_eq!(error.status(), 400);
    }
    assert!(AddCheckpoint::parse(format!("old 3\n{}\n{note}", lines(63)).as_bytes()).is_ok());
    assert_eq!(AddCheckpoint::parse(&vec![b'a'; REQUEST_MAX + 1]), Err(RequestError::TooLarge));
}

#[test]
fn no_flipped_bit_is_cosigned() {
    let world = World::new();
    let body = world.request(3, 9).print();
    let stored = Some(world.head(3));
    for at in 0..body.len() {
        for bit in 0..8 {
            let mut flipped = body.clone();
            flipped[at] ^= 1 << bit;
            let accepted = AddCheckpoint::parse(&flipped).is_ok_and(|it| decide(stored, &it, &keys()).status() == 200);
            assert!(!accepted, "byte {at} bit {bit}");
        }
    }
}

proptest::proptest! {
    /// Whatever order requests come in and whatever state they claim, the witness only ever moves
    /// along one history, and never back.
    #[test]
    fn a_witness_never_goes_back(requests in proptest::collection::vec((0u64..=20, 0u64..=20, 0u8..3), 1..20)) {
        let world = World::new();
        let mut stored: Option<Head> = None;
        for (old, new, kind) in requests {
            let (old, new) = (old.min(new), old.max(new));
            let mut head = world.head(new);
            if kind == 0 {
                head.root[0] ^= 1;
            }
            let proof = consistency(&world.tiles, old, new).unwrap();
            let request = AddCheckpoint::new(old, proof, signed(head)).unwrap();
            if let Decision::Accept { state } = decide(stored, &request, &keys()) {
                proptest::prop_assert!(stored.is_none_or(|stored| stored.size <= state.size));
                let first = stored.is_none_or(|stored| stored.size == 0);
                proptest::prop_assert!(first || state == world.head(state.size), "a fork was cosigned");
                stored = Some(state);
                // A log may fork before the witness knows it; from there on it is another history.
                if state != world.head(state.size) {
                    break;
                }
            }
        }
    }
}

#[test]
fn an_ml_dsa_only_log_is_witnessed_as_well() {
    let world = World::new();
    let name = KeyName::new("pq.example/log").unwrap();
    let log = MlDsa44Signer::new(name, &[60; 32]);
    let text = text("pq.example/log", world.head(5));
    let note = Note::build(&text, &[cosign(&log, &text, TIME).unwrap()]).unwrap();
    let request = AddCheckpoint::new(0, Vec::new(), note).unwrap();
    let logs = [trusted(&log), trusted(&crate::policy::tests::log())];
    assert_eq!(decide(None, &request, &logs).status(), 200);
}
