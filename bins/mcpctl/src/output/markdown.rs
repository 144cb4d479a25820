//! Markdown on a terminal while it comes in. What is shown is never rewritten: a text is shown as soon as nothing that can still
//! follow would change how it looks, so that an emphasis waits for its end and a table for its last row, at most so many bytes.
//!
//! The block that is open is parsed and laid out anew for each piece, and what is already shown of it is left out. Characters that
//! a terminal obeys are escaped before they are laid out.

mod held;
mod layout;

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use layout::{Layout, Look};

/// Width of a table or a rule where the terminal is wider.
const MAX_RULE: usize = 60;
/// Length from which the open block is laid out anew for each line only, in bytes.
const LARGE_BLOCK: usize = 16 << 10;

fn options() -> Options {
    Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS
}

/// Markdown that comes in pieces.
pub struct Markdown {
    width: usize,
    /// From the beginning of the open block on.
    source: String,
    /// Characters of the layout of `source` that are shown.
    shown: usize,
    /// Whether a block was shown before.
    follows: bool,
}

impl Markdown {
    /// For a terminal with so many columns.
    pub fn new(width: usize) -> Self {
        Self { width, source: String::new(), shown: 0, follows: false }
    }

    /// Takes a piece; returns what to show now, with the terminal's commands for colours.
    pub fn push(&mut self, piece: &str) -> String {
        self.source.push_str(piece);
        if self.source.len() > LARGE_BLOCK && !piece.contains('\n') {
            return String::new();
        }
        let mut text = String::new();
        // Blocks that have ended cannot change any more. What its last line will be may still belong to the block before it.
        let uncertain = held::line(&self.source).unwrap_or(usize::MAX);
        if let Some(begin) = open_block(&self.source).filter(|begin| (1..uncertain).contains(begin)) {
            let ended: String = self.source.drain(..begin).collect();
            text.push_str(&lay_out(&ended, self.width, self.follows, true).text_from(self.shown));
            (self.shown, self.follows) = (0, true);
        }
        text + &self.show(false)
    }

    /// Returns what is left to show, at the end of the text.
    pub fn finish(&mut self) -> String {
        self.show(true)
    }

    fn show(&mut self, is_whole: bool) -> String {
        let layout = lay_out(&self.source, self.width, self.follows, is_whole);
        let text = layout.text_from(self.shown);
        self.shown = self.shown.max(layout.len());
        text
    }
}

/// Where the last block begins, after which the ones before it stay as they are.
fn open_block(source: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut last = None;
    for (event, range) in Parser::new_ext(source, options()).into_offset_iter() {
        match event {
            Event::Start(_) => {
                if depth == 0 {
                    last = Some(range.start);
                }
                depth += 1;
            }
            Event::End(_) => depth = depth.saturating_sub(1),
            Event::Rule if depth == 0 => last = Some(range.start),
            _ => {}
        }
    }
    last
}

/// Lays a text out as far as it is certain; all of it where it is whole.
fn lay_out(source: &str, width: usize, follows: bool, is_whole: bool) -> Layout {
    let events: Vec<_> = Parser::new_ext(source, options()).into_offset_iter().collect();
    let until = if is_whole { usize::MAX } else { held::begin(source, &events) };
    let mut writer =
        Writer { layout: Layout::new(width, follows), lists: Vec::new(), table: None, in_code: false };
    for (event, range) in events {
        let is_block =
            matches!(event, Event::Start(Tag::Table(_)) | Event::Start(Tag::CodeBlock(_)) | Event::Rule);
        if range.start >= until && (is_block || !matches!(event, Event::End(_))) {
            return writer.layout;
        }
        // A block that ends where the text ends may go on.
        let ends_inline = matches!(
            event,
            Event::End(
                TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough | TagEnd::Link | TagEnd::Image
            )
        );
        if !is_whole && range.end >= source.len() && matches!(event, Event::End(_)) && !ends_inline {
            return writer.layout;
        }
        let left = until.saturating_sub(range.start);
        if !writer.take(event, left) {
            return writer.layout;
        }
    }
    if is_whole {
        writer.layout.end_line();
    }
    writer.layout
}

/// A table whose rows are being collected.
#[derive(Default)]
struct Rows {
    rows: Vec<Vec<String>>,
}

/// Writes events into a layout.
struct Writer {
    layout: Layout,
    /// The next number of each open list; `None` of one with bullets.
    lists: Vec<Option<u64>>,
    table: Option<Rows>,
    in_code: bool,
}

