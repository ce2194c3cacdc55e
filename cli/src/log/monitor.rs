//! `stele log monitor`: looks at several sources of one log, again and again, and shouts if they show two histories.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::Args;
use stele_evidence::proof::Head;
use stele_evidence::watch::{Comparison, Conclusion, Judgement, Watch, compare, conclude};

use super::anchored::{self, Anchored, AnchoredArgs};
use super::sighting::{Found, Recorded, Sighting};
use super::source::{Source, Trust};
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
    #[command(flatten)]
    anchored: AnchoredArgs,
    /// File that remembers everything that was seen.
    #[arg(long, value_name = "FILE")]
    state: PathBuf,
    /// Trust policy (C2SP tlog-policy) that checkpoints must satisfy; without it, each source's own.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Name of the log; without it, that of the first checkpoint that is seen.
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,
    /// Certificate (PEM) of the authority that signed the sources', where the system does not know it.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Look again after this long; without it, look once.
    #[arg(long, value_name = "TIME")]
    interval: Option<Span>,
}

struct Monitor {
    sources: Vec<Source>,
    anchored: Vec<Anchored>,
    trust: Trust,
    state: State,
    origin: Option<String>,
    watch: Watch,
    /// Where each size was seen first.
    places: BTreeMap<u64, String>,
    /// Anchors that are in the state: chain, block and size.
    kept: BTreeSet<(String, u64, u64)>,
}

/// What a look brought.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Fine,
    Forked,
    /// Something could not be read or judged; the next look may help.
    Unsure,
}

/// What is said of a tree that somebody showed.
enum Weighed {
    Known,
    Belongs,
    Forked(Head),
    Doubtful(String),
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
    let (state, memory) = State::open(&args.state).await?;
    let anchored = args.anchored.open(&memory).await?;
    let origin = memory.origin.or_else(|| args.origin.clone());
    let same = args.origin.is_none() || args.origin == origin;
    ensure!(same, "{} is of the log {origin:?}", args.state.display());
    let watch = Watch::new(memory.heads.iter().map(|(head, _)| *head));
    let watch = watch.map_err(|head| anyhow::anyhow!("the state has two roots for size {}", head.size))?;
    // The first one counts, and later ones stand behind it.
    let places = memory.heads.into_iter().rev().map(|(head, place)| (head.size, place)).collect();
    let kept = memory.anchors.into_keys().collect();
    let mut monitor = Monitor { sources, anchored, trust, state, origin, watch, places, kept };
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
    /// Looks at every source once. Checkpoints come first: they tell which log it is, and tiles of later ones
    /// show what is wrong with an anchored root.
    async fn look(&mut self) -> anyhow::Result<Look> {
        let mut look = Look::Fine;
        let mut looks = |found| match found {
            Look::Fine => false,
            Look::Unsure => {
                look = Look::Unsure;
                false
            }
            Look::Forked => true,
        };
        for at in 0..self.sources.len() {
            if looks(self.look_at(at).await?) {
                return Ok(Look::Forked);
            }
        }
        for at in 0..self.anchored.len() {
            if looks(self.look_at_anchors(at).await?) {
                return Ok(Look::Forked);
            }
        }
        Ok(look)
    }

    async fn look_at(&mut self, at: usize) -> anyhow::Result<Look> {
        let Some(source) = self.sources.get(at) else { return Ok(Look::Fine) };
        let url = source.url.clone();
        let signed = match source.checkpoint(&self.trust).await {
            Ok(Some(signed)) => signed,
            Ok(None) => {
                crate::print(format!("{url}: no checkpoint yet"));
                return Ok(Look::Fine);
            }
            Err(error) => {
                crate::print(format!("! {url}: {error:#}"));
                return Ok(Look::Unsure);
            }
        };
        let origin = self.origin.get_or_insert_with(|| signed.origin.clone()).clone();
        if origin != signed.origin {
            crate::print(format!("! {url} serves the log {:?}, not {origin:?}", signed.origin));
            return Ok(Look::Unsure);
        }
        let size = signed.head.size;
        let sighting = Sighting { head: signed.head, place: url.clone(), found: Found::Note(signed.note) };
        match self.weigh(sighting.head).await {
            Weighed::Known => crate::print(format!("{url}: size {size}, seen before")),
            Weighed::Belongs => {
                self.accept(&origin, &sighting).await?;
                crate::print(format!("{url}: size {size}, extends all that was seen"));
            }
            Weighed::Forked(other) => return self.shout(&sighting, other, String::new(), None).await,
            Weighed::Doubtful(why) => {
                crate::print(format!("! {why}"));
                return Ok(Look::Unsure);
            }
        }
        Ok(Look::Fine)
    }

