//! Signatures of Project Wycheproof, made to be mistaken: hints in a second encoding, norms just out of bounds, scalars
//! beyond the order, keys of zeros. What the vectors call valid is accepted, and everything else refused.

use ml_dsa::{MlDsa44, Signature};
use wycheproof::{TestResult, eddsa, mldsa_verify};

use crate::keys::{SignatureType, TrustedKey};
use crate::vkey::{KeyName, VerifierKey};

fn key(signature_type: SignatureType, public: &[u8]) -> Option<TrustedKey> {
    let name = KeyName::new("wycheproof.example/key").unwrap();
    TrustedKey::new(VerifierKey::new(name, signature_type as u8, public.to_vec())).ok()
}

/// Accepted and refused.
#[derive(Default, PartialEq, Eq, Debug)]
struct Verdicts {
    valid: usize,
    invalid: usize,
}

impl Verdicts {
    fn count(&mut self, accepted: bool, expected: TestResult, which: &str) {
        // Neither set has a case that may be judged either way.
        assert_ne!(expected, TestResult::Acceptable, "{which}");
        assert_eq!(accepted, expected == TestResult::Valid, "{which}");
        *(if accepted { &mut self.valid } else { &mut self.invalid }) += 1;
    }
}

#[test]
fn wycheproof_on_ml_dsa_44() {
    let set = mldsa_verify::TestSet::load(mldsa_verify::TestName::MlDsa44Verify).unwrap();
    let (mut verdicts, mut contexts) = (Verdicts::default(), Verdicts::default());
    for group in &set.test_groups {
        let key = key(SignatureType::SubtreeMlDsa44, &group.pubkey);
        for test in &group.tests {
            let which = format!("{}: {}", test.tc_id, test.comment);
            let ours = key.as_ref().is_some_and(|key| key.check_message(&test.msg, &test.sig).is_ok());
            match test.ctx.as_deref().filter(|context| !context.is_empty()) {
                None => verdicts.count(ours, test.result, &which),
                Some(context) => {
                    // Notes have no context: a signature that is valid with one is none of ours.
                    assert!(!ours, "{which}");
                    contexts.count(with_context(&group.pubkey, &test.msg, context, &test.sig), test.result, &which);
                }
            }
        }
    }
    assert_eq!(verdicts, Verdicts { valid: 75, invalid: 98 });
    assert_eq!(contexts, Verdicts { valid: 2, invalid: 5 });
}

/// What the package that we verify with says.
fn with_context(public: &[u8], message: &[u8], context: &[u8], signature: &[u8]) -> bool {
    let (Ok(public), Ok(signature)) = (public.try_into(), signature.try_into()) else { return false };
    let key = ml_dsa::VerifyingKey::<MlDsa44>::decode(&public);
    Signature::decode(&signature).is_some_and(|signature| key.verify_with_context(message, context, &signature))
}

#[test]
fn wycheproof_on_ed25519() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    let mut verdicts = Verdicts::default();
    for group in &set.test_groups {
        let key = key(SignatureType::Ed25519, &group.key.pk);
        for test in &group.tests {
            let ours = key.as_ref().is_some_and(|key| key.check_message(&test.msg, &test.sig).is_ok());
            verdicts.count(ours, test.result, &format!("{}: {}", test.tc_id, test.comment));
        }
    }
    assert_eq!(verdicts, Verdicts { valid: 88, invalid: 63 });
}
