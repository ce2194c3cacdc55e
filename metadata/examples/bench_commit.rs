//! Commits per second of a metadata group (issue clause 3.11), as JSON lines: 1, 3 and 5 voters in one process,
//! each with its own files and QUIC endpoint on loopback, 1 to 256 clients that PUT over QUIC as a gateway does.
//! Then what an idle node of sixteen groups costs. Run it with
//! `cargo run --release -p stele-metadata --example bench_commit DIR`; DIR lies on the drive to be measured.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark prints, and measures with the real clock"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use stele_metadata::{Founding, MetadataConfig, MetadataNode, files};
use stele_rpc::client::MetaClient;
use stele_rpc::error::{Code, RpcError};
use stele_rpc::meta::{
    Command, CommandEnvelope, Contents, MetaReply, MetaRequest, Origin, PutVersion, RangeRef, WriteGuard,
};
use stele_rpc::quic::address::AddressBook;
use stele_rpc::quic::authorize;
use stele_rpc::quic::config::QuicConfig;
use stele_rpc::quic::endpoint::{EndpointOptions, QuicEndpoint, Socket};
use stele_rpc::quic::server::{Handlers, QuicServer};
use stele_rpc::quic::transport::QuicTransport;
use stele_rpc::tls::authority::{ClusterCa, NodeKey, Validity};
use stele_rpc::tls::credentials::Credentials;
use stele_rpc::tls::identity::Identity;
use stele_rpc::transport::{Message, Request, Response, Service, SharedTransport, Transport};
use stele_types::ids::{
    ChunkId, ClusterId, CommandSequence, Epoch, LeaseId, NodeId, ObjectRoot, OwnerId, PackId, PgId, Salt,
};
use stele_types::manifest::{ChunkEntry, Manifest};
use stele_types::object::{Attributes, BucketRow, ETag, Lock, Precondition, Tags};
use stele_types::pack::{Codec, PackRow};
use stele_types::role::Role;
use stele_types::scheme::Scheme;
use stele_types::seam::{Clock, Rng};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const SECONDS: Duration = Duration::from_secs(3);
const IDLE_SECONDS: Duration = Duration::from_secs(20);
const TIMEOUT: Duration = Duration::from_secs(30);
const GATEWAY: NodeId = NodeId(99);
const IDLE_GROUPS: u32 = 16;
const IDLE_VOTERS: u64 = 3;

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

/// A process on the network: its endpoint, and what answers there once it exists.
struct Host {
    transport: QuicTransport,
    service: Arc<OnceLock<Arc<dyn Service>>>,
    _server: QuicServer,
}

/// Services are made after the endpoint that they call through.
struct Late(Arc<OnceLock<Arc<dyn Service>>>);

#[async_trait]
impl Service for Late {
    async fn serve(&self, from: NodeId, request: Request) -> Result<Response, RpcError> {
        match self.0.get() {
            Some(service) => service.serve(from, request).await,
            None => Err(RpcError::new(Code::Unreachable, "not open yet")),
        }
    }
}

struct Bench {
    ca: ClusterCa,
    clock: Arc<Real>,
    rng: Arc<Steps>,
}

impl Bench {
    fn new() -> Result<Self, Failure> {
        let (clock, rng) = (Arc::new(Real(Instant::now())), Arc::new(Steps::default()));
        let validity = Validity { now: clock.unix_millis(), lifetime: Duration::from_secs(86400) };
        Ok(Self { ca: ClusterCa::create(ClusterId::from_bytes([7; 16]), validity, &*rng)?, clock, rng })
    }

