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
pub mod csv;
pub mod diff;
pub mod finding;
pub mod jsonpath;
pub mod number;
pub mod screen;
pub mod table;
pub mod terminal;

use std::{collections::HashMap, fmt, process::ExitCode, str::FromStr};

use mcpctl_api::{
    Id, Kind, Name, Resource, Spec,
    breaker_status::{LlmState, LlmStatus},
    labels::Labels,
    spec::{LimitScope, NamePattern},
    token_status::TokenStatus,
};
use serde::Serialize;

use crate::failure::Failure;
use jsonpath::JsonPath;
use table::Table;

pub use breaker::breaker;
pub use terminal::{Tone, one_line};

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
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "table" => Ok(Self::Table),
            "wide" => Ok(Self::Wide),
            "json" => Ok(Self::Json),
            "yaml" => Ok(Self::Yaml),
            "name" => Ok(Self::Name),
            _ => match text.strip_prefix("jsonpath=") {
                Some(template) => template.parse().map(Self::JsonPath),
                None => Err("formats are table, wide, json, yaml, name, jsonpath=TEMPLATE".to_owned()),
            },
        }
    }
}

/// Prints a failure on stderr, and returns the exit code.
pub fn report(failure: &Failure) -> ExitCode {
    let Some(code) = failure.exit_code() else { return ExitCode::SUCCESS };
    let (message, hint) = failure.parts();
    note!(Tone::Error, "error:"; " {message}");
    if let Some(hint) = hint {
        note!(Tone::Hint, "hint:"; " {hint}");
    }
    code
}

/// Prints the warnings of the server.
pub fn warnings(warnings: &[String]) {
    for warning in warnings {
        note!(Tone::Warning, "warning:"; " {warning}");
    }
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

/// What mcpd reports of resources besides their documents; empty where it does not, because it is older.
#[derive(Default)]
pub struct Statuses {
    /// Of tokens, by id.
    pub tokens: HashMap<Id, TokenStatus>,
    /// Of Llms, by name.
    pub llms: HashMap<Name, LlmStatus>,
}

/// Prints resources; `single` is whether exactly one was asked for by name.
pub fn resources(
    items: &[Resource],
    statuses: &Statuses,
    format: &Format,
    single: bool,
) -> Result<(), Failure> {
    let value = || match (single, items) {
        (true, [item]) => serde_json::to_value(item),
        _ => serde_json::to_value(serde_json::json!({"items": items})),
    };
    match format {
        Format::Table | Format::Wide => {
            let wide = matches!(format, Format::Wide);
            let mut groups = items.chunk_by(|a, b| a.kind() == b.kind()).peekable();
            if groups.peek().is_none() {
                note!("nothing found");
            }
            while let Some(group) = groups.next() {
                table_of(group, statuses, wide).print()?;
                if groups.peek().is_some() {
                    data!("")?;
                }
            }
            Ok(())
        }
        Format::Name => items.iter().try_for_each(|item| data!("{}/{}", item.kind().plural(), item.name)),
        Format::Json => data!("{}", serde_json::to_string_pretty(&value()?)?),
        Format::Yaml => {
            let documents = items.iter().map(yaml).collect::<Result<Vec<_>, _>>()?;
            if documents.is_empty() { Ok(()) } else { data!("{}", documents.join("---\n").trim_end()) }
        }
        Format::JsonPath(template) => data!("{}", template.render(&value()?)),
    }
}

/// Prints resources one at a time under one header.
pub struct Feed<'a> {
    format: &'a Format,
    begun: bool,
}

impl<'a> Feed<'a> {
    /// A feed; `begun` is whether its header is printed already.
    pub fn new(format: &'a Format, begun: bool) -> Self {
        Self { format, begun }
    }

    /// Prints one more.
    pub fn put(&mut self, item: Resource) -> Result<(), Failure> {
        let begun = std::mem::replace(&mut self.begun, true);
        match self.format {
            Format::Table | Format::Wide if begun => {
                let wide = matches!(self.format, Format::Wide);
                table_of(&[item], &Statuses::default(), wide).print_row()
            }
            Format::Yaml if begun => {
                data!("---")?;
                resources(&[item], &Statuses::default(), self.format, true)
            }
            format => resources(&[item], &Statuses::default(), format, true),
        }
    }
}

