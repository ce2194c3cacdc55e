//! Several voters in one process, on model disks, over a network that loses, delays, repeats and cuts,
//! in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicI64;
use std::sync::{Mutex, PoisonError};

use stele_rpc::client::MetaClient;
use stele_rpc::memory::MemoryNetwork;
use stele_rpc::meta::Command;
use stele_rpc::transport::Transport;
use stele_types::ids::BucketId;
use stele_types::seam::UnixMillis;

use super::*;
use crate::config::{Founding, RaftTiming};
use crate::executor::Executor;
use crate::model_disk::ModelDisk;
use crate::testing::{Draws, LEASE_MS, envelope, guard, range};

const TIMEOUT: Duration = Duration::from_secs(60);
const GATEWAY: NodeId = NodeId(99);

/// Virtual time, and how far this node's clock is off, milliseconds.
#[derive(Debug)]
struct SkewedClock(tokio::time::Instant, AtomicI64);

impl Clock for SkewedClock {
    fn unix_millis(&self) -> UnixMillis {
        let millis = 1_000_000 + self.monotonic_micros() / 1000;
        millis.saturating_add_signed(self.1.load(Ordering::Relaxed))
    }

    fn monotonic_micros(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap()
    }
}

#[derive(Debug)]
struct Weather {
    draw: u64,
    /// Of 100 messages, how many are lost, how many are answered in vain, how many come twice.
    faults: (u64, u64, u64),
    cut: BTreeSet<NodeId>,
    /// Sends, but hears nothing.
    deaf: BTreeSet<NodeId>,
}

/// A network with weather.
#[derive(Clone, Debug)]
struct Net(Arc<MemoryNetwork>, Arc<Mutex<Weather>>);

impl Net {
    fn weather<T>(&self, run: impl FnOnce(&mut Weather) -> T) -> T {
        run(&mut self.1.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug)]
struct Link(Net, NodeId);

fn lost() -> RpcError {
    RpcError::new(Code::DeadlineExceeded, "the network lost it")
}

#[async_trait]
impl Transport for Link {
    async fn call(&self, to: NodeId, request: Request) -> Result<Response, RpcError> {
        let (draw, cut, deaf, (lose, vain, twice)) = self.0.weather(|weather| {
            weather.draw = weather.draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let cut = weather.cut.contains(&to) || weather.cut.contains(&self.1);
            // Requests to a deaf node are lost, and so are the answers to its own.
            let deaf = (weather.deaf.contains(&to), weather.deaf.contains(&self.1));
            (weather.draw >> 33, cut || deaf.0, deaf.1, weather.faults)
        });
        let timeout = request.timeout;
        tokio::time::sleep(Duration::from_millis(1 + draw / 100 % 9).min(timeout)).await;
        let luck = draw % 100;
        if cut || luck < lose {
            tokio::time::sleep(timeout).await;
            return Err(lost());
        }
        let link = self.0.0.transport(self.1);
        if luck < lose + twice {
            link.call(to, request.clone()).await.ok();
        }
        let answer = link.call(to, request).await;
        if deaf {
            tokio::time::sleep(timeout).await;
            return Err(lost());
        }
        if (lose + twice..lose + twice + vain).contains(&luck) { Err(lost()) } else { answer }
    }
}

struct Cluster {
    net: Net,
    disks: BTreeMap<u64, ModelDisk>,
    clocks: BTreeMap<u64, Arc<SkewedClock>>,
    nodes: BTreeMap<u64, Arc<MetadataNode>>,
    config: fn(MetadataConfig) -> MetadataConfig,
}

impl Cluster {
    fn new(seed: u64) -> Self {
        let weather = Weather { draw: seed, faults: (0, 0, 0), cut: BTreeSet::new(), deaf: BTreeSet::new() };
        let net = Net(Arc::default(), Arc::new(Mutex::new(weather)));
        let (disks, clocks, nodes) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { net, disks, clocks, nodes, config: |config| config }
    }

