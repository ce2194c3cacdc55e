use std::path::PathBuf;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use stele_evidence::checkpoint::Checkpoint;
use stele_evidence::cosignature::sign_note;
use stele_evidence::keys::{Ed25519Signer, MlDsa44Signer};
use stele_evidence::note::{Note, SignatureLine};
use stele_evidence::proof::Head;
use stele_evidence::witness::{REQUEST_MAX, parse_cosignatures, parse_size};
use stele_rpc::meta::TreeHead;
use tokio::sync::Semaphore;

use super::*;
use crate::memory::Remembers;
use crate::testing::{ORIGIN, Standing, Tree, log_keys, name, signed, trusted};

const TIME: u64 = 1_790_000_000;
const NAME: &str = "witness.example/w1";

fn signers() -> Signers {
    vec![
        Box::new(Ed25519Signer::for_cosignatures(name(NAME), &[7; 32])),
        Box::new(MlDsa44Signer::new(name(NAME), &[8; 32])),
    ]
}

fn witness_keys() -> Vec<TrustedKey> {
    signers().iter().map(|signer| trusted(signer.as_ref())).collect()
}

fn setup() -> Setup {
    Setup { name: name(NAME), signers: signers(), logs: log_keys() }
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> Result<Arc<Witness>, WitnessError> {
        Witness::open(self.0.path(), setup(), Standing::at(TIME)).map(Arc::new)
    }

    fn path(&self, extension: &str) -> PathBuf {
        self.0.path().join(format!("{}.{extension}", origin_hash(ORIGIN)))
    }

    /// A witness whose memory is `with` around the one on the disk.
    fn open_with(&self, with: impl FnOnce(Memory) -> Box<dyn Remembers>) -> Arc<Witness> {
        let memory = Memory::open(&self.path("seen"), ORIGIN).unwrap();
        let log = Followed::open(self.path("note"), log_keys(), with(memory)).unwrap();
        let followed = BTreeMap::from([(origin_hash(ORIGIN), log)]);
        Arc::new(Witness { name: name(NAME), signers: signers(), clock: Standing::at(TIME), followed })
    }
}

async fn post(witness: &Arc<Witness>, request: &AddCheckpoint) -> Answer {
    witness.add_checkpoint(request.print().into()).await
}

async fn grow(witness: &Arc<Witness>, tree: &Tree, steps: &[(u64, u64)]) {
    for (old, new) in steps {
        assert_eq!(post(witness, &tree.request(*old, *new)).await.status, 200, "{old} to {new}");
    }
}

/// Size that the witness says it cosigned last.
async fn size(witness: &Arc<Witness>, tree: &Tree) -> u64 {
    let head = Head { size: 1, root: tree.head(1).root };
    // An old size that nobody has is never right.
    let probe = format!("old 1\n\n{}", String::from_utf8_lossy(signed(head).as_bytes()));
    let answer = witness.add_checkpoint(probe.into()).await;
    assert_eq!((answer.status, answer.content_type), (409, "text/x.tlog.size"), "{answer:?}");
    parse_size(&answer.body).unwrap()
}

fn newest(witness: &Witness) -> Option<u64> {
    let note = Note::parse(&witness.checkpoint(&origin_hash(ORIGIN))?).unwrap();
    let keys = [log_keys(), witness_keys()].concat();
    assert_eq!(note.verify(&keys).unwrap().len(), 4, "two keys of the log, and two of the witness");
    assert_eq!(note.signatures().len(), 4);
    Some(Checkpoint::parse(note.text()).unwrap().head().size)
}

#[tokio::test]
async fn a_log_that_grows_is_cosigned_with_both_keys() {
    let (place, tree) = (Place::new(), Tree::of(20));
    let witness = place.open().unwrap();
    assert_eq!(newest(&witness), None);
    for (old, new) in [(0, 0), (0, 3), (3, 3), (3, 4), (4, 16), (16, 20), (20, 20)] {
        let request = tree.request(old, new);
        let answer = post(&witness, &request).await;
        assert_eq!(answer.status, 200, "{old} to {new}: {answer:?}");
        let lines = parse_cosignatures(&answer.body, request.note(), &witness_keys()).unwrap();
        let note = Note::build(request.note().text(), &lines).unwrap();
        let keys = witness_keys();
        let times: Vec<_> = note.verify(&keys).unwrap().iter().map(|line| line.time).collect();
        assert_eq!(times, [Some(TIME), Some(TIME)]);
        assert_eq!(newest(&witness), Some(new));
    }
}

