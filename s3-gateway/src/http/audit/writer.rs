//! [`Auditor`]: takes lines from requests without waiting, and one thread that writes them into a [`Sink`].
//!
//! A sink that fails is tried again every second; until then lines wait, and past the backlog's bound they are
//! counted and the gap is told by a line of its own. A strict auditor has requests refused instead: see
//! docs/decisions/0008-when-the-audit-log-cannot-be-written.md.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use stele_types::seam::Clock;

use super::backlog::{BACKLOG_BYTES_MAX, Backlog, Batch, Room};
use super::record::{Lost, line};
use crate::http::guard::Refusal;

/// Pause before a sink that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// More than the longest line of one request: the longest key with every byte escaped, and the rest.
pub(super) const LINE_BYTES_MAX: usize = 10 * 1024;

/// Where lines go. Called by one thread only.
pub trait Sink: Send + 'static {
    /// Writes a beginning of `bytes`; returns how many bytes.
    ///
    /// # Errors
    /// What the system says; the rest is written again later.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Opens the place anew, as somebody may have moved the file away.
    ///
    /// # Errors
    /// What the system says; what was open stays in use.
    fn reopen(&mut self) -> io::Result<()>;
}

/// How an auditor behaves.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    /// Requests are refused while their line could be lost.
    pub strict: bool,
    /// Access keys that exist: others that requests name are not written down.
    pub known_keys: Vec<String>,
}

#[derive(Debug)]
struct State {
    backlog: Backlog,
    reopen: bool,
    closed: bool,
}

#[derive(Debug, Default)]
struct Counts {
    written: Counter,
    lost: Counter,
    failures: Counter,
    waiting: Gauge,
}

#[derive(Debug)]
struct Shared {
    config: AuditConfig,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    changed: Condvar,
    failing: AtomicBool,
    counts: Counts,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// Takes lines. Clones share one backlog and one writer.
#[derive(Clone)]
pub struct Auditor(Arc<Shared>);

impl fmt::Debug for Auditor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auditor").field("strict", &self.0.config.strict).finish_non_exhaustive()
    }
}