fn table_of(items: &[Resource], statuses: &Statuses, wide: bool) -> Table {
    let kind = items.first().map(Resource::kind);
    let mut header = vec!["NAME"];
    header.extend(match kind {
        Some(Kind::Llm) => &["TYPE", "MODEL", "URL", "STATE"][..],
        Some(Kind::Secret) => &["KEYS"],
        Some(Kind::User) => &["DISPLAY NAME", "STATE"],
        Some(Kind::Group) => &["MEMBERS"],
        Some(Kind::ServiceAccount) => &["STATE"],
        Some(Kind::Role) => &["RULES"],
        Some(Kind::RoleBinding) => &["ROLE", "SUBJECTS"],
        Some(Kind::Token) => &["SUBJECT", "EXPIRES", "STATUS"],
        Some(Kind::Limit) => &["SUBJECTS", "LLMS", "PER", "ALLOWS"],
        Some(Kind::Usage | Kind::Audit) | None => &[],
    });
    header.push("AGE");
    if wide && kind == Some(Kind::Token) {
        header.extend(["LAST USED", "MAY ONLY"]);
    }
    if wide {
        header.extend(["ID", "REVISION", "LABELS"]);
    }
    let table = Table::new(&header).in_one_line(wide);
    // Names, models and addresses are copied from here, so they wrap last.
    let mut table = match kind {
        Some(Kind::Token) => table.wrapping("SUBJECT"),
        Some(Kind::RoleBinding | Kind::Limit) => table.wrapping("SUBJECTS"),
        Some(Kind::Group) => table.wrapping("MEMBERS"),
        Some(Kind::Secret) => table.wrapping("KEYS"),
        Some(Kind::User) => table.wrapping("DISPLAY NAME"),
        Some(Kind::Llm) => table.wrapping("URL"),
        Some(Kind::ServiceAccount | Kind::Role | Kind::Usage | Kind::Audit) | None => table,
    };
    for item in items {
        let mut row = vec![item.name.to_string()];
        row.extend(columns(&item.spec));
        let status = statuses.tokens.get(&item.id);
        if kind == Some(Kind::Token) {
            row.push(status.map(|status| status.state.as_str().to_owned()).unwrap_or_default());
        }
        if kind == Some(Kind::Llm) {
            row.push(statuses.llms.get(&item.name).map(llm_state).unwrap_or_default());
        }
        row.push(table::age(item.created_at));
        if let (true, Spec::Token(token)) = (wide, &item.spec) {
            row.push(status.map(last_used).unwrap_or_default());
            row.push(list_with("; ", token.rules.iter().flatten()));
        }
        if wide {
            row.extend([item.id.to_string(), item.revision.to_string(), labels(&item.labels)]);
        }
        table.row(row);
    }
    table
}

fn columns(spec: &Spec) -> Vec<String> {
    let state = |disabled: bool| if disabled { "disabled" } else { "active" }.to_owned();
    match spec {
        Spec::Llm(llm) => {
            let mut urls = llm.upstreams().map(|upstream| upstream.url.to_string());
            let first = urls.next().unwrap_or_default();
            let more = urls.count();
            let url = if more == 0 { first } else { format!("{first} (+{more})") };
            vec![llm.provider.as_str().to_owned(), llm.model.clone(), url]
        }
        Spec::Secret(secret) => vec![list(secret.data.keys())],
        Spec::User(user) => vec![user.display_name.clone().unwrap_or_default(), state(user.disabled)],
        Spec::Group(group) => {
            let claims =
                group.claims.iter().map(|claim| format!("claim {} of {}", claim.value, claim.issuer));
            vec![list(group.members.iter().map(ToString::to_string).chain(claims))]
        }
        Spec::ServiceAccount(account) => vec![state(account.disabled)],
        Spec::Role(role) => vec![role.rules.len().to_string()],
        Spec::RoleBinding(binding) => vec![binding.role.to_string(), list(&binding.subjects)],
        Spec::Token(token) => vec![token.subject.to_string(), table::until(token.expires_at)],
        Spec::Limit(limit) => vec![
            limit.subjects.as_ref().map_or_else(|| "everyone".to_owned(), list),
            limit
                .llms
                .as_ref()
                .map_or_else(|| "*".to_owned(), |llms| list(llms.iter().map(NamePattern::as_str))),
            match limit.per {
                LimitScope::Subject => "subject",
                LimitScope::All => "all",
            }
            .to_owned(),
            list(
                limit
                    .ceilings()
                    .map(|ceiling| format!("{} per {}", ceiling.measure.show(ceiling.max), ceiling.span)),
            ),
        ],
    }
}

/// How an Llm does, in a few words.
pub fn llm_state(status: &LlmStatus) -> String {
    let state = status.state.describe();
    match status.failing_since {
        Some(since) if matches!(status.state, LlmState::Failing | LlmState::BreakerOpen) => {
            format!("{state} since {}", table::age(since))
        }
        _ => state.to_owned(),
    }
}

/// When a token was last used.
pub fn last_used(status: &TokenStatus) -> String {
    status.last_used_at.map_or_else(|| "never".to_owned(), |at| format!("{} ago", table::age(at)))
}

fn list<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    list_with(", ", items)
}

fn list_with<T: fmt::Display>(separator: &str, items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(separator)
}

fn labels(labels: &Labels) -> String {
    list(labels.iter().map(|(key, value)| format!("{key}={value}")))
}
