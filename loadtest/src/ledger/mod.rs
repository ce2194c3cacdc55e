//! The ledger: a file that says what was sent and what was acknowledged, so that after any crash of
//! the server `check` knows what must be there.
//!
//! A line is written before a request is sent and another after its answer. Lines reach the kernel
//! at once, so the ledger survives a kill of the load tester at any instant; they are synced in the
//! background and at the end, so keep it on another machine when the power is to be cut.
//!
//! | line | means |
//! |---|---|
//! | `stele-ledger 1 SEED BUCKET PREFIX` | first line |
//! | `p KEY GENERATION LEN` | a put of this generation is about to be sent |
//! | `d KEY GENERATION` | a delete is about to be sent |
//! | `a KEY GENERATION` | it was acknowledged |
//! | `f KEY GENERATION` | it certainly had no effect |
//! | `u KEY GENERATION` | its outcome is unknown; nobody writes the key again |

pub(crate) mod history;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, bail, ensure};

use history::{Effect, History, Outcome};

const MAGIC: &str = "stele-ledger 1";

/// What a ledger was begun with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Origin {
    pub(crate) seed: u64,
    pub(crate) bucket: String,
    pub(crate) prefix: String,
}

struct Inner {
    file: File,
    keys: BTreeMap<String, History>,
    acked: u64,
    failure: Option<String>,
}

/// An open ledger.
pub(crate) struct Ledger {
    pub(crate) origin: Origin,
    inner: Mutex<Inner>,
}

impl Ledger {
    /// Opens a ledger, or begins one with `origin`.
    ///
    /// # Errors
    /// If the file is not a ledger, is damaged, or was begun with another origin.
    pub(crate) async fn open(path: &Path, origin: Option<Origin>) -> anyhow::Result<Self> {
        let mut options = tokio::fs::OpenOptions::new();
        options.read(true).append(true).create(origin.is_some());
        let file = options.open(path).await.with_context(|| format!("opening ledger {}", path.display()))?;
        let mut file = file.into_std().await;
        let mut text = String::new();
        file.read_to_string(&mut text).with_context(|| format!("reading ledger {}", path.display()))?;
        let whole = cut_torn_line(&mut file, &text)?;
        let mut lines = whole.lines();
        let origin = match (lines.next(), origin) {
            (None, None) => bail!("ledger {} is empty", path.display()),
            (None, Some(origin)) => {
                writeln!(file, "{MAGIC} {} {} {}", origin.seed, origin.bucket, origin.prefix)?;
                origin
            }
            (Some(first), given) => {
                let found = parse_origin(first).with_context(|| format!("{} is not a ledger", path.display()))?;
                let same = given.is_none_or(|given| given == found);
                ensure!(same, "ledger {} was begun with {found:?}; use the same, or another file", path.display());
                found
            }
        };
        let mut keys = BTreeMap::new();
        let mut acked = 0;
        for (number, line) in lines.enumerate() {
            let done = replay(&mut keys, line).with_context(|| format!("ledger line {}: {line:?}", number + 2))?;
            acked += u64::from(done);
        }
        Ok(Self { origin, inner: Mutex::new(Inner { file, keys, acked, failure: None }) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that an operation is about to be sent; returns its generation.
    pub(crate) fn begin(&self, key: &str, effect: Effect) -> u64 {
        let mut inner = self.lock();
        let generation = inner.keys.entry(key.to_owned()).or_default().begin(effect);
        match effect {
            Effect::Put(len) => inner.write(&format!("p {key} {generation} {len}\n")),
            Effect::Delete => inner.write(&format!("d {key} {generation}\n")),
        }
        generation
    }

    /// Notes an outcome; `Open` means that it will never be known.
    pub(crate) fn settle(&self, key: &str, generation: u64, outcome: Outcome) {
        let mut inner = self.lock();
        if outcome != Outcome::Open
            && let Some(history) = inner.keys.get_mut(key)
        {
            let was_open = history.settle(generation, outcome);
            debug_assert!(was_open, "{key} {generation} settled twice");
        }
        let tag = match outcome {
            Outcome::Acked => 'a',
            Outcome::Failed => 'f',
            Outcome::Open => 'u',
        };
        inner.acked += u64::from(outcome == Outcome::Acked);
        inner.write(&format!("{tag} {key} {generation}\n"));
    }

    /// History of one key.
    pub(crate) fn history(&self, key: &str) -> History {
        self.lock().keys.get(key).cloned().unwrap_or_default()
    }

    /// All keys with this prefix.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<(String, History)> {
        let inner = self.lock();
        let from = inner.keys.range(prefix.to_owned()..);
        from.take_while(|(key, _)| key.starts_with(prefix)).map(|(k, h)| (k.clone(), h.clone())).collect()
    }

    /// Acknowledged operations so far, over all runs.
    pub(crate) fn acked(&self) -> u64 {
        self.lock().acked
    }

    /// Makes all lines so far durable.
    ///
    /// # Errors
    /// The first failed write or sync: the ledger proves nothing from there on.
    pub(crate) async fn sync(&self) -> anyhow::Result<()> {
        let file = {
            let inner = self.lock();
            if let Some(failure) = &inner.failure {
                bail!("ledger could not be written: {failure}");
            }
            inner.file.try_clone()?
        };
        tokio::fs::File::from_std(file).sync_data().await.context("syncing the ledger")
    }
}

impl Inner {
    fn write(&mut self, line: &str) {
        if let Err(e) = self.file.write_all(line.as_bytes()) {
            self.failure.get_or_insert(e.to_string());
        }
    }
}

/// A kill may have torn the last line; what it was about had not been sent, or becomes unknown.
fn cut_torn_line<'a>(file: &mut File, text: &'a str) -> anyhow::Result<&'a str> {
    let whole = text.rfind('\n').map_or(0, |at| at + 1);
    if whole < text.len() {
        file.set_len(whole as u64)?;
        file.seek(SeekFrom::End(0))?;
    }
    Ok(&text[..whole])
}

