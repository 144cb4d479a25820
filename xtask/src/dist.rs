//! `cargo xtask dist`: what is installed. An archive of the programs, Debian packages, the image's file system, and the checksums of
//! all of them, in `target/dist`. `--try` installs and runs them on this machine.

#[cfg(test)]
mod container;
mod image;
mod trial;
mod units;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use xtask::cargo;

use crate::check::metadata::Metadata;

/// The programs that are installed.
const PROGRAMS: [&str; 3] = ["mcpd", "mcplocal", "mcpctl"];
/// The packages of Debian, by the crate whose manifest describes each.
const PACKAGES: [&str; 2] = ["mcpd", "mcpctl"];
/// Libraries that a program may need of the machine; everything else is in it.
const MACHINE_LIBRARIES: [&str; 4] = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"];

/// The oldest glibc that has everything: that of Debian 12, Ubuntu 22.04 and RHEL 9, as docs/how-to/install.md has it.
const GLIBC: (u32, u32) = (2, 34);

/// What `cargo xtask dist` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The profile to build with; `dev` is for trying out
    #[arg(long, value_enum, default_value = "release")]
    profile: Profile,
    /// Install and run what was made: needs root, debootstrap, dpkg and systemd-analyze
    #[arg(long = "try")]
    trial: bool,
}

/// A profile of cargo.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Profile {
    /// Optimized, as people install it; some minutes
    Release,
    /// Unoptimized
    Dev,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Dev => "dev",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Dev => "debug",
        }
    }
}

/// Makes everything, and tries it where that was asked for.
pub(crate) fn run(args: &Args) -> Result<()> {
    let out = cargo::root().join("target/dist");
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| out.display().to_string())?;
    }
    fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    match args.profile {
        // What the tests use already.
        Profile::Dev => cargo::build_programs()?,
        Profile::Release => cargo::run(&["build", "--workspace", "--bins", "--locked", "--release"])?,
    }
    // CARGO_TARGET_DIR, or the configuration of cargo, may name another folder than `target`.
    let programs = Metadata::load()?.target_directory.join(args.profile.folder());
    for program in PROGRAMS {
        check_libraries(&programs.join(program))?;
    }
    manuals(&programs)?;
    archive(&programs, &out)?;
    packages(args.profile, &out)?;
    image::make(&programs.join("mcpd"), &out)?;
    for file in ["Containerfile", "compose.yaml"] {
        let from = cargo::root().join("packaging/container").join(file);
        fs::copy(&from, out.join(file)).with_context(|| from.display().to_string())?;
    }
    checksums(&out)?;
    if args.trial {
        trial::run(&out)?;
    }
    anstream::println!("made in {}", out.display());
    Ok(())
}

/// Fails where a program needs a library that other machines may not have.
fn check_libraries(program: &Path) -> Result<()> {
    let listed = output(Command::new("readelf").arg("-d").arg(program))?;
    let needed = listed.lines().filter(|line| line.contains("(NEEDED)"));
    for line in needed {
        let library = line.split(['[', ']']).nth(1).unwrap_or_default();
        if !MACHINE_LIBRARIES.contains(&library) {
            bail!("`{}` needs `{library}`, which not every machine has", program.display());
        }
    }
    let versions = output(Command::new("readelf").arg("--version-info").arg(program))?;
    match newest_glibc(&versions) {
        Some(newest) if newest <= GLIBC => Ok(()),
        newest => bail!(
            "`{}` needs glibc {newest:?}, later than {GLIBC:?}: build it on an older system",
            program.display()
        ),
    }
}

/// The newest version of glibc in what `readelf --version-info` lists.
fn newest_glibc(versions: &str) -> Option<(u32, u32)> {
    let named = versions
        .split("GLIBC_")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| c != '.' && !c.is_ascii_digit()).next());
    let numbers = named.filter_map(|version| {
        let mut parts = version.split('.').map(str::parse);
        Some((parts.next()?.ok()?, parts.next()?.ok()?))
    });
    numbers.max()
}

fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Where the pages and scripts are that the programs print themselves.
const MANUALS: &str = "target/manual";

