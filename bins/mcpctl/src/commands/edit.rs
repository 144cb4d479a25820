//! `mcpctl edit`: in `$VISUAL` or `$EDITOR`. What mcpd or the reader refuses is opened again with the reason on top, and so is a text
//! that another writer overtook, with what that one changed.

use std::{
    io::IsTerminal as _,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Command, ExitCode},
};

use mcpctl_api::{Name, Resource, yaml};
use mcpctl_client::Client;
use tokio::signal::unix::{SignalKind, signal};

use super::{files, retry, targets::Targets};
use crate::{
    Outcome,
    context::Global,
    failure::Failure,
    output::{
        self,
        diff::{Line, lines},
    },
    suggest,
};

/// Begins each line that is put above the document and removed again.
const NOTE: &str = "#! ";
/// What the first opening shows.
const INTRODUCTION: &str = "lines that begin with `#!` are left out; an empty file cancels the edit";
/// Editors that need a terminal.
const TERMINAL_EDITORS: [&str; 14] = [
    "vi",
    "vim",
    "vim.basic",
    "vim.tiny",
    "nvim",
    "view",
    "nano",
    "pico",
    "micro",
    "hx",
    "helix",
    "kak",
    "joe",
    "ne",
];

/// What to edit.
#[derive(clap::Args)]
pub struct Args {
    /// A kind and a name or id, e.g. llm claude
    #[arg(value_name = "KIND NAME | KIND/NAME", required = true)]
    what: Vec<String>,
    /// Do not ask providers whether they accept new keys
    #[arg(long)]
    skip_check: bool,
}

