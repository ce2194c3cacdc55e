//! The data directory of `stele dev`: who may use it, which cluster it holds, where things lie.
//!
//! | name | holds |
//! |---|---|
//! | `cluster.toml` | which cluster this is, and whether it was founded to the end |
//! | `root-keys.toml` | root credentials, if Stele made them; mode 0600 |
//! | `s3-tls.toml`, `s3-ca.pem` | the certificate of `--tls` ([`super::local_tls`]) |
//! | `metadata/` | raft log and state |
//! | `anchor/` | the log's signing keys and what was signed ([`crate::anchor`]) |
//! | `drive-N/` | one directory per drive |

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use stele_evidence::keys::Ed25519Signer;
use stele_storage_node::media::file::{DirectIo, FileMedia};
use stele_storage_node::media::{Media as _, MediaErrorKind};
use stele_types::ids::{ClusterId, NodeId};
use stele_types::seam::{Rng, random_bytes};

use crate::answer_key;
use crate::config::Root;

const CLUSTER_FILE: &str = "cluster.toml";
const KEYS_FILE: &str = "root-keys.toml";
/// Both files are a few lines.
const FILE_BYTES_MAX: usize = 64 * 1024;

/// An open data directory; nobody else has it.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    media: FileMedia,
}

/// How far the founding of the cluster got.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Founding {
    /// Drives may be formatted; nothing has been stored yet.
    Begun,
    /// Done: no drive is ever formatted again.
    Done,
}

/// What `cluster.toml` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cluster {
    pub(crate) id: ClusterId,
    pub(crate) founding: Founding,
    /// Directories made for it: drive-0 up to this.
    pub(crate) drives: u16,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterText {
    cluster: String,
    founding: Founding,
    drives: u16,
}

/// The credentials that may do everything.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RootKeys {
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
}

impl std::fmt::Debug for RootKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RootKeys").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

impl DataDir {
    /// Makes the directory if need be and takes it for this process.
    ///
    /// # Errors
    /// If another process has it, or it can't be made.
    pub(crate) async fn open(path: &Path) -> anyhow::Result<Self> {
        FileMedia::create_directory(path).context("making the data directory; choose another with --data")?;
        let media = FileMedia::new(path, DirectIo::Never);
        match media.lock().await {
            Ok(()) => Ok(Self { path: path.to_owned(), media }),
            Err(e) if e.kind == MediaErrorKind::Locked => {
                bail!("another stele process uses {}; stop it, or choose another directory with --data", path.display())
            }
            Err(e) => Err(e).context("locking the data directory"),
        }
    }

    /// Where metadata lies.
    pub(crate) fn metadata(&self) -> PathBuf {
        self.path.join("metadata")
    }

    /// Where the anchor's keys and memory lie.
    pub(crate) fn anchor(&self) -> PathBuf {
        self.path.join("anchor")
    }

    /// The key that a node of this directory signs answers to possession audits with; drawn once.
    ///
    /// # Errors
    /// If it can't be read or written.
    pub(crate) async fn answer_key(
        &self,
        cluster: ClusterId,
        node: NodeId,
        rng: &dyn Rng,
    ) -> anyhow::Result<Ed25519Signer> {
        answer_key::open(&self.media, (cluster, node), rng).await
    }

    /// Where drive `number` lies.
    pub(crate) fn drive(&self, number: u16) -> PathBuf {
        self.named(&format!("drive-{number}"))
    }

