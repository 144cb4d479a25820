//! The keys of an issuer in a file, read again when the file is another one.

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use mcpctl_issuer::Keys;
use tokio::{fs::File, io::AsyncReadExt as _};

use crate::config::MAX_KEYS_BYTES;

/// The file and what it held last.
pub struct KeysFile {
    path: PathBuf,
    read: Mutex<Option<(Stamp, Arc<Keys>)>>,
}

/// What changes whenever a file is written or replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            bytes: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

impl KeysFile {
    /// The file at this path; nothing is read yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, read: Mutex::new(None) }
    }

    /// Its keys; `None` where it cannot be read, is too long, or is no key set.
    pub async fn keys(&self) -> Option<Arc<Keys>> {
        let file = File::open(&self.path).await.ok()?;
        let stamp = Stamp::of(&file.metadata().await.ok()?);
        if let Some((of, keys)) = &*self.read.lock().unwrap_or_else(PoisonError::into_inner)
            && *of == stamp
        {
            return Some(Arc::clone(keys));
        }
        let mut json = Vec::new();
        file.take(MAX_KEYS_BYTES + 1).read_to_end(&mut json).await.ok()?;
        if json.len() as u64 > MAX_KEYS_BYTES {
            return None;
        }
        let keys = Arc::new(Keys::read(&json).ok()?);
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Some((stamp, Arc::clone(&keys)));
        Some(keys)
    }
}
