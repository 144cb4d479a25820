//! The log of one engine: a bounded file per start, the one before kept, and the last lines at hand for errors.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Bytes after which nothing more is written to a file: engines can be very talkative.
const FILE_MAX: u64 = 16 << 20;
/// Lines kept at hand.
const TAIL: usize = 200;
/// Longest line kept, bytes.
const LINE_MAX: usize = 4096;

pub(crate) struct EngineLog {
    path: PathBuf,
    previous: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    file: Option<File>,
    written: u64,
    tail: VecDeque<String>,
    secret: Option<String>,
}

impl EngineLog {
    pub(crate) fn new(dir: &Path, name: &str) -> Self {
        Self {
            path: dir.join(format!("{name}.log")),
            previous: dir.join(format!("{name}.previous.log")),
            inner: Mutex::default(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn previous(&self) -> &Path {
        &self.previous
    }

    /// Begins the log of a new start; `secret` never gets into it.
    pub(crate) fn begin(&self, secret: &str) {
        let _ = std::fs::rename(&self.path, &self.previous);
        let file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&self.path);
        let file =
            file.inspect_err(|error| tracing::warn!(%error, "the engine's log cannot be written")).ok();
        let mut inner = self.lock();
        *inner = Inner { file, secret: Some(secret.to_owned()), ..Inner::default() };
    }

    pub(crate) fn line(&self, line: &str) {
        let mut inner = self.lock();
        let mut end = line.len().min(LINE_MAX);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        let mut line = line.get(..end).unwrap_or_default().to_owned();
        if let Some(secret) = inner.secret.as_deref().filter(|secret| line.contains(*secret)) {
            line = line.replace(secret, "[redacted]");
        }
        if inner.written < FILE_MAX
            && let Some(file) = &mut inner.file
            && writeln!(file, "{line}").is_ok()
        {
            inner.written += line.len() as u64 + 1;
        }
        if inner.tail.len() >= TAIL {
            inner.tail.pop_front();
        }
        inner.tail.push_back(line);
    }

    pub(crate) fn tail(&self, lines: usize) -> String {
        let inner = self.lock();
        let skip = inner.tail.len().saturating_sub(lines);
        inner.tail.iter().skip(skip).cloned().collect::<Vec<_>>().join("\n")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_start_and_hides_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let log = EngineLog::new(dir.path(), "e");
        log.begin("k3y");
        log.line("first start");
        log.begin("k3y");
        log.line("the key is k3y, they say");
        assert_eq!(std::fs::read_to_string(log.previous()).unwrap(), "first start\n");
        assert_eq!(std::fs::read_to_string(log.path()).unwrap(), "the key is [redacted], they say\n");
        assert_eq!(log.tail(5), "the key is [redacted], they say");
    }

    #[test]
    fn the_tail_and_lines_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let log = EngineLog::new(dir.path(), "e");
        log.begin("k");
        for n in 0..TAIL + 10 {
            log.line(&format!("line {n}"));
        }
        log.line(&"ä".repeat(LINE_MAX));
        assert_eq!(log.tail(usize::MAX).lines().count(), TAIL);
        assert!(log.tail(1).len() <= LINE_MAX);
    }
}
