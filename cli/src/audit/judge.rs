//! An audit in a folder, checked without anybody's help: the report against its inventories, seed, signatures and slices;
//! the report's digest and the commitment against the evidence log; the checkpoint of the seed against the trust policy.
//!
//! | in the folder of each audit | is |
//! |---|---|
//! | `report.audit` | the report |
//! | `slices/N` | what was answered to challenge N |
//! | `audit.vkeys` | keys of the nodes, as the operator says |
//! | `checkpoint` | the signed checkpoint that the seed hangs on |
//! | `evidence/` | a bundle: the audit's events in the evidence log |

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use serde_json::json;
use stele_evidence::audit::answer::AnswerKey;
use stele_evidence::audit::progress::Verdict;
use stele_evidence::audit::report::{REPORT_MAX, Report, digest};
use stele_evidence::audit::verify::{Checked, verify_report};
use stele_evidence::bundle::FILES_MAX;
use stele_evidence::bundle::contents::Contents;
use stele_evidence::bundle::files::Files;
use stele_evidence::bundle::names::{CONTENTS, POLICY};
use stele_evidence::bundle::verify::{Request, verify};
use stele_evidence::note::Note;
use stele_evidence::policy::Policy;
use stele_evidence::proof::Head;
use stele_evidence::record::{CLUSTER, Event, Record};
use stele_types::ids::NodeId;

use super::Trust;

const SMALL_FILE_MAX: u64 = 1 << 20;
/// Most audits of one folder.
const AUDITS_MAX: usize = 10_000;

/// What one audit showed.
pub(super) struct Judged {
    /// Name of its folder.
    name: String,
    id: String,
    checked: Checked,
    /// The beacon, and where it is said to come from.
    pub(super) beacon: (String, Vec<u8>),
    /// Whose keys the answers were checked with.
    own_keys: bool,
    own_policy: bool,
}

impl Judged {
    /// The checkpoint that the seed hangs on.
    pub(super) fn head(&self) -> Head {
        self.checked.head
    }
}

/// Judges every audit in the folder.
///
/// # Errors
/// Something does not hold, or can't be read.
pub(super) fn all(folder: &Path, trust: &Trust) -> anyhow::Result<Vec<Judged>> {
    let mut judged = Vec::new();
    for number in 1..=AUDITS_MAX {
        let name = name(number);
        let path = folder.join(&name);
        if !path.is_dir() {
            break;
        }
        let one = one(&path, trust, name.clone()).with_context(|| format!("{name} in {}", folder.display()))?;
        judged.push(one);
    }
    ensure!(!judged.is_empty(), "{} holds no audit: its first is called {}", folder.display(), name(1));
    Ok(judged)
}

/// Name of the folder of an audit.
pub(super) fn name(number: usize) -> String {
    format!("audit-{number:04}")
}

/// Judges one audit.
pub(super) fn one(folder: &Path, trust: &Trust, name: String) -> anyhow::Result<Judged> {
    let bytes = read(&folder.join("report.audit"), REPORT_MAX as u64)?;
    let report = Report::decode(&bytes)?;
    let own_keys = trust.keys.is_some();
    let keys = keys(trust.keys.as_deref().unwrap_or(&folder.join("audit.vkeys")), &report)?;
    let slice = |at: usize| read(&folder.join("slices").join(format!("{at:05}")), SMALL_FILE_MAX).ok();
    let checked = verify_report(&report, &keys, &mut { slice })?;
    let policy = trust.policy.as_deref().map(|path| read(path, SMALL_FILE_MAX)).transpose()?;
    let bundle = folder.join("evidence");
    let log_policy = match &policy {
        Some(own) => own.clone(),
        None => read(&bundle.join(POLICY), SMALL_FILE_MAX)?,
    };
    check_checkpoint(&folder.join("checkpoint"), &log_policy, &checked)?;
    let id = hex::encode(report.plan.id.0);
    check_events(&bundle, policy.as_deref(), (&id, digest(&bytes)), &checked)?;
    let beacon = (report.seed.beacon_name, report.seed.beacon);
    Ok(Judged { name, id, checked, beacon, own_keys, own_policy: policy.is_some() })
}

/// The nodes' keys from a file, for the nodes that the report names. A key says in its name whose it is.
fn keys(path: &Path, report: &Report) -> anyhow::Result<BTreeMap<NodeId, AnswerKey>> {
    let text = String::from_utf8(read(path, SMALL_FILE_MAX)?).context("the file of keys is not text")?;
    let mut keys = BTreeMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let key = AnswerKey::parse(line.trim()).with_context(|| format!("{line:?} in {}", path.display()))?;
        let named = key.vkey().name().as_str().rsplit_once("/node/").and_then(|(_, node)| node.parse().ok());
        let node = named.with_context(|| format!("{line:?} in {} is no key of a node", path.display()))?;
        keys.insert(NodeId(node), key);
    }
    for listed in &report.inventories {
        let node = listed.head.node;
        ensure!(keys.contains_key(&node), "{} has no key of node {node}", path.display());
    }
    Ok(keys)
}

/// The checkpoint of the seed is signed as the policy asks.
fn check_checkpoint(path: &Path, policy: &[u8], checked: &Checked) -> anyhow::Result<()> {
    let note = Note::parse(&read(path, SMALL_FILE_MAX)?).context("the checkpoint")?;
    let policy = Policy::parse(policy).context("the trust policy")?;
    let signed = policy.evaluate(&note).map_err(|refusal| anyhow::anyhow!("the checkpoint: {refusal}"))?;
    let head = signed.checkpoint.head();
    ensure!(head == checked.head, "the seed hangs on another checkpoint than the signed one of size {}", head.size);
    Ok(())
}

