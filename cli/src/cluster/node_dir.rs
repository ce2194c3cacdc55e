//! The directory of one node of a cluster: who it is, and what proves it. Written once when the node
//! joins, and again when its certificate is renewed.
//!
//! | name | holds |
//! |---|---|
//! | `node.toml` | cluster, node id, role, where it is reached, who the metadata nodes are |
//! | `papers.toml` | certificate, key and CA certificates, replaced together; on metadata nodes the CA's key too. Mode 0600 |
//! | `join.key` | the key of a node that has not joined yet. Mode 0600 |
//! | `rejoin.key` | the key of a node that joins anew after a restore. Mode 0600 |
//! | `drives.toml` | on storage nodes: which directory is which drive |
//! | `metadata/` | on metadata nodes: raft log and state |

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use stele_evidence::keys::Ed25519Signer;
use stele_rpc::tls::authority::NodeKey;
use stele_rpc::tls::credentials::Credentials;
use stele_storage_node::media::file::{DirectIo, FileMedia};
use stele_storage_node::media::{Media as _, MediaErrorKind};
use stele_types::ids::{ClusterId, NodeId};
use stele_types::role::Role;
use stele_types::seam::{Rng, UnixMillis};

use crate::answer_key;

const NODE_FILE: &str = "node.toml";
const PAPERS_FILE: &str = "papers.toml";
const JOIN_KEY_FILE: &str = "join.key";
/// Id of a token, and the key of a node that joins anew with it.
const REJOIN_KEY_FILE: &str = "rejoin.key";
/// All files are a few lines.
const FILE_BYTES_MAX: usize = 64 * 1024;

/// An open node directory; nobody else has it.
#[derive(Debug)]
pub(crate) struct NodeDir {
    path: PathBuf,
    media: FileMedia,
}

/// What `node.toml` says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Member {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) role: Role,
    /// Where other nodes reach this one, host:port.
    pub(crate) advertise: Vec<String>,
    /// Metadata nodes as last heard of: the first to be asked after a start.
    pub(crate) metadata: BTreeMap<NodeId, Vec<String>>,
    /// The cluster was founded to the end: no node ever founds it again. Only the first one can find it false.
    pub(crate) founded: bool,
}

/// Text of keys and certificates.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Papers {
    /// When the certificate was received, milliseconds since 1970.
    pub(crate) issued: UnixMillis,
    pub(crate) ca_pem: String,
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_key_pem: Option<String>,
}

impl std::fmt::Debug for Papers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Papers").field("ca_key", &self.ca_key_pem.is_some()).finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberText {
    cluster: String,
    node: u64,
    role: String,
    advertise: Vec<String>,
    founded: bool,
    metadata: BTreeMap<String, Vec<String>>,
}

