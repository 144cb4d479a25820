//! The one place that writes to a terminal. Names, documents, answers of models, logs and messages come from other parties; a
//! terminal obeys control characters, and does not show characters that reorder a line. This file escapes them as JSON does,
//! `\u001b`, and adds our own colours afterwards.
//!
//! | what | on a terminal | elsewhere |
//! |---|---|---|
//! | data (`-o json`, `yaml`, `name`, `jsonpath=`, answers of models, logs) | escaped | byte for byte |
//! | cells of tables, findings of a doctor | escaped, one line each | the same |
//! | messages on standard error | escaped, one line each | the same |

use std::{
    fmt::Arguments,
    fs::File,
    io::{self, BufRead as _, BufReader, IsTerminal, StdoutLock, Write},
    os::fd::AsFd as _,
};

use anstream::{AutoStream, ColorChoice};
use mcpctl_api::visible;
use owo_colors::OwoColorize as _;
use tokio::{io::Interest, net::unix::pipe::Sender};

use crate::failure::Failure;

/// A narrower terminal shows nothing that can be read; the lines are left as they are.
const MIN_WIDTH: u16 = 20;

/// A colour with a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// None.
    Plain,
    /// It works, or is added.
    Good,
    /// It may be wrong.
    Warning,
    /// It is wrong, or is removed.
    Bad,
    /// An error.
    Error,
    /// The next step.
    Hint,
    /// What the lines below are about.
    Title,
    /// Not what it looks at first: it must not be overlooked.
    Marked,
    /// Beside the matter.
    Quiet,
}

impl Tone {
    /// The text in its colour.
    pub(super) fn paint(self, text: &str, choice: ColorChoice) -> String {
        if choice == ColorChoice::Never {
            return text.to_owned();
        }
        match self {
            Self::Plain => text.to_owned(),
            Self::Good => text.green().to_string(),
            Self::Warning => text.yellow().to_string(),
            Self::Bad => text.red().to_string(),
            Self::Error => text.red().bold().to_string(),
            Self::Hint => text.cyan().to_string(),
            Self::Title => text.bold().to_string(),
            Self::Marked => text.yellow().bold().to_string(),
            Self::Quiet => text.dimmed().to_string(),
        }
    }
}

/// A text of another party as part of a line.
pub fn one_line(text: &str) -> String {
    visible::one_line(text).into_owned()
}

/// The width to keep to, in columns: `COLUMNS`, else that of the terminal; `None` where standard output is none, so that a
/// program reads whole lines, even where the shell exports `COLUMNS`.
pub fn width() -> Option<u16> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let named = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let own = || terminal_size::terminal_size_of(io::stdout()).map(|(terminal_size::Width(width), _)| width);
    named.or_else(own).filter(|width| *width >= MIN_WIDTH)
}

/// The width of the terminal at standard error; `None` where there is none.
pub fn error_width() -> Option<u16> {
    terminal_size::terminal_size_of(io::stderr()).map(|(terminal_size::Width(width), _)| width)
}

/// Whether standard output shows colours.
pub fn is_coloured() -> bool {
    AutoStream::choice(&io::stdout()) != ColorChoice::Never
}

