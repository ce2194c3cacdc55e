//! Backups go round, and whatever is not what was written is refused before it gives a row.

use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
use proptest::test_runner::RngSeed;
use stele_types::ids::{ClusterId, NodeId};
use stele_types::map::{ClusterMap, NodeRow, NodeState};
use stele_types::role::Role;

use super::*;
use crate::keyspace::{MAP, Tag};
use crate::kv::{KvRead, MemoryKv, MetaKv};
use crate::rows::encode;

/// Rows of a small cluster after some commands, with `more` rows of 1 KiB that no table has.
fn cluster(more: u32) -> MemoryKv {
    let kv = MemoryKv::default();
    let node = |id, role| NodeRow {
        id: NodeId(id),
        role,
        name: format!("n{id}"),
        addresses: vec![format!("n{id}:9100")],
        zone: String::new(),
        rack: String::new(),
        state: NodeState::Active,
        key: [0; 32],
        maintenance_until: 0,
    };
    let map = ClusterMap {
        cluster: Some(ClusterId::from_bytes([7; 16])),
        nodes: vec![node(1, Role::Metadata), node(5, Role::StorageNode)],
        ..ClusterMap::default()
    };
    kv.write(&mut |txn| {
        txn.put(&MAP, &encode(&map))?;
        for n in 0..more {
            txn.put(&[&[Tag::Renamed as u8], n.to_be_bytes().as_slice()].concat(), &[n as u8; 1024])?;
        }
        crate::raft::stand_at(txn, 3, 17)?;
        crate::apply::Batch::begin(txn, Default::default())?.finish()
    })
    .unwrap();
    kv
}

fn sealed(kv: &MemoryKv, key: &SecretKey) -> (Vec<u8>, Sealed) {
    let mut bytes = Vec::new();
    let sealed =
        write(&*kv.view().unwrap(), Facts::of(&*kv.view().unwrap(), &key.recipient()).unwrap(), &mut bytes).unwrap();
    (bytes, sealed)
}

fn all_rows(rows: &dyn KvRead) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    rows.scan(&[], &crate::kv::KEYS_END, &mut |key, value| {
        all.push((key.to_vec(), value.to_vec()));
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    all
}

#[test]
fn a_backup_goes_round_and_says_what_it_is() {
    let key = SecretKey::generate().unwrap();
    for more in [0, 3000] {
        let kv = cluster(more);
        let (bytes, sealed) = sealed(&kv, &key);
        assert_eq!((sealed.bytes, sealed.hash), (bytes.len() as u64, *blake3::hash(&bytes).as_bytes()));
        let facts = &sealed.facts;
        assert_eq!((facts.term, facts.index, facts.rows), (3, 17, all_rows(&*kv.view().unwrap()).len() as u64));
        assert_eq!(read_facts(&mut bytes.as_slice()).unwrap(), *facts);
        let proven = prove(&mut bytes.as_slice()).unwrap();
        assert_eq!((&proven.facts, proven.bytes, proven.hash), (facts, sealed.bytes, sealed.hash));
        let fresh = MemoryKv::default();
        assert_eq!(load(&mut bytes.as_slice(), &key, &fresh).unwrap(), proven);
        assert_eq!(all_rows(&*fresh.view().unwrap()), all_rows(&*kv.view().unwrap()));
    }
}

#[test]
fn nothing_of_the_rows_is_in_clear() {
    let kv = cluster(4);
    kv.write(&mut |txn| txn.put(&[Tag::Renamed as u8, 1], b"a name that nobody may read")).unwrap();
    let (bytes, _) = sealed(&kv, &SecretKey::generate().unwrap());
    assert!(!bytes.windows(13).any(|window| window == b"a name that n"));
}

#[test]
fn the_wrong_key_is_named_and_a_forged_recipient_does_not_help() {
    let (key, other) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
    let (bytes, _) = sealed(&cluster(3), &key);
    let fresh = MemoryKv::default();
    let refused = load(&mut bytes.as_slice(), &other, &fresh).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains(&key.recipient().to_string()) && text.contains(&other.recipient().to_string()), "{text}");
    assert!(all_rows(&*fresh.view().unwrap()).is_empty());
}

/// A change of every byte, and a cut at every byte, of a small backup is refused, with the key and without it.
#[test]
fn damage_at_any_byte_and_any_cut_is_refused() {
    let key = SecretKey::generate().unwrap();
    let (bytes, _) = sealed(&cluster(1), &key);
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x20;
        assert!(prove(&mut flipped.as_slice()).is_err(), "flipped at {at}");
        let fresh = MemoryKv::default();
        assert!(load(&mut flipped.as_slice(), &key, &fresh).is_err(), "flipped at {at}, with the key");
        assert!(all_rows(&*fresh.view().unwrap()).is_empty(), "flipped at {at}: rows came out");
        let cut = prove(&mut &bytes[..at]).unwrap_err();
        assert!(matches!(cut, BackupError::Cut(_)), "cut at {at}: {cut}");
        assert!(load(&mut &bytes[..at], &key, &fresh).is_err(), "cut at {at}, with the key");
    }
    let longer = [&bytes[..], b"x"].concat();
    assert!(matches!(prove(&mut longer.as_slice()), Err(BackupError::Damaged(_))));
}

