//! `Expect: 100-continue`: a body is asked for only once nothing is left to refuse it for.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::{Answer, Ask};
use super::{Edge, edge, keys};

/// Sends the head and waits; sends the body if the server says 100. True if it did.
async fn withheld(edge: &Edge, ask: Ask) -> (bool, Answer) {
    let mut stream = TcpStream::connect(edge.addr).await.unwrap();
    let ask = ask.with("expect", "100-continue");
    stream.write_all(&ask.head(&edge.addr.to_string(), "keep-alive")).await.unwrap();
    let (mut bytes, mut asked) = (Vec::new(), false);
    loop {
        let mut piece = [0; 4096];
        let n = stream.read(&mut piece).await.unwrap();
        bytes.extend_from_slice(&piece[..n]);
        let whole = |bytes: &[u8]| bytes.windows(4).any(|w| w == b"\r\n\r\n");
        if !asked && whole(&bytes) && bytes.starts_with(b"HTTP/1.1 100 ") {
            asked = true;
            bytes.clear();
            stream.write_all(&ask.body).await.unwrap();
        } else if n == 0 || (asked && whole(&bytes)) {
            // A refusal ends the connection: nobody could tell a late body from the next request.
            return (asked, Answer::parse(&bytes));
        }
    }
}

#[tokio::test]
async fn a_body_is_asked_for_only_when_nothing_is_left_to_refuse() {
    let edge = edge().await;
    assert_eq!(Ask::put("/box/kept", b"kept").send(edge.addr).await.status, 200);
    let put = || Ask::put("/box/no", &[b'x'; 3000]);
    let kept = |name, value: &str| Ask::put("/box/kept", b"other").with(name, value);
    let part = Ask::put("/box/no", b"x").query("partNumber=1&uploadId=00000000000000000000000000000000");
    for (name, ask, status, code) in [
        ("wrong secret", Ask { secret: Some("another"), ..put() }, 403, "SignatureDoesNotMatch"),
        ("anonymous", Ask { secret: None, ..put() }, 403, "AccessDenied"),
        ("no bucket", Ask::put("/missing-bucket/k", b"x"), 404, "NoSuchBucket"),
        ("exists", kept("if-none-match", "*"), 412, "PreconditionFailed"),
        ("another etag", kept("if-match", "\"0123\""), 412, "PreconditionFailed"),
        ("if-match on nothing", put().with("if-match", "*"), 404, "NoSuchKey"),
        ("no upload", part, 404, "NoSuchUpload"),
        ("over 5 GiB", Ask { length: Some(Some(6 << 30)), ..put() }, 400, "EntityTooLarge"),
        ("encryption", put().with("x-amz-server-side-encryption", "AES256"), 501, "NotImplemented"),
        ("foreign sub-resource", put().query("policy="), 501, "NotImplemented"),
    ] {
        let (asked, answer) = withheld(&edge, ask).await;
        assert_eq!((asked, answer.status, answer.code().as_str()), (false, status, code), "{name}: {answer:?}");
        // The client may keep its body back and send the next request, which must not be taken for the body.
        assert_eq!(answer.header("connection"), Some("close"), "{name}: {answer:?}");
    }
    for good in [put(), kept("if-match", "*"), put().with("if-match", "*")] {
        let (asked, answer) = withheld(&edge, good).await;
        assert_eq!((asked, answer.status), (true, 200), "{answer:?}");
    }
    let (asked, answer) = withheld(&edge, Ask::put("/box/new", b"x").with("if-none-match", "*")).await;
    assert_eq!((asked, answer.status), (true, 200), "{answer:?}");
    assert_eq!(keys(&edge).await, "kept new no");
}
