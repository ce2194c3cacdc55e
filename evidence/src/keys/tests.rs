use super::*;

fn name() -> KeyName {
    KeyName::new("example.com/log").unwrap()
}

fn trusted(signer: &dyn Signer) -> TrustedKey {
    TrustedKey::new(signer.vkey().clone()).unwrap()
}

/// RFC 8032 section 7.1, test 2.
#[test]
fn ed25519_matches_its_standard() {
    let seed = hex::decode("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb").unwrap();
    let public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    let signature = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                     085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
    let signer = Ed25519Signer::for_notes(name(), seed.as_slice().try_into().unwrap());
    assert_eq!(hex::encode(signer.vkey().public_key()), public);
    assert_eq!(hex::encode(signer.sign(&[0x72]).unwrap()), signature);
    let key = trusted(&signer);
    assert_eq!(key.check_message(&[0x72], &signer.sign(&[0x72]).unwrap()), Ok(()));
    assert_eq!(key.check_message(&[0x73], &signer.sign(&[0x72]).unwrap()), Err(SignatureError::Mismatch));
}

#[test]
fn signatures_are_of_one_length_and_not_malleable() {
    let ed25519 = Ed25519Signer::for_cosignatures(name(), &[7; 32]);
    let ml_dsa = MlDsa44Signer::new(name(), &[7; 32]);
    assert_eq!(ml_dsa.vkey().public_key().len(), 1312);
    for (signer, length) in
        [(&ed25519 as &dyn Signer, ED25519_SIGNATURE_LEN), (&ml_dsa as &dyn Signer, ML_DSA_44_SIGNATURE_LEN)]
    {
        let key = trusted(signer);
        let signature = signer.sign(b"message").unwrap();
        assert_eq!(signature.len(), length);
        assert_eq!(signer.sign(b"message").unwrap(), signature, "deterministic");
        assert_eq!(key.check_message(b"message", &signature), Ok(()));
        assert_eq!(key.check_message(b"", &signature), Err(SignatureError::Mismatch));
        assert_eq!(key.check_message(b"message", &signature[1..]), Err(SignatureError::Length));
        assert_eq!(key.check_message(b"message", &[&signature[..], &[0]].concat()), Err(SignatureError::Length));
        for at in 0..length {
            let mut flipped = signature.clone();
            flipped[at] ^= 1 << (at % 8);
            assert_eq!(key.check_message(b"message", &flipped), Err(SignatureError::Mismatch), "byte {at}");
        }
    }
}

/// S + L is the same number modulo the order of the group; a lenient verifier takes both.
#[test]
fn ed25519_scalars_are_canonical() {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let signer = Ed25519Signer::for_notes(name(), &[7; 32]);
    let mut signature = signer.sign(b"message").unwrap();
    let mut carry = 0u16;
    for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = u8::try_from(sum & 0xff).unwrap();
        carry = sum >> 8;
    }
    assert_eq!(trusted(&signer).check_message(b"message", &signature), Err(SignatureError::Mismatch));
}

/// A verifier that takes an index of the hint twice accepts a second encoding of one signature
/// (CVE-2026-24850). The hint ends the signature: 80 bytes of indices, 4 of running counts.
#[test]
fn ml_dsa_hints_are_canonical() {
    let signer = MlDsa44Signer::new(name(), &[7; 32]);
    let signature = signer.sign(b"message").unwrap();
    let hint = ML_DSA_44_SIGNATURE_LEN - 84;
    let (first, total) = (signature[hint + 80], signature[hint + 83]);
    assert!(first > 0 && total < 80, "the seed has a hint to repeat and room for it");
    let mut repeated = signature.clone();
    repeated.copy_within(hint..hint + 79, hint + 1);
    for count in &mut repeated[hint + 80..] {
        *count += 1;
    }
    let key = trusted(&signer);
    assert_eq!(key.check_message(b"message", &repeated), Err(SignatureError::Mismatch));
    // Bytes behind the last index are zero, or there would be more encodings still.
    let mut padded = signature;
    padded[hint + 79] = 1;
    assert_eq!(key.check_message(b"message", &padded), Err(SignatureError::Mismatch));
}

/// The identity point as a key makes the zero signature valid for every message.
#[test]
fn keys_that_sign_anything_are_refused() {
    let mut identity = vec![0; 32];
    identity[0] = 1;
    for public in [identity, vec![0; 32], vec![0xff; 32], vec![0; 31], vec![0; 33]] {
        let vkey = VerifierKey::new(name(), 1, public);
        assert_eq!(TrustedKey::new(vkey), Err(KeyError::PublicKey));
    }
    assert_eq!(TrustedKey::new(VerifierKey::new(name(), 6, vec![0; 1311])), Err(KeyError::PublicKey));
}

#[test]
fn unknown_types_are_refused() {
    for byte in [0u8, 2, 3, 5, 7, 0xfa, 0xff] {
        assert_eq!(TrustedKey::new(VerifierKey::new(name(), byte, vec![0; 32])), Err(KeyError::UnknownType(byte)));
    }
    let long = KeyName::new(&"n".repeat(256)).unwrap();
    let vkey = VerifierKey::new(long, 6, vec![0; 1312]);
    assert_eq!(TrustedKey::new(vkey), Err(KeyError::LongName));
}
