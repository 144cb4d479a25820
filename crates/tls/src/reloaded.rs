//! What was made of files, and is made again when one of them changes. A change that cannot be used keeps what was there.

use std::{
    fmt, fs,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use crate::TlsError;

/// What a look at the files has found.
#[derive(Debug)]
pub enum Refreshed {
    /// They are the same.
    Unchanged,
    /// They changed, and what they hold is used from now on.
    Replaced,
    /// They changed, and cannot be used; what was there before is used.
    Refused(TlsError),
}

/// A value that is made of files.
pub(crate) struct Reloaded<T> {
    paths: Vec<PathBuf>,
    read: Box<dyn Fn() -> Result<T, TlsError> + Send + Sync>,
    state: Mutex<State<T>>,
}

struct State<T> {
    stamps: Vec<Stamp>,
    current: Arc<T>,
    /// Why the files as they are now are not in use.
    refused: Option<String>,
}

/// What shows a change of a file without reading it: its time, size and identity. `None` where it is not there.
type Stamp = Option<(SystemTime, u64, u64)>;

impl<T> Reloaded<T> {
    /// Makes the value of the files.
    ///
    /// # Errors
    /// When they cannot be used.
    pub(crate) fn new(
        paths: Vec<PathBuf>,
        read: impl Fn() -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        // Before they are read, so that a change meanwhile is seen by the next look.
        let stamps = stamps(&paths);
        let state = Mutex::new(State { stamps, current: Arc::new(read()?), refused: None });
        Ok(Self { paths, read: Box::new(read), state })
    }

    /// The value.
    pub(crate) fn current(&self) -> Arc<T> {
        Arc::clone(&self.lock().current)
    }

    /// Why the files as they were at the last look are not in use.
    pub(crate) fn refused(&self) -> Option<String> {
        self.lock().refused.clone()
    }

    /// Looks at the files, and makes the value again where one has changed. Blocks.
    pub(crate) fn refresh(&self) -> Refreshed {
        let stamps = stamps(&self.paths);
        {
            let mut state = self.lock();
            if state.stamps == stamps {
                return Refreshed::Unchanged;
            }
            state.stamps = stamps;
        }
        match (self.read)() {
            Ok(value) => {
                let mut state = self.lock();
                state.current = Arc::new(value);
                state.refused = None;
                Refreshed::Replaced
            }
            Err(error) => {
                self.lock().refused = Some(error.to_string());
                Refreshed::Refused(error)
            }
        }
    }

    /// The value, after a look at the files. A change that cannot be used is logged once.
    pub(crate) fn refreshed(&self) -> Arc<T> {
        match self.refresh() {
            Refreshed::Refused(error) => {
                tracing::warn!(%error, hint = error.hint(), "changed TLS files cannot be used; the former ones stay");
            }
            Refreshed::Replaced => tracing::info!("changed TLS files are in use"),
            Refreshed::Unchanged => {}
        }
        self.current()
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Reloaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloaded").field("paths", &self.paths).finish_non_exhaustive()
    }
}

/// Follows links, so that a link that is pointed elsewhere is a change, as Kubernetes does with secrets.
fn stamps(paths: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let file = fs::metadata(path).ok()?;
        Some((file.modified().ok()?, file.len(), file.ino()))
    };
    paths.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_that_cannot_be_used_keeps_the_former_value() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "one").unwrap();
        let read = {
            let path = path.clone();
            move || match fs::read_to_string(&path) {
                Ok(text) if text != "bad" => Ok(text),
                _ => Err(TlsError::Half { given: "a", missing: "b" }),
            }
        };
        let value = Reloaded::new(vec![path.clone()], read).unwrap();
        assert!(matches!(value.refresh(), Refreshed::Unchanged));
        fs::write(&path, "bad").unwrap();
        // Another time even where the file system's clock is coarse.
        let write = |text: &str| {
            fs::remove_file(&path).unwrap();
            fs::write(dir.path().join("next"), text).unwrap();
            fs::rename(dir.path().join("next"), &path).unwrap();
        };
        write("bad!");
        assert!(matches!(value.refresh(), Refreshed::Replaced));
        assert_eq!(*value.current(), "bad!");
        write("bad");
        assert!(matches!(value.refresh(), Refreshed::Refused(_)));
        assert!(matches!(value.refresh(), Refreshed::Unchanged), "reported once");
        assert_eq!(*value.current(), "bad!");
        write("three");
        assert_eq!(*value.refreshed(), "three");
        fs::remove_file(&path).unwrap();
        assert_eq!(*value.refreshed(), "three");
    }
}
