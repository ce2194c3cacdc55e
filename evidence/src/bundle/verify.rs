//! Judging a bundle: every file is taken to be forged until it was computed otherwise. What a bundle can't
//! show is said as plainly as what it shows.

use std::io;
use std::ops::Range;

use stele_types::limits::CHUNK_BYTES_MAX;

use super::bag::{Bag, BagError, check_bag};
use super::claims::{Claim, Question, Text};
use super::contents::Contents;
use super::files::{ReadSeek, Source, read_all};
use super::names::{CONTENTS, POLICY};
use super::report::{Report, VERIFIER};
use crate::chain::trust::{ChainsError, TrustedChains};
use crate::lines::parse_decimal;
use crate::policy::{POLICY_MAX, Policy, PolicyError};
use crate::timestamp::roots::{Roots, RootsError};

mod anchors;
mod body;
mod chain;
mod digests;
mod erased;
mod log;
mod object;
mod outside;
mod part;
mod spans;
mod stamps;
mod whole;

use chain::Chains;
use log::LogView;
use object::Case;
use outside::Outside;

/// Largest slice, bytes: a whole chunk, and two hashes for each inner node over its groups.
pub const SLICE_MAX: usize = CHUNK_BYTES_MAX + 64 * 1024;
/// Most damaged files that are named.
const FAULTS_SHOWN: usize = 16;

/// Nothing can be said: the input is no bundle, or the question does not fit it.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The folder is no bundle.
    #[error(transparent)]
    Bag(#[from] BagError),
    /// A policy can't be read.
    #[error("{whose} trust policy: {error}")]
    Policy {
        /// Whose it is.
        whose: &'static str,
        /// What is wrong.
        error: PolicyError,
    },
    /// The bundle has no trust policy that could be read.
    #[error("{POLICY}: is missing or too large; bring your own with --policy")]
    NoPolicy,
    /// The auditor's file of chains can't be read.
    #[error("your file of chains: {0}")]
    Chains(#[from] ChainsError),
    /// The auditor's roots can't be read.
    #[error("your time-stamping roots: {0}")]
    Roots(#[from] RootsError),
    /// Reading failed.
    #[error("{name}: {error}")]
    Io {
        /// Which file.
        name: String,
        /// What happened.
        error: io::Error,
    },
    /// The bundle has no such object.
    #[error("the bundle has {count} objects; there is no object {number}")]
    NoObject {
        /// Asked for.
        number: usize,
        /// There are.
        count: usize,
    },
    /// Several objects of the bundle have bytes.
    #[error("{count} objects of the bundle have bytes; say with --object which one FILE or the range is of")]
    WhichObject {
        /// How many.
        count: usize,
    },
    /// The object has nothing that bytes could be compared with.
    #[error("the bundle holds neither chunks nor a range of an object, so bytes can't be compared with it")]
    NothingToCompare,
    /// The range is not inside what the bundle proves.
    #[error("bytes {first}-{last} do not lie within the bytes {start}-{end} that the bundle can prove")]
    Range {
        /// First byte asked for.
        first: u64,
        /// Last byte asked for.
        last: u64,
        /// First byte that can be proven.
        start: u64,
        /// Last byte that can be proven.
        end: u64,
    },
}

/// A range of bytes, first and last included, as HTTP writes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ByteRange {
    /// Offset of the first byte.
    pub first: u64,
    /// Offset of the last byte.
    pub last: u64,
}

impl ByteRange {
    /// Reads `first-last`; `None` if it is not that, or empty.
    pub fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-')?;
        let (first, last) = (parse_decimal(first.as_bytes())?, parse_decimal(last.as_bytes())?);
        (first <= last && last < u64::MAX).then_some(Self { first, last })
    }

    fn offsets(self) -> Range<u64> {
        self.first..self.last.saturating_add(1)
    }
}

/// What the auditor asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Request<'a> {
    /// The auditor's own trust policy. Without it the bundle's is used, and the report says so.
    pub policy: Option<&'a [u8]>,
    /// The chains that the auditor trusts; without them anchors are the operator's word.
    pub chains: Option<&'a [u8]>,
    /// Root certificates of time-stamping authorities in PEM; without them time stamps are the operator's
    /// word.
    pub tsa_roots: Option<&'a [u8]>,
    /// Object that bytes and range are of, from 1. May be left out if only one has chunks or a range.
    pub object: Option<usize>,
    /// Look at these bytes only.
    pub range: Option<ByteRange>,
    /// Hold whole bytes against the object root alone, which covers each of them, and leave out the further
    /// digests of the record: MD5 of a large object takes ten times as long as all the rest.
    pub root_only: bool,
}

/// Bytes that the auditor brought, under the name they have in the report.
pub type Brought<'a> = (&'a str, &'a mut dyn ReadSeek);

