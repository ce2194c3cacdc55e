//! What every request passes: the audit log and the limits, over sockets.

use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::{ACCESS, Ask};
use super::{Edge, edge_with};
use crate::http::audit::writer::{AuditConfig, Auditor, Sink};
use crate::http::door::{Door, RequestLimits};
use crate::http::rate::Rate;
use crate::http::server::HttpConfig;
use crate::tests::clock;

#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    fails: bool,
}

/// Lines in memory; fails while it is told to.
#[derive(Clone, Default)]
struct Lines(Arc<(Mutex<Kept>, Condvar)>);

impl Sink for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut lines = self.0.0.lock().unwrap();
        self.0.1.notify_all();
        if lines.fails {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        lines.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Waits until `count` lines are there.
    fn wait(&self, count: usize) -> Vec<Value> {
        let lines = self.0.0.lock().unwrap();
        let have = |lines: &Kept| lines.bytes.iter().filter(|byte| **byte == b'\n').count();
        let lines = self.0.1.wait_while(lines, |lines| have(lines) < count).unwrap();
        String::from_utf8(lines.bytes.clone())
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn fail(&self, fails: bool) {
        self.0.0.lock().unwrap().fails = fails;
    }
}

async fn audited(strict: bool) -> (Edge, Lines, Auditor) {
    let lines = Lines::default();
    let config = AuditConfig { strict, known_keys: vec![ACCESS.to_owned()] };
    let auditor = Auditor::start(config, clock(), lines.clone()).unwrap();
    let door = Door::new(RequestLimits::default(), clock(), Some(auditor.clone()));
    (edge_with(HttpConfig { door, ..HttpConfig::default() }).await, lines, auditor)
}

async fn limited(limits: RequestLimits) -> Edge {
    edge_with(HttpConfig { door: Door::new(limits, clock(), None), ..HttpConfig::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_leaves_one_line_that_says_who_did_what_and_what_came_of_it() {
    let (edge, lines, auditor) = audited(false).await;
    let put = Ask::put("/box/a%20key", b"hello").with("user-agent", "some \"client\"").send(edge.addr).await;
    Ask::new("GET", "/box/a%20key").send(edge.addr).await;
    Ask::new("HEAD", "/box/absent").send(edge.addr).await;
    Ask { secret: Some("root-secres"), ..Ask::new("GET", "/box/a%20key") }.send(edge.addr).await;
    Ask { access: "nobody", ..Ask::new("GET", "/box/a%20key") }.send(edge.addr).await;
    Ask { secret: None, ..Ask::new("DELETE", "/box/a%20key") }.send(edge.addr).await;
    Ask::new("DELETE", "/box/a%20key").query("acl=").send(edge.addr).await;
    Ask::new("GET", "/box").query("list-type=2&x-id=GetObject").send(edge.addr).await;
    let seen = lines.wait(9);
    auditor.close();
    let facts: Vec<_> = seen
        .iter()
        .map(|l| (l["operation"].as_str(), l["principal"].as_str(), l["status"].as_u64(), l["error"].as_str()))
        .collect();
    let root = Some(ACCESS);
    assert_eq!(
        facts,
        [
            (Some("CreateBucket"), root, Some(200), None),
            (Some("PutObject"), root, Some(200), None),
            (Some("GetObject"), root, Some(200), None),
            (Some("HeadObject"), root, Some(404), Some("NoSuchKey")),
            (None, None, Some(403), Some("SignatureDoesNotMatch")),
            (None, None, Some(403), Some("InvalidAccessKeyId")),
            (Some("DeleteObject"), None, Some(403), Some("AccessDenied")),
            (None, None, Some(501), Some("NotImplemented")),
            (None, None, Some(400), Some("InvalidRequest")),
        ],
        "{seen:#?}"
    );
    let made = &seen[1];
    assert_eq!((made["bucket"].as_str(), made["key"].as_str()), (Some("box"), Some("a key")));
    assert_eq!((made["bytes_in"].as_u64(), made["user_agent"].as_str()), (Some(5), Some("some \"client\"")));
    assert_eq!(made["log"].as_str(), put.header("x-stele-log"));
    assert_eq!(made["object_root"].as_str(), put.header("x-stele-object-root"));
    assert_eq!(made["request_id"].as_str().map(str::to_lowercase).as_deref(), put.header("x-amz-request-id"));
    assert!(made["remote"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!((seen[2]["bytes_out"].as_u64(), seen[2]["complete"].as_bool()), (Some(5), Some(true)));
    assert_eq!((seen[4]["claimed"].as_str(), seen[4]["target"].as_str()), (root, Some("/box/a%20key")));
    assert_eq!(seen[5]["claimed"], Value::Null, "a key that nobody knows may be a secret in the wrong place");
    assert_eq!(seen[7]["method"].as_str(), Some("DELETE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_of_a_bulk_deletion_has_a_line() {
    let (edge, lines, auditor) = audited(true).await;
    Ask::put("/box/one", b"1").send(edge.addr).await;
    let body = b"<Delete><Object><Key>one</Key></Object><Object><Key>two</Key></Object></Delete>";
    let md5 =
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, <md5::Md5 as md5::Digest>::digest(body));
    let ask = Ask { body: body.to_vec(), ..Ask::new("POST", "/box").query("delete=").with("content-md5", md5) };
    assert_eq!(ask.send(edge.addr).await.status, 200);
    let seen = lines.wait(5);
    auditor.close();
    let items: Vec<_> = seen.iter().filter(|l| l["operation"] == "DeleteObjects.Item").collect();
    assert_eq!(items.iter().map(|l| l["key"].as_str()).collect::<Vec<_>>(), [Some("one"), Some("two")]);
    assert_eq!((&items[0]["error"], items[0]["principal"].as_str()), (&Value::Null, Some(ACCESS)));
    assert!(seen.iter().any(|l| l["operation"] == "DeleteObjects" && l["request_id"] == items[0]["request_id"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_is_seen() {
    let (edge, lines, auditor) = audited(false).await;
    Ask::put("/box/large", &vec![7; 9 << 20]).send(edge.addr).await;
    let mut stream = TcpStream::connect(edge.addr).await.unwrap();
    stream.write_all(&Ask::new("GET", "/box/large").head(&edge.addr.to_string(), "close")).await.unwrap();
    stream.read_exact(&mut [0; 1000]).await.unwrap();
    drop(stream);
    let seen = lines.wait(3);
    auditor.close();
    assert_eq!((seen[2]["operation"].as_str(), seen[2]["complete"].as_bool()), (Some("GetObject"), Some(false)));
    assert!(seen[2]["bytes_out"].as_u64().unwrap() < 9 << 20, "{}", seen[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_log_that_cannot_be_written_stops_requests_before_they_do_anything() {
    let (edge, lines, auditor) = audited(true).await;
    lines.wait(1);
    lines.fail(true);
    let mut number = 0;
    let refused = loop {
        let answer = Ask::put(&format!("/box/{number}"), b"x").send(edge.addr).await;
        if answer.status != 200 {
            break answer;
        }
        number += 1;
    };
    assert_eq!((refused.status, refused.code().as_str()), (503, "ServiceUnavailable"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    lines.fail(false);
    auditor.reopen();
    while Ask::new("HEAD", "/box").send(edge.addr).await.status != 200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(Ask::new("GET", &format!("/box/{number}")).send(edge.addr).await.status, 404);
    auditor.close();
}

#[tokio::test]
async fn past_the_limit_of_requests_under_way_others_are_told_to_slow_down() {
    let edge = limited(RequestLimits { in_flight_max: 1, per_key: None }).await;
    Ask::put("/box/large", &vec![7; 20 << 20]).send(edge.addr).await;
    let mut reader = TcpStream::connect(edge.addr).await.unwrap();
    reader.write_all(&Ask::new("GET", "/box/large").head(&edge.addr.to_string(), "close")).await.unwrap();
    reader.read_exact(&mut [0; 1000]).await.unwrap();
    let refused = Ask::put("/box/more", b"x").send(edge.addr).await;
    assert_eq!((refused.status, refused.code().as_str(), refused.header("retry-after")), (503, "SlowDown", Some("1")));
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).await.unwrap();
    while Ask::new("HEAD", "/box").send(edge.addr).await.status != 200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(Ask::new("GET", "/box/more").send(edge.addr).await.status, 404);
}

#[tokio::test]
async fn a_key_past_its_allowance_is_told_when_to_come_again_and_others_cannot_use_it_up() {
    let rate = Rate { per_second: 1, burst: 2 };
    let edge = limited(RequestLimits { per_key: Some(rate), ..RequestLimits::default() }).await;
    for _ in 0..20 {
        let forged = Ask { secret: Some("root-secres"), ..Ask::new("GET", "/box") }.send(edge.addr).await;
        assert_eq!(forged.code(), "SignatureDoesNotMatch");
    }
    assert_eq!(Ask::new("HEAD", "/box").send(edge.addr).await.status, 200);
    let refused = loop {
        let answer = Ask::put("/box/k", b"x").send(edge.addr).await;
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!((refused.status, refused.code().as_str(), refused.header("retry-after")), (503, "SlowDown", Some("1")));
}

#[tokio::test]
async fn silent_and_dripping_connections_are_closed() {
    let config = HttpConfig {
        header_timeout: Duration::from_millis(300),
        idle_max: Duration::from_millis(300),
        ..HttpConfig::default()
    };
    let edge = edge_with(config).await;
    let whole = Ask::new("HEAD", "/box").head(&edge.addr.to_string(), "keep-alive");
    let document = Ask { length: Some(Some(1000)), ..Ask::new("POST", "/box/k").query("uploadId=0") };
    let starts: [(&str, Vec<u8>); 5] = [
        ("nothing", Vec::new()),
        ("half of HTTP/2", b"PRI * HTTP/2.0\r\n".to_vec()),
        ("half of a header", whole[..whole.len() - 10].to_vec()),
        ("a kept-alive connection", whole),
        ("half of a document", document.head(&edge.addr.to_string(), "close")),
    ];
    for (name, bytes) in starts {
        let mut stream = TcpStream::connect(edge.addr).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "{name}: the connection stays open");
    }
    assert_eq!(Ask::new("HEAD", "/box").send(edge.addr).await.status, 200);
}
