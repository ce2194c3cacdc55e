//! Reads of the workload: GET, ranges, HEAD, listings, each compared byte by byte with what was written.

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use stele_rpc::meta::{ListQuery, ListedKey};
use stele_s3_gateway::api::{ByteRange, GetReply, GetRequest, HeadReply};
use stele_s3_gateway::error::{BodyError, GatewayError};
use stele_s3_gateway::{get, list};

use crate::client::{Answer, Client, outcome};
use crate::content::ValueId;
use crate::env::{BUCKET, GatewayHandle};
use crate::history::Effect;
use crate::plan::KEYS;

/// Rows of a listing and whether it came to its end.
#[derive(Debug, Default)]
struct Listing {
    rows: Vec<ListedKey>,
    common_prefixes: Vec<String>,
}

impl Client {
    pub(crate) fn draw_range(&self) -> ByteRange {
        match self.rng.below(4) {
            0 => ByteRange::Suffix(self.rng.between(1, 3_000)),
            1 => ByteRange::From { first: self.rng.below(2_000), last: None },
            _ => {
                let first = self.rng.below(300_000) % self.rng.between(10, 300_000);
                ByteRange::From { first, last: Some(first + self.rng.below(5_000)) }
            }
        }
    }

    pub(crate) async fn get(&mut self, gateway: &GatewayHandle, key: usize, range: Option<ByteRange>) {
        let start = self.env.clock.micros();
        self.env.trace.line(format_args!("c{} get {:?} {range:?}", self.id, KEYS[key]));
        let mut request = GetRequest::current(BUCKET, KEYS[key]);
        request.range = range;
        let me = &*self;
        let read = async {
            let GetReply { head, mut body } = get::get_object(&gateway.gateway, request).await?;
            let mut bytes = Vec::new();
            let mut broken = None;
            while let Some(piece) = body.next().await {
                match piece {
                    Ok(piece) => bytes.extend_from_slice(&piece),
                    Err(BodyError::Store(error)) => {
                        me.judge_damage(key, &error);
                        broken = Some(error.to_string());
                    }
                    Err(error) => broken = Some(error.to_string()),
                }
            }
            Ok((head, Bytes::from(bytes), broken))
        };
        let answer = self.ask(gateway, read.boxed()).await;
        self.env.trace.line(format_args!("c{} {}", self.id, outcome(&answer)));
        match answer {
            Answer::Ok((head, bytes, broken)) => self.judge_body(key, start, &head, (bytes, broken)),
            Answer::Failed(error) => self.judge_failed_read(key, start, &error),
            Answer::Lost => {}
        }
    }

    /// Never more than m drives are lost or rotten, so stored bytes are never beyond repair.
    fn judge_damage(&self, key: usize, error: &GatewayError) {
        let flips_on_the_way = self.env.flips_bits;
        if matches!(error, GatewayError::Corrupt { .. }) && !flips_on_the_way {
            self.env.findings.add("I-5", format_args!("c{} read of {:?}: {error}", self.id, KEYS[key]));
        }
    }

    fn judge_failed_read(&self, key: usize, start: u64, error: &GatewayError) {
        self.judge_damage(key, error);
        let now = self.env.clock.micros();
        match error {
            GatewayError::NoSuchKey { .. } => {
                self.env.history.observe(KEYS[key], self.id, (start, now), Effect::Read(None));
            }
            GatewayError::Internal { .. } => {
                self.env.findings.add("INTERNAL", format_args!("read of {:?}: {error}", KEYS[key]));
            }
            _ => {}
        }
    }

    fn judge_body(&mut self, key: usize, start: u64, head: &HeadReply, (bytes, broken): (Bytes, Option<String>)) {
        let Some(value) = self.judge_head(key, start, head) else { return };
        let whole = self.env.values.bytes(value);
        let first = usize::try_from(head.range.first).unwrap_or(usize::MAX);
        let len = usize::try_from(head.range.len).unwrap_or(usize::MAX);
        let expected = first.checked_add(len).and_then(|end| whole.get(first..end)).unwrap_or_default();
        // A body that breaks off must have been right so far; one that ends must be whole.
        let right = match &broken {
            Some(_) => expected.starts_with(&bytes),
            None => expected == bytes,
        };
        if let Some(why) = &broken {
            self.env.trace.line(format_args!("c{} body broke off after {}: {why}", self.id, bytes.len()));
        }
        if !right {
            self.env.findings.add(
                "I-2",
                format_args!(
                    "c{} read {:?} value {} from {first}: {} bytes of {len} expected, and they differ or are short",
                    self.id,
                    KEYS[key],
                    value.0,
                    bytes.len()
                ),
            );
        }
    }

