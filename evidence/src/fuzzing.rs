//! Entry points for the fuzz targets of this crate. Each takes any bytes at all and panics only if a
//! promise is broken. `fuzz/` runs them under libFuzzer; the test below replays their corpora.

use std::sync::OnceLock;

use crate::anchor_archive;
use crate::audit::answer::{Answer, AnswerKey};
use crate::audit::inventory::Row;
use crate::audit::progress::Verdict;
use crate::audit::report::{Outcome, Report as AuditReport};
use crate::audit::verify::verify_report;
use crate::bundle::bag::{parse_digests, parse_info, print_digests};
use crate::bundle::chunks_file::{ChunksFile, HEADER, encode_row};
use crate::bundle::contents::Contents;
use crate::bundle::range_file::{decode_range_proof, encode_range_proof};
use crate::chain::evm::EvmProof;
use crate::chain::ledger::{BLOCK_LEN, Block, LedgerKey, verify_blocks};
use crate::checkpoint::Checkpoint;
use crate::entry_bundle::{decode_bundle, encode_bundle};
use crate::keys::TrustedKey;
use crate::log_archive::{Footer, decode_section};
use crate::note::Note;
use crate::policy::Policy;
use crate::proof::{Head, verify_consistency, verify_inclusion};
use crate::record::Record;
use crate::tile_path::TilePath;
use crate::timestamp::response::Response;
use crate::timestamp::roots::Roots;
use crate::tlog_proof::TlogProof;
use crate::tree::Hash;
use crate::witness::{AddCheckpoint, Decision, decide, parse_cosignatures, parse_size};

/// The golden checkpoint and policy. The seeds of the corpora are made of them, so that mutations
/// come near to what verifies.
struct Known {
    note: Note,
    policy: Policy,
    /// Keys that cover every byte of a note's text: Ed25519 ones.
    strict: Vec<TrustedKey>,
    all: Vec<TrustedKey>,
}

fn known() -> &'static Known {
    static KNOWN: OnceLock<Known> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let note = Note::parse(include_bytes!("../golden/checkpoint.txt")).expect("the golden checkpoint parses");
        let policy = Policy::parse(include_bytes!("../golden/policy.txt")).expect("the golden policy parses");
        let parties = policy.logs().iter().chain(policy.witnesses());
        let all: Vec<TrustedKey> = parties.filter_map(|party| TrustedKey::new(party.key.clone()).ok()).collect();
        let strict = all.iter().filter(|key| key.vkey().public_key().len() == 32).cloned().collect();
        Known { note, policy, strict, all }
    })
}

/// Notes keep their bytes, and no other text than the signed one verifies.
pub fn fuzz_note(data: &[u8]) {
    let Ok(note) = Note::parse(data) else { return };
    assert_eq!(note.as_bytes(), data);
    assert_eq!(Note::build(note.text(), note.signatures()).as_ref(), Ok(&note));
    let known = known();
    if note.verify(&known.strict).is_ok() {
        assert_eq!(note.text(), known.note.text(), "a forged text");
    }
}

/// A checkpoint without extension lines has one text.
pub fn fuzz_checkpoint(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(checkpoint) = Checkpoint::parse(text) {
        let extensions: usize = checkpoint.extensions().iter().map(|line| line.len() + 1).sum();
        assert_eq!(checkpoint.text().len() + extensions, text.len());
        assert!(text.starts_with(&checkpoint.text()));
    }
}

/// Any policy comes to a verdict on the golden checkpoint, and never accepts it without its log.
pub fn fuzz_policy(data: &[u8]) {
    let Ok(policy) = Policy::parse(data) else { return };
    if let Ok(found) = policy.evaluate(&known().note) {
        assert!(found.logs.iter().all(|log| log.party.key.name().as_str() == found.checkpoint.origin()));
        assert!(!found.logs.is_empty(), "nobody's checkpoint");
    }
}

/// Proofs print as they were, and prove nothing of an entry that was never logged.
pub fn fuzz_tlog_proof(data: &[u8]) {
    let Ok(proof) = TlogProof::parse(data) else { return };
    assert_eq!(proof.print(), data);
    assert!(proof.verify(b"was never logged", &known().policy).is_err(), "a forged proof");
}

