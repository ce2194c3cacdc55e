//! A client that writes requests byte by byte: signs what it is told to sign and sends what it is
//! told to send, right or wrong.

use std::net::SocketAddr;

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

pub(super) const ACCESS: &str = "root-key";
pub(super) const SECRET: &str = "root-secret";

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) query: &'static str,
    /// Signed headers besides host, date and payload hash.
    pub(super) headers: Vec<(&'static str, String)>,
    /// Headers that are not signed.
    pub(super) late: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    /// What is signed as the body's hash; `None`: the truth.
    pub(super) payload: Option<&'static str>,
    /// `None`: the truth; `Some(None)`: no Content-Length at all.
    pub(super) length: Option<Option<usize>>,
    pub(super) access: &'static str,
    /// `None`: anonymous.
    pub(super) secret: Option<&'static str>,
    /// Seconds that the client's clock is ahead.
    pub(super) ahead: i64,
}

impl Ask {
    pub(super) fn new(method: &'static str, path: &str) -> Self {
        Self {
            method,
            path: path.to_owned(),
            query: "",
            headers: Vec::new(),
            late: Vec::new(),
            body: Vec::new(),
            payload: None,
            length: None,
            access: ACCESS,
            secret: Some(SECRET),
            ahead: 0,
        }
    }

    pub(super) fn put(path: &str, body: &[u8]) -> Self {
        Self { body: body.to_vec(), ..Self::new("PUT", path) }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn late(mut self, name: &'static str, value: &str) -> Self {
        self.late.push((name, value.to_owned()));
        self
    }

    pub(super) fn query(self, query: &'static str) -> Self {
        Self { query, ..self }
    }

    /// All headers, signed for this host.
    pub(super) fn signed_for(&self, host: &str) -> Vec<(&'static str, String)> {
        let payload = self.payload.map_or_else(|| hex::encode(Sha256::digest(&self.body)), str::to_owned);
        let stamp = stamp(self.ahead);
        let mut signed =
            vec![("host", host.to_owned()), ("x-amz-content-sha256", payload.clone()), ("x-amz-date", stamp.clone())];
        signed.extend(self.headers.iter().cloned());
        signed.sort();
        let authorization = self.secret.map(|secret| self.authorization(secret, &stamp, &signed, &payload));
        signed.extend(self.late.iter().cloned());
        if let Some(length) = self.length.unwrap_or(Some(self.body.len())) {
            signed.push(("content-length", length.to_string()));
        }
        signed.extend(authorization.map(|value| ("authorization", value)));
        signed
    }

    /// Path and query.
    pub(super) fn target(&self) -> String {
        let question_mark = if self.query.is_empty() { "" } else { "?" };
        format!("{}{question_mark}{}", self.path, self.query)
    }

    /// The head of the request as bytes; `connection` is what becomes of the connection.
    pub(super) fn head(&self, host: &str, connection: &str) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target());
        for (name, value) in self.signed_for(host) {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("connection: {connection}\r\n\r\n");
        head.into_bytes()
    }

    fn authorization(&self, secret: &str, stamp: &str, signed: &[(&'static str, String)], payload: &str) -> String {
        let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let lines: String = signed.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        let canonical = format!("{}\n{}\n{}\n{lines}\n{names}\n{payload}", self.method, self.path, self.query);
        let day = &stamp[..8];
        let scope = format!("{day}/us-east-1/s3/aws4_request");
        let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
        let key = [day, "us-east-1", "s3", "aws4_request"]
            .iter()
            .fold(format!("AWS4{secret}").into_bytes(), |key, part| hmac(&key, part.as_bytes()));
        let signature = hex::encode(hmac(&key, to_sign.as_bytes()));
        format!("AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", self.access)
    }

    /// Sends the request, says that nothing more follows, and reads the answer.
    pub(super) async fn send(&self, to: SocketAddr) -> Answer {
        self.send_over(TcpStream::connect(to).await.unwrap(), &to.to_string()).await
    }

    /// As [`Ask::send`], over a connection of one's own to this host.
    pub(super) async fn send_over(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin, host: &str) -> Answer {
        stream.write_all(&[self.head(host, "close"), self.body.clone()].concat()).await.unwrap();
        let declares_more = matches!(self.length, Some(Some(length)) if length > self.body.len());
        if declares_more {
            stream.shutdown().await.unwrap();
        }
        let mut bytes = Vec::new();
        // A refused request may end with a reset behind its answer.
        stream.read_to_end(&mut bytes).await.ok();
        Answer::parse(&bytes)
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// 0 if the connection ended without an answer.
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        Self { status, head, body: bytes[end..].to_vec() }
    }

    pub(super) fn code(&self) -> String {
        let text = String::from_utf8_lossy(&self.body).into_owned();
        let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
        code.map_or_else(String::new, |(code, _)| code.to_owned())
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// HMAC-SHA-256 with a key of at most 64 bytes.
pub(super) fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0u8; 64];
    block[..key.len()].copy_from_slice(key);
    let pad = |with: u8| block.map(|b| b ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

#[expect(clippy::disallowed_methods, reason = "s3s compares signatures with the real clock")]
pub(super) fn stamp(ahead: i64) -> String {
    let at = time::OffsetDateTime::from(std::time::SystemTime::now()) + time::Duration::seconds(ahead);
    let (date, time) = (at.date(), at.time());
    format!(
        "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}
