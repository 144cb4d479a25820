//! `mcpctl completion`, and the answers to the shell that its scripts ask for: commands, options, kinds, and names that the caller may
//! view, read from mcpd as the word is typed. Nothing is kept, because another account may complete next; where mcpd does not answer
//! in time, there are no names.

use std::{
    collections::BTreeSet, ffi::OsStr, future::Future, io::Write as _, process::ExitCode, time::Duration,
};

use clap::{Arg, Command, CommandFactory as _, FromArgMatches as _, ValueHint};
use clap_complete::{
    CompleteEnv, Shell,
    engine::{ArgValueCompleter, CompletionCandidate},
    env::Shells,
};
use mcpctl_api::{Kind, Verb, schema::KindSchema, usage::UsageBy};

use super::{
    audit::actions,
    targets::{kind, short_name},
};
use crate::{Outcome, agent, commands::Cli, context::Global, failure::Failure};

/// The variable by which a shell asks.
const VARIABLE: &str = "MCPCTL_COMPLETE";
/// How long a shell waits for names at most: a key press that takes longer is felt.
const NAMES_TIMEOUT: Duration = Duration::from_millis(250);

/// For which shell.
#[derive(clap::Args)]
pub struct Args {
    /// bash, zsh, fish, elvish or powershell
    shell: Shell,
}

/// Prints the script.
pub fn run(args: &Args) -> Outcome {
    let (mut script, shell) = (Vec::new(), args.shell.to_string());
    let shells = Shells::builtins();
    let completer =
        shells.completer(&shell).ok_or_else(|| Failure::usage(format!("`{shell}` has no completion")))?;
    completer.write_registration(VARIABLE, "mcpctl", "mcpctl", "mcpctl", &mut script)?;
    let mut out = std::io::stdout().lock();
    out.write_all(&script)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Answers a shell, where one asks; returns whether one did.
pub fn answered() -> bool {
    if std::env::var_os(VARIABLE).is_none() {
        return false;
    }
    let asked = CompleteEnv::with_factory(completing).var(VARIABLE).completer("mcpctl");
    // A word that cannot be completed is no failure of the shell's line.
    let _ = asked.try_complete(std::env::args_os(), std::env::current_dir().ok().as_deref());
    true
}

/// The command line, with what completes its values.
fn completing() -> Command {
    below(Cli::command(), &[])
}

fn below(mut command: Command, path: &[&str]) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    for name in names {
        let path = [path, &[name.as_str()]].concat();
        command = command.mut_subcommand(name.as_str(), |command| below(command, &path));
    }
    // Options are offered where one is begun, as in kubectl; names would be lost among them.
    let begun = words().last().is_some_and(|word| word.starts_with('-'));
    let command = if begun {
        command
    } else {
        command.disable_help_flag(true).mut_args(|arg| if arg.is_positional() { arg } else { arg.hide(true) })
    };
    command.mut_args(|arg| match source(&arg, path) {
        Some(source) => arg.add(ArgValueCompleter::new(move |typed: &OsStr| source.candidates(typed))),
        None if is_file(&arg) => arg.value_hint(ValueHint::AnyPath),
        None => arg,
    })
}

/// Where the values of an option or argument come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// A kind and names of it, or `KIND/NAME`.
    Targets,
    /// `User/alice`, or a group.
    Subjects,
    /// As [`Source::Subjects`], without groups.
    Accounts,
    /// Names of a kind.
    Names(Kind),
    /// A kind and its fields, `llm.failover`.
    Fields,
    Contexts,
    Formats,
    /// Local providers of the agent.
    Providers,
    Verbs,
    Kinds,
    /// What usage is grouped by.
    Groupings,
    /// Actions of the audit.
    Actions,
    Words(&'static [&'static str]),
}

fn is_file(arg: &Arg) -> bool {
    arg.get_value_names().unwrap_or_default().iter().any(|name| matches!(name.as_str(), "FILE" | "DIR"))
}

