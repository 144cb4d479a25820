//! `mcpctl api-resources`, and how kinds are written on the command line.

use std::process::ExitCode;

use mcpctl_api::Kind;

use crate::{Outcome, failure::Failure, output::table::Table};

/// Checks a kind where it is typed, so that a wrong one is wrong usage.
pub fn kind(text: &str) -> Result<String, String> {
    text.parse::<Kind>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// A kind that was checked already.
pub fn parse_kind(text: &str) -> Result<Kind, Failure> {
    text.parse().map_err(Failure::new)
}

/// Splits `KIND/NAME`.
pub fn kind_and_name(text: &str) -> Result<(Kind, String), String> {
    let (kind, name) =
        text.split_once('/').ok_or_else(|| format!("`{text}` is not KIND/NAME, e.g. User/alice"))?;
    let kind: Kind = kind.parse().map_err(|error| format!("{error}"))?;
    Ok((kind, name.to_owned()))
}

/// Lists the kinds.
pub fn run() -> Outcome {
    let mut table = Table::new(&["NAME", "KIND", "SHORT", "WHAT IT IS"]);
    for kind in Kind::ALL {
        let what = match kind {
            Kind::Llm => "a named language model behind a provider",
            Kind::Secret => "keys and values that nobody can read back",
            Kind::User => "a person",
            Kind::Group => "a set of users and service accounts",
            Kind::ServiceAccount => "a program that calls in its own right",
            Kind::Role => "a list of rules",
            Kind::RoleBinding => "gives a role to subjects",
            Kind::Token => "a bearer credential of a user or service account",
        };
        let short = if kind == Kind::ServiceAccount { "sa" } else { "" };
        table.row([kind.plural(), kind.singular(), short, what]);
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}
