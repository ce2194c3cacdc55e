//! Old entries of the evidence log move into archives, and nobody who reads the log sees a difference.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use stele_evidence::log_archive::Height;
use stele_evidence::record::Event;
use stele_rpc::client::MetaClient;
use stele_rpc::meta::{KEY_EVENTS_MAX, KeptAnchor, LOG_BUCKET, LogRead, LogReply, Origin, RangeRef, TreeHead};
use stele_types::ids::{LogIndex, RangeEpoch, RangeId};

use super::fake_meta::{FakeLog, record};
use super::{Cluster, GATEWAY, META, cluster, put_request};
use crate::api::BodyRequest;
use crate::bucket::{create_bucket, head_bucket};
use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::log_archive::pages::{Found, LogSource, find};
use crate::log_archive::{PRINCIPAL, Turn, ask, take_turn};
use crate::put::put_object;

/// Keys that have events.
const KEYS: u64 = 37;

/// A log of so many entries, all of them covered by a checkpoint.
async fn with_log(height: Height, entries: u64) -> Cluster {
    let c = cluster().await;
    let bucket = c.meta.bucket_id("b");
    c.meta.log(|log| {
        (log.height, log.published, log.time) = (height, entries, 1_000);
        for n in 0..entries {
            let event = if n % 5 == 4 { Event::Delete } else { Event::Put };
            log.append(record(event, bucket, &format!("k{}", n % KEYS), n));
        }
    });
    c
}

/// A log whose first 768 entries are archived.
pub(crate) async fn archived() -> Cluster {
    let c = with_log(Height::Tile, 1_100).await;
    turns(&c, &mut Turn::default(), 2).await;
    c
}

fn range(c: &Cluster) -> RangeRef {
    RangeRef { bucket: c.meta.bucket_id("b"), range: RangeId(1), epoch: RangeEpoch(1) }
}

/// Answers to these questions, for comparison.
async fn answers(gw: &Arc<Gateway>, asked: &[LogRead]) -> Vec<LogReply> {
    let mut found = Vec::new();
    for asked in asked {
        found.push(ask(gw, asked.clone()).await.unwrap());
    }
    found
}

/// Everything that is asked of a log, around every border of tiles, sections and archives.
fn questions(c: &Cluster, height: Height, entries: u64) -> Vec<LogRead> {
    let mut asked = Vec::new();
    let step = height.section_entries() as u64;
    let borders = (0..entries).step_by(usize::try_from(step).unwrap());
    let indexes: BTreeSet<u64> = borders
        .flat_map(|at| [at.saturating_sub(1), at, at + 1, at + 255, at + 256])
        .filter(|at| *at < entries)
        .collect();
    for at in indexes {
        asked.push(LogRead::Record { index: LogIndex(at) });
        asked.push(LogRead::Entries { from: LogIndex(at), max: 256 });
        asked.push(LogRead::Tile { level: 0, index: at / 256 });
        asked.push(LogRead::Tile { level: 1, index: at / 65_536 });
        let (key, max) = (format!("k{}", at % KEYS), KEY_EVENTS_MAX);
        asked.push(LogRead::KeyEvents { range: range(c), key, before: Some(LogIndex(at)), max });
    }
    for key in 0..KEYS {
        asked.push(LogRead::KeyEvents { range: range(c), key: format!("k{key}"), before: None, max: 7 });
    }
    asked.push(LogRead::Record { index: LogIndex(entries) });
    asked
}

async fn turns(c: &Cluster, turn: &mut Turn, count: usize) {
    for _ in 0..count {
        take_turn(&c.gw, turn).await;
    }
}

