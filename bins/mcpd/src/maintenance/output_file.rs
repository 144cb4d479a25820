//! Where a backup goes. It is written under another name, checked, and renamed, so that a file under the final name is whole. One for
//! standard output is written to a file first, too: the snapshot of the database must not wait for a slow reader.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use mcpctl_api::Id;
use mcpctl_owner::file;

use super::file_error;
use crate::with_hint;

/// A file that is not there under its final name yet; removed when it is dropped.
pub(super) struct OutputFile {
    file: File,
    draft: PathBuf,
    target: Option<PathBuf>,
}

impl OutputFile {
    /// Creates the draft of a file, for this user alone.
    ///
    /// # Errors
    /// When it cannot be created, or something else than a file has the name.
    pub(super) fn named(target: &Path) -> anyhow::Result<Self> {
        if target.metadata().is_ok_and(|there| !there.is_file()) {
            let message = format!("`{}` is not a regular file", target.display());
            return Err(with_hint(message, Some("name a file, or `-` for standard output")));
        }
        let draft = file::beside(target, &format!(".{}.draft", Id::mint()));
        Self::create(draft, Some(target.to_owned()))
    }

    /// Creates a file in a directory that has no name from the beginning on, so that it never outlives the process.
    ///
    /// # Errors
    /// When it cannot be created.
    pub(super) fn unnamed(dir: &Path) -> anyhow::Result<Self> {
        let output = Self::create(dir.join(format!(".backup-{}.draft", Id::mint())), None)?;
        fs::remove_file(&output.draft).map_err(|error| output.error("removed", &error))?;
        Ok(output)
    }

    fn create(draft: PathBuf, target: Option<PathBuf>) -> anyhow::Result<Self> {
        let mut options = OpenOptions::new();
        let created = options.read(true).write(true).create_new(true).mode(0o600).open(&draft);
        let file = created.map_err(|error| file_error(&draft.display().to_string(), "written", &error))?;
        Ok(Self { file, draft, target })
    }

    /// The file, to be written.
    ///
    /// # Errors
    /// When the system has no descriptors.
    pub(super) fn writer(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// The file, to be read from its beginning.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn reader(&self) -> io::Result<File> {
        let mut file = self.file.try_clone()?;
        file.rewind()?;
        Ok(file)
    }

    /// Has the disk keep it, and gives it its final name.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub(super) fn publish(self) -> anyhow::Result<()> {
        let publish = || {
            self.file.sync_all()?;
            let Some(target) = &self.target else { return Ok(()) };
            fs::rename(&self.draft, target)?;
            let parent = target.parent().filter(|parent| *parent != Path::new(""));
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
        };
        publish().map_err(|error| self.error("written", &error))
    }

    fn error(&self, what: &str, error: &io::Error) -> anyhow::Error {
        file_error(&self.target.as_deref().unwrap_or(&self.draft).display().to_string(), what, error)
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        // Already renamed if it was published.
        let _ = fs::remove_file(&self.draft);
    }
}
