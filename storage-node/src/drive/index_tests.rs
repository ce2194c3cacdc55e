//! The index alone: order of events, deletion, and what a removed segment takes with it.

use super::*;

fn pack(n: u8) -> PackId {
    PackId::from_bytes([n; 32])
}

fn event(n: u8, segment: u64, sequence: u64) -> ShardEvent {
    let at = ShardAt {
        generation: 0,
        shard: 0,
        segment: SegmentNumber(segment),
        offset: 4096 * sequence,
        header_len: 4096,
        payload_len: 16384,
        sequence: RecordSequence(sequence),
    };
    ShardEvent { pack: pack(n), pg: PgId(1), start_epoch: Epoch(5), at }
}

fn item(n: u8, epoch: u64, at: u64) -> ListItem {
    ListItem { pack: pack(n), epoch: Epoch(epoch), at: RecordSequence(at) }
}

#[test]
fn a_delete_record_matters_while_a_dead_shard_exists_elsewhere() {
    let mut index = Index::default();
    index.apply_shard(&event(1, 1, 10));
    let delete = item(1, 0, 20);
    index.apply_item(ListKind::Delete, &delete);
    assert!(!index.holds(pack(1)));
    assert!(index.still_matters(ListKind::Delete, &delete, 0), "its shard is in segment 1");
    assert!(!index.still_matters(ListKind::Delete, &delete, 1), "both would go together");
    index.forget_segment(SegmentNumber(1), [pack(1)]);
    assert!(!index.still_matters(ListKind::Delete, &delete, 0));
}

#[test]
fn an_unreadable_segment_keeps_every_delete_record() {
    let mut index = Index { incomplete: true, ..Index::default() };
    assert!(index.still_matters(ListKind::Delete, &item(9, 0, 3), 0), "its shard may be in the unreadable part");
    index.apply_shard(&event(1, 1, 10));
    index.apply_item(ListKind::Delete, &item(1, 0, 20));
    index.forget_segment(SegmentNumber(1), [pack(1)]);
    assert!(index.still_matters(ListKind::Delete, &item(1, 0, 20), 0));
}

#[test]
fn a_copy_made_while_the_pack_was_deleted_stays_dead() {
    let mut index = Index::default();
    let original = event(1, 1, 10);
    index.apply_shard(&original);
    let delete = item(1, 0, 20);
    index.apply_item(ListKind::Delete, &delete);
    index.apply_copy(&original.at, &event(1, 2, 10));
    assert!(!index.holds(pack(1)));
    index.forget_segment(SegmentNumber(1), [pack(1)]);
    assert!(index.still_matters(ListKind::Delete, &delete, 0), "the copy in segment 2 is dead only through it");
}

#[test]
fn copies_move_the_live_bytes() {
    let mut index = Index::default();
    let original = event(1, 1, 10);
    index.apply_shard(&original);
    index.apply_copy(&original.at, &event(1, 2, 10));
    let live = |n| index.segment(SegmentNumber(n)).map_or(0, |s| s.live);
    assert_eq!((live(1), live(2)), (0, 20480));
    assert_eq!(index.shard(pack(1), 0, 0).map(|at| at.segment), Some(SegmentNumber(2)));
}

#[test]
fn a_touch_above_the_fence_refuses_and_a_pardon_lifts() {
    let mut index = Index::default();
    index.apply_shard(&event(1, 1, 10));
    assert!(!index.may_condemn(pack(1), Epoch(4)), "started above the fence");
    assert!(index.may_condemn(pack(1), Epoch(5)));
    index.apply_item(ListKind::Touch, &item(1, 7, 11));
    assert!(!index.may_condemn(pack(1), Epoch(6)), "touched above the fence");
    index.apply_item(ListKind::Condemn, &item(1, 8, 12));
    assert_eq!(index.condemned(pack(1)), Some(Epoch(8)));
    index.apply_item(ListKind::Pardon, &item(1, 0, 13));
    assert_eq!(index.condemned(pack(1)), None);
    index.apply_item(ListKind::Condemn, &item(1, 8, 12));
    assert_eq!(index.condemned(pack(1)), None, "an older record carried along changes nothing");
}

#[test]
fn inventory_pages_in_order_and_says_when_it_ends() {
    let mut index = Index::default();
    for n in [3, 1, 2] {
        index.apply_shard(&event(n, 1, u64::from(n)));
    }
    let (rows, more) = index.inventory(PgId(1), None, 2);
    assert_eq!((rows.iter().map(|r| r.pack).collect::<Vec<_>>(), more), (vec![pack(1), pack(2)], true));
    let (rows, more) = index.inventory(PgId(1), Some(pack(2)), 2);
    assert_eq!((rows.len(), more), (1, false));
    assert_eq!(index.inventory(PgId(2), None, 9), (vec![], false));
}

#[test]
fn a_store_after_the_deletion_counts_again() {
    let mut index = Index::default();
    index.apply_shard(&event(1, 1, 10));
    index.apply_item(ListKind::Condemn, &item(1, 8, 12));
    index.apply_item(ListKind::Delete, &item(1, 0, 20));
    index.apply_shard(&event(1, 1, 30));
    assert!(index.holds(pack(1)));
    assert_eq!(index.condemned(pack(1)), None, "the old verdict went with the old record");
}
