//! One connection that was answered: who is it, what does it want, then one task per call.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::HandshakeData;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use super::errors::{CLOSE_DONE, CLOSE_HELLO, CLOSE_STOPPING, CLOSE_UNKNOWN_PEER, STREAM_REFUSED, describe};
use super::frame::{CallHeader, FrameLimits, Prefix, ReplyHeader, decode, encode};
use super::hello::{HELLO_BYTES_MAX, Hello};
use super::peer::peer_identity;
use super::server::Shared;
use super::stream::{Call, Frame, FrameError, read_frame, write_frame};
use super::transport::priority;
use crate::error::{Code, RpcError};
use crate::join;
use crate::tls::config::{ALPN_JOIN, ALPN_NODE};
use crate::tls::identity::Identity;
use crate::transport::{Class, Request, Response};

/// Says that a task failed: a defect in a service, whose caller sees an unknown outcome.
pub(super) fn note(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a call ended in a panic");
    }
}

/// Serves one connection to its end.
pub(super) async fn serve(shared: Arc<Shared>, incoming: quinn::Incoming, turn: OwnedSemaphorePermit) {
    let from = incoming.remote_address();
    let wait = shared.endpoint.config.connect_timeout;
    let Ok(connecting) = incoming.accept() else { return };
    let connection = match timeout(wait, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::info!(%from, problem = describe(&error), "a handshake failed");
            return;
        }
        Err(_) => return,
    };
    match protocol(&connection).as_deref() {
        Some(ALPN_JOIN) => serve_join(&shared, &connection, wait).await,
        Some(ALPN_NODE) => {
            let Some(peer) = peer_identity(&connection) else {
                connection.close(CLOSE_UNKNOWN_PEER, b"no client certificate: join the cluster first");
                return;
            };
            match timeout(wait, greet(&shared, &connection, peer)).await {
                Ok(Ok(())) => {
                    drop(turn);
                    serve_calls(&shared, &connection, peer).await;
                }
                Ok(Err(problem)) => {
                    tracing::warn!(%from, %peer, problem, "a peer was refused");
                    // The answer says why; the peer closes once it has read it.
                    drop(timeout(wait, connection.closed()).await);
                }
                Err(_) => connection.close(CLOSE_HELLO, b"no hello arrived"),
            }
        }
        _ => connection.close(CLOSE_UNKNOWN_PEER, b"unknown protocol"),
    }
}

fn protocol(connection: &quinn::Connection) -> Option<Vec<u8>> {
    connection.handshake_data()?.downcast::<HandshakeData>().ok()?.protocol
}

async fn greet(shared: &Shared, connection: &quinn::Connection, peer: Identity) -> Result<(), String> {
    let stream = connection.accept_bi().await.map_err(|e| describe(&e))?;
    let mut call = Call::new(stream);
    let limits = FrameLimits { header: HELLO_BYTES_MAX, body: 0 };
    let ours = Hello::of(shared.endpoint.identity());
    let agreed = match read_frame(&mut call.recv, limits, &shared.budget).await {
        Ok(frame) => decode::<Hello>(&frame.header).and_then(|theirs| {
            ours.agree(&theirs, peer)?;
            Ok(theirs.class)
        }),
        Err(FrameError::Broken(error)) => Err(error),
        Err(FrameError::Lost(problem)) => return Err(problem),
    };
    let answer = agreed.as_ref().map(|_| &ours);
    let header = encode(&answer).map_err(|e| e.detail)?;
    let prefix = Prefix::new(header.len(), 0, limits).map_err(|e| e.detail)?;
    if let Ok(class) = &agreed {
        shared.endpoint.config.open_windows(connection, *class);
    }
    write_frame(&mut call.send, prefix, [header, Bytes::new()]).await.map_err(|e| e.to_string())?;
    call.done();
    agreed.map(|_| ()).map_err(|e| e.detail)
}

async fn serve_join(shared: &Shared, connection: &quinn::Connection, wait: Duration) {
    let from = connection.remote_address();
    let exchange = async {
        let mut call = Call::new(connection.accept_bi().await.ok()?);
        let limits = join::LIMITS;
        let answer = match read_frame(&mut call.recv, limits, &shared.budget).await {
            Ok(frame) => match (&shared.handlers.join, shared.joins.take()) {
                (None, _) => Err(RpcError::new(Code::Forbidden, "this node takes no joins; ask a metadata node")),
                (_, false) => Err(RpcError::new(Code::Busy, "too many join requests; try again in a few seconds")),
                (Some(service), true) => match decode(&frame.header) {
                    Ok(request) => service.join(from, request).await,
                    Err(error) => Err(error),
                },
            },
            Err(FrameError::Broken(error)) => Err(error),
            Err(FrameError::Lost(_)) => return None,
        };
        if let Err(error) = &answer {
            tracing::warn!(%from, %error, "a join was refused");
        }
        let header = encode(&answer).ok()?;
        let prefix = Prefix::new(header.len(), 0, limits).ok()?;
        write_frame(&mut call.send, prefix, [header, Bytes::new()]).await.ok()?;
        drop(call.send.stopped().await);
        call.done();
        Some(())
    };
    drop(timeout(wait + join::SERVICE_TIMEOUT, exchange).await);
    connection.close(CLOSE_DONE, b"");
}

/// What the calls of one connection share.
struct Peer {
    shared: Arc<Shared>,
    identity: Identity,
    in_flight: Arc<Semaphore>,
    repair: Semaphore,
}

