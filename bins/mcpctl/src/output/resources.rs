//! Resources, as `get` shows them: in tables, and in formats for programs.

use std::{cmp::Ordering, collections::HashMap, fmt};

use mcpctl_api::{
    Id, Kind, Name, Resource, Spec,
    breaker_status::LlmStatus,
    labels::Labels,
    spec::{LimitScope, NamePattern},
    token_status::TokenStatus,
};
use serde_json::{Value, json};

use super::{
    Format,
    columns::Columns,
    jsonpath::{JsonPath, Path},
    last_used, llm_state,
    table::{self, Layout, Table},
    yaml,
};
use crate::failure::Failure;

/// What mcpd reports of resources besides their documents; empty where it does not, because it is older.
#[derive(Default)]
pub struct Statuses {
    /// Of tokens, by id.
    pub tokens: HashMap<Id, TokenStatus>,
    /// Of Llms, by name.
    pub llms: HashMap<Name, LlmStatus>,
}

/// What a watch reports of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was there already, or is new.
    Added,
    /// It was shown before.
    Modified,
    /// It is shown as it was last.
    Deleted,
}

impl Change {
    /// As kubectl's events have it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// The column of an event's type.
const EVENT: &str = "EVENT";

/// How resources are shown in a table, and in which order.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct View {
    /// Leave the headers of tables out
    #[arg(long)]
    pub no_headers: bool,
    /// Sort by this field, e.g. .createdAt or .model
    #[arg(long, value_name = "PATH", value_parser = sort_path)]
    pub sort_by: Option<Path>,
    /// Show all labels as a column
    #[arg(long)]
    pub show_labels: bool,
    /// Show these labels as columns, e.g. team,tier
    #[arg(long, short = 'L', value_name = "LABEL", value_delimiter = ',')]
    pub label_columns: Vec<String>,
    /// Whether names have their kind before them, because several kinds are shown.
    #[arg(skip)]
    pub with_kind: bool,
}

fn sort_path(text: &str) -> Result<Path, String> {
    let text = text.trim();
    text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text).parse()
}

impl View {
    /// Sorts the resources of each kind where a field was named: numbers by size, texts by their letters, and what lacks the field first.
    pub fn sort(&self, items: &mut [Resource]) -> Result<(), Failure> {
        let Some(path) = &self.sort_by else { return Ok(()) };
        let mut keys = HashMap::new();
        for item in items.iter() {
            let value = serde_json::to_value(item)?;
            let found = path.find(&value, &value).first().copied().cloned();
            keys.insert((item.kind(), item.id.clone()), found);
        }
        // Kinds stay apart, in the order in which they were named.
        let kinds: Vec<Kind> = items.iter().map(Resource::kind).collect();
        let place = |item: &Resource| kinds.iter().position(|kind| *kind == item.kind());
        let key = |item: &Resource| keys.get(&(item.kind(), item.id.clone())).and_then(Option::as_ref);
        items.sort_by(|a, b| place(a).cmp(&place(b)).then_with(|| compare(key(a), key(b))));
        Ok(())
    }
}

fn compare(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a, b) {
        (Some(Value::Number(a)), Some(Value::Number(b))) => {
            a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal)
        }
        (Some(Value::String(a)), Some(Value::String(b))) => a.cmp(b),
        (Some(a), Some(b)) => a.to_string().cmp(&b.to_string()),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

/// Prints resources; `single` is whether exactly one was asked for by name.
pub fn resources(
    items: &[Resource],
    statuses: &Statuses,
    format: &Format,
    view: &View,
    single: bool,
) -> Result<(), Failure> {
    let value = || match (single, items) {
        (true, [item]) => serde_json::to_value(item),
        _ => serde_json::to_value(json!({"items": items})),
    };
    match format {
        Format::Table | Format::Wide => {
            let wide = matches!(format, Format::Wide);
            let mut groups = items.chunk_by(|a, b| a.kind() == b.kind()).peekable();
            if groups.peek().is_none() {
                note!("nothing found");
            }
            while let Some(group) = groups.next() {
                table_of(group, statuses, view, wide, None).print()?;
                if groups.peek().is_some() && !view.no_headers {
                    data!("")?;
                }
            }
            Ok(())
        }
        Format::Columns(_) if items.is_empty() => {
            note!("nothing found");
            Ok(())
        }
        Format::Columns(columns) => custom_table(columns, items, view, None)?.print(),
        Format::Name => items.iter().try_for_each(|item| data!("{}", path_of(item))),
        Format::Json => data!("{}", serde_json::to_string_pretty(&value()?)?),
        Format::Yaml => {
            let documents = items.iter().map(yaml).collect::<Result<Vec<_>, _>>()?;
            if documents.is_empty() { Ok(()) } else { data!("{}", documents.join("---\n").trim_end()) }
        }
        Format::JsonPath(template) => rendered(template, &value()?),
        Format::JsonPathAsJson(template) => {
            data!("{}", serde_json::to_string_pretty(&template.values(&value()?))?)
        }
    }
}

