//! The network of a run: the in-memory transport with seeded delays, losses, repeats and wire forms. Or QUIC
//! over packets, see `packets.rs`; what follows is about the former.
//!
//! Each request is delivered by a task of its own, so it may arrive after its caller gave up, or
//! twice, as a packet does. Every message passes its MessagePack form on the way, so what a field
//! loses on the wire is lost here as well. A process that was killed keeps its tasks until the phase
//! ends, but none of its calls leaves it any more and none of its answers arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use stele_rpc::error::{Code, RpcError};
use stele_rpc::memory::{MemoryNetwork, MemoryTransport};
use stele_rpc::meta::{Command, MetaRequest};
use stele_rpc::storage::StorageRequest;
use stele_rpc::transport::{Message, Request, Response, Service, SharedTransport, Transport};
use stele_types::ids::NodeId;
use tokio::sync::{oneshot, watch};

use crate::names::{message_name, reply_name};
use crate::packets::{PacketTransport, QuicNet};
use crate::runtime::SimClock;
use crate::seed::SimRng;
use crate::trace::Trace;

/// How badly the network behaves. Probabilities are per mille and per request.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetFaults {
    /// Longest one-way delay of a healthy request, microseconds.
    pub delay_micros: u64,
    /// The request never arrives; the caller waits until its timeout.
    pub drop_request: u32,
    /// The request takes effect, the answer never arrives.
    pub drop_reply: u32,
    /// The request arrives a second time, up to `late_micros` later.
    pub duplicate: u32,
    /// A command to the metadata service arrives up to `late_micros` late.
    pub late_command: u32,
    /// Longest extra delay of late and repeated requests, microseconds.
    pub late_micros: u64,
    /// The serving side drops the request midway.
    pub cancel: u32,
    /// One bit of a shard range flips on the way back.
    pub corrupt_read: u32,
}

impl NetFaults {
    /// Only short delays.
    pub const CALM: Self = Self {
        delay_micros: 500,
        drop_request: 0,
        drop_reply: 0,
        duplicate: 0,
        late_command: 0,
        late_micros: 0,
        cancel: 0,
        corrupt_read: 0,
    };
}

/// Tells a running process from one that was killed.
pub type Alive = Arc<AtomicBool>;

/// The network of one boot phase.
#[derive(Debug)]
pub struct SimNet {
    carrier: Carrier,
    conditions: Arc<Conditions>,
    frozen: watch::Sender<BTreeSet<NodeId>>,
    freeze_at_commit: Mutex<BTreeSet<NodeId>>,
    calls: AtomicU64,
    broken_wire_forms: Mutex<Vec<String>>,
    rng: SimRng,
    trace: Trace,
}

/// What brings messages from one node to another.
#[derive(Debug)]
enum Carrier {
    Memory(Arc<MemoryNetwork>),
    Quic(Arc<QuicNet>),
}

/// The weather, and what is wrong with single ways.
#[derive(Debug)]
pub(crate) struct Conditions {
    faults: Mutex<NetFaults>,
    /// How many faults cut a way, and how slow it is.
    ways: Mutex<BTreeMap<(NodeId, NodeId), Way>>,
}

impl Conditions {
    pub(crate) fn faults(&self) -> NetFaults {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn way(&self, from: NodeId, to: NodeId) -> Way {
        self.ways().get(&(from, to)).copied().unwrap_or_default()
    }

    fn ways(&self) -> MutexGuard<'_, BTreeMap<(NodeId, NodeId), Way>> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One direction between two nodes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Way {
    pub(crate) cuts: u32,
    pub(crate) micros: u64,
}

/// What will happen to one request.
#[derive(Clone, Copy, Debug)]
struct Fate {
    there: u64,
    back: u64,
    lost: bool,
    mute: bool,
    again: Option<u64>,
    cancel: Option<u64>,
    corrupt: Option<u64>,
}

impl SimNet {
    /// A network without faults or processes.
    pub fn new(rng: SimRng, trace: Trace) -> Arc<Self> {
        let conditions = Conditions { faults: Mutex::new(NetFaults::CALM), ways: Mutex::default() };
        Self::over(Carrier::Memory(Arc::default()), Arc::new(conditions), rng, trace)
    }

