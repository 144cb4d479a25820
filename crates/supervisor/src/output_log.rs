//! The output of one program: bounded files per start, the files of the previous start, and the last lines in memory.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::fcntl::OFlag;

use crate::redaction::Redactor;

/// A file of this size becomes the older one, which replaces the older one before it: programs can write a lot.
const MAX_FILE_BYTES: u64 = 8 << 20;
/// Lines that are kept in memory.
const MAX_TAIL_LINES: usize = 200;
/// Longer lines are cut.
pub(crate) const MAX_LINE_BYTES: usize = 4096;

/// The log of a program's output.
pub struct OutputLog {
    path: PathBuf,
    older: PathBuf,
    previous: PathBuf,
    start: Mutex<StartLog>,
}

/// The log of the current start.
#[derive(Default)]
struct StartLog {
    file: Option<File>,
    written: u64,
    tail: VecDeque<String>,
    redactor: Redactor,
}

impl OutputLog {
    /// The log of the program `name` in a directory. Creates no file.
    pub fn new(directory: &Path, name: &str) -> Self {
        Self {
            path: directory.join(format!("{name}.log")),
            // No program's name contains `@`.
            older: directory.join(format!("{name}@older.log")),
            previous: directory.join(format!("{name}@previous.log")),
            start: Mutex::default(),
        }
    }

    /// The file of the current start.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The older part of the current start's output; there is none before the file has reached 8 MiB.
    pub fn older(&self) -> &Path {
        &self.older
    }

    /// The file of the previous start.
    pub fn previous(&self) -> &Path {
        &self.previous
    }

    /// Begins the log of a new start. None of the `secrets` ever gets into it.
    pub fn begin(&self, secrets: Vec<String>) {
        let mut start = self.lock();
        let _ = std::fs::rename(&self.path, &self.previous);
        let _ = std::fs::remove_file(&self.older);
        *start =
            StartLog { file: create(&self.path), redactor: Redactor::new(secrets), ..StartLog::default() };
    }

    /// Adds a line without secrets and not longer than 4 KiB, and returns it as it was added.
    pub fn line(&self, line: &str) -> String {
        let mut start = self.lock();
        let start = &mut *start;
        // Redacted before it is cut, so that no part of a secret is left at the cut.
        let mut line = start.redactor.redact(line);
        line.truncate(line.floor_char_boundary(MAX_LINE_BYTES));
        if start.written >= MAX_FILE_BYTES {
            let _ = std::fs::rename(&self.path, &self.older);
            (start.file, start.written) = (create(&self.path), 0);
        }
        if let Some(file) = &mut start.file {
            start.written = append(file, start.written, &line).unwrap_or(start.written);
        }
        if start.tail.len() >= MAX_TAIL_LINES {
            start.tail.pop_front();
        }
        start.tail.push_back(line.clone());
        line
    }

    /// The last lines, at most 200.
    pub fn tail(&self, lines: usize) -> String {
        let start = self.lock();
        let skip = start.tail.len().saturating_sub(lines);
        start.tail.iter().skip(skip).cloned().collect::<Vec<_>>().join("\n")
    }

    /// The last line that is not blank; empty where there is none.
    pub fn last_line(&self) -> String {
        let start = self.lock();
        start.tail.iter().rev().find(|line| !line.trim().is_empty()).cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, StartLog> {
        self.start.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends a whole line, or none, to a file of whole lines, and returns the file's new length. First cuts off the part of
/// a line that a full disk left, so that the next line is not joined to it.
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
    // Follows no link, and doesn't wait for the reader of a pipe.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600).custom_flags(flags.bits());
    let file = options.open(path).and_then(|file| file.set_len(0).map(|()| file));
    let path = path.display();
    file.inspect_err(|error| tracing::warn!(%path, %error, "a program's log cannot be written")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(directory: &Path, secrets: &[&str]) -> OutputLog {
        let log = OutputLog::new(directory, "e");
        log.begin(secrets.iter().map(|&secret| secret.to_owned()).collect());
        log
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn log_of_previous_start_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let log = begun(dir.path(), &[]);
        log.line("first start");
        log.begin(Vec::new());
        assert_eq!(log.last_line(), "");
        log.line("second start");
        log.line("  ");
        assert_eq!(
            (read(log.previous()), read(log.path())),
            ("first start\n".into(), "second start\n  \n".into())
        );
        assert_eq!((log.tail(5), log.last_line()), ("second start\n  ".into(), "second start".into()));
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
        // A file that its owner emptied stays empty, without a hole where lines were.
        other.set_len(0).unwrap();
        log.line("third");
        assert_eq!(read(log.path()), "third\n");
    }

    #[test]
    fn secrets_are_redacted_also_where_a_line_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let log = begun(dir.path(), &["k3y", "", "k3y-and-more"]);
        log.line("the keys are k3y and k3y-and-more, both of them");
        log.line(&format!("{}k3y", "x".repeat(MAX_LINE_BYTES - 2)));
        let text = read(log.path());
        assert!(text.starts_with("the keys are [redacted] and [redacted], both of them\n"), "{text}");
        assert!(!text.contains("k3"), "{text}");
        assert!(!log.tail(9).contains("k3"));
    }

    #[test]
    fn tail_and_lines_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let log = begun(dir.path(), &[]);
        for n in 0..MAX_TAIL_LINES + 10 {
            log.line(&format!("line {n}"));
        }
        log.line(&"ä".repeat(MAX_LINE_BYTES));
        assert_eq!(log.tail(usize::MAX).lines().count(), MAX_TAIL_LINES);
        assert!(log.tail(1).len() <= MAX_LINE_BYTES);
    }

    #[test]
    fn files_are_bounded_and_keep_the_newest_lines() {
        let dir = tempfile::tempdir().unwrap();
        let log = begun(dir.path(), &[]);
        let lines = 2 * MAX_FILE_BYTES / MAX_LINE_BYTES as u64 + 20;
        for n in 0..lines {
            log.line(&format!("{n:0>width$}", width = MAX_LINE_BYTES));
        }
        let sizes: Vec<u64> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|file| file.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|size| *size <= MAX_FILE_BYTES + MAX_LINE_BYTES as u64 + 1), "{sizes:?}");
        assert!(read(log.path()).trim_end().ends_with(&(lines - 1).to_string()));
    }
}