impl NodeDir {
    /// Makes the directory if need be and takes it for this process.
    ///
    /// # Errors
    /// If another process has it, or it can't be made.
    pub(crate) async fn open(path: &Path) -> anyhow::Result<Self> {
        FileMedia::create_directory(path).context("making the node's directory; choose another with --data")?;
        let media = FileMedia::new(path, DirectIo::Never);
        match media.lock().await {
            Ok(()) => Ok(Self { path: path.to_owned(), media }),
            Err(e) if e.kind == MediaErrorKind::Locked => {
                bail!("another stele process uses {}; stop it, or choose another directory with --data", path.display())
            }
            Err(e) => Err(e).context("locking the node's directory"),
        }
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Who this node is; `None` before it joined.
    ///
    /// # Errors
    /// If the file can't be read or understood.
    pub(crate) async fn member(&self) -> anyhow::Result<Option<Member>> {
        let Some(text) = self.read(NODE_FILE).await? else { return Ok(None) };
        let what = || format!("{NODE_FILE} in {} is damaged; restore it", self.path.display());
        let text: MemberText = toml::from_str(&text).with_context(what)?;
        let metadata = text.metadata.into_iter().map(|(node, at)| Ok((NodeId(node.parse()?), at)));
        Ok(Some(Member {
            cluster: ClusterId::from_hex(&text.cluster).with_context(what)?,
            node: NodeId(text.node),
            role: Role::parse(&text.role).with_context(what)?,
            advertise: text.advertise,
            metadata: metadata.collect::<anyhow::Result<_>>().with_context(what)?,
            founded: text.founded,
        }))
    }

    /// Writes keys and certificates, then who this node is, durably. `node.toml` comes last: where it
    /// stands, everything else stands too.
    ///
    /// # Errors
    /// If a file can't be written.
    pub(crate) async fn found(&self, member: &Member, papers: &Papers) -> anyhow::Result<()> {
        self.save_papers(papers).await?;
        self.save(member).await
    }

    /// Writes who this node is, and whom it asks, durably.
    ///
    /// # Errors
    /// If it can't be written.
    pub(crate) async fn save(&self, member: &Member) -> anyhow::Result<()> {
        let text = MemberText {
            cluster: member.cluster.to_string(),
            node: member.node.0,
            role: member.role.to_string(),
            advertise: member.advertise.clone(),
            founded: member.founded,
            metadata: member.metadata.iter().map(|(node, at)| (node.0.to_string(), at.clone())).collect(),
        };
        self.write(NODE_FILE, toml::to_string(&text)?).await
    }

    /// Keys and certificates of this node.
    ///
    /// # Errors
    /// If they are missing or can't be understood.
    pub(crate) async fn papers(&self) -> anyhow::Result<Papers> {
        let path = self.path.display();
        let text = self.read(PAPERS_FILE).await?;
        let text = text.with_context(|| format!("{PAPERS_FILE} is missing in {path}; restore it, or join anew"))?;
        toml::from_str(&text)
            .map_err(|_| anyhow::anyhow!("{PAPERS_FILE} in {path} is damaged; restore it, or join anew"))
    }

    /// Replaces keys and certificates, durably and together.
    ///
    /// # Errors
    /// If they can't be written.
    pub(crate) async fn save_papers(&self, papers: &Papers) -> anyhow::Result<()> {
        self.write(PAPERS_FILE, toml::to_string(papers)?).await
    }

    /// The key of a node that has not joined yet; drawn once.
    ///
    /// # Errors
    /// If it can't be read or written.
    pub(crate) async fn key(&self) -> anyhow::Result<String> {
        if let Some(key) = self.read(JOIN_KEY_FILE).await? {
            return Ok(key);
        }
        let key = NodeKey::generate()?.key_pem();
        self.write(JOIN_KEY_FILE, key.clone()).await?;
        Ok(key)
    }

    /// The key of a node that joins anew with this token; drawn once. Not the one of before, which may be in other hands.
    ///
    /// # Errors
    /// If it can't be read or written.
    pub(crate) async fn rejoin_key(&self, token: &[u8; 16]) -> anyhow::Result<String> {
        let token = hex::encode(token);
        let text = self.read(REJOIN_KEY_FILE).await?.unwrap_or_default();
        if let Some((_, key)) = text.split_once('\n').filter(|(of, _)| *of == token) {
            return Ok(key.to_owned());
        }
        let key = NodeKey::generate()?.key_pem();
        self.write(REJOIN_KEY_FILE, format!("{token}\n{key}")).await?;
        Ok(key)
    }

    /// The key that this node signs answers to possession audits with; drawn once.
    ///
    /// # Errors
    /// If it can't be read or written.
    pub(crate) async fn answer_key(&self, member: &Member, rng: &dyn Rng) -> anyhow::Result<Ed25519Signer> {
        answer_key::open(&self.media, (member.cluster, member.node), rng).await
    }

    /// A small file of the directory.
    ///
    /// # Errors
    /// If it can't be read.
    pub(crate) async fn read(&self, name: &str) -> anyhow::Result<Option<String>> {
        let Some(bytes) = self.media.read_whole(name, FILE_BYTES_MAX).await? else { return Ok(None) };
        let text = std::str::from_utf8(&bytes).with_context(|| format!("{name} in {}", self.path.display()))?;
        Ok(Some(text.to_owned()))
    }

    /// Replaces a small file, durably; only the owner may read it.
    ///
    /// # Errors
    /// If it can't be written.
    pub(crate) async fn write(&self, name: &str, text: String) -> anyhow::Result<()> {
        let written = self.media.replace(name, Bytes::from(text)).await;
        written.with_context(|| format!("writing {name} in {}", self.path.display()))
    }
}

impl Papers {
    /// What connections are made with.
    ///
    /// # Errors
    /// If they are unusable or do not belong together.
    pub(crate) fn credentials(&self) -> anyhow::Result<Credentials> {
        Ok(Credentials::from_pem(&self.certificate_pem, &self.key_pem, &self.ca_pem)?)
    }
}

/// Checks an address that others shall use: `host:port`.
///
/// # Errors
/// If it has no host or no port.
pub(crate) fn check_address(address: &str) -> anyhow::Result<()> {
    let (host, port) = address.rsplit_once(':').with_context(|| format!("{address:?} is not HOST:PORT"))?;
    let port: u16 = port.parse().with_context(|| format!("{address:?} has no port"))?;
    ensure!(!host.is_empty() && port != 0, "{address:?}: other nodes need a host and a port other than 0");
    ensure!(host != "0.0.0.0" && host != "[::]", "{address:?}: other nodes can't reach {host}; name this host");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_member_comes_back_as_it_was_written_and_secrets_stay_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let node = NodeDir::open(dir.path()).await.unwrap();
        assert_eq!(node.member().await.unwrap(), None);
        assert!(node.papers().await.unwrap_err().to_string().contains("papers.toml is missing"));
        let member = Member {
            cluster: ClusterId::from_bytes([7; 16]),
            node: NodeId(3),
            role: Role::Metadata,
            advertise: vec!["m3:9100".into()],
            metadata: BTreeMap::from([(NodeId(1), vec!["m1:9100".into()])]),
            founded: false,
        };
        let text = |name: &str| format!("{name}\n");
        let papers = Papers {
            issued: 5,
            ca_pem: text("ca"),
            certificate_pem: text("certificate"),
            key_pem: text("hush"),
            ca_key_pem: Some(text("hush too")),
        };
        node.found(&member, &papers).await.unwrap();
        assert_eq!(node.member().await.unwrap(), Some(member));
        assert_eq!(node.papers().await.unwrap(), papers);
        assert_eq!(node.key().await.unwrap(), node.key().await.unwrap());
        for name in [PAPERS_FILE, JOIN_KEY_FILE] {
            let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        assert!(!format!("{papers:?}").contains("hush"));
        assert!(NodeDir::open(dir.path()).await.unwrap_err().to_string().contains("another stele process"));
    }

    #[test]
    fn addresses_that_nobody_else_can_use_are_refused() {
        for good in ["m1:9100", "10.0.0.1:1", "[fd00::1]:9100"] {
            check_address(good).unwrap();
        }
        for bad in ["m1", ":9100", "m1:", "m1:0", "0.0.0.0:9100", "[::]:9100", "m1:99999"] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }
}
