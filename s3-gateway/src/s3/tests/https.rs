//! HTTPS and HTTP/2 over sockets: both protocols do the same, certificates change while connections
//! live, and nobody holds a connection without a handshake.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use stele_rpc::tls::authority::Validity;
use stele_rpc::tls::local::LocalCertificate;
use stele_types::seam::Rng;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::client::{Answer, Ask};
use super::{Edge, edge, edge_with};
use crate::http::server::HttpConfig;
use crate::http::tls::{BadCertificate, Tls};

const H1: &[u8] = b"http/1.1";
const H2: &[u8] = b"h2";

/// Counts up: certificates differ, and runs do not.
#[derive(Debug)]
struct Counting(std::sync::atomic::AtomicU8);

impl Rng for Counting {
    fn fill(&self, out: &mut [u8]) {
        out.fill(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    }
}

#[expect(clippy::disallowed_methods, reason = "rustls compares certificates with the real clock")]
fn certificates<const N: usize>() -> [LocalCertificate; N] {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = u64::try_from(now.as_millis()).unwrap();
    let rng = Counting(0.into());
    let names = ["127.0.0.1".to_owned()];
    let validity = Validity { now, lifetime: Duration::from_secs(3600) };
    [(); N].map(|()| LocalCertificate::create(&names, validity, &rng).unwrap())
}

fn tls(of: &LocalCertificate) -> Arc<Tls> {
    Arc::new(Tls::from_pem(of.certificate_pem.as_bytes(), of.key_pem.as_bytes()).unwrap())
}

async fn shake(edge: &Edge, trusted: &LocalCertificate, alpn: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.ca_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(edge.addr).await?;
    let name = ServerName::from(edge.addr.ip());
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// An HTTP/2 connection over any stream.
pub(super) async fn http2(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> http2::SendRequest<Full<Bytes>> {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub(super) async fn ask_http2(sender: &mut http2::SendRequest<Full<Bytes>>, edge: &Edge, ask: Ask) -> Answer {
    let host = edge.addr.to_string();
    let mut request = Request::builder().method(ask.method).uri(format!("https://{host}{}", ask.target()));
    for (name, value) in ask.signed_for(&host) {
        if name != "host" {
            request = request.header(name, value);
        }
    }
    let answer = sender.send_request(request.body(Full::from(ask.body)).unwrap()).await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes().to_vec();
    Answer { status, head: String::new(), body }
}

async fn a_session_over_http2(mut sender: http2::SendRequest<Full<Bytes>>, edge: &Edge, bucket: &str) {
    let object = format!("{bucket}/k");
    assert_eq!(ask_http2(&mut sender, edge, Ask::new("PUT", bucket)).await.status, 200);
    assert_eq!(ask_http2(&mut sender, edge, Ask::put(&object, b"hello")).await.status, 200);
    assert_eq!(ask_http2(&mut sender, edge, Ask::new("GET", &object)).await.body, b"hello");
    let listed = ask_http2(&mut sender, edge, Ask::new("GET", bucket).query("list-type=2")).await;
    assert!(String::from_utf8_lossy(&listed.body).contains("<Key>k</Key>"), "{listed:?}");
    let refused = ask_http2(&mut sender, edge, Ask { secret: Some("another"), ..Ask::new("GET", &object) }).await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "SignatureDoesNotMatch"));
}

#[tokio::test]
async fn https_serves_http1_and_http2_by_alpn() {
    let [made] = certificates();
    let edge = edge_with(HttpConfig { tls: Some(tls(&made)), ..HttpConfig::default() }).await;
    let stream = shake(&edge, &made, H2).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(H2));
    a_session_over_http2(http2(stream).await, &edge, "/second").await;
    let stream = shake(&edge, &made, H1).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(H1));
    let got = Ask::new("GET", "/second/k").send_over(stream, &edge.addr.to_string()).await;
    assert_eq!((got.status, got.body.as_slice()), (200, b"hello".as_slice()));
}

#[tokio::test]
async fn http2_is_served_without_tls_to_clients_that_know() {
    let edge = edge().await;
    a_session_over_http2(http2(TcpStream::connect(edge.addr).await.unwrap()).await, &edge, "/second").await;
}

#[tokio::test]
async fn a_replaced_certificate_is_shown_to_new_connections_and_old_ones_live_on() {
    let [first, second] = certificates();
    let shown = tls(&first);
    let edge = edge_with(HttpConfig { tls: Some(Arc::clone(&shown)), ..HttpConfig::default() }).await;
    let mut old = http2(shake(&edge, &first, H2).await.unwrap()).await;
    assert_eq!(ask_http2(&mut old, &edge, Ask::new("PUT", "/box")).await.status, 200);

    let broken = shown.replace(second.certificate_pem.as_bytes(), first.key_pem.as_bytes()).unwrap_err();
    assert!(matches!(broken, BadCertificate::Pair(_)), "{broken}");
    assert!(matches!(shown.replace(b"", second.key_pem.as_bytes()), Err(BadCertificate::Chain(_))));
    assert!(matches!(shown.replace(second.certificate_pem.as_bytes(), b"x"), Err(BadCertificate::Key(_))));
    shake(&edge, &first, H2).await.unwrap();

    shown.replace(second.certificate_pem.as_bytes(), second.key_pem.as_bytes()).unwrap();
    assert!(shake(&edge, &first, H2).await.is_err());
    let mut new = http2(shake(&edge, &second, H2).await.unwrap()).await;
    for sender in [&mut old, &mut new] {
        assert_eq!(ask_http2(sender, &edge, Ask::new("HEAD", "/box")).await.status, 200);
    }
}

#[tokio::test]
async fn plain_http_on_the_https_port_is_told_so() {
    let [made] = certificates();
    let edge = edge_with(HttpConfig { tls: Some(tls(&made)), ..HttpConfig::default() }).await;
    let answer = Ask::put("/box/k", &[b'x'; 5000]).send(edge.addr).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "InvalidRequest"));
    assert!(String::from_utf8_lossy(&answer.body).contains("https://"), "{answer:?}");
    let mut garbage = TcpStream::connect(edge.addr).await.unwrap();
    garbage.write_all(b"\0\0\0").await.unwrap();
    let mut answer = Vec::new();
    garbage.read_to_end(&mut answer).await.ok();
    assert_eq!(answer, b"");
}

#[tokio::test]
async fn a_client_that_never_shakes_hands_does_not_keep_its_slot() {
    let [made] = certificates();
    let timeout = Duration::from_millis(100);
    let tls = Some(tls(&made));
    let edge = edge_with(HttpConfig { tls, connections_max: 1, handshake_timeout: timeout, ..HttpConfig::default() });
    let edge = edge.await;
    let mut silent = TcpStream::connect(edge.addr).await.unwrap();
    let mut half = TcpStream::connect(edge.addr).await.unwrap();
    half.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
    // Both had the only slot before this one got it.
    let mut served = http2(shake(&edge, &made, H2).await.unwrap()).await;
    assert_eq!(ask_http2(&mut served, &edge, Ask::new("PUT", "/box")).await.status, 200);
    for stream in [&mut silent, &mut half] {
        assert_eq!(stream.read(&mut [0; 64]).await.unwrap_or(0), 0);
    }
}
