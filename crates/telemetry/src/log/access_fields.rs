//! Writes the fields of a line of the access log as [`tracing_subscriber`] does, for their few types only.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};

/// Appends `message field=value …` to a line.
pub(super) struct AccessFields<'a> {
    line: &'a mut String,
}

impl<'a> AccessFields<'a> {
    pub(super) const fn new(line: &'a mut String) -> Self {
        Self { line }
    }

    fn name(&mut self, field: &Field) {
        if !self.line.is_empty() {
            self.line.push(' ');
        }
        if field.name() != "message" {
            self.line.push_str(field.name());
            self.line.push('=');
        }
    }
}

impl Visit for AccessFields<'_> {
    fn record_str(&mut self, field: &Field, text: &str) {
        self.name(field);
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\');
        // Without an early end, so that it takes many bytes at once.
        if text.bytes().fold(true, |plain, byte| plain & is_plain(byte)) {
            self.line.push('"');
            self.line.push_str(text);
            self.line.push('"');
        } else {
            let _ = write!(self.line, "{text:?}");
        }
    }

    fn record_u64(&mut self, field: &Field, number: u64) {
        self.name(field);
        self.line.push_str(itoa::Buffer::new().format(number));
    }

    fn record_bool(&mut self, field: &Field, is_true: bool) {
        self.name(field);
        self.line.push_str(if is_true { "true" } else { "false" });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.name(field);
        // Writing to a string does not fail.
        let _ = write!(self.line, "{value:?}");
    }
}
