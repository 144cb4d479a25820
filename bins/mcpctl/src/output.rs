//! How resources are shown: tables for people, and formats for programs.

pub mod jsonpath;
pub mod table;

use std::{fmt, str::FromStr};

use mcpctl_api::{Kind, Resource, Spec, resource::Labels};
use serde::Serialize;

use crate::failure::Failure;
use jsonpath::JsonPath;
use table::Table;

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

/// A value as YAML.
pub fn yaml(value: &impl Serialize) -> Result<String, Failure> {
    serde_saphyr::to_string(value).map_err(Failure::new)
}

/// Prints resources; `single` is whether exactly one was asked for by name.
pub fn resources(items: &[Resource], format: &Format, single: bool) -> Result<(), Failure> {
    match format {
        Format::Table | Format::Wide => table_of(items, matches!(format, Format::Wide)).print(),
        Format::Name => {
            for item in items {
                anstream::println!("{}/{}", item.kind().plural(), item.name);
            }
            Ok(())
        }
        Format::Json => {
            let json = match (single, items) {
                (true, [item]) => serde_json::to_string_pretty(item)?,
                _ => serde_json::to_string_pretty(&serde_json::json!({"items": items}))?,
            };
            anstream::println!("{json}");
            Ok(())
        }
        Format::Yaml => {
            let documents = items.iter().map(yaml).collect::<Result<Vec<_>, _>>()?;
            anstream::print!("{}", documents.join("---\n"));
            Ok(())
        }
        Format::JsonPath(template) => {
            let value = match (single, items) {
                (true, [item]) => serde_json::to_value(item)?,
                _ => serde_json::json!({"items": items}),
            };
            anstream::println!("{}", template.render(&value));
            Ok(())
        }
    }
}

fn table_of(items: &[Resource], wide: bool) -> Table {
    let kind = items.first().map(Resource::kind);
    let mut header = vec!["NAME"];
    header.extend(match kind {
        Some(Kind::Llm) => &["TYPE", "MODEL", "URL"][..],
        Some(Kind::Secret) => &["KEYS"],
        Some(Kind::User) => &["DISPLAY NAME", "STATE"],
        Some(Kind::Group) => &["MEMBERS"],
        Some(Kind::ServiceAccount) => &["STATE"],
        Some(Kind::Role) => &["RULES"],
        Some(Kind::RoleBinding) => &["ROLE", "SUBJECTS"],
        Some(Kind::Token) => &["SUBJECT", "EXPIRES"],
        None => &[],
    });
    header.push("AGE");
    if wide {
        header.extend(["ID", "REVISION", "LABELS"]);
    }
    let mut table = Table::new(&header);
    for item in items {
        let mut row = vec![item.name.to_string()];
        row.extend(columns(&item.spec));
        row.push(table::age(item.created_at));
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
        Spec::Llm(llm) => vec!["openai".to_owned(), llm.model.clone(), llm.url.to_string()],
        Spec::Secret(secret) => vec![list(secret.data.keys())],
        Spec::User(user) => vec![user.display_name.clone().unwrap_or_default(), state(user.disabled)],
        Spec::Group(group) => vec![list(&group.members)],
        Spec::ServiceAccount(account) => vec![state(account.disabled)],
        Spec::Role(role) => vec![role.rules.len().to_string()],
        Spec::RoleBinding(binding) => vec![binding.role.to_string(), list(&binding.subjects)],
        Spec::Token(token) => vec![token.subject.to_string(), table::until(token.expires_at)],
    }
}

fn list<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

fn labels(labels: &Labels) -> String {
    list(labels.iter().map(|(key, value)| format!("{key}={value}")))
}
