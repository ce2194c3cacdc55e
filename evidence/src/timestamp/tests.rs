//! Real tokens, made by `openssl ts` with a throwaway authority: evidence/golden/tsa/make.sh.

use std::process::Command;

use super::request::encode_request;
use super::response::Response;
use super::roots::{ROOTS_MAX, Roots, RootsError};
use super::{RESPONSE_MAX, Stamped, TimestampError};
use crate::bundle::testing::outside::note;

pub(crate) const NONCE: u64 = 0x8877_6655_4433_2211;

macro_rules! golden {
    ($name:literal) => {
        include_bytes!(concat!("../../golden/tsa/", $name)).as_slice()
    };
}

pub(crate) const RSA_ROOT: &[u8] = golden!("root-rsa.pem");
pub(crate) const P256_ROOT: &[u8] = golden!("root-p256.pem");
pub(crate) const P256: &[u8] = golden!("p256.tsr");
const REQUEST: &[u8] = golden!("request.tsq");
/// Token, its root, and who stamped.
const GOOD: [(&[u8], &[u8], &str); 5] = [
    (golden!("rsa.tsr"), RSA_ROOT, "CN=tsa-rsa"),
    (P256, P256_ROOT, "CN=tsa-p256"),
    (golden!("p384.tsr"), P256_ROOT, "CN=tsa-p384"),
    (golden!("intermediate.tsr"), P256_ROOT, "CN=tsa-inter"),
    (golden!("sha384.tsr"), RSA_ROOT, "CN=tsa-rsa"),
];

pub(crate) fn roots(pems: &[&[u8]]) -> Roots {
    let mut roots = Roots::default();
    pems.iter().for_each(|pem| roots.add(pem).unwrap());
    roots
}

fn verify(response: &[u8], roots: &Roots) -> Result<Stamped, TimestampError> {
    Response::parse(response)?.verify(note().as_bytes(), roots, Some(NONCE))
}

#[test]
fn tokens_of_rsa_and_both_curves_verify() {
    for (response, root, authority) in GOOD {
        let stamped = verify(response, &roots(&[root])).unwrap();
        assert_eq!((stamped.authority.as_str(), stamped.policy.as_str()), (authority, "1.2.3.4.1"));
        assert!(stamped.rooted && stamped.latest > 1_790_000_000, "{}", stamped.latest);
        assert_eq!(verify(response, &roots(&[RSA_ROOT, P256_ROOT])), Ok(stamped.clone()));
        // Without roots it is looked at within itself, and says so.
        assert_eq!(verify(response, &Roots::default()), Ok(Stamped { rooted: false, ..stamped }));
        let other = if root == RSA_ROOT { P256_ROOT } else { RSA_ROOT };
        assert!(matches!(verify(response, &roots(&[other])), Err(TimestampError::Chain(_))));
    }
}

#[test]
fn other_bytes_and_nonces_are_refused() {
    let (response, roots) = (Response::parse(P256).unwrap(), roots(&[P256_ROOT]));
    let note = note();
    assert_eq!(response.verify(&note.as_bytes()[1..], &roots, None), Err(TimestampError::OtherBytes));
    assert_eq!(response.verify(b"", &roots, None), Err(TimestampError::OtherBytes));
    assert!(response.verify(note.as_bytes(), &roots, None).is_ok());
    for nonce in [0, NONCE ^ 1, NONCE >> 8] {
        assert_eq!(response.verify(note.as_bytes(), &roots, Some(nonce)), Err(TimestampError::OtherNonce));
    }
}

#[test]
fn authorities_that_may_not_stamp_are_refused() {
    let roots = roots(&[P256_ROOT]);
    assert!(matches!(verify(golden!("expired.tsr"), &roots), Err(TimestampError::Chain(_))));
    assert_eq!(verify(golden!("other-usage.tsr"), &roots), Err(TimestampError::KeyUsage));
    assert_eq!(verify(golden!("no-usage.tsr"), &roots), Err(TimestampError::KeyUsage));
    assert_eq!(Response::parse(golden!("refused.tsr")), Err(TimestampError::NotGranted(2)));
}

