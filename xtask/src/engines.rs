//! Real model servers and a real small model, fetched once into a cache directory; nothing is installed for the user or
//! the machine. The demo shows them and the tests run on them.

pub mod llama_server;
pub mod vllm;

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// Where what is fetched is kept.
///
/// # Errors
/// Where the environment names no home.
pub fn cache_dir() -> Result<PathBuf> {
    let from = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    match from("XDG_CACHE_HOME").or_else(|| Some(from("HOME")?.join(".cache"))) {
        Some(cache) => Ok(cache.join("mcpctl")),
        None => bail!("neither XDG_CACHE_HOME nor HOME is set"),
    }
}

/// Whether the processor can run what is fetched.
///
/// # Errors
/// Where it cannot, with what to do instead.
pub fn check_processor() -> Result<()> {
    let features = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if env::consts::ARCH == "x86_64" && features.contains("avx2") {
        return Ok(());
    }
    bail!(
        "the prebuilt model servers need an x86-64 processor with AVX2 on Linux, and this is none\n\
         hint: build llama.cpp, get any small GGUF model, and name them in {} and {}",
        llama_server::PROGRAM,
        llama_server::MODEL
    )
}

/// Two paths that the environment names, where it names both.
fn named(first: &str, second: &str) -> Option<(PathBuf, PathBuf)> {
    Some((env::var_os(first)?.into(), env::var_os(second)?.into()))
}

/// Fills a directory of the cache once, under a lock; `wanted` describes its content. One that was left half done, or
/// that something else was wanted of, is made anew.
///
/// # Errors
/// Where it cannot be filled.
pub fn once(dir: &Path, wanted: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let parent = dir.parent().context("the cache directory")?;
    fs::create_dir_all(parent).with_context(|| format!("`{}` cannot be made", parent.display()))?;
    let lock = File::create(dir.with_extension("lock"))?;
    lock.lock()?;
    let done = dir.join("complete");
    if fs::read_to_string(&done).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("`{}` cannot be removed", dir.display()))?;
    }
    fs::create_dir(dir)?;
    fill(dir)?;
    Ok(fs::write(done, wanted)?)
}

/// Runs a program quietly; its last line is the error.
fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output();
    let output = output.with_context(|| format!("`{program}` cannot be started"))?;
    if output.status.success() {
        return Ok(());
    }
    bail!("`{program}`: {}", last_line(&String::from_utf8_lossy(&output.stderr)))
}

fn last_line(output: &str) -> &str {
    output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it wrote nothing")
}
