//! Our lines in a YAML file of another program, between two comments. The rest of the file stays byte for byte; lines that ours
//! replace become comments until ours are taken out. Each result is parsed and compared with what it should mean, so that a
//! layout that this does not understand is refused rather than broken.

use mcpctl_api::yaml;
use serde_json::{Map, Value};

use crate::failure::Failure;

const BEGIN: &str = "# begin of what `mcpctl local env` wrote; --remove takes it out";
const END: &str = "# end of what `mcpctl local env` wrote";
/// Before a line that ours replace.
const REPLACED: &str = "# replaced by mcpctl: ";

/// The lines in a block, each with this indentation.
pub(super) fn block(lines: &[String], indent: &str) -> String {
    let all = std::iter::once(BEGIN).chain(lines.iter().map(String::as_str)).chain([END]);
    all.map(|line| format!("{indent}{line}\n")).collect()
}

/// A line, with its end, as a comment that [`without_block`] turns back.
pub(super) fn replaced(line: &str) -> String {
    format!("{REPLACED}{line}")
}

/// The text without our lines.
pub(super) fn without_block(text: &str) -> Result<String, Failure> {
    let (mut rest, mut inside) = (String::new(), false);
    for line in text.split_inclusive('\n') {
        match line.trim() {
            BEGIN => inside = true,
            END => inside = false,
            _ if inside => {}
            _ => rest.push_str(line.strip_prefix(REPLACED).unwrap_or(line)),
        }
    }
    match inside {
        true => Err(Failure::new(format!("the line `{END}` is missing")).hint("take our lines out by hand")),
        false => Ok(rest),
    }
}

/// The mapping that a text is; none where it has only comments.
pub(super) fn mapping(text: &str) -> Result<Map<String, Value>, Failure> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Map::new());
    }
    let value: Value =
        yaml::from_str(text).map_err(|error| Failure::new(format!("it is not valid YAML: {error}")))?;
    match value {
        Value::Object(mapping) => Ok(mapping),
        _ => Err(Failure::new("it is not a mapping of keys")),
    }
}

/// Fails unless the text means this.
pub(super) fn check(text: &str, expected: &Map<String, Value>) -> Result<(), Failure> {
    match mapping(text) {
        // Their order has no meaning.
        Ok(found) if found == *expected => Ok(()),
        _ => Err(Failure::new("its layout cannot be edited safely")
            .hint("print the lines without --write, and put them in by hand")),
    }
}

/// A text with a line end at its end, where it has any line.
pub(super) fn ended(text: &str) -> String {
    match text.is_empty() || text.ends_with('\n') {
        true => text.to_owned(),
        false => format!("{text}\n"),
    }
}
