//! Other people's implementations must agree with ours: what we write they accept, what we refuse
//! they refuse. docs/evidence.md lists who judges what.

mod bags;
mod cosignatures;
mod proofs;
mod vectors;

use std::collections::BTreeSet;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use sha2::Sha256;
use signed_note::{Signer as _, StandardSigner, StandardVerifier, VerifierList};
use tlog_tiles::{Hash as TheirHash, Tile};

use crate::checkpoint::Checkpoint;
use crate::cosignature::sign_note;
use crate::keys::{Signer, TrustedKey};
use crate::lines::print_base64;
use crate::note::Note;
use crate::policy::tests::{ORIGIN, log};
use crate::proof::{Head, consistency, inclusion, verify_consistency, verify_inclusion};
use crate::tile_path::TilePath;
use crate::tiles::tests::filled;
use crate::tree::{Hash, reference};
use crate::vkey::KeyName;

fn text() -> String {
    Checkpoint::new(&KeyName::new(ORIGIN).unwrap(), Head { size: 20_852_163, root: [0xfb; 32] }).text()
}

fn our_note() -> Note {
    Note::build(&text(), &[sign_note(&log(), &text()).unwrap()]).unwrap()
}

fn they_accept(note: &[u8]) -> bool {
    let verifier = StandardVerifier::new(&log().vkey().to_string()).unwrap();
    let known = VerifierList::new(vec![Box::new(verifier)]);
    signed_note::Note::from_bytes(note).is_ok_and(|note| note.verify(&known).is_ok())
}

fn we_accept(note: &[u8]) -> bool {
    let keys = [TrustedKey::new(log().vkey().clone()).unwrap()];
    Note::parse(note).is_ok_and(|note| note.verify(&keys).is_ok())
}

/// The note, changed in ways that a careless parser lets pass.
fn mutations(note: &str) -> Vec<String> {
    let dash = "\u{2014} ";
    let line = note.lines().last().unwrap();
    let (_, blob) = line.rsplit_once(' ').unwrap();
    let size = "20852163";
    let mut mutations = vec![
        note.replace('\n', "\r\n"),
        note.replace("\n\n", "\r\n\r\n"),
        note.trim_end().to_owned(),
        format!("{note}\n"),
        format!("{note}x"),
        format!("{note}{dash}x\n"),
        format!(" {note}"),
        format!("\u{feff}{note}"),
        note.replace("\n\n", "\n"),
        note.replace("\n\n", "\n\n\n"),
        note.replace(dash, "- "),
        note.replace(dash, "\u{2014}"),
        note.replace(dash, "\u{2014}\u{a0}"),
        note.replace(dash, "\u{2014}  "),
        note.replace(blob, &format!(" {blob}")),
        note.replace(blob, &format!("{blob} ")),
        note.replace(blob, blob.trim_end_matches('=')),
        note.replace(blob, &blob.replace('=', "")),
        note.replace(blob, &format!("{blob}=")),
        note.replace(blob, &blob[..88]),
        note.replace(blob, ""),
        note.replace(size, "20852164"),
        note.replace(size, "+20852163"),
        note.replace(size, "020852163"),
        note.replace(&format!("{dash}{ORIGIN}"), &format!("{dash}example.com/lob")),
        note.replace(&format!("{dash}{ORIGIN}"), &format!("{dash}example.com/l+g")),
        note.replace(&format!("{dash}{ORIGIN}"), &format!("{dash}example.com/l\u{2003}g")),
        note.replace("example.com/log\n", "example.com/log\t\n"),
        note.replace("example.com/log\n", "example.com/log\0\n"),
        String::new(),
        "\n\n".to_owned(),
    ];
    let forged = print_base64(&[&log().vkey().id().0[..], &[0; 64]].concat());
    mutations.push(note.replace(blob, &forged));
    mutations.push(note.replace(line, &format!("{dash}{ORIGIN} {forged}\n{line}")));
    mutations
}

#[test]
fn notes_are_accepted_and_refused_alike() {
    let ours = our_note();
    assert!(they_accept(ours.as_bytes()) && we_accept(ours.as_bytes()));
    let note = std::str::from_utf8(ours.as_bytes()).unwrap();
    let mutations = mutations(note);
    assert!(mutations.len() >= 20);
    for mutation in mutations {
        assert_ne!(mutation, note);
        assert!(!they_accept(mutation.as_bytes()), "they take {mutation:?}");
        assert!(!we_accept(mutation.as_bytes()), "we take {mutation:?}");
    }
    // Where opinions differ, ours is the stricter: a wrong line behind a right one of the same key.
    let line = ours.signatures()[0].clone();
    let forged = crate::note::SignatureLine::new(line.name().clone(), line.id(), vec![0; 64]);
    let both = Note::build(&text(), &[line, forged]).unwrap();
    assert!(they_accept(both.as_bytes()) && !we_accept(both.as_bytes()));
}

#[test]
fn one_seed_makes_one_signature() {
    let vkey = log().vkey().clone();
    let secret = print_base64(&[&[1u8][..], &[1; 32]].concat());
    let theirs = StandardSigner::new(&format!("PRIVATE+KEY+{ORIGIN}+{}+{secret}", vkey.id())).unwrap();
    assert_eq!(theirs.sign(text().as_bytes()).unwrap(), log().sign(text().as_bytes()).unwrap());
    assert_eq!(theirs.key_id().to_be_bytes(), vkey.id().0);
}

