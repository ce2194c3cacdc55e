//! `stele log rotate-keys`: other keys for a log, with a time in which both sign (docs/evidence.md).

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::anchor::AnchorDir;
use crate::real::OsRng;

/// Which directory, and how far.
#[derive(Args)]
pub(crate) struct RotateArgs {
    /// The directory anchor/ of an anchor that does not run.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Let the new keys sign alone.
    #[arg(long)]
    finish: bool,
}

pub(super) async fn run(args: RotateArgs) -> anyhow::Result<ExitCode> {
    let dir = AnchorDir::open(&args.dir).await?;
    let (keys, then) = if args.finish {
        (dir.finish_rotation().await?, "These keys sign alone from the anchor's next start on.")
    } else {
        let then = "From the anchor's next start on the old keys and these sign. Give them to auditors and witnesses,\n\
                    then stop the anchor and run this with --finish.";
        (dir.begin_rotation(&OsRng).await?, then)
    };
    crate::print(format!("{keys}{then}"));
    Ok(ExitCode::SUCCESS)
}
