//! Who speaks: the cluster's own CA, node certificates, and the TLS configurations made of them.
//!
//! TLS 1.3 only, X25519MLKEM768 first, no session resumption (each handshake checks certificates anew).
//! Everything here is bytes in memory; callers read and write the files.
//!
//! | module | holds |
//! |---|---|
//! | [`identity`] | `stele://CLUSTER/ROLE/NODE`: what a certificate says |
//! | [`authority`] | the cluster CA: makes itself, issues node certificates |
//! | [`credentials`] | one node's key, certificate and trusted CAs |
//! | [`local`] | a certificate for the S3 port of a store on one machine |
//! | `seeded` | credentials and handshakes that follow from a seed; only with the feature `simulation` |
//! | [`verify`] | checks of the other side's certificate |
//! | [`config`] | TLS configurations for both sides |

pub mod authority;
pub mod config;
pub mod credentials;
pub mod identity;
pub mod local;
#[cfg(feature = "simulation")]
pub mod seeded;
pub mod verify;

/// Keys, certificates or their text are unusable.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TlsError {
    /// Text is not the PEM that is expected.
    #[error("{what} is not valid PEM: {problem}; give the file that `stele` wrote")]
    Pem {
        /// Which text.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A certificate can't be read or does not say what it must.
    #[error("{what}: {problem}; issue a new certificate with this cluster's CA")]
    Certificate {
        /// Which certificate.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Two of key, certificate and CA do not belong together.
    #[error("{0}; use files of the same node and cluster")]
    Mismatch(&'static str),
    /// The cryptographic library refused.
    #[error("{doing}: {problem}")]
    Library {
        /// What was being done.
        doing: &'static str,
        /// What it said.
        problem: String,
    },
}

impl TlsError {
    pub(crate) fn library(doing: &'static str, problem: impl std::fmt::Display) -> Self {
        Self::Library { doing, problem: problem.to_string() }
    }
}