async fn serve_calls(shared: &Arc<Shared>, connection: &quinn::Connection, identity: Identity) {
    let config = &shared.endpoint.config;
    // Twice what a caller keeps to: one that was cancelled there may still be ending here.
    let repair = Semaphore::new(config.repair_in_flight_max.saturating_mul(2) as usize);
    let in_flight = Arc::new(Semaphore::new(config.in_flight_max as usize));
    let peer = Arc::new(Peer { shared: Arc::clone(shared), identity, in_flight, repair });
    let mut calls = JoinSet::new();
    let mut stopping = shared.stopping.clone();
    let mut draining = false;
    loop {
        tokio::select! {
            stream = connection.accept_bi() => match stream {
                Ok(stream) if *shared.stopping.borrow() => {
                    calls.spawn(refuse_stopping(Call::new(stream)));
                }
                Ok(stream) => {
                    calls.spawn(one_call(Arc::clone(&peer), Call::new(stream)));
                }
                // Calls under way are dropped with the set: nobody is left to take their answers.
                Err(_) => return,
            },
            Some(ended) = calls.join_next() => note(ended),
            _ = stopping.wait_for(|stop| *stop), if !draining => draining = true,
        }
        if draining && calls.is_empty() {
            break;
        }
    }
    connection.close(CLOSE_STOPPING, b"the process is stopping");
}

/// A call that came after the process began to stop: certainly without effect.
async fn refuse_stopping(mut call: Call) {
    refuse(&mut call, RpcError::new(Code::Unreachable, "the process is stopping; ask another")).await;
}

async fn one_call(peer: Arc<Peer>, mut call: Call) {
    let Ok(turn) = Arc::clone(&peer.in_flight).try_acquire_owned() else {
        let detail = "too many calls of this peer are under way; slow down";
        return refuse(&mut call, RpcError::new(Code::Busy, detail)).await;
    };
    let wait = peer.shared.endpoint.config.receive_timeout;
    let frame = match timeout(wait, read_frame(&mut call.recv, FrameLimits::CALL, &peer.shared.budget)).await {
        Ok(Ok(frame)) => frame,
        Ok(Err(FrameError::Broken(error))) => return refuse(&mut call, error).await,
        Ok(Err(FrameError::Lost(_))) => return,
        Err(_) => {
            let detail = "the request did not arrive in time: memory for receiving is used up, or the sender stalls";
            return refuse(&mut call, RpcError::new(Code::Busy, detail)).await;
        }
    };
    let Frame { header, body, room } = frame;
    let (class, answer) = tokio::select! {
        answer = dispatch(&peer, &header, body) => answer,
        // The caller gave up, or is gone: the service is dropped where it stands.
        _ = call.send.stopped() => return,
    };
    drop(room);
    drop(turn);
    reply(&mut call, class, answer).await;
}

async fn dispatch(peer: &Peer, header: &[u8], body: Bytes) -> (Class, Result<Response, RpcError>) {
    let CallHeader { message, timeout_ms, class } = match decode(header) {
        Ok(header) => header,
        Err(error) => return (Class::Foreground, Err(error)),
    };
    let Identity { role, node, .. } = peer.identity;
    if !(peer.shared.handlers.authorizer)(role, &message) {
        tracing::warn!(peer = %peer.identity, message = kind(&message), "a call was refused: not allowed to this role");
        let detail = format!("the role {role} may not ask this; see the table of roles");
        return (class, Err(RpcError::new(Code::Forbidden, detail)));
    }
    let _turn = match class {
        Class::Foreground => None,
        Class::Repair => match peer.repair.try_acquire() {
            Ok(turn) => Some(turn),
            Err(_) => return (class, Err(RpcError::new(Code::Busy, "too many repair calls of this peer; slow down"))),
        },
    };
    let longest = peer.shared.endpoint.config.call_timeout_max;
    let timeout = Duration::from_millis(timeout_ms).min(longest);
    let request = Request { message, body, timeout, class };
    let served = tokio::time::timeout(timeout, peer.shared.handlers.service.serve(node, request)).await;
    let late = |_| Err(RpcError::new(Code::DeadlineExceeded, format!("not done within {} ms", timeout.as_millis())));
    (class, served.unwrap_or_else(late))
}

/// The kind of a message, for logs: never its content.
const fn kind(message: &crate::transport::Message) -> &'static str {
    match message {
        crate::transport::Message::Meta(_) => "metadata request",
        crate::transport::Message::Storage(_) => "storage request",
        crate::transport::Message::Raft(_) => "raft message",
        crate::transport::Message::Renew(_) => "request for a certificate",
    }
}

async fn refuse(call: &mut Call, error: RpcError) {
    call.stop_reading(STREAM_REFUSED);
    reply(call, Class::Foreground, Err(error)).await;
}

async fn reply(call: &mut Call, class: Class, answer: Result<Response, RpcError>) {
    let (result, body) = match answer {
        Ok(Response { reply, body }) => (Ok(reply), body),
        Err(error) => (Err(error), Bytes::new()),
    };
    let made = encode(&ReplyHeader { result }).and_then(|header| {
        let prefix = Prefix::new(header.len(), body.len(), FrameLimits::CALL)?;
        Ok((header, prefix))
    });
    let (header, prefix, body) = match made {
        Ok((header, prefix)) => (header, prefix, body),
        Err(error) => {
            // An answer over the limits is a defect of the service; its caller learns that much.
            tracing::error!(%error, "an answer could not be sent");
            let error = RpcError::new(Code::Internal, format!("the answer could not be sent: {}", error.detail));
            let Ok(header) = encode(&ReplyHeader { result: Err(error) }) else { return };
            let Ok(prefix) = Prefix::new(header.len(), 0, FrameLimits::CALL) else { return };
            (header, prefix, Bytes::new())
        }
    };
    drop(call.send.set_priority(priority(class)));
    if write_frame(&mut call.send, prefix, [header, body]).await.is_ok() {
        call.done();
        // Until it has arrived: a connection that is closed drops what is still to be sent.
        drop(call.send.stopped().await);
    }
}
