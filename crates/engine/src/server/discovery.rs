//! Where model servers are usually installed. Searched when the configuration names no program, because an agent that the
//! system starts has hardly a PATH. Only places of the user and of the system: no other user could put a program there.

use std::{
    env,
    ffi::OsString,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::ServerKind;

/// Places that the environment names.
pub(crate) struct Places {
    path: Option<OsString>,
    /// The active Python venv.
    pub(super) venv: Option<PathBuf>,
    pub(super) home: Option<PathBuf>,
}

impl Places {
    fn of_environment() -> Self {
        let var = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        Self {
            path: var("PATH"),
            venv: var("VIRTUAL_ENV").map(PathBuf::from),
            home: var("HOME").map(PathBuf::from),
        }
    }

    /// The absolute directories of PATH.
    pub(super) fn path(&self) -> impl Iterator<Item = PathBuf> {
        self.path.iter().flat_map(env::split_paths).filter(|directory| directory.is_absolute())
    }

    /// Directories below the home directory.
    pub(super) fn at_home(&self, directories: &[&str]) -> impl Iterator<Item = PathBuf> {
        directories.iter().filter_map(|directory| Some(self.home.as_ref()?.join(directory)))
    }
}

impl ServerKind {
    /// Every path at which the program is searched, in order.
    pub fn search_paths(self) -> Vec<PathBuf> {
        self.search_paths_in(&Places::of_environment())
    }

    fn search_paths_in(self, places: &Places) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = Vec::new();
        for directory in self.server().directories(places) {
            let path = directory.join(self.program());
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        paths
    }

    /// The first path that has the program.
    pub(crate) fn find(self) -> Option<PathBuf> {
        self.search_paths().into_iter().find(|path| is_executable(path))
    }
}

pub(crate) fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn active_venv_comes_before_path_and_usual_places() {
        let places = Places {
            path: Some("/a:relative:/b".into()),
            venv: Some("/venv".into()),
            home: Some("/home/u".into()),
        };
        let paths = ServerKind::VLLM.search_paths_in(&places);
        let expected = ["/venv/bin/vllm", "/a/vllm", "/b/vllm", "/home/u/vllm/bin/vllm"];
        assert_eq!(paths.iter().take(4).map(|path| path.to_str().unwrap()).collect::<Vec<_>>(), expected);
        assert!(paths.contains(&"/home/u/.local/share/uv/tools/vllm/bin/vllm".into()));
        // A venv is Python's, and llama.cpp is none.
        let places = Places { path: None, venv: Some("/venv".into()), home: None };
        let paths = ServerKind::LLAMA_SERVER.search_paths_in(&places);
        assert_eq!(paths.first().unwrap(), Path::new("/usr/local/bin/llama-server"));
    }

    #[test]
    fn each_path_is_searched_once() {
        let places = Places { path: Some("/usr/local/bin:/usr/local/bin".into()), venv: None, home: None };
        let paths = ServerKind::LLAMA_SERVER.search_paths_in(&places);
        assert_eq!(paths.iter().filter(|path| path.starts_with("/usr/local/bin")).count(), 1);
    }
}
