//! Listings of random buckets against their definition: sort, filter, roll up, cut into pages.
//!
//! `STELE_LISTING_CASES` sets the number of cases.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::test_runner::RngSeed;
use stele_rpc::meta::{ListPage, ListQuery, ListedKey, VersionSelector};
use stele_types::ids::{BucketId, VersionId};
use stele_types::object::Versioning;

use crate::testing::Machine;

/// Texts that break listings: what sorts around the delimiter, the terminator of stored keys and its
/// escape, several bytes a character, look-alikes.
const TEXTS: [&str; 12] = ["a", "b", "/", "//", "\0", "\u{1}", "\u{ff}", "\u{10ffff}", "é", "e\u{301}", ".", "%2F"];

fn text(pieces: RangeInclusive<usize>) -> impl Strategy<Value = String> {
    proptest::collection::vec(0..TEXTS.len(), pieces)
        .prop_map(|picks| picks.into_iter().map(|pick| TEXTS[pick]).collect())
}

#[derive(Clone, Debug)]
enum Op {
    Put(usize),
    Delete(usize),
    /// Removes one version of a key, by age.
    Remove(usize, usize),
    Versioning(Versioning),
}

/// Keys to work on, what happens to them, and how they are listed.
#[derive(Clone, Debug)]
struct Case {
    keys: Vec<String>,
    ops: Vec<Op>,
    query: Query,
}

#[derive(Clone, Debug)]
struct Query {
    prefix: String,
    delimiter: Option<String>,
    /// A text of its own, or one of the keys with this many characters left.
    after: Option<(String, Option<usize>, usize)>,
    /// Start behind a version of the key, counted among all that the bucket ever had.
    after_version: Option<usize>,
    max: u32,
}

fn cases() -> impl Strategy<Value = Case> {
    let versioning = prop_oneof![Just(Versioning::Enabled), Just(Versioning::Suspended)];
    let op = prop_oneof![
        8 => any::<usize>().prop_map(Op::Put),
        3 => any::<usize>().prop_map(Op::Delete),
        3 => (any::<usize>(), 0..4usize).prop_map(|(key, age)| Op::Remove(key, age)),
        2 => versioning.prop_map(Op::Versioning),
    ];
    let after = (text(0..=3), proptest::option::of(any::<usize>()), 0..8usize);
    let delimiter = prop_oneof![3 => Just("/".to_owned()), 1 => text(0..=2)];
    let query = (
        prop_oneof![2 => Just(String::new()), 1 => text(0..=2)],
        proptest::option::of(delimiter),
        proptest::option::of(after),
        proptest::option::weighted(0.3, any::<usize>()),
        prop_oneof![8 => 1..8u32, 1 => Just(0), 1 => Just(1000)],
    );
    let query = query.prop_map(|(prefix, delimiter, after, after_version, max)| Query {
        prefix,
        delimiter,
        after,
        after_version,
        max,
    });
    let keys = proptest::collection::vec(text(1..=4), 1..10);
    (keys, proptest::collection::vec(op, 0..24), query).prop_map(|(keys, ops, query)| Case { keys, ops, query })
}

/// A version by definition.
#[derive(Clone, Copy, Debug)]
struct Kept {
    id: VersionId,
    null: bool,
    marker: bool,
}

/// Versions of each key, newest first.
type Model = BTreeMap<String, Vec<Kept>>;

/// Carries a case out on the machine and on the model; also every version id there ever was.
fn history(m: &mut Machine, bucket: BucketId, case: &Case) -> (Model, Vec<VersionId>) {
    let (mut model, mut ever, mut versioning) = (Model::new(), Vec::new(), Versioning::Unset);
    let key_of = |pick: usize| case.keys[pick % case.keys.len()].clone();
    for op in &case.ops {
        match op {
            Op::Put(pick) => {
                let key = key_of(*pick);
                let made = m.put(bucket, &key);
                assert_eq!(made.null_version, versioning != Versioning::Enabled);
                add(&mut model, key, Kept { id: made.id, null: made.null_version, marker: false });
                ever.push(made.id);
            }
            Op::Delete(pick) => {
                let key = key_of(*pick);
                let marker = m.delete(bucket, &key, VersionSelector::Current).marker;
                assert_eq!(marker.is_some(), versioning != Versioning::Unset);
                match marker {
                    Some(id) => {
                        let null = versioning == Versioning::Suspended;
                        add(&mut model, key, Kept { id, null, marker: true });
                        ever.push(id);
                    }
                    None => drop(model.remove(&key)),
                }
            }
            Op::Remove(pick, age) => {
                let key = key_of(*pick);
                let versions = model.entry(key.clone()).or_default();
                if *age < versions.len() {
                    let kept = versions.remove(*age);
                    m.delete(bucket, &key, VersionSelector::Id(kept.id));
                }
            }
            Op::Versioning(wanted) => {
                m.set_versioning(bucket, *wanted);
                versioning = *wanted;
            }
        }
        model.retain(|_, versions| !versions.is_empty());
    }
    (model, ever)
}

