//! Where backups are: a directory, or a bucket of S3, Google Cloud Storage or Azure, by its URL. Bytes go out and come back
//! as they pass, so that a backup needs no memory of its size.

use std::io::{self, Read, Write};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, WriteMultipart};
use reqwest::Url;
use tokio::sync::mpsc;

/// How names of backups end.
pub(crate) const ENDING: &str = ".stele-backup";
/// Put behind a backup's name: the mark that it may miss packs.
const SUPERSEDED: &str = ".superseded";
/// Bytes that travel at once, and one part of an upload: S3 takes no less.
const PIECE: usize = 8 << 20;
/// Pieces that wait on their way.
const PIECES: usize = 2;
/// A header fits in it.
const HEAD_BYTES: u64 = 128 << 10;
/// Variables that say who asks, by the beginning of their names.
const VARIABLES: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// Where backups are.
#[derive(Clone)]
pub(crate) struct Place {
    store: Arc<dyn ObjectStore>,
    base: Path,
    /// The backup that the URL itself names.
    named: Option<Path>,
    shown: String,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Place").field(&self.shown).finish()
    }
}

/// One object there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Listed {
    /// As [`Place::get`] takes it.
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// It is marked: packs that it needs may be gone.
    pub(crate) superseded: bool,
}

impl Place {
    /// Understands a URL: `file:///dir`, `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`. Who asks is said
    /// by the same variables as elsewhere, `AWS_*`, `GOOGLE_*` and `AZURE_*`. Asks nobody yet.
    ///
    /// # Errors
    /// It is no such URL.
    pub(crate) fn open(url: &str) -> anyhow::Result<Self> {
        let what = "a place for backups is a URL as file:///backups, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix";
        let url = Url::parse(url).with_context(|| format!("{url:?}: {what}"))?;
        let mut shown = url.clone();
        ensure!(shown.set_password(None).is_ok() || shown.password().is_none(), "{what}");
        let local = url.scheme() == "file";
        ensure!(
            local || ["s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "adl"].contains(&url.scheme()),
            "{shown}: {what}"
        );
        let settings = std::env::vars().filter(|(name, _)| VARIABLES.iter().any(|begin| name.starts_with(begin)));
        let settings = settings.map(|(name, value)| (name.to_ascii_lowercase(), value));
        let (store, path) = object_store::parse_url_opts(&url, settings).with_context(|| format!("{shown}: {what}"))?;
        let store: Arc<dyn ObjectStore> = if local {
            Arc::new(object_store::local::LocalFileSystem::new().with_fsync(true))
        } else {
            Arc::from(store)
        };
        let named = path.as_ref().ends_with(ENDING).then(|| path.clone());
        Ok(Self { store, base: path, named, shown: shown.to_string() })
    }

    /// Its URL, without a password.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    fn path(&self, name: &str) -> anyhow::Result<Path> {
        match &self.named {
            Some(path) => Ok(path.clone()),
            None => Ok(Path::parse(format!("{}/{name}", self.base).trim_start_matches('/'))?),
        }
    }

