//! `stele log monitor`: looks at several sources of one log, again and again, and shouts if they show two histories.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use stele_evidence::proof::Head;
use stele_evidence::watch::{Comparison, Judgement, Watch, compare};

use super::source::{Signed, Source, Trust};
use super::state::State;
use crate::config::Span;

/// Exit code of a forked log.
const EXIT_FORKED: u8 = 1;

/// `stele log monitor`.
#[derive(Args)]
pub(crate) struct MonitorArgs {
    /// Where the log is served; give it once for each place that must show the same history.
    #[arg(long = "source", required = true, value_name = "URL")]
    sources: Vec<String>,
    /// File that remembers every checkpoint that was seen.
    #[arg(long, value_name = "FILE")]
    state: PathBuf,
    /// Trust policy (C2SP tlog-policy) that checkpoints must satisfy; without it, each source's own.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Certificate (PEM) of the authority that signed the sources', where the system does not know it.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Look again after this long; without it, look once.
    #[arg(long, value_name = "TIME")]
    interval: Option<Span>,
}

struct Monitor {
    sources: Vec<Source>,
    trust: Trust,
    state: State,
    origin: Option<String>,
    watch: Watch,
}

/// What a look brought.
enum Look {
    Fine,
    Forked,
    /// Something could not be read or judged; the next look may help.
    Unsure,
}

/// Exit code 0: one history; 1: a fork, or a look that could not be finished.
///
/// # Errors
/// The state can't be read or written.
pub(super) async fn run(args: MonitorArgs) -> anyhow::Result<ExitCode> {
    let mut sources = Vec::new();
    for url in &args.sources {
        sources.push(Source::new(url, args.ca_file.as_deref()).await?);
    }
    let trust = Trust::read(args.policy.as_deref()).await?;
    let (state, seen) = State::open(&args.state, None).await?;
    let origin = seen.first().map(|(origin, _)| origin.clone());
    if let Some((other, _)) = seen.iter().find(|(other, _)| Some(other) != origin.as_ref()) {
        bail!("{} remembers two logs, {:?} and {other:?}; use one file for each", args.state.display(), origin);
    }
    let watch = Watch::new(seen.into_iter().map(|(_, head)| head));
    let watch = watch.map_err(|head| anyhow::anyhow!("the state has two roots for size {}", head.size));
    let mut monitor = Monitor { sources, trust, state, origin, watch: watch? };
    loop {
        match (monitor.look().await?, args.interval) {
            (Look::Forked, _) => return Ok(ExitCode::from(EXIT_FORKED)),
            (Look::Fine, None) => return Ok(ExitCode::SUCCESS),
            (Look::Unsure, None) => return Ok(ExitCode::from(EXIT_FORKED)),
            (_, Some(interval)) => tokio::time::sleep(interval.duration()).await,
        }
    }
}

impl Monitor {
    /// Looks at every source once.
    async fn look(&mut self) -> anyhow::Result<Look> {
        let mut look = Look::Fine;
        for at in 0..self.sources.len() {
            match self.look_at(at).await? {
                Look::Fine => {}
                Look::Unsure => look = Look::Unsure,
                Look::Forked => return Ok(Look::Forked),
            }
        }
        Ok(look)
    }

    async fn look_at(&mut self, at: usize) -> anyhow::Result<Look> {
        let Some(source) = self.sources.get(at) else { return Ok(Look::Fine) };
        let signed = match source.checkpoint(&self.trust).await {
            Ok(Some(signed)) => signed,
            Ok(None) => {
                crate::print(format!("{}: no checkpoint yet", source.url));
                return Ok(Look::Fine);
            }
            Err(error) => {
                crate::print(format!("! {}: {error:#}", source.url));
                return Ok(Look::Unsure);
            }
        };
        let origin = self.origin.get_or_insert_with(|| signed.origin.clone()).clone();
        if origin != signed.origin {
            crate::print(format!("! {} serves the log {:?}, not {origin:?}", source.url, signed.origin));
            return Ok(Look::Unsure);
        }
        let pairs = match self.watch.judge(signed.head) {
            Judgement::Known => {
                crate::print(format!("{}: size {}, seen before", source.url, signed.head.size));
                return Ok(Look::Fine);
            }
            Judgement::Forked { other } => return self.shout(&signed, at, other).await,
            Judgement::Prove(pairs) => pairs,
        };
        for (old, new) in pairs {
            match self.prove(old, new).await {
                Ok(Comparison::Consistent) => {}
                Ok(Comparison::Forked) => {
                    let other = if old == signed.head { new } else { old };
                    return self.shout(&signed, at, other).await;
                }
                Ok(Comparison::Foreign) => {
                    crate::print(format!("! nobody serves tiles that give the root of size {}", new.size));
                    return Ok(Look::Unsure);
                }
                Err(error) => {
                    crate::print(format!("! sizes {} and {} could not be compared: {error:#}", old.size, new.size));
                    return Ok(Look::Unsure);
                }
            }
        }
        let Some(source) = self.sources.get(at) else { return Ok(Look::Fine) };
        self.state.keep(&signed, &source.url).await?;
        self.watch.accept(signed.head);
        crate::print(format!("{}: size {}, extends all that was seen", source.url, signed.head.size));
        Ok(Look::Fine)
    }

    /// Compares two trees by the tiles of whichever source has them.
    async fn prove(&self, old: Head, new: Head) -> anyhow::Result<Comparison> {
        let mut last = Err(anyhow::anyhow!("no source"));
        for source in &self.sources {
            match source.ask(new.size, |tiles| compare(tiles, old, new)).await {
                Ok(Comparison::Foreign) => last = Ok(Comparison::Foreign),
                Ok(found) => return Ok(found),
                Err(error) => last = last.or(Err(error)),
            }
        }
        last
    }

    /// Keeps the evidence, and says it as loudly as a command can.
    async fn shout(&self, signed: &Signed, at: usize, other: Head) -> anyhow::Result<Look> {
        let url = self.sources.get(at).map_or("", |source| source.url.as_str());
        let path = self.state.evidence(signed.head.size);
        let kept = tokio::fs::write(&path, &signed.note).await;
        kept.with_context(|| format!("writing {}", path.display()))?;
        crate::print(format!(
            "!!! THE LOG WAS FORKED. {url} serves size {} with root {}, signed by the log's keys; it does not belong to\n\
             !!! size {} with root {}, which was seen before and is in the state file.\n\
             !!! Both are signed, so nobody but the holder of the keys can have made them. The other note: {}",
            signed.head.size,
            hex::encode(signed.head.root),
            other.size,
            hex::encode(other.root),
            path.display(),
        ));
        Ok(Look::Forked)
    }
}
