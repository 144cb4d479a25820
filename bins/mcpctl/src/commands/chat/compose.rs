//! The question of a command line: its words, what is piped in, and files.

use std::{
    fs::File,
    io::{IsTerminal as _, Read},
    os::{fd::AsFd as _, unix::fs::FileTypeExt as _},
    path::Path,
};

use mcpctl_api::encoding;

use super::Args;
use crate::{bounded, failure::Failure, output::one_line};

/// Bytes of standard input and of each file, and of all together: more than any model takes.
pub const MAX_BYTES: u64 = 4 << 20;

/// The question; `None` for a conversation on the terminal.
pub fn question(args: &Args) -> Result<Option<String>, Failure> {
    let words = match (args.question.as_deref(), args.prompt.as_deref()) {
        (None, Some("-")) => Some(stdin()?),
        (None, Some(prompt)) => Some(prompt.to_owned()),
        (Some(question), _) => match piped() {
            true => Some(joined(question, stdin()?)),
            false => Some(question.to_owned()),
        },
        (None, None) if std::io::stdin().is_terminal() => None,
        (None, None) if piped() => Some(stdin()?),
        (None, None) => {
            return Err(
                Failure::usage("there is no terminal to talk at").hint("mcpctl chat LLM \"QUESTION\"")
            );
        }
    };
    let mut parts = Vec::new();
    let mut left = MAX_BYTES;
    for path in &args.files {
        let text = file(path, left)?;
        left = left.saturating_sub(u64::try_from(text.len()).unwrap_or(u64::MAX));
        parts.push(quoted(path, &text));
    }
    match words {
        None if parts.is_empty() => Ok(None),
        None => {
            Err(Failure::usage("a file goes with a question").hint("mcpctl chat LLM \"QUESTION\" -f FILE"))
        }
        Some(words) if words.trim().is_empty() => {
            Err(Failure::usage("the prompt is empty").hint("mcpctl chat LLM \"QUESTION\""))
        }
        Some(words) => {
            parts.insert(0, words);
            Ok(Some(parts.join("\n\n")))
        }
    }
}

/// Whether a program or a file is at standard input. A terminal is none, nor is `/dev/null`, or a socket of a service manager.
fn piped() -> bool {
    let Ok(input) = std::io::stdin().as_fd().try_clone_to_owned().map(File::from) else { return false };
    let Ok(kind) = input.metadata().map(|metadata| metadata.file_type()) else { return false };
    kind.is_file() || kind.is_fifo()
}

/// A question above the text that is piped in.
fn joined(question: &str, piped: String) -> String {
    match piped.trim().is_empty() {
        true => question.to_owned(),
        false => format!("{question}\n\n{piped}"),
    }
}

fn stdin() -> Result<String, Failure> {
    let text = read(std::io::stdin(), MAX_BYTES, "standard input")?;
    Ok(text.trim_end().to_owned())
}

/// The text of a file.
pub fn file(path: &Path, most: u64) -> Result<String, Failure> {
    let name = format!("`{}`", one_line(&path.display().to_string()));
    let opened = File::open(path)
        .map_err(|error| Failure::new(format!("{name} cannot be read: {}", bounded::reason(&error))))?;
    if opened.metadata()?.is_dir() {
        return Err(Failure::new(format!("{name} is a directory")).hint("name the files in it"));
    }
    read(opened, most, &name)
}

fn read(from: impl Read, most: u64, name: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    from.take(most + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > most) {
        return Err(Failure::new(format!(
            "{name} is too long: all together may have {} MiB",
            MAX_BYTES >> 20
        ))
        .hint("send a part of it, e.g. with head"));
    }
    let is_binary =
        || Failure::new(format!("{name} is not text")).hint("a chat takes text; convert it first");
    let text = encoding::decode(&bytes).map_err(|_| is_binary())?;
    if text.contains('\0') { Err(is_binary()) } else { Ok(text) }
}

/// A file as a part of a message: its name, and its text in a fence that does not occur in it.
pub fn quoted(path: &Path, text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{}:\n\n{fence}\n{}\n{fence}", path.display(), text.trim_end())
}