    /// The same, of QUIC endpoints and packets.
    pub fn of_packets(rng: SimRng, trace: Trace, clock: Arc<SimClock>) -> Arc<Self> {
        let conditions = Arc::new(Conditions { faults: Mutex::new(NetFaults::CALM), ways: Mutex::default() });
        let quic = QuicNet::new(&rng, clock, Arc::clone(&conditions));
        Self::over(Carrier::Quic(Arc::new(quic)), conditions, rng, trace)
    }

    fn over(carrier: Carrier, conditions: Arc<Conditions>, rng: SimRng, trace: Trace) -> Arc<Self> {
        Arc::new(Self {
            carrier,
            conditions,
            frozen: watch::Sender::new(BTreeSet::new()),
            freeze_at_commit: Mutex::default(),
            calls: AtomicU64::new(0),
            broken_wire_forms: Mutex::new(Vec::new()),
            rng,
            trace,
        })
    }

    /// Makes a service reachable; the one of the node's killed predecessor is replaced.
    pub fn bind(&self, node: NodeId, service: Arc<dyn Service>, alive: &Alive) {
        match &self.carrier {
            Carrier::Memory(memory) => memory.bind(node, service),
            Carrier::Quic(quic) => quic.bind(node, service, alive),
        }
    }

    /// Makes a node unreachable.
    pub fn unbind(&self, node: NodeId) {
        match &self.carrier {
            Carrier::Memory(memory) => memory.unbind(node),
            Carrier::Quic(quic) => quic.unbind(node),
        }
    }

    /// The network as one incarnation of a process sees it.
    pub fn transport(self: &Arc<Self>, from: NodeId, alive: Alive) -> SharedTransport {
        let net = Arc::clone(self);
        match &self.carrier {
            Carrier::Memory(memory) => Arc::new(SimTransport { net, inner: memory.transport(from), from, alive }),
            Carrier::Quic(quic) => {
                let (inner, quic) = (quic.transport(from, &alive), Arc::clone(quic));
                Arc::new(PacketTransport { net, quic, inner, from, alive })
            }
        }
    }

    /// Changes the weather.
    pub fn set_faults(&self, faults: NetFaults) {
        *self.conditions.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
        if let Carrier::Quic(quic) = &self.carrier {
            quic.narrow();
        }
    }

    /// Cuts or mends the way between two nodes, one direction.
    pub fn set_cut(&self, from: NodeId, to: NodeId, cut: bool) {
        let mut ways = self.conditions.ways();
        let way = ways.entry((from, to)).or_default();
        way.cuts = if cut { way.cuts + 1 } else { way.cuts.saturating_sub(1) };
    }

    /// Makes one direction between two nodes slower.
    pub fn set_slow(&self, from: NodeId, to: NodeId, micros: u64) {
        self.conditions.ways().entry((from, to)).or_default().micros = micros;
    }

    /// Mends every way.
    pub fn mend(&self) {
        self.conditions.ways().clear();
    }

    /// Stops a process before its next call, or lets it go on, as SIGSTOP and SIGCONT do.
    pub fn set_frozen(&self, node: NodeId, frozen: bool) {
        self.frozen.send_modify(|nodes| {
            if frozen {
                nodes.insert(node)
            } else {
                nodes.remove(&node)
            };
        });
    }

    /// Stops a process where it hurts most: its packs are stored, its commit is not sent yet. Returns
    /// once that happened, or after `patience` without.
    pub async fn freeze_at_commit(&self, node: NodeId, patience: Duration) {
        let armed = || self.freeze_at_commit.lock().unwrap_or_else(PoisonError::into_inner);
        armed().insert(node);
        let mut frozen = self.frozen.subscribe();
        drop(tokio::time::timeout(patience, frozen.wait_for(|nodes| nodes.contains(&node))).await);
        armed().remove(&node);
    }

