//! The files of the journal: whole lines only, in a file that is still the one that was opened, within a bound.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::{fcntl::OFlag, unistd::geteuid};

use super::error::JournalError;

/// Bytes read at once in the search for the end of the last whole line.
const CHUNK: u64 = 64 << 10;

/// The current file, and the one before it, `journal.jsonl.1`.
pub(super) struct JournalFile {
    path: PathBuf,
    max: u64,
    file: Arc<File>,
    /// Bytes of whole lines.
    length: u64,
    /// Bytes that are on the disk.
    synced: u64,
    /// Whether the disk refused a write of what follows them.
    suspect: bool,
}

/// A write to the disk of all that a file has.
pub(super) struct PendingSync {
    file: Arc<File>,
    path: PathBuf,
    length: u64,
    rewrite_from: Option<u64>,
}

impl PendingSync {
    /// Waits until all of it is on the disk.
    pub(super) fn run(&self) -> io::Result<()> {
        if let Some(from) = self.rewrite_from {
            self.rewrite(from)?;
        }
        self.file.sync_data()
    }

    /// Writes bytes anew that the disk refused: the kernel reports that once, and takes them for written from then on.
    fn rewrite(&self, from: u64) -> io::Result<()> {
        // Another descriptor, because this one writes at the file's end only.
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(&self.path)?;
        let (there, ours) = (file.metadata()?, self.file.metadata()?);
        if (there.dev(), there.ino()) != (ours.dev(), ours.ino()) {
            return Err(io::Error::other("another file is in its place"));
        }
        let mut at = from;
        while at < self.length {
            let bytes = usize::try_from((self.length - at).min(CHUNK)).unwrap_or(usize::MAX);
            let mut chunk = vec![0; bytes];
            file.read_exact_at(&mut chunk, at)?;
            file.write_all_at(&chunk, at)?;
            at = at.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        }
        Ok(())
    }
}

impl JournalFile {
    /// Opens or creates the file; each of the two has at most `max` bytes.
    pub(super) fn open(path: &Path, max: u64) -> Result<Self, JournalError> {
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .mode(0o600)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(path)?;
        check_mode(&file.metadata()?)?;
        let length = cut_torn_line(&file)?;
        sync_directory(path)?;
        Ok(Self { path: path.to_owned(), max, file: Arc::new(file), length, synced: 0, suspect: false })
    }

    /// The write to the disk of all that it has; [`JournalFile::synced`] gets the result.
    pub(super) fn pending_sync(&self) -> PendingSync {
        let rewrite_from = self.suspect.then_some(self.synced);
        PendingSync {
            file: Arc::clone(&self.file),
            path: self.path.clone(),
            length: self.length,
            rewrite_from,
        }
    }

    /// Whether a write to the disk succeeded.
    pub(super) fn synced(&mut self, sync: &PendingSync, succeeded: bool) {
        // Not where the file was rotated meanwhile: that has written the older one.
        if Arc::ptr_eq(&self.file, &sync.file) {
            self.suspect = !succeeded;
            if succeeded {
                self.synced = sync.length;
            }
        }
    }

    /// Waits until all of it is on the disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let sync = self.pending_sync();
        let result = sync.run();
        self.synced(&sync, result.is_ok());
        result
    }

    /// Whether a line has a place in this file. An empty file takes any.
    pub(super) fn fits(&self, line: &[u8]) -> bool {
        let added = u64::try_from(line.len()).unwrap_or(u64::MAX).saturating_add(1);
        self.length == 0 || self.length.saturating_add(added) <= self.max
    }

    /// Appends a whole line, or none. Call [`JournalFile::check`] first.
    pub(super) fn append(&mut self, mut line: Vec<u8>) -> io::Result<()> {
        line.push(b'\n');
        match (&*self.file).write_all(&line) {
            Ok(()) => {
                self.length = self.length.saturating_add(u64::try_from(line.len()).unwrap_or(u64::MAX));
                Ok(())
            }
            Err(error) => {
                // If this fails too, the partial line is cut off before the next write, or at the next start.
                let _ = self.file.set_len(self.length);
                Err(error)
            }
        }
    }

    /// Checks that the file at the path is the open one, and has all that was written to it.
    pub(super) fn check(&mut self) -> Result<(), JournalError> {
        let there = match fs::symlink_metadata(&self.path) {
            Ok(there) => there,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(JournalError::Deleted),
            Err(error) => return Err(error.into()),
        };
        let ours = self.file.metadata()?;
        if (there.dev(), there.ino()) != (ours.dev(), ours.ino()) {
            return Err(JournalError::Replaced);
        }
        check_mode(&ours)?;
        if ours.len() > self.length {
            self.length = self.length.max(cut_torn_line(&self.file)?);
        }
        if self.file.metadata()?.len() < self.length {
            return Err(JournalError::Shortened);
        }
        Ok(())
    }

    /// Begins a new file. Creates it under another name first, so that the old one stays in place if any step fails.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        let (fresh, older) = (self.path.with_extension("jsonl.new"), self.path.with_extension("jsonl.1"));
        remove(&fresh)?;
        let file = OpenOptions::new().create_new(true).read(true).append(true).mode(0o600).open(&fresh)?;
        // A second link keeps the old file when the new one replaces its name, so that there is always a file. The link too
        // is created under another name first, so that a full disk loses no line of the older file.
        let linked = self.path.with_extension("jsonl.link");
        remove(&linked)?;
        fs::hard_link(&self.path, &linked)?;
        fs::rename(&linked, &older)?;
        // It still exists where both names were one file, because a step below had failed.
        remove(&linked)?;
        fs::rename(&fresh, &self.path)?;
        self.file = Arc::new(file);
        (self.length, self.synced, self.suspect) = (0, 0, false);
        sync_directory(&self.path)?;
        Ok(())
    }
}

