use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use stele_types::manifest::{Manifest, Page, decode_page};
use stele_types::pack::{chunk_list_of, decode_chunk_list_of};

use super::*;
use crate::pages::{Growth, ManifestWalk, Step, verify_manifest};
use crate::testing::noise;
use crate::tree::{Leaf, top_of};

const MIB: usize = 1 << 20;

/// Sealed packs by id: a store for tests.
#[derive(Default)]
struct Store {
    packs: BTreeMap<PackId, SealedPack>,
    manifests: BTreeMap<BodyTag, BodyManifest>,
}

impl Store {
    fn take(&mut self, packs: impl IntoIterator<Item = SealedPack>) {
        for pack in packs {
            check_pack(&pack);
            self.manifests.extend(pack.manifests.iter().map(|m| (m.body, m.clone())));
            assert!(self.packs.insert(pack.id, pack).is_none(), "a pack id twice");
        }
    }

    fn bytes(&self, entry: &ChunkEntry) -> Bytes {
        let bytes = self.packs[&entry.pack].bytes_of(entry).unwrap();
        assert_eq!(blake3::hash(&bytes).as_bytes(), entry.id.as_bytes());
        bytes
    }

    /// Reads a range the way a gateway does.
    fn read(&self, root: &ObjectRoot, manifest: &Manifest, range: std::ops::Range<u64>) -> Vec<u8> {
        let mut walk = ManifestWalk::new(root, manifest, range.clone()).unwrap();
        let mut out = Vec::new();
        loop {
            match walk.next_step() {
                Step::Done => return out,
                Step::NeedPage(entry) => walk.page(&self.bytes(&entry)).unwrap(),
                Step::Chunk(located) => {
                    let bytes = self.bytes(&located.item);
                    let from = range.start.saturating_sub(located.offset) as usize;
                    let to = ((range.end - located.offset) as usize).min(bytes.len());
                    out.extend_from_slice(&bytes[from..to]);
                }
            }
        }
    }
}

/// What every sealed pack keeps.
fn check_pack(pack: &SealedPack) {
    assert_eq!(pack.preimage.pack_id(), pack.id);
    assert!(pack.payload_len() <= PACK_BYTES_MAX);
    assert_eq!(pack.payload.len(), padded_len(pack.payload_len()));
    assert_eq!(pack.payload.as_ptr().align_offset(4096), 0);
    let list = chunk_list_of(&pack.preimage, &pack.payload[..pack.payload_len()]).unwrap();
    assert_eq!(list.len(), pack.chunks.len());
    let mut offset = 0;
    for (row, stored) in list.iter().zip(&pack.chunks) {
        assert_eq!((row.id, row.len, offset), (stored.entry.id, stored.entry.len, stored.entry.offset));
        assert_eq!(stored.entry.pack, pack.id);
        offset += row.stored_len;
    }
    assert!(decode_chunk_list_of(&pack.preimage, &pack.payload[offset as usize..pack.payload_len()]).is_ok());
}

fn writer(target: usize) -> PackWriter {
    PackWriter::new([7; 32], PackTarget::new(target)).with_pool(&BufferPool::new(64 * MIB))
}

/// Writes a body in pieces and gives back its end; packs go to the store.
fn put(writer: &mut PackWriter, store: &mut Store, tag: u64, body: &[u8], piece: usize) -> EndedBody {
    writer.begin_body(BodyTag(tag), Epoch(tag), Some(body.len() as u64)).unwrap();
    for bytes in body.chunks(piece) {
        store.take(writer.write(bytes).unwrap());
    }
    let (ended, full) = writer.end_body().unwrap();
    store.take(full);
    ended
}

/// Manifest of a body once everything was sealed.
fn manifest(store: &Store, ended: &EndedBody) -> Manifest {
    match &ended.manifest {
        Some(done) => done.manifest.clone(),
        None => store.manifests[&ended.body].manifest.clone(),
    }
}

