//! Bodies as clients send them: in pieces, slowly, broken off, or with a wrong digest.

use std::time::Duration;

use bytes::Bytes;
use md5::{Digest, Md5};
use stele_s3_gateway::api::{BodyRequest, BodyStream, ExpectedDigests};
use stele_s3_gateway::error::BodyError;

use crate::seed::SimRng;

/// Per mille of bodies that must be refused.
const SPOILED: u32 = 40;

/// A body of these bytes. The flag tells that it must not be stored: it ends early, breaks off, or
/// its bytes are not what its digest says.
pub(crate) fn body(rng: &SimRng, bytes: Bytes, slow: bool) -> (BodyRequest, bool) {
    let spoil = if rng.chance(SPOILED) && !bytes.is_empty() { Some(rng.below(3)) } else { None };
    let declared_len = Some(bytes.len() as u64);
    let mut expected = ExpectedDigests::default();
    if rng.chance(300) || spoil == Some(0) {
        expected.md5 = Some(Md5::digest(&bytes).into());
    }
    let mut sent = bytes;
    let mut end = None;
    match spoil {
        Some(0) => {
            let mut wrong = sent.to_vec();
            let at = rng.index(wrong.len());
            wrong[at] ^= 1;
            sent = wrong.into();
        }
        Some(1) => sent = sent.slice(..sent.len() - 1),
        Some(_) => {
            sent = sent.slice(..rng.index(sent.len()));
            end = Some(BodyError::Incoming("the client went away".into()));
        }
        None => {}
    }
    let stream = pieces(rng, &sent, end, slow);
    (BodyRequest { stream, declared_len, expected, ..BodyRequest::from_bytes(Bytes::new()) }, spoil.is_some())
}

fn pieces(rng: &SimRng, bytes: &Bytes, end: Option<BodyError>, slow: bool) -> BodyStream {
    let mut items = Vec::new();
    let mut rest = bytes.clone();
    let most = (bytes.len() as u64 / 2).max(1_000);
    while !rest.is_empty() {
        let take = usize::try_from(rng.between(1, most)).unwrap_or(1).min(rest.len());
        let pause = if slow { rng.below(1_500_000) } else { 0 };
        items.push((pause, Ok(rest.split_to(take))));
    }
    if let Some(error) = end {
        items.push((0, Err(error)));
    }
    Box::pin(futures::stream::unfold(items.into_iter(), |mut items| async move {
        let (pause, item) = items.next()?;
        if pause > 0 {
            tokio::time::sleep(Duration::from_micros(pause)).await;
        }
        Some((item, items))
    }))
}
