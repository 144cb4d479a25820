//! Cargo as a child process, run from the workspace's root.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

/// The workspace's root.
pub fn root() -> PathBuf {
    // This crate is one folder below it.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

/// `cargo` with these arguments, not started yet.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    // `cargo run` describes this package in the environment. Build scripts that watch such variables would run
    // again whenever a build goes through here rather than through a plain `cargo`.
    for (name, _) in env::vars_os() {
        let about_this_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
        if name.to_str().is_some_and(|name| about_this_package.iter().any(|prefix| name.starts_with(prefix)))
        {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs cargo with its output shown; an error names the command that failed.
pub fn run(args: &[&str]) -> Result<()> {
    let status = command(args).status().context("cargo cannot be started")?;
    if !status.success() {
        bail!("`cargo {}` failed ({status})", args.join(" "));
    }
    Ok(())
}

/// Builds all programs into the target folder. Every task builds them by this one command, so that they share
/// what is built: cargo picks features by the packages it is asked for.
pub fn build_programs() -> Result<()> {
    run(&["build", "--workspace", "--bins", "--locked"])
}

/// Runs cargo and gives what it wrote to stdout; stderr is shown.
pub fn output(args: &[&str]) -> Result<Vec<u8>> {
    let output =
        command(args).stderr(std::process::Stdio::inherit()).output().context("cargo cannot be started")?;
    if !output.status.success() {
        bail!("`cargo {}` failed ({})", args.join(" "), output.status);
    }
    Ok(output.stdout)
}