    fn host(&self, role: Role, node: NodeId, book: &AddressBook) -> Result<Host, Failure> {
        let key = NodeKey::generate()?;
        let identity = Identity { cluster: self.ca.cluster(), role, node };
        let validity = Validity { now: self.clock.unix_millis(), lifetime: Duration::from_secs(86400) };
        let pem = self.ca.issue(identity, &key.signing_request()?, validity, &*self.rng)?;
        let endpoint = QuicEndpoint::bind(EndpointOptions {
            config: QuicConfig::default(),
            socket: Socket::Udp(SocketAddr::from(([127, 0, 0, 1], 0))),
            credentials: Credentials::from_pem(&pem, &key.key_pem(), self.ca.certificate_pem())?,
            clock: Arc::<Real>::clone(&self.clock),
            rng: Arc::<Steps>::clone(&self.rng),
        })?;
        book.set(node, vec![endpoint.local_addr()?.to_string()]);
        let service = Arc::new(OnceLock::new());
        let late = Arc::new(Late(Arc::clone(&service)));
        let handlers = Handlers { service: late, authorizer: authorize::standard(), join: None };
        let server = QuicServer::start(Arc::clone(&endpoint), handlers);
        Ok(Host { transport: QuicTransport::new(endpoint, book.clone()), service, _server: server })
    }

    async fn open(&self, dir: &Path, node: u64, transport: SharedTransport) -> Result<Arc<MetadataNode>, Failure> {
        let founding = if node == 1 { Founding::Found } else { Founding::Join };
        let config = MetadataConfig { cluster: Some(self.ca.cluster()), founding, ..MetadataConfig::new(NodeId(node)) };
        let storage = files::in_directory(dir)?;
        Ok(MetadataNode::open(config, storage, Arc::<Real>::clone(&self.clock), transport).await?)
    }

    /// So many voters take PUTs of so many clients.
    async fn commits(&self, dir: &Path, voters: u64) -> Result<(), Failure> {
        let book = AddressBook::default();
        let (mut hosts, mut nodes) = (Vec::new(), Vec::new());
        for node in 1..=voters {
            let host = self.host(Role::Metadata, NodeId(node), &book)?;
            let transport = Arc::new(host.transport.clone());
            nodes.push(self.open(&dir.join(format!("{voters}-{node}")), node, transport).await?);
            host.service.get_or_init(|| Arc::<MetadataNode>::clone(&nodes[nodes.len() - 1]) as _);
            hosts.push(host);
        }
        nodes[0].ready().await?;
        for node in 2..=voters {
            nodes[0].add_voter(NodeId(node)).await?;
        }
        let gateway = self.host(Role::S3Gateway, GATEWAY, &book)?;
        let ids: Vec<NodeId> = (1..=voters).map(NodeId).collect();
        let meta = MetaClient::new(Arc::new(gateway.transport.clone()), ids);
        let bucket = create_bucket(&meta).await?;
        for clients in [1, 4, 16, 64, 256] {
            self.puts(&meta, &nodes, &bucket, Puts { clients, one_at_a_time: false }).await?;
        }
        // The same clients, but each command has an entry, a sync and a round of its own.
        self.puts(&meta, &nodes, &bucket, Puts { clients: 64, one_at_a_time: true }).await?;
        for node in &nodes {
            node.shutdown().await?;
        }
        Ok(())
    }