/// Edits a resource.
pub async fn run(global: &Global, args: &Args) -> Outcome {
    let (kind, name) = Targets::one(&args.what)?;
    let editor = Editor::find()?;
    let client = global.client()?.skipping_check(args.skip_check);
    let resource = match client.get(kind, &name).await {
        Ok(resource) => resource,
        Err(error) => return Err(suggest::not_found(&client, kind, &name, error).await),
    };
    // Private from the start, and removed at the end unless what was written is not stored.
    let file = tempfile::Builder::new().prefix("mcpctl-edit-").suffix(".yaml").tempfile()?;
    let path = file.path().to_owned();
    match edit(&client, &editor, resource, &path).await {
        Ok(Some(name)) => data!("{}/{name} edited", kind.plural())?,
        Ok(None) => note!("nothing changed"),
        Err(End::Nothing(failure)) => return Err(failure),
        Err(End::Unstored(failure)) => {
            if file.keep().is_ok() {
                note!("what you wrote is kept in {}", path.display());
            }
            return Err(failure);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Why an edit ended.
enum End {
    /// Before anything was written.
    Nothing(Failure),
    /// What was written is not stored.
    Unstored(Failure),
}

impl<E: Into<Failure>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Nothing(error.into())
    }
}

/// Opens the document until it is stored or left as it is; returns the name of the resource, or `None` where nothing was changed.
async fn edit(
    client: &Client,
    editor: &Editor,
    mut resource: Resource,
    path: &Path,
) -> Result<Option<Name>, End> {
    let original = output::yaml(&resource.to_document())?;
    let mut presented = noted(&[INTRODUCTION.to_owned()], &original);
    let mut refused = None;
    loop {
        std::fs::write(path, &presented)?;
        match editor.open(path) {
            Err(failure) if refused.is_some() => return Err(End::Unstored(failure)),
            opened => opened?,
        }
        let written = files::read_file(path).map_err(End::Unstored)?;
        let text = without_notes(&written);
        if text.trim().is_empty() || text == original {
            return Ok(None);
        }
        // The same text would be refused for the same reason.
        if let Some(failure) = refused.take().filter(|_| written == presented) {
            return Err(End::Unstored(failure));
        }
        let shown_path = path.display();
        match store(client, &resource, &text).await {
            Ok(name) => return Ok(Some(name)),
            Err(Refusal::Final(failure)) => return Err(End::Unstored(failure)),
            Err(Refusal::Stale(failure)) => {
                let id = resource.id.as_str();
                let now =
                    client.get(resource.kind(), id).await.map_err(|error| End::Unstored(error.into()))?;
                presented = noted(&overtaken(&resource, &now)?, &at_revision(&text, &resource, &now));
                (resource, refused) = (now, Some(failure));
            }
            Err(Refusal::Text { line, column, message, hint }) => {
                let mut notes = vec![String::new()];
                notes.extend(hint.as_ref().map(|hint| format!("hint: {hint}")));
                notes.push("leave the file as it is to end the edit; what you wrote is kept then".to_owned());
                // The place in the file that is opened next, which is also the one that is kept.
                let line = line + notes.len() as u64;
                let place = column.map_or_else(|| line.to_string(), |column| format!("{line}:{column}"));
                if let Some(first) = notes.first_mut() {
                    *first = format!("not stored: {place}: {message}");
                }
                presented = noted(&notes, &text);
                let failure = Failure::new(format!("{shown_path}:{place}: {message}"));
                refused = Some(match hint {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                });
            }
        }
    }
}

/// Why a text is not stored.
enum Refusal {
    /// Another writer was first.
    Stale(Failure),
    /// The text is wrong.
    Text { line: u64, column: Option<u64>, message: String, hint: Option<String> },
    /// No other text would be stored either.
    Final(Failure),
}

async fn store(client: &Client, resource: &Resource, text: &str) -> Result<Name, Refusal> {
    let documents = yaml::read_documents(text).map_err(|error| {
        let yaml::YamlError { line, column, message, hint } = error;
        Refusal::Text { line, column: Some(column), message, hint }
    })?;
    let [located] = documents.as_slice() else {
        let message = format!("there must be exactly one document, and there are {}", documents.len());
        let hint = Some("`mcpctl apply -f FILE` takes several".to_owned());
        return Err(Refusal::Text { line: 1, column: None, message, hint });
    };
    if located.document.kind() != resource.kind() {
        let message = format!("the resource is of the kind {}", resource.kind());
        let hint = Some("another kind is another resource: mcpctl create -f FILE".to_owned());
        return Err(Refusal::Text { line: 1, column: None, message, hint });
    }
    match client.put(resource.id.as_str(), &located.document, Some(resource.revision)).await {
        Ok(changed) => {
            output::warnings(&changed.warnings);
            Ok(changed.name)
        }
        Err(error) if retry::is_stale(&error) => Err(Refusal::Stale(error.into())),
        // A mistake in the text; a missing right or a lost connection is none.
        Err(error) if matches!(error.status().map(|status| status.as_u16()), Some(400 | 409 | 413 | 422)) => {
            let field = error.param().unwrap_or_default();
            let named = if field.is_empty() { String::new() } else { format!("{field}: ") };
            let line = yaml::line_of_field(text, &located.lines, field);
            Err(Refusal::Text { line, column: None, message: format!("{named}{error}"), hint: error.hint() })
        }
        Err(error) => Err(Refusal::Final(error.into())),
    }
}

/// The text below notes for its writer.
fn noted(notes: &[String], text: &str) -> String {
    let notes = notes.iter().map(|note| format!("{NOTE}{}\n", output::one_line(note)));
    notes.chain([text.to_owned()]).collect()
}

fn without_notes(text: &str) -> String {
    text.split_inclusive('\n').filter(|line| !line.starts_with(NOTE.trim_end())).collect()
}

/// What another writer changed.
fn overtaken(before: &Resource, now: &Resource) -> Result<Vec<String>, Failure> {
    let (old, new) = (output::yaml(&before.to_document())?, output::yaml(&now.to_document())?);
    let mut notes = vec!["not stored: it was changed meanwhile:".to_owned()];
    notes.extend(lines(&old, &new).into_iter().filter_map(|line| match line {
        Line::Same(_) => None,
        Line::Gone(text) => Some(format!("  - {text}")),
        Line::Come(text) => Some(format!("  + {text}")),
    }));
    notes.push("below is your text; remove these lines to store it in place of that".to_owned());
    notes.push("leave the file as it is to end the edit; what you wrote is kept then".to_owned());
    Ok(notes)
}

/// The text with the newer revision, where it has a line with the old one.
fn at_revision(text: &str, before: &Resource, now: &Resource) -> String {
    let old = format!("revision: {}", before.revision);
    let lines = text.split_inclusive('\n').map(|line| match line.trim_end() == old {
        true => format!("revision: {}\n", now.revision),
        false => line.to_owned(),
    });
    lines.collect()
}

/// The editor of the user.
struct Editor {
    command: String,
    /// The variable of the environment that sets it.
    variable: &'static str,
}

impl Editor {
    /// From `VISUAL` or `EDITOR`, else vi. One that needs a terminal takes one.
    fn find() -> Result<Self, Failure> {
        let set = |name: &str| std::env::var(name).ok().filter(|editor| !editor.trim().is_empty());
        let visual = set("VISUAL");
        let variable = if visual.is_some() { "VISUAL" } else { "EDITOR" };
        let editor = visual.or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".to_owned());
        let program = editor.split_whitespace().next().unwrap_or_default();
        let program = Path::new(program).file_name().and_then(|name| name.to_str()).unwrap_or(program);
        let has_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        if TERMINAL_EDITORS.contains(&program) && !has_terminal {
            return Err(Failure::new(format!("the editor `{editor}` needs a terminal, and there is none"))
                .hint(format!(
                    "set {variable} to one that needs none, or use `mcpctl patch` or `mcpctl apply -f FILE`"
                )));
        }
        Ok(Self { command: editor, variable })
    }

    /// Opens a file, and returns when the editor ends.
    fn open(&self, path: &Path) -> Result<(), Failure> {
        let Self { command: editor, variable } = self;
        // Signals of the keyboard reach the whole terminal, and are for the editor: ended by one, this program would leave the text
        // behind. Handlers, unlike ignored signals, do not pass to the editor.
        let _interrupt = signal(SignalKind::interrupt())?;
        let _quit = signal(SignalKind::quit())?;
        // An editor with arguments, such as `code --wait`, is a command line.
        let mut command = Command::new("sh");
        let status = command.arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(path).status()?;
        // A shell returns the signal that ended a command as 128 and its number.
        let signal = status.signal().or_else(|| status.code().map(|code| code - 128));
        match status.code() {
            Some(0) => Ok(()),
            // What a shell returns of a command that it does not find or may not run.
            Some(126 | 127) => Err(Failure::new(format!("the editor `{editor}` cannot be run"))
                .hint(format!("set {variable}, e.g. {variable}=nano"))),
            // Ctrl-C, by which the user ends the edit.
            _ if signal == Some(SignalKind::interrupt().as_raw_value()) => {
                Err(Failure::new("the editor was interrupted, and nothing was changed"))
            }
            Some(code) => {
                Err(Failure::new(format!("the editor `{editor}` ended with {code}, and nothing was changed"))
                    .hint(format!("run it by itself to see why, or set {variable} to another one")))
            }
            None => Err(Failure::new(format!(
                "the editor `{editor}` was ended by a signal, and nothing was changed"
            ))
            .hint("run the command again")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_put_on_top_and_removed_again() {
        let text = "kind: User\n# a comment of the writer\nname: a\n";
        let presented = noted(&["one".to_owned(), "two\nlines".to_owned()], text);
        assert!(presented.starts_with("#! one\n#! two") && presented.lines().count() == 5, "{presented}");
        assert_eq!(without_notes(&presented), text);
    }
}
