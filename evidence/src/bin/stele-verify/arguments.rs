//! The command line, read by hand: a dozen words don't need a parser that is larger than the verifier.

use std::ffi::OsString;
use std::path::PathBuf;

use stele_evidence::bundle::verify::ByteRange;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
stele-verify BUNDLE [FILE] [--range A-B] [--object N] [--policy FILE] [--chains FILE]
             [--tsa-root PEM]... [--root-only] [--json] [--report OUT.html]

Judges an evidence bundle without any network.

  BUNDLE             folder of the bundle
  FILE               bytes to compare with the object: the whole of it, or exactly the bytes of the range
  --range A-B        look at bytes A to B only, counted from 0, both included
  --object N         object of the bundle that FILE and --range are of, from 1
  --policy FILE      your own trust policy; without it the bundle's is used, which proves nothing about
                     who signed
  --chains FILE      the chains that you trust, and the blocks that you looked up; without it anchors are the
                     operator's word
  --tsa-root PEM     root certificates of time-stamping authorities that you trust; may come several times;
                     without it time stamps are the operator's word
  --root-only        leave out MD5 and the other digests of the record, which take ten times as long on large
                     files; the object root, which is always checked, covers every byte
  --json             print JSON
  --report OUT.html  write a page to read and print
  --help, --version

Exit code: 0 everything that was checked holds, 1 something does not, 2 the input can't be judged,
141 whoever reads the output went away before its end, so that there is no verdict.
";

/// A command line that can't be understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArgumentError {
    #[error("no bundle given; see stele-verify --help")]
    NoBundle,
    #[error("{0:?}: one bundle and one file at most; see stele-verify --help")]
    TooMany(OsString),
    #[error("{0:?}: no such option; see stele-verify --help")]
    Unknown(OsString),
    #[error("{0}: needs a value, and comes once")]
    Value(&'static str),
    #[error("--range: two numbers as in 0-1023, first and last byte, not {0:?}")]
    Range(OsString),
    #[error("--object: a number from 1, not {0:?}")]
    Object(OsString),
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Help,
    Version,
    Verify(Arguments),
}

/// What to verify, and how to say it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) bundle: PathBuf,
    pub(crate) file: Option<PathBuf>,
    pub(crate) range: Option<ByteRange>,
    pub(crate) object: Option<usize>,
    pub(crate) policy: Option<PathBuf>,
    pub(crate) chains: Option<PathBuf>,
    pub(crate) tsa_roots: Vec<PathBuf>,
    pub(crate) root_only: bool,
    pub(crate) json: bool,
    pub(crate) report: Option<PathBuf>,
}

impl Arguments {
    pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Asked, ArgumentError> {
        let (mut found, mut places, mut words) = (Self::default(), Vec::new(), words);
        let mut options = true;
        while let Some(word) = words.next() {
            match word.to_str().filter(|_| options) {
                Some("--") => options = false,
                Some("--help" | "-h") => return Ok(Asked::Help),
                Some("--version") => return Ok(Asked::Version),
                Some("--json") => found.json = true,
                Some("--root-only") => found.root_only = true,
                Some("--range") => set(&mut found.range, "--range", words.next(), range)?,
                Some("--object") => set(&mut found.object, "--object", words.next(), object)?,
                Some("--policy") => set(&mut found.policy, "--policy", words.next(), path)?,
                Some("--chains") => set(&mut found.chains, "--chains", words.next(), path)?,
                Some("--tsa-root") => {
                    found.tsa_roots.push(path(words.next().ok_or(ArgumentError::Value("--tsa-root"))?)?);
                }
                Some("--report") => set(&mut found.report, "--report", words.next(), path)?,
                Some(option) if option.starts_with('-') => return Err(ArgumentError::Unknown(word)),
                _ if places.len() == 2 => return Err(ArgumentError::TooMany(word)),
                _ => places.push(PathBuf::from(word)),
            }
        }
        let mut places = places.into_iter();
        found.bundle = places.next().ok_or(ArgumentError::NoBundle)?;
        found.file = places.next();
        Ok(Asked::Verify(found))
    }
}

fn set<T>(
    place: &mut Option<T>,
    option: &'static str,
    value: Option<OsString>,
    read: fn(OsString) -> Result<T, ArgumentError>,
) -> Result<(), ArgumentError> {
    let value = read(value.ok_or(ArgumentError::Value(option))?)?;
    if place.replace(value).is_some() { Err(ArgumentError::Value(option)) } else { Ok(()) }
}

fn range(value: OsString) -> Result<ByteRange, ArgumentError> {
    value.to_str().and_then(ByteRange::parse).ok_or(ArgumentError::Range(value))
}

fn object(value: OsString) -> Result<usize, ArgumentError> {
    let digits = value.to_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|text| text.parse().ok()).filter(|number| *number > 0).ok_or(ArgumentError::Object(value))
}

#[expect(clippy::unnecessary_wraps, reason = "stands beside readers that refuse")]
fn path(value: OsString) -> Result<PathBuf, ArgumentError> {
    Ok(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Asked, ArgumentError> {
        Arguments::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn every_option_in_any_order() {
        let expected = Arguments {
            bundle: "b".into(),
            file: Some("f".into()),
            range: Some(ByteRange { first: 3, last: 9 }),
            object: Some(2),
            policy: Some("p".into()),
            chains: Some("c".into()),
            tsa_roots: vec!["r1".into(), "r2".into()],
            root_only: true,
            json: true,
            report: Some("r.html".into()),
        };
        let line = "--range 3-9 b --object 2 --tsa-root r1 --policy p f --root-only --chains c --tsa-root r2 --json \
                    --report r.html";
        assert_eq!(parse(line), Ok(Asked::Verify(expected)));
        let dashed = Arguments { bundle: "-b".into(), ..Arguments::default() };
        assert_eq!(parse("-- -b"), Ok(Asked::Verify(dashed)));
        assert_eq!((parse("--help"), parse("b --version")), (Ok(Asked::Help), Ok(Asked::Version)));
    }

    #[test]
    fn other_lines_are_refused() {
        for (line, error) in [
            ("", ArgumentError::NoBundle),
            ("a b c", ArgumentError::TooMany("c".into())),
            ("a --jsn", ArgumentError::Unknown("--jsn".into())),
            ("a --policy", ArgumentError::Value("--policy")),
            ("a --tsa-root", ArgumentError::Value("--tsa-root")),
            ("a --chains c --chains c", ArgumentError::Value("--chains")),
            ("a --policy p --policy q", ArgumentError::Value("--policy")),
            ("a --range 9-3", ArgumentError::Range("9-3".into())),
            ("a --range 03-9", ArgumentError::Range("03-9".into())),
            ("a --range 3", ArgumentError::Range("3".into())),
            ("a --object 0", ArgumentError::Object("0".into())),
            ("a --object +1", ArgumentError::Object("+1".into())),
        ] {
            assert_eq!(parse(line), Err(error), "{line}");
        }
    }
}