fn crate_chunks(body: &[u8]) -> Vec<Leaf> {
    let mut cutter = Cutter::default();
    let mut rest = body;
    let mut out = Vec::new();
    while !rest.is_empty() {
        let len = cutter.scan(rest).unwrap_or(rest.len());
        let (chunk, later) = rest.split_at(len);
        out.push(Leaf { id: ChunkId::from_bytes(*blake3::hash(chunk).as_bytes()), len: len as u64 });
        rest = later;
    }
    out
}

#[test]
fn chunks_depend_on_the_body_and_never_on_packs() {
    let body = noise(1, 30 * MIB);
    let expected = crate_chunks(&body);
    for (target, piece) in [(MIB, 65_536), (8 * MIB, 1000), (8 * MIB, 30 * MIB), (64 * MIB, 3 * MIB + 1)] {
        let (mut writer, mut store) = (writer(target), Store::default());
        let ended = put(&mut writer, &mut store, 1, &body, piece);
        store.take(writer.seal().unwrap());
        assert_eq!(ended.root, top_of(&expected).object_root());
        assert_eq!((ended.len, ended.chunks), (body.len() as u64, expected.len() as u64));
        let manifest = manifest(&store, &ended);
        verify_manifest(&ended.root, &manifest).unwrap();
        assert!(store.read(&ended.root, &manifest, 0..body.len() as u64) == body);
        let most = target.min(PackTarget::MAX.bytes()) + CHUNK_BYTES_MAX + 500_000;
        assert!(store.packs.values().all(|pack| pack.payload_len() <= most));
        let listed: Vec<PackId> = store.manifests[&BodyTag(1)].packs.clone();
        assert_eq!(listed.len(), store.packs.len(), "all packs are referred to");
    }
}

#[test]
fn many_small_bodies_share_one_pack() {
    let (mut writer, mut store) = (writer(8 * MIB), Store::default());
    let bodies: Vec<Vec<u8>> = (0..100).map(|i| noise(i, 1 + 997 * i as usize)).collect();
    let ended: Vec<EndedBody> =
        bodies.iter().enumerate().map(|(at, body)| put(&mut writer, &mut store, at as u64, body, 4096)).collect();
    assert!(store.packs.is_empty());
    store.take(writer.seal().unwrap());
    assert_eq!(store.packs.len(), 1);
    let pack = store.packs.values().next().unwrap();
    assert_eq!(pack.preimage.start_epoch, Epoch(99), "the highest of its bodies");
    for (body, ended) in bodies.iter().zip(&ended) {
        let manifest = manifest(&store, ended);
        assert_eq!(store.manifests[&ended.body].packs, [pack.id]);
        assert_eq!(ended.only_chunk.unwrap().as_bytes(), blake3::hash(body).as_bytes());
        assert!(store.read(&ended.root, &manifest, 0..body.len() as u64) == *body);
    }
    assert!(writer.seal().unwrap().is_none(), "nothing is left");
}

#[test]
fn an_object_of_several_chunks_needs_one_pack_with_its_page() {
    let (mut writer, mut store) = (writer(8 * MIB), Store::default());
    let body = noise(3, 5 * MIB);
    let ended = put(&mut writer, &mut store, 1, &body, 65_536);
    assert!(ended.chunks > 2);
    store.take(writer.seal().unwrap());
    assert_eq!(store.packs.len(), 1);
    let Manifest::Paged { root, index_levels: 0 } = manifest(&store, &ended) else { panic!("not one page") };
    let pack = &store.packs[&root.page.pack];
    assert_eq!(pack.chunks.iter().filter(|c| c.page).count(), 1);
    let Page::Entries(entries) = decode_page(&pack.bytes_of(&root.page).unwrap(), pack.id).unwrap() else {
        panic!("not a page of chunks")
    };
    assert!(entries.iter().all(|entry| entry.pack == pack.id));
}