    /// All backups there, oldest first: their names begin with the cluster and the time.
    ///
    /// # Errors
    /// The place does not answer.
    pub(crate) async fn list(&self) -> anyhow::Result<Vec<Listed>> {
        if let Some(path) = &self.named {
            let found = self.store.head(path).await.with_context(|| format!("looking for {}", self.shown))?;
            let name = path.filename().unwrap_or_default().to_owned();
            return Ok(vec![Listed { name, bytes: found.size, superseded: false }]);
        }
        let found = self.store.list(Some(&self.base)).try_collect::<Vec<_>>().await;
        let found = found.with_context(|| format!("listing {}", self.shown))?;
        let name =
            |path: &Path| path.as_ref().strip_prefix(self.base.as_ref()).map(|n| n.trim_start_matches('/').to_owned());
        let names: Vec<(String, u64)> = found.iter().filter_map(|o| Some((name(&o.location)?, o.size))).collect();
        let marked = |backup: &str| names.iter().any(|(name, _)| name.strip_suffix(SUPERSEDED) == Some(backup));
        let backups = names.iter().filter(|(name, _)| name.ends_with(ENDING));
        let mut listed: Vec<Listed> = backups
            .map(|(name, bytes)| Listed { name: name.clone(), bytes: *bytes, superseded: marked(name) })
            .collect();
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    /// The backup `name`, or the newest one.
    ///
    /// # Errors
    /// There is none.
    pub(crate) async fn choose(&self, name: Option<&str>) -> anyhow::Result<Listed> {
        let listed = self.list().await?;
        let clusters: std::collections::BTreeSet<&str> =
            listed.iter().filter_map(|one| one.name.split_once('/')).map(|(cluster, _)| cluster).collect();
        match name {
            Some(name) => {
                let found = listed.iter().find(|one| one.name == name || one.name.ends_with(&format!("/{name}")));
                found.cloned().with_context(|| format!("there is no backup {name} at {}", self.shown))
            }
            None if clusters.len() > 1 => {
                bail!("{} has backups of {} clusters: name one with --name", self.shown, clusters.len())
            }
            None => listed.last().cloned().with_context(|| format!("there are no backups at {}", self.shown)),
        }
    }

    /// Writes an object: `make` runs on a thread of its own and writes its bytes. Nothing stands under the name before all
    /// of them do.
    ///
    /// # Errors
    /// The place or `make` failed.
    pub(crate) async fn put<T: Send + 'static>(
        &self,
        name: &str,
        make: impl FnOnce(&mut dyn Write) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let what = || format!("writing {name} to {}", self.shown);
        let path = self.path(name)?;
        let mut upload =
            WriteMultipart::new_with_chunk_size(self.store.put_multipart(&path).await.with_context(what)?, PIECE);
        let (sender, mut pieces) = mpsc::channel::<Bytes>(PIECES);
        let making = tokio::task::spawn_blocking(move || {
            let mut pipe = Pipe { sender, piece: Vec::with_capacity(PIECE) };
            let made = make(&mut pipe)?;
            pipe.send()?;
            anyhow::Ok(made)
        });
        let mut sent = Ok(());
        while let Some(piece) = pieces.recv().await {
            sent = upload.wait_for_capacity(PIECES).await;
            if sent.is_err() {
                break;
            }
            upload.put(piece);
        }
        drop(pieces);
        let made = making.await?;
        match (sent, made) {
            (Ok(()), Ok(made)) => {
                upload.finish().await.with_context(what)?;
                Ok(made)
            }
            (sent, made) => {
                // What was sent so far is of no use; where this fails, too, the place's own rules remove it.
                if let Err(error) = upload.abort().await {
                    tracing::debug!(%error, "an upload that failed could not be taken back");
                }
                sent.with_context(what)?;
                made.with_context(what)
            }
        }
    }

    /// Reads an object: `take` runs on a thread of its own.
    ///
    /// # Errors
    /// The place or `take` failed.
    pub(crate) async fn get<T: Send + 'static>(
        &self,
        name: &str,
        take: impl FnOnce(&mut dyn Read) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        self.read(name, GetOptions::default(), take).await
    }

    /// Reads the beginning of an object.
    ///
    /// # Errors
    /// As [`Place::get`].
    pub(crate) async fn get_head<T: Send + 'static>(
        &self,
        listed: &Listed,
        take: impl FnOnce(&mut dyn Read) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let range = (listed.bytes > 0).then(|| GetRange::Bounded(0..HEAD_BYTES.min(listed.bytes)));
        self.read(&listed.name, GetOptions { range, ..GetOptions::default() }, take).await
    }

    async fn read<T: Send + 'static>(
        &self,
        name: &str,
        options: GetOptions,
        take: impl FnOnce(&mut dyn Read) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let what = || format!("backup {name} at {}", self.shown);
        let mut found = self.store.get_opts(&self.path(name)?, options).await.with_context(what)?.into_stream();
        let (sender, pieces) = mpsc::channel::<io::Result<Bytes>>(PIECES);
        let taking = tokio::task::spawn_blocking(move || take(&mut Source { pieces, piece: Bytes::new() }));
        loop {
            let piece = found.try_next().await.map_err(io::Error::other).transpose();
            let Some(piece) = piece else { break };
            let failed = piece.is_err();
            // Who takes no more has said why.
            if sender.send(piece).await.is_err() || failed {
                break;
            }
        }
        drop(sender);
        taking.await?.with_context(what)
    }

    /// Removes a backup and its mark.
    ///
    /// # Errors
    /// The place refused.
    pub(crate) async fn remove(&self, listed: &Listed) -> anyhow::Result<()> {
        let what = || format!("removing {} from {}", listed.name, self.shown);
        self.store.delete(&self.path(&listed.name)?).await.with_context(what)?;
        if listed.superseded {
            self.store.delete(&self.path(&format!("{}{SUPERSEDED}", listed.name))?).await.with_context(what)?;
        }
        Ok(())
    }

    /// Marks a backup as one that may miss packs.
    ///
    /// # Errors
    /// The place refused.
    pub(crate) async fn mark(&self, listed: &Listed) -> anyhow::Result<()> {
        let text = "packs that this backup needs may have been deleted: a newer backup does not need them\n";
        let path = self.path(&format!("{}{SUPERSEDED}", listed.name))?;
        let put = self.store.put(&path, text.into()).await;
        put.with_context(|| format!("marking {} at {}", listed.name, self.shown)).map(drop)
    }
}