/// The log has the commitment at the entry that the seed names, and the report's digest as an event of the same audit.
fn check_events(
    bundle: &Path,
    policy: Option<&[u8]>,
    (id, report): (&str, [u8; 32]),
    checked: &Checked,
) -> anyhow::Result<()> {
    let mut files = Files::default();
    collect(bundle, String::new(), &mut files)?;
    let judged = verify(&files, &Request { policy, ..Request::default() }, None)?;
    ensure!(
        judged.consistent(),
        "the events in the evidence log do not hold: judge {} with stele-verify",
        bundle.display()
    );
    let contents = files.files.get(CONTENTS).context("the bundle has no contents")?;
    let contents = Contents::parse(contents)?;
    let key = format!("audit/{id}");
    let (mut begun, mut ended) = (false, false);
    for object in contents.objects.iter().filter(|object| object.bucket == CLUSTER && object.key == key) {
        let record = files.files.get(&object.record).context("a record of the bundle is missing")?;
        let record = Record::decode(record)?;
        begun |= record.event == Event::AuditBegun
            && object.index == checked.logged.0.0
            && record.digest == Some(checked.logged.1);
        ended |= record.event == Event::AuditReport && record.digest == Some(report);
    }
    if !begun {
        bail!("the log does not have the commitment to the inventories at entry {}", checked.logged.0);
    }
    ensure!(ended, "the log does not have this report of {key}; it may have another one");
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "files of the auditor, not of the store")]
fn read(path: &Path, max: u64) -> anyhow::Result<Vec<u8>> {
    let what = || format!("reading {}", path.display());
    let len = std::fs::metadata(path).with_context(what)?.len();
    ensure!(len <= max, "{} has more than {max} bytes", path.display());
    std::fs::read(path).with_context(what)
}

/// Reads a small bundle into memory.
fn collect(folder: &Path, prefix: String, files: &mut Files) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().context("a name in the bundle is not UTF-8")?;
        let (kind, path) = (entry.file_type()?, entry.path());
        ensure!(files.files.len() < FILES_MAX && prefix.len() < 1024, "{} is no bundle", folder.display());
        if kind.is_dir() {
            collect(&path, format!("{prefix}{name}/"), files)?;
        } else {
            ensure!(kind.is_file(), "{} is no plain file", path.display());
            files.files.insert(format!("{prefix}{name}"), read(&path, SMALL_FILE_MAX)?);
        }
    }
    Ok(())
}

/// Prints what was found, and says it in the exit code.
pub(super) fn tell(judged: &[Judged], json: bool) -> ExitCode {
    let count = |verdict| judged.iter().map(|one| one.checked.count(verdict)).sum::<usize>();
    let (failed, silent) = (count(Verdict::Failed), count(Verdict::Offline) + count(Verdict::Contained));
    crate::print(if json { as_json(judged) } else { as_text(judged) });
    match (failed, silent) {
        (0, 0) => ExitCode::SUCCESS,
        (0, _) => ExitCode::from(3),
        _ => ExitCode::from(1),
    }
}

fn as_json(judged: &[Judged]) -> String {
    let audit = |one: &Judged| {
        let verdicts: BTreeMap<&str, usize> =
            Verdict::ALL.into_iter().map(|verdict| (verdict.name(), one.checked.count(verdict))).collect();
        let failed = one.checked.failed.iter();
        let failed = failed.map(|(place, at)| json!({ "place": place.to_string(), "challenges": at.len() }));
        let coverage = one.checked.coverage.iter();
        let coverage = coverage.map(
            |node| json!({ "node": node.node.0, "rows": node.rows, "asked": node.asked, "words": node.to_string() }),
        );
        json!({
            "folder": one.name,
            "id": one.id,
            "verdicts": verdicts,
            "failed": failed.collect::<Vec<_>>(),
            "coverage": coverage.collect::<Vec<_>>(),
            "everyRowAsked": one.checked.complete,
            "entry": one.checked.logged.0.0,
            "checkpoint": one.checked.head.size,
            "beacon": { "name": one.beacon.0, "value": hex::encode(&one.beacon.1) },
            "objects": one.checked.objects.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "ownKeys": one.own_keys,
            "ownPolicy": one.own_policy,
        })
    };
    json!({ "audits": judged.iter().map(audit).collect::<Vec<_>>() }).to_string()
}

fn as_text(judged: &[Judged]) -> String {
    let mut text = String::new();
    for one in judged {
        let (size, entry) = (one.checked.head.size, one.checked.logged.0);
        text.push_str(&format!("{}: audit {}\n", one.name, one.id));
        text.push_str(&format!(
            "inventories logged at entry {entry}, seed drawn after checkpoint {size} and from a beacon: {}\n",
            one.beacon.0
        ));
        for object in &one.checked.objects {
            text.push_str(&format!("object {object}: look for it in an evidence bundle of its key\n"));
        }
        if !one.own_keys {
            text.push_str("whose keys the nodes sign with is the operator's word; bring your own with --keys\n");
        }
        if !one.own_policy {
            text.push_str("who signs the log is the operator's word; bring your own with --policy\n");
        }
        text.push_str(&one.checked.to_text());
    }
    text.trim_end().to_owned()
}
