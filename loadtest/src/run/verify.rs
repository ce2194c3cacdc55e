//! One verified read: what the server showed, compared with the ledger and with the contents that
//! follow from (seed, key, generation).

use http::Method;

use super::report::Verdict;
use crate::content::Content;
use crate::ledger::Ledger;
use crate::ledger::history::Seen;
use crate::s3::connection::CallError;
use crate::s3::{Call, S3};

/// Metadata that says which generation an object is.
pub(crate) const GENERATION_HEADER: &str = "x-amz-meta-stele-generation";

/// How a read ended.
#[derive(Debug)]
pub(crate) enum ReadEnd {
    /// Answered; the verdict has been noted. Body bytes received.
    Answered(u64),
    /// Answered with an error that says nothing about the key.
    Error(String),
    /// Not answered.
    Failed(CallError),
}

/// What to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Want {
    /// Attributes only.
    Head,
    /// All bytes.
    Whole,
    /// `len` > 0 bytes from `offset`, of an object that is known to have them.
    Range { offset: u64, len: u64 },
}

#[derive(Default)]
struct Received {
    content: Option<Content>,
    bytes: u64,
    difference: Option<u64>,
}

fn generation_of(headers: &http::HeaderMap) -> Option<u64> {
    headers.get(GENERATION_HEADER)?.to_str().ok()?.parse().ok()
}

/// Reads `key` and notes in `verdict` whether that may be seen.
pub(crate) async fn read(s3: &mut S3, ledger: &Ledger, key: &str, want: Want, verdict: &mut Verdict) -> ReadEnd {
    let floor = ledger.history(key).floor();
    let seed = ledger.origin.seed;
    let (method, range, offset) = match want {
        Want::Head => (Method::HEAD, None, 0),
        Want::Whole => (Method::GET, None, 0),
        Want::Range { offset, len } => (Method::GET, Some(format!("bytes={offset}-{}", offset + len - 1)), offset),
    };
    let headers: Vec<(&str, &str)> = range.iter().map(|range| ("range", range.as_str())).collect();
    let call = Call { method, key, headers: &headers, ..Call::default() };
    let mut received = Received::default();
    let answer = s3
        .stream(call, &mut |head, piece| {
            let generation = generation_of(&head.headers).unwrap_or_default();
            let content = *received.content.get_or_insert_with(|| Content::new(seed, key, generation));
            if received.difference.is_none() {
                received.difference = content.first_difference(offset + received.bytes, piece);
            }
            received.bytes += piece.len() as u64;
        })
        .await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(e) => return ReadEnd::Failed(e),
    };
    let content_length = answer.header("content-length").and_then(|text| text.parse::<u64>().ok());
    let seen = match (answer.status.as_u16(), want) {
        (404, _) => Seen::Nothing,
        (200, Want::Head) => seen_object(&answer.headers, content_length),
        (200, Want::Whole) => seen_object(&answer.headers, Some(received.bytes)),
        (206, Want::Range { len, .. }) if received.bytes == len => {
            let total = answer.header("content-range").and_then(|text| text.rsplit_once('/')?.1.parse().ok());
            seen_object(&answer.headers, total)
        }
        (206, Want::Range { len, .. }) => {
            verdict.mismatch(format!("{key}: asked for {len} bytes from {offset}, got {}", received.bytes));
            return ReadEnd::Answered(received.bytes);
        }
        _ => return ReadEnd::Error(answer.describe()),
    };
    verdict.verified_reads += 1;
    verdict.verified_bytes += received.bytes;
    let history = ledger.history(key);
    if let Some(at) = received.difference {
        verdict.mismatch(format!("{key}: byte {at} differs from what was written ({seen:?})"));
    } else if !history.allows(floor, seen) {
        verdict.mismatch(format!("{key}: {want:?} saw {seen:?}, expected {}", history.expected(floor)));
    }
    ReadEnd::Answered(received.bytes)
}

fn seen_object(headers: &http::HeaderMap, len: Option<u64>) -> Seen {
    Seen::Object { generation: generation_of(headers).unwrap_or(u64::MAX), len: len.unwrap_or(u64::MAX) }
}
