//! A packet network in memory, for simulators and tests: sockets by address, and a [`Path`] that decides what
//! becomes of each datagram. Time is tokio's, so with a paused clock nothing here ever waits in earnest. No
//! process of a real cluster uses it.

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, TokioRuntime, UdpPoller};
use tokio::time::{Instant, Sleep};

use super::config::SOCKET_BUFFER;
use super::endpoint::Socket;

/// Decides what becomes of datagrams.
pub trait Path: std::fmt::Debug + Send + Sync {
    /// How long each copy of a datagram of `len` bytes is under way. Without copies it is lost.
    fn carry(&self, from: SocketAddr, to: SocketAddr, len: usize) -> Vec<Duration>;
}

/// Sockets that reach each other over a [`Path`].
#[derive(Debug)]
pub struct PacketNetwork {
    path: Arc<dyn Path>,
    inboxes: Mutex<BTreeMap<SocketAddr, Arc<Inbox>>>,
}

impl PacketNetwork {
    /// A network without sockets.
    pub fn new(path: Arc<dyn Path>) -> Arc<Self> {
        Arc::new(Self { path, inboxes: Mutex::default() })
    }

    /// A socket at this address. One that was there is dead from now on, as with [`PacketNetwork::unbind`].
    pub fn bind(self: &Arc<Self>, address: SocketAddr) -> Socket {
        let inbox = Arc::<Inbox>::default();
        self.inboxes().insert(address, Arc::clone(&inbox));
        let socket = PacketSocket { network: Arc::clone(self), address, inbox };
        Socket::Abstract { socket: Arc::new(socket), runtime: Arc::new(TokioRuntime) }
    }

    /// Takes the socket at this address away, as the end of its process does: nothing is sent from it and nothing
    /// reaches it any more, not even what is under way.
    pub fn unbind(&self, address: SocketAddr) {
        self.inboxes().remove(&address);
    }

    fn inboxes(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Arc<Inbox>>> {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inbox(&self, address: SocketAddr) -> Option<Arc<Inbox>> {
        self.inboxes().get(&address).cloned()
    }
}

#[derive(Debug)]
struct Datagram {
    from: SocketAddr,
    ecn: Option<EcnCodepoint>,
    contents: Vec<u8>,
}

/// What is under way to one socket, in order of arrival.
#[derive(Debug, Default)]
struct Inbox(Mutex<Pending>);

#[derive(Debug, Default)]
struct Pending {
    datagrams: BTreeMap<(Instant, u64), Datagram>,
    bytes: usize,
    count: u64,
    timer: Option<Pin<Box<Sleep>>>,
    receiver: Option<Waker>,
}

impl Inbox {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, at: Instant, datagram: Datagram) {
        let mut pending = self.pending();
        // As a kernel does with a full receive buffer.
        if pending.bytes + datagram.contents.len() > SOCKET_BUFFER {
            return;
        }
        pending.bytes += datagram.contents.len();
        pending.count += 1;
        let key = (at, pending.count);
        pending.datagrams.insert(key, datagram);
        if pending.datagrams.first_key_value().is_some_and(|(first, _)| *first == key)
            && let Some(receiver) = pending.receiver.take()
        {
            receiver.wake();
        }
    }
}

impl Pending {
    fn take_due(&mut self, now: Instant) -> Option<Datagram> {
        let first = self.datagrams.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let datagram = first.remove();
        self.bytes -= datagram.contents.len();
        Some(datagram)
    }
}

#[derive(Debug)]
struct PacketSocket {
    network: Arc<PacketNetwork>,
    address: SocketAddr,
    inbox: Arc<Inbox>,
}

impl PacketSocket {
    fn lives(&self) -> bool {
        self.network.inbox(self.address).is_some_and(|inbox| Arc::ptr_eq(&inbox, &self.inbox))
    }
}

impl AsyncUdpSocket for PacketSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> std::io::Result<()> {
        if !self.lives() {
            return Ok(());
        }
        let (len, now) = (transmit.contents.len(), Instant::now());
        let copies = self.network.path.carry(self.address, transmit.destination, len);
        let Some(inbox) = self.network.inbox(transmit.destination) else { return Ok(()) };
        for delay in copies {
            let contents = transmit.contents.to_vec();
            inbox.put(now + delay, Datagram { from: self.address, ecn: transmit.ecn, contents });
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<std::io::Result<usize>> {
        if !self.lives() {
            return Poll::Pending;
        }
        let mut pending = self.inbox.pending();
        loop {
            let (now, mut received) = (Instant::now(), 0);
            for (buf, meta) in bufs.iter_mut().zip(meta.iter_mut()) {
                let Some(datagram) = pending.take_due(now) else { break };
                let len = datagram.contents.len().min(buf.len());
                buf[..len].copy_from_slice(&datagram.contents[..len]);
                let (addr, dst_ip) = (datagram.from, Some(self.address.ip()));
                *meta = RecvMeta { addr, len, stride: len, ecn: datagram.ecn, dst_ip };
                received += 1;
            }
            if received > 0 {
                return Poll::Ready(Ok(received));
            }
            pending.receiver = Some(cx.waker().clone());
            let Some((&(at, _), _)) = pending.datagrams.first_key_value() else { return Poll::Pending };
            let timer = pending.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            if timer.deadline() != at {
                timer.as_mut().reset(at);
            }
            std::task::ready!(timer.as_mut().poll(cx));
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