/// What completes an argument, by what its value is called.
fn source(arg: &Arg, path: &[&str]) -> Option<Source> {
    if !arg.get_action().takes_values() || !arg.get_possible_values().is_empty() && arg.get_id() != "output" {
        return None;
    }
    let value = arg.get_value_names().and_then(<[_]>::first).map(|name| name.as_str()).unwrap_or_default();
    let id = arg.get_id().as_str();
    match (path, id, value) {
        (_, "context", _) | (["config", _], "name", _) => Some(Source::Contexts),
        (_, "output", _) if arg.get_possible_values().is_empty() => Some(Source::Formats),
        (["explain"], "path", _) => Some(Source::Fields),
        (["local", _], "name", _) => Some(Source::Providers),
        (["token", "rotate" | "revoke"] | ["rotate", "token"], "name" | "names", _) => {
            Some(Source::Names(Kind::Token))
        }
        (["set", "secret"], "name", _) | (_, "secret", _) => Some(Source::Names(Kind::Secret)),
        (["group", _], "group", _) | (_, "group" | "groups", "NAME") => Some(Source::Names(Kind::Group)),
        (["passwd"], "name", _) | (_, "user" | "users", _) => Some(Source::Names(Kind::User)),
        (_, "role", _) => Some(Source::Names(Kind::Role)),
        (_, "llm" | "llms", _) => Some(Source::Names(Kind::Llm)),
        (["create", "rolebinding" | "limit"], "accounts", _) | (_, "service_account", _) => {
            Some(Source::Names(Kind::ServiceAccount))
        }
        (["auth", _], "verb", _) | (_, _, "VERB") => Some(Source::Verbs),
        (["usage"], "by", _) => Some(Source::Groupings),
        (["audit"], "action", _) => Some(Source::Actions),
        (["create", "limit"], "per", _) => Some(Source::Words(&["all", "subject"])),
        (["create", "llm"], "provider", _) => Some(Source::Words(&["anthropic", "azure-openai", "openai"])),
        (["create", "llm"], "capabilities", _) => Some(Source::Words(&["messages", "prefill", "responses"])),
        (_, _, "ACCOUNT") => Some(Source::Accounts),
        (_, _, "KIND") => Some(Source::Kinds),
        (_, _, "KIND/NAME") => Some(Source::Subjects),
        (_, _, value) if value.starts_with("KIND") && id == "what" => Some(Source::Targets),
        _ => None,
    }
}

impl Source {
    fn candidates(self, typed: &OsStr) -> Vec<CompletionCandidate> {
        let typed = typed.to_string_lossy().into_owned();
        let mut found = match self {
            Self::Formats => ["table", "wide", "json", "yaml", "name", "jsonpath=", "custom-columns="]
                .map(str::to_owned)
                .to_vec(),
            Self::Contexts => contexts(),
            Self::Fields => fields(&typed),
            Self::Names(kind) => names(kind),
            Self::Subjects => subjects(&typed, &[Kind::User, Kind::Group, Kind::ServiceAccount]),
            Self::Accounts => subjects(&typed, &[Kind::User, Kind::ServiceAccount]),
            Self::Verbs => Verb::ALL.map(|verb| verb.as_str().to_owned()).to_vec(),
            Self::Kinds => kinds(&typed),
            Self::Groupings => UsageBy::ALL.map(|by| by.as_str().to_owned()).to_vec(),
            Self::Actions => actions().map(str::to_owned).collect(),
            Self::Words(words) => words.iter().map(|word| (*word).to_owned()).collect(),
            Self::Targets => targets(&typed),
            Self::Providers => providers(),
        };
        found.retain(|word| word.starts_with(&typed));
        found.into_iter().map(CompletionCandidate::new).collect()
    }
}

/// The words of the line that is completed, without the program's name.
fn words() -> Vec<String> {
    let words = std::env::args_os().skip_while(|word| word != "--").skip(2);
    words.map(|word| word.to_string_lossy().into_owned()).collect()
}

