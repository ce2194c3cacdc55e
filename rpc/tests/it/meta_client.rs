//! The metadata client over several nodes, some of which hang, lag behind or forget to answer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use stele_rpc::client::MetaClient;
use stele_rpc::error::{Code, RpcError};
use stele_rpc::memory::MemoryNetwork;
use stele_rpc::meta::{Command, CommandEnvelope, MetaReply, MetaRequest, Origin};
use stele_rpc::transport::{Message, Reply, Request, Response, Service};
use stele_types::ids::{CommandSequence, LeaseId, NodeId};
use tokio::time::Instant;

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
const FIVE_SECONDS: Duration = Duration::from_secs(5);

/// What a node does with a request.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// Answers after this long.
    Leads(Duration),
    /// Sends to another one.
    Follows(Option<NodeId>),
    /// Takes the request and never answers.
    Hangs,
    /// Refuses.
    Refuses(Code),
}

#[derive(Default)]
struct Play {
    parts: Mutex<Vec<Part>>,
    /// Sequence of every command, with the node that got it.
    seen: Mutex<Vec<(NodeId, u64)>>,
}

struct Actor {
    play: Arc<Play>,
    place: usize,
}

#[async_trait]
impl Service for Actor {
    async fn serve(&self, _from: NodeId, request: Request) -> Result<Response, RpcError> {
        let Message::Meta(message) = request.message else { panic!("a request to another service") };
        let sequence = match message {
            MetaRequest::Command(envelope) => envelope.sequence.0,
            _ => 0,
        };
        self.play.seen.lock().unwrap().push((NODES[self.place], sequence));
        let part = self.play.parts.lock().unwrap()[self.place];
        match part {
            Part::Leads(after) => tokio::time::sleep(after).await,
            Part::Follows(leader) => {
                return Err(RpcError { leader, ..RpcError::new(Code::NotLeader, "a follower") });
            }
            Part::Hangs => std::future::pending::<()>().await,
            Part::Refuses(code) => return Err(RpcError::new(code, "refused")),
        }
        Ok(Response { reply: Reply::Meta(MetaReply::Done), body: Bytes::new() })
    }
}

fn stage(parts: [Part; 3]) -> (Arc<Play>, MetaClient) {
    let play = Arc::new(Play { parts: Mutex::new(parts.into()), seen: Mutex::default() });
    let network = Arc::new(MemoryNetwork::default());
    for (place, node) in NODES.into_iter().enumerate() {
        network.bind(node, Arc::new(Actor { play: Arc::clone(&play), place }));
    }
    let client = MetaClient::new(Arc::new(network.transport(NodeId(9))), NODES.to_vec());
    (play, client)
}

fn envelope(sequence: u64) -> CommandEnvelope {
    CommandEnvelope {
        lease: Some(LeaseId(1)),
        sequence: CommandSequence(sequence),
        lowest_open: CommandSequence(0),
        origin: Origin::default(),
        salt: None,
        command: Command::AdvanceEpoch,
    }
}

const PROMPT: Part = Part::Leads(Duration::ZERO);

#[tokio::test(start_paused = true)]
async fn a_leader_that_hangs_costs_one_share_and_only_the_first_call() {
    let (play, client) = stage([Part::Hangs, Part::Follows(Some(NODES[0])), PROMPT]);
    let begun = Instant::now();
    client.command(envelope(7), FIVE_SECONDS).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let seen = play.seen.lock().unwrap().clone();
    assert!(seen.iter().all(|(_, sequence)| *sequence == 7), "the same envelope: {seen:?}");
    assert_eq!(seen.iter().filter(|(node, _)| *node == NODES[0]).count(), 1, "hints to it are not followed: {seen:?}");
    let begun = Instant::now();
    client.command(envelope(8), FIVE_SECONDS).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_election_is_waited_for_without_asking_the_dead_leader_all_the_time() {
    let (play, client) = stage([Part::Hangs, Part::Follows(Some(NODES[0])), Part::Follows(Some(NODES[0]))]);
    let election = {
        let play = Arc::clone(&play);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(3)).await;
            *play.parts.lock().unwrap() = vec![Part::Hangs, Part::Follows(None), PROMPT];
        })
    };
    let begun = Instant::now();
    client.command(envelope(7), FIVE_SECONDS).await.unwrap();
    election.await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(3600), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_slow_leader_is_heard_out() {
    let slow = Part::Leads(Duration::from_millis(2500));
    let (_, client) = stage([slow, Part::Follows(Some(NODES[0])), Part::Follows(Some(NODES[0]))]);
    client.command(envelope(7), Duration::from_secs(15)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn doubt_is_not_forgotten() {
    for later in [Part::Follows(None), Part::Refuses(Code::NoLease), Part::Refuses(Code::Busy)] {
        let (_, client) = stage([Part::Hangs, later, later]);
        let error = client.command(envelope(7), FIVE_SECONDS).await.unwrap_err();
        assert_eq!(error.code, Code::DeadlineExceeded, "{later:?}: the first attempt may yet be applied");
    }
    // Without doubt the answer stands, and so does any that the state machine gave.
    let follows = Part::Follows(None);
    let (_, client) = stage([follows, follows, follows]);
    assert_eq!(client.command(envelope(7), FIVE_SECONDS).await.unwrap_err().code, Code::NotLeader);
    let (_, client) = stage([Part::Hangs, Part::Refuses(Code::StaleConfig), follows]);
    assert_eq!(client.command(envelope(7), FIVE_SECONDS).await.unwrap_err().code, Code::StaleConfig);
}

#[tokio::test(start_paused = true)]
async fn a_read_finds_another_node_however_short_its_timeout() {
    let (_, client) = stage([Part::Hangs, PROMPT, PROMPT]);
    client.call(MetaRequest::Status, Duration::from_millis(200)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_left_out_is_asked_again() {
    let (play, client) = stage([Part::Hangs, Part::Follows(None), Part::Follows(None)]);
    client.command(envelope(7), Duration::from_secs(2)).await.unwrap_err();
    *play.parts.lock().unwrap() = vec![PROMPT, Part::Follows(None), Part::Follows(None)];
    client.command(envelope(8), FIVE_SECONDS).await.unwrap();
}
