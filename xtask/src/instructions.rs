//! `cargo xtask instructions`: how many instructions the pure parts of a request take, counted by callgrind and compared with what is
//! stored. Instructions do not depend on what else a machine does, so a change of a few percent shows.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, anyhow, bail};

use xtask::cargo;

/// How much more a part may take than is stored, in percent.
const LIMIT_PERCENT: u64 = 5;

/// What `cargo xtask instructions` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Store what is counted now, for a change that is meant
    #[arg(long)]
    store: bool,
    /// Only parts whose name contains this
    filter: Option<String>,
}

/// Instructions of one run, by the name of the part.
type Counts = BTreeMap<String, u64>;

/// Builds, counts and compares; fails where a part takes more than it may, or where no count is stored.
pub(crate) fn run(args: &Args) -> Result<()> {
    check_valgrind()?;
    let program = build()?;
    let stored = read()?;
    let mut counts = Counts::new();
    for (part, runs) in parts(&program)? {
        if args.filter.as_ref().is_some_and(|filter| !part.contains(filter.as_str())) {
            continue;
        }
        let count = count(&program, &part, runs)?;
        anstream::println!("{}", line(&part, count, stored.get(&part).copied()));
        counts.insert(part, count);
    }
    if counts.is_empty() {
        bail!("no part has `{}` in its name", args.filter.as_deref().unwrap_or_default());
    }
    if args.store {
        // Those that were not counted stay.
        let kept = if args.filter.is_some() { stored } else { Counts::new() };
        return write(&kept.into_iter().chain(counts).collect());
    }
    verdict(&counts, &stored)
}

fn verdict(counts: &Counts, stored: &Counts) -> Result<()> {
    let missing: Vec<_> = counts.keys().filter(|part| !stored.contains_key(*part)).cloned().collect();
    let dearer = counts.iter().filter(|(part, count)| {
        stored.get(*part).is_some_and(|stored| **count * 100 > stored * (100 + LIMIT_PERCENT))
    });
    let dearer: Vec<_> = dearer.map(|(part, _)| part.clone()).collect();
    let next = "`cargo xtask instructions --store` stores what is meant";
    match (missing.is_empty(), dearer.is_empty()) {
        (true, true) => Ok(()),
        (false, _) => Err(anyhow!("nothing is stored for {}: {next}", missing.join(", "))),
        (_, false) => Err(anyhow!(
            "over the stored count by more than {LIMIT_PERCENT} %: {}; {next}",
            dearer.join(", ")
        )),
    }
}

/// How much more this is than was stored, in percent.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn change(count: u64, stored: u64) -> f64 {
    (count as f64 / stored.max(1) as f64 - 1.0) * 100.0
}

fn line(part: &str, count: u64, stored: Option<u64>) -> String {
    let stored = stored.map_or_else(
        || "nothing stored".to_owned(),
        |stored| format!("{stored:>12} stored {:>+7.1} %", change(count, stored)),
    );
    format!("{part:<22} {count:>12} {stored}")
}

fn check_valgrind() -> Result<()> {
    let status =
        Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !status.is_ok_and(|status| status.success()) {
        bail!(
            "counting needs valgrind, which this machine does not have: install its package, e.g. `apt-get install valgrind`"
        );
    }
    Ok(())
}

/// Builds the program that runs the parts, as it is released, and returns its path.
fn build() -> Result<PathBuf> {
    let messages = cargo::output(&[
        "bench",
        "--package",
        "mcpctl-bench",
        "--bench",
        "instructions",
        "--locked",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ])?;
    let programs = String::from_utf8_lossy(&messages);
    let mut executables = programs.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_ours = message.pointer("/target/name")?.as_str()? == "instructions";
        message.get("executable")?.as_str().filter(|_| is_ours).map(PathBuf::from)
    });
    executables.next().context("cargo names no program of `instructions`")
}

/// The parts, and how many runs of each a round has.
fn parts(program: &PathBuf) -> Result<Vec<(String, u64)>> {
    let output = Command::new(program).output().with_context(|| program.display().to_string())?;
    let text = String::from_utf8(output.stdout)?;
    let part = |line: &str| Some((line.split_once(' ')?.0.to_owned(), line.split_once(' ')?.1.parse().ok()?));
    text.lines().map(|line| part(line).with_context(|| format!("`{line}` is not a part"))).collect()
}

/// The instructions of one run: what two rounds take beyond one, so that start and preparation do not count.
fn count(program: &PathBuf, part: &str, runs: u64) -> Result<u64> {
    let [one, two] = [collected(program, part, "1")?, collected(program, part, "2")?];
    Ok(two.saturating_sub(one) / runs.max(1))
}

fn collected(program: &PathBuf, part: &str, rounds: &str) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([part, "--rounds", rounds])
        .output()
        .context("valgrind cannot be started")?;
    let report = String::from_utf8_lossy(&output.stderr);
    let counted = report.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    match counted {
        Some(counted) if output.status.success() => Ok(counted),
        _ => bail!("`{part}` was not counted: {report}"),
    }
}

fn file() -> PathBuf {
    cargo::root().join("bench/instructions/counts.json")
}

fn read() -> Result<Counts> {
    let path = file();
    if !path.exists() {
        return Ok(Counts::new());
    }
    let text = fs::read(&path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

fn write(counts: &Counts) -> Result<()> {
    let path = file();
    let text = serde_json::to_string_pretty(counts)? + "\n";
    fs::write(&path, text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(counts: &[(&str, u64)]) -> Counts {
        counts.iter().map(|(part, count)| ((*part).to_owned(), *count)).collect()
    }

    #[test]
    fn more_than_the_limit_and_parts_without_a_count_fail() {
        let stored = counts(&[("read", 1000), ("decide", 200)]);
        assert!(verdict(&counts(&[("read", 1050), ("decide", 10)]), &stored).is_ok());
        let error = verdict(&counts(&[("read", 1051), ("decide", 210)]), &stored).unwrap_err().to_string();
        assert!(error.contains("5 %: read;") && error.contains("--store"), "{error}");
        let error = verdict(&counts(&[("new", 1)]), &stored).unwrap_err().to_string();
        assert!(error.contains("nothing is stored for new"), "{error}");
    }
}
