//! `cargo xtask test`: every test there is, with nothing but Rust and the machine's usual programs. Uses nextest
//! where it is installed and cargo's own runner elsewhere; documentation tests always run with cargo's.

use std::{
    io::{BufRead as _, BufReader, IsTerminal as _, Read},
    path::PathBuf,
    process::Stdio,
    thread,
};

use anyhow::{Context as _, Result, anyhow, bail};

use xtask::{
    cargo,
    engines::{
        self,
        llama_server::{self, LlamaServer},
        vllm::{self, Vllm},
    },
    printer::Printer,
};

use crate::programs;

/// Tests of real model servers.
const REAL: [&str; 4] = ["--package", "mcplocal", "--test", "real"];
/// Tests of programs and libraries that people use, besides those in every run.
const CLIENTS: [&str; 4] = ["--package", "mcpd", "--test", "clients"];
/// Tests of the proxies that are installed.
const PROXIES: [&str; 4] = ["--package", "mcpd", "--test", "proxies"];
/// Comparisons and models that every run has too, in a smaller form.
const EXHAUSTIVE: [&str; 9] = [
    "--release",
    "--package",
    "mcpctl-access",
    "--test",
    "cedar",
    "--package",
    "mcpctl-failover",
    "--test",
    "protocol",
];

/// What `cargo xtask test` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Other tests than those that take a few minutes together
    suite: Option<Suite>,
    /// Only tests whose name contains this
    #[arg(last = true, value_name = "FILTER")]
    filter: Option<String>,
}

/// Tests that take longer, or need more of the machine.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Suite {
    /// Real model servers on this machine's processor: llama-server, and vLLM, which takes 6 GB of disk and of memory
    Engines,
    /// LangChain, LiteLLM, llm, aider, the Vercel AI SDK and Codex: 1.5 GB of disk, Python, Node and git
    Clients,
    /// nginx, HAProxy and Caddy, whichever are installed, with silences of more than a minute besides
    Proxies,
    /// A million decisions compared with Cedar, and the model of failover within wider bounds: built for release, some minutes
    Exhaustive,
}

impl Suite {
    const fn tests(self) -> &'static [&'static str] {
        match self {
            Self::Engines => &REAL,
            Self::Clients => &CLIENTS,
            Self::Proxies => &PROXIES,
            Self::Exhaustive => &EXHAUSTIVE,
        }
    }

    /// Whether its tests start programs of this repository.
    const fn starts_programs(self) -> bool {
        !matches!(self, Self::Exhaustive)
    }
}

/// What tests of a real llama-server have in their names, and no others.
pub(crate) const OF_LLAMA_SERVER: &str = "llama_server::";

/// Builds the programs, runs the tests, and ends with one line that sums up.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.suite.is_none() {
        // Before the minutes of a build.
        programs::install_browser()?;
    }
    let engines = if args.suite.is_none_or(Suite::starts_programs) {
        // First and once: tests of whole daemons start the programs that this puts into the target folder.
        cargo::build_programs()?;
        // Tests of engines start examples; a runner with a list of targets does not build them as programs.
        cargo::run(&["build", "--workspace", "--examples", "--locked"])?;
        Engines::find(args.suite)?
    } else {
        Engines::default()
    };
    if args.suite.is_none_or(|suite| suite == Suite::Proxies) {
        for proxy in ["nginx", "haproxy", "caddy"].into_iter().filter(|proxy| !programs::is_installed(proxy))
        {
            anstream::eprintln!("without tests of {proxy}, which is not installed");
        }
    }
    let nextest = cargo::command(&["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !nextest {
        anstream::eprintln!("cargo-nextest is not installed: using cargo's own runner");
    }
    let runs: Vec<(Vec<&str>, ClosingLine)> = match (args.suite, nextest) {
        (None, true) => vec![
            (vec!["nextest", "run", "--workspace", "--no-tests=pass", "--"], Tally::of_nextest),
            (vec!["test", "--workspace", "--doc", "--"], Tally::of_cargo),
        ],
        (None, false) => vec![
            (vec!["test", "--workspace", "--lib", "--bins", "--tests", "--"], Tally::of_cargo),
            (vec!["test", "--workspace", "--doc", "--"], Tally::of_cargo),
        ],
        // One after the other: each has the machine for itself.
        (Some(suite), true) => vec![(
            [
                &["nextest", "run"][..],
                suite.tests(),
                &["--no-tests=pass", "--run-ignored=all", "--test-threads=1", "--"],
            ]
            .concat(),
            Tally::of_nextest,
        )],
        (Some(suite), false) => vec![(
            [&["test"][..], suite.tests(), &["--", "--include-ignored", "--test-threads=1"]].concat(),
            Tally::of_cargo,
        )],
    };

    let mut total = Tally::default();
    let mut broken = Vec::new();
    for (mut words, closing) in runs {
        // Before the two hyphens, which precede the arguments of the test programs themselves.
        let end = words.iter().position(|word| *word == "--").unwrap_or(words.len());
        words.splice(end..end, ["--locked", "--no-fail-fast"]);
        words.extend(args.filter.as_deref());
        if engines.without_llama_server {
            words.extend(["--skip", OF_LLAMA_SERVER]);
        }
        let (succeeded, tally) = watch(&words, &engines.variables, closing)?;
        total = total.plus(tally);
        if !succeeded {
            broken.push(format!("`cargo {}`", words.join(" ")));
        }
    }
    let verdict = verdict(total, &broken, args.filter.as_deref());
    let word = if verdict.is_ok() { "ok" } else { "FAILED" };
    anstream::println!(
        "test result: {word}. {} passed; {} failed; {} ignored",
        total.passed,
        total.failed,
        total.ignored
    );
    verdict
}