    async fn look_at_anchors(&mut self, at: usize) -> anyhow::Result<Look> {
        let Some(source) = self.anchored.get(at) else { return Ok(Look::Fine) };
        let name = source.name();
        let Some(origin) = self.origin.clone() else {
            crate::print(format!("! {name}: no checkpoint says which log to look for; name it with --origin"));
            return Ok(Look::Unsure);
        };
        let anchored::Look { sightings, next, more, rewritten } = match source.look(&origin, &self.trust).await {
            Ok(look) => look,
            Err(error) => {
                crate::print(format!("! {name}: {error:#}"));
                return Ok(Look::Unsure);
            }
        };
        for sighting in &sightings {
            match self.weigh(sighting.head).await {
                Weighed::Known | Weighed::Belongs => self.accept(&origin, sighting).await?,
                Weighed::Forked(other) => return self.convict(at, sighting, other).await,
                Weighed::Doubtful(why) => {
                    crate::print(format!("! {}: {why}", sighting.place));
                    return Ok(Look::Unsure);
                }
            }
        }
        if let Some((what, bytes)) = rewritten {
            return self.rewritten(&what, &bytes).await;
        }
        let noted = self.anchored.get_mut(at).and_then(|source| source.settle(next, !sightings.is_empty()));
        if let Some((chain, position)) = noted {
            self.state.keep_position(&chain, position).await?;
        }
        let newest = sightings.iter().map(|sighting| sighting.head.size).max();
        let newest = newest.map(|size| format!(", up to size {size}, which belong to all that was seen"));
        crate::print(format!("{name}: {} new{}", sightings.len(), newest.unwrap_or_default()));
        if more {
            crate::print(format!("! {name}: there is more than one look takes; look again"));
            return Ok(Look::Unsure);
        }
        Ok(Look::Fine)
    }

    /// Holds a tree against all that was seen.
    async fn weigh(&self, found: Head) -> Weighed {
        let pairs = match self.watch.judge(found) {
            Judgement::Known => return Weighed::Known,
            Judgement::Forked { other } => return Weighed::Forked(other),
            Judgement::Prove(pairs) => pairs,
        };
        let (mut compared, mut doubt) = (Vec::new(), None);
        for (old, new) in pairs {
            match self.prove(old, new).await {
                Ok(comparison) => compared.push((old, new, comparison)),
                Err(error) => {
                    doubt = Some(format!("sizes {} and {} could not be compared: {error:#}", old.size, new.size));
                }
            }
        }
        match (conclude(found, compared), doubt) {
            (Conclusion::Forked { other }, _) => Weighed::Forked(other),
            (_, Some(doubt)) => Weighed::Doubtful(doubt),
            (Conclusion::Unknown { unserved }, _) => {
                Weighed::Doubtful(format!("nobody serves tiles that give the root of size {}", unserved.size))
            }
            (Conclusion::Belongs, None) => Weighed::Belongs,
        }
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

    /// Keeps what belongs to all that was seen, each once.
    async fn accept(&mut self, origin: &str, sighting: &Sighting) -> anyhow::Result<()> {
        let known = self.watch.judge(sighting.head) == Judgement::Known;
        let new = match &sighting.found {
            Found::Note(_) => !known,
            Found::Anchor(Recorded { chain, block, .. }) => {
                self.kept.insert((chain.clone(), *block, sighting.head.size))
            }
        };
        if new {
            self.state.keep(origin, sighting).await?;
            self.watch.accept(sighting.head);
            self.places.entry(sighting.head.size).or_insert_with(|| sighting.place.clone());
        }
        Ok(())
    }

    /// An anchor is no beginning of what was seen. A node's word alone is no evidence of that.
    async fn convict(&self, at: usize, sighting: &Sighting, other: Head) -> anyhow::Result<Look> {
        let (Some(origin), Some(source)) = (&self.origin, self.anchored.get(at)) else { return Ok(Look::Unsure) };
        match source.prove(origin, sighting).await {
            Ok((words, proof)) => self.shout(sighting, other, words, Some(proof)).await,
            Err(error) => {
                let Head { size, .. } = sighting.head;
                crate::print(format!(
                    "! {} shows another root for size {size} than the log has, and can't prove it: {error:#}",
                    sighting.place
                ));
                Ok(Look::Unsure)
            }
        }
    }

    /// Keeps the evidence, and says it as loudly as a command can.
    async fn shout(
        &self,
        sighting: &Sighting,
        other: Head,
        words: String,
        proof: Option<Vec<u8>>,
    ) -> anyhow::Result<Look> {
        let (shown, evidence) = match &sighting.found {
            Found::Note(note) => ("signed by the log's keys", note.clone().into_bytes()),
            Found::Anchor(_) => ("recorded by the account or key that anchors the log", proof.unwrap_or_default()),
        };
        let path = self.keep_evidence(sighting.head.size, &evidence).await?;
        let place = self.places.get(&other.size).map_or("the state file", String::as_str);
        crate::print(format!(
            "!!! THE LOG WAS FORKED. {} has size {} with root {}, {shown}; it does not belong to\n\
             !!! size {} with root {}, which was seen at {place}.\n\
             !!! Nobody but the holder of the keys can have made both. The state file has the one, and {} the other. {words}",
            sighting.place,
            sighting.head.size,
            hex::encode(sighting.head.root),
            other.size,
            hex::encode(other.root),
            path.display(),
        ));
        Ok(Look::Forked)
    }

    async fn rewritten(&self, what: &str, bytes: &[u8]) -> anyhow::Result<Look> {
        let path = self.state.rewritten();
        let kept = tokio::fs::write(&path, bytes).await;
        kept.with_context(|| format!("writing {}", path.display()))?;
        crate::print(format!(
            "!!! THE LEDGER WAS REWRITTEN. Another block was seen where {what} stands now, and the ledger's key signed both.\n\
             !!! The state file has the one, and {} the other.",
            path.display()
        ));
        Ok(Look::Forked)
    }

    async fn keep_evidence(&self, size: u64, bytes: &[u8]) -> anyhow::Result<PathBuf> {
        let path = self.state.evidence(size);
        tokio::fs::write(&path, bytes).await.with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}
