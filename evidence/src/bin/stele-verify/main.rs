//! `stele-verify`: judges an evidence bundle without any network. Exit code 0: everything that was checked
//! holds; 1: something does not; 2: there was nothing to judge; 141: nobody read the output to its end.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use stele_evidence::bundle::files::ReadSeek;
use stele_evidence::bundle::report::visible;
use stele_evidence::bundle::verify::{Request, verify};
use stele_evidence::chain::trust::CHAINS_MAX;
use stele_evidence::policy::POLICY_MAX;
use stele_evidence::timestamp::roots::ROOTS_MAX;

use crate::arguments::{Arguments, Asked, HELP};
use crate::directory::Directory;

mod arguments;
mod directory;

const UNUSABLE: u8 = 2;
const MISMATCH: u8 = 1;
/// What shells say of a program that SIGPIPE ended.
const UNREAD: u8 = 141;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(message) => {
            // Where nobody hears it there is still the exit code.
            let _unheard = writeln!(io::stderr(), "stele-verify: {}", visible(&message));
            ExitCode::from(UNUSABLE)
        }
    }
}

fn run() -> Result<ExitCode, String> {
    let words = std::env::args_os().skip(1);
    let (text, consistent) = match Arguments::parse(words).map_err(|error| error.to_string())? {
        Asked::Help => (HELP.to_owned(), true),
        Asked::Version => (format!("{}\n", stele_evidence::bundle::report::VERIFIER), true),
        Asked::Verify(arguments) => judge(&arguments)?,
    };
    print(&mut io::stdout().lock(), &text, if consistent { 0 } else { MISMATCH }).map(ExitCode::from)
}

/// What there is to print, and whether all that was checked holds.
fn judge(arguments: &Arguments) -> Result<(String, bool), String> {
    let policy = arguments.policy.as_deref().map(|path| read(path, POLICY_MAX)).transpose()?;
    let chains = arguments.chains.as_deref().map(|path| read(path, CHAINS_MAX)).transpose()?;
    let tsa_roots = read_roots(&arguments.tsa_roots)?;
    let mut file = arguments.file.as_deref().map(|path| Ok::<_, String>((name(path), open(path)?))).transpose()?;
    let request = Request {
        policy: policy.as_deref(),
        chains: chains.as_deref(),
        tsa_roots: tsa_roots.as_deref(),
        object: arguments.object,
        range: arguments.range,
        root_only: arguments.root_only,
    };
    let brought = file.as_mut().map(|(name, file)| (name.as_str(), file as &mut dyn ReadSeek));
    let directory = Directory::new(&arguments.bundle);
    let report = verify(&directory, &request, brought).map_err(|error| error.to_string())?;
    if let Some(path) = &arguments.report {
        write_report(path, &report.to_html())?;
    }
    Ok((if arguments.json { report.to_json() } else { report.to_text() }, report.consistent()))
}

/// The only place that prints. The exit code: `verdict`, or that whoever reads went away, which is never a verdict.
fn print(out: &mut dyn io::Write, text: &str, verdict: u8) -> Result<u8, String> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(verdict),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(UNREAD),
        Err(error) => Err(format!("standard output: {error}")),
    }
}

/// How FILE is called in the report: its own name, as folders are the auditor's business.
fn name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