/// Judges a bundle. Memory stays under 32 MiB whatever the bundle holds and however long objects are.
///
/// # Errors
/// [`Unusable`]: there is nothing to judge. That something does not hold is in the report.
pub fn verify(source: &dyn Source, request: &Request<'_>, mut file: Option<Brought<'_>>) -> Result<Report, Unusable> {
    let bag = check_bag(source)?;
    let mut report = start(&bag, request);
    report.file = file.as_ref().map(|(name, _)| (*name).to_owned());
    let Some(contents) = &bag.contents else {
        let why = Text::new(
            "the files that describe the bundle were changed, so nothing in it was looked at",
            "描述证据包的文件已被改动，故未核验其中内容",
        );
        report.claims.push(Claim::not_checked(Question::Record, why));
        report.claims.extend(never_checked());
        return Ok(report);
    };
    let policy = policy(source, request)?;
    let trusted = TrustedChains::parse(request.chains.unwrap_or_default())?;
    let roots = roots(request)?;
    let target = target(contents, request, file.is_some())?;
    let mut log = LogView::new(policy, request.policy.is_some(), &contents.origin);
    let (mut chains, mut of_objects) = (Chains::default(), Vec::new());
    for (at, object) in contents.objects.iter().enumerate() {
        let range = request.range.filter(|_| target == Some(at));
        let mut case = Case { source, number: at + 1, object, range, root_only: request.root_only, claims: Vec::new() };
        let brought = if target == Some(at) { file.take() } else { None };
        report.objects.push(case.judge(&mut log, &mut chains, brought)?);
        of_objects.append(&mut case.claims);
    }
    let mut outside = Outside::new(source, contents, &log);
    outside.anchors(&trusted)?;
    outside.timestamps(&roots)?;
    report.claims.extend(log.claims(&outside.dated, &outside.chains));
    report.claims.append(&mut outside.claims);
    report.claims.extend(never_checked());
    report.claims.append(&mut of_objects);
    report.claims.extend(chains.claims());
    report.digests = log.digests();
    report.digests.append(&mut outside.digests);
    Ok(report)
}

fn start(bag: &Bag, request: &Request<'_>) -> Report {
    let text = |field: fn(&Contents) -> &String| bag.contents.as_ref().map(field).cloned().unwrap_or_default();
    Report {
        verifier: VERIFIER,
        tool: text(|contents| &contents.tool),
        created: text(|contents| &contents.created),
        origin: text(|contents| &contents.origin),
        own_policy: request.policy.is_some(),
        file: None,
        objects: Vec::new(),
        claims: vec![bag_claim(bag)],
        digests: Vec::new(),
    }
}

fn bag_claim(bag: &Bag) -> Claim {
    let claim = if bag.faults.is_empty() {
        let (files, bytes) = (bag.files, bag.payload_bytes);
        Claim::agrees(
            Question::Bag,
            Text::new(
                format!(
                    "{files} files, {bytes} bytes of evidence, all as listed and none besides. This shows damage; \
                     who wants to forge a bundle also rewrites its lists"
                ),
                format!(
                    "共 {files} 个文件，证据 {bytes} 字节，均与清单相符且无多余文件。此项仅能发现损坏，不能防止伪造"
                ),
            ),
        )
    } else {
        let mut faults: Vec<String> = bag.faults.iter().take(FAULTS_SHOWN).map(ToString::to_string).collect();
        if bag.faults.len() > FAULTS_SHOWN {
            faults.push(format!("and {} more", bag.faults.len() - FAULTS_SHOWN));
        }
        let faults = faults.join("; ");
        Claim::differs(Question::Bag, Text::new(faults.clone(), format!("与清单不符：{faults}")))
    };
    claim.of(CONTENTS, "SHA-256, BagIt 1.0")
}

/// What no bundle can show.
fn never_checked() -> [Claim; 3] {
    [
        Claim::not_checked(
            Question::Later,
            Text::new(
                "that a key has later events than those in the bundle can't be seen from it, whether they were logged \
                 before the checkpoint or since; ask for a newer bundle with all events of the key",
                "证据包不能显示该键在所载事件之后是否另有事件（无论记于检查点之前或之后）；须另行取得含该键全部事件的较新证据包",
            ),
        ),
        Claim::not_checked(
            Question::Possession,
            Text::new(
                "a bundle does not show whether the store still has the bytes",
                "证据包不能证明存储方目前仍持有数据",
            ),
        ),
        Claim::not_checked(
            Question::BeforeIngest,
            Text::new(
                "where the bytes came from and whether they were true is not in the log",
                "数据的来源及其在存入之前的真实性不在日志范围内",
            ),
        ),
    ]
}

fn policy(source: &dyn Source, request: &Request<'_>) -> Result<Policy, Unusable> {
    if let Some(own) = request.policy {
        return Policy::parse(own).map_err(|error| Unusable::Policy { whose: "your", error });
    }
    let bytes = match read_all(source, POLICY, POLICY_MAX) {
        Ok(bytes) => bytes.ok_or(Unusable::NoPolicy)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unusable::NoPolicy),
        Err(error) => return Err(Unusable::Io { name: POLICY.to_owned(), error }),
    };
    Policy::parse(&bytes).map_err(|error| Unusable::Policy { whose: POLICY, error })
}

fn roots(request: &Request<'_>) -> Result<Roots, Unusable> {
    let mut roots = Roots::default();
    request.tsa_roots.map(|pem| roots.add(pem)).transpose()?;
    Ok(roots)
}

/// The object that the auditor's bytes or range are of.
fn target(contents: &Contents, request: &Request<'_>, brought: bool) -> Result<Option<usize>, Unusable> {
    let count = contents.objects.len();
    let has_bytes = |at: &usize| contents.objects.get(*at).is_some_and(|o| o.chunks.is_some() || o.range.is_some());
    if let Some(number) = request.object {
        let at = number.checked_sub(1).filter(|at| *at < count).ok_or(Unusable::NoObject { number, count })?;
        return if has_bytes(&at) { Ok(Some(at)) } else { Err(Unusable::NothingToCompare) };
    }
    if !brought && request.range.is_none() {
        return Ok(None);
    }
    let mut candidates = (0..count).filter(has_bytes);
    match (candidates.next(), candidates.count()) {
        (None, _) => Err(Unusable::NothingToCompare),
        (Some(at), 0) => Ok(Some(at)),
        (Some(_), more) => Err(Unusable::WhichObject { count: more + 1 }),
    }
}
