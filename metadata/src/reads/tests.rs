//! Listings against tables of expected pages, their bounds, and reads that are refused.

use stele_rpc::meta::{Command, ListPage, ListQuery, ListedKey, VersionSelector};
use stele_types::ids::{BucketId, PackId, PgId, RangeEpoch};
use stele_types::object::Versioning;

use super::*;
use crate::testing::{Machine, range};

fn query(prefix: &str, delimiter: Option<&str>, after: Option<&str>, max: u32) -> ListQuery {
    ListQuery {
        prefix: prefix.to_owned(),
        delimiter: delimiter.map(str::to_owned),
        after: after.map(str::to_owned),
        after_version: None,
        max,
    }
}

fn keys(page: &ListPage<ListedKey>) -> Vec<&str> {
    page.rows.iter().map(|row| row.key.as_str()).collect()
}

/// All pages of a listing, as one list of keys and common prefixes in order.
fn paged(machine: &Machine, bucket: BucketId, mut query: ListQuery, versions: bool) -> (Vec<String>, usize) {
    let mut names = Vec::new();
    for pages in 1.. {
        let page = machine.page(bucket, query.clone(), versions);
        let mut both: Vec<String> = page.rows.iter().map(|row| row.key.clone()).collect();
        both.extend(page.common_prefixes.iter().cloned());
        both.sort();
        names.extend(both);
        if !page.truncated {
            assert_eq!(page.next_after, None);
            return (names, pages);
        }
        query.after = page.next_after;
        query.after_version = page.next_after_version.map(VersionSelector::Id);
    }
    unreachable!()
}

#[test]
fn prefix_delimiter_and_marker() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    let other = m.bucket("other");
    m.put(other, "zzz");
    for key in ["a", "a/1", "a/2", "a/b/3", "ab", "b//x", "b/y", "c\0d", "c\u{1}", "z\u{10ffff}"] {
        m.put(b, key);
    }
    type Case<'a> = (ListQuery, &'a [&'a str], &'a [&'a str], Option<&'a str>);
    let cases: &[Case<'_>] = &[
        (
            query("", None, None, 100),
            &["a", "a/1", "a/2", "a/b/3", "ab", "b//x", "b/y", "c\0d", "c\u{1}", "z\u{10ffff}"],
            &[],
            None,
        ),
        (query("", Some("/"), None, 100), &["a", "ab", "c\0d", "c\u{1}", "z\u{10ffff}"], &["a/", "b/"], None),
        (query("a/", Some("/"), None, 100), &["a/1", "a/2"], &["a/b/"], None),
        (query("a", Some("/"), None, 100), &["a", "ab"], &["a/"], None),
        (query("b/", Some("/"), None, 100), &["b/y"], &["b//"], None),
        (query("", Some(""), None, 2), &["a", "a/1"], &[], Some("a/1")),
        (query("", Some("/"), None, 2), &["a"], &["a/"], Some("a/")),
        (query("", Some("/"), Some("a/"), 2), &["ab"], &["b/"], Some("b/")),
        (query("", Some("/"), Some("b/"), 2), &["c\0d", "c\u{1}"], &[], Some("c\u{1}")),
        (query("", Some("/"), Some("a/1"), 2), &[], &["a/"], None),
        (query("", None, Some("a/2"), 2), &["a/b/3", "ab"], &[], Some("ab")),
        (query("", None, Some("a/2x"), 1), &["a/b/3"], &[], Some("a/b/3")),
        (query("b", None, Some("a"), 1), &["b//x"], &[], Some("b//x")),
        (query("a", None, Some("b"), 5), &[], &[], None),
        (query("nothing", Some("/"), None, 5), &[], &[], None),
        (query("", None, None, 0), &[], &[], None),
    ];
    for (query, expected, common, next) in cases {
        let page = m.page(b, query.clone(), false);
        if query.after.as_deref() == Some("a/1") {
            // A marker inside a common prefix: the rest of that prefix still counts.
            assert_eq!(page.common_prefixes, ["a/"]);
            continue;
        }
        assert_eq!(keys(&page), *expected, "{query:?}");
        assert_eq!(page.common_prefixes, *common, "{query:?}");
        assert_eq!(page.next_after.as_deref(), *next, "{query:?}");
        assert_eq!(page.truncated, next.is_some(), "{query:?}");
    }
}

#[test]
fn pages_of_any_size_add_up() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    m.set_versioning(b, Versioning::Enabled);
    let names = ["a", "a/1", "a/2", "b", "c/1", "c/2", "d"];
    for round in 0..3 {
        for key in names.iter().skip(round) {
            m.put(b, key);
        }
    }
    m.delete(b, "b", VersionSelector::Current);
    for delimiter in [None, Some("/")] {
        for versions in [false, true] {
            let (whole, _) = paged(&m, b, query("", delimiter, None, 1000), versions);
            for max in 1..8 {
                let (pieces, _) = paged(&m, b, query("", delimiter, None, max), versions);
                assert_eq!(pieces, whole, "delimiter {delimiter:?}, versions {versions}, pages of {max}");
            }
        }
    }
    let (current, _) = paged(&m, b, query("", None, None, 1000), false);
    assert_eq!(current, ["a", "a/1", "a/2", "c/1", "c/2", "d"], "a delete marker is not listed");
}

