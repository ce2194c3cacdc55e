//! The embedded chain: blocks of fixed size, each signed and linked to the one before by its hash. Layout:
//! docs/formats/ledger.md. Who keeps the file appends with [`LedgerState::propose`] and takes what is on
//! stable media with [`LedgerState::take`]; who reads it takes every block from the first on.
//!
//! The ledger is the operator's own. It shows that anchors were ordered and not exchanged afterwards, and
//! only as long as somebody else keeps a block; its time is the operator's word.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use stele_types::wire::{FormatError, Reader};

use super::Anchored;
use crate::keys::{ED25519_SIGNATURE_LEN, KeyError, SignatureError, Signer, SignerError, check_ed25519, ed25519_key};
use crate::tree::Hash;
use crate::vkey::{KeyId, VerifierKey};

const FORMAT: &str = "ledger block";
pub(crate) const MAGIC: &[u8; 8] = b"STELELGR";
const VERSION: u16 = 1;
/// What is signed: all but the signature.
const SIGNED_LEN: usize = 144;
/// Length of a block in bytes.
pub const BLOCK_LEN: usize = SIGNED_LEN + ED25519_SIGNATURE_LEN;
/// Most logs that a ledger has.
pub const LOGS_MAX: usize = 1024;
/// The byte that signed-note leaves to private types; [`KEY_TYPE`] follows it.
pub const PRIVATE_TYPE: u8 = 0xff;
/// Type of a ledger's key. No policy takes such a key for a log's or a witness's.
pub const KEY_TYPE: &[u8] = b"stele/ledger-block/v1";

/// The public key of a ledger: a verifier key whose type is [`PRIVATE_TYPE`] and [`KEY_TYPE`].
#[derive(Clone)]
pub struct LedgerKey {
    vkey: VerifierKey,
    key: Box<ed25519_dalek::VerifyingKey>,
}

impl LedgerKey {
    /// Makes a key usable.
    ///
    /// # Errors
    /// It is of another type, or not valid.
    pub fn new(vkey: VerifierKey) -> Result<Self, KeyError> {
        if vkey.signature_type() != PRIVATE_TYPE {
            return Err(KeyError::UnknownType(vkey.signature_type()));
        }
        let bytes = vkey.public_key().strip_prefix(KEY_TYPE).ok_or(KeyError::UnknownType(PRIVATE_TYPE))?;
        let key = Box::new(ed25519_key(bytes)?);
        Ok(Self { vkey, key })
    }

    /// Reads `name+id+base64`.
    ///
    /// # Errors
    /// As [`VerifierKey::parse`] and [`Self::new`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        Self::new(VerifierKey::parse(text)?)
    }

    /// Name, identifier, type and bytes. Its text is what auditors get.
    pub fn vkey(&self) -> &VerifierKey {
        &self.vkey
    }

    /// What the first block links to: the ledger's name and key.
    fn start(&self) -> Hash {
        Sha256::digest(self.vkey.to_string()).into()
    }

    /// Checks who signed a block; where it stands is for [`LedgerState::take`] to say.
    ///
    /// # Errors
    /// The key did not sign it.
    pub fn check(&self, block: &Block) -> Result<(), BlockFault> {
        if block.key != self.vkey.id() {
            return Err(BlockFault::OtherKey { found: block.key });
        }
        Ok(check_ed25519(&self.key, block.signed_bytes(), &block.signature)?)
    }
}

impl std::fmt::Debug for LedgerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LedgerKey({}+{})", self.vkey.name(), self.vkey.id())
    }
}

/// One block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    bytes: [u8; BLOCK_LEN],
    key: KeyId,
    /// Blocks before it.
    pub height: u64,
    /// SHA-256 of the block before it; of the text of the key for the first one.
    pub link: Hash,
    /// Milliseconds since the Unix epoch by the operator's clock; never less than in the block before.
    pub time_ms: u64,
    /// What it anchors.
    pub anchored: Anchored,
    signature: [u8; ED25519_SIGNATURE_LEN],
}

