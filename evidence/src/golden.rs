//! Files that every later version must still read, verify and write byte for byte: somebody may have
//! kept theirs. `evidence/golden` holds them; docs/formats/checkpoint.md and proof.md describe them.

use crate::checkpoint::Checkpoint;
use crate::cosignature::{cosign, sign_note};
use crate::keys::{Ed25519Signer, MlDsa44Signer, Signer};
use crate::note::Note;
use crate::policy::{Policy, Refusal};
use crate::proof::{Head, consistency, inclusion};
use crate::tiles::tests::filled;
use crate::tlog_proof::{NotProven, TlogProof};
use crate::tree::reference;
use crate::vkey::KeyName;
use crate::witness::{AddCheckpoint, Decision, decide};

pub(crate) const CHECKPOINT: &[u8] = include_bytes!("../golden/checkpoint.txt");
pub(crate) const PROOF: &[u8] = include_bytes!("../golden/entry.tlog-proof");
pub(crate) const POLICY: &[u8] = include_bytes!("../golden/policy.txt");

const ORIGIN: &str = "log.stele.example/golden";
const TIME: u64 = 1_790_000_000;
const SIZE: u64 = 300;
const INDEX: u64 = 257;

fn name(text: &str) -> KeyName {
    KeyName::new(text).unwrap()
}

fn log() -> Ed25519Signer {
    Ed25519Signer::for_notes(name(ORIGIN), &[1; 32])
}

fn log_pq() -> MlDsa44Signer {
    MlDsa44Signer::new(name(ORIGIN), &[2; 32])
}

fn witness() -> Ed25519Signer {
    Ed25519Signer::for_cosignatures(name("witness.example/one"), &[3; 32])
}

fn witness_pq() -> MlDsa44Signer {
    MlDsa44Signer::new(name("witness.example/two"), &[4; 32])
}

fn checkpoint() -> Note {
    let root = reference::root(&filled(SIZE).1);
    let text = Checkpoint::new(&name(ORIGIN), Head { size: SIZE, root }).text();
    let lines = [
        sign_note(&log(), &text).unwrap(),
        cosign(&log_pq(), &text, TIME).unwrap(),
        cosign(&witness(), &text, TIME + 1).unwrap(),
        cosign(&witness_pq(), &text, TIME + 2).unwrap(),
    ];
    Note::build(&text, &lines).unwrap()
}

fn proof() -> TlogProof {
    let path = inclusion(&filled(SIZE).0, INDEX, SIZE).unwrap();
    TlogProof { index: INDEX, path, extra: Vec::new(), checkpoint: checkpoint() }
}

fn policy() -> String {
    format!(
        "# Either key of the log, and both witnesses.\nlog {}\nlog {} https://log.stele.example/golden/\n\
         witness one {} https://witness.example/\nwitness two {}\n\
         group witnesses all one two\nquorum witnesses\n",
        log().vkey(),
        log_pq().vkey(),
        witness().vkey(),
        witness_pq().vkey()
    )
}

/// The request with which the log got the golden cosignatures.
pub(crate) fn request() -> AddCheckpoint {
    let mut note = checkpoint();
    note = Note::build(note.text(), &note.signatures()[..2]).unwrap();
    AddCheckpoint::new(255, consistency(&filled(SIZE).0, 255, SIZE).unwrap(), note).unwrap()
}

#[test]
fn golden_files_are_written_byte_for_byte() {
    assert_eq!(checkpoint().as_bytes(), CHECKPOINT);
    assert_eq!(proof().print(), PROOF);
    assert_eq!(policy().as_bytes(), POLICY);
}

#[test]
fn golden_files_verify() {
    let policy = Policy::parse(POLICY).unwrap();
    let found = policy.evaluate(&Note::parse(CHECKPOINT).unwrap()).unwrap();
    assert_eq!(found.checkpoint.head().size, SIZE);
    let times = |signed: &[crate::policy::SignedBy]| signed.iter().map(|by| by.time).collect::<Vec<_>>();
    assert_eq!(times(&found.logs), [None, Some(TIME)]);
    assert_eq!(times(&found.witnesses), [Some(TIME + 1), Some(TIME + 2)]);
    let proof = TlogProof::parse(PROOF).unwrap();
    assert_eq!(proof.verify(&INDEX.to_be_bytes(), &policy), Ok(found));
    assert!(proof.verify(&(INDEX + 1).to_be_bytes(), &policy).is_err());
    let request = request();
    let stored = Head { size: 255, root: reference::root(&filled(255).1) };
    let logs = [crate::keys::TrustedKey::new(log().vkey().clone()).unwrap()];
    assert!(matches!(decide(Some(stored), &request, &logs), Decision::Accept { .. }));
}

/// One bit in each byte: the other bits of a byte fare alike, and ML-DSA is slow to ask 100,000 times.
#[test]
fn a_flipped_byte_of_the_golden_proof_never_passes() {
    let policy = Policy::parse(POLICY).unwrap();
    for at in 0..PROOF.len() {
        let mut flipped = PROOF.to_vec();
        flipped[at] ^= 1 << (at % 8);
        let Ok(proof) = TlogProof::parse(&flipped) else { continue };
        match proof.verify(&INDEX.to_be_bytes(), &policy) {
            Ok(found) => {
                // A line of the log's other key is as good as ignored once its name is a stranger's.
                assert_eq!((found.logs.len(), found.witnesses.len()), (1, 2), "byte {at}");
                assert!(found.checkpoint.extensions().is_empty(), "byte {at}");
            }
            Err(NotProven::Refused(Refusal::NoQuorum(found))) => assert_eq!(found.witnesses.len(), 1, "byte {at}"),
            Err(_) => {}
        }
    }
}

#[test]
#[ignore = "writes evidence/golden; a changed file is a changed format"]
#[expect(clippy::disallowed_methods, reason = "test inputs, not stored data")]
fn write_golden_files() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    std::fs::write(folder.join("checkpoint.txt"), checkpoint().as_bytes()).unwrap();
    std::fs::write(folder.join("entry.tlog-proof"), proof().print()).unwrap();
    std::fs::write(folder.join("policy.txt"), policy()).unwrap();
}
