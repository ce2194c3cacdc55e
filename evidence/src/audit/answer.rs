//! What a node answers: a bao slice of the group that it was asked for, or that it does not have it, signed so that it
//! can't say something else later. A bare slice could be anybody's and from any time; the signature binds it to audit,
//! seed, node and time. Layout: docs/formats/audit.md.

use stele_chunker::slice::{SliceError, prove_shard_slice, prove_slice, verify_shard_slice, verify_slice};
use stele_types::ids::{ChunkId, NodeId, ShardRoot};
use stele_types::seam::UnixMillis;

use super::challenge::{AuditId, Seed};
use super::inventory::Row;
use crate::cbor::{CborError, Reader, Writer};
use crate::keys::{ED25519_SIGNATURE_LEN, KeyError, SignatureError, Signer, SignerError, check_ed25519, ed25519_key};
use crate::tree::Hash;
use crate::vkey::VerifierKey;

const DOMAIN: &str = "stele/audit-answer/v1";
/// The byte that signed-note leaves to private types; [`KEY_TYPE`] follows it.
pub const PRIVATE_TYPE: u8 = 0xff;
/// Type of the key that a node signs answers with. No policy takes such a key for a log's or a witness's.
pub const KEY_TYPE: &[u8] = b"stele/audit-answer/v1";
/// Most bytes of a slice of one group: its bytes, a length, and two hashes a level of the tree above it.
pub const SLICE_MAX: usize = 16 * 1024 + 8 + 64 * 16;

/// The public key that a node signs answers with: a verifier key whose type is [`PRIVATE_TYPE`] and [`KEY_TYPE`].
#[derive(Clone)]
pub struct AnswerKey {
    vkey: VerifierKey,
    key: Box<ed25519_dalek::VerifyingKey>,
}

impl AnswerKey {
    /// Makes a key usable.
    ///
    /// # Errors
    /// It is of another type, or not valid.
    pub fn new(vkey: VerifierKey) -> Result<Self, KeyError> {
        if vkey.signature_type() != PRIVATE_TYPE {
            return Err(KeyError::UnknownType(vkey.signature_type()));
        }
        let bytes = vkey.public_key().strip_prefix(KEY_TYPE).ok_or(KeyError::UnknownType(PRIVATE_TYPE))?;
        let key = Box::new(ed25519_key(bytes)?);
        Ok(Self { vkey, key })
    }

    /// Reads `name+id+base64`.
    ///
    /// # Errors
    /// As [`VerifierKey::parse`] and [`Self::new`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        Self::new(VerifierKey::parse(text)?)
    }

    /// Name, identifier, type and bytes.
    pub fn vkey(&self) -> &VerifierKey {
        &self.vkey
    }
}

impl std::fmt::Debug for AnswerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AnswerKey({}+{})", self.vkey.name(), self.vkey.id())
    }
}

/// What a node is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Challenge {
    /// Which audit.
    pub audit: AuditId,
    /// Its seed.
    pub seed: Seed,
    /// Who is asked.
    pub node: NodeId,
    /// About what.
    pub row: Row,
    /// Which group of 16 KiB.
    pub group: u32,
}

impl Challenge {
    /// The slice that answers it.
    ///
    /// # Errors
    /// The bytes are not as long as the row says, so that there is no such group.
    pub fn slice_of(&self, bytes: &[u8]) -> Result<Vec<u8>, SliceError> {
        let range = self.row.group_bytes(self.group);
        match self.row {
            Row::Shard { .. } => prove_shard_slice(bytes, range),
            Row::Chunk { .. } => prove_slice(bytes, range),
        }
    }

    /// Whether a slice is of the bytes that are asked for.
    ///
    /// # Errors
    /// Why not.
    pub fn check_slice(&self, slice: &[u8]) -> Result<(), SliceError> {
        if slice.len() > SLICE_MAX {
            return Err(SliceError::Trailing(slice.len() - SLICE_MAX));
        }
        let range = self.row.group_bytes(self.group);
        match &self.row {
            Row::Shard { root, len, .. } => {
                verify_shard_slice(&ShardRoot::from_bytes(*root.as_bytes()), *len, range, slice)
            }
            Row::Chunk { id, len, .. } => verify_slice(&ChunkId::from_bytes(*id.as_bytes()), *len, range, slice),
        }
        .map(drop)
    }

    /// What the node signs.
    pub fn statement(&self, slice: Option<&Hash>, time: UnixMillis) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(8);
        w.text(DOMAIN);
        w.bytes(&self.audit.0);
        w.bytes(&self.seed.0);
        w.uint(self.node.0);
        w.bytes(&self.row.subject());
        w.uint(u64::from(self.group));
        w.bytes(slice.map_or(&[][..], |digest| digest));
        w.uint(time);
        w.finish()
    }
}