#[test]
fn an_empty_body_has_no_pack() {
    let mut writer = writer(MIB);
    writer.begin_body(BodyTag(1), Epoch(1), Some(0)).unwrap();
    let (ended, full) = writer.end_body().unwrap();
    assert!(full.is_empty() && writer.seal().unwrap().is_none());
    assert_eq!(ended.root, crate::tree::empty_object_root());
    assert_eq!(ended.manifest.unwrap().manifest, Manifest::Inline(Vec::new()));
}

#[test]
fn a_manifest_whose_chunks_are_all_sealed_is_known_at_the_end() {
    let (mut writer, mut store) = (writer(MIB), Store::default());
    writer.begin_body(BodyTag(1), Epoch(1), None).unwrap();
    let body = vec![0; 8 * MIB];
    store.take(writer.write(&body).unwrap());
    let (ended, full) = writer.end_body().unwrap();
    assert!(full.is_empty());
    assert_eq!(store.packs.len(), 2);
    let done = ended.manifest.unwrap();
    assert_eq!(done.packs.len(), 2);
    assert!(store.read(&ended.root, &done.manifest, 0..8 << 20) == body);
}

#[test]
fn an_aborted_body_leaves_the_others_alone() {
    let (mut writer, mut store) = (writer(8 * MIB), Store::default());
    let first = put(&mut writer, &mut store, 1, &noise(1, 5000), 999);
    writer.begin_body(BodyTag(2), Epoch(2), None).unwrap();
    assert!(writer.write(&noise(2, 3 * MIB)).unwrap().is_empty());
    writer.abort_body();
    let third = put(&mut writer, &mut store, 3, &noise(3, 300_000), 999);
    store.take(writer.seal().unwrap());
    for (ended, seed, len) in [(first, 1, 5000), (third, 3, 300_000)] {
        let manifest = manifest(&store, &ended);
        assert!(store.read(&ended.root, &manifest, 0..len) == noise(seed, len as usize));
    }
    assert!(!store.manifests.contains_key(&BodyTag(2)));
}

#[test]
fn use_out_of_order_is_refused() {
    let mut writer = writer(MIB);
    assert_eq!(writer.write(b"x").unwrap_err(), WriteError::NoBody);
    assert_eq!(writer.end_body().unwrap_err(), WriteError::NoBody);
    writer.begin_body(BodyTag(1), Epoch(1), None).unwrap();
    assert_eq!(writer.begin_body(BodyTag(2), Epoch(1), None).unwrap_err(), WriteError::BodyOpen);
}

fn stored_entry(seed: u64) -> ChunkEntry {
    let pack = PackId::from_bytes(*blake3::hash(&(seed / 37).to_le_bytes()).as_bytes());
    let id = ChunkId::from_bytes(*blake3::hash(&seed.to_le_bytes()).as_bytes());
    let len = 1000 + (seed % 77) as u32;
    ChunkEntry { id, len, pack, offset: 5, stored_len: len, codec: Codec::Raw, key_id: 0 }
}

/// Chunk entries of a range, with their offsets, as a walk gives them out.
fn walk(
    store: &Store,
    root: &ObjectRoot,
    manifest: &Manifest,
    range: std::ops::Range<u64>,
) -> (Vec<(u64, ChunkEntry)>, usize) {
    let mut walk = ManifestWalk::new(root, manifest, range).unwrap();
    let (mut chunks, mut pages) = (Vec::new(), 0);
    loop {
        match walk.next_step() {
            Step::Done => return (chunks, pages),
            Step::Chunk(located) => chunks.push((located.offset, located.item)),
            Step::NeedPage(entry) => {
                pages += 1;
                walk.page(&store.bytes(&entry)).unwrap();
            }
        }
    }
}