#[tokio::test]
async fn every_refusal_has_its_status_and_changes_nothing() {
    let (place, tree) = (Place::new(), Tree::of(20));
    let witness = place.open().unwrap();
    grow(&witness, &tree, &[(0, 4)]).await;
    let unknown = {
        let key = Ed25519Signer::for_notes(name("other.example/log"), &[9; 32]);
        let text = Checkpoint::new(&name("other.example/log"), tree.head(9)).text();
        let note = Note::build(&text, &[sign_note(&key, &text).unwrap()]).unwrap();
        AddCheckpoint::new(0, Vec::new(), note).unwrap()
    };
    let replaced = {
        let key = Ed25519Signer::for_notes(name(ORIGIN), &[9; 32]);
        let text = Checkpoint::new(&name(ORIGIN), tree.head(9)).text();
        let note = Note::build(&text, &[sign_note(&key, &text).unwrap()]).unwrap();
        AddCheckpoint::new(4, tree.proof(4, 9), note).unwrap()
    };
    let tampered = {
        let key = log_keys().remove(1);
        let line = SignatureLine::new(key.vkey().name().clone(), key.vkey().id(), vec![1; 2428]);
        let lines = [tree.request(4, 9).note().signatures()[0].clone(), line];
        let note = Note::build(tree.request(4, 9).note().text(), &lines).unwrap();
        AddCheckpoint::new(4, tree.proof(4, 9), note).unwrap()
    };
    let of = |old, proof, head| AddCheckpoint::new(old, proof, signed(head)).unwrap();
    let other_root = |size| Head { size, root: [9; 32] };
    for (what, request, status) in [
        ("an origin that nobody follows", unknown, 404),
        ("a key that is not the log's", replaced, 403),
        ("a wrong line of a key of the log", tampered, 403),
        ("an old size that is too small", tree.request(3, 9), 409),
        ("an old size that is too large", tree.request(5, 9), 409),
        ("a proof of another tree", of(4, tree.proof(4, 9), other_root(9)), 422),
        ("no proof", of(4, Vec::new(), tree.head(9)), 422),
        ("another root for the same size", of(4, Vec::new(), other_root(4)), 422),
        ("a proof where none belongs", of(4, vec![[0; 32]], tree.head(4)), 422),
    ] {
        let answer = post(&witness, &request).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        if status == 409 {
            assert_eq!((answer.content_type, answer.body.as_ref()), ("text/x.tlog.size", b"4\n".as_slice()));
        }
    }
    let shrinks = String::from_utf8(tree.request(4, 9).print()).unwrap().replace("old 4\n", "old 10\n");
    for body in [shrinks.into(), Bytes::new(), Bytes::from_static(b"old 4\n"), vec![b'\n'; REQUEST_MAX + 1].into()] {
        assert_eq!(witness.add_checkpoint(body).await.status, 400);
    }
    assert_eq!((size(&witness, &tree).await, newest(&witness)), (4, Some(4)));
    grow(&witness, &tree, &[(4, 9)]).await;
}

#[tokio::test]
async fn a_first_checkpoint_needs_no_proof_and_may_have_none() {
    let (place, tree) = (Place::new(), Tree::of(9));
    let witness = place.open().unwrap();
    let of = |proof, head| AddCheckpoint::new(0, proof, signed(head)).unwrap();
    for (request, status) in [
        (of(vec![[0; 32]], tree.head(9)), 422),
        (of(Vec::new(), Head { size: 0, root: [9; 32] }), 422),
        (of(Vec::new(), tree.head(9)), 200),
    ] {
        assert_eq!(post(&witness, &request).await.status, status);
    }
}

#[expect(clippy::disallowed_methods, reason = "a test file")]
fn file(path: &Path) -> Option<Vec<u8>> {
    std::fs::read(path).ok()
}

