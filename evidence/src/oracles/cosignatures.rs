//! Cosignatures of ours before two implementations that are not: `openssl` for Ed25519, fips204 for ML-DSA-44. The
//! messages are put together here as the specification says, not by the code that signs.

use std::collections::BTreeSet;
use std::process::Command;

use fips204::ml_dsa_44;
use fips204::traits::{SerDes as _, Verifier as _};

use crate::checkpoint::Checkpoint;
use crate::cosignature::cosign;
use crate::keys::{Ed25519Signer, MlDsa44Signer, Signer, TrustedKey};
use crate::proof::Head;
use crate::vkey::KeyName;

const TIME: u64 = 1_790_000_000;
const ORIGIN: &str = "log.stele.example/oracle";

fn name(text: &str) -> KeyName {
    KeyName::new(text).unwrap()
}

/// What is signed, and the signature with its time.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Case {
    cosigner: String,
    origin: String,
    size: u64,
    root: [u8; 32],
    blob: Vec<u8>,
}

impl Case {
    fn of(signer: &dyn Signer) -> Self {
        let (size, root) = (70, [0xab; 32]);
        let text = Checkpoint::new(&name(ORIGIN), Head { size, root }).text();
        let blob = cosign(signer, &text, TIME).unwrap().signature().to_vec();
        Self { cosigner: signer.vkey().name().as_str().to_owned(), origin: ORIGIN.to_owned(), size, root, blob }
    }

    fn time(&self) -> u64 {
        u64::from_be_bytes(*self.blob.first_chunk().unwrap())
    }

    fn text(&self) -> String {
        Checkpoint::new(&name(&self.origin), Head { size: self.size, root: self.root }).text()
    }

    fn we_accept(&self, signer: &dyn Signer) -> bool {
        let key = signer.vkey();
        let vkey = crate::vkey::VerifierKey::new(name(&self.cosigner), key.signature_type(), key.public_key().to_vec());
        TrustedKey::new(vkey).unwrap().check(&self.text(), &self.blob).is_ok()
    }

    /// Changes that every cosignature covers, and some of the signature.
    fn changed(&self) -> BTreeSet<Self> {
        let mut changed = BTreeSet::new();
        for (at, bit) in [(0, 1), (3, 0x10), (7, 1), (7, 2)] {
            let mut other = self.clone();
            other.blob[at] ^= bit;
            changed.insert(other);
        }
        let signature = self.blob.len() - 8;
        for at in 0..16 {
            let mut other = self.clone();
            other.blob[8 + at * signature / 16] ^= 1 << (at % 8);
            changed.insert(other);
        }
        for size in [0, 69, 71, 700] {
            changed.insert(Self { size, ..self.clone() });
        }
        for at in [0, 15, 31] {
            let mut other = self.clone();
            other.root[at] ^= 1;
            changed.insert(other);
        }
        changed.insert(Self { origin: "log.stele.example/oracle2".into(), ..self.clone() });
        changed.insert(Self { origin: "log.stele.example/oracl".into(), ..self.clone() });
        changed
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "files for another program in a temporary folder")]
fn changed_ed25519_cosignatures_are_refused_by_openssl() {
    let signer = Ed25519Signer::for_cosignatures(name("witness.example/w1"), &[3; 32]);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // SubjectPublicKeyInfo of an Ed25519 key (RFC 8410).
    let prefix = hex::decode("302a300506032b6570032100").unwrap();
    std::fs::write(path("key"), [&prefix, signer.vkey().public_key()].concat()).unwrap();
    let openssl = |case: &Case| {
        let message = format!("cosignature/v1\ntime {}\n{}", case.time(), case.text());
        std::fs::write(path("message"), message).unwrap();
        std::fs::write(path("signature"), &case.blob[8..]).unwrap();
        let mut command = Command::new("openssl");
        command.args(["pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-rawin", "-inkey"]).arg(path("key"));
        let output = command.arg("-in").arg(path("message")).arg("-sigfile").arg(path("signature")).output();
        output.expect("openssl is installed").status.success()
    };
    let good = Case::of(&signer);
    assert!(good.we_accept(&signer) && openssl(&good));
    let changed = good.changed();
    assert!(changed.len() >= 20 && !changed.contains(&good));
    for case in changed {
        assert!(!case.we_accept(&signer), "{case:x?}");
        assert!(!openssl(&case), "{case:x?}");
    }
}

#[test]
fn changed_ml_dsa_cosignatures_are_refused_by_fips204() {
    let signer = MlDsa44Signer::new(name("witness.example/w2"), &[4; 32]);
    let key = ml_dsa_44::PublicKey::try_from_bytes(signer.vkey().public_key().try_into().unwrap()).unwrap();
    let fips204 = |case: &Case| {
        let mut message = b"subtree/v1\n\0".to_vec();
        for (text, number) in [(&case.cosigner, case.time()), (&case.origin, 0)] {
            message.push(u8::try_from(text.len()).unwrap());
            message.extend_from_slice(text.as_bytes());
            message.extend_from_slice(&number.to_be_bytes());
        }
        message.extend_from_slice(&case.size.to_be_bytes());
        message.extend_from_slice(&case.root);
        key.verify(&message, case.blob[8..].try_into().unwrap(), &[])
    };
    let good = Case::of(&signer);
    assert!(good.we_accept(&signer) && fips204(&good));
    let mut changed = good.changed();
    changed.insert(Case { cosigner: "witness.example/w3".into(), ..good.clone() });
    assert!(changed.len() >= 20 && !changed.contains(&good));
    for case in changed {
        assert!(!case.we_accept(&signer), "{}", case.size);
        assert!(!fips204(&case), "{}", case.size);
    }
}