#[test]
fn a_list_of_stored_chunks_becomes_a_manifest_without_moving_bytes() {
    for count in [0u64, 1, 2, 3, 1023, 1024, 1025, 2049, 1024 * 1024 + 3] {
        let (mut writer, mut store) = (writer(64 * MIB), Store::default());
        writer.begin_body(BodyTag(9), Epoch(4), None).unwrap();
        for seed in 0..count {
            store.take(writer.push_entry(stored_entry(seed)).unwrap());
        }
        let (ended, full) = writer.end_body().unwrap();
        store.take(full);
        store.take(writer.seal().unwrap());
        let manifest = manifest(&store, &ended);
        let levels = match (&manifest, count) {
            (Manifest::Inline(_), 0..=2) => None,
            (Manifest::Paged { index_levels, .. }, _) => Some(*index_levels),
            _ => panic!("{count} entries inline"),
        };
        let expected = [None, Some(0), Some(1), Some(2)];
        let expected = expected[[2, 1024, 1 << 20].iter().filter(|limit| count > **limit).count()];
        assert_eq!(levels, expected, "{count}");
        let total = ended.len;
        if count > 0 {
            let (chunks, pages) = walk(&store, &ended.root, &manifest, total / 2..total / 2 + 1);
            assert_eq!(chunks.len(), 1);
            assert_eq!(pages, levels.map_or(0, |l| usize::from(l) + 1), "a range reads one path");
            let (chunks, _) = walk(&store, &ended.root, &manifest, total - 1..total);
            assert_eq!(chunks[0].1, stored_entry(count - 1));
        }
        if count < 5000 {
            let (chunks, _) = walk(&store, &ended.root, &manifest, 0..total);
            assert!(chunks.iter().map(|(_, c)| c.clone()).eq((0..count).map(stored_entry)));
        }
    }
}

#[test]
fn a_walk_refuses_wrong_pages_and_goes_on_with_the_right_one() {
    let (mut writer, mut store) = (writer(64 * MIB), Store::default());
    let body = noise(8, 6 * MIB);
    let ended = put(&mut writer, &mut store, 1, &body, 1 << 20);
    store.take(writer.seal().unwrap());
    let manifest = manifest(&store, &ended);
    let mut walk = ManifestWalk::new(&ended.root, &manifest, 0..1).unwrap();
    let Step::NeedPage(entry) = walk.next_step() else { panic!("no page asked for") };
    let page = store.bytes(&entry);
    let mut damaged = page.to_vec();
    damaged[70] ^= 1;
    assert!(walk.page(&damaged).is_err());
    assert!(walk.page(&page[1..]).is_err());
    assert_eq!(walk.next_step(), Step::NeedPage(entry));
    walk.page(&page).unwrap();
    assert!(matches!(walk.next_step(), Step::Chunk(_)));
    assert!(walk.page(&page).is_err(), "not asked for");
    let other = top_of(&[]).object_root();
    assert!(ManifestWalk::new(&other, &manifest, 0..1).is_err());
}

#[test]
fn a_pack_is_sealed_before_it_has_too_many_chunks() {
    let (mut writer, mut store) = (writer(64 * MIB), Store::default());
    for tag in 0..5000u64 {
        put(&mut writer, &mut store, tag, &tag.to_le_bytes(), 8);
    }
    store.take(writer.seal().unwrap());
    let mut counts: Vec<usize> = store.packs.values().map(|p| p.chunks.len()).collect();
    counts.sort_unstable();
    assert_eq!(counts, [5000 - CHUNKS_FULL, CHUNKS_FULL]);
    assert_eq!(store.manifests.len(), 5000);
}

#[test]
fn the_largest_target_never_breaks_the_pack_limit() {
    let (mut writer, mut store) = (writer(usize::MAX), Store::default());
    let body = vec![0u8; 130 * MIB];
    let ended = put(&mut writer, &mut store, 1, &body, 4 * MIB + 1);
    store.take(writer.seal().unwrap());
    assert_eq!(store.packs.len(), 3);
    let manifest = manifest(&store, &ended);
    assert_eq!(store.read(&ended.root, &manifest, 129 << 20..130 << 20).len(), MIB);
}

