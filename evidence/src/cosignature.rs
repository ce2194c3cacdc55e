//! C2SP tlog-cosignature: what logs and witnesses sign over a checkpoint, and the lines they make.
//! A cosignature is a time of eight bytes, big-endian POSIX seconds, and a bare signature. The log's
//! own ML-DSA signature is made like a witness's, with the log as the cosigner.

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::keys::{SignatureError, SignatureType, Signer, SignerError, TrustedKey};
use crate::note::SignatureLine;
use crate::tree::Hash;
use crate::vkey::KeyName;

/// Longest name of a cosigner and longest origin in bytes in an ML-DSA message.
pub const NAME_MAX: usize = 255;
/// Latest time that a cosignature may state.
const TIME_MAX: u64 = (1 << 63) - 1;
/// What every ML-DSA message begins with.
const SUBTREE_LABEL: &[u8; 12] = b"subtree/v1\n\0";

/// Why nothing was signed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SignError {
    /// The signer's key has a type that can't make this kind of signature.
    #[error("a key of type {0:#04x} does not sign this")]
    Type(u8),
    /// The text is not a checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The statement breaks a rule of the format.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The signer failed.
    #[error("the signer failed: {0}")]
    Signer(#[from] SignerError),
}

/// Why a statement can't be signed or can't have been signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StatementError {
    /// A name or origin is empty or longer than [`NAME_MAX`] bytes.
    #[error("cosigner and origin are 1 to 255 bytes")]
    Name,
    /// Past 2^63 - 1, absent where the type states a time, or present where the range does not
    /// begin with the first leaf.
    #[error("the time is out of range, or does not belong here")]
    Time,
    /// The range ends before it begins.
    #[error("the range ends before it begins")]
    Range,
}

/// What an ML-DSA cosignature states: this range of the log has this root, and it is consistent with
/// all the cosigner has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Statement<'a> {
    /// Name of the cosigner's key.
    pub cosigner: &'a KeyName,
    /// POSIX seconds at which this was the largest tree the cosigner had seen, or 0: no such claim.
    pub time: u64,
    /// Origin of the log.
    pub origin: &'a str,
    /// First leaf of the range; 0 for a checkpoint.
    pub start: u64,
    /// End of the range; the size for a checkpoint.
    pub end: u64,
    /// Root of the range.
    pub root: Hash,
}

impl Statement<'_> {
    /// The bytes to sign: label, cosigner, time, origin, start, end, root; numbers big-endian, names
    /// behind one byte of length.
    ///
    /// # Errors
    /// The rule that the statement breaks.
    pub fn message(&self) -> Result<Vec<u8>, StatementError> {
        let name = |name: &str| match u8::try_from(name.len()) {
            Ok(length) if length > 0 => Ok([&[length], name.as_bytes()].concat()),
            _ => Err(StatementError::Name),
        };
        if self.time > TIME_MAX || (self.start != 0 && self.time != 0) {
            return Err(StatementError::Time);
        }
        if self.start > self.end {
            return Err(StatementError::Range);
        }
        let mut message = SUBTREE_LABEL.to_vec();
        message.extend(name(self.cosigner.as_str())?);
        message.extend(self.time.to_be_bytes());
        message.extend(name(self.origin)?);
        message.extend(self.start.to_be_bytes());
        message.extend(self.end.to_be_bytes());
        message.extend(self.root);
        Ok(message)
    }
}

/// The bytes that a timed Ed25519 cosignature is over: two lines and the text of the note. They do
/// not name the cosigner.
pub fn timed_message(time: u64, text: &str) -> Vec<u8> {
    format!("cosignature/v1\ntime {time}\n{text}").into_bytes()
}

/// Signs the text of a note with a plain Ed25519 key: how a log signs its checkpoint.
///
/// # Errors
/// The key has another type, or the signer failed.
pub fn sign_note(signer: &dyn Signer, text: &str) -> Result<SignatureLine, SignError> {
    let vkey = signer.vkey();
    if vkey.signature_type() != SignatureType::Ed25519 as u8 {
        return Err(SignError::Type(vkey.signature_type()));
    }
    let signature = signer.sign(text.as_bytes())?;
    Ok(SignatureLine::new(vkey.name().clone(), vkey.id(), signature))
}