/// Lets mcpctl write its man pages and the scripts by which shells complete it.
fn manuals(programs: &Path) -> Result<()> {
    let folder = cargo::root().join(MANUALS);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    let mcpctl = programs.join("mcpctl");
    check(Command::new(&mcpctl).args(["man", "--dir"]).arg(folder.join("man1")))?;
    for (shell, file, more) in [
        ("bash", "mcpctl.bash", ""),
        // zsh loads the file as a function at the first completion, which this one call answers.
        ("zsh", "_mcpctl", "[ \"$funcstack[1]\" = _mcpctl ] && _clap_dynamic_completer_mcpctl \"$@\"\n"),
        ("fish", "mcpctl.fish", ""),
    ] {
        let script = output(Command::new(&mcpctl).args(["completion", shell]))?;
        fs::write(folder.join(file), format!("{script}{more}")).with_context(|| file.to_owned())?;
    }
    Ok(())
}

/// An archive for machines without Debian's packages.
fn archive(programs: &Path, out: &Path) -> Result<()> {
    let name = format!("mcpctl-{}-{}-{}", version(), std::env::consts::ARCH, std::env::consts::OS);
    let folder = out.join(&name);
    let copy = |from: PathBuf, to: &str| -> Result<()> {
        let to = folder.join(to);
        fs::create_dir_all(to.parent().unwrap_or(&folder))?;
        fs::copy(&from, &to).with_context(|| from.display().to_string()).map(drop)
    };
    let root = cargo::root();
    for program in PROGRAMS {
        copy(programs.join(program), &format!("bin/{program}"))?;
    }
    for file in ["README.md", "LICENSE", "SECURITY.md"] {
        copy(root.join(file), file)?;
    }
    let manuals = root.join(MANUALS);
    for entry in fs::read_dir(manuals.join("man1")).context("man pages")? {
        let name = entry?.file_name();
        copy(manuals.join("man1").join(&name), &format!("share/man/man1/{}", name.to_string_lossy()))?;
    }
    for file in ["mcpctl.bash", "_mcpctl", "mcpctl.fish"] {
        copy(manuals.join(file), &format!("share/completions/{file}"))?;
    }
    for unit in ["mcpd.service", "mcplocal.service", "mcpd.sysusers"] {
        copy(root.join("packaging/systemd").join(unit), &format!("systemd/{unit}"))?;
    }
    let documents =
        output(Command::new("git").args(["ls-files", "docs", "packaging/monitoring"]).current_dir(&root))?;
    for file in documents.lines() {
        copy(root.join(file), file)?;
    }
    tar(&out.join(format!("{name}.tar.gz")), out, &["--gzip", "--owner=0", "--group=0", &name])?;
    fs::remove_dir_all(&folder).context("the archive's folder")
}

/// Packs with a fixed order and time, so that the same programs make the same archive.
fn tar(file: &Path, folder: &Path, args: &[&str]) -> Result<()> {
    let mut command = Command::new("tar");
    command.arg("--create").arg("--file").arg(file).arg("--directory").arg(folder);
    check(command.args(["--sort=name", "--mtime=@0", "--numeric-owner"]).args(args))
}

fn packages(profile: Profile, out: &Path) -> Result<()> {
    let tool = cargo::command(&["deb", "--version"]).output().context("cargo cannot be started")?;
    if !tool.status.success() {
        bail!("Debian packages are made by cargo-deb: run `cargo install cargo-deb --locked`");
    }
    for package in PACKAGES {
        let folder = format!("{}/", out.display());
        let profile = ["--profile", profile.name()];
        let fixed =
            ["deb", "--no-build", "--no-strip", "--locked", "--package", package, "--output", &folder];
        cargo::run(&[&fixed[..], &profile[..]].concat())?;
    }
    Ok(())
}

/// `SHA256SUMS`, as `sha256sum --check` reads it.
fn checksums(out: &Path) -> Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(out)? {
        names.push(entry?.file_name());
    }
    names.sort();
    let sums = output(Command::new("sha256sum").arg("--binary").args(&names).current_dir(out))?;
    fs::write(out.join("SHA256SUMS"), sums).context("the checksums")
}

/// Runs a command with its output shown.
fn check(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?} cannot be started"))?;
    if !status.success() {
        bail!("{command:?} failed ({status})");
    }
    Ok(())
}

/// Runs a command, and gives what it wrote to stdout.
fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?} cannot be started"))?;
    if !output.status.success() {
        bail!("{command:?} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).context("output that is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_glibc_is_by_number() {
        let listed = "  0x0010:   Name: GLIBC_2.9  Flags: none  Version: 4\n  0x0020:   Name: GLIBC_2.34  Flags: none\n  Name: GLIBC_2.2.5  Flags\n";
        assert_eq!(newest_glibc(listed), Some((2, 34)));
        assert_eq!(newest_glibc("Name: GCC_3.0"), None);
    }
}