#[expect(clippy::disallowed_methods, reason = "a test file")]
fn put(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn two_roots_for_one_size_are_kept_as_evidence() {
    let (place, tree) = (Place::new(), Tree::of(9));
    let witness = place.open().unwrap();
    grow(&witness, &tree, &[(0, 9)]).await;
    // A wrong proof may be anybody's fault.
    let unproven = AddCheckpoint::new(9, vec![[0; 32]], signed(tree.head(9))).unwrap();
    assert_eq!(post(&witness, &unproven).await.status, 422);
    assert_eq!(file(&place.path("forked")), None);
    for root in [[8; 32], [9; 32]] {
        let fork = AddCheckpoint::new(9, Vec::new(), signed(Head { size: 9, root })).unwrap();
        assert_eq!(post(&witness, &fork).await.status, 422);
    }
    let first = signed(Head { size: 9, root: [8; 32] });
    assert_eq!(file(&place.path("forked")).unwrap(), first.as_bytes());
}

/// Waits for a permit before it remembers.
#[derive(Debug)]
struct Gated(Memory, Arc<Semaphore>);

#[async_trait]
impl Remembers for Gated {
    fn last(&self) -> Option<TreeHead> {
        self.0.last()
    }

    async fn remember(&mut self, head: TreeHead) -> Result<(), MemoryError> {
        self.1.acquire().await.unwrap().forget();
        self.0.remember(head).await
    }
}

/// Lets every task go as far as it can.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn of_two_requests_at_once_one_is_cosigned() {
    let (place, tree, gate) = (Place::new(), Tree::of(20), Arc::new(Semaphore::new(1)));
    let witness = place.open_with(|memory| Box::new(Gated(memory, Arc::clone(&gate))));
    grow(&witness, &tree, &[(0, 4)]).await;
    let mut tasks = Vec::new();
    for new in [20, 9] {
        let (witness, request) = (Arc::clone(&witness), tree.request(4, new));
        tasks.push(tokio::spawn(async move { post(&witness, &request).await }));
        settle().await;
    }
    gate.add_permits(2);
    let (first, second) = (tasks.remove(0).await.unwrap(), tasks.remove(0).await.unwrap());
    assert_eq!((first.status, second.status, second.body.as_ref()), (200, 409, b"20\n".as_slice()));
    assert_eq!(newest(&witness), Some(20));
}

#[tokio::test]
async fn a_caller_that_hangs_up_stops_nothing() {
    let (place, tree, gate) = (Place::new(), Tree::of(20), Arc::new(Semaphore::new(0)));
    let witness = place.open_with(|memory| Box::new(Gated(memory, Arc::clone(&gate))));
    let (asked, request) = (Arc::clone(&witness), tree.request(0, 4));
    let caller = tokio::spawn(async move { post(&asked, &request).await });
    settle().await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    gate.add_permits(2);
    assert_eq!(size(&witness, &tree).await, 4);
    grow(&witness, &tree, &[(4, 9)]).await;
}

#[tokio::test]
async fn a_restart_goes_on_where_it_ended() {
    let (place, tree) = (Place::new(), Tree::of(20));
    let witness = place.open().unwrap();
    assert!(matches!(place.open(), Err(WitnessError::Memory(MemoryError::InUse { .. }))));
    grow(&witness, &tree, &[(0, 4), (4, 9)]).await;
    drop(witness);
    let witness = place.open().unwrap();
    assert_eq!((size(&witness, &tree).await, newest(&witness)), (9, Some(9)));
    grow(&witness, &tree, &[(9, 20)]).await;
}

/// Two logs, of which the second one signs with the first one's seeds under a name of its own.
fn two_logs() -> Vec<TrustedKey> {
    let second = Ed25519Signer::for_notes(name("log.example/2"), &[1; 32]);
    [log_keys(), vec![trusted(&second)]].concat()
}

#[tokio::test]
async fn a_note_that_can_not_be_stored_stops_its_log_alone_until_a_restart() {
    let (place, tree) = (Place::new(), Tree::of(20));
    let open = || {
        let setup = Setup { logs: two_logs(), ..setup() };
        Arc::new(Witness::open(place.0.path(), setup, Standing::at(TIME)).unwrap())
    };
    let witness = open();
    grow(&witness, &tree, &[(0, 4)]).await;
    // Nothing can be written where a folder is.
    let folder = place.path("note.new");
    tokio::fs::create_dir(&folder).await.unwrap();
    for request in [tree.request(4, 9), tree.request(9, 9), tree.request(4, 9)] {
        let answer = post(&witness, &request).await;
        assert_eq!(answer.status, 503);
        assert!(!String::from_utf8_lossy(&answer.body).contains('\u{2014}'), "no signature leaves: {answer:?}");
    }
    tokio::fs::remove_dir(&folder).await.unwrap();
    assert_eq!(post(&witness, &tree.request(9, 9)).await.status, 503);
    assert_eq!(newest(&witness), Some(4));
    let key = Ed25519Signer::for_notes(name("log.example/2"), &[1; 32]);
    let text = Checkpoint::new(&name("log.example/2"), tree.head(3)).text();
    let note = Note::build(&text, &[sign_note(&key, &text).unwrap()]).unwrap();
    assert_eq!(post(&witness, &AddCheckpoint::new(0, Vec::new(), note).unwrap()).await.status, 200, "the other log");
    drop(witness);
    let witness = open();
    assert_eq!(size(&witness, &tree).await, 9);
    grow(&witness, &tree, &[(9, 20)]).await;
}