/// Cosigns a checkpoint, given the exact text of its note, with a key of type 0x04 or 0x06. A log
/// with an ML-DSA key signs its own checkpoint this way too. `time` is in POSIX seconds; only
/// ML-DSA allows 0, which claims nothing about time and size.
///
/// # Errors
/// The text is no checkpoint, the statement breaks a rule, or the signer failed.
pub fn cosign(signer: &dyn Signer, text: &str, time: u64) -> Result<SignatureLine, SignError> {
    let vkey = signer.vkey();
    let checkpoint = Checkpoint::parse(text)?;
    let message = match SignatureType::from_byte(vkey.signature_type()) {
        Some(SignatureType::TimedEd25519) if time == 0 || time > TIME_MAX => return Err(StatementError::Time.into()),
        Some(SignatureType::TimedEd25519) => timed_message(time, text),
        Some(SignatureType::SubtreeMlDsa44) => whole_tree(vkey.name(), time, &checkpoint).message()?,
        _ => return Err(SignError::Type(vkey.signature_type())),
    };
    let signature = [time.to_be_bytes().as_slice(), &signer.sign(&message)?].concat();
    Ok(SignatureLine::new(vkey.name().clone(), vkey.id(), signature))
}

/// Checks a cosignature over any range; `blob` is the time and the signature. The statement's
/// cosigner and time are taken from key and blob.
///
/// # Errors
/// The key is not of type 0x06, or what is wrong with the signature.
pub fn check_statement(key: &TrustedKey, statement: Statement<'_>, blob: &[u8]) -> Result<Option<u64>, SignatureError> {
    let (time, signature) = split_time(blob)?;
    if key.signature_type() != SignatureType::SubtreeMlDsa44 {
        return Err(SignatureError::Mismatch);
    }
    let statement = Statement { cosigner: key.vkey().name(), time, ..statement };
    let message = statement.message().map_err(|_| SignatureError::NotACheckpoint)?;
    key.check_message(&message, signature)?;
    Ok(stated(time))
}

/// The statement that a checkpoint's cosignature makes: its range is the whole tree.
fn whole_tree<'a>(cosigner: &'a KeyName, time: u64, checkpoint: &'a Checkpoint) -> Statement<'a> {
    let head = checkpoint.head();
    Statement { cosigner, time, origin: checkpoint.origin(), start: 0, end: head.size, root: head.root }
}

/// Checks a signature of type 0x04.
pub(crate) fn check_timed(key: &TrustedKey, text: &str, blob: &[u8]) -> Result<Option<u64>, SignatureError> {
    let (time, signature) = split_time(blob)?;
    Checkpoint::parse(text).map_err(|_| SignatureError::NotACheckpoint)?;
    key.check_message(&timed_message(time, text), signature)?;
    Ok(stated(time))
}

/// Checks a signature of type 0x06 over the checkpoint that `text` is.
pub(crate) fn check_checkpoint(key: &TrustedKey, text: &str, blob: &[u8]) -> Result<Option<u64>, SignatureError> {
    let checkpoint = Checkpoint::parse(text).map_err(|_| SignatureError::NotACheckpoint)?;
    check_statement(key, whole_tree(key.vkey().name(), 0, &checkpoint), blob)
}

fn split_time(blob: &[u8]) -> Result<(u64, &[u8]), SignatureError> {
    let (time, signature) = blob.split_first_chunk::<8>().ok_or(SignatureError::Length)?;
    let time = u64::from_be_bytes(*time);
    if time > TIME_MAX { Err(SignatureError::Time) } else { Ok((time, signature)) }
}

fn stated(time: u64) -> Option<u64> {
    (time != 0).then_some(time)
}

#[cfg(test)]
mod tests;
