//! Where model servers are usually installed. Looked at when the configuration names no place, because an agent that the
//! system starts has hardly a PATH. Only the user's own and the system's places: what lies there was put there.

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::{EngineKind, spec::is_executable};

/// Below the home directory: a plain venv, uv's and pipx's tools, and what `pip install --user` makes.
const VLLM_AT_HOME: [&str; 7] = [
    "vllm",
    ".venv",
    "venv",
    "vllm/.venv",
    ".local/share/uv/tools/vllm",
    ".local/share/pipx/venvs/vllm",
    ".local",
];
const VLLM_OF_THE_SYSTEM: [&str; 2] = ["/opt/vllm", "/usr/local"];
/// Where it is built, and where releases are unpacked.
const LLAMA_AT_HOME: [&str; 4] = ["llama.cpp/build/bin", "llama.cpp/bin", "llama.cpp", ".local/bin"];
const LLAMA_OF_THE_SYSTEM: [&str; 5] = [
    "/usr/local/bin",
    "/opt/llama.cpp/bin",
    "/opt/llama.cpp",
    "/opt/homebrew/bin",
    "/home/linuxbrew/.linuxbrew/bin",
];

impl EngineKind {
    /// What the program is called.
    pub const fn program(self) -> &'static str {
        match self {
            Self::LlamaServer => "llama-server",
            Self::Vllm => "vllm",
        }
    }

    /// Every place where the program is looked for, in order.
    pub fn search_paths(self) -> Vec<PathBuf> {
        let var = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        self.search_paths_in(
            var("PATH").as_deref(),
            var("VIRTUAL_ENV").map(PathBuf::from),
            var("HOME").map(PathBuf::from),
        )
    }

    fn search_paths_in(
        self,
        path: Option<&std::ffi::OsStr>,
        active: Option<PathBuf>,
        home: Option<PathBuf>,
    ) -> Vec<PathBuf> {
        let bin = |root: PathBuf| root.join("bin");
        let home = |place: &&str| home.as_ref().map(|home| home.join(place));
        let mut directories: Vec<PathBuf> = Vec::new();
        if self == Self::Vllm {
            directories.extend(active.map(bin));
        }
        directories.extend(path.into_iter().flat_map(env::split_paths).filter(|place| place.is_absolute()));
        match self {
            Self::Vllm => {
                directories.extend(VLLM_AT_HOME.iter().filter_map(home).map(bin));
                directories.extend(VLLM_OF_THE_SYSTEM.iter().map(PathBuf::from).map(bin));
            }
            Self::LlamaServer => {
                directories.extend(LLAMA_AT_HOME.iter().filter_map(home));
                directories.extend(LLAMA_OF_THE_SYSTEM.iter().map(PathBuf::from));
            }
        }
        let mut places: Vec<PathBuf> = Vec::new();
        for directory in directories {
            let place = directory.join(self.program());
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    /// The first place that has it.
    pub(crate) fn find(self) -> Option<PathBuf> {
        self.search_paths().into_iter().find(|place| is_executable(place))
    }
}

/// Where the hub's models are kept once they were downloaded.
pub fn in_hub_cache(model: &str) -> Option<PathBuf> {
    let var = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let hub = var("HF_HUB_CACHE")
        .or_else(|| Some(var("HF_HOME")?.join("hub")))
        .or_else(|| Some(var("XDG_CACHE_HOME")?.join("huggingface/hub")))
        .or_else(|| Some(var("HOME")?.join(".cache/huggingface/hub")))?;
    Some(hub.join(format!("models--{}", model.replace('/', "--")))).filter(|path| Path::new(path).is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_active_venv_comes_first_then_path_then_the_usual_places() {
        let places = EngineKind::Vllm.search_paths_in(
            Some("/a:relative:/b".as_ref()),
            Some("/venv".into()),
            Some("/home/u".into()),
        );
        let expected = ["/venv/bin/vllm", "/a/vllm", "/b/vllm", "/home/u/vllm/bin/vllm"];
        assert_eq!(places.iter().take(4).map(|place| place.to_str().unwrap()).collect::<Vec<_>>(), expected);
        assert!(places.contains(&"/home/u/.local/share/uv/tools/vllm/bin/vllm".into()));
        // A venv is Python's, and llama.cpp is none.
        let places = EngineKind::LlamaServer.search_paths_in(None, Some("/venv".into()), None);
        assert_eq!(places.first().unwrap(), Path::new("/usr/local/bin/llama-server"));
    }

    #[test]
    fn no_place_is_looked_at_twice() {
        let places = EngineKind::LlamaServer.search_paths_in(
            Some("/usr/local/bin:/usr/local/bin".as_ref()),
            None,
            None,
        );
        assert_eq!(places.iter().filter(|place| place.starts_with("/usr/local/bin")).count(), 1);
    }
}
