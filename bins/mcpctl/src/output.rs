//! How resources are shown: tables for people, and formats for programs.

/// Prints a line of data on stdout, with a tone its beginning in a colour: `data!(Tone::Good, "ok"; " {what}")`. Fails where
/// the reader has gone, so that a closed pipe ends the command quietly.
macro_rules! data {
    ($tone:expr, $head:expr; $($text:tt)*) => {
        $crate::output::terminal::line($tone, $head, format_args!($($text)*))
    };
    ($($text:tt)*) => {
        $crate::output::terminal::line($crate::output::Tone::Plain, "", format_args!($($text)*))
    };
}

/// Prints a line for people on stderr, with a tone as [`data!`] does.
macro_rules! note {
    ($tone:expr, $head:expr; $($text:tt)*) => {
        $crate::output::terminal::aside($tone, $head, format_args!($($text)*))
    };
    ($($text:tt)*) => {
        $crate::output::terminal::aside($crate::output::Tone::Plain, "", format_args!($($text)*))
    };
}

mod breaker;
pub mod columns;
pub mod csv;
pub mod diff;
pub mod fields;
pub mod finding;
pub mod jsonpath;
pub mod markdown;
pub mod number;
pub mod resources;
pub mod screen;
pub mod table;
pub mod terminal;
mod warnings;

use std::{fs::File, process::ExitCode, str::FromStr};

use mcpctl_api::{
    MAX_PRINTED_BYTES,
    breaker_status::{LlmState, LlmStatus},
    encoding,
    token_status::TokenStatus,
    visible::limited,
};
use serde::Serialize;

use crate::{bounded, failure::Failure};
use columns::Columns;
use jsonpath::JsonPath;

pub use breaker::breaker;
pub use terminal::{Tone, one_line};
pub use warnings::Warnings;

/// `-o`
#[derive(Debug, Clone)]
pub enum Format {
    /// The columns that matter most.
    Table,
    /// More columns.
    Wide,
    /// JSON.
    Json,
    /// YAML that `apply` takes.
    Yaml,
    /// `kind/name` each.
    Name,
    /// A template such as `{.items[*].name}`.
    JsonPath(JsonPath),
    /// The values of a template's paths, as a list.
    JsonPathAsJson(JsonPath),
    /// A table of these fields.
    Columns(Columns),
}

/// The formats, as messages name them.
const FORMATS: &str = "table, wide, json, yaml, name, jsonpath=TEMPLATE, custom-columns=HEADER:PATH,…";

/// The most bytes of a file that has a template or columns.
const MAX_TEMPLATE_BYTES: u64 = 1 << 20;

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "table" => Ok(Self::Table),
            "wide" => Ok(Self::Wide),
            "json" => Ok(Self::Json),
            "yaml" => Ok(Self::Yaml),
            "name" => Ok(Self::Name),
            _ => Self::with_argument(text),
        }
    }
}

impl Format {
    fn with_argument(text: &str) -> Result<Self, String> {
        let known = || format!("formats are {FORMATS}");
        match text.split_once('=').ok_or_else(known)? {
            ("jsonpath", template) => template.parse().map(Self::JsonPath),
            ("jsonpath-file", path) => template_file(path)?.parse().map(Self::JsonPath),
            ("jsonpath-as-json", template) => template.parse().map(Self::JsonPathAsJson),
            ("custom-columns", columns) => columns.parse().map(Self::Columns),
            ("custom-columns-file", path) => Columns::from_lines(&template_file(path)?).map(Self::Columns),
            _ => Err(known()),
        }
    }
}

fn template_file(path: &str) -> Result<String, String> {
    let bytes = File::open(path)
        .and_then(|file| bounded::read(file, MAX_TEMPLATE_BYTES))
        .map_err(|error| format!("`{path}` cannot be read: {}", bounded::reason(&error)))?;
    encoding::decode(&bytes).map_err(|error| format!("{path}:{error}"))
}

/// Prints a failure on stderr, and returns the exit code.
pub fn report(failure: &Failure) -> ExitCode {
    let Some(code) = failure.exit_code() else { return ExitCode::SUCCESS };
    note_failure(failure, Tone::Error, "error:");
    code
}

/// Prints what may be wrong on stderr, with its next step, where the command goes on.
pub fn warn(failure: &Failure) {
    note_failure(failure, Tone::Warning, "warning:");
}

/// A message may repeat a text of a file, and so be long.
fn note_failure(failure: &Failure, tone: Tone, head: &str) {
    let (message, hint) = failure.parts();
    note!(tone, head; " {}", limited(message, MAX_PRINTED_BYTES));
    if let Some(hint) = hint {
        note!(Tone::Hint, "hint:"; " {}", limited(hint, MAX_PRINTED_BYTES));
    }
}

/// Prints the warnings of the server.
pub fn warnings(warnings: &[String]) {
    let mut all = Warnings::default();
    all.add(warnings);
    all.show();
}

/// `-o` of what is not a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// For people.
    Table,
    /// For people, with more columns where there are more.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

impl Shape {
    /// Prints a value for programs; `false` where the table for people was requested.
    pub fn print(self, value: &impl Serialize) -> Result<bool, Failure> {
        match self {
            Self::Table | Self::Wide => return Ok(false),
            Self::Json => data!("{}", serde_json::to_string_pretty(value)?)?,
            Self::Yaml => data!("{}", yaml(value)?.trim_end())?,
        }
        Ok(true)
    }
}

/// `-o` of what has names and little else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ListFormat {
    /// For people.
    Table,
    /// For people, each in one line.
    Wide,
    /// The names.
    Name,
}

/// `-o` of a report, which spreadsheets read too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ReportFormat {
    /// For people.
    Table,
    /// For people, with more columns, and every number in full.
    Wide,
    /// Comma-separated values, for spreadsheets.
    Csv,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

impl ReportFormat {
    /// Prints a value as JSON or YAML; `false` where another format was requested.
    pub fn print(self, value: &impl Serialize) -> Result<bool, Failure> {
        match self {
            Self::Json => Shape::Json.print(value),
            Self::Yaml => Shape::Yaml.print(value),
            Self::Table | Self::Wide | Self::Csv => Ok(false),
        }
    }
}

/// A value as YAML.
pub fn yaml(value: &impl Serialize) -> Result<String, Failure> {
    serde_saphyr::to_string(value).map_err(Failure::new)
}

/// The state of an Llm, in a few words.
pub fn llm_state(status: &LlmStatus) -> String {
    let state = status.state.describe();
    match status.failing_since {
        Some(since)
            if matches!(
                status.state,
                LlmState::Failing | LlmState::BreakerOpen | LlmState::BreakerHalfOpen
            ) =>
        {
            format!("{state} since {}", table::age(since))
        }
        _ => state.to_owned(),
    }
}

/// When a token was last used.
pub fn last_used(status: &TokenStatus) -> String {
    status.last_used_at.map_or_else(|| "never".to_owned(), |at| format!("{} ago", table::age(at)))
}