#[test]
fn checkpoints_are_read_alike() {
    let root = print_base64(&[0xfb; 32]);
    let they_parse = |text: &str| tlog_tiles::Checkpoint::from_bytes(text.as_bytes());
    let theirs = they_parse(&text()).unwrap();
    assert_eq!((theirs.origin(), theirs.size(), theirs.hash().0), (ORIGIN, 20_852_163, [0xfb; 32]));
    assert_eq!(theirs.to_bytes(), text().as_bytes());
    let digits_of_another_script = "\u{ff11}";
    let all = [
        format!("\n1\n{root}\n"),
        format!("o\n+1\n{root}\n"),
        format!("o\n-1\n{root}\n"),
        format!("o\n01\n{root}\n"),
        format!("o\n1 \n{root}\n"),
        format!("o\n 1\n{root}\n"),
        format!("o\n\n{root}\n"),
        format!("o\n0x1\n{root}\n"),
        format!("o\n1_000\n{root}\n"),
        format!("o\n{digits_of_another_script}\n{root}\n"),
        format!("o\n1\r\n{root}\n"),
        format!("o\n1\n{root}\r\n"),
        format!("o\n1\n{root}"),
        format!("o\n1\n\n{root}\n"),
        format!("o\n{root}\n1\n"),
        format!("o\n1\n{}\n", root.trim_end_matches('=')),
        format!("o\n1\n{}\n", root.replace("+/s=", "+/t=")),
        format!("o\n1\n{}\n", root.replace('+', "-").replace('/', "_")),
        format!("o\n1\n {root}\n"),
        format!("o\n1\n{root}=\n"),
        format!("o\n1\n{}\n", hex::encode([0xfb; 32])),
        format!("o\n1\n{}\n", print_base64(&[0; 31])),
        format!("o\n1\n{}\n", print_base64(&[0; 33])),
        "o\n1\n\n".to_owned(),
        "o\n1\n".to_owned(),
        String::new(),
        format!("o\n{}\n{root}\n", u128::from(u64::MAX) + 1),
    ];
    let refused: BTreeSet<&String> = all.iter().collect();
    assert!(refused.len() == all.len() && refused.len() >= 20);
    for refused in refused {
        assert!(they_parse(refused).is_err(), "they take {refused:?}");
        assert!(Checkpoint::parse(refused).is_err(), "we take {refused:?}");
    }
}

#[test]
fn tiles_are_named_alike() {
    for index in [0, 7, 999, 1000, 1_234_067, 999_999_999, u64::MAX / 256] {
        for (level, width) in [(0u8, 256u16), (1, 17), (7, 255)] {
            let theirs = Tile::new(8, level, index, u32::from(width), false).path();
            let ours = TilePath { level: Some(level), index, width: width.into() };
            // Theirs names the tile height as well, as Go's checksum database does.
            assert_eq!(theirs, ours.to_string().replacen("tile/", "tile/8/", 1));
        }
    }
}

fn theirs(hash: &Hash) -> TheirHash {
    TheirHash(*hash)
}

#[test]
fn proofs_are_judged_alike() {
    let (tiles, leaves) = filled(70);
    let root = |size: usize| reference::root(&leaves[..size]);
    for size in 1..=70usize {
        let new = Head { size: size as u64, root: root(size) };
        for (at, leaf) in leaves.iter().enumerate().take(size) {
            let (index, old) = (at as u64, Head { size: at as u64 + 1, root: root(at + 1) });
            let path = inclusion(&tiles, index, new.size).unwrap();
            let proof = consistency(&tiles, old.size, new.size).unwrap();
            for spoilt in 0..=path.len() {
                let mut path = path.clone();
                path.get_mut(spoilt).into_iter().for_each(|hash| hash[5] ^= 1);
                let ours = verify_inclusion(*leaf, index, new.size, &new.root, &path);
                let path = path.iter().map(theirs).collect();
                let verdict = tlog_tiles::check_record(&path, new.size, theirs(&new.root), index, theirs(leaf));
                assert_eq!(ours.is_ok(), verdict.is_ok());
            }
            for spoilt in 0..=proof.len() {
                let mut proof = proof.clone();
                proof.get_mut(spoilt).into_iter().for_each(|hash| hash[5] ^= 1);
                let ours = verify_consistency(old, new, &proof);
                let proof = proof.iter().map(theirs).collect();
                let (th, h) = (theirs(&new.root), theirs(&old.root));
                let verdict = tlog_tiles::check_tree(&proof, new.size, th, old.size, h);
                assert_eq!(ours.is_ok(), verdict.is_ok());
            }
        }
    }
}

#[test]
fn another_tree_makes_the_same_roots_and_proofs() {
    let (tiles, leaves) = filled(130);
    let mut tree = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    for size in 1..=130u64 {
        tree.push((size - 1).to_be_bytes().to_vec());
        let all = usize::try_from(size).unwrap();
        assert_eq!(tree.root().as_bytes().as_slice(), reference::root(&leaves[..all]));
        for at in 0..all {
            let path = inclusion(&tiles, at as u64, size).unwrap();
            assert_eq!(tree.prove_inclusion(at).as_bytes(), path.concat(), "{at} of {size}");
            let proof = consistency(&tiles, at as u64 + 1, size).unwrap();
            assert_eq!(tree.prove_consistency(all - at - 1).as_bytes(), proof.concat(), "{at} to {size}");
        }
    }
}
