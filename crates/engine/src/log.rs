//! The log of one engine: bounded files per start, the start before kept, and the last lines at hand for errors.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use nix::fcntl::OFlag;
use tokio::{sync::watch, time::Instant};

use crate::{cause, progress, status::StartPhase};

/// Bytes of a file; then it becomes the older part, and the older part before it goes. Engines can be very talkative.
const FILE_MAX: u64 = 8 << 20;
/// Lines kept at hand.
const TAIL: usize = 200;
/// Longest line kept, bytes.
const LINE_MAX: usize = 4096;
/// Of what an error repeats, characters.
const SAID_MAX: usize = 300;
/// An engine that complained longer ago has gone on since, so it was not that.
const COMPLAINT: Duration = Duration::from_secs(60);

pub(crate) struct EngineLog {
    path: PathBuf,
    older: PathBuf,
    previous: PathBuf,
    inner: Mutex<Inner>,
    /// How far the start is, by the last line that told.
    told: watch::Sender<Option<(StartPhase, Option<u8>)>>,
}

#[derive(Default)]
struct Inner {
    file: Option<File>,
    written: u64,
    tail: VecDeque<String>,
    secrets: Vec<String>,
    /// The first of its last complaints, and whether the next line may belong to it.
    complaint: Option<(Instant, String)>,
    complaining: bool,
}

impl Inner {
    /// Keeps the first complaint until it is too old to be what the engine ends of.
    fn listen(&mut self, line: &str) {
        if let (true, Some((_, said))) = (self.complaining, &mut self.complaint)
            && let Some(explained) = cause::explanation(said, line)
        {
            *said = explained.to_owned();
        }
        let recent = self.complaint.as_ref().is_some_and(|(at, _)| at.elapsed() < COMPLAINT);
        let complaint = cause::complaint(line).filter(|_| !recent);
        self.complaining = complaint.is_some();
        if let Some(complaint) = complaint {
            self.complaint = Some((Instant::now(), complaint.to_owned()));
        }
    }
}

