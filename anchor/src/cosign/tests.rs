//! A log's conversation with witnesses on the loopback.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use stele_evidence::keys::TrustedKey;
use stele_evidence::note::SignatureLine;
use stele_evidence::policy::Policy;
use stele_evidence::proof::Head;
use stele_evidence::tree::Hash;
use stele_evidence::witness::ResponseError;

use super::witnesses::Collected;
use super::*;
use crate::prove::Unproven;
use crate::testing::stand::{Mood, Stand, witness};
use crate::testing::{Tree, log_keys, signed};

/// Long enough for a machine that is busy.
const LONG: Duration = Duration::from_secs(60);

struct Proofs(Tree, Mutex<Vec<(u64, u64)>>);

#[async_trait]
impl Proves for Proofs {
    async fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, Unproven> {
        self.1.lock().unwrap().push((old, new));
        Ok(self.0.proof(old, new))
    }
}

fn proofs() -> Proofs {
    Proofs(Tree::of(20), Mutex::default())
}

fn witnesses(lines: &str, timeout: Duration) -> Result<Witnesses, WitnessesError> {
    Witnesses::from_policy(&Policy::parse(format!("{lines}quorum none\n").as_bytes()).unwrap(), timeout)
}

/// Everybody is waited for.
async fn collect(witnesses: &Witnesses, proofs: &Proofs, size: u64) -> Collected {
    witnesses.collect((&signed(proofs.0.head(size)), size), proofs, &|_| false).await
}

/// What one witness says to a checkpoint of `size` leaves.
async fn ask(witnesses: &Witnesses, proofs: &Proofs, size: u64) -> Result<Vec<SignatureLine>, NoCosignature> {
    let mut collected = collect(witnesses, proofs, size).await;
    assert!(collected.absent.len() <= 1, "{collected:?}");
    match collected.absent.pop() {
        Some((_, error)) => Err(error),
        None => Ok(collected.lines),
    }
}

fn verified(lines: &[SignatureLine], keys: &[TrustedKey], head: Head) -> usize {
    Note::build(signed(head).text(), lines).unwrap().verify(keys).unwrap().len()
}

#[tokio::test]
async fn a_witness_is_asked_from_where_it_stands() {
    let stand = Stand::open("w.example", 10, log_keys()).await;
    let (witnesses, proofs) = (witnesses(&stand.lines("w"), LONG).unwrap(), proofs());
    for size in [3, 3, 8, 20] {
        let lines = ask(&witnesses, &proofs, size).await.unwrap();
        assert_eq!(verified(&lines, &stand.keys(), proofs.0.head(size)), 2);
    }
    assert_eq!(stand.olds(), [0, 3, 3, 8], "one request for each checkpoint, and both keys with it");
    assert_eq!(*proofs.1.lock().unwrap(), [(3, 8), (8, 20)], "no proof where none is needed");
}

#[tokio::test]
async fn what_a_witness_saw_is_learned_from_it() {
    let stand = Stand::open("w.example", 10, log_keys()).await;
    let proofs = proofs();
    assert!(ask(&witnesses(&stand.lines("w"), LONG).unwrap(), &proofs, 5).await.is_ok());
    let witnesses = witnesses(&stand.lines("w"), LONG).unwrap();
    assert!(ask(&witnesses, &proofs, 9).await.is_ok(), "after a restart of the log");
    assert_eq!(stand.olds(), [0, 0, 5]);
    // Its answer got lost, so it stands further on than we know.
    stand.turn(Mood::Mute);
    let lost = ask(&witnesses, &proofs, 12).await.unwrap_err();
    assert!(matches!(&lost, NoCosignature::Refused { status: 502, words } if words == "a proxy gave up"), "{lost}");
    stand.turn(Mood::Honest);
    assert!(ask(&witnesses, &proofs, 12).await.is_ok());
    assert_eq!(stand.olds(), [9, 9, 12]);
}

