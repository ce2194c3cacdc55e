use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use stele_types::ids::{ClusterId, NodeId};
use stele_types::role::Role;
use stele_types::seam::Rng;

use crate::error::{Code, RpcError};
use crate::join::token::JoinToken;
use crate::join::{JoinReply, JoinRequest};
use crate::meta::MetaRequest;
use crate::quic::frame::{CallHeader, FrameLimits, Prefix, ReplyHeader, encode};
use crate::quic::hello::Hello;
use crate::storage::{StorageReply, StorageRequest};
use crate::tls::authority::{ClusterCa, Validity};
use crate::tls::identity::Identity;
use crate::transport::{Class, Message, Reply};

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

/// Runs a target over every file of its corpus.
#[expect(clippy::disallowed_methods, reason = "test inputs, not stored data")]
fn replay(target: &str, run: fn(&[u8])) {
    let folder = corpus(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut count = 0;
    for file in files {
        run(&std::fs::read(file.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "no seeds in {}", folder.display());
}

#[test]
fn corpora_hold() {
    replay("node_identity", super::fuzz_identity);
    replay("join_token", super::fuzz_join_token);
    replay("rpc_frame", super::fuzz_rpc_frame);
    replay("rpc_hello", super::fuzz_rpc_hello);
}

#[derive(Debug)]
struct Sevens;

impl Rng for Sevens {
    fn fill(&self, out: &mut [u8]) {
        out.fill(7);
    }
}

#[expect(clippy::disallowed_methods, reason = "test inputs, not stored data")]
fn write(target: &str, seeds: &[Vec<u8>]) {
    std::fs::create_dir_all(corpus(target)).unwrap();
    for (at, seed) in seeds.iter().enumerate() {
        std::fs::write(corpus(target).join(format!("seed-{at}")), seed).unwrap();
    }
}

fn framed(header: &Bytes) -> Vec<u8> {
    let prefix = Prefix::new(header.len(), 5, FrameLimits::CALL).unwrap();
    [&prefix.encode()[..], header].concat()
}

/// `cargo test -p stele-rpc write_seeds -- --ignored`. Needed only when a format changes; the files are
/// kept in git.
#[test]
#[ignore = "writes fuzz/corpus"]
fn write_seeds() {
    let cluster = ClusterId::from_bytes([7; 16]);
    let identity = Identity { cluster, role: Role::Metadata, node: NodeId(3) };
    let validity = Validity { now: 1_790_000_000_000, lifetime: Duration::from_secs(3600) };
    let ca = ClusterCa::create(cluster, validity, &Sevens).unwrap();
    let der = rustls::pki_types::pem::PemObject::from_pem_slice(ca.certificate_pem().as_bytes());
    let der: rustls::pki_types::CertificateDer<'static> = der.unwrap();
    write("node_identity", &[identity.to_string().into_bytes(), der.to_vec()]);

    let addresses = vec!["meta-0:9100".to_owned(), "[::1]:9100".to_owned()];
    let token = JoinToken { addresses: addresses.clone(), ca: [1; 32], id: [2; 16], secret: [3; 32] };
    write("join_token", &[token.print().unwrap().into_bytes(), b"stele-join:1:".to_vec()]);

    let call = |message, class| framed(&encode(&CallHeader { message, timeout_ms: 1000, class }).unwrap());
    let bucket = Message::Meta(MetaRequest::Bucket { name: "b".to_owned() });
    let answer = |result| framed(&encode(&ReplyHeader { result }).unwrap());
    let frames = [
        call(bucket, Class::Foreground),
        call(Message::Storage(StorageRequest::Drives), Class::Repair),
        answer(Ok(Reply::Storage(StorageReply::Done))),
        answer(Err(RpcError::new(Code::Busy, "full"))),
    ];
    write("rpc_frame", &frames);

    let request = JoinRequest {
        token_id: [2; 16],
        secret: [3; 32],
        role: Role::StorageNode,
        signing_request: Bytes::from_static(&[0x30, 0]),
        addresses: addresses.clone(),
        name: "n".to_owned(),
        zone: "z".to_owned(),
        rack: String::new(),
    };
    let reply = JoinReply {
        node: NodeId(4),
        cluster,
        certificate_pem: "c".to_owned(),
        ca_pem: "a".to_owned(),
        ca_key_pem: None,
        peers: vec![(NodeId(3), addresses)],
    };
    let hello = Hello::of(identity);
    let hellos = [
        encode(&hello).unwrap().to_vec(),
        encode(&Ok::<_, RpcError>(hello)).unwrap().to_vec(),
        encode(&request).unwrap().to_vec(),
        encode(&Ok::<_, RpcError>(reply)).unwrap().to_vec(),
    ];
    write("rpc_hello", &hellos);
}
