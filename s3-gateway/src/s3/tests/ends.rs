//! How connections end: a client that still sends hears why it is refused, and one without requests is let go.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::{Answer, Ask};
use super::https::{ask_http2, http2};
use super::{edge, edge_with};
use crate::http::server::HttpConfig;

#[tokio::test]
async fn a_client_that_sends_all_before_it_reads_hears_why_it_is_refused() {
    let edge = edge().await;
    let body = vec![b'x'; 16 * 1024 * 1024];
    for ask in [
        Ask { secret: Some("another"), ..Ask::put("/box/no", &body) },
        Ask::put("/missing-bucket/k", &body),
        Ask::put("/box/no", &body).with("content-md5", "nonsense"),
    ] {
        let mut stream = TcpStream::connect(edge.addr).await.unwrap();
        stream.write_all(&ask.head(&edge.addr.to_string(), "keep-alive")).await.unwrap();
        stream.write_all(&ask.body).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let answer = Answer::parse(&bytes);
        assert!((400..=404).contains(&answer.status) && !answer.code().is_empty(), "{answer:?}");
    }
}

#[tokio::test]
async fn an_http2_connection_without_requests_ends() {
    let edge = edge_with(HttpConfig { header_timeout: Duration::from_millis(300), ..HttpConfig::default() }).await;
    let mut sender = http2(TcpStream::connect(edge.addr).await.unwrap()).await;
    assert_eq!(ask_http2(&mut sender, &edge, Ask::new("HEAD", "/box")).await.status, 200);
    let closed = async {
        while !sender.is_closed() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), closed).await.expect("the connection is still open");
}