impl Block {
    /// Reads a block. Nothing is verified.
    ///
    /// # Errors
    /// Another magic, version or length, or sizes that make no sense.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(FORMAT, bytes);
        reader.magic(MAGIC)?;
        let version = reader.u16()?;
        if version != VERSION {
            return Err(FormatError::Version { format: FORMAT, found: u32::from(version) });
        }
        let flags = reader.u16()?;
        reader.require(flags == 0, "unknown flags")?;
        let key = KeyId(reader.array()?);
        let (height, link, time_ms) = (reader.u64()?, reader.array()?, reader.u64()?);
        let log_id = reader.array()?;
        let (previous, size) = (reader.u64()?, reader.u64()?);
        reader.require(previous < size, "a log that does not grow")?;
        let anchored = Anchored { log_id, previous, size, root: reader.array()? };
        let signature = reader.array()?;
        reader.end()?;
        let mut exact = [0; BLOCK_LEN];
        exact.copy_from_slice(bytes);
        Ok(Self { bytes: exact, key, height, link, time_ms, anchored, signature })
    }

    /// The block as it stands in the file and in bundles.
    pub fn as_bytes(&self) -> &[u8; BLOCK_LEN] {
        &self.bytes
    }

    /// What the block behind it links to.
    pub fn hash(&self) -> Hash {
        Sha256::digest(self.bytes).into()
    }

    /// Which key signed it, as it says itself.
    pub fn key(&self) -> KeyId {
        self.key
    }

    fn signed_bytes(&self) -> &[u8] {
        self.bytes.get(..SIGNED_LEN).unwrap_or_default()
    }
}

/// Why a block does not stand where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BlockFault {
    /// Not a block.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Another key signed it.
    #[error("it names the key {found}, which is not the ledger's")]
    OtherKey {
        /// The key it names.
        found: KeyId,
    },
    /// The signature is wrong.
    #[error("its signature is wrong: {0}")]
    Signature(#[from] SignatureError),
    /// It stands at another height than it says.
    #[error("it says height {found}, and stands at {expected}; blocks are missing or were exchanged")]
    Height {
        /// What it says.
        found: u64,
        /// Where it stands.
        expected: u64,
    },
    /// It follows another block than the one before it.
    #[error("it does not link to the block before it; blocks were exchanged")]
    Link,
    /// Its time lies before that of the block before it.
    #[error("its time lies before that of the block before it")]
    Time,
    /// It grows the log from another size than the one anchored last.
    #[error("it grows the log from size {found}, and {expected} was anchored last")]
    Stale {
        /// From which size.
        found: u64,
        /// Which was anchored last; 0 if none.
        expected: u64,
    },
    /// The log does not grow.
    #[error("the log does not grow by it")]
    NotGrowing,
    /// A log more than a ledger has.
    #[error("a ledger has at most {LOGS_MAX} logs")]
    TooManyLogs,
}

/// A block that breaks a rule, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("block {height} of the ledger: {fault}")]
pub struct LedgerError {
    /// Where it stands, from 0.
    pub height: u64,
    /// What is wrong.
    pub fault: BlockFault,
}

/// Why no block was made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProposeError {
    /// The anchor does not follow the ledger's last one of this log. If it is the last one, it is there
    /// already: see [`LedgerState::last`].
    #[error("the ledger does not take this anchor: {0}")]
    Refused(BlockFault),
    /// The signer has another key than the ledger.
    #[error("the signer's key is not the ledger's; give it the key that the first block was signed with")]
    OtherSigner,
    /// The signer did not sign.
    #[error("the ledger's key did not sign: {0}")]
    Signer(#[from] SignerError),
}

/// The newest anchor of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Last {
    /// Entries.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
    /// Height of the block.
    pub height: u64,
}

/// What the blocks so far amount to.
#[derive(Clone, Debug)]
pub struct LedgerState {
    key: LedgerKey,
    height: u64,
    link: Hash,
    time_ms: u64,
    logs: BTreeMap<Hash, Last>,
}

