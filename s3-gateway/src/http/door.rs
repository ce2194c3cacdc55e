//! What every S3 request passes on its way in and out: the limit of requests under way, the allowance of its key,
//! and the audit log. Admin, health and metrics have a door of their own and pass none of this.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use stele_types::seam::Clock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::audit::watch::{Count, Pending};
use super::audit::writer::Auditor;
use super::busy::Busy;
use super::guard::Refusal;
use super::rate::{Rate, RateLimit};
use super::request_id::RequestId;

/// Limits of requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestLimits {
    /// Requests under way at once; past it they get SlowDown.
    pub in_flight_max: usize,
    /// Requests per second of one access key; past it they get SlowDown.
    pub per_key: Option<Rate>,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self { in_flight_max: 1024, per_key: None }
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Why {
    why: &'static str,
}

#[derive(Debug, Default)]
struct Counts {
    in_flight: Gauge,
    slowed: Family<Why, Counter>,
}

/// The door. Clones are the same door.
#[derive(Clone, Debug)]
pub struct Door {
    slots: Arc<Semaphore>,
    rate: Option<RateLimit>,
    auditor: Option<Auditor>,
    counts: Arc<Counts>,
}

impl Default for Door {
    fn default() -> Self {
        Self::with(RequestLimits::default().in_flight_max, None, None)
    }
}

impl Door {
    fn with(in_flight_max: usize, rate: Option<RateLimit>, auditor: Option<Auditor>) -> Self {
        let slots = Arc::new(Semaphore::new(in_flight_max.min(Semaphore::MAX_PERMITS)));
        Self { slots, rate, auditor, counts: Arc::default() }
    }

    /// A door with these limits; without an auditor nothing is written down.
    pub fn new(limits: RequestLimits, clock: Arc<dyn Clock>, auditor: Option<Auditor>) -> Self {
        let rate = limits.per_key.map(|rate| RateLimit::new(rate, clock));
        Self::with(limits.in_flight_max, rate, auditor)
    }

    /// Adds the door's metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let http = registry.sub_registry_with_prefix("http");
        http.register("requests_in_flight", "S3 requests under way", self.counts.in_flight.clone());
        http.register("requests_slowed", "S3 requests answered with SlowDown", self.counts.slowed.clone());
        if let Some(auditor) = &self.auditor {
            auditor.register(registry);
        }
    }

    /// Lets a request in. The refusal, if there is one, is to be answered; the [`Pass`] must go out with the answer.
    pub(super) fn enter<B>(
        &self,
        request: Request<B>,
        id: RequestId,
        peer: SocketAddr,
        busy: Busy,
    ) -> (Request<Counted<B>>, Pass, Option<Refusal>) {
        let count = Count::default();
        let mut refusal = None;
        let slot = Arc::clone(&self.slots).try_acquire_owned().ok();
        let begun =
            self.auditor.as_ref().map(|auditor| Pending::begin(auditor, &request, id, peer, Arc::clone(&count)));
        let mut request = request.map(|inner| Counted { inner, count });
        let pending = begun.map(|(pending, cannot)| {
            request.extensions_mut().insert(pending.note());
            refusal = cannot;
            pending
        });
        if slot.is_none() {
            let message = "Too many requests are under way. Please reduce your request rate.".to_owned();
            self.counts.slowed.get_or_create(&Why { why: "in_flight" }).inc();
            refusal = Some(Refusal { status: 503, code: "SlowDown", message });
        }
        if let Some(rate) = &self.rate {
            let slowed = self.counts.slowed.get_or_create_owned(&Why { why: "rate" });
            request.extensions_mut().insert(Allowance { rate: rate.clone(), slowed });
        }
        self.counts.in_flight.inc();
        let under_way = UnderWay { counts: Arc::clone(&self.counts), _slot: slot, _busy: busy };
        let head = request.method() == Method::HEAD;
        (request, Pass { head, pending, _under_way: under_way }, refusal)
    }
}

/// The allowance of the key that signed a request, in the request's extensions.
#[derive(Clone, Debug)]
pub(crate) struct Allowance {
    rate: RateLimit,
    slowed: Counter,
}

impl Allowance {
    /// Takes one request of this key.
    ///
    /// # Errors
    /// Seconds after which the next one will pass.
    pub(crate) fn take(&self, access_key: &str) -> Result<(), u64> {
        self.rate.take(access_key).map_err(|pause| {
            self.slowed.inc();
            pause.as_secs() + u64::from(pause.subsec_nanos() > 0)
        })
    }
}

#[derive(Debug)]
struct UnderWay {
    counts: Arc<Counts>,
    _slot: Option<OwnedSemaphorePermit>,
    _busy: Busy,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.counts.in_flight.dec();
    }
}

/// A request that is inside.
#[derive(Debug)]
pub(super) struct Pass {
    head: bool,
    pending: Option<Pending>,
    _under_way: UnderWay,
}

impl Pass {
    /// Lets the answer out; `error` is the code in its body.
    pub(super) fn leave<B: Body>(self, response: Response<B>, error: Option<String>) -> Response<Leaving<B>> {
        if let Some(pending) = &self.pending {
            pending.answered(&response, error);
        }
        let bodiless = self.head || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        response.map(|inner| {
            let expected = inner.size_hint().exact();
            let ended = bodiless || inner.is_end_stream();
            let mut leaving = Leaving { inner, sent: 0, expected, pass: Some(self) };
            if ended {
                leaving.end();
            }
            leaving
        })
    }
}

/// Code of the error that an answer tells.
pub(super) fn error_code(response: &Response<s3s::Body>) -> Option<String> {
    const LONGEST: usize = 128;
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return None;
    }
    let bytes = response.body().bytes()?;
    let text = std::str::from_utf8(&bytes).ok()?;
    let code = text.split_once("<Code>")?.1.split_once("</Code>")?.0;
    (code.len() <= LONGEST).then(|| code.to_owned())
}

/// A request's body that counts its bytes.
#[derive(Debug)]
pub(super) struct Counted<B> {
    inner: B,
    count: Count,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.count.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body; its request is under way until it ends.
#[derive(Debug)]
pub(super) struct Leaving<B> {
    inner: B,
    sent: u64,
    expected: Option<u64>,
    pass: Option<Pass>,
}

impl<B> Leaving<B> {
    /// All was handed on.
    fn end(&mut self) {
        if let Some(pass) = self.pass.take()
            && let Some(pending) = &pass.pending
        {
            pending.complete();
        }
    }

    fn note(&mut self, bytes: u64) {
        self.sent = self.sent.saturating_add(bytes);
        if let Some(pending) = self.pass.as_ref().and_then(|pass| pass.pending.as_ref()) {
            pending.sent(bytes);
        }
        if self.expected == Some(self.sent) {
            self.end();
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Leaving<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.note(bytes);
            }
            Poll::Ready(None) => self.end(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
