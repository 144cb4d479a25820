//! What was made of files, and is made again when one of them changes. A change that cannot be used keeps what was there.

use std::{
    fmt, fs,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
    /// What the files were when they were last read. Held while they are looked at and read, so that what an older look has read
    /// never replaces what a newer one has.
    stamps: Mutex<Vec<Stamp>>,
    state: Mutex<State<T>>,
}

struct State<T> {
    current: Arc<T>,
    /// Why the files as they are now are not in use.
    refused: Option<String>,
}

/// What shows a change of a file without reading it: the time of its last change, its size, its identity, its mode and its owner. `None` where it is not there.
type Stamp = Option<(i64, i64, u64, u64, u32, u32, u32)>;

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
        let stamps = Mutex::new(stamps(&paths));
        let state = Mutex::new(State { current: Arc::new(read()?), refused: None });
        Ok(Self { paths, read: Box::new(read), stamps, state })
    }

    /// The value.
    pub(crate) fn current(&self) -> Arc<T> {
        Arc::clone(&lock(&self.state).current)
    }

    /// Why the files as they were at the last look are not in use.
    pub(crate) fn refused(&self) -> Option<String> {
        lock(&self.state).refused.clone()
    }

    /// Looks at the files, and makes the value again where one has changed. Files that could not be used are read at each
    /// look, because the cause may be gone without a change of theirs. Blocks.
    pub(crate) fn refresh(&self) -> Refreshed {
        let mut read = lock(&self.stamps);
        let stamps = stamps(&self.paths);
        let refused = self.refused();
        let changed = *read != stamps;
        if !changed && refused.is_none() {
            return Refreshed::Unchanged;
        }
        *read = stamps;
        match (self.read)() {
            Ok(value) => {
                *lock(&self.state) = State { current: Arc::new(value), refused: None };
                Refreshed::Replaced
            }
            Err(error) => {
                let reason = Some(error.to_string());
                if !changed && refused == reason {
                    return Refreshed::Unchanged;
                }
                lock(&self.state).refused = reason;
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
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        // The time alone has too coarse a clock on many kernels.
        Some((file.ctime(), file.ctime_nsec(), file.len(), file.ino(), file.mode(), file.uid(), file.gid()))
    };
    paths.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::PermissionsExt as _,
        sync::{
            atomic::{AtomicBool, Ordering},
            mpsc,
        },
        thread,
        time::Duration,
    };

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
    #[test]
    fn refused_files_are_read_until_the_cause_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "one").unwrap();
        let reads_fail = Arc::new(AtomicBool::new(false));
        let read = {
            let (path, reads_fail) = (path.clone(), Arc::clone(&reads_fail));
            move || {
                let text = fs::read_to_string(&path).ok().filter(|_| !reads_fail.load(Ordering::Relaxed));
                text.ok_or(TlsError::Half { given: "a", missing: "b" })
            }
        };
        let value = Reloaded::new(vec![path.clone()], read).unwrap();
        fs::write(&path, "two!").unwrap();
        reads_fail.store(true, Ordering::Relaxed);
        assert!(matches!(value.refresh(), Refreshed::Refused(_)));
        assert!(matches!(value.refresh(), Refreshed::Unchanged), "reported once");
        assert!(value.refused().is_some());
        reads_fail.store(false, Ordering::Relaxed);
        assert!(matches!(value.refresh(), Refreshed::Replaced));
        assert!((value.refused(), value.current().as_str()) == (None, "two!"));
    }

    #[test]
    fn changed_mode_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "one").unwrap();
        let mode = {
            let path = path.clone();
            move || Ok(fs::metadata(&path).unwrap().mode() & 0o777)
        };
        let value = Reloaded::new(vec![path.clone()], mode).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(*value.refreshed(), 0o600);
    }

    #[test]
    fn older_look_does_not_replace_what_a_newer_one_has_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "1").unwrap();
        let (has_read, reads) = mpsc::channel();
        let (go_on, goes_on) = mpsc::channel();
        let goes_on = Mutex::new(goes_on);
        let read = {
            let path = path.clone();
            move || {
                let text = fs::read_to_string(&path).unwrap();
                if text == "22" {
                    has_read.send(()).unwrap();
                    lock(&goes_on).recv().unwrap();
                }
                Ok(text)
            }
        };
        let value = Reloaded::new(vec![path.clone()], read).unwrap();
        fs::write(&path, "22").unwrap();
        thread::scope(|scope| {
            scope.spawn(|| value.refresh());
            reads.recv().unwrap();
            fs::write(&path, "333").unwrap();
            let (done, is_done) = mpsc::channel();
            let value = &value;
            scope.spawn(move || done.send(value.refresh()));
            // It waits for the look that is under way; without that it would be done by now.
            let _early = is_done.recv_timeout(Duration::from_millis(200));
            go_on.send(()).unwrap();
        });
        assert_eq!(*value.current(), "333");
    }
}