impl EngineLog {
    pub(crate) fn new(dir: &Path, name: &str) -> Self {
        Self {
            path: dir.join(format!("{name}.log")),
            // With what no engine has in its name.
            older: dir.join(format!("{name}@older.log")),
            previous: dir.join(format!("{name}@previous.log")),
            inner: Mutex::default(),
            told: watch::Sender::new(None),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn older(&self) -> &Path {
        &self.older
    }

    pub(crate) fn previous(&self) -> &Path {
        &self.previous
    }

    /// Hears how far the start is, by what the engine writes.
    pub(crate) fn told(&self) -> watch::Receiver<Option<(StartPhase, Option<u8>)>> {
        self.told.subscribe()
    }

    /// Begins the log of a new start; none of the `secrets` ever gets into it.
    pub(crate) fn begin(&self, secrets: Vec<String>) {
        let mut inner = self.lock();
        self.told.send_replace(None);
        let _ = std::fs::rename(&self.path, &self.previous);
        let _ = std::fs::remove_file(&self.older);
        *inner = Inner { file: create(&self.path), secrets, ..Inner::default() };
        inner.secrets.retain(|secret| !secret.is_empty());
        // The longest first, so that a secret that contains another is not left in pieces.
        inner.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    /// Adds a line, and gives it back as it stands there.
    pub(crate) fn line(&self, line: &str) -> String {
        if let Some(told) = progress::told_by(line) {
            self.told.send_replace(Some(told));
        }
        let mut inner = self.lock();
        let inner = &mut *inner;
        // Before it is cut, so that no part of a secret is left at the cut.
        let mut line =
            inner.secrets.iter().fold(line.to_owned(), |line, secret| line.replace(secret, "[redacted]"));
        line.truncate(line.floor_char_boundary(LINE_MAX));
        if inner.written >= FILE_MAX {
            let _ = std::fs::rename(&self.path, &self.older);
            (inner.file, inner.written) = (create(&self.path), 0);
        }
        if let Some(file) = &mut inner.file {
            inner.written = append(file, inner.written, &line).unwrap_or(inner.written);
        }
        inner.listen(&line);
        if inner.tail.len() >= TAIL {
            inner.tail.pop_front();
        }
        inner.tail.push_back(line.clone());
        line
    }

    pub(crate) fn tail(&self, lines: usize) -> String {
        let inner = self.lock();
        let skip = inner.tail.len().saturating_sub(lines);
        inner.tail.iter().skip(skip).cloned().collect::<Vec<_>>().join("\n")
    }

    /// Why it ended, if it has: what it complained of, or else its last line.
    pub(crate) fn cause(&self) -> String {
        let inner = self.lock();
        let complaint = inner.complaint.as_ref().filter(|(at, _)| at.elapsed() < COMPLAINT);
        let last = || inner.tail.iter().rev().map(String::as_str).find(|line| !line.trim().is_empty());
        let said = complaint.map(|(_, said)| said.as_str()).or_else(last).unwrap_or_default();
        said.trim().chars().take(SAID_MAX).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends a whole line, or none, to a file of whole lines; returns its length then. What a full disk left of a line is
/// cut off first, so that the next one is not glued to it.
fn append(file: &mut File, written: u64, line: &str) -> io::Result<u64> {
    let length = file.metadata()?.len();
    if length > written {
        file.set_len(written)?;
    }
    let line = format!("{line}\n");
    let begin = length.min(written);
    file.write_all(line.as_bytes()).inspect_err(|_| {
        let _ = file.set_len(begin);
    })?;
    Ok(begin + line.len() as u64)
}

fn create(path: &Path) -> Option<File> {
    // Neither through a link nor waiting for the reader of a pipe.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600).custom_flags(flags.bits());
    let file = options.open(path).and_then(|file| file.set_len(0).map(|()| file));
    file.inspect_err(|error| tracing::warn!(%error, "the engine's log cannot be written")).ok()
}

/// Makes lines of what an engine writes. A carriage return ends one too: that is how progress bars are drawn, and a
/// model's loading is one. What is longer than any line is let go of, so that memory is bounded.
#[derive(Default)]
pub(crate) struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// More than a line, so that a secret at its end is whole when it is looked for.
    const HELD: usize = 2 * LINE_MAX;

    pub(crate) fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let (text, ends) = match piece.split_last() {
                Some((b'\n' | b'\r', text)) => (text, true),
                _ => (piece, false),
            };
            let room = Self::HELD.saturating_sub(self.begun.len());
            self.begun.extend(text.iter().take(room));
            if ends {
                self.end(&mut each);
            }
        }
    }

    /// What was begun and will not be ended any more.
    pub(crate) fn end(&mut self, mut each: impl FnMut(&str)) {
        let line = String::from_utf8_lossy(&self.begun).trim_end().to_owned();
        self.begun.clear();
        if !line.is_empty() {
            each(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(dir: &Path, secrets: &[&str]) -> EngineLog {
        let log = EngineLog::new(dir, "e");
        log.begin(secrets.iter().map(|&secret| secret.to_owned()).collect());
        log
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn keeps_the_start_before() {
        let dir = tempfile::tempdir().unwrap();
        let log = begun(dir.path(), &[]);
        log.line("first start");
        log.begin(Vec::new());
        log.line("second start");
        assert_eq!(
            (read(log.previous()), read(log.path())),
            ("first start\n".into(), "second start\n".into())
        );
        assert_eq!(log.tail(5), "second start");
    }

    #[test]
    fn torn_line_is_cut_off_before_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let log = begun(dir.path(), &[]);
        log.line("first");
        let mut other = OpenOptions::new().append(true).open(log.path()).unwrap();
        other.write_all(b"half a li").unwrap();
        log.line("second");
        assert_eq!(read(log.path()), "first\nsecond\n");
        // What its owner emptied stays empty, without a hole where lines were.
        other.set_len(0).unwrap();
        log.line("third");
        assert_eq!(read(log.path()), "third\n");
    }

    #[test]
    fn hides_every_secret_also_where_a_line_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let log = begun(dir.path(), &["k3y", "", "k3y-and-more"]);
        log.line("the keys are k3y and k3y-and-more, they say");
        log.line(&format!("{}k3y", "x".repeat(LINE_MAX - 2)));
        let text = read(log.path());
        assert!(text.starts_with("the keys are [redacted] and [redacted], they say\n"), "{text}");
        assert!(!text.contains("k3"), "{text}");
        assert!(!log.tail(9).contains("k3"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_recent_complaint_is_the_cause_and_else_the_last_line() {
        let dir = tempfile::tempdir().unwrap();
        let log = begun(dir.path(), &["s3cr3t-key"]);
        assert_eq!(log.cause(), "");
        log.line("all is well");
        assert_eq!(log.cause(), "all is well");
        log.line("ValueError: no s3cr3t-key fits");
        log.line("RuntimeError: it did not start");
        log.line("goodbye");
        assert_eq!(log.cause(), "ValueError: no [redacted] fits");
        // It went on for long: it ends for another reason.
        tokio::time::advance(COMPLAINT).await;
        assert_eq!(log.cause(), "goodbye");
        log.line("MemoryError: no more");
        assert_eq!(log.cause(), "MemoryError: no more");
        log.begin(Vec::new());
        assert_eq!(log.cause(), "");
        log.line("ValidationError: 1 validation error for ModelConfig");
        log.line("  Value error, it is too long");
        log.line("  Value error, that is not the first");
        assert_eq!(log.cause(), "Value error, it is too long");
    }

    #[test]
    fn the_tail_and_lines_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let log = begun(dir.path(), &[]);
        for n in 0..TAIL + 10 {
            log.line(&format!("line {n}"));
        }
        log.line(&"ä".repeat(LINE_MAX));
        assert_eq!(log.tail(usize::MAX).lines().count(), TAIL);
        assert!(log.tail(1).len() <= LINE_MAX);
    }

    #[test]
    fn files_are_bounded_and_the_newest_lines_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let log = begun(dir.path(), &[]);
        let lines = 2 * FILE_MAX / LINE_MAX as u64 + 20;
        for n in 0..lines {
            log.line(&format!("{n:0>width$}", width = LINE_MAX));
        }
        let sizes: Vec<u64> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|file| file.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|size| *size <= FILE_MAX + LINE_MAX as u64 + 1), "{sizes:?}");
        assert!(read(log.path()).trim_end().ends_with(&(lines - 1).to_string()));
    }

    #[test]
    fn lines_end_with_either_return_and_are_put_together_from_pieces() {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        for piece in [&b"load"[..], b"ing\r\n10%\r", b"20%\r\n\n", b"the end"] {
            lines.push(piece, |line| seen.push(line.to_owned()));
        }
        lines.end(|line| seen.push(line.to_owned()));
        assert_eq!(seen, ["loading", "10%", "20%", "the end"]);
    }

    #[test]
    fn a_line_without_end_is_not_held_whole() {
        let mut lines = Lines::default();
        for _ in 0..100 {
            lines.push(&[b'x'; LINE_MAX], |_| panic!("it did not end"));
        }
        let mut length = 0;
        lines.push(b"\n", |line| length = line.len());
        assert_eq!(length, Lines::HELD);
    }
}