/// Frames with right hashes that nobody sealed, or that were sealed elsewhere, don't open.
#[test]
fn frames_that_were_put_together_anew_do_not_open() {
    let key = SecretKey::generate().unwrap();
    let (kv, head_len) = (cluster(3000), |bytes: &[u8]| {
        12 + usize::try_from(u32::from_le_bytes(bytes[8..12].try_into().unwrap())).unwrap() + 64
    });
    let ((one, _), (two, _)) = (sealed(&kv, &key), sealed(&kv, &key));
    let frames = |bytes: &[u8]| {
        let (mut at, mut frames) = (head_len(bytes), Vec::new());
        while at < bytes.len() {
            let word: [u8; 4] = bytes[at..at + 4].try_into().unwrap();
            let len = usize::try_from(u32::from_le_bytes(word) & !seal::LAST).unwrap();
            frames.push((word, bytes[at + 4..at + 4 + len].to_vec()));
            at += 4 + len + 32;
        }
        frames
    };
    let rebuilt = |head: &[u8], frames: &[([u8; 4], Vec<u8>)]| {
        let mut out = head.to_vec();
        let mut before = blake3::Hash::from_bytes(head[head.len() - 32..].try_into().unwrap());
        for (word, sealed) in frames {
            before = seal::link(&before, *word, sealed);
            out.extend_from_slice(word);
            out.extend_from_slice(sealed);
            out.extend_from_slice(before.as_bytes());
        }
        out
    };
    let (head, own) = (&one[..head_len(&one)], frames(&one));
    assert!(own.len() > 2);
    assert_eq!(rebuilt(head, &own), one);
    let mut swapped = own.clone();
    swapped.swap(0, 1);
    let mut cut = own[..own.len() - 1].to_vec();
    cut.last_mut().unwrap().0 = (u32::from_le_bytes(cut.last().unwrap().0) | seal::LAST).to_le_bytes();
    for forged in [swapped, own[1..].to_vec(), cut, frames(&two)] {
        let bytes = rebuilt(head, &forged);
        prove(&mut bytes.as_slice()).expect("the hashes are right");
        let refused = load(&mut bytes.as_slice(), &key, &MemoryKv::default()).unwrap_err();
        assert!(refused.to_string().contains("does not open"), "{refused}");
    }
}

/// What is in clear is bound to the frames: it can't be changed without the key.
#[test]
fn a_header_that_was_changed_opens_nothing() {
    let key = SecretKey::generate().unwrap();
    let (bytes, sealed) = sealed(&cluster(1), &key);
    let text = serde_json::to_vec(&sealed.facts).unwrap();
    let changed = String::from_utf8(text.clone()).unwrap().replace("\"index\":17", "\"index\":18").into_bytes();
    assert_ne!(text, changed);
    let mut head = [&bytes[..12], &changed, &bytes[12 + text.len()..12 + text.len() + 32]].concat();
    let mut before = blake3::hash(&head);
    head.extend_from_slice(before.as_bytes());
    let mut rest = &bytes[12 + text.len() + 64..];
    while let Some((word, tail)) = rest.split_first_chunk::<4>() {
        let len = usize::try_from(u32::from_le_bytes(*word) & !seal::LAST).unwrap();
        before = seal::link(&before, *word, &tail[..len]);
        head.extend_from_slice(word);
        head.extend_from_slice(&tail[..len]);
        head.extend_from_slice(before.as_bytes());
        rest = &tail[len + 32..];
    }
    assert_eq!(prove(&mut head.as_slice()).unwrap().facts.index, 18);
    assert!(load(&mut head.as_slice(), &key, &MemoryKv::default()).is_err());
}

#[test]
fn keys_are_texts_that_notice_a_slip() {
    let key = SecretKey::generate().unwrap();
    let text = key.to_text();
    assert_eq!(SecretKey::parse(&text).unwrap().recipient(), key.recipient());
    let public = key.recipient().to_string();
    assert_eq!(public.parse::<Recipient>().unwrap(), key.recipient());
    for at in 0..public.len() {
        let mut slip = public.clone().into_bytes();
        slip[at] = if slip[at] == b'0' { b'1' } else { b'0' };
        assert!(String::from_utf8(slip).unwrap().parse::<Recipient>().is_err(), "at {at}");
    }
    let secret = text.lines().last().unwrap();
    let told = secret.parse::<Recipient>().unwrap_err().to_string();
    assert!(told.contains("must never see"), "{told}");
    assert!(SecretKey::parse(&public).is_err() && SecretKey::parse("").is_err());
    assert!(!format!("{key:?}").contains(secret.get(20..60).unwrap()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, rng_seed: RngSeed::Fixed(14), ..ProptestConfig::default() })]

    #[test]
    fn any_rows_go_round_and_any_bytes_are_refused_or_read(
        rows in proptest::collection::btree_map(
            proptest::collection::vec(any::<u8>(), 1..40), proptest::collection::vec(any::<u8>(), 0..300), 0..40),
        junk in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let (kv, key) = (cluster(0), SecretKey::generate().unwrap());
        kv.write(&mut |txn| {
            for (name, value) in &rows {
                let own = [&[Tag::Renamed as u8], name.as_slice()].concat();
                txn.put(&own, value)?;
            }
            Ok(())
        }).unwrap();
        let (bytes, _) = sealed(&kv, &key);
        let fresh = MemoryKv::default();
        load(&mut bytes.as_slice(), &key, &fresh).unwrap();
        prop_assert_eq!(all_rows(&*fresh.view().unwrap()), all_rows(&*kv.view().unwrap()));
        prop_assert!(prove(&mut junk.as_slice()).is_err());
        let spliced = [&bytes[..bytes.len() / 2], &junk].concat();
        prop_assert!(prove(&mut spliced.as_slice()).is_err());
    }
}