/// Requests print as they were; the witness cosigns nothing its log did not sign, nor goes back.
/// The answers that a client reads are judged without a panic.
pub fn fuzz_witness_body(data: &[u8]) {
    let known = known();
    if let Some(size) = parse_size(data) {
        assert_eq!(crate::witness::print_size(size).as_bytes(), data);
    }
    if let Ok(lines) = parse_cosignatures(data, &known.note, &known.all) {
        assert!(!lines.is_empty());
    }
    let Ok(request) = AddCheckpoint::parse(data) else { return };
    assert_eq!(request.print(), data);
    let stored = Head { size: request.old(), root: request.checkpoint().head().root };
    for stored in [None, Some(stored)] {
        if let Decision::Accept { state } = decide(stored, &request, &known.strict) {
            assert_eq!(request.note().text(), known.note.text(), "a forged checkpoint");
            assert!(stored.is_none_or(|stored| stored.size <= state.size), "a tree that shrank");
        }
    }
}

/// Paths and bundles have one form.
pub fn fuzz_tile(data: &[u8]) {
    if let Ok(entries) = decode_bundle(data) {
        assert_eq!(encode_bundle(&entries).as_deref(), Ok(data));
    }
    if let Some(path) = std::str::from_utf8(data).ok().and_then(TilePath::parse) {
        assert_eq!(path.to_string().as_bytes(), data);
    }
}

/// Contents that are read print to contents that are read the same, and name no file outside the bundle.
pub fn fuzz_bundle_contents(data: &[u8]) {
    let Ok(contents) = Contents::parse(data) else { return };
    // Escapes may make a printed text longer than it came.
    if let Ok(text) = contents.print() {
        assert_eq!(Contents::parse(&text).as_ref(), Ok(&contents));
    }
    for name in contents.files() {
        assert!(name.starts_with("data/") && !name.split('/').any(|part| part.starts_with('.')), "{name}");
    }
}

/// Chunks files are made of their rows, and range files have one form; neither makes the reader panic.
pub fn fuzz_bundle_chunks(data: &[u8]) {
    if let Ok(proof) = decode_range_proof(data) {
        assert_eq!(encode_range_proof(&proof).as_deref(), Ok(data));
        let unrelated = stele_types::ids::ObjectRoot::from_bytes([0x5a; 32]);
        let end = proof.total_len;
        assert!(stele_chunker::tree::verify_range(&unrelated, &proof, end / 3..end).is_err());
    }
    let Ok(mut file) = ChunksFile::open(data) else { return };
    let mut again = HEADER.to_vec();
    while let Ok(Some(leaf)) = file.next_leaf() {
        again.extend(encode_row(&leaf).expect("a length that was read can be written"));
    }
    assert!(data.starts_with(&again));
}

/// Digest lists print to lists that are read the same, whichever of the two they are; a bag's words about
/// itself are read without a panic.
pub fn fuzz_bag_digests(data: &[u8]) {
    for payload in [false, true] {
        if let Ok(digests) = parse_digests(data, payload) {
            assert!(digests.keys().all(|name| name.starts_with("data/") == payload));
            let text = print_digests(&digests);
            assert_eq!(text.len(), data.len());
            assert_eq!(parse_digests(text.as_bytes(), payload), Ok(digests));
        }
    }
    let _verdict = parse_info(data);
}

/// Blocks keep their bytes, and the golden key vouches for no others than the golden ones.
pub fn fuzz_ledger(data: &[u8]) {
    const GOLDEN: &[u8] = include_bytes!("../golden/ledger.bin");
    if let Ok(block) = Block::decode(data) {
        assert_eq!(block.as_bytes(), data);
    }
    let key = LedgerKey::parse(include_str!("../golden/ledger.vkey").trim_end()).expect("the golden key parses");
    if let Ok(state) = verify_blocks(&key, data) {
        assert!(GOLDEN.starts_with(data), "a forged ledger");
        assert_eq!(state.height(), (data.len() / BLOCK_LEN) as u64);
    }
}

