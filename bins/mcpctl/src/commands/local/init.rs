//! `mcpctl local init`: writes `mcplocal.yaml` from what is on this machine and what the account may run at mcpd.
//!
//! `mcplocal --discover` looks, `mcplocal --check` judges the result before it is put in place, so that a file of this command is
//! never one that the agent rejects.

mod choices;
mod document;

use std::{
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::Duration,
};

use mcpctl_api::{HintedError, Name, discovery::Discovery};
use mcpctl_client::{Client, config};
use mcpctl_owner::file::{self, Content};
use tokio::process::Command;

pub use self::document::scalar;
use self::{
    choices::{Choice, choices},
    document::{Central, document, short},
};
use crate::{
    Outcome, agent,
    commands::local::kept,
    context::Global,
    failure::Failure,
    output::{Tone, one_line, terminal},
};

/// How long the search may take: 3 s for folders, and a slow disk.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the check of the result may take: it asks mcpd for the names of Llms, for 3 s at most.
const CHECK_TIMEOUT: Duration = Duration::from_secs(15);
/// How long mcpd may take to list its Llms; without them the file is written all the same.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of a file that is replaced, bytes, as the agent reads it.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Models that a question lists; `--model` takes any.
const MAX_LISTED: usize = 20;

/// What to write, and where.
#[derive(clap::Args)]
pub struct Args {
    /// Local model: a GGUF file, a model of the hub, or one that a running server lists [default: asks]
    #[arg(long, value_name = "MODEL", conflicts_with = "without_model")]
    model: Option<String>,
    /// Central Llms that the local model answers for while they fail, separated by commas [default: asks]
    #[arg(long, value_name = "LLMS", value_delimiter = ',', conflicts_with = "without_model")]
    failover_for: Option<Vec<Name>>,
    /// Write a file without a local model: the agent forwards, and never falls back
    #[arg(long)]
    without_model: bool,
    /// Take what is proposed, without questions
    #[arg(long, short)]
    yes: bool,
    /// Print the file and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace a file that is there; it is kept beside, with the ending `.backup`, or `.backup.2` and so on
    #[arg(long)]
    force: bool,
    /// File to write [default: $XDG_CONFIG_HOME/mcpctl/mcplocal.yaml]
    #[arg(long, short, env = "MCPLOCAL_CONFIG", value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Writes the file.
pub async fn run(global: &Global, args: Args) -> Outcome {
    let path = match &args.output {
        Some(path) => std::path::absolute(path)?,
        None => config::config_dir()?.join("mcplocal.yaml"),
    };
    let asks =
        !args.yes && !args.dry_run && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if !asks && !args.yes && !args.dry_run {
        return Err(Failure::usage("there is no terminal to ask at")
            .hint("take the proposal with --yes, or look at it with --dry-run"));
    }
    let before = if args.dry_run { None } else { existing(&path, args.force || asks)? };
    if before.is_some()
        && !args.force
        && !terminal::confirm(&format!("`{}` is there; replace it?", path.display()))?
    {
        return Err(Failure::new("nothing was written"));
    }
    let central = Central::of(global)?;
    let found = discover().await?;
    let choice = match args.without_model {
        true => None,
        false => Some(choose(&found, args.model.as_deref(), asks)?),
    };
    if let Some(Choice::Running { model, product, tools: Some(false), .. }) = &choice {
        note!(Tone::Warning, "warning:"; " {product} reports that `{model}` calls no tools: requests with tools, as of Claude Code and Codex, do not fall back to it");
    }
    let llms = llms(global, &central).await;
    let failover_for = match (&choice, args.failover_for) {
        (None, _) => Vec::new(),
        (Some(_), Some(named)) => named,
        (Some(choice), None) => choose_llms(choice, &llms, asks)?,
    };
    warn_of_unknown(&failover_for, &llms);
    let others =
        choices(&found).into_iter().filter(|other| Some(other) != choice.as_ref()).collect::<Vec<_>>();
    let text = document(&central, choice.as_ref(), &failover_for, &others);
    check(&path, &text).await?;
    if args.dry_run {
        data!("{}", text.trim_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    if asks {
        note!("");
        text.lines().for_each(|line| note!("{line}"));
        note!("");
        if !terminal::confirm_default(&format!("write this to `{}`?", path.display()))? {
            return Err(Failure::new("nothing was written"));
        }
    }
    write(&path, &text, before.as_deref())?;
    data!("{} written", one_line(&path.display().to_string()))?;
    if agent::find().await.is_ok() {
        note!("mcplocal runs, and takes it over; a new `server` or `listen` at its next start");
    } else {
        let named = args
            .output
            .as_ref()
            .map(|path| format!(" --config {}", config::shell_word(&path.to_string_lossy())));
        note!("start the agent: mcpctl local up{}", named.unwrap_or_default());
    }
    Ok(ExitCode::SUCCESS)
}

/// The file that is there; an error where it may not be replaced.
fn existing(path: &Path, replaces: bool) -> Result<Option<Vec<u8>>, Failure> {
    match file::read_named(path, Content::Public, MAX_FILE_BYTES) {
        Ok(_) if !replaces => Err(Failure::new(format!("`{}` is there already", path.display()))
            .hint("replace it with --force, which keeps a backup, or look at the proposal with --dry-run")),
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What `mcplocal --discover` finds.
async fn discover() -> Result<Discovery, Failure> {
    note!("looking for model servers and models on this machine…");
    let mut command = Command::new(agent::program()?);
    command.arg("--discover").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(DISCOVERY_TIMEOUT, command.output()).await;
    let output = output.map_err(|_| Failure::new("the search did not end in time"))??;
    let unreadable = |error| Failure::new(format!("`mcplocal --discover` answered something else: {error}"));
    let found: Discovery = serde_json::from_slice(&output.stdout)
        .map_err(unreadable)
        .map_err(|failure| failure.hint("install mcpctl and mcplocal of one version"))?;
    for program in &found.programs {
        note!("  program  {}", program.path);
    }
    for server in &found.servers {
        let user = server.user.as_ref().map(|user| format!(", run by {user}")).unwrap_or_default();
        let models = match server.wants_key {
            true => "wants a key: add it by hand, with `apiKeyFile`".to_owned(),
            false => format!("models: {}", server.models.len()),
        };
        note!("  server   {} at {}{user}, {models}", server.product, server.url);
    }
    if found.servers.iter().any(|server| server.user.is_some() && !server.models.is_empty()) {
        note!(Tone::Hint, "hint:"; " a server that another user runs reads every prompt, so it is never proposed; if you trust it: mcpctl local init --model MODEL, at a terminal");
    }
    note!("  models on the disk: {}{}", found.models.len(), if found.incomplete { " or more" } else { "" });
    Ok(found)
}

/// The local model: the named one, the only one, or the answer to a question.
fn choose(found: &Discovery, named: Option<&str>, asks: bool) -> Result<Choice, Failure> {
    if let Some(named) = named {
        let choice = choices::named(found, named)?;
        return allowed(found, choice, asks);
    }
    let mut all = choices(found);
    if all.is_empty() {
        return Err(nothing_found(found));
    }
    if !asks {
        return Ok(all.remove(0));
    }
    note!("");
    for (at, choice) in all.iter().take(MAX_LISTED).enumerate() {
        note!("{:>3}  {}", at + 1, choice.describe());
    }
    if all.len() > MAX_LISTED {
        note!("     and {} more: --model takes a file or a name", all.len() - MAX_LISTED);
    }
    let listed = all.len().min(MAX_LISTED);
    loop {
        match listed_at(&ask("which local model? [1]")?, listed) {
            Some(at) => return Ok(all.swap_remove(at)),
            None => note!("a number from 1 to {listed}"),
        }
    }
}

/// The place in the list that an answer names; the first where it is empty.
fn listed_at(answer: &str, listed: usize) -> Option<usize> {
    let number = if answer.is_empty() { 1 } else { answer.parse::<usize>().ok()? };
    number.checked_sub(1).filter(|at| *at < listed)
}

/// The choice, unless its server is another user's, who would read every prompt: then only after a question that names the user.
fn allowed(found: &Discovery, choice: Choice, asks: bool) -> Result<Choice, Failure> {
    let Some((user, url)) = choices::other_user(found, &choice) else { return Ok(choice) };
    if !asks {
        let failure = format!(
            "the server at {url} that has `{}` is run by {user}, who could read every prompt",
            choice.model()
        );
        return Err(Failure::new(failure).hint(format!(
            "if you trust {user}, run this at a terminal without --yes and --dry-run, where it asks"
        )));
    }
    let question = format!(
        "the server at {url} is run by {user}, who can read what is sent to it; use `{}`?",
        choice.model()
    );
    match terminal::confirm(&question)? {
        true => Ok(choice),
        false => Err(Failure::new("nothing was written")),
    }
}

fn nothing_found(found: &Discovery) -> Failure {
    let foreign = found.servers.iter().find_map(|server| Some((server.user.as_ref()?, server)));
    if let Some((user, server)) = foreign {
        let what = format!(
            "no model of your own is here, and the server at {} is run by {user}, who could read every prompt",
            server.url
        );
        return Failure::new(what).hint(format!(
            "if you trust {user}, name its model at a terminal: mcpctl local init --model MODEL; or write a file that only \
             forwards: mcpctl local init --without-model"
        ));
    }
    let searched = &found.searched;
    let places = |paths: &[String]| paths.iter().map(|path| short(path)).collect::<Vec<_>>().join(", ");
    note!("looked for programs in {}", places(&searched.programs));
    note!("looked for servers at {}", searched.servers.join(", "));
    note!("looked for models in {}", places(&searched.models));
    let (has_model, has_program) = (!found.models.is_empty(), !found.programs.is_empty());
    let (what, step) = match (has_program, has_model) {
        (true, false) => ("no local model", "download a GGUF file, e.g. from Hugging Face, into ~/models"),
        (false, true) => (
            "models, but no program that serves them",
            "install llama.cpp, whose llama-server serves GGUF files: https://github.com/ggml-org/llama.cpp/releases",
        ),
        _ => {
            ("no model server and no local model", "install Ollama, or llama.cpp and a GGUF file in ~/models")
        }
    };
    Failure::new(format!("there is {what}")).hint(format!(
        "{step}, then run this again; or write a file that only forwards: mcpctl local init --without-model"
    ))
}

/// The names of the Llms that the account may run; none where they cannot be asked for.
async fn llms(global: &Global, central: &Central) -> Vec<String> {
    let listed = async {
        let identity = global.identity()?;
        let options = mcpctl_client::ClientOptions { timeout: LIST_TIMEOUT, ..identity.options() };
        if identity.bearer.is_none() {
            return Err(identity.not_signed_in());
        }
        Ok(Client::new(identity.server, identity.bearer, &options)?.models().await?)
    };
    match listed.await {
        Ok(models) => models.into_iter().map(|model| model.id).filter(|id| !id.contains('/')).collect(),
        Err(failure) => {
            note!(Tone::Warning, "warning:"; " the Llms of {} are not known: {}", central.server(), failure.in_one_line());
            Vec::new()
        }
    }
}

/// The Llms to fall back from: all that the account may run, or the answer to a question.
fn choose_llms(choice: &Choice, llms: &[String], asks: bool) -> Result<Vec<Name>, Failure> {
    let all: Vec<Name> = llms.iter().filter_map(|llm| llm.parse().ok()).collect();
    if !asks || all.is_empty() {
        return Ok(all);
    }
    note!("");
    note!("central Llms that you may run: {}", llms.join(", "));
    loop {
        let question = format!(
            "for which may `{}` answer while they fail? names, `all` or `none` [all]",
            choice.model()
        );
        let answer = ask(&question)?;
        match answer.as_str() {
            "" | "all" => return Ok(all),
            "none" => return Ok(Vec::new()),
            _ => {}
        }
        let words = answer.split([',', ' ']).filter(|word| !word.is_empty());
        let named: Result<Vec<Name>, _> = words.map(str::parse).collect();
        match named {
            Ok(named) if named.iter().all(|name| all.contains(name)) => return Ok(named),
            Ok(named) => {
                let unknown = named.iter().find(|name| !all.contains(name));
                note!("`{}` is not one of them", unknown.map(ToString::to_string).unwrap_or_default());
            }
            Err(error) => note!("{error}"),
        }
    }
}

/// Names that mcpd does not list for the account: a typing error would mean that nothing ever falls back.
fn warn_of_unknown(named: &[Name], llms: &[String]) {
    if llms.is_empty() {
        return;
    }
    for name in named.iter().filter(|name| !llms.iter().any(|llm| llm == name.as_str())) {
        note!(Tone::Warning, "warning:"; " mcpd does not list `{name}` for you, only {}", llms.join(", "));
    }
}

/// Lets the agent check the text, as a temporary file.
async fn check(path: &Path, text: &str) -> Result<(), Failure> {
    let draft = tempfile::Builder::new().prefix("mcplocal-").suffix(".yaml").tempfile()?;
    draft.as_file().write_all(text.as_bytes())?;
    let mut command = Command::new(agent::program()?);
    command.arg("--check").arg("--config").arg(draft.path()).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(CHECK_TIMEOUT, command.output()).await;
    let output = output.map_err(|_| Failure::new("the check of the file did not end in time"))??;
    let shown = String::from_utf8_lossy(&output.stderr)
        .replace(&draft.path().display().to_string(), &path.display().to_string());
    if output.status.success() {
        shown.lines().for_each(|line| note!("{line}"));
        return Ok(());
    }
    let HintedError { message, hint } = HintedError::parse(&shown);
    let failure = Failure::new(format!(
        "mcplocal rejects this file: {}",
        one_line(message.trim_start_matches("error: "))
    ));
    Err(match hint {
        Some(hint) => failure.hint(one_line(&hint)),
        None => failure,
    })
}

/// Writes the file whole or not at all, after what was there is kept beside it.
fn write(path: &Path, text: &str, before: Option<&[u8]>) -> Result<(), Failure> {
    let real = kept::real(path)?;
    if let Some(before) = before {
        let backup = kept::keep(&real, ".backup", before)?;
        note!("the file of before is `{}`", backup.display());
    }
    if real != path {
        return Ok(file::replace(&real, text.as_bytes())?);
    }
    if path.parent() == Some(config::config_dir()?.as_path()) {
        return Ok(config::write_private(path, text.as_bytes())?);
    }
    Ok(file::replace(path, text.as_bytes())?)
}

/// A line from the terminal.
fn ask(question: &str) -> Result<String, Failure> {
    terminal::ask(question)?.ok_or_else(|| Failure::new("nothing was written"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_names_a_model_that_is_listed() {
        assert_eq!((listed_at("", 20), listed_at("20", 20)), (Some(0), Some(19)));
        for answer in ["21", "0", "-1", "x"] {
            assert_eq!(listed_at(answer, 20), None, "{answer}");
        }
    }
}
