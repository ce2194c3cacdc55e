//! The joining side: asks the addresses of a token in order until one answers.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::TokioRuntime;
use quinn::crypto::rustls::QuicClientConfig;
use stele_types::seam::Clock;

use super::token::JoinToken;
use super::{JoinReply, JoinRequest, LIMITS, SERVICE_TIMEOUT};
use crate::error::{Code, RpcError};
use crate::quic::frame::{Prefix, decode, encode};
use crate::quic::{describe, exchange_once};
use crate::tls::config;

/// For one address, handshake included.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks to be let in. A repeat after a lost answer is a new request: the service must make repeats of one
/// token and key harmless.
///
/// # Errors
/// What the cluster answered; `Unreachable` if no address answers or none has the CA that the token
/// names; `DeadlineExceeded` if the answer was lost.
pub async fn join(token: &JoinToken, request: &JoinRequest, clock: Arc<dyn Clock>) -> Result<JoinReply, RpcError> {
    let header = encode(request)?;
    Prefix::new(header.len(), 0, LIMITS)?;
    let tls = config::join(token.ca, clock).map_err(|e| RpcError::new(Code::Internal, e.to_string()))?;
    let tls = QuicClientConfig::try_from(tls).map_err(|e| RpcError::new(Code::Internal, e.to_string()))?;
    let client = quinn::ClientConfig::new(Arc::new(tls));
    let mut failures = Vec::new();
    for name in &token.addresses {
        let found = match tokio::time::timeout(DIAL_TIMEOUT, tokio::net::lookup_host(name)).await {
            Ok(Ok(found)) => found.take(4).collect::<Vec<_>>(),
            Ok(Err(error)) => {
                failures.push(format!("{name}: {error}"));
                continue;
            }
            Err(_) => {
                failures.push(format!("{name}: the name server does not answer"));
                continue;
            }
        };
        for address in found {
            match ask(address, &client, header.clone()).await {
                Ok(answer) => return answer,
                Err(problem) => failures.push(format!("{address}: {problem}")),
            }
        }
    }
    let detail = format!("the cluster can't be joined: {}; check token and network", failures.join("; "));
    Err(RpcError::new(Code::Unreachable, detail))
}

/// The outer error means: nothing was asked.
async fn ask(
    address: SocketAddr,
    client: &quinn::ClientConfig,
    header: Bytes,
) -> Result<Result<JoinReply, RpcError>, String> {
    let local = match address {
        SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = std::net::UdpSocket::bind(local).map_err(|e| e.to_string())?;
    let runtime = Arc::new(TokioRuntime);
    let endpoint =
        quinn::Endpoint::new(quinn::EndpointConfig::default(), None, socket, runtime).map_err(|e| e.to_string())?;
    let connecting = endpoint.connect_with(client.clone(), address, "join.stele").map_err(|e| e.to_string())?;
    let connection = match tokio::time::timeout(DIAL_TIMEOUT, connecting).await {
        Ok(connected) => connected.map_err(|e| describe(&e))?,
        Err(_) => return Err("no answer".to_owned()),
    };
    let asked = exchange_once(&connection, header, LIMITS);
    let answer = match tokio::time::timeout(SERVICE_TIMEOUT + DIAL_TIMEOUT, asked).await {
        Ok(Ok(answer)) => decode::<Result<JoinReply, RpcError>>(&answer).and_then(|answer| answer),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(RpcError::new(Code::DeadlineExceeded, "no answer to the join request; try again")),
    };
    connection.close(quinn::VarInt::from_u32(0), b"");
    // So that the close is sent before the socket goes.
    drop(tokio::time::timeout(DIAL_TIMEOUT, endpoint.wait_idle()).await);
    Ok(answer)
}
