//! The UDP socket of a process and the credentials it shows. Credentials are replaced while connections
//! live: those keep what they were made with, new ones use the new.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{AsyncUdpSocket, EndpointConfig, Runtime, TokioRuntime};
use stele_types::seam::{Clock, Rng};

use super::config::{ConfigError, QuicConfig, SOCKET_BUFFER};
use super::errors::CLOSE_STOPPING;
use super::identifiers::{ResetKey, SeamIds, first_id};
use crate::tls::TlsError;
use crate::tls::config;
use crate::tls::credentials::Credentials;
use crate::tls::identity::Identity;
use crate::transport::Class;

/// Where datagrams come from and go to.
#[derive(Debug)]
pub enum Socket {
    /// A UDP socket of the kernel, bound to this address. Port 0 lets the kernel choose.
    Udp(SocketAddr),
    /// A network of the caller's making, with its own time: a simulator.
    Abstract {
        /// Sends and receives.
        socket: Arc<dyn AsyncUdpSocket>,
        /// Timers and tasks.
        runtime: Arc<dyn Runtime>,
    },
}

/// What an endpoint is made of.
#[derive(Debug)]
pub struct EndpointOptions {
    /// Limits and times.
    pub config: QuicConfig,
    /// The network.
    pub socket: Socket,
    /// Who the process is, and whom it trusts.
    pub credentials: Credentials,
    /// Decides whether certificates are in force.
    pub clock: Arc<dyn Clock>,
    /// Draws connection ids and the seed of the protocol's own choices.
    pub rng: Arc<dyn Rng>,
}

/// An endpoint can't be made.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Credentials are unusable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The configuration is.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The socket can't be bound.
    #[error("UDP socket at {address}: {error}; free the port or choose another address")]
    Socket {
        /// Where.
        address: String,
        /// What the system said.
        error: std::io::Error,
    },
}

struct Shown {
    identity: Identity,
    client: Arc<QuicClientConfig>,
}

impl std::fmt::Debug for QuicEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuicEndpoint").field("identity", &self.identity()).finish_non_exhaustive()
    }
}

/// One UDP socket, shared by the calling and the answering side of a process.
pub struct QuicEndpoint {
    pub(super) endpoint: quinn::Endpoint,
    pub(super) config: QuicConfig,
    pub(super) clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    shown: ArcSwap<Shown>,
    server: ArcSwap<quinn::ServerConfig>,
    serving: AtomicBool,
}

impl QuicEndpoint {
    /// Binds the socket. Answers nothing before a [`super::server::QuicServer`] is started on it. Call it
    /// within a tokio runtime.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub fn bind(options: EndpointOptions) -> Result<Arc<Self>, EndpointError> {
        let EndpointOptions { config, socket, credentials, clock, rng } = options;
        config.check()?;
        let reset = Arc::new(ResetKey(credentials.reset_secret()));
        let mut settings = EndpointConfig::new(reset);
        let ids = Arc::clone(&rng);
        settings
            .cid_generator(move || Box::new(SeamIds(Arc::clone(&ids))))
            .rng_seed(Some(stele_types::seam::random_bytes(&*rng)))
            .max_udp_payload_size(config.mtu_cap.max(1472))
            .map_err(|e| ConfigError(format!("mtu_cap: {e}")))?;
        let (socket, runtime) = match socket {
            Socket::Abstract { socket, runtime } => (socket, runtime),
            Socket::Udp(address) => {
                let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
                let socket = bind_udp(address).and_then(|socket| runtime.wrap_udp_socket(socket));
                let failed = |error| EndpointError::Socket { address: address.to_string(), error };
                (socket.map_err(failed)?, runtime)
            }
        };
        let failed = |error| EndpointError::Socket { address: "an abstract socket".to_owned(), error };
        let endpoint = quinn::Endpoint::new_with_abstract_socket(settings, None, socket, runtime).map_err(failed)?;
        let (shown, server) = show(&credentials, &config, &clock)?;
        Ok(Arc::new(Self {
            endpoint,
            config,
            clock,
            rng,
            shown: ArcSwap::from_pointee(shown),
            server: ArcSwap::from_pointee(server),
            serving: AtomicBool::new(false),
        }))
    }

    /// Who the process says it is.
    pub fn identity(&self) -> Identity {
        self.shown.load().identity
    }

    /// Where the socket is bound.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Shows and trusts these credentials from now on. Connections that live stay as they are, with
    /// calls under way.
    ///
    /// # Errors
    /// [`TlsError`]: nothing was changed. `Mismatch` if they are of another node or cluster.
    pub fn rotate(&self, credentials: &Credentials) -> Result<(), TlsError> {
        if credentials.identity() != self.identity() {
            return Err(TlsError::Mismatch("the new certificate is not of this node"));
        }
        let (shown, server) = show(credentials, &self.config, &self.clock)?;
        self.shown.store(Arc::new(shown));
        self.server.store(Arc::new(server));
        if self.serving.load(Ordering::SeqCst) {
            self.serve();
        }
        Ok(())
    }

    /// Closes every connection and refuses new ones; waits until peers were told. Calls under way end.
    pub async fn close(&self) {
        self.stop_serving();
        self.endpoint.close(CLOSE_STOPPING, b"the process is stopping");
        self.endpoint.wait_idle().await;
    }

    pub(super) fn serve(&self) {
        self.serving.store(true, Ordering::SeqCst);
        self.endpoint.set_server_config(Some(quinn::ServerConfig::clone(&self.server.load())));
    }

    pub(super) fn stop_serving(&self) {
        self.serving.store(false, Ordering::SeqCst);
        self.endpoint.set_server_config(None);
    }

    pub(super) fn client_config(&self, mtu_cap: u16, class: Class) -> quinn::ClientConfig {
        let mut out = quinn::ClientConfig::new(Arc::<QuicClientConfig>::clone(&self.shown.load().client));
        let rng = Arc::clone(&self.rng);
        out.transport_config(self.config.dialling(mtu_cap, class))
            .initial_dst_cid_provider(Arc::new(move || first_id(&*rng)));
        out
    }
}

fn show(
    credentials: &Credentials,
    settings: &QuicConfig,
    clock: &Arc<dyn Clock>,
) -> Result<(Shown, quinn::ServerConfig), TlsError> {
    let no_suite = |e| TlsError::library("build a TLS configuration", e);
    let client = config::client(credentials, Arc::clone(clock))?;
    let client = Arc::new(QuicClientConfig::try_from(client).map_err(no_suite)?);
    let server = config::server(credentials, Arc::clone(clock))?;
    let server = QuicServerConfig::try_from(server).map_err(no_suite)?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(server));
    server.transport_config(settings.answering());
    Ok((Shown { identity: credentials.identity(), client }, server))
}

/// A socket with large buffers. The kernel may grant less than asked; that is logged, for losses that
/// come of it look like a bad network.
pub(crate) fn bind_udp(address: SocketAddr) -> std::io::Result<std::net::UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::DGRAM, None)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    let granted = socket.recv_buffer_size()?.min(socket.send_buffer_size()?);
    if granted < SOCKET_BUFFER {
        tracing::info!(
            granted,
            wanted = SOCKET_BUFFER,
            "socket buffers are small; raise net.core.rmem_max and wmem_max"
        );
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}
