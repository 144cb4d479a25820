//! `mcpctl api-resources`.

use std::process::ExitCode;

use mcpctl_api::Kind;

use super::targets::short_name;
use crate::{
    Outcome,
    output::{ListFormat, table::Table},
};

/// How to list the kinds.
#[derive(clap::Args)]
pub struct Args {
    /// table, wide (each kind in one line) or name
    #[arg(long, short, value_enum, default_value = "table")]
    output: ListFormat,
    /// Leave the header of the table out
    #[arg(long)]
    no_headers: bool,
}

/// Lists the kinds.
pub fn run(args: &Args) -> Outcome {
    if args.output == ListFormat::Name {
        Kind::RESOURCES.iter().try_for_each(|kind| data!("{}", kind.plural()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["NAME", "KIND", "SHORT", "WHAT IT IS"])
        .in_one_line(args.output == ListFormat::Wide)
        .without_header(args.no_headers);
    for kind in Kind::RESOURCES {
        let what = match kind {
            Kind::Llm => "a named language model behind a provider",
            Kind::Secret => "keys and values that cannot be read back",
            Kind::User => "a person",
            Kind::Group => "a set of users and service accounts",
            Kind::ServiceAccount => "a program that calls in its own right",
            Kind::Role => "a list of rules",
            Kind::RoleBinding => "gives a role to subjects",
            Kind::Limit => "how much inference subjects may use",
            Kind::Token => "a bearer credential of a user or service account",
            Kind::Usage | Kind::Audit => continue,
        };
        table.row([kind.plural(), kind.singular(), short_name(kind), what]);
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}