#[expect(clippy::disallowed_methods, reason = "the auditor's file, on the auditor's machine")]
fn open(path: &Path) -> Result<File, String> {
    File::open(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// One byte more than there may be, so that whoever reads it says that it is too large.
fn read(path: &Path, max: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = open(path)?.take(max as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(bytes)
}

/// All files as one; more than there may be is refused by whoever reads it.
fn read_roots(paths: &[PathBuf]) -> Result<Option<Vec<u8>>, String> {
    let mut all = Vec::new();
    for path in paths {
        all.append(&mut read(path, ROOTS_MAX.saturating_sub(all.len()))?);
        all.push(b'\n');
    }
    Ok(Some(all).filter(|_| !paths.is_empty()))
}

#[expect(clippy::disallowed_methods, reason = "the auditor's file, on the auditor's machine")]
fn write_report(path: &Path, page: &str) -> Result<(), String> {
    std::fs::write(path, page).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files in a temporary folder, not stored data")]
mod tests {
    use super::*;

    fn golden(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
    }

    /// A pipe whose reader takes so many bytes and goes away.
    struct Pipe(usize, io::ErrorKind);

    impl io::Write for Pipe {
        fn write(&mut self, part: &[u8]) -> io::Result<usize> {
            let taken = part.len().min(self.0);
            self.0 -= taken;
            if taken == 0 { Err(self.1.into()) } else { Ok(taken) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_goes_away_gets_no_verdict() {
        for verdict in [0, MISMATCH] {
            let print = |taken, kind| print(&mut Pipe(taken, kind), "text", verdict);
            assert_eq!(print(4, io::ErrorKind::BrokenPipe), Ok(verdict));
            assert_eq!(print(0, io::ErrorKind::BrokenPipe), Ok(UNREAD));
            assert_eq!(print(3, io::ErrorKind::BrokenPipe), Ok(UNREAD));
            assert!(print(3, io::ErrorKind::StorageFull).unwrap_err().contains("standard output"));
        }
    }

    #[test]
    fn golden_bundles_from_their_folders() {
        let folder = tempfile::tempdir().unwrap();
        let report = folder.path().join("report.html");
        for bundle in ["bundle-whole", "bundle-range", "bundle-deletion", "bundle-anchored", "bundle-stamped"] {
            let policy = Some(golden("bundle-whole/data/policy.txt"));
            let arguments = Arguments {
                bundle: golden(bundle),
                policy,
                tsa_roots: vec![golden("tsa/root-rsa.pem"), golden("tsa/root-p256.pem")],
                report: Some(report.clone()),
                ..Arguments::default()
            };
            let (text, consistent) = judge(&arguments).unwrap();
            assert!(consistent, "{text}");
            assert!(std::fs::read_to_string(&report).unwrap().ends_with("</html>\n"));
        }
    }

    #[test]
    fn chains_of_the_auditor_are_believed() {
        for (chains, believed) in [(Some(golden("chains.txt")), 3), (None, 0)] {
            let arguments = Arguments { bundle: golden("bundle-anchored"), chains, ..Arguments::default() };
            let (text, consistent) = judge(&arguments).unwrap();
            assert!(consistent);
            assert_eq!(
                text.matches("一致 A chain recorded the log at this time [verified now]").count(),
                believed,
                "{text}"
            );
        }
        let unreadable = Some(golden("bundle-whole/bagit.txt"));
        let arguments = Arguments { bundle: golden("bundle-anchored"), chains: unreadable, ..Arguments::default() };
        assert!(judge(&arguments).unwrap_err().contains("line 1"));
    }

    #[test]
    fn the_auditors_file_is_compared_under_its_own_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("exhibit.dcm");
        let mut bytes = std::fs::read(golden("bundle-whole/data/object-0001/payload.bin")).unwrap();
        for (change, expected) in [(0, true), (1, false)] {
            bytes[20] ^= change;
            std::fs::write(&file, &bytes).unwrap();
            let arguments = Arguments {
                bundle: golden("bundle-whole"),
                file: Some(file.clone()),
                json: true,
                ..Arguments::default()
            };
            let (text, consistent) = judge(&arguments).unwrap();
            assert_eq!(consistent, expected);
            assert!(text.contains("\"exhibit.dcm\"") && text.contains("bytes 17-28 differ") != expected, "{text}");
        }
        let missing = Arguments { bundle: folder.path().join("none"), ..Arguments::default() };
        assert!(judge(&missing).unwrap_err().contains("none"));
    }
}
