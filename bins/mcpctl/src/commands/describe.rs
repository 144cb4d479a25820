//! `mcpctl describe`: one resource in full, and what belongs to it.

use std::process::ExitCode;

use mcpctl_api::{Kind, Verb};

use super::resources::{kind, parse_kind};
use crate::{
    Outcome,
    context::Global,
    output::{self, table::age},
};

/// What to describe.
#[derive(clap::Args)]
pub struct Args {
    /// A kind, e.g. llm
    #[arg(value_parser = kind)]
    kind: String,
    /// Its name or id
    name: String,
}

/// Describes a resource; for an Llm also who may run it, as far as the caller may know.
pub async fn run(global: &Global, args: &Args) -> Outcome {
    let client = global.client()?;
    let kind = parse_kind(&args.kind)?;
    let resource = client.get(kind, &args.name).await?;
    anstream::print!("{}", output::yaml(&resource)?);
    anstream::println!("# made {} ago, changed {} ago", age(resource.created_at), age(resource.updated_at));
    if kind == Kind::Llm {
        // Who may not view people gets the Llm without this.
        if let Ok(answer) = client.who_can(Verb::Run.as_str(), kind.plural(), resource.name.as_str()).await {
            anstream::println!("# may be run by:");
            for grantee in answer.subjects {
                let via = grantee.via_group.map(|group| format!(" via group {group}")).unwrap_or_default();
                anstream::println!("#   {} (role {}{via})", grantee.subject, grantee.role);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
