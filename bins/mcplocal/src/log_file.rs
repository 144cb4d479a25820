//! The log of an agent that runs in the background: a file of bounded size, with its predecessor beside it.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use mcpctl_owner::{
    PathError,
    file::{self, OpenMode},
};

/// Maximum size of the file, bytes; both files together have twice as many.
const MAX_BYTES: u64 = 8 << 20;

/// A log file for this user alone. At its limit it is renamed to `….1` and begun anew.
pub struct LogFile {
    path: PathBuf,
    max_bytes: u64,
    open: Mutex<Opened>,
}

/// The lock of a [`LogFile`], for one event.
pub struct Writer<'a> {
    log: &'a LogFile,
    open: MutexGuard<'a, Opened>,
}

struct Opened {
    file: File,
    bytes: u64,
}

impl LogFile {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// When it cannot be written, or another user could change it.
    pub fn open(path: &Path) -> Result<Self, PathError> {
        Self::with_limit(path, MAX_BYTES)
    }

    fn with_limit(path: &Path, max_bytes: u64) -> Result<Self, PathError> {
        let file = file::open_own(path, OpenMode::Append)?;
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        Ok(Self { path: path.to_owned(), max_bytes, open: Mutex::new(Opened { file, bytes }) })
    }

    fn rotate(&self) -> io::Result<Opened> {
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        match std::fs::rename(&self.path, old) {
            // Deleted, or renamed before the new one could be opened.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed?,
        }
        let file = file::open_own(&self.path, OpenMode::Append).map_err(io::Error::other)?;
        Ok(Opened { file, bytes: 0 })
    }
}

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.open.bytes > 0 && self.open.bytes.saturating_add(length) > self.log.max_bytes {
            *self.open = self.log.rotate()?;
        }
        let written = self.open.file.write(bytes)?;
        self.open.bytes = self.open.bytes.saturating_add(u64::try_from(written).unwrap_or(u64::MAX));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.open.file.flush()
    }
}

impl<'a> mcpctl_telemetry::MakeWriter<'a> for LogFile {
    type Writer = Writer<'a>;

    fn make_writer(&'a self) -> Writer<'a> {
        Writer { log: self, open: self.open.lock().unwrap_or_else(PoisonError::into_inner) }
    }
}

#[cfg(test)]
mod tests {
    use mcpctl_telemetry::MakeWriter as _;

    use super::*;

    #[test]
    fn log_file_has_a_limit_and_one_predecessor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = LogFile::with_limit(&path, 32).unwrap();
        for line in 0..100 {
            writeln!(log.make_writer(), "line {line:3}").unwrap();
        }
        drop(log);
        let log = LogFile::with_limit(&path, 32).unwrap();
        writeln!(log.make_writer(), "line 100").unwrap();
        let (old, new) = (dir.path().join("log.1"), std::fs::read_to_string(&path).unwrap());
        assert!(new.ends_with("line 100\n") && new.len() <= 32, "{new}");
        assert!(std::fs::read_to_string(old).unwrap().len() <= 32);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn deleted_log_file_is_made_again_at_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = LogFile::with_limit(&path, 32).unwrap();
        writeln!(log.make_writer(), "{}", "x".repeat(30)).unwrap();
        std::fs::remove_file(&path).unwrap();
        writeln!(log.make_writer(), "line").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "line\n");
    }
}
