//! Figures of the transport on loopback, both ends in one process, as JSON lines: small calls and large
//! bodies beside plain TCP with the same TLS, and what repair costs foreground reads. What is compared runs
//! A-B-B-A, and rows hold the means. Run it with `cargo run --release -p stele-rpc --example bench_transport`.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark prints, and measures with the real clock"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use stele_rpc::error::{Code, RpcError};
use stele_rpc::quic::address::AddressBook;
use stele_rpc::quic::authorize;
use stele_rpc::quic::config::QuicConfig;
use stele_rpc::quic::endpoint::{EndpointOptions, QuicEndpoint, Socket};
use stele_rpc::quic::server::{Handlers, QuicServer};
use stele_rpc::quic::transport::QuicTransport;
use stele_rpc::storage::{StorageReply, StorageRequest};
use stele_rpc::tls::authority::{ClusterCa, NodeKey, Validity};
use stele_rpc::tls::config;
use stele_rpc::tls::credentials::Credentials;
use stele_rpc::tls::identity::Identity;
use stele_rpc::transport::{Class, Message, Reply, Request, Response, Service, Transport};
use stele_types::ids::{ClusterId, DriveId, NodeId, PackId};
use stele_types::role::Role;
use stele_types::seam::{Clock, Rng};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const SERVER: NodeId = NodeId(2);
const MIB: usize = 1 << 20;
/// Of each measurement.
const SECONDS: Duration = Duration::from_secs(3);

#[derive(Debug)]
struct Real(Instant);

impl Clock for Real {
    fn unix_millis(&self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or_default()
    }

    fn monotonic_micros(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or_default()
    }
}

/// Good enough for ids in a benchmark.
#[derive(Debug, Default)]
struct Steps(AtomicU64);

impl Rng for Steps {
    fn fill(&self, out: &mut [u8]) {
        for piece in out.chunks_mut(8) {
            let next = self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let bytes = (next ^ next >> 31).to_le_bytes();
            piece.copy_from_slice(&bytes[..piece.len()]);
        }
    }
}

/// Answers a read with so many bytes as asked for.
struct Shards(Bytes);

#[async_trait]
impl Service for Shards {
    async fn serve(&self, _from: NodeId, request: Request) -> Result<Response, RpcError> {
        let len = match request.message {
            Message::Storage(StorageRequest::ReadShard { len, .. }) => len as usize,
            _ => 0,
        };
        if len > self.0.len() {
            return Err(RpcError::new(Code::Malformed, "no shard is that long"));
        }
        Ok(Response { reply: Reply::Storage(StorageReply::Bytes), body: self.0.slice(..len) })
    }
}

struct Bench {
    ca: ClusterCa,
    clock: Arc<Real>,
}

/// What one case did.
#[derive(Clone, Copy)]
struct Outcome {
    per_second: f64,
    gb_per_second: f64,
    cpu_seconds_per_gb: f64,
}

impl Bench {
    fn credentials(&self, role: Role, node: NodeId) -> Result<Credentials, Failure> {
        let key = NodeKey::generate()?;
        let identity = Identity { cluster: self.ca.cluster(), role, node };
        let validity = Validity { now: self.clock.unix_millis(), lifetime: Duration::from_secs(86400) };
        let pem = self.ca.issue(identity, &key.signing_request()?, validity, &Steps::default())?;
        Ok(Credentials::from_pem(&pem, &key.key_pem(), self.ca.certificate_pem())?)
    }

    fn endpoint(&self, role: Role, node: NodeId, mtu_cap: u16) -> Result<Arc<QuicEndpoint>, Failure> {
        Ok(QuicEndpoint::bind(EndpointOptions {
            config: QuicConfig { mtu_cap, ..QuicConfig::default() },
            socket: Socket::Udp(SocketAddr::from(([127, 0, 0, 1], 0))),
            credentials: self.credentials(role, node)?,
            clock: Arc::<Real>::clone(&self.clock),
            rng: Arc::new(Steps(AtomicU64::new(node.0 << 40))),
        })?)
    }