/// The options of the line's own that choose server and account.
fn global() -> Option<Global> {
    let line = std::iter::once("mcpctl".to_owned()).chain(words());
    let matches = Cli::command().ignore_errors(true).try_get_matches_from(line).ok()?;
    Global::from_arg_matches(&matches).ok()
}

/// Waits for an answer at most so long that the key press is not felt; nothing of it runs on afterwards.
fn in_time<T: Default>(answer: impl Future<Output = Option<T>>) -> T {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return T::default();
    };
    let found = runtime.block_on(async { tokio::time::timeout(NAMES_TIMEOUT, answer).await });
    // Without waiting for a name server that does not answer.
    runtime.shutdown_background();
    found.ok().flatten().unwrap_or_default()
}

/// Names of a kind that the caller may view, of the first page.
fn names(kind: Kind) -> Vec<String> {
    let Some(client) = global().and_then(|global| global.client().ok()) else { return Vec::new() };
    in_time(async move {
        let list = client.first_page(kind).await.ok()?;
        Some(list.items.into_iter().map(|item| item.name.to_string()).collect())
    })
}

/// Kinds where none was typed yet, else names of the kind; or `KIND/NAME`.
fn targets(typed: &str) -> Vec<String> {
    if let Some((word, _)) = typed.split_once('/') {
        let Ok(kind) = kind(word) else { return Vec::new() };
        return names(kind).into_iter().map(|name| format!("{word}/{name}")).collect();
    }
    // The kind is the first word after the commands that is one; the word that is typed is not complete.
    let before = words();
    let before =
        before.iter().rev().skip_while(|word| word.as_str() == typed).filter_map(|word| kind(word).ok());
    match before.last() {
        Some(kind) => names(kind),
        None => kinds(typed),
    }
}

/// The kinds; in `llms,us` those of the last part.
fn kinds(typed: &str) -> Vec<String> {
    let before = typed.rsplit_once(',').map_or("", |(before, _)| before);
    let prefix = if typed.contains(',') { format!("{before},") } else { String::new() };
    let words = Kind::RESOURCES.into_iter().flat_map(|kind| [kind.plural(), short_name(kind)]);
    let words: BTreeSet<&str> = words.collect();
    let plural =
        |word: &&str| word.parse::<Kind>().is_ok_and(|kind| kind.plural() == *word) || word.len() > 3;
    words.into_iter().filter(plural).map(|word| format!("{prefix}{word}")).collect()
}

fn subjects(typed: &str, of: &[Kind]) -> Vec<String> {
    match typed.split_once('/').and_then(|(word, _)| kind(word).ok().map(|kind| (word, kind))) {
        Some((word, kind)) if of.contains(&kind) => {
            names(kind).into_iter().map(|name| format!("{word}/{name}")).collect()
        }
        _ => {
            let kinds = of.iter().map(|kind| format!("{}/", kind.singular()));
            kinds.chain(names(Kind::User)).collect()
        }
    }
}

fn contexts() -> Vec<String> {
    let config = global().and_then(|global| global.config().ok());
    config
        .map(|(_, config)| config.contexts.into_iter().map(|context| context.name).collect())
        .unwrap_or_default()
}

fn fields(typed: &str) -> Vec<String> {
    let Some((before, _)) = typed.rsplit_once('.') else { return kinds(typed) };
    let mut keys = before.split('.');
    let schema = keys.next().and_then(|word| kind(word).ok()).and_then(KindSchema::of);
    let keys: Vec<&str> = keys.collect();
    let field = schema.and_then(|schema| schema.field(&keys).ok());
    let below = field.map(|field| field.fields).unwrap_or_default();
    below.into_iter().map(|field| format!("{before}.{}", field.name)).collect()
}

fn providers() -> Vec<String> {
    in_time(async {
        let found = agent::find().await.ok()?;
        Some(found.status.providers.into_iter().map(|provider| provider.name).collect())
    })
}