/// Reports, rows and answers have one form, and no report has an answer of the golden nodes that they did not give.
pub fn fuzz_audit_report(data: &[u8]) {
    if let Ok(row) = Row::decode(data) {
        assert_eq!(row.encode(), data);
        assert!(row.group_bytes(row.groups() - 1).end == row.len());
    }
    if let Ok(answer) = Answer::decode(data) {
        assert_eq!(answer.encode(), data);
    }
    let Ok(report) = AuditReport::decode(data) else { return };
    assert_eq!(report.encode().as_deref(), Ok(data));
    let golden = AuditReport::decode(include_bytes!("../golden/audit.report")).expect("the golden report decodes");
    let key = |text| AnswerKey::parse(text).expect("the golden keys parse");
    let nodes = golden.inventories.iter().map(|listed| listed.head.node);
    let keys = nodes.zip(include_str!("../golden/audit.vkeys").lines().map(key)).collect();
    if verify_report(&report, &keys, &mut |_| None).is_ok_and(|checked| checked.count(Verdict::Ok) > 0) {
        let given = |outcome: &Outcome| golden.outcomes.iter().any(|known| known.answer == outcome.answer);
        let known = |node| keys.contains_key(&node);
        let all_known = report.inventories.iter().all(|listed| known(listed.head.node));
        let mut ok = report.outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Ok);
        assert!(!all_known || ok.all(given), "a forged answer");
    }
}

/// Proofs have one form, and the golden block holds the golden anchor only.
pub fn fuzz_evm_proof(data: &[u8]) {
    let Ok(proof) = EvmProof::decode(data) else { return };
    assert_eq!(proof.encode().as_deref(), Ok(data));
    let golden = EvmProof::decode(include_bytes!("../golden/evm.proof")).expect("the golden proof decodes");
    let (found, known) = (proof.verify(&golden.pin), golden.verify(&golden.pin));
    if let (Ok(found), Ok(known)) = (found, known) {
        // The state part may be left out.
        let same = crate::chain::evm::EvmAnchor { stored: known.stored, ..found };
        assert!(found.block_hash != known.block_hash || same == known, "a forged anchor");
    }
}

/// Any response comes to a verdict, and none stamps what the golden authority never saw.
pub fn fuzz_timestamp(data: &[u8]) {
    let Ok(response) = Response::parse(data) else { return };
    let mut roots = Roots::default();
    roots.add(include_bytes!("../golden/tsa/root-p256.pem")).expect("the golden root is one");
    assert!(response.verify(b"was never stamped", &roots, None).is_err(), "a forged token");
}

/// Any file of chains, file of roots and consistency file comes to a verdict.
pub fn fuzz_trusted_chains(data: &[u8]) {
    let _verdict = crate::chain::trust::TrustedChains::parse(data);
    let _verdict = Roots::default().add(data);
    if let Ok(proof) = crate::bundle::join::parse_consistency(data) {
        assert_eq!(crate::bundle::join::print_consistency(&proof), data);
    }
}

/// Bytes that decode are the one encoding of that record.
pub fn fuzz_record(data: &[u8]) {
    if let Ok(record) = Record::decode(data) {
        assert_eq!(record.encode(), data);
    }
}

/// Any path, index and sizes: a verdict, and none for an entry that the tree does not have.
pub fn fuzz_log_proof(data: &[u8]) {
    let Some((first, rest)) = data.split_first_chunk::<8>() else { return };
    let Some((second, rest)) = rest.split_first_chunk::<8>() else { return };
    let (first, second) = (u64::from_le_bytes(*first), u64::from_le_bytes(*second));
    let (path, _) = rest.as_chunks::<32>();
    let path: &[Hash] = path;
    let root = path.last().copied().unwrap_or_else(crate::tree::empty_root);
    let leaf = crate::tree::leaf_hash(data);
    let included = verify_inclusion(leaf, first, second, &root, path);
    assert!(included.is_err() || first < second, "an entry past the end");
    let (old, new) = (Head { size: first, root: leaf }, Head { size: second, root });
    let consistent = verify_consistency(old, new, path);
    assert!(consistent.is_err() || first <= second, "a tree that shrank");
}

