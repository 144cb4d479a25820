//! `mcplocal --discover`: which model servers and models are on this machine, for `mcpctl local init`. It reads and asks; it starts
//! and changes nothing, and what it finds is used only where the configuration names it.

mod models;
mod servers;

use std::{
    collections::BTreeSet,
    env,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use mcpctl_api::discovery::{Discovery, FoundProgram, SearchedPlaces};
use mcpctl_engine::ServerKind;

/// Looks everywhere.
pub async fn discover() -> Discovery {
    let home = env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let folders = models::folders(home.as_deref());
    let walk = tokio::task::spawn_blocking({
        let folders = folders.clone();
        move || models::search(&folders)
    });
    let (servers, walked) = futures::join!(servers::ask_all(), walk);
    let walked = walked.unwrap_or_default();
    let cache = home.as_deref().and_then(fetched_programs);
    let programs = ServerKind::ALL.into_iter().filter_map(|kind| program(kind, cache.as_deref())).collect();
    let mut seen = BTreeSet::new();
    let searched = ServerKind::ALL.into_iter().flat_map(ServerKind::search_paths);
    let searched = searched.filter_map(|path| Some(path.parent()?.display().to_string()));
    let searched = searched.filter(|path| seen.insert(path.clone())).collect();
    Discovery {
        programs,
        servers: servers.found,
        models: walked.models,
        searched: SearchedPlaces {
            programs: searched,
            servers: servers.asked,
            models: folders.iter().map(|path| path.display().to_string()).collect(),
        },
        incomplete: walked.incomplete,
        memory_bytes: memory(),
    }
}

/// A model server's program: where the agent finds it, else in the folder into which `cargo xtask model` fetches one.
fn program(kind: ServerKind, fetched: Option<&Path>) -> Option<FoundProgram> {
    let provider_type = format!("{}-managed", kind.program());
    let of_agent = kind.search_paths().into_iter().find(|path| is_executable(path));
    let (path, is_found) = match of_agent {
        Some(path) => (path, true),
        None => {
            let packages = fetched?.read_dir().ok()?.flatten().take(models::MAX_ENTRIES);
            let mut paths = packages.map(|package| package.path().join("bin").join(kind.program()));
            (paths.find(|path| is_executable(path))?, false)
        }
    };
    Some(FoundProgram { provider_type, path: path.to_str()?.to_owned(), is_found })
}

fn fetched_programs(home: &Path) -> Option<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = cache.unwrap_or_else(|| home.join(".cache")).join("mcpctl/llama-server");
    cache.is_dir().then_some(cache)
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Main memory in bytes (Linux).
fn memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}