    fn freeze_if_due(&self, node: NodeId, message: &Message) {
        let due =
            is_commit(message) && self.freeze_at_commit.lock().unwrap_or_else(PoisonError::into_inner).remove(&node);
        if due {
            self.trace.line(format_args!("net {node} freezes before {}", message_name(message)));
            self.set_frozen(node, true);
        }
    }

    /// Messages that did not survive their wire form: each is a defect.
    pub fn broken_wire_forms(&self) -> Vec<String> {
        self.broken_wire_forms.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.conditions.way(from, to).cuts > 0
    }

    pub(crate) fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The number of a new call, once its caller may go on. One that was killed never does.
    pub(crate) async fn begin_call(&self, from: NodeId, message: &Message, alive: &Alive) -> u64 {
        self.freeze_if_due(from, message);
        let mut frozen = self.frozen.subscribe();
        let thawed = frozen.wait_for(|nodes| !nodes.contains(&from)).await.is_ok();
        if !thawed || !alive.load(Ordering::Relaxed) {
            return std::future::pending().await;
        }
        self.calls.fetch_add(1, Ordering::Relaxed)
    }

    fn fate(&self, message: &Message) -> Fate {
        let faults = self.conditions.faults();
        let rng = &self.rng;
        let command = matches!(message, Message::Meta(MetaRequest::Command(_)));
        let read = matches!(message, Message::Storage(StorageRequest::ReadShard { .. }));
        let mut there = 1 + rng.below(faults.delay_micros);
        if command && rng.chance(faults.late_command) {
            there += rng.below(faults.late_micros);
        }
        Fate {
            there,
            back: 1 + rng.below(faults.delay_micros),
            lost: rng.chance(faults.drop_request),
            mute: rng.chance(faults.drop_reply),
            again: rng.chance(faults.duplicate).then(|| rng.below(faults.late_micros.max(1))),
            cancel: rng.chance(faults.cancel).then(|| rng.below(20_000)),
            corrupt: (read && rng.chance(faults.corrupt_read)).then(|| rng.number()),
        }
    }

    /// Passes a value through its wire form.
    fn rewire<T: Serialize + DeserializeOwned>(&self, what: &str, value: &T) -> Option<(T, usize)> {
        let broken = |why: String| {
            let mut list = self.broken_wire_forms.lock().unwrap_or_else(PoisonError::into_inner);
            list.push(format!("{what}: {why}"));
        };
        let wire = match rmp_serde::to_vec_named(value) {
            Ok(wire) => wire,
            Err(error) => return (broken(format!("can't be encoded: {error}")), None).1,
        };
        let decoded: T = match rmp_serde::from_slice(&wire) {
            Ok(decoded) => decoded,
            Err(error) => return (broken(format!("can't be decoded: {error}")), None).1,
        };
        match rmp_serde::to_vec_named(&decoded) {
            Ok(again) if again == wire => Some((decoded, wire.len())),
            _ => (broken("decodes to something else".to_owned()), None).1,
        }
    }
}

/// One incarnation's view of a [`SimNet`].
#[derive(Clone, Debug)]
struct SimTransport {
    net: Arc<SimNet>,
    inner: MemoryTransport,
    from: NodeId,
    alive: Alive,
}

impl SimTransport {
    async fn deliver(&self, call: u64, to: NodeId, request: Request, fate: Fate) -> Option<Result<Response, RpcError>> {
        tokio::time::sleep(Duration::from_micros(fate.there + self.net.conditions.way(self.from, to).micros)).await;
        let net = &self.net;
        if fate.lost || net.is_cut(self.from, to) {
            net.trace.line(format_args!("net #{call} lost"));
            return None;
        }
        let what = message_name(&request.message);
        let serve = self.inner.call(to, request);
        let answer = match fate.cancel {
            None => serve.await,
            Some(after) => {
                let Ok(answer) = tokio::time::timeout(Duration::from_micros(after), serve).await else {
                    net.trace.line(format_args!("net #{call} dropped midway"));
                    return None;
                };
                answer
            }
        };
        let answer = self.answer_from_wire(call, what, answer, fate);
        tokio::time::sleep(Duration::from_micros(fate.back + net.conditions.way(to, self.from).micros)).await;
        if fate.mute || net.is_cut(to, self.from) {
            net.trace.line(format_args!("net #{call} answer lost"));
            return None;
        }
        Some(answer)
    }