    fn pair(&self, mtu_cap: u16) -> Result<(QuicTransport, QuicServer), Failure> {
        let server = self.endpoint(Role::StorageNode, SERVER, mtu_cap)?;
        let address = server.local_addr()?.to_string();
        let service = Arc::new(Shards(vec![0x5a; 4 * MIB].into()));
        let server = QuicServer::start(server, Handlers { service, authorizer: authorize::standard(), join: None });
        let book = AddressBook::default();
        book.set(SERVER, vec![address]);
        Ok((QuicTransport::new(self.endpoint(Role::S3Gateway, NodeId(1), mtu_cap)?, book), server))
    }

    /// So many callers read `len` bytes in a loop until the time is over.
    async fn read(
        &self,
        transport: &QuicTransport,
        class: Class,
        callers: usize,
        len: usize,
    ) -> Result<Outcome, Failure> {
        let (begun, cpu) = (Instant::now(), cpu_seconds());
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..callers {
            let transport = transport.clone();
            tasks.spawn(async move {
                let mut done = 0u64;
                while begun.elapsed() < SECONDS {
                    transport.call(SERVER, read_shard(class, len)).await?;
                    done += 1;
                }
                Ok::<_, RpcError>(done)
            });
        }
        let mut done = 0;
        while let Some(ended) = tasks.join_next().await {
            done += ended??;
        }
        Ok(outcome(done, len, begun, cpu))
    }

    /// The same over TCP with the same certificates and suites: length, bytes, one connection a caller.
    async fn read_tcp(&self, callers: usize, len: usize) -> Result<Outcome, Failure> {
        let mut tls = config::server(&self.credentials(Role::StorageNode, SERVER)?, Arc::<Real>::clone(&self.clock))?;
        tls.alpn_protocols.clear();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let mut tls = config::client(&self.credentials(Role::S3Gateway, NodeId(1))?, Arc::<Real>::clone(&self.clock))?;
        tls.alpn_protocols.clear();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve_tcp(acceptor.clone(), stream));
            }
        });
        let (begun, cpu) = (Instant::now(), cpu_seconds());
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..callers {
            let connector = connector.clone();
            tasks.spawn(async move {
                let stream = tokio::net::TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let name = "n2.stele".try_into().map_err(std::io::Error::other)?;
                let mut stream = connector.connect(name, stream).await?;
                let (mut done, mut body) = (0u64, vec![0; len]);
                while begun.elapsed() < SECONDS {
                    stream.write_u32_le(u32::try_from(len).unwrap_or_default()).await?;
                    stream.flush().await?;
                    stream.read_exact(&mut body).await?;
                    done += 1;
                }
                Ok::<_, std::io::Error>(done)
            });
        }
        let mut done = 0;
        while let Some(ended) = tasks.join_next().await {
            done += ended??;
        }
        serving.abort();
        Ok(outcome(done, len, begun, cpu))
    }

    /// Foreground reads alone and beside repair that never pauses.
    async fn beside_repair(&self, mtu_cap: u16) -> Result<(), Failure> {
        let (transport, _server) = self.pair(mtu_cap)?;
        let (mut alone, mut beside, mut repair) = (Vec::new(), Vec::new(), Vec::new());
        for with_repair in [false, true, true, false] {
            let reads = self.read(&transport, Class::Foreground, 16, 64 << 10);
            if with_repair {
                let (reads, repairs) = tokio::join!(reads, self.read(&transport, Class::Repair, 8, 4 * MIB));
                beside.push(reads?);
                repair.push(repairs?);
            } else {
                alone.push(reads.await?);
            }
        }
        let (alone, beside) = (mean(&alone), mean(&beside));
        print(&format!("64 KiB foreground reads alone, mtu {mtu_cap}"), alone);
        print(&format!("64 KiB foreground reads beside repair, mtu {mtu_cap}"), beside);
        print(&format!("4 MiB repair reads beside foreground, mtu {mtu_cap}"), mean(&repair));
        let claim = format!("3.1 foreground kept beside repair, mtu {mtu_cap}");
        verdict(&claim, beside.per_second / alone.per_second, ">=", 0.7);
        Ok(())
    }

    /// Calls of one size over QUIC and over TCP with TLS.
    async fn against_tcp(&self, mtu_cap: u16, callers: usize, len: usize) -> Result<(), Failure> {
        let (transport, _server) = self.pair(mtu_cap)?;
        let (mut quic, mut tcp) = (Vec::new(), Vec::new());
        for over_tcp in [false, true, true, false] {
            if over_tcp {
                tcp.push(self.read_tcp(callers, len).await?);
            } else {
                quic.push(self.read(&transport, Class::Foreground, callers, len).await?);
            }
        }
        let case = format!("{} KiB, {callers} callers", len >> 10);
        print(&format!("{case}, QUIC, mtu {mtu_cap}"), mean(&quic));
        print(&format!("{case}, TCP and TLS, beside mtu {mtu_cap}"), mean(&tcp));
        Ok(())
    }
}