/// The status alone is not signed for, and 1 grants as 0 does.
#[test]
fn every_flipped_byte_is_refused() {
    for (response, root, _) in GOOD {
        let roots = roots(&[root]);
        for at in 0..response.len() {
            let mut flipped = response.to_vec();
            flipped[at] ^= 1 << (at % 8);
            let found = verify(&flipped, &roots);
            assert!(found.is_err() || at == 8, "byte {at}: {found:?}");
        }
        for len in [0, 1, response.len() / 2, response.len() - 1] {
            assert!(verify(&response[..len], &roots).is_err());
        }
        assert!(verify(&[response, &[0]].concat(), &roots).is_err());
    }
    assert_eq!(Response::parse(&vec![0; RESPONSE_MAX + 1]), Err(TimestampError::TooLarge));
}

#[test]
fn roots_are_certificates_in_pem() {
    let mut roots = Roots::default();
    assert_eq!(roots.add(b""), Err(RootsError::Pem));
    assert_eq!(roots.add(b"no certificate\n"), Err(RootsError::Pem));
    assert_eq!(roots.add(&RSA_ROOT[..RSA_ROOT.len() / 2]), Err(RootsError::Pem));
    assert_eq!(roots.add(&vec![b'\n'; ROOTS_MAX + 1]), Err(RootsError::TooLarge));
    let empty = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(roots.add(empty), Err(RootsError::Certificate(1)));
    assert!(roots.is_empty());
    let both = [RSA_ROOT, P256_ROOT].concat();
    assert_eq!((roots.add(&both), roots.anchors().len()), (Ok(()), 2));
    let many = P256_ROOT.repeat(super::roots::COUNT_MAX - 1);
    assert_eq!(roots.add(&many), Err(RootsError::TooMany));
}

#[test]
fn golden_request_is_written_byte_for_byte() {
    assert_eq!(encode_request(note().as_bytes(), NONCE).unwrap(), REQUEST);
}

/// The other implementation accepts what we accept; it may be content with bytes that nobody signed for.
#[test]
#[expect(clippy::disallowed_methods, reason = "files for another program in a temporary folder")]
fn openssl_comes_to_the_same_verdicts() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("note"), note().as_bytes()).unwrap();
    let openssl = |response: &[u8], root: &[u8]| {
        std::fs::write(path("response"), response).unwrap();
        std::fs::write(path("root"), root).unwrap();
        let mut command = Command::new("openssl");
        command.args(["ts", "-verify", "-in"]).arg(path("response")).arg("-data").arg(path("note"));
        let output = command.arg("-CAfile").arg(path("root")).output();
        output.expect("openssl is installed").status.success()
    };
    for (response, root, authority) in GOOD {
        assert!(openssl(response, root), "{authority}");
    }
    assert!(!openssl(P256, RSA_ROOT));
    for bad in [golden!("expired.tsr"), golden!("other-usage.tsr"), golden!("no-usage.tsr"), golden!("refused.tsr")] {
        assert!(!openssl(bad, P256_ROOT));
    }
    let (mut both, ours) = (0, roots(&[P256_ROOT]));
    for at in (0..P256.len()).step_by(P256.len() / 40) {
        let mut flipped = P256.to_vec();
        flipped[at] ^= 1 << (at % 8);
        let theirs = openssl(&flipped, P256_ROOT);
        both += usize::from(!theirs && verify(&flipped, &ours).is_err());
        assert!(theirs || verify(&flipped, &ours).is_err(), "byte {at}");
    }
    assert!(both >= 20, "only {both} refused by both");
}

#[test]
#[ignore = "writes evidence/golden; make.sh takes it from there"]
#[expect(clippy::disallowed_methods, reason = "test inputs, not stored data")]
fn write_golden_request() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/tsa");
    std::fs::write(folder.join("request.tsq"), encode_request(note().as_bytes(), NONCE).unwrap()).unwrap();
}
