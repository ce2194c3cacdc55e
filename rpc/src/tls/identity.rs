//! What a certificate says of its holder: cluster, role and node, as one URI in its subject alternative
//! names. Received bytes are parsed here; anything but the one canonical form is refused.

use std::fmt;

use rustls::pki_types::CertificateDer;
use stele_types::ids::{ClusterId, NodeId};
use stele_types::role::Role;

use super::TlsError;

const SCHEME: &str = "stele://";
/// Longest URI looked at, bytes: scheme, 32 hex digits, role, 20 digits.
const URI_BYTES_MAX: usize = 96;

/// The holder of a certificate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Identity {
    /// Its cluster.
    pub cluster: ClusterId,
    /// What it may do.
    pub role: Role,
    /// Which node it is.
    pub node: NodeId,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}/{}", self.cluster, self.role, self.node)
    }
}

impl Identity {
    /// Parses what [`fmt::Display`] prints, and nothing else.
    pub fn parse(uri: &str) -> Option<Self> {
        if uri.len() > URI_BYTES_MAX {
            return None;
        }
        let mut parts = uri.strip_prefix(SCHEME)?.split('/');
        let cluster = ClusterId::from_hex(parts.next()?)?;
        let role = Role::parse(parts.next()?)?;
        let node = NodeId(parts.next()?.parse().ok()?);
        let identity = Self { cluster, role, node };
        // Upper case, signs, leading zeros and further parts would be second names of one node.
        (identity.to_string() == uri).then_some(identity)
    }

    /// Reads the identity of a certificate: exactly one URI, in canonical form.
    ///
    /// This does not check who signed the certificate.
    ///
    /// # Errors
    /// [`TlsError::Certificate`].
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, TlsError> {
        let uri = only_uri(certificate)?;
        Self::parse(&uri).ok_or_else(|| invalid("its URI does not name a cluster, a role and a node"))
    }
}

/// The URI of a cluster's CA certificate.
pub(super) fn ca_uri(cluster: ClusterId) -> String {
    format!("{SCHEME}{cluster}/ca")
}

/// The cluster of a CA certificate.
///
/// # Errors
/// [`TlsError::Certificate`].
pub(super) fn ca_cluster(certificate: &CertificateDer<'_>) -> Result<ClusterId, TlsError> {
    let uri = only_uri(certificate)?;
    let cluster = uri.strip_prefix(SCHEME).and_then(|rest| rest.strip_suffix("/ca")).and_then(ClusterId::from_hex);
    match cluster {
        Some(cluster) if ca_uri(cluster) == uri => Ok(cluster),
        _ => Err(invalid("it is not the CA certificate of a cluster")),
    }
}

fn only_uri(certificate: &CertificateDer<'_>) -> Result<String, TlsError> {
    let parsed = webpki::EndEntityCert::try_from(certificate)
        .map_err(|e| TlsError::Certificate { what: "certificate", problem: e.to_string() })?;
    let mut uris = parsed.valid_uri_names();
    let first = uris.next().ok_or_else(|| invalid("it names no stele:// identity"))?;
    if uris.next().is_some() || first.len() > URI_BYTES_MAX {
        return Err(invalid("it names more than one identity"));
    }
    Ok(first.to_owned())
}

fn invalid(problem: &str) -> TlsError {
    TlsError::Certificate { what: "certificate", problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_form_is_an_identity() {
        let cluster = ClusterId::from_bytes([0xab; 16]);
        for role in Role::ALL {
            let identity = Identity { cluster, role, node: NodeId(u64::MAX) };
            assert_eq!(Identity::parse(&identity.to_string()), Some(identity));
        }
        let good = Identity { cluster, role: Role::StorageNode, node: NodeId(7) }.to_string();
        for bad in [
            good.to_uppercase(),
            good.replace("/7", "/07"),
            good.replace("/7", "/+7"),
            good.replace("/7", "/7/"),
            good.replace("/7", "/7/8"),
            good.replace("/7", ""),
            good.replace("ab", "AB"),
            good.replace("storage-node", "root"),
            good.replace("stele:", "spiffe:"),
            format!("{good}{}", "0".repeat(200)),
            String::new(),
        ] {
            assert_eq!(Identity::parse(&bad), None, "{bad}");
        }
    }
}