#[test]
fn a_body_of_known_length_never_moves_its_buffer() {
    for len in [1, 4096, 300_000, 5 * MIB, 20 * MIB] {
        let mut writer = writer(8 * MIB);
        let body = noise(1, len);
        writer.begin_body(BodyTag(1), Epoch(1), Some(len as u64)).unwrap();
        let mut starts = std::collections::BTreeSet::new();
        let mut packs = 1;
        for piece in body.chunks(10_000) {
            packs += writer.write(piece).unwrap().len();
            starts.insert((packs, writer.buffer.as_slice().as_ptr() as usize));
        }
        let before = writer.buffer.as_slice().as_ptr() as usize;
        let (_, full) = writer.end_body().unwrap();
        let last = full.into_iter().chain(writer.seal().unwrap()).next_back().unwrap();
        assert_eq!(last.payload.as_ptr() as usize, before, "{len}: sealing moved nothing");
        let buffers: std::collections::BTreeSet<usize> = starts.iter().map(|(pack, _)| *pack).collect();
        assert_eq!(starts.len(), buffers.len(), "{len}: one buffer per pack");
    }
}

#[test]
fn targets_split_a_body_evenly() {
    assert_eq!(PackTarget::for_body(64 << 20, 64 << 20).bytes(), 32 << 20);
    assert_eq!(PackTarget::for_body(9 << 20, 16 << 20).bytes(), 16 << 20);
    assert_eq!(PackTarget::for_body(33 << 20, 16 << 20).bytes(), 11 << 20);
    assert!(PackTarget::new(usize::MAX) == PackTarget::MAX);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_sequence_of_bodies_comes_back(
        sizes in prop::collection::vec(prop_oneof![0usize..10_000, 0usize..3_000_000, Just(CHUNK_BYTES_MAX)], 1..12),
        piece in 1usize..300_000, target in 1usize..6_000_000, seals: u16,
    ) {
        prop_assume!(piece > 2000 || sizes.iter().sum::<usize>() < 500_000);
        let (mut writer, mut store) = (writer(target), Store::default());
        let mut ended = Vec::new();
        for (at, size) in sizes.iter().enumerate() {
            ended.push(put(&mut writer, &mut store, at as u64, &noise(at as u64, *size), piece));
            if seals >> at & 1 == 1 {
                store.take(writer.seal().unwrap());
            }
        }
        store.take(writer.seal().unwrap());
        for (ended, size) in ended.iter().zip(&sizes) {
            let body = noise(ended.body.0, *size);
            let manifest = manifest(&store, ended);
            prop_assert_eq!(ended.root, top_of(&crate_chunks(&body)).object_root());
            let (from, to) = (size / 3, size - size / 5);
            prop_assert!(store.read(&ended.root, &manifest, from as u64..to as u64) == body[from..to]);
        }
    }
}

fn taken_manifest(store: &mut Store, ended: &EndedBody) -> Manifest {
    let made = manifest(store, ended);
    store.manifests.remove(&ended.body);
    made
}

/// A range of one body as the contents of another: whole chunks by reference, the ends anew.
#[test]
fn chunks_of_our_own_and_entries_of_older_packs_make_one_body() {
    let mut store = Store::default();
    let source = noise(5, 40 * MIB);
    let mut first = writer(16 * MIB);
    let ended = put(&mut first, &mut store, 1, &source, MIB);
    store.take(first.seal().unwrap());
    let (root, manifest) = (ended.root, manifest(&store, &ended));
    for (from, to) in [(1, 40 * MIB as u64), (5 * MIB as u64 + 7, 30 * MIB as u64), (9, 10)] {
        let mut walk = ManifestWalk::new(&root, &manifest, from..to).unwrap();
        let mut copy = PackWriter::new([9; 32], PackTarget::new(16 * MIB));
        copy.begin_body(BodyTag(2), Epoch(2), Some(0)).unwrap();
        loop {
            match walk.next_step() {
                Step::Done => break,
                Step::NeedPage(entry) => walk.page(&store.bytes(&entry)).unwrap(),
                Step::Chunk(located) => {
                    let end = located.offset + u64::from(located.item.len);
                    if from <= located.offset && end <= to {
                        store.take(copy.push_entry(located.item).unwrap());
                    } else {
                        let bytes = store.bytes(&located.item);
                        let skip = from.saturating_sub(located.offset) as usize;
                        let stop = (end.min(to) - located.offset) as usize;
                        store.take(copy.push_chunk(&bytes[skip..stop]).unwrap());
                    }
                }
            }
        }
        let (ended, full) = copy.end_body().unwrap();
        store.take(full);
        store.take(copy.seal().unwrap());
        assert_eq!(ended.len, to - from);
        let made = taken_manifest(&mut store, &ended);
        verify_manifest(&ended.root, &made).unwrap();
        assert!(store.read(&ended.root, &made, 0..ended.len) == source[from as usize..to as usize]);
    }
}