fn mean(runs: &[Outcome]) -> Outcome {
    let of = |get: fn(&Outcome) -> f64| runs.iter().map(get).sum::<f64>() / runs.len() as f64;
    Outcome {
        per_second: of(|run| run.per_second),
        gb_per_second: of(|run| run.gb_per_second),
        cpu_seconds_per_gb: of(|run| run.cpu_seconds_per_gb),
    }
}

async fn serve_tcp(acceptor: tokio_rustls::TlsAcceptor, stream: tokio::net::TcpStream) -> std::io::Result<()> {
    let shard = vec![0x5a; 4 * MIB];
    stream.set_nodelay(true)?;
    let mut stream = acceptor.accept(stream).await?;
    while let Ok(wanted) = stream.read_u32_le().await {
        stream.write_all(shard.get(..wanted as usize).unwrap_or_default()).await?;
        stream.flush().await?;
    }
    Ok(())
}

fn read_shard(class: Class, len: usize) -> Request {
    let message = StorageRequest::ReadShard {
        drive: DriveId::from_bytes([1; 16]),
        pack: PackId::from_bytes([2; 32]),
        generation: 0,
        shard: 0,
        offset: 0,
        len: u32::try_from(len).unwrap_or_default(),
    };
    Request { class, ..Request::storage(message, Bytes::new(), Duration::from_secs(60)) }
}

/// User and system time of this process: both ends together.
fn cpu_seconds() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

fn outcome(done: u64, len: usize, begun: Instant, cpu: f64) -> Outcome {
    let (seconds, gb) = (begun.elapsed().as_secs_f64(), done as f64 * len as f64 / 1e9);
    Outcome {
        per_second: done as f64 / seconds,
        gb_per_second: gb / seconds,
        cpu_seconds_per_gb: (cpu_seconds() - cpu) / gb,
    }
}

fn print(what: &str, o: Outcome) {
    let line = serde_json::json!({
        "bench": "transport", "case": what, "calls_per_second": o.per_second.round(),
        "gb_per_second": o.gb_per_second, "cpu_seconds_per_gb": o.cpu_seconds_per_gb,
    });
    println!("{line}");
}

fn verdict(what: &str, value: f64, relation: &str, bound: f64) {
    let holds = if relation == "<=" { value <= bound } else { value >= bound };
    let line = serde_json::json!({
        "bench": "transport", "claim": what, "value": value, "relation": relation, "bound": bound, "holds": holds,
    });
    println!("{line}");
}

async fn run() -> Result<(), Failure> {
    let clock = Arc::new(Real(Instant::now()));
    let validity = Validity { now: clock.unix_millis(), lifetime: Duration::from_secs(86400) };
    let ca = ClusterCa::create(ClusterId::from_bytes([7; 16]), validity, &Steps::default())?;
    let bench = Bench { ca, clock };
    for mtu_cap in [1452, 6500] {
        bench.against_tcp(mtu_cap, 64, 4096).await?;
        bench.against_tcp(mtu_cap, 4, 4 * MIB).await?;
        bench.beside_repair(mtu_cap).await?;
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run())
}