#[tokio::test]
async fn a_witness_that_saw_more_or_something_else_is_an_alarm() {
    let stand = Stand::open("w.example", 10, log_keys()).await;
    let proofs = proofs();
    let fresh = || witnesses(&stand.lines("w"), LONG).unwrap();
    let known = fresh();
    assert!(ask(&known, &proofs, 9).await.is_ok());
    for witnesses in [known, fresh()] {
        let error = ask(&witnesses, &proofs, 4).await.unwrap_err();
        assert!(matches!(error, NoCosignature::Ahead { size: 9, ours: 4 }) && error.is_alarm(), "{error}");
    }
    let fork = Head { size: 9, root: [9; 32] };
    for witnesses in [fresh(), fresh()] {
        let collected = witnesses.collect((&signed(fork), 9), &proofs, &|_| false).await;
        let (_, error) = &collected.absent[0];
        assert!(matches!(error, NoCosignature::Inconsistent { old: 9, .. }) && error.is_alarm(), "{error}");
        assert!(collected.lines.is_empty());
    }
}

#[tokio::test]
async fn lies_are_not_taken_for_cosignatures() {
    let stand = Stand::open("w.example", 10, log_keys()).await;
    let (witnesses, proofs) = (witnesses(&stand.lines("w"), LONG).unwrap(), proofs());
    let honest = ask(&witnesses, &proofs, 5).await.unwrap();
    let line = |key: &TrustedKey, signature: &[u8]| {
        let vkey = key.vkey();
        format!("{}\n", SignatureLine::new(vkey.name().clone(), vkey.id(), signature.to_vec()))
    };
    let forged = line(&stand.keys()[0], &[1; 72]);
    let stale: String = honest.iter().map(|line| format!("{line}\n")).collect();
    let half = format!("{}\n", honest[0]);
    let says = |status, body: &str| Mood::Says(status, Bytes::copy_from_slice(body.as_bytes()));
    let (stranger, _folder) = witness("w.example", 40, log_keys());
    let signatures = |error: &NoCosignature| matches!(error, NoCosignature::Answer(ResponseError::Signatures(_)));
    let malformed = |error: &NoCosignature| matches!(error, NoCosignature::Answer(ResponseError::Malformed(_)));
    let unsteady = |error: &NoCosignature| matches!(error, NoCosignature::Unsteady(_));
    let no_size = |error: &NoCosignature| matches!(error, NoCosignature::NoSize);
    let refused = |error: &NoCosignature| matches!(error, NoCosignature::Refused { .. });
    let too_long = |error: &NoCosignature| matches!(error, NoCosignature::Unreachable(_));
    type Is<'f> = &'f dyn Fn(&NoCosignature) -> bool;
    let cases: [(&str, Mood, u64, Is<'_>); 11] = [
        ("another key of the same name", Mood::Asks(stranger), 6, &signatures),
        ("a wrong line", says(200, &forged), 6, &signatures),
        ("a wrong line among right ones", says(200, &format!("{half}{forged}")), 5, &signatures),
        ("cosignatures of another checkpoint", says(200, &stale), 6, &signatures),
        ("nothing", says(200, ""), 6, &malformed),
        ("words", says(200, "<html>\n"), 6, &malformed),
        ("a size that it then denies", says(409, "3\n"), 6, &unsteady),
        ("no size", says(409, "three\n"), 6, &no_size),
        ("another status", says(404, "who?\n"), 6, &refused),
        ("a redirect", says(307, ""), 6, &refused),
        ("more than an answer has", says(200, &"x".repeat(600_000)), 6, &too_long),
    ];
    for (what, mood, size, is) in cases {
        stand.turn(mood);
        let error = ask(&witnesses, &proofs, size).await.unwrap_err();
        assert!(is(&error) && !error.is_alarm(), "{what}: {error}");
    }
    // One of two keys: what is there counts, and the other is named.
    stand.turn(says(200, &half));
    let collected = collect(&witnesses, &proofs, 5).await;
    assert_eq!(collected.lines, honest[..1]);
    assert!(
        matches!(&collected.absent[0].1, NoCosignature::Key(key) if key.starts_with("w.example+")),
        "{collected:?}"
    );
}

#[tokio::test]
async fn everybody_is_asked_at_once_and_nobody_holds_up_the_others() {
    let (one, mut two) =
        (Stand::open("1.example", 10, log_keys()).await, Stand::open("2.example", 20, log_keys()).await);
    let three = Stand::open("3.example", 30, log_keys()).await;
    let lines = [one.lines("one"), two.lines("two"), three.lines("three")].concat();
    let (policy, proofs) = (witnesses(&lines, LONG).unwrap(), proofs());
    two.shut();
    one.turn(Mood::Silent);
    // Two lines are enough, so the silent one has the grace and not the whole time.
    let note = signed(proofs.0.head(7));
    let collected = policy.collect((&note, 7), &proofs, &|lines| lines.len() >= 2).await;
    assert_eq!(verified(&collected.lines, &three.keys(), proofs.0.head(7)), 2);
    let why: Vec<_> = collected.absent.iter().map(|(who, why)| (who.split(' ').next().unwrap(), why)).collect();
    assert!(matches!(why[0], ("one-ed,", NoCosignature::Slow)), "{why:?}");
    assert!(matches!(why[1], ("two-ed,", NoCosignature::Unreachable(_))), "{why:?}");
    // Not enough: the whole time of the conversation.
    let impatient = witnesses(&one.lines("one"), Duration::from_millis(50)).unwrap();
    let error = ask(&impatient, &proofs, 7).await.unwrap_err();
    assert!(matches!(error, NoCosignature::Slow | NoCosignature::Unreachable(_)), "{error}");
}

#[tokio::test]
async fn a_policy_that_can_not_be_asked_or_published_is_refused() {
    let stand = Stand::open("w.example", 10, log_keys()).await;
    let keys = log_keys();
    let new = |operator: &str| Cosigning::new(keys.iter().map(TrustedKey::vkey), operator.as_bytes(), LONG);
    let good = format!("{}quorum w\n", stand.lines("w"));
    let cosigning = new(&good).unwrap();
    let text = std::str::from_utf8(cosigning.text()).unwrap();
    assert_eq!(text, format!("log {}\nlog {}\n{good}", keys[0].vkey(), keys[1].vkey()));
    for url in ["", " ftp://w.example", " w.example"] {
        let bad = format!("witness w {}{url}\nquorum w\n", stand.vkeys()[0]);
        assert!(matches!(new(&bad), Err(CosigningError::Witnesses(WitnessesError::NoUrl(_)))), "{url:?}");
    }
    for bad in ["", "quorum w\n", &format!("log {}\nquorum none\n", keys[0].vkey())] {
        assert!(matches!(new(bad), Err(CosigningError::Policy { keys: 2, .. })), "{bad:?}");
    }
    let long = format!("#{}\nquorum none\n", "x".repeat(POLICY_BYTES_MAX));
    assert!(matches!(new(&long), Err(CosigningError::TooLarge(_))));
}

#[tokio::test]
async fn what_is_missing_is_named_until_it_is_back() {
    let (one, two) = (Stand::open("1.example", 10, log_keys()).await, Stand::open("2.example", 20, log_keys()).await);
    let keys = log_keys();
    let operator = format!("{}{}group both all one two\nquorum both\n", one.lines("one"), two.lines("two"));
    let cosigning = Cosigning::new(keys.iter().map(TrustedKey::vkey), operator.as_bytes(), LONG).unwrap();
    let (proofs, missing) = (proofs(), cosigning.missing().clone());
    two.turn(Mood::Says(500, Bytes::from_static(b"disk full")));
    let note = signed(proofs.0.head(4));
    let round = async || cosigning.conclude(&note, 4, cosigning.collect(&note, 4, &proofs).await);
    let Err(ConcludeError::Unwitnessed(unwitnessed)) = round().await else { panic!("published") };
    let words = unwitnessed.to_string();
    let host = two.url().strip_prefix("http://").unwrap();
    assert!(words.contains(&format!("two-ed, two-pq ({host}) for 0 s")) && words.contains("disk full"), "{words}");
    assert_eq!((missing.list().len(), unwitnessed.is_alarm()), (1, false));
    two.turn(Mood::Says(422, Bytes::new()));
    let alarmed = round().await.unwrap_err();
    assert!(matches!(&alarmed, ConcludeError::Unwitnessed(why) if why.is_alarm()), "{alarmed}");
    two.turn(Mood::Honest);
    let cosigned = round().await.unwrap();
    assert_eq!((cosigned.signatures().len(), missing.list().len()), (6, 0));
    assert!(Policy::parse(cosigning.text()).unwrap().evaluate(&cosigned).is_ok());
}

#[test]
fn collecting_can_move_between_threads() {
    fn is_send<T: Send>(_: T) {}
    let keys = log_keys();
    let cosigning = Arc::new(Cosigning::new(keys.iter().map(TrustedKey::vkey), b"quorum none\n", LONG).unwrap());
    let (note, proofs) = (signed(Tree::of(1).head(1)), proofs());
    is_send(cosigning.collect(&note, 1, &proofs));
}