impl Writer {
    /// Takes an event, of whose text `left` bytes are certain; returns whether all of it was.
    fn take(&mut self, event: Event<'_>, left: usize) -> bool {
        if let Some(table) = &mut self.table
            && !matches!(event, Event::End(TagEnd::Table))
        {
            table.take(&event);
            return true;
        }
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(end) => self.end(end),
            Event::Text(text) if self.in_code => self.layout.verbatim(&text, Look::CODE),
            Event::Text(text) => {
                let mut at = left.min(text.len());
                while !text.is_char_boundary(at) {
                    at -= 1;
                }
                self.layout.words(text.get(..at).unwrap_or_default());
                return at == text.len();
            }
            Event::Code(text) => self.layout.with(Look::CODE, |layout| layout.words(&text)),
            Event::Html(text) | Event::InlineHtml(text) => self.layout.words(&text),
            Event::SoftBreak | Event::HardBreak => self.layout.end_line(),
            Event::Rule => {
                self.layout.block();
                self.layout.verbatim(&"─".repeat(self.layout.room().min(MAX_RULE)), Look::DIM);
            }
            Event::TaskListMarker(done) => self.layout.words(if done { "[x] " } else { "[ ] " }),
            Event::FootnoteReference(name) => self.layout.words(&format!("[{name}]")),
            Event::InlineMath(text) | Event::DisplayMath(text) => self.layout.words(&text),
        }
        true
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Paragraph => self.layout.paragraph(),
            Tag::Heading { level, .. } => {
                self.layout.block();
                let look =
                    if level == HeadingLevel::H1 { Look::BOLD.and(Look::UNDERLINED) } else { Look::BOLD };
                self.layout.push(look);
            }
            Tag::BlockQuote(_) => {
                self.layout.block();
                self.layout.indent("│ ", "│ ");
            }
            Tag::CodeBlock(kind) => {
                self.layout.block();
                let language = match &kind {
                    CodeBlockKind::Fenced(language) => language.as_ref(),
                    CodeBlockKind::Indented => "",
                };
                self.layout.verbatim(&format!("```{language}\n"), Look::DIM);
                self.in_code = true;
            }
            Tag::List(first) => {
                match self.lists.is_empty() {
                    true => self.layout.block(),
                    false => self.layout.end_line(),
                }
                self.lists.push(first);
            }
            Tag::Item => {
                self.layout.end_line();
                let marker = match self.lists.last_mut() {
                    Some(Some(number)) => {
                        let marker = format!("{number}. ");
                        *number = number.saturating_add(1);
                        marker
                    }
                    _ => "• ".to_owned(),
                };
                let blank = " ".repeat(marker.chars().count());
                self.layout.indent(&marker, &blank);
            }
            Tag::Table(_) => {
                self.layout.block();
                self.table = Some(Rows::default());
            }
            Tag::Emphasis => self.layout.push(Look::ITALIC),
            Tag::Strong => self.layout.push(Look::BOLD),
            Tag::Strikethrough => self.layout.push(Look::STRUCK),
            Tag::Link { dest_url, .. } => self.layout.open_link(&dest_url),
            Tag::Image { dest_url, .. } => self.layout.open_link(&dest_url),
            _ => {}
        }
    }

    fn end(&mut self, end: TagEnd) {
        match end {
            TagEnd::Heading(_) => {
                self.layout.pop();
                self.layout.end_block();
            }
            TagEnd::Paragraph => self.layout.end_block(),
            TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough => self.layout.pop(),
            TagEnd::Link | TagEnd::Image => self.layout.close_link(),
            TagEnd::CodeBlock => {
                self.in_code = false;
                self.layout.verbatim("```", Look::DIM);
                self.layout.end_block();
            }
            TagEnd::BlockQuote(_) => {
                self.layout.end_line();
                self.layout.outdent();
                self.layout.end_block();
            }
            TagEnd::Item => {
                self.layout.end_line();
                self.layout.outdent();
            }
            TagEnd::List(_) => {
                self.lists.pop();
                if self.lists.is_empty() {
                    self.layout.end_block();
                }
            }
            TagEnd::Table => {
                let rows = self.table.take().unwrap_or_default();
                for line in rows.lines(self.layout.room()) {
                    self.layout.verbatim(&format!("{line}\n"), Look::PLAIN);
                }
                self.layout.end_block();
            }
            _ => {}
        }
    }
}

impl Rows {
    fn take(&mut self, event: &Event<'_>) {
        match event {
            Event::Start(Tag::TableHead | Tag::TableRow) => self.rows.push(Vec::new()),
            Event::Start(Tag::TableCell) => {
                self.rows.last_mut().into_iter().for_each(|row| row.push(String::new()))
            }
            Event::Text(text) | Event::Code(text) | Event::InlineHtml(text) => {
                if let Some(cell) = self.rows.last_mut().and_then(|row| row.last_mut()) {
                    cell.push_str(text);
                }
            }
            _ => {}
        }
    }

    fn lines(self, width: usize) -> Vec<String> {
        let mut rows = self.rows.into_iter();
        let header: Vec<String> = rows.next().unwrap_or_default();
        let names: Vec<&str> = header.iter().map(String::as_str).collect();
        let mut table = super::table::Table::new(&names);
        rows.for_each(|row| table.row(row));
        table.lines(u16::try_from(width).ok())
    }
}

#[cfg(test)]
mod tests;
