//! Root certificates of time-stamping authorities. They come from the auditor, never with a bundle.

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, TrustAnchor};

/// Most PEM, bytes.
pub const ROOTS_MAX: usize = 64 * 1024;
/// Most roots together.
pub const COUNT_MAX: usize = 64;

/// Why a file is no list of roots.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RootsError {
    /// More than [`ROOTS_MAX`] bytes.
    #[error("larger than {ROOTS_MAX} bytes")]
    TooLarge,
    /// No certificate in it, or one that can't be read.
    #[error("not PEM with certificates in it")]
    Pem,
    /// A certificate that can't be a root.
    #[error("certificate {0} can't be used as a root")]
    Certificate(usize),
    /// More than [`COUNT_MAX`].
    #[error("more than {COUNT_MAX} roots")]
    TooMany,
}

/// Roots that an auditor trusts.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    anchors: Vec<TrustAnchor<'static>>,
}

impl Roots {
    /// Adds the certificates of a PEM file.
    ///
    /// # Errors
    /// [`RootsError`].
    pub fn add(&mut self, pem: &[u8]) -> Result<(), RootsError> {
        if pem.len() > ROOTS_MAX {
            return Err(RootsError::TooLarge);
        }
        let mut count = 0;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|_| RootsError::Pem)?;
            count += 1;
            if self.anchors.len() == COUNT_MAX {
                return Err(RootsError::TooMany);
            }
            let anchor = webpki::anchor_from_trusted_cert(&certificate).map_err(|_| RootsError::Certificate(count))?;
            self.anchors.push(anchor.to_owned());
        }
        if count == 0 { Err(RootsError::Pem) } else { Ok(()) }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    pub(super) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }
}