    /// Voters 1 to `count`; 1 leads.
    async fn of(seed: u64, count: u64) -> Self {
        let mut cluster = Self::new(seed);
        for node in 1..=count {
            cluster.start(node).await.unwrap();
        }
        cluster.nodes[&1].ready().await.unwrap();
        for node in 2..=count {
            cluster.nodes[&1].add_voter(NodeId(node)).await.unwrap();
        }
        cluster
    }

    async fn start(&mut self, node: u64) -> Result<(), OpenError> {
        let disk = self.disks.entry(node).or_insert_with(|| ModelDisk::new(node));
        let now = tokio::time::Instant::now();
        let clock = self.clocks.entry(node).or_insert_with(|| Arc::new(SkewedClock(now, AtomicI64::new(0))));
        let config = (self.config)(MetadataConfig {
            executor: Executor::Inline { sync_delay: Duration::from_millis(2) },
            founding: if node == 1 { Founding::Found } else { Founding::Join },
            timing: RaftTiming { heartbeat_ms: 50, election_min_ms: 300, election_max_ms: 600, call_timeout_ms: 150 },
            snapshot_every: 50,
            log_kept: 20,
            ready_timeout: TIMEOUT,
            ..MetadataConfig::new(NodeId(node))
        });
        let link = Arc::new(Link(self.net.clone(), NodeId(node)));
        let opened = MetadataNode::open(config, disk.storage(), Arc::clone(clock) as _, link).await?;
        self.net.0.bind(NodeId(node), Arc::clone(&opened) as _);
        self.nodes.insert(node, opened);
        Ok(())
    }

    /// Power loss of one node.
    async fn crash(&mut self, node: u64) {
        self.net.0.unbind(NodeId(node));
        self.disks[&node].crash();
        self.nodes.remove(&node).unwrap().abandon().await;
    }

    fn client(&self) -> MetaClient {
        let nodes: Vec<NodeId> = (1..=5).map(NodeId).collect();
        MetaClient::new(Arc::new(Link(self.net.clone(), GATEWAY)), nodes)
    }

    async fn writer(&self) -> Writer {
        let client = self.client();
        let grant = envelope(None, 0, 0, Command::GrantLease { node: GATEWAY, ttl_ms: LEASE_MS });
        let MetaReply::Lease(lease) = insist(&client, grant).await.unwrap() else { panic!("no lease") };
        let mut writer = Writer { client, lease: lease.id, sequence: 0, draws: Draws::default(), bucket: BucketId(0) };
        let MetaReply::Bucket(row) =
            writer.run(Command::CreateBucket { name: "b".into(), object_lock: false }).await.unwrap()
        else {
            panic!("no bucket")
        };
        writer.bucket = row.id;
        writer
    }