/// The writing end, on a thread.
struct Pipe {
    sender: mpsc::Sender<Bytes>,
    piece: Vec<u8>,
}

impl Pipe {
    fn send(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        if piece.is_empty() {
            return Ok(());
        }
        self.sender.blocking_send(piece.into()).map_err(|_| io::Error::other("the upload ended"))
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(bytes.get(..fits).unwrap_or_default());
        if self.piece.len() == PIECE {
            self.send()?;
        }
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The reading end, on a thread.
struct Source {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let taken = self.piece.split_to(self.piece.len().min(buffer.len()));
        buffer.get_mut(..taken.len()).unwrap_or_default().copy_from_slice(&taken);
        Ok(taken.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(dir: &std::path::Path) -> Place {
        Place::open(&format!("file://{}", dir.display())).unwrap()
    }

    async fn whole(place: &Place, name: &str) -> anyhow::Result<Vec<u8>> {
        let take = |source: &mut dyn Read| {
            let mut all = Vec::new();
            source.read_to_end(&mut all)?;
            Ok(all)
        };
        place.get(name, take).await
    }

    #[tokio::test]
    async fn objects_go_out_and_come_back_and_are_listed_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        let body: Vec<u8> = (0..20_000_000u32).map(|n| n.to_le_bytes()[1]).collect();
        for name in ["c/2.stele-backup", "c/1.stele-backup"] {
            let bytes = body.clone();
            place.put(name, move |out| Ok(out.write_all(&bytes)?)).await.unwrap();
        }
        place.put("c/notes", |out| Ok(out.write_all(b"x")?)).await.unwrap();
        let listed = place.list().await.unwrap();
        let names: Vec<&str> = listed.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["c/1.stele-backup", "c/2.stele-backup"]);
        assert_eq!(place.choose(None).await.unwrap().name, "c/2.stele-backup");
        assert_eq!(place.choose(Some("1.stele-backup")).await.unwrap(), listed[0]);
        assert!(whole(&place, "c/1.stele-backup").await.unwrap() == body);
        place.mark(&listed[0]).await.unwrap();
        assert!(place.list().await.unwrap()[0].superseded);
        place.remove(&place.list().await.unwrap()[0]).await.unwrap();
        assert_eq!(place.list().await.unwrap(), listed[1..]);
        assert!(whole(&place, "c/1.stele-backup").await.is_err());
        let one = Place::open(&format!("file://{}/c/2.stele-backup", dir.path().display())).unwrap();
        assert_eq!(one.choose(None).await.unwrap().bytes, 20_000_000);
    }

    #[tokio::test]
    async fn what_fails_leaves_nothing_under_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        let failed = place.put("a.stele-backup", |out| -> anyhow::Result<()> {
            out.write_all(&vec![1; 3 * PIECE])?;
            bail!("the rows could not be read")
        });
        assert!(format!("{:#}", failed.await.unwrap_err()).contains("could not be read"));
        assert_eq!(place.list().await.unwrap(), []);
        let other = Place::open(&format!("file://{}/none", dir.path().display())).unwrap();
        assert!(format!("{:#}", other.choose(None).await.unwrap_err()).contains("no backups"));
    }

    #[test]
    fn urls_that_are_no_places_are_refused_with_an_example() {
        for url in ["/backups", "http://host/x", "ftp://host/x", "memory:///x", ""] {
            let told = format!("{:#}", Place::open(url).unwrap_err());
            assert!(told.contains("s3://bucket/prefix"), "{url}: {told}");
        }
        for url in ["s3://bucket/prefix", "gs://bucket/prefix", "az://container/prefix"] {
            // Azure needs an account, which the variables say.
            let opened = Place::open(url);
            assert!(opened.is_ok() || url.starts_with("az"), "{url}: {opened:?}");
        }
    }
}
