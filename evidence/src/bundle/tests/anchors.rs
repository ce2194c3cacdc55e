//! Bundles with anchors: whom they are believed from, what they cover, and forgeries of them.

use crate::bundle::claims::{Claim, Class, Outcome, Question};
use crate::bundle::contents::{ChainKind, VERSION_OUTSIDE};
use crate::bundle::files::Files;
use crate::bundle::names::CONTENTS;
use crate::bundle::report::Report;
use crate::bundle::testing::outside::{
    BLOCK_TIMES, LARGER, SMALLER, anchored, at_size, begun, block, chains, consistency, evm, evm_line, judge_with,
};
use crate::bundle::testing::{SIZE, edit, reseal, without_bytes};
use crate::bundle::verify::{Request, Unusable, verify};
use crate::bundle::writer::{AnchorEvidence, AnchorProof, WriteError};
use crate::chain::{Anchored, ledger::tests as ledger};
use crate::keys::Signer as _;

const GOOD: (Class, Outcome) = (Class::Verified, Outcome::Agrees);
const BAD: (Class, Outcome) = (Class::Verified, Outcome::Differs);
const WORD: (Class, Outcome) = (Class::Asserted, Outcome::Open);

fn anchors(report: &Report) -> Vec<&Claim> {
    report.claims.iter().filter(|claim| claim.question == Question::Anchor).collect()
}

fn classes(report: &Report) -> Vec<(Class, Outcome)> {
    anchors(report).iter().map(|claim| (claim.class, claim.outcome)).collect()
}

fn time(report: &Report) -> &Claim {
    report.claims.iter().find(|claim| claim.question == Question::Time).unwrap()
}

fn history(report: &Report) -> &Claim {
    report.claims.iter().find(|claim| claim.question == Question::NonEquivocation).unwrap()
}

#[test]
fn chains_and_blocks_that_the_auditor_lists_are_believed() {
    let report = judge_with(&anchored(), &chains()).unwrap();
    assert!(report.consistent());
    assert_eq!(classes(&report), [GOOD; 3]);
    let found = anchors(&report);
    let times = ["2026-09-21T14:14:10Z", "2026-09-21T14:16:40Z", "2026-09-21T14:28:20Z"];
    assert_eq!(found.iter().map(|claim| claim.time.as_str()).collect::<Vec<_>>(), times);
    assert!(found[0].detail.en.contains("of 3 objects it covers the 2 whose log index is below 9"));
    assert!(found[1].detail.en.contains("covers every object") && found[2].detail.en.contains("covers every object"));
    assert!(found[1].trusted.en.contains("who listed this block"));
    // Witnesses date the checkpoint already, and earlier.
    assert!(time(&report).trusted.en.contains("witness.example"));
    let page = report.to_html();
    assert!(page.contains("区块链于所述时间记载了该日志") && page.contains("hash of block 1234567 of chain main"));
}