    /// Waits until a node other than `not` leads, as that node itself says.
    async fn leader_besides(&self, not: u64) -> u64 {
        loop {
            for (id, node) in self.nodes.iter().filter(|(id, _)| **id != not) {
                if node.answer(MetaRequest::Status).await.is_ok() {
                    return *id;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a node has applied as much as another one.
    async fn caught_up(&self, node: u64, with: u64) {
        while self.nodes[&node].group.applied() < self.nodes[&with].group.applied() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn dump(&self, node: u64) -> Vec<u8> {
        let mut out = Vec::new();
        crate::snapshot::write(&*self.nodes[&node].view().unwrap(), &mut out).unwrap();
        out
    }
}

/// Repeats one envelope while its outcome is unknown, as gateways do.
async fn insist(client: &MetaClient, envelope: CommandEnvelope) -> Result<MetaReply, RpcError> {
    loop {
        match client.command(envelope.clone(), Duration::from_secs(2)).await {
            Err(error) if matches!(error.code, Code::DeadlineExceeded | Code::NotLeader | Code::Unreachable) => {}
            answer => return answer,
        }
    }
}

struct Writer {
    client: MetaClient,
    lease: stele_types::ids::LeaseId,
    sequence: u64,
    draws: Draws,
    bucket: BucketId,
}

impl Writer {
    fn next(&mut self, command: Command) -> CommandEnvelope {
        self.sequence += 1;
        envelope(Some(self.lease), self.sequence, self.sequence, command)
    }

    async fn run(&mut self, command: Command) -> Result<MetaReply, RpcError> {
        let envelope = self.next(command);
        insist(&self.client, envelope).await
    }

    async fn put(&mut self, key: &str) {
        let put = self.draws.put(guard(self.bucket, 1), key);
        self.run(Command::PutVersion(Box::new(put))).await.unwrap();
    }

    fn resolve(&self, key: &str) -> MetaRequest {
        let version = stele_rpc::meta::VersionSelector::Current;
        MetaRequest::Resolve { range: range(self.bucket), key: key.to_owned(), version }
    }

    async fn status(&self) -> MetaStatus {
        let MetaReply::Status(status) = self.client.call(MetaRequest::Status, TIMEOUT).await.unwrap() else {
            panic!("no status")
        };
        *status
    }
}

fn simulate<T>(seed: u64, run: impl Future<Output = T>) -> T {
    crate::seed_raft_randomness(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(3600), run).await.expect("an hour is enough") })
}

#[test]
fn a_crashed_leader_is_replaced_and_comes_back_with_what_it_missed() {
    simulate(1, async {
        let mut cluster = Cluster::of(1, 3).await;
        let mut writer = cluster.writer().await;
        writer.put("a").await;
        cluster.crash(1).await;
        writer.put("b").await;
        let leader = cluster.leader_besides(1).await;
        cluster.start(1).await.unwrap();
        cluster.caught_up(1, leader).await;
        let status = writer.status().await;
        assert_eq!((status.versions, status.voters.len()), (2, 3));
        assert!(status.leader && status.term > 1 && status.leader_node != Some(NodeId(1)), "{status:?}");
        assert_eq!(cluster.dump(1), cluster.dump(leader));
    });
}

#[test]
fn leadership_is_handed_over_before_a_planned_stop() {
    simulate(2, async {
        let cluster = Cluster::of(2, 3).await;
        let mut writer = cluster.writer().await;
        writer.put("a").await;
        let begun = tokio::time::Instant::now();
        let heir = cluster.nodes[&1].hand_over(TIMEOUT).await.unwrap().unwrap();
        assert!(begun.elapsed() < Duration::from_millis(300), "no election timeout passed");
        assert_ne!(heir, NodeId(1));
        writer.put("b").await;
        assert_eq!(cluster.nodes[&1].hand_over(TIMEOUT).await.unwrap(), None, "it does not lead");
        let error = cluster.nodes[&1].answer(MetaRequest::Status).await.unwrap_err();
        assert_eq!((error.code, error.leader), (Code::NotLeader, Some(heir)));
    });
}

#[test]
fn a_leader_that_hears_nobody_is_replaced_although_it_is_heard() {
    simulate(12, async {
        let cluster = Cluster::of(12, 3).await;
        let mut writer = cluster.writer().await;
        writer.put("a").await;
        cluster.net.weather(|weather| weather.deaf.insert(NodeId(1)));
        // Entries that it can't know to be delivered are sent again and again.
        let put = writer.draws.put(guard(writer.bucket, 1), "lost?");
        let command = MetaRequest::Command(Box::new(writer.next(Command::PutVersion(Box::new(put)))));
        let begun = tokio::time::Instant::now();
        let alone = tokio::time::timeout(Duration::from_secs(1), cluster.nodes[&1].answer(command)).await;
        assert!(!matches!(alone, Ok(Ok(_))), "{alone:?}");
        writer.put("b").await;
        assert!(begun.elapsed() < Duration::from_secs(5), "after {:?}", begun.elapsed());
        assert_ne!(writer.status().await.leader_node, Some(NodeId(1)));
    });
}

#[test]
fn a_minority_commits_nothing_and_reads_nothing() {
    simulate(3, async {
        let cluster = Cluster::of(3, 3).await;
        let mut writer = cluster.writer().await;
        writer.put("a").await;
        cluster.net.weather(|weather| weather.cut.insert(NodeId(1)));
        let put = writer.draws.put(guard(writer.bucket, 1), "lost?");
        let command = MetaRequest::Command(Box::new(writer.next(Command::PutVersion(Box::new(put)))));
        let alone = tokio::time::timeout(Duration::from_secs(5), cluster.nodes[&1].answer(command)).await;
        assert!(!matches!(alone, Ok(Ok(_))), "{alone:?}");
        let read = tokio::time::timeout(Duration::from_secs(5), cluster.nodes[&1].answer(writer.resolve("a"))).await;
        assert!(!matches!(read, Ok(Ok(_))), "{read:?}");
        writer.put("b").await;
        assert_ne!(writer.status().await.leader_node, Some(NodeId(1)));
    });
}

/// What reading `key` at a follower that was cut off gives, after the others wrote it.
async fn read_at_a_cut_follower(config: fn(MetadataConfig) -> MetadataConfig) -> Result<MetaReply, RpcError> {
    let mut cluster = Cluster::new(4);
    cluster.config = config;
    for node in 1..=3 {
        cluster.start(node).await.unwrap();
    }
    cluster.nodes[&1].ready().await.unwrap();
    for node in 2..=3 {
        cluster.nodes[&1].add_voter(NodeId(node)).await.unwrap();
    }
    let mut writer = cluster.writer().await;
    cluster.caught_up(3, 1).await;
    cluster.net.weather(|weather| weather.cut.insert(NodeId(3)));
    writer.put("new").await;
    cluster.nodes[&3].answer(writer.resolve("new")).await
}

#[test]
fn a_follower_never_answers_from_old_rows() {
    let error = simulate(4, read_at_a_cut_follower(|config| config)).unwrap_err();
    assert_eq!(error.code, Code::NotLeader, "{error}");
    #[cfg(feature = "sabotage")]
    {
        let broken = |config| MetadataConfig { follower_read_without_read_index: true, ..config };
        let error = simulate(4, read_at_a_cut_follower(broken)).unwrap_err();
        assert_eq!(error.code, Code::NoSuchKey, "the sabotage is seen: an acknowledged key is missing");
    }
}

#[test]
fn a_follower_behind_the_purged_log_and_a_new_one_get_a_snapshot() {
    simulate(5, async {
        let mut cluster = Cluster::of(5, 3).await;
        let mut writer = cluster.writer().await;
        cluster.crash(3).await;
        for n in 0..200 {
            writer.put(&format!("{n}")).await;
        }
        assert!(writer.status().await.purged > 50, "{:?}", writer.status().await);
        cluster.start(3).await.unwrap();
        cluster.start(4).await.unwrap();
        let leader = cluster.leader_besides(0).await;
        cluster.caught_up(3, leader).await;
        cluster.nodes[&leader].replace_voter(NodeId(3), NodeId(4)).await.unwrap();
        cluster.caught_up(4, leader).await;
        assert_eq!(writer.status().await.voters, [NodeId(1), NodeId(2), NodeId(4)]);
        writer.put("last").await;
        cluster.caught_up(4, leader).await;
        // Both survive a crash with what they were sent.
        cluster.crash(4).await;
        cluster.start(4).await.unwrap();
        cluster.caught_up(4, leader).await;
        assert_eq!(cluster.dump(4), cluster.dump(leader));
    });
}

/// What a node does that came back with an empty disk under its old id.
async fn wiped(config: fn(MetadataConfig) -> MetadataConfig) -> bool {
    let mut cluster = Cluster::of(6, 3).await;
    let mut writer = cluster.writer().await;
    writer.put("a").await;
    cluster.crash(3).await;
    cluster.disks.insert(3, ModelDisk::new(33));
    cluster.config = config;
    cluster.start(3).await.unwrap();
    let mut fatal = cluster.nodes[&3].fatal();
    let stopped = tokio::time::timeout(Duration::from_secs(20), fatal.wait_for(Option::is_some)).await.is_ok();
    if stopped {
        assert!(fatal.borrow().as_deref().is_some_and(|why| why.contains("new node id")), "{:?}", *fatal.borrow());
        let leader = cluster.leader_besides(3).await;
        assert!(cluster.nodes[&leader].remove_voter(NodeId(3)).await.is_ok());
        writer.put("b").await;
    }
    stopped
}

#[test]
fn a_wiped_disk_is_refused_under_its_old_id() {
    assert!(simulate(6, wiped(|config| config)), "it took part");
    #[cfg(feature = "sabotage")]
    assert!(!simulate(6, wiped(|config| MetadataConfig { node_id_reused: true, ..config })), "the sabotage is seen");
}

#[test]
fn a_change_of_voters_cut_off_by_a_crash_is_finished_by_the_next_leader() {
    for millis in (0..60).step_by(6) {
        simulate(7, async move {
            let mut cluster = Cluster::of(7, 3).await;
            cluster.start(4).await.unwrap();
            let changing = cluster.nodes[&1].replace_voter(NodeId(3), NodeId(4));
            tokio::time::timeout(Duration::from_millis(millis), changing).await.ok();
            cluster.crash(1).await;
            cluster.start(1).await.unwrap();
            let mut writer = cluster.writer().await;
            writer.put("a").await;
            let mut status = writer.status().await;
            for _ in 0..200 {
                if status.voters.len() == 3 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                status = writer.status().await;
            }
            assert_eq!(status.voters.len(), 3, "after {millis} ms: {status:?}");
            let third = status.voters[2];
            assert!(third == NodeId(3) || third == NodeId(4), "after {millis} ms: {status:?}");
        });
    }
}

#[test]
fn retried_commands_are_applied_once_whatever_the_network_does() {
    for seed in 0..5 {
        simulate(seed, async move {
            let mut cluster = Cluster::of(seed, 3).await;
            let mut writer = cluster.writer().await;
            cluster.net.weather(|weather| weather.faults = (5, 5, 5));
            for n in 0..40 {
                writer.put(&format!("{n}")).await;
                if n % 13 == 12 {
                    let leader = cluster.leader_besides(0).await;
                    cluster.crash(leader).await;
                    cluster.start(leader).await.unwrap();
                }
            }
            cluster.net.weather(|weather| weather.faults = (0, 0, 0));
            let status = writer.status().await;
            assert_eq!(
                (status.versions, status.log_size),
                (40, 41),
                "seed {seed}: each was applied once, and the bucket made"
            );
        });
    }
}

#[test]
fn a_leader_with_a_wrong_clock_proposes_nothing_and_hands_over() {
    simulate(8, async {
        let cluster = Cluster::of(8, 3).await;
        let mut writer = cluster.writer().await;
        writer.put("a").await;
        cluster.clocks[&1].1.store(5000, Ordering::Relaxed);
        let put = writer.draws.put(guard(writer.bucket, 1), "b");
        let command = writer.next(Command::PutVersion(Box::new(put)));
        let error = cluster.nodes[&1].answer(MetaRequest::Command(Box::new(command.clone()))).await.unwrap_err();
        assert!(error.code == Code::Unreachable && error.detail.contains("clock of node 1"), "{error}");
        // It hands over: the others go on, although its clock stays wrong.
        insist(&writer.client, command).await.unwrap();
        assert_ne!(writer.status().await.leader_node, Some(NodeId(1)));
    });
}

#[test]
fn a_full_disk_stops_one_node_and_the_others_go_on() {
    simulate(9, async {
        let cluster = Cluster::of(9, 3).await;
        let mut writer = cluster.writer().await;
        cluster.disks[&1].set_capacity(0);
        let mut fatal = cluster.nodes[&1].fatal();
        for n in 0..3000 {
            writer.put(&format!("{n}")).await;
            if fatal.borrow().is_some() {
                break;
            }
        }
        assert!(fatal.borrow_and_update().is_some(), "the disk was meant to fill up");
        cluster.net.0.unbind(NodeId(1));
        writer.put("after").await;
        assert_ne!(writer.status().await.leader_node, Some(NodeId(1)));
    });
}
