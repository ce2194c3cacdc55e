//! The operator's key to a cluster: one file with a certificate of role `admin`, its key, the CA and where
//! the metadata nodes are. Whoever has it may do everything an operator may.

use std::path::Path;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use stele_rpc::tls::credentials::Credentials;

/// A few lines and three certificates.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// What the file says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdminFile {
    /// The cluster, in hex.
    pub(crate) cluster: String,
    /// Metadata nodes: id and addresses.
    pub(crate) metadata: Vec<MetadataAddress>,
    pub(crate) ca: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// Where one metadata node is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetadataAddress {
    pub(crate) node: u64,
    pub(crate) addresses: Vec<String>,
}

impl std::fmt::Debug for AdminFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminFile").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl AdminFile {
    /// Reads it.
    ///
    /// # Errors
    /// If it can't be read or understood, or everyone may read it.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let what = || format!("admin file {}", path.display());
        let facts = std::fs::metadata(path).with_context(what)?;
        if facts.permissions().mode() & 0o007 != 0 {
            bail!("{} may be read by everyone; run chmod o-rwx on it", path.display());
        }
        if facts.len() > FILE_BYTES_MAX {
            bail!("{} has {} bytes; that is no admin file", path.display(), facts.len());
        }
        let text = std::fs::read_to_string(path).with_context(what)?;
        toml::from_str(&text).with_context(what)
    }

    /// Writes it, readable by its owner only. Nothing is replaced.
    ///
    /// # Errors
    /// If it is there already, or can't be written.
    #[expect(clippy::disallowed_methods, reason = "an operator's file is no data of ours")]
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let what = || format!("writing the admin file {}", path.display());
        let text = toml::to_string(self)?;
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(path).with_context(what)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(what)
    }

    /// Replaces it at once; the old one stays if that fails.
    ///
    /// # Errors
    /// If the directory can't be written.
    #[expect(clippy::disallowed_methods, reason = "an operator's file is no data of ours")]
    pub(crate) fn replace(&self, path: &Path) -> anyhow::Result<()> {
        let beside = path.with_extension(format!("new-{}", std::process::id()));
        let replaced = self.write(&beside).and_then(|()| Ok(std::fs::rename(&beside, path)?));
        if replaced.is_err() && std::fs::remove_file(&beside).is_err() {
            tracing::debug!("{} was not made", beside.display());
        }
        replaced
    }

    /// What connections are made with.
    ///
    /// # Errors
    /// If key, certificate and CA are unusable or do not belong together.
    pub(crate) fn credentials(&self) -> anyhow::Result<Credentials> {
        Ok(Credentials::from_pem(&self.certificate, &self.key, &self.ca)?)
    }
}