/// A signed answer. The slice itself travels and is kept beside it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// BLAKE3 of the slice; `None`: the node says that it does not have the bytes.
    pub slice: Option<Hash>,
    /// When, by the node's clock: milliseconds since the Unix epoch.
    pub time: UnixMillis,
    /// Ed25519 over [`Challenge::statement`].
    pub signature: [u8; ED25519_SIGNATURE_LEN],
}

impl Answer {
    /// Signs an answer.
    ///
    /// # Errors
    /// The signer did not sign, or with something else than Ed25519.
    pub fn sign(
        challenge: &Challenge,
        slice: Option<&[u8]>,
        time: UnixMillis,
        signer: &dyn Signer,
    ) -> Result<Self, SignerError> {
        let slice = slice.map(|slice| *blake3::hash(slice).as_bytes());
        let signature = signer.sign(&challenge.statement(slice.as_ref(), time))?;
        let signature = signature.try_into().map_err(|_| SignerError("the node's key is not an Ed25519 key".into()))?;
        Ok(Self { slice, time, signature })
    }

    /// Checks who signed it.
    ///
    /// # Errors
    /// The key did not sign this answer to this challenge.
    pub fn check(&self, challenge: &Challenge, key: &AnswerKey) -> Result<(), SignatureError> {
        check_ed25519(&key.key, &challenge.statement(self.slice.as_ref(), self.time), &self.signature)
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.array(3);
        w.bytes(self.slice.as_ref().map_or(&[][..], |digest| digest));
        w.uint(self.time);
        w.bytes(&self.signature);
    }

    /// Reads the items of an answer, their count having been read.
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, CborError> {
        let slice = match r.bytes()? {
            [] => None,
            digest => Some(digest.try_into().map_err(|_| CborError::Field(0))?),
        };
        Ok(Self { slice, time: r.uint()?, signature: r.fixed()? })
    }

    /// The one encoding of this answer.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        self.write(&mut w);
        w.finish()
    }

    /// Reads exact answer bytes.
    ///
    /// # Errors
    /// They are not the one encoding of an answer.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        let mut r = Reader::new(bytes);
        if r.array()? != 3 {
            return Err(CborError::Field(0));
        }
        let answer = Self::read(&mut r)?;
        r.end()?;
        Ok(answer)
    }
}

/// What an answer is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judged {
    /// The node had these bytes, or got them in time.
    Holds,
    /// It says itself that it does not have them.
    DoesNotHave,
    /// It signed a slice that is of other bytes.
    WrongData,
    /// The slice is not the one that was signed, or another key signed: nothing is proven against the node.
    NotSigned,
}

/// Judges an answer and the slice that came with it.
pub fn judge(challenge: &Challenge, key: &AnswerKey, answer: &Answer, slice: &[u8]) -> Judged {
    if answer.check(challenge, key).is_err() {
        return Judged::NotSigned;
    }
    match answer.slice {
        None => Judged::DoesNotHave,
        Some(digest) if digest != *blake3::hash(slice).as_bytes() => Judged::NotSigned,
        Some(_) if challenge.check_slice(slice).is_ok() => Judged::Holds,
        Some(_) => Judged::WrongData,
    }
}

#[cfg(test)]
mod tests {
    use stele_types::ids::{DriveId, ObjectRoot, PackId};

    use super::*;
    use crate::keys::Ed25519Signer;
    use crate::vkey::KeyName;

    fn signer(seed: u8) -> Ed25519Signer {
        Ed25519Signer::for_audit_answers(KeyName::new("stele/test/node/1").unwrap(), &[seed; 32])
    }

    fn key(seed: u8) -> AnswerKey {
        AnswerKey::parse(&signer(seed).vkey().to_string()).unwrap()
    }

    fn bytes() -> Vec<u8> {
        (0..50_000u32).flat_map(|n| n.to_le_bytes()).take(50_000).collect()
    }

    fn shard() -> Challenge {
        let row = Row::Shard {
            pack: PackId::from_bytes([1; 32]),
            generation: 0,
            slot: 2,
            drive: DriveId::from_bytes([3; 16]),
            root: ShardRoot::from_bytes(*blake3::hash(&bytes()).as_bytes()),
            len: 50_000,
        };
        Challenge { audit: AuditId([4; 16]), seed: Seed([5; 32]), node: NodeId(1), row, group: 3 }
    }

