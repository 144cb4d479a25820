//! Mistakes in the command line, as every other failure: one line, and a hint.

use std::process::ExitCode;

use clap::{
    Arg, Command, CommandFactory as _,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{commands::Cli, failure::Failure, habits, output, suggest::did_you_mean};

/// A name that more commands have is no hint.
const MAX_ELSEWHERE: usize = 3;

/// Whether the parser prints a help.
pub fn shows_help(error: &clap::Error) -> bool {
    matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand)
}

/// Reports what the parser of the command line found; exit code 2.
pub fn report(error: &clap::Error) -> ExitCode {
    let text = without_variables(error).as_ref().unwrap_or(error).render().to_string();
    // Not a mistake: a command that consists of others.
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        text.trim_end().lines().for_each(|line| note!("{line}"));
        return ExitCode::from(2);
    }
    let failure = failure(&text);
    output::report(&match suggestion(error) {
        Some(hint) => failure.hint(hint),
        None => failure,
    })
}

/// The same mistake without the variables of the environment, which the parser would show in the usage as if they had to be written.
fn without_variables(error: &clap::Error) -> Option<clap::Error> {
    // A variable without a name is never set.
    let command = Cli::command().mut_args(|arg| if arg.get_env().is_some() { arg.env("") } else { arg });
    command.try_get_matches().err().filter(|again| again.kind() == error.kind())
}

/// The command or option that is most like an unknown one, where the parser has found none.
fn suggestion(error: &clap::Error) -> Option<String> {
    let value = |kind| match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        _ => None,
    };
    let (path, command) = innermost();
    let argument = value(ContextKind::InvalidArg).unwrap_or_default();
    let habit = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            habits::command(&path, &value(ContextKind::InvalidSubcommand).unwrap_or_default())
        }
        ErrorKind::UnknownArgument => habits::argument(&path, &argument),
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            habits::value(&argument, &value(ContextKind::InvalidValue).unwrap_or_default())
        }
        // As in `--watch=true`.
        ErrorKind::TooManyValues => Some("the option stands alone; leave it out for no"),
        _ => None,
    };
    if let Some(hint) = habit {
        return Some(hint.to_owned());
    }
    if let Some(found) = value(ContextKind::InvalidSubcommand).and_then(|word| elsewhere(&word)) {
        return Some(found);
    }
    if error.get(ContextKind::SuggestedSubcommand).or(error.get(ContextKind::SuggestedArg)).is_some() {
        return None;
    }
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let word = value(ContextKind::InvalidSubcommand)?;
            did_you_mean(
                &word,
                command.get_subcommands().filter(|below| !below.is_hide_set()).map(Command::get_name),
            )
        }
        ErrorKind::UnknownArgument => {
            let word = value(ContextKind::InvalidArg)?;
            let options = command
                .get_arguments()
                .chain(Cli::command().get_arguments())
                .filter_map(Arg::get_long)
                .map(|long| format!("--{long}"))
                .collect::<Vec<_>>();
            did_you_mean(&word, options.iter().map(String::as_str))
        }
        _ => None,
    }
}

/// The innermost command that is understood, and its name with those before it. The parser decides which words are commands: others
/// are names and values.
fn innermost() -> (String, Command) {
    let mut command = Cli::command();
    let mut path = command.get_name().to_owned();
    let Ok(matches) = command.clone().ignore_errors(true).try_get_matches() else { return (path, command) };
    let mut below = matches.subcommand();
    while let Some((name, matches)) = below {
        let Some(next) = command.find_subcommand(name) else { break };
        command = next.clone();
        path = format!("{path} {name}");
        below = matches.subcommand();
    }
    (path, command)
}

/// The commands of this name below others, as `env` in `mcpctl local env`.
fn elsewhere(word: &str) -> Option<String> {
    fn find(command: &Command, path: &str, word: &str, found: &mut Vec<String>) {
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            let path = format!("{path} {}", below.get_name());
            if below.get_name() == word {
                found.push(format!("`{path}`"));
            }
            find(below, &path, word, found);
        }
    }
    let (command, mut found) = (Cli::command(), Vec::new());
    find(&command, command.get_name(), word, &mut found);
    let meant = !found.is_empty() && found.len() <= MAX_ELSEWHERE;
    meant.then(|| format!("did you mean {}?", found.join(" or ")))
}

/// The parser's paragraphs: the mistake, tips, usage, and a reference to `--help`.
fn failure(text: &str) -> Failure {
    let mut paragraphs = text.trim().split("\n\n").map(in_one_line);
    let mistake = paragraphs.next().unwrap_or_default();
    let failure = Failure::usage(mistake.strip_prefix("error: ").unwrap_or(&mistake));
    let (mut tips, mut usage) = (Vec::new(), None);
    for paragraph in paragraphs {
        if let Some(tip) = paragraph.strip_prefix("tip: ") {
            // An unknown option is seldom meant as a value.
            if !tip.starts_with("to pass '") {
                tips.push(tip.to_owned());
            }
        } else if let Some(of) = paragraph.strip_prefix("Usage: ") {
            usage = Some(format!("usage: {of}"));
        }
    }
    let hint = if tips.is_empty() { usage } else { Some(tips.join("; ")) };
    failure.hint(hint.as_deref().unwrap_or("`--help` shows the usage"))
}

fn in_one_line(paragraph: &str) -> String {
    paragraph.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistake_is_one_line_and_its_next_step_another() {
        for (text, message, hint) in [
            (
                "error: the following required arguments were not provided:\n  <KIND>\n\nUsage: mcpctl get <KIND> [NAME]...\n\nFor more information, try '--help'.\n",
                "the following required arguments were not provided: <KIND>",
                "usage: mcpctl get <KIND> [NAME]...",
            ),
            (
                "error: unrecognized subcommand 'gte'\n\n  tip: a similar subcommand exists: 'get'\n\nUsage: mcpctl <COMMAND>\n",
                "unrecognized subcommand 'gte'",
                "a similar subcommand exists: 'get'",
            ),
            (
                "error: invalid value 'x' for '<NAME>': no",
                "invalid value 'x' for '<NAME>': no",
                "`--help` shows the usage",
            ),
        ] {
            assert_eq!(failure(text).parts(), (message, Some(hint)));
        }
    }
}