fn rendered(template: &JsonPath, value: &Value) -> Result<(), Failure> {
    let text = template.render(value);
    data!("{}", text.strip_suffix('\n').unwrap_or(&text))
}

/// The table that custom columns make, of events where the resources are part of one.
fn custom_table(
    columns: &Columns,
    items: &[Resource],
    view: &View,
    event: Option<Change>,
) -> Result<Table, Failure> {
    let mut table = columns.table(event.map(|_| EVENT), view.no_headers);
    for item in items {
        let event = event.map(|change| change.as_str().to_owned());
        table.row(event.into_iter().chain(columns.row(&serde_json::to_value(item)?)));
    }
    Ok(table)
}

fn path_of(item: &Resource) -> String {
    format!("{}/{}", item.kind().plural(), item.name)
}

/// Prints resources as they come, under one header and in columns that stay aligned.
pub struct Feed<'a> {
    format: &'a Format,
    view: &'a View,
    /// Whether each resource is shown as a part of an event.
    events: bool,
    layout: Option<Layout>,
    begun: bool,
}

impl<'a> Feed<'a> {
    /// A feed without a resource yet.
    pub fn new(format: &'a Format, view: &'a View, events: bool) -> Self {
        Self { format, view, events, layout: None, begun: false }
    }

    /// Whether a deletion is shown as an event; a name alone shows no event.
    pub fn shows_deletions(&self) -> bool {
        self.events && !matches!(self.format, Format::Name)
    }

    /// Prints some more.
    pub fn put(&mut self, items: &[Resource], statuses: &Statuses, change: Change) -> Result<(), Failure> {
        if items.is_empty() {
            return Ok(());
        }
        let event = self.events.then_some(change);
        match self.format {
            Format::Table | Format::Wide => {
                let wide = matches!(self.format, Format::Wide);
                table_of(items, statuses, self.view, wide, event).print_on(&mut self.layout)
            }
            Format::Columns(columns) => {
                custom_table(columns, items, self.view, event)?.print_on(&mut self.layout)
            }
            format => items.iter().try_for_each(|item| {
                if std::mem::replace(&mut self.begun, true) && matches!(format, Format::Yaml) {
                    data!("---")?;
                }
                match event {
                    None => resources(std::slice::from_ref(item), statuses, format, self.view, true),
                    Some(change) => event_of(item, change, format),
                }
            }),
        }
    }
}

/// Prints an event for programs: in JSON a line each, as kubectl does.
fn event_of(item: &Resource, change: Change, format: &Format) -> Result<(), Failure> {
    let event = json!({"type": change.as_str(), "object": item});
    match format {
        Format::Yaml => data!("{}", yaml(&event)?.trim_end()),
        Format::JsonPath(template) => rendered(template, &event),
        Format::JsonPathAsJson(template) => data!("{}", serde_json::to_string(&template.values(&event))?),
        Format::Name => data!("{}", path_of(item)),
        Format::Json | Format::Table | Format::Wide | Format::Columns(_) => data!("{event}"),
    }
}

/// The columns of a kind beside its name and age, and how they fit a narrow terminal.
fn header(kind: Option<Kind>) -> &'static [&'static str] {
    match kind {
        Some(Kind::Llm) => &["TYPE", "MODEL", "URL", "STATE"],
        Some(Kind::Secret) => &["KEYS"],
        Some(Kind::User) => &["DISPLAY NAME", "STATE"],
        Some(Kind::Group) => &["MEMBERS"],
        Some(Kind::ServiceAccount) => &["STATE"],
        Some(Kind::Role) => &["RULES"],
        Some(Kind::RoleBinding) => &["ROLE", "SUBJECTS"],
        Some(Kind::Token) => &["SUBJECT", "EXPIRES", "STATUS"],
        Some(Kind::Limit) => &["SUBJECTS", "LLMS", "PER", "ALLOWS"],
        Some(Kind::Usage | Kind::Audit) | None => &[],
    }
}