    #[test]
    fn an_answer_holds_for_its_challenge_only() {
        let (challenge, data) = (shard(), bytes());
        let slice = challenge.slice_of(&data).unwrap();
        assert!(slice.len() < SLICE_MAX);
        let answer = Answer::sign(&challenge, Some(&slice), 77, &signer(1)).unwrap();
        assert_eq!(judge(&challenge, &key(1), &answer, &slice), Judged::Holds);
        assert_eq!(judge(&challenge, &key(2), &answer, &slice), Judged::NotSigned);
        assert_eq!(judge(&challenge, &key(1), &Answer { time: 78, ..answer.clone() }, &slice), Judged::NotSigned);
        assert_eq!(judge(&challenge, &key(1), &Answer { slice: None, ..answer.clone() }, &slice), Judged::NotSigned);
        for other in [
            Challenge { audit: AuditId([5; 16]), ..challenge },
            Challenge { seed: Seed([6; 32]), ..challenge },
            Challenge { node: NodeId(2), ..challenge },
            Challenge { group: 2, ..challenge },
        ] {
            assert_eq!(judge(&other, &key(1), &answer, &slice), Judged::NotSigned, "{other:?}");
        }
        let none = Answer::sign(&challenge, None, 77, &signer(1)).unwrap();
        assert_eq!(judge(&challenge, &key(1), &none, &[]), Judged::DoesNotHave);
        assert_eq!(none.signature.len(), 64);
    }

    #[test]
    fn every_flipped_bit_of_a_slice_shows() {
        let (challenge, data) = (shard(), bytes());
        let slice = challenge.slice_of(&data).unwrap();
        let answer = Answer::sign(&challenge, Some(&slice), 77, &signer(1)).unwrap();
        for at in (0..slice.len()).step_by(13) {
            let mut wrong = slice.clone();
            wrong[at] ^= 1 << (at % 8);
            // Changed on the way: the node is not to blame. Signed so: it is.
            assert_eq!(judge(&challenge, &key(1), &answer, &wrong), Judged::NotSigned);
            let signed = Answer::sign(&challenge, Some(&wrong), 77, &signer(1)).unwrap();
            assert_eq!(judge(&challenge, &key(1), &signed, &wrong), Judged::WrongData);
        }
        let swapped = Challenge { group: 1, ..challenge }.slice_of(&data).unwrap();
        let signed = Answer::sign(&challenge, Some(&swapped), 77, &signer(1)).unwrap();
        assert_eq!(judge(&challenge, &key(1), &signed, &swapped), Judged::WrongData);
        let long = vec![0; SLICE_MAX + 1];
        let signed = Answer::sign(&challenge, Some(&long), 77, &signer(1)).unwrap();
        assert_eq!(judge(&challenge, &key(1), &signed, &long), Judged::WrongData);
    }

    #[test]
    fn chunks_are_asked_for_alike() {
        let data = bytes();
        let row = Row::Chunk {
            object: ObjectRoot::from_bytes([8; 32]),
            offset: 1 << 40,
            id: ChunkId::from_bytes(*blake3::hash(&data).as_bytes()),
            len: 50_000,
        };
        let challenge = Challenge { row, ..shard() };
        let slice = challenge.slice_of(&data).unwrap();
        let answer = Answer::sign(&challenge, Some(&slice), 77, &signer(1)).unwrap();
        assert_eq!(judge(&challenge, &key(1), &answer, &slice), Judged::Holds);
        assert!(challenge.slice_of(&data[..40_000]).is_err());
    }

    #[test]
    fn golden_statement_and_answer() {
        let challenge = shard();
        let statement = challenge.statement(Some(&[6; 32]), 1_790_000_000_000);
        let expected = concat!(
            "8875",
            "7374656c652f61756469742d616e737765722f7631",
            "5004040404040404040404040404040404",
            "58200505050505050505050505050505050505050505050505050505050505050505",
            "01",
            "5820",
        );
        assert!(hex::encode(&statement).starts_with(expected), "{}", hex::encode(&statement));
        let end =
            concat!("035820", "0606060606060606060606060606060606060606060606060606060606060606", "1b000001a0c4506c00");
        assert!(hex::encode(&statement).ends_with(end), "{}", hex::encode(&statement));
        let answer = Answer { slice: Some([6; 32]), time: 5, signature: [7; 64] };
        assert_eq!(Answer::decode(&answer.encode()), Ok(answer.clone()));
        assert_eq!(hex::encode(&answer.encode()[..3]), "835820");
        for cut in 0..answer.encode().len() {
            assert!(Answer::decode(&answer.encode()[..cut]).is_err());
        }
        let none = Answer { slice: None, ..answer };
        assert_eq!(Answer::decode(&none.encode()), Ok(none));
    }

    #[test]
    fn keys_of_other_trades_are_no_answer_keys() {
        let name = KeyName::new("stele/test/node/1").unwrap();
        for signer in [Ed25519Signer::for_notes(name.clone(), &[1; 32]), Ed25519Signer::for_ledger(name, &[1; 32])] {
            assert!(AnswerKey::new(signer.vkey().clone()).is_err());
        }
    }
}
