//! The key exchange that the configurations agree on.

use std::sync::Arc;

use rustls::quic::{ClientConnection, KeyChange, ServerConnection, Version};
use stele_rpc::tls::config;
use stele_types::role::Role;

use crate::world::{CLIENT, Hand, NOW, SERVER, credentials, new_ca};

#[test]
fn nodes_agree_on_the_post_quantum_group() {
    let ca = new_ca(7);
    let client = config::client(&credentials(&ca, Role::Metadata, CLIENT), Hand::at(NOW)).unwrap();
    let server = config::server(&credentials(&ca, Role::Metadata, SERVER), Hand::at(NOW)).unwrap();
    let name = "n2.stele".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(client), Version::V1, name, vec![]).unwrap();
    let mut server = ServerConnection::new(Arc::new(server), Version::V1, vec![]).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        carry(|bytes| client.write_hs(bytes), |bytes| server.read_hs(bytes));
        carry(|bytes| server.write_hs(bytes), |bytes| client.read_hs(bytes));
    }
    for group in [client.negotiated_key_exchange_group(), server.negotiated_key_exchange_group()] {
        assert_eq!(u16::from(group.unwrap().name()), 0x11EC, "X25519MLKEM768");
    }
    assert_eq!(client.alpn_protocol(), Some(config::ALPN_NODE));
}

/// Hands over what one side has to say, keys by keys: each change of keys ends one piece.
fn carry(
    mut write: impl FnMut(&mut Vec<u8>) -> Option<KeyChange>,
    mut read: impl FnMut(&[u8]) -> Result<(), rustls::Error>,
) {
    loop {
        let mut bytes = Vec::new();
        let changed = write(&mut bytes).is_some();
        read(&bytes).unwrap();
        if !changed {
            return;
        }
    }
}