/// What wraps first, because it is not copied from here, and what is left out where it does not fit.
fn fitting(table: Table, kind: Option<Kind>) -> Table {
    let table = table.unbroken(&[EVENT, "NAME", "AGE", "STATUS", "EXPIRES", "TYPE", "PER", "RULES"]);
    match kind {
        Some(Kind::Token) => table.wrapping("SUBJECT").subjects(&["SUBJECT"]).where_they_fit(&["AGE"]),
        Some(Kind::RoleBinding) => table.wrapping("SUBJECTS").where_they_fit(&["AGE"]),
        Some(Kind::Limit) => table.wrapping("SUBJECTS").where_they_fit(&["AGE", "PER"]),
        Some(Kind::Group) => table.wrapping("MEMBERS"),
        Some(Kind::Secret) => table.wrapping("KEYS"),
        Some(Kind::User) => table.wrapping("DISPLAY NAME"),
        Some(Kind::Llm) => {
            table.wrapping("STATE").addresses(&["URL"]).where_they_fit(&["AGE", "URL", "TYPE"])
        }
        Some(Kind::ServiceAccount | Kind::Role | Kind::Usage | Kind::Audit) | None => table,
    }
}

fn table_of(
    items: &[Resource],
    statuses: &Statuses,
    view: &View,
    wide: bool,
    event: Option<Change>,
) -> Table {
    let kind = items.first().map(Resource::kind);
    let mut columns: Vec<String> = event.map(|_| EVENT.to_owned()).into_iter().collect();
    columns.push("NAME".to_owned());
    columns.extend(header(kind).iter().map(|&name| name.to_owned()));
    columns.push("AGE".to_owned());
    if wide && kind == Some(Kind::Token) {
        columns.extend(["LAST USED", "MAY ONLY"].map(str::to_owned));
    }
    columns.extend(view.label_columns.iter().map(|label| label_header(label)));
    if wide {
        columns.extend(["ID", "REVISION"].map(str::to_owned));
    }
    if wide || view.show_labels {
        columns.push("LABELS".to_owned());
    }
    let table = Table::new(&columns).in_one_line(wide).without_header(view.no_headers);
    let mut table = fitting(table, kind);
    for item in items {
        let event = event.map(|change| change.as_str().to_owned());
        table.row(event.into_iter().chain(row_of(item, statuses, view, wide)));
    }
    table
}

/// The part of a label's key that differs, as kubectl shows it.
fn label_header(label: &str) -> String {
    label.rsplit('/').next().unwrap_or(label).to_uppercase()
}

fn row_of(item: &Resource, statuses: &Statuses, view: &View, wide: bool) -> Vec<String> {
    let mut row = vec![if view.with_kind { path_of(item) } else { item.name.to_string() }];
    row.extend(columns(&item.spec));
    let status = statuses.tokens.get(&item.id);
    match item.kind() {
        Kind::Token => row.push(status.map(|status| status.state.as_str().to_owned()).unwrap_or_default()),
        Kind::Llm => row.push(statuses.llms.get(&item.name).map(llm_state).unwrap_or_default()),
        _ => {}
    }
    row.push(table::age(item.created_at));
    if let (true, Spec::Token(token)) = (wide, &item.spec) {
        row.push(status.map(last_used).unwrap_or_default());
        row.push(list_with("; ", token.rules.iter().flatten()));
    }
    row.extend(view.label_columns.iter().map(|label| item.labels.get(label).cloned().unwrap_or_default()));
    if wide {
        row.extend([item.id.to_string(), item.revision.to_string()]);
    }
    if wide || view.show_labels {
        row.push(labels(&item.labels));
    }
    row
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

fn list<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    list_with(", ", items)
}

fn list_with<T: fmt::Display>(separator: &str, items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(separator)
}

fn labels(labels: &Labels) -> String {
    list(labels.iter().map(|(key, value)| format!("{key}={value}")))
}
