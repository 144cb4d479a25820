//! The line that a person types, of several lines too: pasted text, a line that ends in a backslash, an open fence, Alt-Enter.

use std::borrow::Cow;

use owo_colors::OwoColorize as _;
use rustyline::{
    Cmd, Config, Context, Editor as LineEditor, EventHandler, Helper, KeyCode, KeyEvent, Modifiers,
    completion::Completer,
    error::ReadlineError,
    highlight::Highlighter,
    hint::Hinter,
    history::{History as _, MemHistory},
    validate::{ValidationContext, ValidationResult, Validator},
};

use super::{history::History, slash};
use crate::failure::Failure;

/// What was typed.
pub enum Typed {
    /// A question or a command.
    Text(String),
    /// The conversation ends.
    End,
}

/// Reads what is typed.
pub struct Editor {
    editor: LineEditor<Typing, MemHistory>,
    history: History,
}

impl Editor {
    /// An editor that completes these names of models.
    pub fn new(history: History, models: Vec<String>) -> Result<Self, Failure> {
        let config = Config::builder().max_history_size(history.len().max(1)).map_err(Failure::new)?.build();
        let mut memory = MemHistory::with_config(&config);
        for entry in history.entries() {
            memory.add(entry).map_err(Failure::new)?;
        }
        let mut editor = LineEditor::with_history(config, memory).map_err(Failure::new)?;
        editor.set_helper(Some(Typing { models, is_marked: false }));
        let newline = EventHandler::Simple(Cmd::Newline);
        editor.bind_sequence(KeyEvent(KeyCode::Enter, Modifiers::ALT), newline);
        Ok(Self { editor, history })
    }

    /// Reads a text that has more than blanks. Ctrl-C takes back what is typed, twice in a row ends.
    pub fn read(&mut self, prompt: &str, is_marked: bool) -> Result<Typed, Failure> {
        if let Some(helper) = self.editor.helper_mut() {
            helper.is_marked = is_marked;
        }
        let mut interrupted = false;
        loop {
            match self.editor.readline(prompt) {
                Ok(text) if text.trim().is_empty() => interrupted = false,
                Ok(text) => {
                    let text = unescaped(&text);
                    self.editor.add_history_entry(&text).map_err(Failure::new)?;
                    self.history.add(&text);
                    return Ok(Typed::Text(text));
                }
                Err(ReadlineError::Interrupted) if !interrupted => {
                    interrupted = true;
                    note!("Ctrl-C again or Ctrl-D ends");
                }
                Err(ReadlineError::Eof | ReadlineError::Interrupted) => return Ok(Typed::End),
                Err(error) => return Err(Failure::new(error)),
            }
        }
    }
}

/// The text without the backslashes that continue its lines.
fn unescaped(text: &str) -> String {
    text.replace("\\\n", "\n")
}

/// Whether more lines follow.
fn is_open(text: &str) -> bool {
    let fences = text.lines().filter(|line| line.trim_start().starts_with("```")).count();
    let backslashes = text.chars().rev().take_while(|c| *c == '\\').count();
    fences % 2 == 1 || backslashes % 2 == 1
}

/// Helps while a text is typed.
struct Typing {
    models: Vec<String>,
    /// Whether the last answer was a fallback's.
    is_marked: bool,
}

impl Helper for Typing {}

impl Hinter for Typing {
    type Hint = String;
}

impl Highlighter for Typing {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        match self.is_marked && !is_plain {
            true => Cow::Owned(prompt.yellow().bold().to_string()),
            false => Cow::Borrowed(prompt),
        }
    }
}

impl Validator for Typing {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match is_open(context.input()) {
            true => ValidationResult::Incomplete,
            false => ValidationResult::Valid(None),
        })
    }
}

impl Completer for Typing {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let typed = line.get(..at).unwrap_or_default();
        if let Some(begun) = typed.strip_prefix("/model ") {
            let matching = self.models.iter().filter(|model| model.starts_with(begun)).cloned();
            return Ok((typed.len() - begun.len(), matching.collect()));
        }
        if typed.starts_with('/') && !typed.contains(' ') {
            let matching = slash::COMMANDS.iter().filter(|command| command.name.starts_with(typed));
            return Ok((0, matching.map(slash::Command::completed).collect()));
        }
        Ok((at, Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_goes_on_after_a_backslash_and_inside_a_fence() {
        for (text, expected) in [
            ("a", false),
            ("a\\", true),
            ("a\\\\", false),
            ("a\\\nb", false),
            ("```\nx", true),
            ("```\nx\n```", false),
        ] {
            assert_eq!(is_open(text), expected, "{text:?}");
        }
        assert_eq!(unescaped("a\\\nb"), "a\nb");
    }
}