    fn answer_from_wire(
        &self,
        call: u64,
        what: &str,
        answer: Result<Response, RpcError>,
        fate: Fate,
    ) -> Result<Response, RpcError> {
        let net = &self.net;
        match answer {
            Err(error) => {
                net.trace.line(format_args!("net #{call} {:?}", error.code));
                Err(net.rewire(what, &error).map_or(error, |(error, _)| error))
            }
            Ok(Response { reply, body }) => {
                let Some((reply, len)) = net.rewire(reply_name(&reply), &reply) else {
                    return Err(RpcError::new(Code::Internal, format!("the reply to {what} has no wire form")));
                };
                net.trace.line(format_args!("net #{call} {} {len}+{}", reply_name(&reply), body.len()));
                Ok(Response { reply, body: flip(body, fate.corrupt) })
            }
        }
    }
}

/// The command makes packs referenced.
fn is_commit(message: &Message) -> bool {
    match message {
        Message::Meta(MetaRequest::Command(envelope)) => {
            matches!(envelope.command, Command::PutVersion(_) | Command::CompleteUpload(_) | Command::PutPart { .. })
        }
        Message::Meta(_) | Message::Storage(_) | Message::Raft(_) | Message::Renew(_) => false,
    }
}

/// Flips the bit that `draw` names.
fn flip(body: Bytes, draw: Option<u64>) -> Bytes {
    match draw {
        Some(draw) if !body.is_empty() => {
            let bit = draw % (body.len() as u64 * 8);
            let mut copy = body.to_vec();
            if let Some(byte) = usize::try_from(bit / 8).ok().and_then(|at| copy.get_mut(at)) {
                *byte ^= 1 << (bit % 8);
            }
            copy.into()
        }
        _ => body,
    }
}

#[async_trait]
impl Transport for SimTransport {
    async fn call(&self, to: NodeId, request: Request) -> Result<Response, RpcError> {
        let net = &self.net;
        let call = net.begin_call(self.from, &request.message, &self.alive).await;
        let what = message_name(&request.message);
        let Some((message, len)) = net.rewire(what, &request.message) else {
            return Err(RpcError::new(Code::Internal, format!("{what} has no wire form")));
        };
        let fate = net.fate(&message);
        let body = request.body.len();
        net.trace.line(format_args!("net #{call} {}>{to} {what} {len}+{body} +{}", self.from, fate.there));
        let timeout = request.timeout;
        let request = Request { message, body: request.body, timeout, class: request.class };
        if let Some(later) = fate.again {
            let (copy, me) = (request.clone(), self.clone());
            let repeat = Fate { there: fate.there + later, mute: true, again: None, lost: false, ..fate };
            tokio::spawn(async move {
                me.net.trace.line(format_args!("net #{call} will come again +{later}"));
                me.deliver(call, to, copy, repeat).await
            });
        }
        let (sender, receiver) = oneshot::channel();
        let me = self.clone();
        tokio::spawn(async move {
            if let Some(answer) = me.deliver(call, to, request, fate).await {
                // The caller may be gone; the effect stays.
                drop(sender.send(answer));
            }
        });
        let deadline = tokio::time::Instant::now() + timeout;
        let answer = tokio::time::timeout_at(deadline, receiver).await;
        if let Ok(Err(_)) = answer {
            // Lost: nobody tells the caller, who waits for its deadline.
            tokio::time::sleep_until(deadline).await;
        }
        if !self.alive.load(Ordering::Relaxed) {
            return std::future::pending().await;
        }
        match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => {
                Err(RpcError::new(Code::DeadlineExceeded, format!("{what}: no answer from node {to}")))
            }
        }
    }
}
