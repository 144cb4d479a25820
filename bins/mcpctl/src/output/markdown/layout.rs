//! Text in lines of a width, with a look for each character, that only grows at its end.

use std::fmt::Write as _;

use mcpctl_api::visible;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// How a character looks, as a set of bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Look(u8);

impl Look {
    pub(super) const PLAIN: Self = Self(0);
    pub(super) const BOLD: Self = Self(1);
    pub(super) const DIM: Self = Self(1 << 1);
    pub(super) const ITALIC: Self = Self(1 << 2);
    pub(super) const UNDERLINED: Self = Self(1 << 3);
    pub(super) const STRUCK: Self = Self(1 << 4);
    pub(super) const CODE: Self = Self(1 << 5);

    /// Each look's parameter of "Select Graphic Rendition" (ECMA-48); code is cyan.
    const CODES: [(Self, &'static str); 6] = [
        (Self::BOLD, "1"),
        (Self::DIM, "2"),
        (Self::ITALIC, "3"),
        (Self::UNDERLINED, "4"),
        (Self::STRUCK, "9"),
        (Self::CODE, "36"),
    ];

    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn command(self) -> String {
        let mut command = "\x1b[0".to_owned();
        for (_, code) in Self::CODES.iter().filter(|(look, _)| self.0 & look.0 != 0) {
            let _ = write!(command, ";{code}");
        }
        command + "m"
    }
}

/// What stands before the lines of a quote or an item.
struct Indent {
    /// Of its first line, until that is written.
    first: Option<String>,
    rest: String,
}

/// A link that is open: where it leads, and where its text begins.
struct Link {
    target: String,
    text: String,
}

/// The text.
pub(super) struct Layout {
    width: usize,
    cells: Vec<(char, Look)>,
    /// Columns of the last line that are taken.
    column: usize,
    /// Whether the last line has anything but its indent.
    has_text: bool,
    /// The word at the end, which may grow.
    word: Vec<(char, Look)>,
    /// Whether a blank comes before it.
    blank: bool,
    looks: Vec<Look>,
    indents: Vec<Indent>,
    links: Vec<Link>,
    /// Whether an empty line comes before the next block.
    gap: bool,
}

impl Layout {
    /// An empty one; `follows` is whether another block stands before it.
    pub(super) fn new(width: usize, follows: bool) -> Self {
        Self {
            width,
            cells: Vec::new(),
            column: 0,
            has_text: false,
            word: Vec::new(),
            blank: false,
            looks: Vec::new(),
            indents: Vec::new(),
            links: Vec::new(),
            gap: follows,
        }
    }

    /// Characters that are laid out.
    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Everything after so many characters, with the terminal's commands.
    pub(super) fn text_from(&self, shown: usize) -> String {
        let (mut text, mut look) = (String::new(), Look::PLAIN);
        for (character, next) in self.cells.iter().skip(shown) {
            if *next != look {
                text.push_str(&next.command());
                look = *next;
            }
            text.push(*character);
        }
        if look != Look::PLAIN {
            text.push_str(&Look::PLAIN.command());
        }
        text
    }

    /// Columns beside the indent.
    pub(super) fn room(&self) -> usize {
        let indent: usize = self.indents.iter().map(|indent| indent.rest.width()).sum();
        self.width.saturating_sub(indent).max(1)
    }

    fn look(&self) -> Look {
        self.looks.iter().fold(Look::PLAIN, |all, look| all.and(*look))
    }

    pub(super) fn push(&mut self, look: Look) {
        self.looks.push(look);
    }

    pub(super) fn pop(&mut self) {
        self.looks.pop();
    }

    pub(super) fn with(&mut self, look: Look, write: impl FnOnce(&mut Self)) {
        self.push(look);
        write(self);
        self.pop();
    }

    /// Begins a block: on a line of its own, after an empty one.
    pub(super) fn block(&mut self) {
        self.end_line();
        if std::mem::take(&mut self.gap) {
            self.cells.push(('\n', Look::PLAIN));
        }
    }