    async fn puts(
        &self,
        meta: &MetaClient,
        nodes: &[Arc<MetadataNode>],
        bucket: &BucketRow,
        puts: Puts,
    ) -> Result<(), Failure> {
        let turn = Arc::new(tokio::sync::Semaphore::new(if puts.one_at_a_time { 1 } else { 1 << 20 }));
        let mut clients = Vec::new();
        for _ in 0..puts.clients {
            let lease = grant_lease(meta).await?;
            let (meta, rng, turn) = (meta.clone(), Arc::clone(&self.rng), Arc::clone(&turn));
            clients.push(Client { meta, rng, lease, scheme: "rs-4-2".parse()?, turn });
        }
        let (syncs, entries) = log_counts(nodes);
        let (begun, cpu) = (Instant::now(), cpu_seconds()?);
        let mut tasks = tokio::task::JoinSet::new();
        for client in clients {
            tasks.spawn(client.work(bucket.clone(), begun + SECONDS));
        }
        let mut micros = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            micros.extend(ended??);
        }
        let (seconds, count) = (begun.elapsed().as_secs_f64(), micros.len() as f64);
        let (syncs, entries) = (log_counts(nodes).0 - syncs, log_counts(nodes).1 - entries);
        let voters = nodes.len() as f64;
        micros.sort_unstable();
        let line = serde_json::json!({
            "bench": "metadata_commits", "voters": nodes.len(), "clients": puts.clients,
            "batched": !puts.one_at_a_time, "puts_per_second": (count / seconds).round(),
            "p50_us": quantile(&micros, 50), "p99_us": quantile(&micros, 99),
            "fsyncs_per_put_and_voter": syncs as f64 / count / voters,
            "entries_per_fsync": entries as f64 / syncs as f64,
            "cpu_ms_per_put": (cpu_seconds()? - cpu) * 1e3 / count,
        });
        println!("{line}");
        Ok(())
    }

    /// Three nodes of sixteen groups each, without load.
    async fn idle(&self, dir: &Path) -> Result<(), Failure> {
        let book = AddressBook::default();
        let memory = resident_mib()?;
        let (mut hosts, mut all) = (Vec::new(), Vec::new());
        for node in 1..=IDLE_VOTERS {
            let host = self.host(Role::Metadata, NodeId(node), &book)?;
            let mut groups = BTreeMap::new();
            for group in 0..IDLE_GROUPS {
                let transport = Arc::new(OfGroup(group, host.transport.clone()));
                let at = dir.join(format!("idle-{node}-{group}"));
                groups.insert(group, self.open(&at, node, transport).await?);
            }
            all.push(groups.clone());
            host.service.get_or_init(|| Arc::new(Groups(groups)) as _);
            hosts.push(host);
        }
        for group in 0..IDLE_GROUPS {
            all[0][&group].ready().await?;
            for node in 2..=IDLE_VOTERS {
                all[0][&group].add_voter(NodeId(node)).await?;
            }
        }
        let (begun, cpu) = (Instant::now(), cpu_seconds()?);
        tokio::time::sleep(IDLE_SECONDS).await;
        let percent = (cpu_seconds()? - cpu) / begun.elapsed().as_secs_f64() * 100.0;
        let line = serde_json::json!({
            "bench": "idle_node", "groups": IDLE_GROUPS, "voters": IDLE_VOTERS,
            "cpu_percent_of_a_core_per_node": percent / IDLE_VOTERS as f64,
            "resident_mib_per_node": (resident_mib()? - memory) / IDLE_VOTERS as f64,
        });
        println!("{line}");
        for node in all.iter().flat_map(BTreeMap::values) {
            node.shutdown().await?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Puts {
    clients: usize,
    one_at_a_time: bool,
}

struct Client {
    meta: MetaClient,
    rng: Arc<Steps>,
    lease: LeaseId,
    scheme: Scheme,
    turn: Arc<tokio::sync::Semaphore>,
}

impl Client {
    /// Microseconds of each PUT.
    async fn work(self, bucket: BucketRow, until: Instant) -> Result<Vec<u64>, Failure> {
        let (mut sequence, mut micros) = (0, Vec::new());
        while Instant::now() < until {
            sequence += 1;
            let command = Command::PutVersion(Box::new(self.put(&bucket, sequence)));
            let envelope = CommandEnvelope {
                lease: Some(self.lease),
                sequence: CommandSequence(sequence),
                lowest_open: CommandSequence(sequence),
                ..without_lease(command)
            };
            let _turn = self.turn.acquire().await?;
            let begun = Instant::now();
            self.meta.call(MetaRequest::Command(Box::new(envelope)), TIMEOUT).await?;
            micros.push(u64::try_from(begun.elapsed().as_micros())?);
        }
        Ok(micros)
    }

    /// One chunk in a pack of its own.
    fn put(&self, bucket: &BucketRow, sequence: u64) -> PutVersion {
        let pack = PackId::from_bytes(self.draw());
        let range = RangeRef { bucket: bucket.id, range: bucket.range, epoch: bucket.range_epoch };
        let chunk = ChunkEntry {
            id: ChunkId::from_bytes(self.draw()),
            len: 4096,
            pack,
            offset: 0,
            stored_len: 4096,
            codec: Codec::Raw,
            key_id: 0,
        };
        let row = PackRow {
            pack,
            pg: PgId(0),
            scheme: self.scheme,
            generation: 0,
            payload_len: 4096,
            slots: vec![0, 1, 2, 3, 4, 5],
            start_epoch: Epoch(1),
        };
        PutVersion {
            guard: WriteGuard { range, config_epoch: bucket.config_epoch, start_epoch: Epoch(1) },
            key: format!("{}/{sequence:08}", self.lease),
            nonce: sequence,
            salt: Salt::from_bytes(self.draw()),
            replaced_salt: Salt::from_bytes(self.draw()),
            precondition: Precondition::None,
            attributes: Attributes {
                len: 4096,
                etag: ETag { md5: u128::from_le_bytes(self.draw()), parts: 0 },
                root: ObjectRoot::from_bytes(self.draw()),
                body_hash: None,
                checksums: Vec::new(),
                headers: Box::default(),
                part_lens: Vec::new(),
                tags: Tags::default(),
                part_checksums: bytes::Bytes::new(),
            },
            contents: Contents {
                owner: OwnerId::from_bytes(self.draw()),
                manifest: Manifest::Inline(vec![chunk]),
                packs: vec![row],
            },
            lock: Lock::default(),
        }
    }

    fn draw<const N: usize>(&self) -> [u8; N] {
        stele_types::seam::random_bytes(&*self.rng)
    }
}

/// A node of several groups, told apart by the number in the message.
struct Groups(BTreeMap<u32, Arc<MetadataNode>>);

#[async_trait]
impl Service for Groups {
    async fn serve(&self, from: NodeId, mut request: Request) -> Result<Response, RpcError> {
        let Message::Raft(message) = &mut request.message else {
            return Err(RpcError::new(Code::Malformed, "only raft is measured"));
        };
        let group = std::mem::take(&mut message.group);
        let node = self.0.get(&group).ok_or_else(|| RpcError::new(Code::Malformed, "no such group"))?;
        node.serve(from, request).await
    }
}

#[derive(Debug)]
struct OfGroup(u32, QuicTransport);

#[async_trait]
impl Transport for OfGroup {
    async fn call(&self, to: NodeId, mut request: Request) -> Result<Response, RpcError> {
        if let Message::Raft(message) = &mut request.message {
            message.group = self.0;
        }
        self.1.call(to, request).await
    }
}

fn without_lease(command: Command) -> CommandEnvelope {
    let origin = Origin { principal: "bench".into(), source: "127.0.0.1".into(), node: GATEWAY };
    CommandEnvelope {
        lease: None,
        sequence: CommandSequence(0),
        lowest_open: CommandSequence(0),
        origin,
        // Nobody reads this log.
        salt: Some(Salt::from_bytes([0; 32])),
        command,
    }
}

async fn create_bucket(meta: &MetaClient) -> Result<BucketRow, Failure> {
    let command = Command::CreateBucket { name: "bench".to_owned(), object_lock: false };
    match meta.call(MetaRequest::Command(Box::new(without_lease(command))), TIMEOUT).await? {
        MetaReply::Bucket(row) => Ok(*row),
        other => Err(format!("unexpected {other:?}").into()),
    }
}

async fn grant_lease(meta: &MetaClient) -> Result<LeaseId, Failure> {
    let command = Command::GrantLease { node: GATEWAY, ttl_ms: 3_600_000 };
    match meta.call(MetaRequest::Command(Box::new(without_lease(command))), TIMEOUT).await? {
        MetaReply::Lease(lease) => Ok(lease.id),
        other => Err(format!("unexpected {other:?}").into()),
    }
}

/// Fsyncs of the raft logs, and the entries in them, of all voters together.
fn log_counts(nodes: &[Arc<MetadataNode>]) -> (u64, u64) {
    nodes.iter().map(|node| node.log_counts()).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

fn quantile(sorted: &[u64], percent: usize) -> u64 {
    sorted.get(sorted.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
}

/// User and system time of this process; /proc counts hundredths of a second.
fn cpu_seconds() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit_once(')').ok_or("/proc/self/stat")?.1.split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

fn resident_mib() -> Result<f64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<f64>()? / 1024.0)
}

async fn run(dir: &Path) -> Result<(), Failure> {
    let bench = Bench::new()?;
    bench.idle(dir).await?;
    for voters in [1, 3, 5] {
        bench.commits(dir, voters).await?;
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    let folder = std::env::args().nth(1).ok_or("say which folder to write to")?;
    let dir = tempfile::tempdir_in(folder)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(dir.path()))
}
