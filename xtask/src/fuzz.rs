//! `cargo xtask fuzz`: the targets of `fuzz/` under libFuzzer, for a while each. What it finds goes to `target/fuzz`; an input that
//! crashes is copied to the target's corpus once it is fixed, where the ordinary tests run it.

use std::{
    fs,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use xtask::cargo;

/// The targets, by the names of their files in `fuzz/fuzz_targets`.
const TARGETS: [&str; 6] = ["bearer", "document", "path", "sse", "token", "translation"];

/// What `cargo xtask fuzz` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this target [default: all]
    #[arg(value_parser = TARGETS)]
    target: Option<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Runs the targets one after the other, and fails at the first input that does not hold.
pub(crate) fn run(args: &Args) -> Result<()> {
    check_tool(&["+nightly", "--version"], "rustup toolchain install nightly --profile minimal")?;
    check_tool(&["+nightly", "fuzz", "--version"], "cargo install cargo-fuzz --locked")?;
    for target in
        TARGETS.into_iter().filter(|target| args.target.as_deref().is_none_or(|only| only == *target))
    {
        let found = cargo::root().join("target/fuzz/corpus").join(target);
        fs::create_dir_all(&found).with_context(|| found.display().to_string())?;
        let status = nightly(&["+nightly", "fuzz", "run", "--features", "libfuzzer", target])
            .arg(&found)
            .arg(cargo::root().join("fuzz/corpus").join(target))
            .args(["--", &format!("-max_total_time={}", args.seconds), "-max_len=8192", "-timeout=10"])
            .status()
            .context("cargo cannot be started")?;
        if !status.success() {
            bail!("`{target}` does not hold for an input: see fuzz/artifacts/{target}");
        }
    }
    Ok(())
}

fn check_tool(args: &[&str], install: &str) -> Result<()> {
    let status = nightly(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !status.is_ok_and(|status| status.success()) {
        bail!("fuzzing needs what this machine does not have: run `{install}`");
    }
    Ok(())
}

/// Cargo by way of rustup, which reads the toolchain from the first word.
fn nightly(args: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(args).current_dir(cargo::root()).env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
    // Optimizing each target as a whole takes minutes, and finds nothing more.
    command.env("CARGO_PROFILE_RELEASE_LTO", "off");
    command
}