/// Real model servers, and how tests learn where they are.
#[derive(Default)]
pub(crate) struct Engines {
    pub(crate) variables: Vec<(&'static str, PathBuf)>,
    /// The machine cannot run what is fetched, and the environment names no other.
    pub(crate) without_llama_server: bool,
}

impl Engines {
    /// Those that tests in every run need.
    pub(crate) fn of_every_run() -> Result<Self> {
        Self::find(None)
    }

    fn find(suite: Option<Suite>) -> Result<Self> {
        let printer = Printer::new(!std::io::stderr().is_terminal());
        if suite != Some(Suite::Engines) && !llama_server::is_named() && engines::check_processor().is_err() {
            printer.note(&format!(
                "without tests of a real llama-server, which is prebuilt for x86-64 Linux: name your own in {} and {}",
                llama_server::PROGRAM,
                llama_server::MODEL
            ));
            return Ok(Self { without_llama_server: true, ..Self::default() });
        }
        let LlamaServer { program, weights } = llama_server::fetch(&printer)?;
        let mut variables = vec![(llama_server::PROGRAM, program), (llama_server::MODEL, weights.clone())];
        if suite == Some(Suite::Engines) {
            let Vllm { venv, model } = vllm::fetch(&printer, &weights)?;
            variables.extend([(vllm::VENV, venv), (vllm::MODEL, model)]);
        }
        Ok(Self { variables, without_llama_server: false })
    }
}

/// A run without tests is no success: a filter that matches nothing is a typo, and no filter at all a broken build.
fn verdict(total: Tally, broken: &[String], filter: Option<&str>) -> Result<()> {
    if total.failed > 0 {
        bail!("{} of {} tests failed", total.failed, total.failed + total.passed);
    }
    if !broken.is_empty() {
        bail!("{} failed, though no test did: see above", broken.join(" and "));
    }
    match (total.passed, filter) {
        (0, Some(filter)) => Err(anyhow!("no test has `{filter}` in its name")),
        (0, None) => Err(anyhow!("no test ran")),
        _ => Ok(()),
    }
}

/// How many tests ended in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Tally {
    fn plus(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            ignored: self.ignored + other.ignored,
        }
    }

    /// Reads the line that closes each test binary under cargo's own runner: `test result: ok. 1 passed; …`.
    fn of_cargo(line: &str) -> Option<Self> {
        line.strip_prefix("test result: ").map(Self::of_counts)
    }

    /// Reads nextest's one closing line, `Summary [ 1.2s] 9 tests run: 8 passed, …`. Not cargo's: nextest repeats
    /// what a failed test wrote, and that ends in such a line.
    fn of_nextest(line: &str) -> Option<Self> {
        let summary = line.trim_start().strip_prefix("Summary [")?;
        let counts = summary.split_once("tests run: ").or_else(|| summary.split_once("test run: "));
        counts.map(|(_, counts)| Self::of_counts(counts))
    }

    fn of_counts(counts: &str) -> Self {
        let words: Vec<&str> =
            counts.split([' ', ',', ';', '(', ')']).filter(|word| !word.is_empty()).collect();
        let mut tally = Self::default();
        for pair in words.windows(2) {
            let &[count, outcome] = pair else { continue };
            let Ok(count) = count.parse::<u64>() else { continue };
            match outcome {
                "passed" => tally.passed += count,
                "failed" | "timed" | "exec" => tally.failed += count,
                "ignored" | "skipped" => tally.ignored += count,
                _ => {}
            }
        }
        tally
    }
}

