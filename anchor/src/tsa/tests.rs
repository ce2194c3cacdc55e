//! A throwaway authority: `openssl ts` behind an HTTP server on the loopback.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::testing::server::{Asked, Server};
use crate::testing::{Tree, signed};

const CONFIG: &str = "\
[req]
distinguished_name = dn
prompt = no
[dn]
CN = x
[root]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
[tsa]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
[t]
serial = serial
default_policy = 1.2.3.4.1
digests = sha256
signer_digest = sha256
accuracy = secs:1
";
const KEY: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];

/// What the authority does with a request.
#[derive(Clone, Default)]
enum Mood {
    #[default]
    Stamps,
    /// Stamps this request, whatever comes.
    Stale(Vec<u8>),
    Says(u16, Vec<u8>),
}

struct Authority {
    folder: Arc<tempfile::TempDir>,
    mood: Arc<Mutex<Mood>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    server: Server,
}

fn openssl(folder: &Path, args: &[&str]) {
    let output = Command::new("openssl").current_dir(folder).args(args).output().expect("openssl is installed");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[expect(clippy::disallowed_methods, reason = "a test file")]
fn put(path: PathBuf, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a test file")]
fn get(path: PathBuf) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

fn reply(folder: &Path, request: &[u8]) -> Vec<u8> {
    put(folder.join("request"), request);
    let signer = ["-signer", "tsa.pem", "-inkey", "tsa.key"];
    let files = ["-config", "cnf", "-section", "t", "-queryfile", "request", "-out", "response"];
    openssl(folder, &[["ts", "-reply"].as_slice(), &files, &signer].concat());
    get(folder.join("response"))
}

impl Authority {
    async fn open() -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        put(folder.path().join("cnf"), CONFIG.as_bytes());
        put(folder.path().join("serial"), b"01\n");
        let new = |name: &str, more: &[&str]| {
            let (key, subject) = (format!("{name}.key"), format!("/CN={name}"));
            let rest = ["-nodes", "-config", "cnf", "-subj", &subject, "-keyout", &key];
            openssl(folder.path(), &[["req"].as_slice(), &KEY, &rest, more].concat());
        };
        new("root", &["-x509", "-days", "100", "-extensions", "root", "-out", "root.pem"]);
        new("tsa", &["-out", "tsa.csr"]);
        let issuer = ["-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial", "-days", "90"];
        let leaf = ["x509", "-req", "-in", "tsa.csr", "-extfile", "cnf", "-extensions", "tsa", "-out", "tsa.pem"];
        openssl(folder.path(), &[leaf.as_slice(), &issuer].concat());
        let (mood, asked) = (Arc::new(Mutex::new(Mood::default())), Arc::<Mutex<Vec<_>>>::default());
        let (moods, seen, place) = (Arc::clone(&mood), Arc::clone(&asked), Arc::clone(&folder));
        let server = Server::start(move |(kind, body)| {
            seen.lock().unwrap().push((kind, body.clone()));
            let answer = match moods.lock().unwrap().clone() {
                Mood::Stamps => (200, reply(place.path(), &body)),
                Mood::Stale(request) => (200, reply(place.path(), &request)),
                Mood::Says(status, body) => (status, body),
            };
            Box::pin(std::future::ready((answer.0, answer.1.into())))
        });
        Self { folder, mood, asked, server: server.await }
    }

    fn roots(&self) -> Roots {
        let mut roots = Roots::default();
        roots.add(&get(self.folder.path().join("root.pem"))).unwrap();
        roots
    }

    fn turn(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    async fn stamp(&self, note: &Note, roots: &Roots) -> Result<Bytes, StampError> {
        stamp(&self.server.url, note, roots, &Counting::default()).await
    }
}

/// Other bytes each time.
#[derive(Debug, Default)]
struct Counting(AtomicU8);

impl Rng for Counting {
    fn fill(&self, out: &mut [u8]) {
        out.fill_with(|| self.0.fetch_add(1, Ordering::Relaxed));
    }
}

#[tokio::test]
async fn a_note_is_stamped_whole() {
    let authority = Authority::open().await;
    let (note, roots) = (signed(Tree::of(5).head(5)), authority.roots());
    for roots in [&roots, &Roots::default()] {
        let response = authority.stamp(&note, roots).await.unwrap();
        assert_eq!(response, get(authority.folder.path().join("response")), "its exact bytes");
        let stamped = Response::parse(&response).unwrap().verify(note.as_bytes(), &authority.roots(), None).unwrap();
        assert!(stamped.rooted && stamped.authority == "CN=tsa", "{stamped:?}");
    }
    let (kind, request) = authority.asked.lock().unwrap()[0].clone();
    assert_eq!(kind, "application/timestamp-query");
    assert_eq!(request, encode_request(note.as_bytes(), 0x0001_0203_0405_0607).unwrap(), "its nonce is drawn");
    // A signature more is another note.
    let more = note.with(&signed(Tree::of(6).head(6)).signatures()[..1]).unwrap();
    let response = authority.stamp(&note, &roots).await.unwrap();
    let other = Response::parse(&response).unwrap().verify(more.as_bytes(), &roots, None);
    assert_eq!(other, Err(TimestampError::OtherBytes));
}

#[tokio::test]
async fn answers_that_show_nothing_are_refused() {
    let (authority, stranger) = (Authority::open().await, Authority::open().await);
    let (note, roots) = (signed(Tree::of(5).head(5)), authority.roots());
    let why = async |mood: Mood, roots: &Roots| {
        authority.turn(mood);
        authority.stamp(&note, roots).await.unwrap_err()
    };
    let useless = |error: &StampError| match error {
        StampError::Useless { source, .. } => source.clone(),
        other => panic!("{other}"),
    };
    let of = |bytes: &[u8], nonce| Mood::Stale(encode_request(bytes, nonce).unwrap());
    let other_note = why(of(b"other bytes", 0x0001_0203_0405_0607), &roots).await;
    assert_eq!(useless(&other_note), TimestampError::OtherBytes);
    for roots in [&roots, &Roots::default()] {
        assert_eq!(useless(&why(of(note.as_bytes(), 9), roots).await), TimestampError::OtherNonce);
    }
    let rootless = useless(&why(Mood::Stamps, &stranger.roots()).await);
    assert!(matches!(rootless, TimestampError::Chain(_)), "{rootless}");
    let words = useless(&why(Mood::Says(200, b"<html>".to_vec()), &roots).await);
    assert!(matches!(words, TimestampError::Malformed(_)), "{words}");
    let rejection = [0x30, 5, 0x30, 3, 2, 1, 2];
    assert_eq!(useless(&why(Mood::Says(200, rejection.to_vec()), &roots).await), TimestampError::NotGranted(2));
    let refused = why(Mood::Says(503, b"later\x1b".to_vec()), &roots).await;
    assert!(matches!(&refused, StampError::Refused { status: 503, words, .. } if words == "later"), "{refused}");
    let long = why(Mood::Says(200, vec![0; RESPONSE_MAX + 1]), &roots).await;
    assert!(matches!(long, StampError::Unreachable { .. }), "{long}");
    assert!(matches!(stamp("tsa.example", &note, &roots, &Counting::default()).await, Err(StampError::Url)));
}