/// Footers have one form, and so have files of anchors, and sections of as many items as the first byte says.
pub fn fuzz_log_archive(data: &[u8]) {
    if let Ok(footer) = Footer::decode(data) {
        assert_eq!(footer.encode(), data);
        let sections = footer.sections.len();
        let end = footer.range_of(sections - 1).map_or(0, |range| range.end);
        assert_eq!(footer.archive_len(), end + data.len() as u64);
        assert!(footer.open_section(0, data).is_err(), "a footer is no section of its archive");
    }
    if let Ok(anchors) = anchor_archive::decode(data) {
        let mut again = anchor_archive::MAGIC.to_vec();
        anchors.iter().for_each(|one| anchor_archive::encode_to(one.size, &one.root, &one.proof, &mut again));
        assert_eq!(again, data);
    }
    let Some((count, rest)) = data.split_first() else { return };
    if let Ok(items) = decode_section(rest, usize::from(*count)) {
        assert_eq!(items.len(), usize::from(*count));
        let mut again = Vec::new();
        items.iter().for_each(|item| item.encode_to(&mut again));
        assert_eq!(again, rest);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use stele_types::ids::{LogIndex, Salt};

    use super::{AddCheckpoint, BLOCK_LEN, Note, TlogProof, encode_bundle, known};
    use crate::golden::{CHECKPOINT, POLICY, PROOF, request};
    use crate::log_archive::{Footer, Height, Item, Section};
    use crate::record::Entry;
    use crate::record::tests::{locked, sample};

    #[expect(clippy::disallowed_methods, reason = "test inputs, not stored data")]
    fn replay(target: &str, run: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut count = 0;
        for file in files {
            run(&std::fs::read(file.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0, "no seeds in {}", folder.display());
    }

    #[test]
    fn corpora_hold() {
        replay("evidence_record", super::fuzz_record);
        replay("log_proof", super::fuzz_log_proof);
        replay("log_archive", super::fuzz_log_archive);
        replay("note", super::fuzz_note);
        replay("checkpoint", super::fuzz_checkpoint);
        replay("policy", super::fuzz_policy);
        replay("tlog_proof", super::fuzz_tlog_proof);
        replay("witness_body", super::fuzz_witness_body);
        replay("tile", super::fuzz_tile);
        replay("bundle_contents", super::fuzz_bundle_contents);
        replay("bundle_chunks", super::fuzz_bundle_chunks);
        replay("bag_digests", super::fuzz_bag_digests);
        replay("ledger", super::fuzz_ledger);
        replay("audit_report", super::fuzz_audit_report);
        replay("evm_proof", super::fuzz_evm_proof);
        replay("timestamp", super::fuzz_timestamp);
        replay("trusted_chains", super::fuzz_trusted_chains);
    }

    #[test]
    #[ignore = "writes fuzz/corpus"]
    #[expect(clippy::disallowed_methods, reason = "test inputs, not stored data")]
    fn write_seeds() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        // Without the long ML-DSA lines, so that mutations hit the grammar more often.
        let short = Note::build(known().note.text(), &known().note.signatures()[..1]).unwrap();
        let proven = TlogProof::parse(PROOF).unwrap();
        let proof = [5u64.to_le_bytes().as_slice(), &8u64.to_le_bytes(), &[7; 96]].concat();
        let (whole, range) = (crate::bundle::testing::whole(true).files, crate::bundle::testing::range().files);
        let anchored = crate::bundle::testing::outside::anchored().files;
        let audited = super::AuditReport::decode(crate::audit::tests::golden::REPORT).unwrap().outcomes;
        let kept = Item::Kept { salt: Salt::from_bytes([7; 32]), record: sample().encode() };
        let (entry, previous, by) = (Entry([8; 32]), Some(LogIndex(3)), LogIndex(9));
        let items = [kept, Item::Erased { entry, previous, by }, Item::Erased { entry, previous: None, by }];
        let (mut section, mut archived) = (vec![3], Vec::new());
        items.iter().for_each(|item| item.encode_to(&mut section));
        for (height, first) in [(Height::Tile, 512), (Height::TileOfTiles, 65_536)] {
            let sections = vec![Section::of(&section); height.sections()];
            let footer = Footer { height, first: LogIndex(first), sections, tiles: vec![[5; 32]; height.tiles()] };
            archived.push(footer.encode());
        }
        let mut anchors = super::anchor_archive::MAGIC.to_vec();
        super::anchor_archive::encode_to(258, &[7; 32], b"proof", &mut anchors);
        super::anchor_archive::encode_to(300, &[8; 32], b"", &mut anchors);
        let seeds = [
            ("log_archive", "seed-0", section),
            ("log_archive", "seed-3", anchors),
            ("log_archive", "seed-1", archived[0].clone()),
            ("log_archive", "seed-2", archived[1].clone()),
            ("bundle_contents", "seed-0", whole["stele-bundle.json"].clone()),
            ("bundle_contents", "seed-1", range["stele-bundle.json"].clone()),
            ("bundle_chunks", "seed-0", whole["data/object-0001/chunks.bin"].clone()),
            ("bundle_chunks", "seed-1", range["data/object-0001/range.bin"].clone()),
            ("bag_digests", "seed-0", whole["manifest-sha256.txt"].clone()),
            ("bag_digests", "seed-1", whole["tagmanifest-sha256.txt"].clone()),
            ("bag_digests", "seed-2", whole["bag-info.txt"].clone()),
            ("evidence_record", "seed-0", sample().encode()),
            ("evidence_record", "seed-1", locked().encode()),
            ("log_proof", "seed-0", proof),
            ("note", "seed-0", CHECKPOINT.to_vec()),
            ("note", "seed-1", short.as_bytes().to_vec()),
            ("checkpoint", "seed-0", known().note.text().as_bytes().to_vec()),
            ("checkpoint", "seed-1", format!("{}extension\n", known().note.text()).into_bytes()),
            ("policy", "seed-0", POLICY.to_vec()),
            ("policy", "seed-1", b"# nobody\n\tquorum none \n".to_vec()),
            ("tlog_proof", "seed-0", PROOF.to_vec()),
            ("tlog_proof", "seed-1", TlogProof { extra: vec![7; 9], checkpoint: short.clone(), ..proven }.print()),
            ("witness_body", "seed-0", request().print()),
            ("witness_body", "seed-1", AddCheckpoint::new(0, Vec::new(), short).unwrap().print()),
            ("witness_body", "seed-2", b"20852163\n".to_vec()),
            ("witness_body", "seed-3", known().note.signatures()[2].to_string().into_bytes()),
            ("bundle_contents", "seed-2", anchored["stele-bundle.json"].clone()),
            ("timestamp", "seed-0", include_bytes!("../golden/tsa/p256.tsr").to_vec()),
            ("timestamp", "seed-1", include_bytes!("../golden/tsa/rsa.tsr").to_vec()),
            ("trusted_chains", "seed-0", crate::bundle::testing::outside::chains().into_bytes()),
            ("trusted_chains", "seed-1", anchored["data/anchors/0001.consistency"].clone()),
            ("trusted_chains", "seed-2", include_bytes!("../golden/tsa/root-p256.pem").to_vec()),
            ("evm_proof", "seed-0", include_bytes!("../golden/evm.proof").to_vec()),
            ("evm_proof", "seed-1", include_bytes!("../golden/evm-anvil.proof").to_vec()),
            ("audit_report", "seed-0", crate::audit::tests::golden::REPORT.to_vec()),
            ("audit_report", "seed-1", audited[0].row.encode()),
            ("audit_report", "seed-2", audited[0].answer.as_ref().unwrap().encode()),
            ("ledger", "seed-0", include_bytes!("../golden/ledger.bin").to_vec()),
            ("ledger", "seed-1", include_bytes!("../golden/ledger.bin")[..BLOCK_LEN].to_vec()),
            ("tile", "seed-0", b"tile/entries/x001/x234/067.p/255".to_vec()),
            ("tile", "seed-1", encode_bundle(&[b"entry", b"", &[0; 300]]).unwrap()),
        ];
        for (target, name, seed) in seeds {
            std::fs::create_dir_all(corpus.join(target)).unwrap();
            std::fs::write(corpus.join(target).join(name), seed).unwrap();
        }
    }
}
