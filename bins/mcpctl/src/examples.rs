//! The examples of every command's help, man page and reference. They are added to the commands only where one of these is
//! printed, so that they cost nothing at other times. A test runs each of them; its world has the resources that they name.

use clap::{Command, builder::StyledStr};
use mcpctl_api::{Kind, schema::KindSchema};

use self::list::{EXAMPLES, Example};
use crate::output;

mod list;

/// What follows the options in a short help, where the options that every command has are left out.
const MORE: &str = "Options that every command has: mcpctl options";

/// The variables that every command reads and that have no option.
pub const ENVIRONMENT: &str = concat!(
    "  MCPCTL_TOKEN     The token to use, instead of the context's\n",
    "  XDG_CONFIG_HOME  Directory of mcpctl/config.yaml, instead of ~/.config\n",
    "  NO_COLOR         No colours",
);

/// The examples of a command, whose path is without the program's name, e.g. `local up`.
pub fn of(path: &str) -> &'static [Example] {
    EXAMPLES.iter().find(|(of, _)| *of == path).map_or(&[], |(_, examples)| examples)
}

/// Adds the examples to a command and to those below it.
pub fn add(command: Command) -> Command {
    below(command, "")
}

fn below(mut command: Command, path: &str) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    for name in names {
        let path = if path.is_empty() { name.clone() } else { format!("{path} {name}") };
        command = command.mut_subcommand(name, |command| below(command, &path));
    }
    let mut text = text(of(path));
    if let Some(document) = path.strip_prefix("create ").and_then(|kind| document(kind.parse().ok()?)) {
        text.push_str(&format!("\n\n{}\n{document}", title("As a document, for `apply`:")));
    }
    let short = match text.as_str() {
        "" => MORE.to_owned(),
        text => format!("{text}\n\n{MORE}"),
    };
    let long = match path {
        "" => format!("{text}\n\n{}\n{ENVIRONMENT}", title("Environment:")),
        _ => text,
    };
    command.after_help(StyledStr::from(short)).after_long_help(StyledStr::from(long))
}

/// The example of a kind's document, from its schema, indented.
fn document(kind: Kind) -> Option<String> {
    let yaml = output::yaml(KindSchema::of(kind)?.example()?).ok()?;
    Some(yaml.trim_end().lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))
}

fn text(examples: &[Example]) -> String {
    if examples.is_empty() {
        return String::new();
    }
    let lines = examples.iter().map(|(what, line)| format!("  # {what}\n  {line}"));
    format!("{}\n{}", title("Examples:"), lines.collect::<Vec<_>>().join("\n"))
}

/// As the parser's own titles are; it removes the colours where the output is no terminal.
fn title(text: &str) -> String {
    format!("\u{1b}[1m\u{1b}[4m{text}\u{1b}[0m")
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::commands::Cli;

    fn paths(command: &Command, path: &str, all: &mut Vec<(String, bool)>) {
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            let path = format!("{path} {}", below.get_name()).trim_start().to_owned();
            paths(below, &path, all);
            all.push((path, below.is_subcommand_required_set()));
        }
    }

    #[test]
    fn every_command_has_examples_and_every_example_a_command() {
        let mut all = Vec::new();
        paths(&Cli::command(), "", &mut all);
        let without: Vec<_> = all.iter().filter(|(path, _)| of(path).is_empty()).collect();
        assert!(without.is_empty(), "without examples: {without:?}");
        for (at, (path, examples)) in EXAMPLES.iter().enumerate() {
            assert!(
                path.is_empty() || all.iter().any(|(known, _)| known == path),
                "`{path}` is not a command"
            );
            assert!(EXAMPLES.iter().skip(at + 1).all(|(other, _)| other != path), "`{path}` is there twice");
            for (what, line) in *examples {
                assert!(line.contains(&format!("mcpctl {path}")), "`{line}` is of another command");
                assert!(line.chars().count() <= 98 && what.chars().count() <= 90, "`{line}` is too long");
            }
        }
    }

    #[test]
    fn every_example_is_understood() {
        for (_, examples) in EXAMPLES {
            for (_, line) in *examples {
                let mut words = words(line);
                // `eval "$(mcpctl …)"` is one word.
                if let [_, inner] = words.as_slice()
                    && let Some(inner) = inner.strip_prefix("$(")
                {
                    words = self::words(inner);
                }
                let begin = words.iter().position(|word| word == "mcpctl").unwrap();
                let end = |word: &String| matches!(word.as_str(), ">" | "|" | "<" | "mcpctl");
                let words: Vec<_> = words.drain(begin + 1..).take_while(|word| !end(word)).collect();
                let words = [vec!["mcpctl".to_owned()], words].concat();
                if let Err(error) = Cli::try_parse_from(&words) {
                    panic!("{line}: {error}");
                }
            }
        }
    }

    /// The words of a line, as a shell splits them: blanks and quotes.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
        for letter in line.chars() {
            match (quote, letter) {
                (None, '\'' | '"') => {
                    quote = Some(letter);
                    word.get_or_insert_default();
                }
                (Some(open), _) if open == letter => quote = None,
                (None, ' ' | '(' | ')' | ';') => words.extend(word.take()),
                _ => word.get_or_insert_default().push(letter),
            }
        }
        words.extend(word);
        words
    }
}
