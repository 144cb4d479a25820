//! `cargo xtask book`: the documents as a book, by mdBook (MPL-2.0), which is installed once into the cache directory and is
//! no dependency of anything here.

use std::{net::Ipv4Addr, process::Command};

use anyhow::{Context as _, Result, bail};

use xtask::{cargo, engines};

/// What is installed.
const VERSION: &str = "0.5.4";

/// What `cargo xtask book` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Show it in the browser when it is built
    #[arg(long)]
    open: bool,
    /// Serve it on loopback at this port, and build it anew whenever a document changes
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "3000")]
    serve: Option<u16>,
}

/// Builds the book into `target/book`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let directory = engines::cache_dir()?.join("mdbook");
    engines::once(&directory, VERSION, |directory| {
        anstream::eprintln!("installing mdBook {VERSION} (once, some minutes)");
        let root = directory.display().to_string();
        cargo::run(&["install", "mdbook", "--version", VERSION, "--locked", "--root", &root])
    })?;
    let mut command = Command::new(directory.join("bin/mdbook"));
    match args.serve {
        Some(port) => command
            .args(["serve", "--hostname", &Ipv4Addr::LOCALHOST.to_string()])
            .args(["--port", &port.to_string()]),
        None => command.arg("build"),
    };
    if args.open {
        command.arg("--open");
    }
    let status =
        command.current_dir(cargo::root().join("docs")).status().context("mdBook cannot be started")?;
    if !status.success() {
        bail!("mdBook failed ({status})");
    }
    if args.serve.is_none() {
        anstream::println!("{}", cargo::root().join("target/book/index.html").display());
    }
    Ok(())
}
