//! vLLM's sleep mode comes with its development routes, and those are open. Its own way to change its server, an ASGI
//! middleware, closes them: a module in a directory of the agent's, put before the engine's other Python modules.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::Path,
};

const SOURCE: &str = include_str!("dev_routes.py");
/// No other module has this name.
const MODULE: &str = "mcpctl_dev_routes";

/// The value of `--middleware`.
pub(crate) fn middleware() -> String {
    format!("{MODULE}.WantsKey")
}

/// Writes the module, anew for each start: what lies there is what this agent brings.
///
/// # Errors
/// When the directory or the file cannot be written.
pub(crate) fn write(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join(format!("{MODULE}.py")), SOURCE)
}

/// `PYTHONPATH` with the directory first.
pub(crate) fn python_path(dir: &Path, others: Option<&OsStr>) -> OsString {
    let mut path = dir.as_os_str().to_owned();
    if let Some(others) = others.filter(|others| !others.is_empty()) {
        path.push(":");
        path.push(others);
    }
    path
}