    /// Notes which value a key had; `None` if nobody wrote it.
    fn judge_head(&mut self, key: usize, start: u64, head: &HeadReply) -> Option<ValueId> {
        let now = self.env.clock.micros();
        let etag = head.version.attributes.etag.to_string();
        let Some(value) = self.env.values.by_etag(&etag) else {
            self.env.findings.add("I-2", format_args!("{:?} has an ETag that nobody wrote: {etag}", KEYS[key]));
            return None;
        };
        self.env.trace.line(format_args!("c{} saw {:?} = {}", self.id, KEYS[key], value.0));
        self.env.history.observe(KEYS[key], self.id, (start, now), Effect::Read(Some(value)));
        self.last_seen = Some((key, value));
        Some(value)
    }

    pub(crate) async fn head(&mut self, gateway: &GatewayHandle, key: usize) {
        let start = self.env.clock.micros();
        self.env.trace.line(format_args!("c{} head {:?}", self.id, KEYS[key]));
        let request = GetRequest::current(BUCKET, KEYS[key]);
        match self.ask(gateway, get::head_object(&gateway.gateway, request).boxed()).await {
            Answer::Ok(head) => drop(self.judge_head(key, start, &head)),
            Answer::Failed(error) => self.judge_failed_read(key, start, &error),
            Answer::Lost => {}
        }
    }

    pub(crate) async fn list(&self, gateway: &GatewayHandle) {
        let query = ListQuery {
            prefix: (*self.rng.pick(&["", "", "dir/", "z"])).to_owned(),
            delimiter: self.rng.chance(400).then(|| "/".to_owned()),
            after: None,
            after_version: None,
            max: u32::try_from(self.rng.between(1, 6)).unwrap_or(1),
        };
        let start = self.env.clock.micros();
        self.env.trace.line(format_args!("c{} list {query:?}", self.id));
        match self.ask(gateway, self.all_pages(gateway, query.clone()).boxed()).await {
            Answer::Ok(listing) => self.judge_listing(start, &query, &listing),
            other => self.env.trace.line(format_args!("c{} list {}", self.id, outcome(&other))),
        }
    }

    async fn all_pages(&self, gateway: &GatewayHandle, mut query: ListQuery) -> Result<Listing, GatewayError> {
        let mut all = Listing::default();
        let mut last: Option<String> = None;
        loop {
            let page = list::list_keys(&gateway.gateway, BUCKET, query.clone()).await?;
            if page.rows.len() + page.common_prefixes.len() > query.max as usize {
                self.env.findings.add("I-7", format_args!("a page has more than {} rows", query.max));
            }
            all.rows.extend(page.rows);
            all.common_prefixes.extend(page.common_prefixes);
            if !page.truncated {
                break;
            }
            if page.next_after.is_none() || page.next_after <= last {
                self.env
                    .findings
                    .add("I-7", format_args!("a truncated page goes on behind {:?} after {last:?}", page.next_after));
                break;
            }
            last.clone_from(&page.next_after);
            query.after = page.next_after;
        }
        Ok(all)
    }

    fn judge_listing(&self, start: u64, query: &ListQuery, listing: &Listing) {
        let names: Vec<&str> = listing.rows.iter().map(|row| row.key.as_str()).collect();
        self.env.trace.line(format_args!("c{} listed {names:?} {:?}", self.id, listing.common_prefixes));
        if !names.is_sorted_by(|a, b| a < b) || !listing.common_prefixes.is_sorted_by(|a, b| a < b) {
            self.env
                .findings
                .add("I-7", format_args!("a listing is not in order: {names:?} {:?}", listing.common_prefixes));
        }
        if let Some(foreign) = names.iter().find(|name| !KEYS.contains(name) || !name.starts_with(&query.prefix)) {
            self.env.findings.add("I-7", format_args!("a listing of {:?} has {foreign:?}", query.prefix));
        }
        let now = self.env.clock.micros();
        for key in KEYS.iter().filter(|key| key.starts_with(&query.prefix)) {
            let value = match rolled_up(query, key) {
                Some(prefix) if listing.common_prefixes.contains(&prefix) => continue,
                Some(_) => None,
                None => match listing.rows.iter().find(|row| row.key == *key) {
                    None => None,
                    Some(row) => match self.env.values.by_etag(&row.etag) {
                        Some(value) => Some(value),
                        None => {
                            self.env
                                .findings
                                .add("I-7", format_args!("{key:?} is listed with a foreign ETag {}", row.etag));
                            continue;
                        }
                    },
                },
            };
            self.env.history.observe(key, self.id, (start, now), Effect::Read(value));
        }
    }
}

/// The common prefix that stands for a key in a listing with a delimiter.
fn rolled_up(query: &ListQuery, key: &str) -> Option<String> {
    let delimiter = query.delimiter.as_deref()?;
    let rest = key.strip_prefix(query.prefix.as_str())?;
    let at = rest.find(delimiter)?;
    Some(format!("{}{}", query.prefix, &rest[..at + delimiter.len()]))
}