    /// Begins a paragraph; the first one of an item continues its line.
    pub(super) fn paragraph(&mut self) {
        let begins_item = self.indents.last().is_some_and(|indent| indent.first.is_some());
        match begins_item && !self.gap {
            true => {}
            false => self.block(),
        }
    }

    /// Ends a block: an empty line follows before the next one, if there is one.
    pub(super) fn end_block(&mut self) {
        self.end_line();
        self.gap = self.indents.is_empty();
    }

    pub(super) fn indent(&mut self, first: &str, rest: &str) {
        self.indents.push(Indent { first: Some(first.to_owned()), rest: rest.to_owned() });
    }

    /// Ends what is indented; an item without a text has its marker all the same.
    pub(super) fn outdent(&mut self) {
        if self.indents.last().is_some_and(|indent| indent.first.is_some()) {
            self.write_indent();
            self.break_line();
        }
        self.indents.pop();
    }

    pub(super) fn open_link(&mut self, target: &str) {
        self.links.push(Link { target: target.to_owned(), text: String::new() });
        self.looks.push(Look::UNDERLINED);
    }

    /// Ends a link; where it leads follows its text, where that is something else.
    pub(super) fn close_link(&mut self) {
        self.looks.pop();
        let Some(Link { target, text }) = self.links.pop() else { return };
        if !target.is_empty() && text != target && Some(text.as_str()) != target.strip_prefix("mailto:") {
            self.with(Look::DIM, |layout| layout.words(&format!(" ({target})")));
        }
    }

    /// Ends the line, unless it is empty.
    pub(super) fn end_line(&mut self) {
        self.flush();
        self.blank = false;
        if self.has_text {
            self.break_line();
        }
    }

    fn break_line(&mut self) {
        self.cells.push(('\n', Look::PLAIN));
        (self.column, self.has_text) = (0, false);
    }

    /// Text that wraps between words.
    pub(super) fn words(&mut self, text: &str) {
        let look = self.look();
        if let Some(link) = self.links.last_mut() {
            link.text.push_str(text);
        }
        for character in visible::escape(text).chars() {
            match character {
                '\n' => self.end_line(),
                c if c.is_whitespace() && c != '\u{a0}' => {
                    self.flush();
                    self.blank = self.has_text;
                }
                // A line may break before and after a character of East Asian scripts.
                c if c.width() == Some(2) => {
                    self.flush();
                    self.word.push((c, look));
                }
                c => self.word.push((c, look)),
            }
        }
    }

    /// Text whose lines stay as they are.
    pub(super) fn verbatim(&mut self, text: &str, look: Look) {
        self.flush();
        for character in visible::escape(text).chars() {
            match character {
                '\n' => {
                    self.write_indent();
                    self.break_line();
                }
                '\t' => (0..4).for_each(|_| self.put(' ', look)),
                c => self.put(c, look),
            }
        }
    }

    fn put(&mut self, character: char, look: Look) {
        self.write_indent();
        self.cells.push((character, look));
        self.column += character.width().unwrap_or_default();
        self.has_text = true;
    }

    fn write_indent(&mut self) {
        if self.has_text || self.column > 0 {
            return;
        }
        for indent in &mut self.indents {
            let text = indent.first.take().unwrap_or_else(|| indent.rest.clone());
            self.column += text.width();
            self.cells.extend(text.chars().map(|c| (c, Look::DIM)));
        }
    }

    /// Writes the word at the end, on a new line where it does not fit.
    fn flush(&mut self) {
        let word = std::mem::take(&mut self.word);
        if word.is_empty() {
            return;
        }
        let text: String = word.iter().map(|(character, _)| *character).collect();
        let needed = text.width() + usize::from(self.blank);
        if self.has_text && self.column + needed > self.width {
            self.break_line();
        } else if std::mem::take(&mut self.blank) && self.has_text {
            let look = word.first().map(|(_, look)| *look).unwrap_or_default();
            self.put(' ', look);
        }
        self.blank = false;
        for (character, look) in word {
            self.put(character, look);
        }
    }
}