fn add(model: &mut Model, key: String, kept: Kept) {
    let versions = model.entry(key).or_default();
    if kept.null {
        versions.retain(|version| !version.null);
    }
    versions.insert(0, kept);
}

/// What a page can hold, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Item {
    Row(String, VersionId, bool, bool),
    Prefix(String),
}

fn rolled<'k>(key: &'k str, query: &ListQuery) -> Option<&'k str> {
    let delimiter = query.delimiter.as_deref().filter(|text| !text.is_empty())?;
    let rest = key.strip_prefix(query.prefix.as_str())?;
    let at = rest.find(delimiter)?;
    Some(&key[..query.prefix.len() + at + delimiter.len()])
}

/// The whole listing by definition, from where the query starts.
fn expected(model: &Model, query: &ListQuery, versions: bool) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let after = query.after.as_deref();
    let passed_prefix = after.filter(|after| rolled(after, query) == Some(after));
    for (key, kept) in model.iter().filter(|(key, _)| key.starts_with(&query.prefix)) {
        if passed_prefix.is_some_and(|prefix| key.starts_with(prefix) && query.after_version.is_none()) {
            continue;
        }
        for (age, version) in kept.iter().enumerate() {
            let behind = match (after, versions.then_some(query.after_version).flatten()) {
                (None, _) => true,
                (Some(after), Some(VersionSelector::Id(id))) if key == after => version.id.commit_seq < id.commit_seq,
                (Some(after), _) => key.as_str() > after,
            };
            if !behind || (!versions && (age > 0 || version.marker)) {
                continue;
            }
            match rolled(key, query).map(str::to_owned) {
                None => items.push(Item::Row(key.clone(), version.id, age == 0, version.marker)),
                Some(prefix) if items.last() != Some(&Item::Prefix(prefix.clone())) => items.push(Item::Prefix(prefix)),
                Some(_) => {}
            }
        }
    }
    items
}

/// Rows and common prefixes of a page in one order.
fn items(page: &ListPage<ListedKey>) -> Vec<Item> {
    let rows = page.rows.iter().map(|row| Item::Row(row.key.clone(), row.id, row.latest, row.delete_marker));
    let prefixes = page.common_prefixes.iter().cloned().map(Item::Prefix);
    let mut all: Vec<Item> = rows.chain(prefixes).collect();
    // Stable: the versions of a key keep their order.
    all.sort_by(|a, b| name(a).cmp(name(b)));
    all
}

fn name(item: &Item) -> &str {
    match item {
        Item::Row(key, ..) => key,
        Item::Prefix(prefix) => prefix,
    }
}

fn query_of(case: &Case, ever: &[VersionId], versions: bool) -> ListQuery {
    let query = &case.query;
    let after = query.after.as_ref().map(|(text, key, left)| match key {
        Some(pick) => case.keys[pick % case.keys.len()].chars().take(*left).collect(),
        None => text.clone(),
    });
    let after_version = query.after_version.filter(|_| versions && after.is_some() && !ever.is_empty());
    ListQuery {
        prefix: query.prefix.clone(),
        delimiter: query.delimiter.clone(),
        after,
        after_version: after_version.map(|pick| VersionSelector::Id(ever[pick % ever.len()])),
        max: query.max,
    }
}

fn check(case: &Case) {
    let mut m = Machine::new();
    let bucket = m.bucket("b");
    let neighbour = m.bucket("c");
    m.put(neighbour, "a");
    let (model, ever) = history(&mut m, bucket, case);
    for versions in [false, true] {
        let mut query = query_of(case, &ever, versions);
        let wanted = expected(&model, &query, versions);
        if query.max == 0 {
            let page = m.page(bucket, query, versions);
            assert!(items(&page).is_empty() && !page.truncated, "max 0");
            continue;
        }
        let mut seen = 0;
        loop {
            let page = m.page(bucket, query.clone(), versions);
            let size = usize::try_from(query.max).unwrap();
            let rest = &wanted[seen..];
            assert_eq!(items(&page), &rest[..rest.len().min(size)], "{query:?} of {model:?}");
            seen += rest.len().min(size);
            assert_eq!(page.truncated, seen < wanted.len(), "{query:?} of {model:?}");
            if !page.truncated {
                break;
            }
            (query.after, query.after_version) = (page.next_after, page.next_after_version.map(VersionSelector::Id));
        }
    }
}

fn cases_wanted() -> u32 {
    std::env::var("STELE_LISTING_CASES").map_or(4_000, |text| text.parse().expect("STELE_LISTING_CASES is a number"))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases_wanted(), failure_persistence: None, rng_seed: RngSeed::Fixed(4), ..ProptestConfig::default()
    })]

    #[test]
    fn listings_are_what_they_are_by_definition(case in cases()) {
        check(&case);
    }
}
