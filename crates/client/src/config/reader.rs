//! The file of contexts as a daemon reads it, once for each request: opened and checked each time, so that a logout and other
//! rights take effect at once, and parsed only when its bytes have changed.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{Config, ConfigError, read};

/// The file at one path.
pub struct ConfigFile {
    path: PathBuf,
    parsed: Mutex<Option<Parsed>>,
}

struct Parsed {
    bytes: Vec<u8>,
    config: Arc<Config>,
}

impl ConfigFile {
    /// The file at this path, which is not read yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, parsed: Mutex::default() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its content now; empty where it is missing.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load(&self) -> Result<Arc<Config>, ConfigError> {
        let bytes = read(&self.path)?;
        let mut parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = parsed.as_ref().filter(|known| known.bytes == bytes) {
            return Ok(Arc::clone(&known.config));
        }
        let config = Arc::new(Config::parse(&self.path, &bytes)?);
        *parsed = Some(Parsed { bytes, config: Arc::clone(&config) });
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn file_is_parsed_again_when_it_changes_and_checked_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        let write = |text: &str| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        };
        let file = ConfigFile::new(path.clone());
        assert_eq!(*file.load().unwrap(), Config::default(), "it is missing");

        write("currentContext: one\n");
        let first = file.load().unwrap();
        assert_eq!(first.current_context.as_deref(), Some("one"));
        assert!(Arc::ptr_eq(&first, &file.load().unwrap()), "the same bytes");

        write("currentContext: two\n");
        assert_eq!(file.load().unwrap().current_context.as_deref(), Some("two"));
        write("no: such key\n");
        assert!(file.load().is_err());

        write("currentContext: two\n");
        assert!(file.load().is_ok());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(file.load().is_err(), "others may read it");
        fs::remove_file(&path).unwrap();
        assert_eq!(*file.load().unwrap(), Config::default(), "it was removed");
    }
}