/// Remembers, and dies before it says so.
#[derive(Debug)]
struct Dies(Memory);

#[async_trait]
impl Remembers for Dies {
    fn last(&self) -> Option<TreeHead> {
        self.0.last()
    }

    async fn remember(&mut self, head: TreeHead) -> Result<(), MemoryError> {
        self.0.remember(head).await?;
        Err(MemoryError::Io { path: PathBuf::new(), source: std::io::Error::other("gone") })
    }
}

#[tokio::test]
async fn after_a_crash_between_memory_and_answer_the_same_is_cosigned_again() {
    let (place, tree) = (Place::new(), Tree::of(20));
    grow(&place.open().unwrap(), &tree, &[(0, 4)]).await;
    let witness = place.open_with(|memory| Box::new(Dies(memory)));
    assert_eq!(post(&witness, &tree.request(4, 9)).await.status, 503);
    // Nobody knows what is on the disk, so even what would be refused or repeated gets no other answer.
    for request in [tree.request(4, 9), tree.request(9, 9), tree.request(9, 20), tree.request(1, 2)] {
        assert_eq!(post(&witness, &request).await.status, 503);
    }
    assert_eq!(newest(&witness), Some(4));
    drop(witness);
    let witness = place.open().unwrap();
    assert_eq!((size(&witness, &tree).await, newest(&witness)), (9, Some(4)));
    // The tree that may have been cosigned is cosigned, and no other one of that size.
    let fork = AddCheckpoint::new(9, Vec::new(), signed(Head { size: 9, root: [9; 32] })).unwrap();
    assert_eq!(post(&witness, &fork).await.status, 422);
    grow(&witness, &tree, &[(9, 9)]).await;
    assert_eq!(newest(&witness), Some(9));
    drop(witness);
    assert_eq!(newest(&place.open().unwrap()), Some(9));
}

#[tokio::test]
async fn torn_files_forget_nothing_that_was_cosigned() {
    let (place, tree) = (Place::new(), Tree::of(20));
    grow(&place.open().unwrap(), &tree, &[(0, 4), (4, 9)]).await;
    let (note, memory) = (file(&place.path("note")).unwrap(), file(&place.path("seen")).unwrap());
    // The note that a crash left half written is nobody's.
    put(&place.path("note.new"), &note[..note.len() / 2]);
    assert_eq!(newest(&place.open().unwrap()), Some(9));
    // A note that is damaged is gone, and the memory decides.
    put(&place.path("note"), &note[..20]);
    let witness = place.open().unwrap();
    assert_eq!((size(&witness, &tree).await, newest(&witness)), (9, None));
    grow(&witness, &tree, &[(9, 9)]).await;
    assert_eq!(newest(&witness), Some(9));
    drop(witness);
    // An append that was cut off was never cosigned.
    put(&place.path("seen"), &[memory.as_slice(), &[0; 20]].concat());
    assert_eq!(size(&place.open().unwrap(), &tree).await, 9);
    // A memory that ends before the note was restored from a copy.
    for old in [&memory[..memory.len() - 44], &[]] {
        put(&place.path("seen"), old);
        assert!(matches!(place.open(), Err(WitnessError::Forgot { note: 9, .. })), "{} bytes", old.len());
    }
    let mut damaged = memory.clone();
    damaged[memory.len() - 1] ^= 1;
    put(&place.path("seen"), &damaged);
    assert!(matches!(place.open(), Err(WitnessError::Memory(MemoryError::Damaged { .. }))));
}