async fn moves_and_stays_readable(height: Height, entries: u64, archives: usize) {
    let c = with_log(height, entries).await;
    let questions = questions(&c, height, entries);
    let before = answers(&c.gw, &questions).await;
    turns(&c, &mut Turn::default(), 2).await;
    let (made, end, rows) = c.meta.log(|log| (log.archives.clone(), log.end(), log.rows()));
    assert_eq!((made.len(), end), (archives, archives as u64 * height.entries()));
    assert_eq!(rows as u64, entries - end, "rows of archived entries are gone");
    for (asked, (was, is)) in questions.iter().zip(before.iter().zip(answers(&c.gw, &questions).await)) {
        assert_eq!(*was, is, "{asked:?}");
    }
    assert_eq!(head_bucket(&c.gw, LOG_BUCKET).await.unwrap().owner, PRINCIPAL);
    assert_eq!(c.meta.keys(LOG_BUCKET), made.iter().map(|info| info.object.key.clone()).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn old_entries_move_into_archives_and_stay_readable() {
    moves_and_stays_readable(Height::Tile, 1_100, 3).await;
}

#[tokio::test(start_paused = true)]
async fn archives_of_full_size_hold_sections_and_tiles_of_level_one() {
    moves_and_stays_readable(Height::TileOfTiles, 131_400, 1).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_archived_before_a_checkpoint_covers_twice_as_much() {
    let c = with_log(Height::Tile, 700).await;
    c.meta.log(|log| log.published = 511);
    turns(&c, &mut Turn::default(), 2).await;
    assert!(c.meta.log(|log| log.archives.is_empty()) && c.meta.keys(LOG_BUCKET).is_empty());
    c.meta.log(|log| log.published = 512);
    turns(&c, &mut Turn::default(), 2).await;
    assert_eq!(c.meta.log(|log| log.archives.len()), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_erased_since_is_never_read_from_an_archive_and_leaves_it() {
    let c = with_log(Height::Tile, 1_024).await;
    let mut turn = Turn::default();
    turns(&c, &mut turn, 1).await;
    let first = c.meta.log(|log| log.archives[0].clone());
    let (index, previous) = (LogIndex(KEYS + 3), Some(LogIndex(3)));
    c.meta.log(|log| log.erase(index, previous));
    let events = || LogRead::KeyEvents { range: range(&c), key: "k3".into(), before: None, max: KEY_EVENTS_MAX };
    let asked = [LogRead::Record { index }, events(), LogRead::Entries { from: LogIndex(0), max: 256 }];
    let erased = answers(&c.gw, &asked).await;
    let LogReply::Record(Some(record)) = &erased[0] else { panic!("{:?}", erased[0]) };
    assert!(record.record.is_empty() && record.erased_by.is_some() && record.previous == previous);

    turns(&c, &mut turn, 1).await;
    let second = c.meta.log(|log| log.archives[0].clone());
    assert_ne!(first.object, second.object, "it was not made anew");
    assert_eq!(first.root, second.root);
    assert_eq!(c.meta.log(|log| log.rows()) as u64, 1_024 - c.meta.log(|log| log.end()), "the row is folded in");
    assert!(!c.meta.keys(LOG_BUCKET).contains(&first.object.key), "the old one still has the record");
    assert_eq!(answers(&c.gw, &asked).await, erased);

    // Each archive that is made anew is written whole: at most one in ten minutes.
    c.meta.log(|log| log.erase(LogIndex(5), None));
    turns(&c, &mut turn, 3).await;
    assert_eq!(c.meta.log(|log| log.archives[0].clone()), second);
    tokio::time::sleep(Duration::from_secs(600)).await;
    turns(&c, &mut turn, 1).await;
    assert_ne!(c.meta.log(|log| log.archives[0].clone()), second);
}

#[tokio::test(start_paused = true)]
async fn an_archive_that_was_overtaken_by_an_erasure_is_made_anew() {
    let c = with_log(Height::TileOfTiles, 131_072).await;
    // In the third section: two have moved by then.
    c.meta.log(|log| log.erased_meanwhile = Some(LogIndex(9_000)));
    turns(&c, &mut Turn::default(), 2).await;
    let (noted, end) = c.meta.log(|log| (log.noted, log.end()));
    assert_eq!((noted, end), (2, 65_536));
    let LogReply::Record(Some(record)) = ask(&c.gw, LogRead::Record { index: LogIndex(9_000) }).await.unwrap() else {
        panic!("no record");
    };
    assert!(record.record.is_empty() && record.erased_by.is_some());
    assert_eq!(c.meta.keys(LOG_BUCKET).len(), 1, "the first one is removed");
}

#[tokio::test(start_paused = true)]
async fn gateways_that_archive_at_once_make_one_archive() {
    let c = with_log(Height::Tile, 800).await;
    let other = c.another_gateway(GATEWAY.0 + 1).await;
    let (mut one, mut two) = (Turn::default(), Turn::default());
    tokio::join!(take_turn(&c.gw, &mut one), take_turn(&other, &mut two));
    turns(&c, &mut one, 2).await;
    let archives = c.meta.log(|log| log.archives.clone());
    assert_eq!(archives.len(), 2);
    let named: Vec<String> = archives.into_iter().map(|info| info.object.key).collect();
    assert_eq!(c.meta.keys(LOG_BUCKET), named, "who came second removes its object");
}

#[tokio::test(start_paused = true)]
async fn an_archive_that_cannot_be_read_is_named() {
    let c = with_log(Height::Tile, 800).await;
    turns(&c, &mut Turn::default(), 2).await;
    let fresh = c.another_gateway(GATEWAY.0 + 1).await;
    let asked = || LogRead::Record { index: LogIndex(300) };
    let object = c.meta.log(|log| log.archives[1].object.clone());
    let named =
        |error: &GatewayError| error.to_string().contains("archive 1 ") && error.to_string().contains(&object.key);
    c.drives.iter().for_each(|drive| c.storage.kill(*drive));
    let error = ask(&fresh, asked()).await.unwrap_err();
    assert!(matches!(error, GatewayError::Unavailable { .. }) && named(&error), "{error}");
    c.storage.revive_all();
    tokio::time::sleep(Duration::from_secs(100)).await;
    c.drives.iter().for_each(|drive| c.storage.make_lie(*drive));
    let error = ask(&fresh, asked()).await.unwrap_err();
    assert!(matches!(error, GatewayError::Corrupt { .. }) && named(&error), "{error}");
    c.storage.revive_all();
    tokio::time::sleep(Duration::from_secs(100)).await;
    // Whole, and another one.
    let other = c.meta.log(|log| log.archives[0].object.clone());
    c.meta.log(|log| log.archives[1].object = other);
    let error = ask(&fresh, asked()).await.unwrap_err();
    assert!(matches!(error, GatewayError::Corrupt { .. }) && error.to_string().contains("archive 1 "), "{error}");
    c.meta.log(|log| log.archives[1].object = object.clone());
    assert!(matches!(ask(&fresh, asked()).await.unwrap(), LogReply::Record(Some(_))));
}

#[tokio::test(start_paused = true)]
async fn the_bucket_of_a_client_stays_the_clients() {
    let c = with_log(Height::Tile, 800).await;
    let client = Origin { principal: "client".into(), ..Origin::default() };
    create_bucket(&c.gw, LOG_BUCKET, false, client).await.unwrap();
    turns(&c, &mut Turn::default(), 3).await;
    assert!(c.meta.log(|log| log.archives.is_empty()));
    assert!(c.meta.keys(LOG_BUCKET).is_empty(), "nothing is written into it");
}

#[tokio::test(start_paused = true)]
async fn what_became_no_archive_is_removed_once_it_is_old() {
    let c = with_log(Height::Tile, 800).await;
    turns(&c, &mut Turn::default(), 2).await;
    let kept = c.meta.keys(LOG_BUCKET);
    let left = ["log/00000000000000000000-0badcafe", "log/00000000000000000007-0badcafe", "notes.txt"];
    for key in left {
        let request = put_request(key, BodyRequest::from_bytes(bytes::Bytes::from_static(b"left over")));
        put_object(&c.gw, crate::api::PutRequest { bucket: LOG_BUCKET.into(), ..request }).await.unwrap();
    }
    turns(&c, &mut Turn::default(), 1).await;
    assert_eq!(c.meta.keys(LOG_BUCKET).len(), kept.len() + 3, "an hour has not passed");
    c.meta.log(|log| log.time = 3_700_000);
    turns(&c, &mut Turn::default(), 1).await;
    assert_eq!(c.meta.keys(LOG_BUCKET), [&kept[..], &["notes.txt".to_owned()]].concat());
}

#[tokio::test(start_paused = true)]
async fn old_anchors_move_into_files_and_are_found_there() {
    let c = with_log(Height::Tile, 10).await;
    let anchor = |size: u64| KeptAnchor {
        chain: "ledger".to_owned(),
        head: TreeHead { size, root: [7; 32] },
        proof: bytes::Bytes::from(format!("proof of {size}")),
    };
    c.meta.log(|log| log.anchors = (1..30).map(|n| anchor(10 * n)).collect());
    let asked: Vec<LogRead> = [1, 10, 11, 155, 290].map(|size| LogRead::Anchors { size }).into();
    let before = answers(&c.gw, &asked).await;
    assert_eq!(before[3], LogReply::Anchors(vec![anchor(160)]));
    turns(&c, &mut Turn::default(), 1).await;
    assert!(c.meta.log(|log| log.anchors.is_empty()), "the fake keeps none of so few");
    assert_eq!(answers(&c.gw, &asked).await, before);
    let [key] = <[String; 1]>::try_from(c.meta.keys(LOG_BUCKET)).unwrap();
    assert!(key.starts_with("anchors/ledger/00000000000000000010-00000000000000000290-"), "{key}");

    let left = "anchors/ledger/00000000000000000010-00000000000000000290-0badcafe";
    let request = put_request(left, BodyRequest::from_bytes(bytes::Bytes::from_static(b"left over")));
    put_object(&c.gw, crate::api::PutRequest { bucket: LOG_BUCKET.into(), ..request }).await.unwrap();
    c.meta.log(|log| log.time = 3_700_000);
    turns(&c, &mut Turn::default(), 1).await;
    assert_eq!(c.meta.keys(LOG_BUCKET), [key.as_str()]);
    c.drives.iter().for_each(|drive| c.storage.kill(*drive));
    let error = ask(&c.gw, LogRead::Anchors { size: 5 }).await.unwrap_err();
    assert!(matches!(error, GatewayError::Unavailable { .. }) && error.to_string().contains(&key), "{error}");
}

#[tokio::test(start_paused = true)]
async fn tiles_that_somebody_wants_are_brought_back() {
    let c = with_log(Height::TileOfTiles, 131_072).await;
    turns(&c, &mut Turn::default(), 2).await;
    c.meta.log(|log| log.wanted.extend([(0, None), (200, None)]));
    turns(&c, &mut Turn::default(), 1).await;
    // What is brought back is compared by the fake.
    assert!(c.meta.log(|log| log.wanted.values().all(Option::is_some)));
}

/// Erasing has come to an entry; the indexes that it is given.
async fn given(c: &Cluster, at: u64) -> Vec<u64> {
    c.meta.log(|log| (log.erasing, log.copies) = (Some(LogIndex(at)), Vec::new()));
    turns(c, &mut Turn::default(), 1).await;
    c.meta.log(|log| log.copies.iter().map(|copy| copy.index.0).collect())
}

/// 600 puts of one key each, of which two are deleted in the second archive: one now, and one later.
async fn with_removals() -> Cluster {
    let c = cluster().await;
    let bucket = c.meta.bucket_id("b");
    c.meta.log(|log| {
        (log.height, log.time) = (Height::Tile, 1_000);
        let put = |log: &mut FakeLog, n: u64| {
            log.append(record(Event::Put, bucket, &format!("k{n}"), n));
        };
        (0..300).for_each(|n| put(log, n));
        log.append(record(Event::Delete, bucket, "k5", 5));
        (301..400).for_each(|n| put(log, n));
        let late = record(Event::Delete, bucket, "k6", 6);
        log.append(stele_evidence::record::Record { time: u64::MAX / 2, ..late });
        (401..900).for_each(|n| put(log, n));
        log.published = 900;
    });
    turns(&c, &mut Turn::default(), 2).await;
    assert_eq!(c.meta.log(|log| log.end()), 512);
    c.meta.log(|log| log.keep_ms = Some(1_000));
    c
}

#[tokio::test(start_paused = true)]
async fn erasing_is_given_the_records_that_it_comes_to() {
    let c = with_removals().await;
    let expected: Vec<u64> = std::iter::once(5).chain(299..400).collect();
    assert_eq!(given(&c, 299).await, expected, "up to the removal that is not due, and what the first one leads to");
    assert!(given(&c, 400).await.is_empty(), "not due");
    assert_eq!(given(&c, 5).await.len(), 251, "up to the end of the archive");
    c.meta.log(|log| log.erase(LogIndex(5), None));
    assert_eq!(given(&c, 299).await, (299..400).collect::<Vec<u64>>(), "what was erased is not carried about");
    c.meta.log(|log| log.keep_ms = None);
    assert!(given(&c, 299).await.is_empty(), "evidence is kept for ever");
}

#[tokio::test(start_paused = true)]
async fn pages_are_the_same_from_archives_and_others_are_sent_to_gateways() {
    let c = with_log(Height::Tile, 1_100).await;
    let (gateway, rows) = (
        LogSource::Gateway(Arc::clone(&c.gw)),
        LogSource::Rows(MetaClient::new(Arc::new(c.network.transport(GATEWAY)), META)),
    );
    let pages =
        ["tile/0/000", "tile/0/001", "tile/1/000.p/4", "tile/entries/001", "tile/entries/000.p/7", "checkpoint"];
    let mut before = Vec::new();
    for page in pages {
        before.push(find(&rows, page).await.unwrap());
        assert_eq!(before.last(), find(&gateway, page).await.ok().as_ref());
    }
    assert!(matches!(before[0], Found::Tile(_)));
    turns(&c, &mut Turn::default(), 2).await;
    for (page, before) in pages.iter().zip(&before) {
        assert_eq!(find(&gateway, page).await.unwrap(), *before, "{page}");
    }
    for page in ["tile/0/000", "tile/entries/001"] {
        let error = find(&rows, page).await.unwrap_err();
        assert!(error.to_string().contains("ask the admin port of an S3 gateway"), "{error}");
    }
    assert_eq!(find(&rows, "tile/1/000.p/4").await.unwrap(), before[2]);
    assert!(matches!(find(&gateway, "tile/0/900").await.unwrap(), Found::Nothing(_)));
}
