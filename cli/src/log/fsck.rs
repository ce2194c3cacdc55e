//! `stele log fsck`: reads all entries and compares every tile and the root with what they give.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use stele_evidence::rebuild::{Rebuild, first_difference};
use stele_evidence::tile_path::TilePath;
use stele_evidence::tiles::{ChangedTile, TILE_WIDTH};

use super::source::{Source, Trust};

/// Differences that are told one by one.
const TOLD_MAX: usize = 100;
/// Exit code where something differs.
const EXIT_DIFFERS: u8 = 1;

/// `stele log fsck`.
#[derive(Args)]
pub(crate) struct FsckArgs {
    /// Where the log is served.
    #[arg(long, default_value = "http://127.0.0.1:9001/log", value_name = "URL")]
    source: String,
    /// Trust policy (C2SP tlog-policy) that the checkpoint must satisfy; without it, the source's own.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Certificate (PEM) of the authority that signed the source's, where the system does not know it.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Default, Serialize)]
struct Found {
    origin: String,
    size: u64,
    root: String,
    tiles: u64,
    /// How many things differ.
    differences: u64,
    /// The first of them.
    told: Vec<String>,
}

impl Found {
    fn differs(&mut self, what: String) {
        self.differences += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(what);
        }
    }
}

/// Exit code 0: all as it should be, 1: not.
///
/// # Errors
/// The source does not answer, or its checkpoint is not signed as the policy asks.
pub(super) async fn run(args: FsckArgs) -> anyhow::Result<ExitCode> {
    let source = Source::new(&args.source, args.ca_file.as_deref()).await?;
    let trust = Trust::read(args.policy.as_deref()).await?;
    let Some(signed) = source.checkpoint(&trust).await? else {
        crate::print(format!("{} has no checkpoint yet", source.url));
        return Ok(ExitCode::SUCCESS);
    };
    let size = signed.head.size;
    let mut found = Found { origin: signed.origin, size, root: hex::encode(signed.head.root), ..Found::default() };
    let mut rebuild = Rebuild::default();
    for index in 0..size.div_ceil(TILE_WIDTH as u64) {
        let Some(entries) = source.entries(size, index).await? else {
            found.differs(format!("entry bundle {index} is not served, so nothing behind it can be checked"));
            break;
        };
        let mut full = Vec::new();
        for entry in &entries {
            rebuild.push(entry, &mut |tile| full.push(tile));
        }
        for tile in full {
            compare(&source, size, &tile, &mut found).await?;
        }
    }
    if rebuild.size() == size {
        for tile in rebuild.open() {
            compare(&source, size, &tile, &mut found).await?;
        }
        if rebuild.root() != signed.head.root {
            let computed = hex::encode(rebuild.root());
            found.differs(format!("the entries give the root {computed}, and the checkpoint says {}", found.root));
        }
    }
    crate::print(if args.json { serde_json::to_string(&found)? } else { render(&found, &trust) });
    Ok(if found.differences == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_DIFFERS) })
}

async fn compare(source: &Source, size: u64, tile: &ChangedTile, found: &mut Found) -> anyhow::Result<()> {
    found.tiles += 1;
    let path = TilePath { level: Some(tile.level), index: tile.index, width: tile.hashes.len() };
    match source.tile(size, Some(tile.level), tile.index).await? {
        None => found.differs(format!("{path} is not served")),
        Some(served) => {
            if let Some(at) = first_difference(tile, &served) {
                found.differs(format!("{path} differs from what its entries give, from hash {at} on"));
            }
        }
    }
    Ok(())
}

fn render(found: &Found, trust: &Trust) -> String {
    let signed = match trust {
        Trust::Own(_) => "signed as the policy asks",
        Trust::Source => "signed by the source's own keys; --policy brings yours",
    };
    let mut lines = vec![
        format!("log     {}", found.origin),
        format!("size    {} entries, {signed}", found.size),
        format!("root    {}", found.root),
    ];
    lines.extend(found.told.iter().map(|what| format!("! {what}")));
    lines.push(match found.differences {
        0 => format!("{} tiles and the root are what the entries give", found.tiles),
        count => format!("{count} differences in {} tiles", found.tiles),
    });
    lines.join("\n")
}
