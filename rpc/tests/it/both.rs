//! What holds on every transport.

use std::time::Duration;

use bytes::Bytes;
use stele_rpc::error::Code;
use stele_rpc::transport::{Reply, Request};
use stele_types::ids::NodeId;
use stele_types::limits::RPC_BODY_BYTES_MAX;

use crate::service::{Probe, ask, newer_row};
use crate::world::{CLIENT, SERVER, World};

fn pattern(len: usize, seed: u8) -> Bytes {
    (0..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add((at >> 8) as u8) ^ seed).collect::<Vec<_>>().into()
}

#[tokio::test]
async fn bodies_of_every_size_return_unchanged() {
    for mut world in World::all() {
        world.start(Probe::new());
        let transport = world.transport();
        for len in [0, 1, 1199, 65_536, 1 << 20, RPC_BODY_BYTES_MAX] {
            let sent = pattern(len, 3);
            let answer = transport.call(SERVER, ask("echo", sent.clone())).await.unwrap();
            assert!(matches!(answer.reply, Reply::Storage(_)));
            assert!(answer.body == sent, "a body of {len} bytes changed on its way");
        }
    }
}

#[tokio::test]
async fn the_service_learns_who_asks() {
    for mut world in World::all() {
        world.start(Probe::new());
        let answer = world.transport().call(SERVER, ask("who", "")).await.unwrap();
        assert_eq!(answer.body, CLIENT.to_string());
    }
}

#[tokio::test]
async fn typed_errors_cross_whole() {
    for mut world in World::all() {
        world.start(Probe::new());
        let transport = world.transport();
        let stale = transport.call(SERVER, ask("stale", "")).await.unwrap_err();
        assert_eq!((stale.code, stale.detail.as_str()), (Code::StalePg, "the PG moved"));
        assert_eq!(stale.newer_pg.as_deref(), Some(&newer_row()));
        assert_eq!(transport.call(SERVER, ask("busy", "")).await.unwrap_err().code, Code::Busy);
    }
}

#[tokio::test]
async fn past_its_deadline_a_call_has_an_unknown_outcome_and_stops_the_service() {
    for mut world in World::all() {
        let probe = Probe::new();
        world.start(probe.clone());
        let transport = world.transport();
        // The first call opens the connection, so that the deadline below can't pass while dialling.
        transport.call(SERVER, ask("echo", "")).await.unwrap();
        let request = Request { timeout: Duration::from_millis(300), ..ask("hang", "") };
        assert_eq!(transport.call(SERVER, request).await.unwrap_err().code, Code::DeadlineExceeded);
        probe.wait(|seen| seen.dropped == seen.started).await;
    }
}

#[tokio::test]
async fn a_cancelled_call_stops_the_service() {
    for mut world in World::all() {
        let probe = Probe::new();
        world.start(probe.clone());
        let transport = world.transport();
        let call = tokio::spawn(async move { transport.call(SERVER, ask("hang", "")).await });
        probe.wait(|seen| seen.started == 1).await;
        assert_eq!(probe.seen().dropped, 0);
        call.abort();
        probe.wait(|seen| seen.dropped == 1).await;
    }
}

#[tokio::test]
async fn many_calls_at_once_get_their_own_answers() {
    for mut world in World::all() {
        let probe = Probe::new();
        world.start(probe.clone());
        let transport = world.transport();
        let calls = (0..300usize).map(|n| {
            let transport = transport.clone();
            async move {
                let sent = pattern(n * 97, n as u8);
                let answer = transport.call(SERVER, ask("gate", sent.clone())).await.unwrap();
                assert!(answer.body == sent, "call {n} got another call's answer");
            }
        });
        let opened = async {
            // All of them are in the service at the same time.
            probe.wait(|seen| seen.started == 300).await;
            probe.open_gate();
        };
        tokio::join!(futures::future::join_all(calls), opened);
    }
}

#[tokio::test]
async fn a_peer_that_restarted_is_found_again() {
    for mut world in World::all() {
        let transport = world.transport();
        for _ in 0..3 {
            let probe = Probe::new();
            world.start(probe.clone());
            transport.call(SERVER, ask("echo", "x")).await.unwrap();
            assert_eq!(probe.seen().started, 1);
            world.stop().await;
        }
    }
}

#[tokio::test]
async fn a_peer_that_stops_leaves_calls_under_way_unknown() {
    let [_, udp, packets] = World::all();
    for mut world in [udp, packets] {
        let probe = Probe::new();
        world.start(probe.clone());
        let transport = world.transport();
        let call = tokio::spawn(async move { transport.call(SERVER, ask("hang", "")).await });
        probe.wait(|seen| seen.started == 1).await;
        world.stop().await;
        assert_eq!(call.await.unwrap().unwrap_err().code, Code::DeadlineExceeded);
    }
}

#[tokio::test]
async fn a_peer_that_is_gone_is_unreachable() {
    for mut world in World::all() {
        let transport = world.transport();
        assert_eq!(transport.call(SERVER, ask("echo", "")).await.unwrap_err().code, Code::Unreachable);
        assert_eq!(transport.call(NodeId(99), ask("echo", "")).await.unwrap_err().code, Code::Unreachable);
        let probe = Probe::new();
        world.start(probe.clone());
        transport.call(SERVER, ask("echo", "")).await.unwrap();
    }
}
