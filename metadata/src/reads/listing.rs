//! The walk under every listing by key: prefix, delimiter, marker, page size, and a bound on the rows
//! one call visits. A common prefix is passed by one seek, however many keys it holds.

use std::ops::ControlFlow;

use stele_rpc::meta::ListQuery;
use stele_types::ids::BucketId;

use super::{ROWS_PER_CALL, ReadResult};
use crate::keyspace::{self, Tag};
use crate::kv::{KvError, KvRead, KvResult};
use crate::rows::corrupt;

/// A seek costs about as much as visiting this many rows.
const SEEK_COST: usize = 10;

/// What is walked.
pub(super) struct Walk<'a> {
    pub(super) table: Tag,
    pub(super) bucket: BucketId,
    pub(super) query: &'a ListQuery,
    /// Where to start, if not behind `query.after`.
    pub(super) start: Option<Vec<u8>>,
}

/// How a walk ended.
pub(super) struct Walked {
    pub(super) common_prefixes: Vec<String>,
    pub(super) truncated: bool,
}

impl Walked {
    /// Where a truncated page is continued: behind the last key or common prefix on it.
    pub(super) fn next_after(&self, last_key: Option<&str>) -> Option<String> {
        let last = last_key.max(self.common_prefixes.last().map(String::as_str));
        last.filter(|_| self.truncated).map(str::to_owned)
    }
}

/// A row handed to the listing: its key, what follows the key in the row's key, and the value.
pub(super) type OnRow<'a> = dyn FnMut(&str, &[u8], &[u8]) -> KvResult<()> + 'a;

/// The common prefix that `key` is rolled into: prefix, then up to and including the delimiter.
fn rolled<'k>(key: &'k str, prefix: &str, delimiter: Option<&str>) -> Option<&'k str> {
    let delimiter = delimiter.filter(|text| !text.is_empty())?;
    let at = key.get(prefix.len()..)?.find(delimiter)?;
    key.get(..prefix.len() + at + delimiter.len())
}

impl Walk<'_> {
    fn first_key(&self) -> Vec<u8> {
        let first = keyspace::name_prefix(self.table, self.bucket, &self.query.prefix);
        let behind = match (&self.start, &self.query.after) {
            (Some(start), _) => start.clone(),
            (None, Some(after)) => self.behind(after),
            (None, None) => return first,
        };
        first.max(behind)
    }

    /// Behind every row of a key, or of all keys of a common prefix.
    fn behind(&self, after: &str) -> Vec<u8> {
        let query = self.query;
        let is_common_prefix =
            after.starts_with(&query.prefix) && rolled(after, &query.prefix, query.delimiter.as_deref()) == Some(after);
        keyspace::successor(&if is_common_prefix {
            keyspace::name_prefix(self.table, self.bucket, after)
        } else {
            keyspace::named(self.table, self.bucket, after)
        })
    }

    pub(super) fn run(&self, rows: &dyn KvRead, on_row: &mut OnRow<'_>) -> ReadResult<Walked> {
        let mut page = Page {
            walk: self,
            on_row,
            left: usize::try_from(self.query.max).unwrap_or(usize::MAX),
            budget: ROWS_PER_CALL,
            walked: Walked { common_prefixes: Vec::new(), truncated: false },
            seek: None,
            failed: None,
        };
        if page.left == 0 {
            return Ok(page.walked);
        }
        let end = keyspace::successor(&keyspace::name_prefix(self.table, self.bucket, &self.query.prefix));
        let mut from = self.first_key();
        loop {
            rows.scan(&from, &end, &mut |key, value| page.visit(key, value))?;
            if let Some(error) = page.failed {
                return Err(error.into());
            }
            match page.seek.take() {
                Some(next) => from = next,
                None => return Ok(page.walked),
            }
        }
    }
}

struct Page<'w, 'r, 'f> {
    walk: &'w Walk<'w>,
    on_row: &'r mut OnRow<'f>,
    left: usize,
    budget: usize,
    walked: Walked,
    seek: Option<Vec<u8>>,
    failed: Option<KvError>,
}

impl Page<'_, '_, '_> {
    fn stop_truncated(&mut self) -> ControlFlow<()> {
        self.walked.truncated = true;
        ControlFlow::Break(())
    }

    fn visit(&mut self, row_key: &[u8], value: &[u8]) -> ControlFlow<()> {
        if self.left == 0 || self.budget == 0 {
            return self.stop_truncated();
        }
        let Some((key, rest)) = keyspace::split_name(row_key) else {
            self.failed = Some(corrupt(row_key, "a key without its terminator"));
            return ControlFlow::Break(());
        };
        let query = self.walk.query;
        self.left -= 1;
        if let Some(common) = rolled(&key, &query.prefix, query.delimiter.as_deref()) {
            self.budget = self.budget.saturating_sub(SEEK_COST);
            self.walked.common_prefixes.push(common.to_owned());
            let within = keyspace::name_prefix(self.walk.table, self.walk.bucket, common);
            self.seek = Some(keyspace::successor(&within));
            return ControlFlow::Break(());
        }
        self.budget -= 1;
        if let Err(error) = (self.on_row)(&key, rest, value) {
            self.failed = Some(error);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}