/// How a runner's closing line is read; `None` for every other line.
type ClosingLine = fn(&str) -> Option<Tally>;

/// Runs cargo, shows what it writes as it comes, and counts.
fn watch(args: &[&str], variables: &[(&str, PathBuf)], closing: ClosingLine) -> Result<(bool, Tally)> {
    let mut command = cargo::command(args);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    if std::io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("`cargo {}` cannot be started", args.join(" ")))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let tally = thread::scope(|scope| {
        let stdout =
            stdout.map(|pipe| scope.spawn(|| copy(pipe, closing, |line| anstream::println!("{line}"))));
        let stderr =
            stderr.map(|pipe| scope.spawn(|| copy(pipe, closing, |line| anstream::eprintln!("{line}"))));
        let copied = [stdout, stderr].into_iter().flatten().filter_map(|thread| thread.join().ok());
        copied.fold(Tally::default(), Tally::plus)
    });
    let status = child.wait().context("waiting for cargo")?;
    Ok((status.success(), tally))
}

fn copy(pipe: impl Read, closing: ClosingLine, show: impl Fn(&str)) -> Tally {
    let mut tally = Tally::default();
    for line in BufReader::new(pipe).split(b'\n').map_while(std::io::Result::ok) {
        let line = String::from_utf8_lossy(&line);
        let plain = anstream::adapter::strip_str(&line).to_string();
        tally = tally.plus(closing(&plain).unwrap_or_default());
        show(&line);
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(passed: u64, failed: u64, ignored: u64) -> Tally {
        Tally { passed, failed, ignored }
    }

    #[test]
    fn closing_lines_of_both_runners_are_read() {
        let cargo = "test result: FAILED. 16 passed; 2 failed; 3 ignored; 0 measured; 9 filtered out; finished in 0.05s";
        assert_eq!(Tally::of_cargo(cargo), Some(tally(16, 2, 3)));
        let nextest = "     Summary [   3.252s] 50 tests run: 47 passed (2 slow, 1 leaky), 1 failed, 1 timed out, 1 exec failed, 4 skipped";
        assert_eq!(Tally::of_nextest(nextest), Some(tally(47, 3, 4)));
        let one = "     Summary [   0.004s] 1 test run: 1 passed, 33 skipped";
        assert_eq!(Tally::of_nextest(one), Some(tally(1, 0, 33)));
        assert_eq!(Tally::of_nextest("        PASS [   0.005s] xtask test::tests::closing"), None);
    }

    #[test]
    fn what_a_failed_test_wrote_is_not_counted_again() {
        let repeated = "test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 33 filtered out";
        assert_eq!(Tally::of_nextest(repeated), None);
        assert_eq!(Tally::of_nextest(&format!("    {repeated}")), None);
    }

    #[test]
    fn closing_line_is_read_through_colour() {
        let text = "test a ... ok\n\x1b[32;1m     Summary\x1b[0m [ 1s] \x1b[1m2\x1b[0m tests run: \x1b[1m2\x1b[0m passed, 0 skipped\n";
        let shown = std::sync::Mutex::new(Vec::new());
        let counted =
            copy(text.as_bytes(), Tally::of_nextest, |line| shown.lock().unwrap().push(line.to_owned()));
        assert_eq!(counted, tally(2, 0, 0));
        assert_eq!(shown.into_inner().unwrap().join("\n") + "\n", text);
    }

    #[test]
    fn run_without_tests_is_no_success() {
        assert!(verdict(tally(3, 0, 1), &[], None).is_ok());
        assert!(verdict(tally(3, 1, 0), &["`cargo test`".to_owned()], None).is_err());
        // Nothing compiled, so nothing was counted.
        assert!(verdict(tally(3, 0, 0), &["`cargo test`".to_owned()], None).is_err());
        assert_eq!(
            verdict(tally(0, 0, 9), &[], Some("tpyo")).unwrap_err().to_string(),
            "no test has `tpyo` in its name"
        );
        assert!(verdict(tally(0, 0, 0), &[], None).is_err());
    }
}
