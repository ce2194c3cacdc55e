//! Connection ids and the key of stateless resets. Ids come from the seam, so that a seeded run repeats;
//! the key survives a restart, so that peers of the dead process learn at once that it is gone.

use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use quinn::crypto::{CryptoError, HmacKey};
use quinn::{ConnectionId, ConnectionIdGenerator};
use sha2::Sha256;
use stele_types::seam::{Rng, random_bytes};

const ID_LEN: usize = 8;

pub(super) struct SeamIds(pub(super) Arc<dyn Rng>);

impl ConnectionIdGenerator for SeamIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&random_bytes::<ID_LEN>(&*self.0))
    }

    fn cid_len(&self) -> usize {
        ID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// What a caller calls a server that has not named itself yet. The longest that QUIC has: it must be unpredictable.
pub(super) fn first_id(rng: &dyn Rng) -> ConnectionId {
    ConnectionId::new(&random_bytes::<20>(rng))
}

pub(super) struct ResetKey(pub(super) [u8; 32]);

impl ResetKey {
    fn mac(&self, data: &[u8]) -> Option<Hmac<Sha256>> {
        Some(Hmac::<Sha256>::new_from_slice(&self.0).ok()?.chain_update(data))
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], out: &mut [u8]) {
        if let Some(mac) = self.mac(data) {
            out.copy_from_slice(&mac.finalize().into_bytes());
        }
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        self.mac(data).and_then(|mac| mac.verify_slice(signature).ok()).ok_or(CryptoError)
    }
}
