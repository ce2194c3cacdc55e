//! A witness that can be told to misbehave.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use stele_evidence::keys::{Ed25519Signer, MlDsa44Signer, TrustedKey};
use stele_evidence::vkey::VerifierKey;
use tokio::sync::Semaphore;

use super::server::Server;
use super::{Standing, name, trusted};
use crate::witness::{Setup, Signers, Witness};

/// What a witness does with a request.
#[derive(Clone, Default, Debug)]
pub(crate) enum Mood {
    #[default]
    Honest,
    /// Takes the request and never answers.
    Silent,
    /// Cosigns, and the answer gets lost.
    Mute,
    /// Answers this.
    Says(u16, Bytes),
    /// Honest, once it gets a permit.
    Waits(Arc<Semaphore>),
    /// Passes the request on to another witness.
    Asks(Arc<Witness>),
}

pub(crate) struct Stand {
    pub(crate) witness: Arc<Witness>,
    pub(crate) mood: Arc<Mutex<Mood>>,
    /// Bodies of the requests that came.
    pub(crate) asked: Arc<Mutex<Vec<Bytes>>>,
    server: Option<Server>,
    url: String,
    signers: Signers,
    _folder: tempfile::TempDir,
}

pub(crate) fn signers(called: &str, seed: u8) -> Signers {
    vec![
        Box::new(Ed25519Signer::for_cosignatures(name(called), &[seed; 32])),
        Box::new(MlDsa44Signer::new(name(called), &[seed + 1; 32])),
    ]
}

/// A witness with a folder of its own, of the log with these keys.
pub(crate) fn witness(called: &str, seed: u8, logs: Vec<TrustedKey>) -> (Arc<Witness>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup { name: name(called), signers: signers(called, seed), logs };
    (Arc::new(Witness::open(folder.path(), setup, Standing::at(1_790_000_000)).unwrap()), folder)
}

impl Stand {
    /// Its keys come from `seed` and the one behind it.
    pub(crate) async fn open(called: &str, seed: u8, logs: Vec<TrustedKey>) -> Self {
        let (witness, folder) = witness(called, seed, logs);
        let (mood, asked) = (Arc::new(Mutex::new(Mood::default())), Arc::<Mutex<Vec<Bytes>>>::default());
        let (served, moods, bodies) = (Arc::clone(&witness), Arc::clone(&mood), Arc::clone(&asked));
        let server = Server::start(move |(_, body)| {
            bodies.lock().unwrap().push(body.clone());
            let (served, mood) = (Arc::clone(&served), moods.lock().unwrap().clone());
            Box::pin(async move {
                let answer = match mood {
                    Mood::Says(status, body) => return (status, body),
                    Mood::Silent => std::future::pending().await,
                    Mood::Mute => {
                        served.add_checkpoint(body).await;
                        return (502, Bytes::from_static(b"a proxy\x07 gave up\n"));
                    }
                    Mood::Waits(gate) => {
                        gate.acquire().await.unwrap().forget();
                        served.add_checkpoint(body).await
                    }
                    Mood::Honest => served.add_checkpoint(body).await,
                    Mood::Asks(other) => other.add_checkpoint(body).await,
                };
                (answer.status, answer.body)
            })
        });
        let server = server.await;
        let url = server.url.clone();
        Self { witness, mood, asked, server: Some(server), url, signers: signers(called, seed), _folder: folder }
    }

    pub(crate) fn turn(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// Nobody listens there any more.
    pub(crate) fn shut(&mut self) {
        self.server = None;
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn keys(&self) -> Vec<TrustedKey> {
        self.signers.iter().map(|signer| trusted(signer.as_ref())).collect()
    }

    pub(crate) fn vkeys(&self) -> Vec<&VerifierKey> {
        self.signers.iter().map(|signer| signer.vkey()).collect()
    }

    /// Policy lines: `called` is a group that both keys must be of.
    pub(crate) fn lines(&self, called: &str) -> String {
        let keys = self.vkeys();
        let [ed, pq] = keys.as_slice() else { panic!("two keys") };
        let url = &self.url;
        format!(
            "witness {called}-ed {ed} {url}\nwitness {called}-pq {pq} {url}/\ngroup {called} all {called}-ed {called}-pq\n"
        )
    }

    /// `old` of the requests that came, and forgets them.
    pub(crate) fn olds(&self) -> Vec<u64> {
        let bodies = std::mem::take(&mut *self.asked.lock().unwrap());
        let request = |body: &Bytes| stele_evidence::witness::AddCheckpoint::parse(body).unwrap().old();
        bodies.iter().map(request).collect()
    }
}