/// Makes the names in a file's directory survive a loss of power.
fn sync_directory(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn check_mode(file: &Metadata) -> Result<(), JournalError> {
    if !file.is_file() {
        return Err(JournalError::NotRegular);
    }
    if file.uid() != geteuid().as_raw() || file.mode() & 0o022 != 0 {
        return Err(JournalError::NotPrivate);
    }
    if file.mode() & 0o200 == 0 {
        return Err(JournalError::ReadOnly);
    }
    Ok(())
}

/// Cuts off what follows the last line break, which a write on a full disk leaves, and returns the new length.
fn cut_torn_line(mut file: &File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut end = length;
    while end > 0 {
        let begin = end.saturating_sub(CHUNK);
        let mut chunk = Vec::new();
        file.seek(SeekFrom::Start(begin))?;
        io::Read::by_ref(&mut file).take(end - begin).read_to_end(&mut chunk)?;
        if let Some(at) = chunk.iter().rposition(|byte| *byte == b'\n') {
            end = begin.saturating_add(u64::try_from(at).unwrap_or(u64::MAX)).saturating_add(1);
            break;
        }
        end = begin;
    }
    if end < length {
        file.set_len(end)?;
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn line(request: &str) -> Vec<u8> {
        format!("{{\"request\":\"{request}\"}}").into_bytes()
    }

    fn write(file: &mut JournalFile, request: &str) -> Result<(), JournalError> {
        file.check()?;
        if !file.fits(&line(request)) {
            file.rotate()?;
        }
        Ok(file.append(line(request))?)
    }

    fn opened() -> (tempfile::TempDir, PathBuf, JournalFile) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let mut file = JournalFile::open(&path, 1 << 20).unwrap();
        write(&mut file, "first").unwrap();
        (dir, path, file)
    }

    fn requests(path: &Path) -> Vec<String> {
        let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["request"].clone();
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|text| line(text).as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_torn_line_is_cut_off_at_start_and_before_a_write() {
        let (_dir, path, mut file) = opened();
        let tear = |text: &str| {
            File::options().append(true).open(&path).unwrap().write_all(text.as_bytes()).unwrap();
        };
        tear("{\"requ");
        write(&mut file, "second").unwrap();
        assert_eq!(requests(&path), ["first", "second"]);
        tear(&"x".repeat(200_000));
        let mut file = JournalFile::open(&path, 1 << 20).unwrap();
        write(&mut file, "third").unwrap();
        assert_eq!(requests(&path), ["first", "second", "third"]);
        fs::write(&path, "no line at all").unwrap();
        write(&mut JournalFile::open(&path, 1 << 20).unwrap(), "fourth").unwrap();
        assert_eq!(requests(&path), ["fourth"]);
    }

    #[test]
    fn replaced_or_shortened_file_denies() {
        let denied = |change: &dyn Fn(&Path)| {
            let (_dir, path, mut file) = opened();
            change(&path);
            write(&mut file, "second").unwrap_err()
        };
        let mode =
            |mode| move |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let deleted = denied(&|path| fs::remove_file(path).unwrap());
        assert!(matches!(deleted, JournalError::Deleted), "{deleted}");
        let replaced = denied(&|path| {
            fs::copy(path, path.with_extension("copy")).unwrap();
            fs::rename(path.with_extension("copy"), path).unwrap();
        });
        assert!(matches!(replaced, JournalError::Replaced), "{replaced}");
        let linked = denied(&|path| {
            fs::rename(path, path.with_extension("moved")).unwrap();
            std::os::unix::fs::symlink(path.with_extension("moved"), path).unwrap();
        });
        assert!(matches!(linked, JournalError::Replaced), "{linked}");
        let emptied = denied(&|path| File::options().write(true).open(path).unwrap().set_len(0).unwrap());
        assert!(matches!(emptied, JournalError::Shortened), "{emptied}");
        assert!(matches!(denied(&mode(0o400)), JournalError::ReadOnly));
        assert!(matches!(denied(&mode(0o622)), JournalError::NotPrivate));
    }

    #[test]
    fn a_file_that_others_made_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(JournalFile::open(&path, 1 << 20).is_err());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(JournalFile::open(&path, 1 << 20), Err(JournalError::NotPrivate)));
    }

    #[test]
    fn rotation_that_failed_goes_on_the_next_time() {
        let (dir, path, mut file) = opened();
        file.max = 1;
        // The new file cannot replace the name: by then the older one is a link to this one.
        fs::create_dir(path.with_extension("jsonl.new")).unwrap();
        write(&mut file, "second").unwrap_err();
        fs::hard_link(&path, path.with_extension("jsonl.1")).unwrap();
        fs::remove_dir(path.with_extension("jsonl.new")).unwrap();
        write(&mut file, "second").unwrap();
        assert_eq!(requests(&path.with_extension("jsonl.1")), ["first"]);
        assert_eq!(requests(&path), ["second"]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn both_files_together_are_bounded_and_lose_the_oldest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let mut file = JournalFile::open(&path, 1000).unwrap();
        for number in 0..100 {
            write(&mut file, &number.to_string()).unwrap();
            let older = fs::metadata(path.with_extension("jsonl.1")).map_or(0, |file| file.len());
            assert!(fs::metadata(&path).unwrap().len() <= 1000 && older <= 1000);
        }
        let mut kept = requests(&path.with_extension("jsonl.1"));
        kept.extend(requests(&path));
        let expected: Vec<_> = (100 - kept.len()..100).map(|number| number.to_string()).collect();
        assert_eq!(kept, expected);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
