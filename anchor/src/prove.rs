//! A consistency proof between two sizes of the log, computed here from tiles that the cluster serves, so that the
//! cluster's word counts for nothing.

use std::time::Duration;

use stele_evidence::fetched::{Answer, FetchedTiles, TILES_MAX};
use stele_evidence::proof::{Head, ProofError, consistency, verify_consistency};
use stele_evidence::tiles::TileError;
use stele_evidence::tree::Hash;
use stele_rpc::client::unexpected;
use stele_rpc::error::RpcError;
use stele_rpc::meta::{
    Command, CommandEnvelope, LogCommand, LogRead, LogReply, MetaReply, MetaRequest, Origin, TreeHead,
};
use stele_types::ids::CommandSequence;

use crate::anchor::Seat;

/// Why it is not proven.
#[derive(Debug, thiserror::Error)]
pub enum Unproven {
    /// The tiles could not be read; another try may help.
    #[error("the log's tiles could not be read: {0}")]
    Tiles(#[from] RpcError),
    /// The tile is of entries that only an archive holds. It was asked for; gateways bring it back.
    #[error(
        "tile {index} of level {level} of the log moved to an archive and is being brought back: the next round finds it, \
         if an S3 gateway runs"
    )]
    Archived {
        /// Level.
        level: u8,
        /// Index.
        index: u64,
    },
    /// The tiles don't hold the tree.
    #[error("tile {index} of level {level} of the log is missing or too narrow")]
    Missing {
        /// Level.
        level: u8,
        /// Index.
        index: u64,
    },
    /// The new tree does not extend the old one.
    #[error("size {new} of the log does not extend size {old}: {error}")]
    Forked {
        /// Old size.
        old: u64,
        /// New size.
        new: u64,
        /// What does not hold.
        error: ProofError,
    },
}

impl Unproven {
    /// True if nothing may be signed until somebody has looked.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Tiles(_) | Self::Archived { .. } => false,
            Self::Missing { .. } | Self::Forked { .. } => true,
        }
    }
}

/// Proves that `new` extends `old`.
///
/// # Errors
/// [`Unproven`].
pub async fn extends(seat: &Seat, old: TreeHead, new: TreeHead, timeout: Duration) -> Result<(), Unproven> {
    let proof = consistency_proof(seat, old.size, new.size, timeout).await?;
    let [before, after] = [old, new].map(|head| Head { size: head.size, root: head.root });
    verify_consistency(before, after, &proof).map_err(|error| Unproven::Forked { old: old.size, new: new.size, error })
}

/// A proof that the tree of `new` leaves extends that of `old` leaves, from tiles as they are served: whoever gets it
/// has to verify it. `timeout` is for each tile.
///
/// # Errors
/// [`Unproven`].
pub async fn consistency_proof(seat: &Seat, old: u64, new: u64, timeout: Duration) -> Result<Vec<Hash>, Unproven> {
    let mut tiles = FetchedTiles::default();
    while tiles.len() <= TILES_MAX {
        match tiles.ask(|tiles| consistency(tiles, old, new)) {
            Ok(Answer::Known(proof)) => return Ok(proof),
            Ok(Answer::Lacks { level, index }) => {
                let hashes = fetch(seat, level, index, timeout).await?;
                if hashes.is_empty() {
                    return Err(Unproven::Missing { level, index });
                }
                tiles.add(level, index, hashes);
            }
            Err(TileError::Missing { level, index }) => return Err(Unproven::Missing { level, index }),
            Err(TileError::OutOfRange | TileError::Source { .. }) => {
                return Err(Unproven::Forked { old, new, error: ProofError::OutOfRange });
            }
        }
    }
    Err(Unproven::Missing { level: 0, index: 0 })
}

async fn fetch(seat: &Seat, level: u8, index: u64, timeout: Duration) -> Result<Vec<Hash>, Unproven> {
    match seat.meta.call(MetaRequest::Log(LogRead::Tile { level, index }), timeout).await? {
        MetaReply::Log(LogReply::Tile(bytes)) => Ok(bytes.as_chunks::<32>().0.to_vec()),
        MetaReply::Log(LogReply::Archived(_)) => {
            let envelope = CommandEnvelope {
                lease: None,
                sequence: CommandSequence(0),
                lowest_open: CommandSequence(0),
                origin: Origin { principal: String::new(), source: String::new(), node: seat.node },
                salt: None,
                command: Command::Log(LogCommand::WantTile { level, index }),
            };
            seat.meta.command(envelope, timeout).await?;
            Err(Unproven::Archived { level, index })
        }
        _ => Err(unexpected("no tile").into()),
    }
}
