//! Multipart uploads of the workload: parts, some sent twice, then complete or abort.

use bytes::Bytes;
use futures::FutureExt as _;
use stele_s3_gateway::api::{BodyRequest, CompleteRequest, CreateUploadRequest, ListedPart, PartRequest, UploadRef};
use stele_s3_gateway::{list, multipart};
use stele_types::limits::PART_BYTES_MIN;
use stele_types::object::{Precondition, StoredHeaders, Tags};

use crate::client::{Answer, Client, outcome};
use crate::env::{BUCKET, GatewayHandle};
use crate::history::Effect;
use crate::plan::KEYS;

impl Client {
    pub(crate) async fn multipart(&self, gateway: &GatewayHandle, key: usize) {
        let request = CreateUploadRequest {
            bucket: BUCKET.to_owned(),
            key: KEYS[key].to_owned(),
            headers: StoredHeaders::default(),
            tags: Tags::default(),
            checksum: None,
            origin: self.origin(),
        };
        let start = self.env.clock.micros();
        self.env.trace.line(format_args!("c{} create upload {:?}", self.id, KEYS[key]));
        let answer = self.ask(gateway, multipart::create_upload(&gateway.gateway, request).boxed()).await;
        self.env.trace.line(format_args!("c{} upload {}", self.id, outcome(&answer)));
        let Answer::Ok(upload) = answer else { return };
        let upload = UploadRef { bucket: BUCKET.to_owned(), key: KEYS[key].to_owned(), upload: upload.id };
        // A part that is not the last has a least size, so most uploads have one part.
        let lens = if self.env.take_large() {
            vec![PART_BYTES_MIN, self.rng.between(24, 200_000)]
        } else {
            vec![self.draw_len()]
        };
        let (value, pieces, _) = self.env.values.multipart(&lens);
        let mut parts = Vec::new();
        for (number, piece) in (1u16..).zip(pieces) {
            if self.rng.chance(150) {
                let decoy = Bytes::from(vec![7u8; 100]);
                drop(self.part(gateway, &upload, number, decoy).await);
            }
            let Some(part) = self.part(gateway, &upload, number, piece).await else { return };
            parts.push(part);
        }
        if self.rng.chance(200) {
            return self.abort(gateway, &upload).await;
        }
        let request = CompleteRequest {
            upload,
            parts,
            declared_len: None,
            checksums: Vec::new(),
            precondition: Precondition::None,
            origin: self.origin(),
        };
        let token = self.begin(key, "complete", Effect::Write(value));
        let answer = self.ask(gateway, multipart::complete_upload(&gateway.gateway, request).boxed()).await;
        self.note_commit(key, start, &answer);
        self.end_write(&token, &answer, Effect::Write(value), None);
    }

    async fn part(&self, gateway: &GatewayHandle, upload: &UploadRef, number: u16, bytes: Bytes) -> Option<ListedPart> {
        let len = bytes.len() as u64;
        let request =
            PartRequest { upload: upload.clone(), number, body: BodyRequest::from_bytes(bytes), origin: self.origin() };
        let answer = self.ask(gateway, multipart::upload_part(&gateway.gateway, request).boxed()).await;
        self.env.trace.line(format_args!("c{} part {number} of {len}: {}", self.id, outcome(&answer)));
        let Answer::Ok(part) = answer else { return None };
        if part.len != len {
            self.env.findings.add("I-2", format_args!("a part of {len} bytes was stored with {}", part.len));
        }
        Some(ListedPart { number, etag: part.etag.to_string(), checksums: Vec::new() })
    }

    async fn abort(&self, gateway: &GatewayHandle, upload: &UploadRef) {
        let request = multipart::abort_upload(&gateway.gateway, upload, self.origin());
        let answer = self.ask(gateway, request.boxed()).await;
        self.env.trace.line(format_args!("c{} abort: {}", self.id, outcome(&answer)));
        let Answer::Ok(()) = answer else { return };
        let listed = self.ask(gateway, list::list_parts(&gateway.gateway, upload, 0, 10).boxed()).await;
        if let Answer::Ok(page) = listed {
            self.env.findings.add("I-3", format_args!("an aborted upload lists {} parts", page.parts.len()));
        }
    }
}
