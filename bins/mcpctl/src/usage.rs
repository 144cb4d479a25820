//! Mistakes in the command line, as every other failure: one line, and a hint.

use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::{failure::Failure, output};

/// Whether the parser prints a help.
pub fn shows_help(error: &clap::Error) -> bool {
    matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand)
}

/// Reports what the parser of the command line found; exit code 2.
pub fn report(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    // Not a mistake: a command that consists of others.
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        text.trim_end().lines().for_each(|line| note!("{line}"));
        return ExitCode::from(2);
    }
    output::report(&failure(&text))
}

/// The parser's paragraphs: the mistake, tips, usage, and a reference to `--help`.
fn failure(text: &str) -> Failure {
    let mut paragraphs = text.trim().split("\n\n").map(in_one_line);
    let mistake = paragraphs.next().unwrap_or_default();
    let failure = Failure::usage(mistake.strip_prefix("error: ").unwrap_or(&mistake));
    let (mut tips, mut usage) = (Vec::new(), None);
    for paragraph in paragraphs {
        if let Some(tip) = paragraph.strip_prefix("tip: ") {
            tips.push(tip.to_owned());
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