impl Auditor {
    /// Starts the writer's thread.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(config: AuditConfig, clock: Arc<dyn Clock>, sink: impl Sink) -> io::Result<Self> {
        let state = State { backlog: Backlog::new(BACKLOG_BYTES_MAX), reopen: false, closed: false };
        let shared = Arc::new(Shared {
            config,
            clock,
            state: Mutex::new(state),
            changed: Condvar::new(),
            failing: AtomicBool::new(false),
            counts: Counts::default(),
            writer: Mutex::new(None),
        });
        let mut writer = Writer { shared: Arc::clone(&shared), sink };
        let thread = std::thread::Builder::new().name("audit".into()).spawn(move || writer.run())?;
        *shared.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(Self(shared))
    }

    /// Has the sink opened anew before the next line.
    pub fn reopen(&self) {
        self.0.state().reopen = true;
        self.0.changed.notify_one();
    }

    /// Ends the writer; what waits is tried once more. Lines that come later are lost.
    pub fn close(&self) {
        self.0.state().closed = true;
        self.0.changed.notify_one();
        let thread = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the writer of the audit log failed");
        }
    }

    /// Adds the counters to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let audit = registry.sub_registry_with_prefix("audit");
        let counts = &self.0.counts;
        audit.register("lines_written", "Lines of the audit log written", counts.written.clone());
        audit.register("lines_lost", "Lines of the audit log that found no room", counts.lost.clone());
        audit.register("write_failures", "Failed attempts to write the audit log", counts.failures.clone());
        audit.register("waiting_bytes", "Bytes of lines that wait to be written", counts.waiting.clone());
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        self.0.clock.as_ref()
    }

    pub(super) fn knows(&self, access_key: &str) -> bool {
        self.0.config.known_keys.iter().any(|known| known == access_key)
    }

    /// Room for the line of a request that is about to begin.
    ///
    /// # Errors
    /// What to answer instead of carrying it out: only of a strict auditor.
    pub(super) fn admit(&self) -> Result<Room, Refusal> {
        self.reserve(LINE_BYTES_MAX)
    }

    /// Room for more lines of a request.
    ///
    /// # Errors
    /// As [`Self::admit`].
    pub(super) fn reserve(&self, bytes: usize) -> Result<Room, Refusal> {
        if !self.0.config.strict {
            return Ok(Room::default());
        }
        let failing = self.0.failing.load(Ordering::Relaxed);
        let room = if failing { None } else { self.0.state().backlog.reserve(bytes) };
        room.ok_or_else(|| Refusal {
            status: 503,
            code: "ServiceUnavailable",
            message: "The audit log can't be written; the request was not carried out. Please try again later."
                .to_owned(),
        })
    }

    pub(super) fn release(&self, room: Room) {
        self.0.state().backlog.release(room);
    }

    pub(super) fn push(&self, line: &[u8], room: &mut Room) {
        let mut state = self.0.state();
        let kept = !state.closed && state.backlog.push(line, room);
        self.0.counts.waiting.set(i64::try_from(state.backlog.bytes()).unwrap_or(i64::MAX));
        drop(state);
        if kept {
            self.0.changed.notify_one();
        } else {
            self.0.counts.lost.inc();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the writer does next.
struct Work {
    reopen: bool,
    batch: Option<Batch>,
    closed: bool,
}

struct Writer<S> {
    shared: Arc<Shared>,
    sink: S,
}

impl<S: Sink> Writer<S> {
    fn run(&mut self) {
        loop {
            let work = self.next();
            if work.reopen {
                self.reopen();
            }
            if let Some(batch) = work.batch {
                let mut bytes = Vec::new();
                if batch.lost > 0 {
                    bytes = line(&Lost::new(self.shared.clock.unix_millis(), batch.lost));
                }
                bytes.extend_from_slice(&batch.bytes);
                if !self.write(&bytes) {
                    return;
                }
                self.shared.counts.written.inc_by(batch.lines);
                let mut state = self.shared.state();
                state.backlog.written();
                self.shared.counts.waiting.set(i64::try_from(state.backlog.bytes()).unwrap_or(i64::MAX));
            } else if work.closed {
                return;
            }
        }
    }

    fn next(&self) -> Work {
        let mut state = self.shared.state();
        loop {
            let (reopen, closed) = (std::mem::take(&mut state.reopen), state.closed);
            let batch = state.backlog.take();
            if reopen || closed || batch.is_some() {
                return Work { reopen, batch, closed };
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Writes all of it, however long that takes; false if it was closed before that succeeded.
    fn write(&mut self, bytes: &[u8]) -> bool {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let error = match self.sink.write(rest) {
                Ok(written) if written > 0 => {
                    if self.shared.failing.swap(false, Ordering::Relaxed) {
                        tracing::info!("the audit log is written again");
                    }
                    at += written;
                    continue;
                }
                Ok(_) => io::Error::from(io::ErrorKind::WriteZero),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            self.note_failure(&error);
            let state = self.shared.state();
            if state.closed {
                tracing::error!("the audit log ends with lines that could not be written");
                return false;
            }
            let (mut state, _) = self.shared.changed.wait_timeout(state, RETRY).unwrap_or_else(PoisonError::into_inner);
            let reopen = std::mem::take(&mut state.reopen);
            drop(state);
            if reopen && self.reopen() {
                // The new file begins with a whole line.
                at = bytes
                    .get(..at)
                    .and_then(|done| done.iter().rposition(|byte| *byte == b'\n'))
                    .map_or(0, |end| end + 1);
            }
        }
        true
    }

    fn note_failure(&self, error: &io::Error) {
        self.shared.counts.failures.inc();
        if !self.shared.failing.swap(true, Ordering::Relaxed) {
            let then = if self.shared.config.strict {
                "requests are refused"
            } else {
                "lines wait, then are lost and counted"
            };
            tracing::error!(%error, then, "the audit log can't be written");
        }
    }

    fn reopen(&mut self) -> bool {
        match self.sink.reopen() {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, "the audit log could not be opened anew; the old file stays in use");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::clock;

    /// What a sink does with the next writes, and what it got. Each file begins with a reopening.
    #[derive(Clone, Debug, Default)]
    struct Disk(Arc<(Mutex<Disc>, Condvar)>);

    #[derive(Debug, Default)]
    struct Disc {
        full: bool,
        /// Bytes that one write takes.
        most: Option<usize>,
        files: Vec<Vec<u8>>,
        attempts: usize,
    }

    impl Disk {
        fn change(&self, change: impl FnOnce(&mut Disc)) {
            change(&mut self.0.0.lock().unwrap());
        }

        fn wait(&self, until: impl Fn(&Disc) -> bool) {
            let disc = self.0.0.lock().unwrap();
            drop(self.0.1.wait_while(disc, |disc| !until(disc)).unwrap());
        }

        fn text(&self) -> Vec<String> {
            let disc = self.0.0.lock().unwrap();
            disc.files.iter().map(|file| String::from_utf8(file.clone()).unwrap()).collect()
        }
    }

    impl Sink for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disc = self.0.0.lock().unwrap();
            disc.attempts += 1;
            self.0.1.notify_all();
            if disc.full {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            let taken = bytes.len().min(disc.most.unwrap_or(usize::MAX));
            if disc.files.is_empty() {
                disc.files.push(Vec::new());
            }
            disc.files.last_mut().unwrap().extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn reopen(&mut self) -> io::Result<()> {
            let mut disc = self.0.0.lock().unwrap();
            disc.files.push(Vec::new());
            self.0.1.notify_all();
            Ok(())
        }
    }

    fn auditor(strict: bool) -> (Auditor, Disk) {
        let disk = Disk::default();
        let config = AuditConfig { strict, known_keys: Vec::new() };
        (Auditor::start(config, clock(), disk.clone()).unwrap(), disk)
    }

    #[tokio::test]
    async fn lines_are_written_whole_and_in_order_whatever_one_write_takes() {
        let (auditor, disk) = auditor(false);
        disk.change(|disc| disc.most = Some(3));
        for number in 0..100 {
            auditor.push(format!("line {number}\n").as_bytes(), &mut Room::default());
        }
        auditor.close();
        let wanted: String = (0..100).map(|number| format!("line {number}\n")).collect();
        assert_eq!(disk.text(), [wanted]);
        assert_eq!(auditor.0.counts.written.get(), 100);
    }

    #[tokio::test]
    async fn a_full_disk_keeps_lines_then_counts_them_and_tells_the_gap() {
        let (auditor, disk) = auditor(false);
        disk.change(|disc| disc.full = true);
        auditor.push(b"first\n", &mut Room::default());
        disk.wait(|disc| disc.attempts > 0);
        let long = vec![b'x'; BACKLOG_BYTES_MAX - 1000];
        auditor.push(&long, &mut Room::default());
        for _ in 0..3 {
            auditor.push(&[b'y'; 2000], &mut Room::default());
        }
        assert!(auditor.admit().is_ok(), "requests go on");
        disk.change(|disc| disc.full = false);
        auditor.reopen();
        disk.wait(|disc| disc.files.last().is_some_and(|file| file.len() > BACKLOG_BYTES_MAX - 2000));
        auditor.close();
        let text = disk.text().concat();
        assert!(text.starts_with("first\n{\"time\":"), "{:?}", &text[..100]);
        assert!(text.contains("\"operation\":\"AuditLinesLost\",\"lines\":3}\nxxx") && !text.contains('y'));
        assert_eq!(auditor.0.counts.lost.get(), 3);
    }

    #[tokio::test]
    async fn a_strict_log_that_cannot_be_written_refuses_requests_until_it_can() {
        let (auditor, disk) = auditor(true);
        let mut room = auditor.admit().unwrap();
        disk.change(|disc| disc.full = true);
        auditor.push(b"one\n", &mut room);
        disk.wait(|disc| disc.attempts > 0);
        while auditor.admit().map(|room| auditor.release(room)).is_ok() {
            std::thread::yield_now();
        }
        let refused = auditor.admit().unwrap_err();
        assert_eq!((refused.status, refused.code), (503, "ServiceUnavailable"));
        auditor.push(b"two\n", &mut room);
        auditor.release(room);
        disk.change(|disc| disc.full = false);
        auditor.reopen();
        while auditor.admit().map(|room| auditor.release(room)).is_err() {
            std::thread::yield_now();
        }
        auditor.close();
        assert_eq!(disk.text().concat(), "one\ntwo\n");
    }

    #[tokio::test]
    async fn a_strict_log_without_room_refuses_requests() {
        let (auditor, _disk) = auditor(true);
        let mut rooms = Vec::new();
        let refused = loop {
            match auditor.admit() {
                Ok(room) => rooms.push(room),
                Err(refusal) => break refusal,
            }
        };
        assert_eq!((refused.status, rooms.len()), (503, BACKLOG_BYTES_MAX / LINE_BYTES_MAX));
        auditor.release(rooms.pop().unwrap());
        assert!(auditor.admit().is_ok());
        auditor.close();
    }

    #[tokio::test]
    async fn a_file_that_was_moved_away_ends_with_a_whole_line_and_so_begins_the_next() {
        let (auditor, disk) = auditor(false);
        auditor.push(b"old\n", &mut Room::default());
        disk.wait(|disc| !disc.files.is_empty());
        auditor.reopen();
        disk.wait(|disc| disc.files.len() == 2);
        auditor.push(b"new\n", &mut Room::default());
        auditor.close();
        assert_eq!(disk.text(), ["old\n", "new\n"]);
    }
}