#[test]
fn a_chunk_of_our_own_has_bytes_and_not_too_many() {
    let mut writer = writer(16 * MIB);
    assert_eq!(writer.push_chunk(&[1]).unwrap_err(), WriteError::NoBody);
    writer.begin_body(BodyTag(1), Epoch(1), None).unwrap();
    assert_eq!(writer.push_chunk(&[]).unwrap_err(), WriteError::Length);
    assert_eq!(writer.push_chunk(&vec![0; CHUNK_BYTES_MAX + 1]).unwrap_err(), WriteError::Length);
    writer.push_chunk(&[1]).unwrap();
    writer.write(&[2]).unwrap();
    assert_eq!(writer.push_chunk(&[3]).unwrap_err(), WriteError::Mixed);
    let (ended, _) = writer.end_body().unwrap();
    assert_eq!((ended.len, ended.chunks), (2, 2));
}

/// Grows a body of stored chunks step by step; at each step the manifest must be the one that a writer
/// makes of all chunks at once, but for the packs of its pages.
#[test]
fn a_manifest_that_grows_is_that_of_the_whole_and_keeps_its_full_pages() {
    let chunks: Vec<ChunkEntry> = (0..5000).map(stored_entry).collect();
    let mut store = Store::default();
    let mut manifest = Manifest::Inline(Vec::new());
    let mut root = crate::tree::empty_object_root();
    let mut done = 0;
    for (step, more) in [0, 1, 1, 1, 1020, 1, 0, 1, 1023, 1500, 24, 428].into_iter().enumerate() {
        let mut growth = Growth::new(&root, &manifest).unwrap();
        while let Some(page) = growth.needs().cloned() {
            assert!(growth.page(b"other bytes").is_err());
            growth.page(&store.bytes(&page)).unwrap();
        }
        let kept = growth.finish().unwrap();
        assert_eq!(kept.pages.len(), done / 1024, "step {step}");
        let mut writer = PackWriter::new([step as u8; 32], PackTarget::MAX);
        writer.begin_body(BodyTag(1), Epoch(1), Some(0)).unwrap();
        store.take(writer.keep(kept).unwrap());
        for chunk in &chunks[done..done + more] {
            store.take(writer.push_entry(chunk.clone()).unwrap());
        }
        done += more;
        let (ended, full) = writer.end_body().unwrap();
        store.take(full);
        store.take(writer.seal().unwrap());
        manifest = taken_manifest(&mut store, &ended);
        root = ended.root;
        let leaves: Vec<Leaf> = chunks[..done].iter().map(|c| Leaf { id: c.id, len: u64::from(c.len) }).collect();
        assert_eq!(root, top_of(&leaves).object_root(), "step {step}");
        verify_manifest(&root, &manifest).unwrap();
        let mut walk = ManifestWalk::new(&root, &manifest, 0..ended.len).unwrap();
        let mut walked = Vec::new();
        loop {
            match walk.next_step() {
                Step::Done => break,
                Step::NeedPage(entry) => walk.page(&store.bytes(&entry)).unwrap(),
                Step::Chunk(located) => walked.push(located.item),
            }
        }
        assert!(walked == chunks[..done], "step {step}");
    }
}