/// Text in lines of at most so many characters, as far as its words allow; all of it in one without a width.
pub fn wrap(text: &str, width: Option<u16>) -> Vec<String> {
    let Some(width) = width.map(usize::from) else { return vec![text.to_owned()] };
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let needed = word.chars().count() + 1;
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + needed <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Prints a text on standard output as [`line`] does, in several lines where the width is too small for it; each after the first
/// is indented.
pub fn paragraph(tone: Tone, head: &str, text: &str) -> Result<(), Failure> {
    const INDENT: &str = "  ";
    let width = width().map(|width| width.saturating_sub(2));
    for (at, wrapped) in wrap(&format!("{head}{text}"), width).iter().enumerate() {
        match wrapped.strip_prefix(head) {
            Some(rest) if at == 0 => line(tone, head, format_args!("{rest}"))?,
            _ => line(Tone::Plain, "", format_args!("{INDENT}{wrapped}"))?,
        }
    }
    Ok(())
}

/// A text of another party as a terminal with colours shows it beside the matter.
pub fn dimmed(text: &str) -> String {
    visible::escape(text).dimmed().to_string()
}

/// Asks for a secret on the terminal, without an echo; a new one twice.
pub fn ask_secret(prompt: &str, is_new: bool) -> Result<String, Failure> {
    let asked = dialoguer::Password::new().with_prompt(prompt);
    let asked = match is_new {
        true => asked.with_confirmation("The same again", "the two differ"),
        false => asked,
    };
    asked.interact().map_err(Failure::new)
}

/// Whether a question would be seen and could be answered.
pub fn can_ask() -> bool {
    io::stderr().is_terminal() && keyboard().is_some()
}

/// Asks a question on the terminal that takes yes or no. Only a line `y` or `yes` is a yes; a single key decides nothing.
pub fn confirm(question: &str) -> Result<bool, Failure> {
    if !can_ask() {
        return Err(
            Failure::new("nothing was changed: there is no terminal to ask on").hint("-y agrees to it")
        );
    }
    Ok(ask(&format!("{question} [y/N]"))?.is_some_and(|answer| is_yes(&answer)))
}

/// As [`confirm`], for what is no loss: an empty line is a yes too.
pub fn confirm_default(question: &str) -> Result<bool, Failure> {
    Ok(ask(&format!("{question} [Y/n]"))?.is_some_and(|answer| answer.is_empty() || is_yes(&answer)))
}

fn is_yes(answer: &str) -> bool {
    ["y", "yes"].iter().any(|yes| answer.eq_ignore_ascii_case(yes))
}

/// Asks a question on standard error and reads a line of the answer from the terminal; `None` at the end of the input.
pub fn ask(question: &str) -> Result<Option<String>, Failure> {
    let mut err = io::stderr().lock();
    write!(err, "{} ", one_line(question))?;
    err.flush()?;
    drop(err);
    let mut answer = String::new();
    let read = match keyboard() {
        Some(Keyboard::Terminal(mut terminal)) => terminal.read_line(&mut answer)?,
        Some(Keyboard::Stdin) | None => io::stdin().read_line(&mut answer)?,
    };
    Ok((read > 0).then(|| answer.trim().to_owned()))
}

/// Where answers are typed.
enum Keyboard {
    Stdin,
    /// Standard input has data, as of `apply -f -`.
    Terminal(BufReader<File>),
}

fn keyboard() -> Option<Keyboard> {
    if io::stdin().is_terminal() {
        return Some(Keyboard::Stdin);
    }
    File::open("/dev/tty").ok().map(|terminal| Keyboard::Terminal(BufReader::new(terminal)))
}

/// Prints a line of data on standard output: `head` in a tone, and the rest.
pub fn line(tone: Tone, head: &str, rest: Arguments<'_>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let choice = AutoStream::choice(&out);
    let rest = rest.to_string();
    if out.is_terminal() {
        let head = tone.paint(&visible::escape(head), choice);
        return Ok(writeln!(out, "{head}{}", visible::escape(&rest))?);
    }
    Ok(writeln!(out, "{}{rest}", tone.paint(head, choice))?)
}

/// Prints a line for people on standard error. Errors are ignored: there is nowhere left to report them.
pub fn aside(tone: Tone, head: &str, rest: Arguments<'_>) {
    let mut err = io::stderr().lock();
    let head = tone.paint(&one_line(head), AutoStream::choice(&err));
    let _ = writeln!(err, "{head}{}", one_line(&rest.to_string()));
}

/// Waits until the reader of standard output closes the pipe; for ever where stdout is no pipe.
pub async fn reader_left() {
    // The duplicate is only polled and the pipe stays blocking, as printing expects. Files cannot be polled.
    let pipe = io::stdout().as_fd().try_clone_to_owned().and_then(Sender::from_owned_fd_unchecked);
    if let Ok(pipe) = pipe
        && pipe.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Standard output for data that comes in pieces, such as a model's answer or a log.
pub fn stream() -> TextStream<StdoutLock<'static>> {
    let out = io::stdout().lock();
    let terminal = out.is_terminal();
    TextStream::new(out, terminal)
}

/// Writes text that comes in pieces, split anywhere.
pub struct TextStream<W> {
    out: W,
    terminal: bool,
    /// The beginning of a character whose end has not come.
    begun: Vec<u8>,
}

impl<W: Write> TextStream<W> {
    fn new(out: W, terminal: bool) -> Self {
        Self { out, terminal, begun: Vec::new() }
    }

    fn write_out(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        loop {
            let (text, rest, broken) = match std::str::from_utf8(bytes) {
                Ok(text) => (text, &[][..], false),
                Err(error) => {
                    let (valid, rest) = bytes.split_at(error.valid_up_to());
                    let broken = error.error_len();
                    let rest = rest.get(broken.unwrap_or_default()..).unwrap_or_default();
                    (std::str::from_utf8(valid).unwrap_or_default(), rest, broken.is_some())
                }
            };
            self.out.write_all(visible::escape(text).as_bytes())?;
            if !broken {
                self.begun = rest.to_vec();
                return Ok(());
            }
            // Some terminals obey bytes that are no UTF-8.
            self.out.write_all(char::REPLACEMENT_CHARACTER.encode_utf8(&mut [0; 4]).as_bytes())?;
            bytes = rest;
        }
    }
}

impl<W: Write> Write for TextStream<W> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.terminal {
            let mut bytes = std::mem::take(&mut self.begun);
            bytes.extend_from_slice(piece);
            self.write_out(&bytes)?;
        } else {
            self.out.write_all(piece)?;
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pieces: &[&[u8]], terminal: bool) -> Vec<u8> {
        let mut stream = TextStream::new(Vec::new(), terminal);
        pieces.iter().for_each(|piece| stream.write_all(piece).unwrap());
        stream.out
    }

    #[test]
    fn control_characters_in_pieces_are_escaped() {
        let text = |pieces: &[&[u8]]| String::from_utf8(shown(pieces, true)).unwrap();
        assert_eq!(text(&[b"a\x1b", b"[2Jb\n\tc"]), "a\\u001b[2Jb\n\tc");
        // One character in two pieces: CSI as C1, a right-to-left override, a letter.
        assert_eq!(text(&[b"\xc2", b"\x9b31m"]), "\\u009b31m");
        assert_eq!(text(&[b"\xe2\x80", b"\xaex"]), "\\u202ex");
        assert_eq!(text(&["ü".as_bytes().split_at(1).0, "ü".as_bytes().split_at(1).1]), "ü");
        // Bytes that are no text.
        assert_eq!(text(&[b"\x9b31m\xff", b"\xe2x"]), "\u{fffd}31m\u{fffd}\u{fffd}x");
    }

    #[test]
    fn pipe_gets_every_byte() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(
            shown(&[&bytes, b"\x1b[2J\xc2", b"\x9b"], false),
            [&bytes[..], b"\x1b[2J\xc2\x9b"].concat()
        );
    }

    #[test]
    fn tone_is_added_after_escaping() {
        let painted = Tone::Bad.paint(&visible::escape("\x1b[0mx"), ColorChoice::Always);
        assert_eq!(painted, "\x1b[31m\\u001b[0mx\x1b[39m");
        assert_eq!(Tone::Bad.paint("x", ColorChoice::Never), "x");
    }
}