#[test]
fn without_a_file_of_chains_anchors_are_the_operators_word() {
    let report = judge_with(&anchored(), "").unwrap();
    assert!(report.consistent());
    assert_eq!(classes(&report), [WORD; 3]);
    let text = report.to_text();
    for part in ["hash 0x", "two explorers", "no file of chains of yours names main", "its signature was not checked"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_block_that_was_not_looked_up_is_not_believed() {
    let (same, larger) = (evm(SIZE, BLOCK_TIMES[0]), evm(LARGER, BLOCK_TIMES[1]));
    let lines = evm_line("main", &[&larger]) + &evm_line("other", &[&same, &larger]);
    let report = judge_with(&anchored(), &lines).unwrap();
    assert_eq!(classes(&report), [WORD, WORD, GOOD]);
    assert!(anchors(&report)[1].detail.en.contains("stands and falls with the block hash"));
}

/// The time of the whole bundle comes from the earliest block that covers all of it.
#[test]
fn believed_blocks_date_what_no_witness_does() {
    let chains = chains();
    let request = Request { chains: Some(chains.as_bytes()), ..Request::default() };
    let report = verify(&anchored(), &request, None).unwrap();
    let claim = time(&report);
    assert_eq!((claim.class, claim.outcome), GOOD);
    assert_eq!(claim.time, "2026-09-21T14:16:40Z");
    assert!(claim.trusted.en.contains("chain main"));
    let same = history(&report);
    assert_eq!((same.class, same.outcome), GOOD);
    assert!(same.detail.en.contains("chain other sees this history up to size 20"), "{}", same.detail.en);
    // The ledger is earlier and covers less.
    let ledger = format!("ledger own {} independent\n", ledger::key().vkey());
    let request = Request { chains: Some(ledger.as_bytes()), ..Request::default() };
    let report = verify(&anchored(), &request, None).unwrap();
    assert_eq!(classes(&report), [GOOD, WORD, WORD]);
    assert_eq!((time(&report).class, time(&report).outcome), WORD);
    assert_eq!((history(&report).class, history(&report).outcome), WORD);
}

#[test]
fn the_operators_own_ledger_dates_nothing() {
    let line = format!("ledger own {}\n", ledger::key().vkey());
    let report = judge_with(&anchored(), &line).unwrap();
    assert_eq!(classes(&report), [WORD; 3]);
    assert!(anchors(&report)[0].detail.en.contains("the ledger's key signed it; the ledger is the operator's own"));
}

#[test]
fn other_chains_contracts_and_keys_are_refused() {
    let good = chains();
    let one_bad = |from: &str, to: &str, at: usize| {
        assert!(good.contains(from), "{from}");
        let report = judge_with(&anchored(), &good.replace(from, to)).unwrap();
        let mut expected = [GOOD; 3];
        expected[at] = BAD;
        assert_eq!(classes(&report), expected, "{to}");
        assert!(!report.consistent());
    };
    one_bad("evm main 20200", "evm main 1", 1);
    one_bad("evm main 20200 0xc0", "evm main 20200 0xc1", 1);
    one_bad("evm other 20200 0xc0", "evm other 20200 0xc1", 2);
    one_bad(&ledger::key().vkey().to_string(), &ledger::signer(42).vkey().to_string(), 0);
    // A chain of another kind under the same name.
    let report = judge_with(&anchored(), &good.replace("evm main", "evm own").replace("ledger own", "ledger main"));
    assert_eq!(classes(&report.unwrap()), [BAD, BAD, GOOD]);
    assert!(matches!(judge_with(&anchored(), "evm main\n"), Err(Unusable::Chains(error)) if error.line == 1));
}

/// A block's header is held by its hash alone: if it changes, another hash must be believed, and was not
/// looked up.
#[test]
fn every_flipped_byte_of_an_anchor_is_refused_or_not_believed_although_the_bag_is_sealed_anew() {
    let (good, chains) = (anchored(), chains());
    for (name, bytes) in good.files.iter().filter(|(name, _)| name.starts_with("data/anchors/")) {
        for at in 0..bytes.len() {
            let mut files = good.clone();
            files.files.get_mut(name).unwrap()[at] ^= 1 << (at % 8);
            reseal(&mut files);
            let report = judge_with(&files, &chains).unwrap();
            let believed = classes(&report).iter().all(|class| *class == GOOD);
            assert!(!believed, "{name}, byte {at}");
            assert!(!report.consistent() || name.ends_with(".evm"), "{name}, byte {at}");
        }
    }
}

#[test]
fn what_the_contents_say_of_anchors_is_compared() {
    let differs = |change: &dyn Fn(&mut crate::bundle::contents::Contents)| {
        let mut files = anchored();
        edit(&mut files, |contents| change(contents));
        classes(&judge_with(&files, &chains()).unwrap())
    };
    assert_eq!(differs(&|contents| contents.anchors[1].size = 12), [GOOD, BAD, GOOD]);
    assert_eq!(differs(&|contents| contents.anchors[2].root[0] ^= 1), [GOOD, GOOD, BAD]);
    assert_eq!(differs(&|contents| contents.anchors[0].chain = ChainKind::Evm), [BAD, GOOD, GOOD]);
    // Under another name it is another chain, which nobody trusts.
    assert_eq!(differs(&|contents| contents.anchors[1].name = "unknown".to_owned()), [GOOD, WORD, GOOD]);
    let swap = |contents: &mut crate::bundle::contents::Contents| {
        let first = contents.anchors[0].consistency.take();
        contents.anchors[0].consistency = contents.anchors[2].consistency.replace(first.unwrap());
    };
    assert_eq!(differs(&swap), [BAD, GOOD, BAD]);
}

/// Replaces the proof of the anchor at the bundle's own size.
fn with_proof(bytes: Vec<u8>) -> Files {
    let mut files = anchored();
    files.files.insert("data/anchors/0002.evm".to_owned(), bytes).unwrap();
    reseal(&mut files);
    files
}

#[test]
fn an_anchor_of_another_log_or_another_history_is_refused() {
    let other_log = Anchored { log_id: [9; 32], ..at_size(SIZE) };
    let fork = Anchored { root: [9; 32], ..at_size(SIZE) };
    for anchored in [other_log, fork] {
        let bytes = crate::chain::evm::testing::proof(&anchored, BLOCK_TIMES[0]).encode().unwrap();
        let mut files = with_proof(bytes);
        edit(&mut files, |contents| contents.anchors[1].root = anchored.root);
        let report = judge_with(&files, &chains()).unwrap();
        assert_eq!(classes(&report), [GOOD, BAD, GOOD]);
    }
    let mut missing = anchored();
    missing.files.remove("data/anchors/0001.consistency");
    reseal(&mut missing);
    let refused = judge_with(&missing, &chains()).unwrap_err().to_string();
    assert!(refused.contains("data/anchors/0001.consistency"), "{refused}");
}

#[test]
fn an_anchor_from_before_every_object_says_nothing_of_them() {
    let mut writer = begun();
    let early = block(at_size(3));
    let proof = AnchorProof::Ledger(early.as_bytes());
    writer.anchor(&AnchorEvidence { name: "own", proof, consistency: &consistency(3, SIZE) }).unwrap();
    let report = judge_with(&writer.finish().unwrap(), &chains()).unwrap();
    assert_eq!(classes(&report), [(Class::NotChecked, Outcome::Open)]);
    assert!(report.to_text().contains("before any object of this bundle was logged"));
}

#[test]
fn the_writer_refuses_anchors_that_would_not_verify() {
    let (good, own) = (evm(SIZE, 1), consistency(SMALLER, SIZE));
    let evm_of = |proof| AnchorEvidence { name: "main", proof: AnchorProof::Evm(proof), consistency: &[] };
    let mut early = crate::bundle::testing::writer();
    assert!(matches!(early.anchor(&evm_of(&good)), Err(WriteError::NoCheckpoint)));
    assert!(matches!(begun().anchor(&evm_of(&good[1..])), Err(WriteError::Anchor { .. })));
    let strange = block(Anchored { log_id: [9; 32], ..at_size(SIZE) });
    let proof = AnchorProof::Ledger(strange.as_bytes());
    let refused = begun().anchor(&AnchorEvidence { name: "own", proof, consistency: &[] });
    assert!(matches!(refused, Err(WriteError::Anchor { why, .. }) if why.contains("another log")));
    let larger = evm(LARGER, 1);
    for (proof, consistency) in [(&larger, &[][..]), (&larger, &own), (&good, &own)] {
        let mut writer = begun();
        let evidence = AnchorEvidence { name: "main", proof: AnchorProof::Evm(proof), consistency };
        assert!(matches!(writer.anchor(&evidence), Err(WriteError::Join(_))));
        assert!(matches!(writer.finish(), Err(WriteError::Failed)));
    }
    let mut named = begun();
    named.anchor(&AnchorEvidence { name: "a b", ..evm_of(&good) }).unwrap();
    assert!(matches!(named.finish(), Err(WriteError::Contents(_))));
}

#[test]
fn only_bundles_with_evidence_from_outside_have_version_2() {
    let version = |files: &Files| crate::bundle::contents::Contents::parse(&files.files[CONTENTS]).unwrap().version;
    assert_eq!(version(&anchored()), VERSION_OUTSIDE);
    assert_eq!(version(&without_bytes(&crate::bundle::testing::log(), &[4]).unwrap()), 1);
}
