//! Several gateways at once on the same buckets and keys.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use stele_rpc::meta::{ListQuery, Origin};
use stele_types::object::Precondition;

use super::{Cluster, body_in_pieces, cluster, noise, put_request, read_all};
use crate::api::{DeleteOne, DeleteRequest, GetRequest, PutReply, PutRequest};
use crate::bucket::{create_bucket, delete_bucket};
use crate::delete::delete_objects;
use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::get::head_object;
use crate::list::list_keys;
use crate::put::put_object;

async fn three(c: &Cluster) -> Vec<Arc<Gateway>> {
    vec![Arc::clone(&c.gw), c.another_gateway(4).await, c.another_gateway(5).await]
}

async fn put_if(
    gw: &Arc<Gateway>,
    key: &str,
    bytes: &Bytes,
    precondition: Precondition,
) -> Result<PutReply, GatewayError> {
    put_object(gw, PutRequest { precondition, ..put_request(key, body_in_pieces(bytes, 50_000)) }).await
}

async fn get(gw: &Arc<Gateway>, key: &str) -> Result<Bytes, GatewayError> {
    read_all(gw, GetRequest::current("b", key)).await
}

fn refused(error: &GatewayError) -> bool {
    matches!(error, GatewayError::PreconditionFailed | GatewayError::PreconditionNoKey)
}

#[tokio::test(start_paused = true)]
async fn of_writers_that_all_want_to_be_first_one_is() {
    let c = cluster().await;
    let gateways = three(&c).await;
    for round in 0..8u64 {
        let key = format!("k{round}");
        let bodies: Vec<Bytes> = (0..9).map(|n| noise(round * 100 + n, 5000)).collect();
        let puts = bodies.iter().zip(gateways.iter().cycle());
        let outcomes = join_all(puts.map(|(body, gw)| put_if(gw, &key, body, Precondition::Absent))).await;
        let winners: Vec<usize> = (0..9).filter(|n| outcomes[*n].is_ok()).collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        assert!(outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).all(refused));
        for gw in &gateways {
            assert_eq!(get(gw, &key).await.unwrap(), bodies[winners[0]]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_update_is_lost_between_gateways() {
    let c = cluster().await;
    let gateways = three(&c).await;
    c.put("counter", &Bytes::from_static(b"0")).await.unwrap();
    let count = |gw: Arc<Gateway>| async move {
        let mut added = 0;
        while added < 5 {
            let head = head_object(&gw, GetRequest::current("b", "counter")).await.unwrap();
            let value = get(&gw, "counter").await.unwrap();
            let next = std::str::from_utf8(&value).unwrap().parse::<u64>().unwrap() + 1;
            let tag = head.version.attributes.etag.to_string();
            let condition = Precondition::Matches(vec![tag]);
            match put_if(&gw, "counter", &Bytes::from(next.to_string()), condition).await {
                Ok(_) => added += 1,
                Err(error) => assert!(refused(&error), "{error}"),
            }
        }
    };
    join_all(gateways.iter().map(|gw| count(Arc::clone(gw)))).await;
    for gw in &gateways {
        assert_eq!(get(gw, "counter").await.unwrap(), "15");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bucket_made_anew_elsewhere_is_never_served_from_the_old_row() {
    let c = cluster().await;
    let gateways = three(&c).await;
    for gw in &gateways {
        put_if(gw, "old", &noise(1, 100), Precondition::None).await.unwrap();
    }
    let (maker, others) = gateways.split_first().unwrap();
    let item = DeleteOne { key: "old".into(), version: Default::default(), precondition: Precondition::None };
    let everything =
        DeleteRequest { bucket: "b".into(), items: vec![item], bypass_governance: false, origin: Origin::default() };
    delete_objects(maker, everything).await.unwrap();
    delete_bucket(maker, "b", Origin::default()).await.unwrap();
    for gw in others {
        assert!(matches!(get(gw, "old").await, Err(GatewayError::NoSuchBucket { .. })));
        let put = put_if(gw, "k", &noise(1, 100), Precondition::None).await;
        assert!(matches!(put, Err(GatewayError::NoSuchBucket { .. })), "{put:?}");
    }
    // Everybody has the row again, and once more it is the wrong one.
    create_bucket(maker, "b", false, Origin::default()).await.unwrap();
    for gw in others {
        put_if(gw, "warm", &noise(1, 100), Precondition::None).await.unwrap();
    }
    delete_bucket(maker, "b", Origin::default()).await.unwrap();
    create_bucket(maker, "b", false, Origin::default()).await.unwrap();
    assert!(matches!(get(&others[0], "warm").await, Err(GatewayError::NoSuchKey { .. })));
    put_if(&others[1], "new", &noise(2, 100), Precondition::Absent).await.unwrap();
    c.meta.reconfigure("b");
    put_if(&others[0], "newer", &noise(3, 100), Precondition::Absent).await.unwrap();
    for gw in &gateways {
        let query = ListQuery { max: 10, ..ListQuery::default() };
        let page = list_keys(gw, "b", query).await.unwrap();
        assert_eq!(page.rows.iter().map(|row| row.key.as_str()).collect::<Vec<_>>(), ["new", "newer"]);
        assert_eq!(get(gw, "new").await.unwrap(), noise(2, 100));
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_without_a_lease_commits_nothing_and_takes_a_new_one_by_itself() {
    let c = cluster().await;
    let gateways = three(&c).await;
    let cut_off = &gateways[1];
    put_if(cut_off, "k", &noise(1, 100), Precondition::None).await.unwrap();
    // A write is under way while the metadata service is away for longer than a lease lives.
    let open = crate::put::begin(cut_off, "b").await.unwrap();
    c.meta.set_unreachable(true);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert!(gateways.iter().all(|gw| !gw.health().lease), "none was renewed");
    let begun = tokio::time::Instant::now();
    let error = put_if(cut_off, "k", &noise(2, 100), Precondition::None).await.unwrap_err();
    assert!(matches!(error, GatewayError::Unavailable { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());

    c.meta.expire_leases();
    c.meta.raise_fence();
    c.meta.set_unreachable(false);
    let late = crate::put::commit_with(cut_off, "b", &open, Origin::default(), |guard| {
        let item = stele_rpc::meta::DeleteItem {
            key: "k".into(),
            version: Default::default(),
            precondition: Precondition::None,
            nonce: 1,
            salt: stele_types::ids::Salt::from_bytes([0; 32]),
            bypass: false,
        };
        stele_rpc::meta::Command::Delete { guard, items: vec![item] }
    });
    assert!(matches!(late.await, Err(GatewayError::Unavailable { .. })), "its start epoch is fenced");
    for gw in &gateways {
        assert_eq!(get(gw, "k").await.unwrap(), noise(1, 100));
        put_if(gw, "mine", &noise(gw.node().0, 100), Precondition::None).await.unwrap();
    }
    // One that writes nothing takes its lease from the next renewal.
    c.meta.expire_leases();
    tokio::time::sleep(Duration::from_secs(21)).await;
    assert!(gateways.iter().all(|gw| gw.health().lease));
}

#[tokio::test(start_paused = true)]
async fn the_write_after_a_fenced_one_begins_at_a_new_epoch() {
    let c = cluster().await;
    let open = crate::put::begin(&c.gw, "b").await.unwrap();
    c.meta.raise_fence();
    assert!(matches!(c.put("k", &noise(1, 100)).await, Err(GatewayError::Unavailable { .. })));
    c.put("k", &noise(2, 100)).await.unwrap();
    drop(open);
    assert_eq!(c.get("k").await.unwrap(), noise(2, 100));
}