#[tokio::test]
async fn lines_that_claim_to_be_of_the_witness_poison_nothing() {
    let (place, tree) = (Place::new(), Tree::of(20));
    let witness = place.open().unwrap();
    let honest = tree.request(0, 4);
    let mut lines = Vec::new();
    for key in witness_keys() {
        lines.push(SignatureLine::new(key.vkey().name().clone(), key.vkey().id(), vec![1; 72]));
    }
    lines.push(honest.note().signatures()[0].clone());
    lines.push(honest.note().signatures()[0].clone());
    lines.push(honest.note().signatures()[1].clone());
    lines.push(SignatureLine::new(name("stranger.example"), lines[0].id(), vec![1; 72]));
    let note = Note::build(honest.note().text(), &lines).unwrap();
    let answer = post(&witness, &AddCheckpoint::new(0, Vec::new(), note).unwrap()).await;
    assert_eq!(answer.status, 200);
    let text = std::str::from_utf8(&answer.body).unwrap();
    assert_eq!(text.lines().count(), 2, "only the witness's own lines: {text}");
    assert_eq!(parse_cosignatures(&answer.body, honest.note(), &witness_keys()).unwrap().len(), 2);
    assert_eq!(newest(&witness), Some(4));
}

#[tokio::test]
async fn nothing_is_cosigned_while_the_clock_is_not_set() {
    let (place, tree, clock) = (Place::new(), Tree::of(9), Standing::at(0));
    let witness = Arc::new(Witness::open(place.0.path(), setup(), clock.clone()).unwrap());
    assert_eq!(post(&witness, &tree.request(0, 4)).await.status, 500);
    clock.0.store(TIME * 1000, Ordering::Relaxed);
    grow(&witness, &tree, &[(0, 9)]).await;
}

#[test]
fn keys_that_can_not_cosign_are_refused() {
    let place = Place::new();
    let open = |setup| Witness::open(place.0.path(), setup, Standing::at(TIME));
    let plain: Signers = vec![Box::new(Ed25519Signer::for_notes(name(NAME), &[7; 32]))];
    assert!(matches!(open(Setup { signers: plain, ..setup() }), Err(WitnessError::Key { .. })));
    assert!(matches!(open(Setup { name: name("another"), ..setup() }), Err(WitnessError::Key { .. })));
    assert!(matches!(open(Setup { signers: Vec::new(), ..setup() }), Err(WitnessError::NoKey)));
    assert!(matches!(open(Setup { logs: Vec::new(), ..setup() }), Err(WitnessError::NoLogs)));
}

#[tokio::test]
async fn the_same_over_http() {
    let (place, tree) = (Place::new(), Tree::of(9));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(serve::serve(listener, place.open().unwrap()));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let post = async |body: Vec<u8>| {
        let response = http.post(format!("{base}/add-checkpoint")).body(body).send().await.unwrap();
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        (response.status().as_u16(), kind, response.bytes().await.unwrap())
    };
    let get = async |path: &str| {
        let response = http.get(format!("{base}{path}")).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let monitoring = format!("/{}/checkpoint", origin_hash(ORIGIN));
    assert_eq!(get(&monitoring).await.0, 404);
    let (status, kind, body) = post(tree.request(0, 4).print()).await;
    assert_eq!((status, kind.as_str()), (200, TEXT));
    assert!(parse_cosignatures(&body, tree.request(0, 4).note(), &witness_keys()).is_ok());
    let (status, kind, body) = post(tree.request(0, 9).print()).await;
    assert_eq!((status, kind.as_str(), body.as_ref()), (409, "text/x.tlog.size", b"4\n".as_slice()));
    assert_eq!(post(vec![b'\n'; REQUEST_MAX + 1]).await.0, 400);
    let (status, note) = get(&monitoring).await;
    let note = Note::parse(note.as_bytes()).unwrap();
    assert_eq!((status, note.text()), (200, tree.request(0, 4).note().text()));
    let (status, about) = get("/").await;
    assert_eq!(status, 200);
    for key in witness_keys() {
        assert!(about.contains(&format!("\n{}\n", key.vkey())), "{about}");
    }
    for (path, status) in [("/add-checkpoint", 405), ("/checkpoint", 404), ("/x/checkpoint", 404), ("/a", 404)] {
        assert_eq!(get(path).await.0, status, "{path}");
    }
    server.abort();
}

#[tokio::test]
async fn a_body_without_end_is_cut_off() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let place = Place::new();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    let server = tokio::spawn(serve::serve(listener, place.open().unwrap()));
    let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
    let head = "POST /add-checkpoint HTTP/1.1\r\nhost: w\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = format!("{:x}\r\n{}\r\n", REQUEST_MAX + 1, "x".repeat(REQUEST_MAX + 1));
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(chunk.as_bytes()).await.unwrap();
    // The body goes on, and the answer is there.
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 400");
    server.abort();
}
