//! Little-endian reading and writing with bounds, for segment records only.

use super::SegmentFormatError;

/// Collects a header.
#[derive(Default)]
pub(super) struct Sink(Vec<u8>);

impl Sink {
    pub(super) fn bytes(&mut self, v: &[u8]) {
        self.0.extend_from_slice(v);
    }

    pub(super) fn u8(&mut self, v: u8) {
        self.0.push(v);
    }

    pub(super) fn u16(&mut self, v: u16) {
        self.bytes(&v.to_le_bytes());
    }

    pub(super) fn u32(&mut self, v: u32) {
        self.bytes(&v.to_le_bytes());
    }

    pub(super) fn u64(&mut self, v: u64) {
        self.bytes(&v.to_le_bytes());
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads a header; every step checks that the bytes are there.
pub(super) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn remaining(&self) -> usize {
        self.0.len()
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], SegmentFormatError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(SegmentFormatError::CutOff)?;
        self.0 = rest;
        Ok(head)
    }

    pub(super) fn skip(&mut self, len: usize) -> Result<(), SegmentFormatError> {
        self.take(len).map(|_| ())
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], SegmentFormatError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(SegmentFormatError::CutOff)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(super) fn u16(&mut self) -> Result<u16, SegmentFormatError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, SegmentFormatError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, SegmentFormatError> {
        self.array().map(u64::from_le_bytes)
    }
}