impl LedgerState {
    /// A ledger without blocks.
    pub fn new(key: LedgerKey) -> Self {
        let link = key.start();
        Self { key, height: 0, link, time_ms: 0, logs: BTreeMap::new() }
    }

    /// Number of blocks.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// The newest anchor of a log.
    pub fn last(&self, log_id: &Hash) -> Option<Last> {
        self.logs.get(log_id).copied()
    }

    /// Makes the next block, and changes nothing: the caller writes it to stable media, then calls
    /// [`Self::take`]. A clock that went back counts as standing still.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub fn propose(&self, signer: &dyn Signer, anchored: Anchored, now_ms: u64) -> Result<Block, ProposeError> {
        if signer.vkey() != self.key.vkey() {
            return Err(ProposeError::OtherSigner);
        }
        self.admits(&anchored).map_err(ProposeError::Refused)?;
        let mut bytes = Vec::with_capacity(BLOCK_LEN);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&self.key.vkey().id().0);
        bytes.extend_from_slice(&self.height.to_le_bytes());
        bytes.extend_from_slice(&self.link);
        bytes.extend_from_slice(&now_ms.max(self.time_ms).to_le_bytes());
        bytes.extend_from_slice(&anchored.log_id);
        bytes.extend_from_slice(&anchored.previous.to_le_bytes());
        bytes.extend_from_slice(&anchored.size.to_le_bytes());
        bytes.extend_from_slice(&anchored.root);
        let signature = signer.sign(&bytes)?;
        bytes.extend_from_slice(&signature);
        let block = Block::decode(&bytes).map_err(|error| ProposeError::Refused(error.into()))?;
        // A signer elsewhere may be broken; what it made is held to what every reader will ask.
        self.check(&block).map_err(|error| ProposeError::Refused(error.fault))?;
        Ok(block)
    }

    /// Takes the next block.
    ///
    /// # Errors
    /// Which rule it breaks; then nothing changed.
    pub fn take(&mut self, block: &Block) -> Result<(), LedgerError> {
        self.check(block)?;
        let Anchored { log_id, size, root, .. } = block.anchored;
        self.logs.insert(log_id, Last { size, root, height: self.height });
        (self.link, self.time_ms) = (block.hash(), block.time_ms);
        self.height = self.height.saturating_add(1);
        Ok(())
    }

    fn check(&self, block: &Block) -> Result<(), LedgerError> {
        let at = |fault| LedgerError { height: self.height, fault };
        self.key.check(block).map_err(at)?;
        if block.height != self.height {
            return Err(at(BlockFault::Height { found: block.height, expected: self.height }));
        }
        if block.link != self.link {
            return Err(at(BlockFault::Link));
        }
        if block.time_ms < self.time_ms {
            return Err(at(BlockFault::Time));
        }
        self.admits(&block.anchored).map_err(at)
    }

    /// Compare-and-swap on the size of a log.
    fn admits(&self, anchored: &Anchored) -> Result<(), BlockFault> {
        let last = self.last(&anchored.log_id);
        let expected = last.map_or(0, |last| last.size);
        if anchored.previous != expected {
            return Err(BlockFault::Stale { found: anchored.previous, expected });
        }
        if anchored.size <= anchored.previous {
            return Err(BlockFault::NotGrowing);
        }
        if last.is_none() && self.logs.len() >= LOGS_MAX {
            return Err(BlockFault::TooManyLogs);
        }
        Ok(())
    }
}

/// Reads a ledger, or its first blocks, from the first block on.
///
/// # Errors
/// The first block that breaks a rule. A last block that is cut is none: whoever keeps the file cuts off
/// what a crash left of an append.
pub fn verify_blocks(key: &LedgerKey, bytes: &[u8]) -> Result<LedgerState, LedgerError> {
    let mut state = LedgerState::new(key.clone());
    for part in bytes.chunks(BLOCK_LEN) {
        let height = state.height();
        let block = Block::decode(part).map_err(|error| LedgerError { height, fault: error.into() })?;
        state.take(&block)?;
    }
    Ok(state)
}

#[cfg(test)]
pub(crate) mod tests;