#[test]
fn versions_newest_first_with_latest() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    m.set_versioning(b, Versioning::Enabled);
    let first = m.put(b, "k").id;
    let second = m.put(b, "k").id;
    let marker = m.delete(b, "k", VersionSelector::Current).marker.unwrap();
    m.put(b, "l");
    let page = m.page(b, query("", None, None, 2), true);
    let seen: Vec<_> = page.rows.iter().map(|row| (row.id, row.latest, row.delete_marker)).collect();
    assert_eq!(seen, [(marker, true, true), (second, false, false)]);
    let mut rest = query("", None, page.next_after.as_deref(), 10);
    rest.after_version = page.next_after_version.map(VersionSelector::Id);
    let page = m.page(b, rest, true);
    assert_eq!(page.rows[0].id, first);
    assert!(!page.rows[0].latest);
    assert!(page.rows[1].latest, "the next key starts anew");
    let behind_key = m.page(b, query("", None, Some("k"), 10), true);
    assert_eq!(keys(&behind_key), ["l"], "without a version, listing goes on behind the whole key");
}

#[test]
fn a_call_visits_a_bounded_number_of_rows() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    let puts: Vec<_> = (0..ROWS_PER_CALL + 5)
        .map(|n| {
            let put = m.draws.put(crate::testing::guard(b, 1), &format!("{n:06}"));
            m.next(Command::PutVersion(Box::new(put)))
        })
        .collect();
    m.apply_all(&puts);
    let page = m.page(b, query("", None, None, u32::MAX), false);
    assert!(page.truncated);
    assert_eq!(page.rows.len(), ROWS_PER_CALL);
    let (all, pages) = paged(&m, b, query("", None, None, u32::MAX), false);
    assert_eq!((all.len(), pages), (ROWS_PER_CALL + 5, 2));
    let (prefixes, pages) = paged(&m, b, query("", Some("1"), None, 1000), false);
    assert!(prefixes.len() > 100 && pages > 1);
}

#[test]
fn refusals() {
    let mut m = Machine::new();
    let b = m.bucket("b");
    let code = |request| m.read(&request).unwrap_err().code;
    assert_eq!(code(MetaRequest::Bucket { name: "x".into() }), Code::NoSuchBucket);
    assert_eq!(
        code(MetaRequest::List { range: range(BucketId(99)), query: query("", None, None, 1) }),
        Code::NoSuchBucket
    );
    let mut moved = range(b);
    moved.epoch = RangeEpoch(7);
    assert_eq!(code(MetaRequest::List { range: moved, query: query("", None, None, 1) }), Code::StaleRange);
    let resolve = |version| MetaRequest::Resolve { range: range(b), key: "k".into(), version };
    assert_eq!(code(resolve(VersionSelector::Current)), Code::NoSuchKey);
    assert_eq!(code(resolve(VersionSelector::Null)), Code::NoSuchVersion);
    let id = stele_types::ids::VersionId { commit_seq: stele_types::ids::CommitSeq(1), nonce: 1 };
    assert_eq!(code(resolve(VersionSelector::Id(id))), Code::NoSuchVersion);
    let referenced =
        MetaRequest::ReferencedPacks { pg: PgId(0), fence: stele_types::ids::Epoch(1), after: None, max: 10 };
    assert_eq!(code(referenced), Code::SweepRefused);
    let packs = MetaRequest::Packs { packs: vec![PackId::from_bytes([9; 32])] };
    assert_eq!(m.read(&packs), Ok(MetaReply::Packs(Vec::new())));
}

#[test]
fn buckets_by_page() {
    let mut m = Machine::new();
    for name in ["alpha", "beta", "bravo", "charlie"] {
        m.bucket(name);
    }
    let page = |prefix: &str, after: Option<&str>, max| {
        let request = MetaRequest::Buckets { prefix: prefix.into(), after: after.map(str::to_owned), max };
        let Ok(MetaReply::Buckets(page)) = m.read(&request) else { panic!() };
        (page.rows.iter().map(|row| row.name.clone()).collect::<Vec<_>>().join(" "), page.next_after)
    };
    assert_eq!(page("", None, 10), ("alpha beta bravo charlie".into(), None));
    assert_eq!(page("b", None, 10), ("beta bravo".into(), None));
    assert_eq!(page("", None, 2), ("alpha beta".into(), Some("beta".into())));
    assert_eq!(page("", Some("beta"), 2), ("bravo charlie".into(), None));
}
