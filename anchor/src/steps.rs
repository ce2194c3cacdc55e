//! Which step comes next, from where the log stands and what was signed. Pure.
//!
//! | step | does | if we die here |
//! |---|---|---|
//! | commit | the metadata service stands by a size and its root | the next run signs it |
//! | sign | proof that it extends what was signed; own memory; then the signature | the next run signs the same again |
//! | cosign | witnesses cosign, until the policy is satisfied | witnesses cosign the same again |
//! | publish | the note is kept by the metadata service | the next run publishes it again |
//!
//! What is committed is always signed and published before anything else is committed. So a checkpoint that lacks
//! witnesses holds up the next one, and a witness never sees one that was given up.

use stele_rpc::meta::{LogHead, TreeHead};

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Nothing new.
    Wait,
    /// Have this size committed.
    Commit {
        /// Newest checkpoint.
        previous: Option<TreeHead>,
        /// The one to be.
        next: TreeHead,
    },
    /// Sign this checkpoint, which must extend what was signed last, and publish it.
    Sign {
        /// What was signed last.
        from: Option<TreeHead>,
        /// The checkpoint.
        head: TreeHead,
    },
    /// Sign and publish once more what was signed last: its note got lost.
    Publish {
        /// The checkpoint.
        head: TreeHead,
    },
}

/// Why nothing may be signed any more. An operator has to look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// The log is shorter than what was signed, or its checkpoint older.
    #[error(
        "this anchor signed size {signed} of the log, and the log now stands at {now}: metadata was restored from \
         before that, or this is another log. Nothing is signed under this name any more: restore the newest metadata, \
         or go on under a new origin"
    )]
    WentBack {
        /// Size that was signed.
        signed: u64,
        /// Size of the log, or of its newest checkpoint.
        now: u64,
    },
    /// Two roots for one size.
    #[error(
        "the metadata committed another root for size {size} than this anchor signed: the log was forked. Nothing is \
         signed any more; keep both checkpoints as evidence"
    )]
    Forked {
        /// The size.
        size: u64,
    },
    /// Signed before, and by nobody that is remembered here.
    #[error(
        "the log has a signed checkpoint of size {size}, and this anchor remembers none: restore its directory, or start \
         it once with --adopt (STELE_ANCHOR_ADOPT=true) if the old one is gone for good"
    )]
    Forgot {
        /// Size that was signed.
        size: u64,
    },
}

/// Decides. `adopt`: an anchor without memory takes over where another one ended.
///
/// # Errors
/// [`Refusal`]: the log does not go on from what was signed.
pub fn next_step(log: &LogHead, signed: Option<TreeHead>, adopt: bool) -> Result<Step, Refusal> {
    let committed = log.checkpoint.map(|checkpoint| checkpoint.head);
    let published = log.published.as_ref().map(|published| published.head);
    if let (None, Some(published), false) = (signed, published, adopt) {
        return Err(Refusal::Forgot { size: published.size });
    }
    if let Some(signed) = signed {
        let now = committed.map_or(0, |head| head.size).min(log.now.size);
        if now < signed.size {
            return Err(Refusal::WentBack { signed: signed.size, now });
        }
        let head = committed.filter(|head| head.size == signed.size);
        if head.is_some_and(|head| head.root != signed.root) {
            return Err(Refusal::Forked { size: signed.size });
        }
    }
    match committed {
        Some(head) if Some(head) != signed => Ok(Step::Sign { from: signed, head }),
        Some(head) if published != Some(head) => Ok(Step::Publish { head }),
        previous if log.now.size > previous.map_or(0, |head| head.size) => Ok(Step::Commit { previous, next: log.now }),
        _ => Ok(Step::Wait),
    }
}

/// True if nobody waits for the note of `head` any more: it is published, or another one is committed.
pub fn is_overtaken(log: &LogHead, head: TreeHead) -> bool {
    log.published.as_ref().is_some_and(|published| published.head == head)
        || log.checkpoint.is_none_or(|checkpoint| checkpoint.head != head)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use stele_rpc::meta::{Checkpoint, SignedNote};

    use super::*;

    fn head(size: u64) -> TreeHead {
        TreeHead { size, root: [u8::try_from(size).unwrap(); 32] }
    }

    fn log(now: u64, committed: Option<u64>, published: Option<u64>) -> LogHead {
        LogHead {
            now: head(now),
            checkpoint: committed.map(|size| Checkpoint { head: head(size), time: 1 }),
            published: published.map(|size| SignedNote { head: head(size), note: Bytes::new(), policy: Bytes::new() }),
        }
    }

    fn step(log: &LogHead, signed: Option<u64>) -> Result<Step, Refusal> {
        next_step(log, signed.map(head), false)
    }

    #[test]
    fn a_log_is_committed_then_signed_then_published() {
        assert_eq!(step(&log(0, None, None), None), Ok(Step::Wait));
        assert_eq!(step(&log(3, None, None), None), Ok(Step::Commit { previous: None, next: head(3) }));
        assert_eq!(step(&log(5, Some(3), None), None), Ok(Step::Sign { from: None, head: head(3) }));
        assert_eq!(step(&log(5, Some(3), None), Some(3)), Ok(Step::Publish { head: head(3) }));
        let next = Step::Commit { previous: Some(head(3)), next: head(5) };
        assert_eq!(step(&log(5, Some(3), Some(3)), Some(3)), Ok(next));
        assert_eq!(step(&log(5, Some(5), Some(3)), Some(3)), Ok(Step::Sign { from: Some(head(3)), head: head(5) }));
        assert_eq!(step(&log(5, Some(5), Some(5)), Some(5)), Ok(Step::Wait));
    }

    #[test]
    fn what_is_not_published_holds_up_what_comes_next() {
        for now in [5, 6, 70] {
            assert_eq!(step(&log(now, Some(5), Some(3)), Some(5)), Ok(Step::Publish { head: head(5) }));
        }
    }

    #[test]
    fn an_anchor_is_overtaken_once_its_note_is_published_or_too_old() {
        assert!(!is_overtaken(&log(9, Some(5), Some(3)), head(5)));
        assert!(is_overtaken(&log(9, Some(5), Some(5)), head(5)));
        assert!(is_overtaken(&log(9, Some(7), Some(5)), head(5)));
        assert!(is_overtaken(&log(9, Some(7), Some(3)), head(5)));
    }

    #[test]
    fn nothing_is_signed_of_a_log_that_does_not_go_on() {
        for (now, committed) in [(4, Some(4)), (9, Some(4)), (9, None), (0, None)] {
            let refused = step(&log(now, committed, None), Some(5)).unwrap_err();
            assert!(matches!(refused, Refusal::WentBack { signed: 5, .. }), "{refused:?}");
        }
        let mut forked = log(9, Some(5), None);
        forked.checkpoint.as_mut().unwrap().head.root = [9; 32];
        assert_eq!(step(&forked, Some(5)), Err(Refusal::Forked { size: 5 }));
    }

    #[test]
    fn an_anchor_without_memory_takes_over_only_when_told() {
        let signed = log(9, Some(5), Some(5));
        assert_eq!(step(&signed, None), Err(Refusal::Forgot { size: 5 }));
        assert_eq!(next_step(&signed, None, true), Ok(Step::Sign { from: None, head: head(5) }));
    }
}
