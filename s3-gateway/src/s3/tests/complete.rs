//! A Complete that takes long: whitespace keeps its client waiting, and the outcome stands in the body.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::{Answer, Ask};
use super::{Edge, edge_over, keys};
use crate::http::server::HttpConfig;
use crate::tests::cluster_of;

/// An upload with one part; its id, and the document that completes it.
async fn upload(edge: &Edge, key: &str) -> (String, String) {
    let created = Ask::new("POST", key).query("uploads=").send(edge.addr).await;
    let text = String::from_utf8(created.body).unwrap();
    let id = text.split_once("<UploadId>").unwrap().1.split_once('<').unwrap().0.to_owned();
    let query: &'static str = Box::leak(format!("partNumber=1&uploadId={id}").into_boxed_str());
    let part = Ask::put(key, b"hello").query(query).send(edge.addr).await;
    assert_eq!(part.status, 200, "{part:?}");
    let etag = part.header("etag").unwrap();
    let part = format!("<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>");
    (id, format!("<CompleteMultipartUpload>{part}</CompleteMultipartUpload>"))
}

/// Asks while the metadata service does not answer, and lets it answer once the client has heard something.
async fn held(edge: &Edge, ask: Ask) -> Answer {
    let held = edge.cluster.hold_metadata().await;
    let mut stream = TcpStream::connect(edge.addr).await.unwrap();
    stream.write_all(&[ask.head(&edge.addr.to_string(), "close"), ask.body].concat()).await.unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b" \r\n") {
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "{}", String::from_utf8_lossy(&bytes));
    }
    drop(held);
    stream.read_to_end(&mut bytes).await.unwrap();
    Answer::parse(&bytes)
}

#[tokio::test]
async fn a_slow_complete_answers_at_once_and_tells_its_outcome_in_the_body() {
    let edge =
        edge_over(cluster_of(|config| config.complete_quiet = Duration::ZERO).await, HttpConfig::default()).await;
    let (id, document) = upload(&edge, "/box/k").await;
    let query: &'static str = Box::leak(format!("uploadId={id}").into_boxed_str());
    let complete = |document: &str| {
        let ask = Ask { body: document.as_bytes().to_vec(), ..Ask::new("POST", "/box/k").query(query) };
        held(&edge, ask)
    };

    let wrong = complete(&document.replace("<PartNumber>1", "<PartNumber>2")).await;
    let text = String::from_utf8_lossy(&wrong.body).into_owned();
    assert_eq!((wrong.status, wrong.code().as_str()), (200, "InvalidPart"), "{wrong:?}");
    assert_eq!((text.matches("<?xml").count(), text.matches("<RequestId>").count()), (1, 1), "{text}");
    assert_eq!(keys(&edge).await, "");

    let done = complete(&document).await;
    let text = String::from_utf8_lossy(&done.body).into_owned();
    assert_eq!(done.status, 200);
    assert!(text.contains("<?xml") && text.contains("-1\"</ETag>"), "{text}");
    assert_eq!(keys(&edge).await, "k");
    assert_eq!(Ask::new("GET", "/box/k").send(edge.addr).await.body, b"hello");
}