fn parse_origin(line: &str) -> Option<Origin> {
    let mut words = line.strip_prefix(MAGIC)?.trim_start().splitn(3, ' ');
    Some(Origin {
        seed: words.next()?.parse().ok()?,
        bucket: words.next()?.to_owned(),
        prefix: words.next()?.to_owned(),
    })
}

/// Applies one line; `true` for an acknowledgement.
fn replay(keys: &mut BTreeMap<String, History>, line: &str) -> anyhow::Result<bool> {
    let words: Vec<&str> = line.split(' ').collect();
    let (tag, key, generation) = match words.as_slice() {
        [tag, key, generation, ..] => (*tag, *key, generation.parse::<u64>()?),
        _ => bail!("too few words"),
    };
    let history = keys.entry(key.to_owned()).or_default();
    let begun = |history: &mut History, effect| {
        let got = history.begin(effect);
        ensure!(got == generation, "generation {got} was to come");
        Ok(false)
    };
    match tag {
        "p" => begun(history, Effect::Put(words.get(3).context("no length")?.parse()?)),
        "d" => begun(history, Effect::Delete),
        "a" | "f" => {
            let outcome = if tag == "a" { Outcome::Acked } else { Outcome::Failed };
            ensure!(history.settle(generation, outcome), "no such open operation");
            Ok(tag == "a")
        }
        "u" => Ok(false),
        other => bail!("unknown tag {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin { seed: 5, bucket: "b".into(), prefix: "p/".into() }
    }

    #[tokio::test]
    async fn a_reopened_ledger_knows_what_the_first_knew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let ledger = Ledger::open(&path, Some(origin())).await.unwrap();
        let a = ledger.begin("p/k1", Effect::Put(10));
        ledger.settle("p/k1", a, Outcome::Acked);
        let b = ledger.begin("p/k2", Effect::Put(20));
        ledger.settle("p/k2", b, Outcome::Failed);
        ledger.begin("p/k1", Effect::Delete);
        ledger.sync().await.unwrap();
        let again = Ledger::open(&path, None).await.unwrap();
        assert_eq!(again.origin, origin());
        assert_eq!(again.keys("p/"), ledger.keys("p/"));
        assert_eq!(again.acked(), 1);
        let other = Origin { seed: 6, ..origin() };
        assert!(Ledger::open(&path, Some(other)).await.is_err());
    }

    #[tokio::test]
    async fn a_torn_last_line_is_dropped_and_a_damaged_one_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let torn = "stele-ledger 1 5 b p/\np p/k 1 10\na p/k 1\nd p/k";
        tokio::fs::write(&path, torn).await.unwrap();
        let ledger = Ledger::open(&path, None).await.unwrap();
        assert_eq!(ledger.history("p/k").floor(), 1);
        assert!(ledger.history("p/k").certain().is_some());
        ledger.begin("p/k", Effect::Delete);
        drop(ledger);
        let again = Ledger::open(&path, None).await.unwrap();
        assert!(again.history("p/k").certain().is_none());
        for bad in ["", "hello\n", "stele-ledger 1 5 b p/\na p/k 1\n", "stele-ledger 1 5 b p/\np p/k 2 10\n"] {
            tokio::fs::write(&path, bad).await.unwrap();
            assert!(Ledger::open(&path, None).await.is_err(), "{bad:?}");
        }
    }
}
