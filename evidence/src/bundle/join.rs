//! Joining the bundle's checkpoint with one of another size, by a consistency proof in either direction. The
//! file holds one hash a line in base64, as a witness gets them.

use super::CONSISTENCY_MAX;
use crate::lines::{parse_hash, print_base64, split_line};
use crate::proof::{Head, ProofError, verify_consistency};
use crate::tree::Hash;
use crate::witness::PROOF_LINES_MAX;

/// Why two sizes of a log are not joined.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JoinError {
    /// Not hashes, one a line.
    #[error("the consistency proof is not 1 to {PROOF_LINES_MAX} lines of base64 hashes")]
    Malformed,
    /// Other sizes need a proof.
    #[error("the sizes differ, and there is no consistency proof")]
    Missing,
    /// Equal sizes have none.
    #[error("the sizes are the same, so there is no consistency proof between them")]
    Needless,
    /// It does not hold.
    #[error("the two are not of one log: {0}")]
    Proof(#[from] ProofError),
}

/// The proof as a file.
pub fn print_consistency(proof: &[Hash]) -> Vec<u8> {
    proof.iter().flat_map(|hash| (print_base64(hash) + "\n").into_bytes()).collect()
}

/// Reads a file.
///
/// # Errors
/// [`JoinError::Malformed`].
pub fn parse_consistency(bytes: &[u8]) -> Result<Vec<Hash>, JoinError> {
    let (mut rest, mut proof) = (bytes, Vec::new());
    if bytes.is_empty() || bytes.len() > CONSISTENCY_MAX {
        return Err(JoinError::Malformed);
    }
    while !rest.is_empty() {
        let (line, behind) = split_line(rest).ok_or(JoinError::Malformed)?;
        proof.push(parse_hash(line).ok_or(JoinError::Malformed)?);
        rest = behind;
    }
    Ok(proof)
}

/// Checks that `theirs` and `ours` are sizes of one log. `file` holds the proof.
///
/// # Errors
/// [`JoinError`].
pub fn join(ours: Head, theirs: Head, file: Option<&[u8]>) -> Result<(), JoinError> {
    let proof = match (ours.size == theirs.size, file) {
        (true, None) => Vec::new(),
        (true, Some(_)) => return Err(JoinError::Needless),
        (false, None) => return Err(JoinError::Missing),
        (false, Some(file)) => parse_consistency(file)?,
    };
    let (old, new) = if ours.size <= theirs.size { (ours, theirs) } else { (theirs, ours) };
    Ok(verify_consistency(old, new, &proof)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::consistency;
    use crate::tiles::tests::filled;
    use crate::tree::reference;

    #[test]
    fn either_direction_is_joined_and_nothing_else() {
        let (tiles, leaves) = filled(60);
        let head = |size: usize| Head { size: size as u64, root: reference::root(&leaves[..size]) };
        for (old, new) in [(1, 2), (7, 60), (32, 60), (59, 60)] {
            let file = print_consistency(&consistency(&tiles, old as u64, new as u64).unwrap());
            let (old, new) = (head(old), head(new));
            for (ours, theirs) in [(old, new), (new, old)] {
                assert_eq!(join(ours, theirs, Some(&file)), Ok(()));
                assert_eq!(join(ours, theirs, None), Err(JoinError::Missing));
                let forged = Head { root: [7; 32], ..theirs };
                assert!(matches!(join(ours, forged, Some(&file)), Err(JoinError::Proof(_))));
            }
            for at in 0..file.len() {
                let mut flipped = file.clone();
                flipped[at] ^= 1;
                assert!(join(old, new, Some(&flipped)).is_err(), "byte {at}");
            }
            assert_eq!(join(old, old, Some(&file)), Err(JoinError::Needless));
            assert_eq!(join(old, Head { root: [7; 32], ..old }, None), Err(JoinError::Proof(ProofError::Mismatch)));
        }
        assert_eq!(join(head(9), head(9), None), Ok(()));
        for bad in [&b""[..], b"\n", b"AAAA\n", &print_consistency(&[[1; 32]])[..44]] {
            assert_eq!(parse_consistency(bad), Err(JoinError::Malformed));
        }
        assert!(parse_consistency(&print_consistency(&[[1; 32]; PROOF_LINES_MAX])).is_ok());
        assert_eq!(parse_consistency(&print_consistency(&[[1; 32]; PROOF_LINES_MAX + 1])), Err(JoinError::Malformed));
    }
}