    /// Where the drive of this name lies.
    pub(crate) fn named(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(super) async fn read(&self, name: &str) -> anyhow::Result<Option<String>> {
        let Some(bytes) = self.media.read_whole(name, FILE_BYTES_MAX).await? else { return Ok(None) };
        let text = std::str::from_utf8(&bytes).with_context(|| format!("{name} in {}", self.path.display()))?;
        Ok(Some(text.to_owned()))
    }

    pub(super) async fn write(&self, name: &str, text: String) -> anyhow::Result<()> {
        let written = self.media.replace(name, Bytes::from(text)).await;
        written.with_context(|| format!("writing {name} in {}", self.path.display()))
    }

    /// The cluster of this directory; `None` in a fresh one.
    ///
    /// # Errors
    /// If the file can't be read or understood.
    pub(crate) async fn cluster(&self) -> anyhow::Result<Option<Cluster>> {
        let Some(text) = self.read(CLUSTER_FILE).await? else { return Ok(None) };
        let what = || format!("{CLUSTER_FILE} in {} is damaged; restore it", self.path.display());
        let text: ClusterText = toml::from_str(&text).with_context(what)?;
        let id = ClusterId::from_hex(&text.cluster).with_context(what)?;
        Ok(Some(Cluster { id, founding: text.founding, drives: text.drives }))
    }

    /// Writes `cluster.toml`, durably.
    ///
    /// # Errors
    /// If it can't be written.
    pub(crate) async fn save_cluster(&self, cluster: Cluster) -> anyhow::Result<()> {
        let text = ClusterText { cluster: cluster.id.to_string(), founding: cluster.founding, drives: cluster.drives };
        self.write(CLUSTER_FILE, toml::to_string(&text)?).await
    }

    /// The root credentials: those configured, else those kept here, else new ones.
    ///
    /// # Errors
    /// If a file can't be read, understood or written.
    pub(crate) async fn root_keys(&self, configured: &Root, rng: &dyn Rng) -> anyhow::Result<RootKeys> {
        if let Some(keys) = configured_keys(configured)? {
            return Ok(keys);
        }
        if let Some(text) = self.read(KEYS_FILE).await? {
            let damaged = || format!("{KEYS_FILE} in {} is damaged; restore it or remove it", self.path.display());
            return toml::from_str(&text).with_context(damaged);
        }
        let keys = RootKeys {
            access_key: format!("STELE{}", hex::encode_upper(random_bytes::<8>(rng))),
            secret_key: hex::encode(random_bytes::<20>(rng)),
        };
        self.write(KEYS_FILE, toml::to_string(&keys)?).await?;
        Ok(keys)
    }
}

/// The root credentials of the configuration; `None` if it has none.
///
/// # Errors
/// If a file can't be read, or everyone may read it.
pub(crate) fn configured_keys(configured: &Root) -> anyhow::Result<Option<RootKeys>> {
    let Some(access_key) = configured.access_key.clone() else { return Ok(None) };
    let secret_key = match (&configured.secret_key, &configured.secret_key_file) {
        (Some(secret), _) => secret.clone(),
        (None, Some(path)) => secret_from(path)?,
        (None, None) => return Ok(None),
    };
    if access_key.is_empty() || secret_key.is_empty() {
        bail!("the root access key and secret key must not be empty");
    }
    Ok(Some(RootKeys { access_key, secret_key }))
}

/// The secret in a file, without the end of its line.
///
/// # Errors
/// If it can't be read, or everyone may read it.
#[expect(clippy::disallowed_methods, reason = "a secret's file is no data of ours")]
pub(crate) fn secret_from(path: &Path) -> anyhow::Result<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let what = || format!("secret file {}", path.display());
    let mode = std::fs::metadata(path).with_context(what)?.permissions().mode();
    if mode & 0o007 != 0 {
        bail!("{} may be read by everyone; run chmod o-rwx on it", path.display());
    }
    let bytes = std::fs::read(path).with_context(what)?;
    Ok(String::from_utf8(bytes).with_context(what)?.trim_end_matches(['\r', '\n']).to_owned())
}

/// Draws the id of a new cluster.
pub(crate) fn draw_cluster(rng: &dyn Rng) -> ClusterId {
    ClusterId::from_bytes(random_bytes(rng))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::real::OsRng;

    #[tokio::test]
    async fn keys_are_made_once_and_kept_privately() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).await.unwrap();
        let first = data.root_keys(&Root::default(), &OsRng).await.unwrap();
        assert_eq!(data.root_keys(&Root::default(), &OsRng).await.unwrap(), first);
        let mode = std::fs::metadata(dir.path().join(KEYS_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{first:?}").contains(&first.secret_key));
        let configured = Root { access_key: Some("a".into()), secret_key: Some("b".into()), secret_key_file: None };
        let keys = data.root_keys(&configured, &OsRng).await.unwrap();
        assert_eq!((keys.access_key.as_str(), keys.secret_key.as_str()), ("a", "b"));
    }

    #[tokio::test]
    async fn a_secret_that_everyone_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        tokio::fs::write(&path, "hush\n").await.unwrap();
        let configured = Root { access_key: Some("a".into()), secret_key: None, secret_key_file: Some(path.clone()) };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o604)).unwrap();
        assert!(configured_keys(&configured).is_err());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(configured_keys(&configured).unwrap().unwrap().secret_key, "hush");
    }

    #[tokio::test]
    async fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).await.unwrap();
        let second = DataDir::open(dir.path()).await.unwrap_err();
        assert!(second.to_string().contains("another stele process"), "{second}");
        drop(first);
        DataDir::open(dir.path()).await.unwrap();
    }

    #[tokio::test]
    async fn the_cluster_is_remembered_and_a_damaged_file_refused() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).await.unwrap();
        assert_eq!(data.cluster().await.unwrap(), None);
        let cluster = Cluster { id: draw_cluster(&OsRng), founding: Founding::Begun, drives: 6 };
        data.save_cluster(cluster).await.unwrap();
        assert_eq!(data.cluster().await.unwrap(), Some(cluster));
        tokio::fs::write(dir.path().join(CLUSTER_FILE), "cluster = \"xyz\"\n").await.unwrap();
        assert!(data.cluster().await.is_err());
    }
}
