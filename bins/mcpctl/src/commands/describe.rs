//! `mcpctl describe`: one resource in full, and what belongs to it.

use std::process::ExitCode;

use mcpctl_api::{Kind, Verb};

use super::targets::Targets;
use crate::{
    Outcome,
    context::Global,
    output::{self, table::age},
};

/// What to describe.
#[derive(clap::Args)]
pub struct Args {
    /// A kind and a name or id, e.g. llm claude
    #[arg(value_name = "KIND NAME | KIND/NAME", required = true)]
    what: Vec<String>,
}

/// Describes a resource; for an Llm also who may run it, as far as the caller may know.
pub async fn run(global: &Global, args: &Args) -> Outcome {
    let (kind, name) = Targets::one(&args.what)?;
    let client = global.client()?;
    let resource = client.get(kind, &name).await?;
    data!("{}", output::yaml(&resource)?.trim_end())?;
    data!("# made {} ago, changed {} ago", age(resource.created_at), age(resource.updated_at))?;
    if kind == Kind::Llm {
        // Who may not view people gets the Llm without this.
        if let Ok(answer) = client.who_can(Verb::Run.as_str(), kind.plural(), resource.name.as_str()).await {
            data!("# may be run by:")?;
            for grantee in answer.subjects {
                let via = grantee.via_group.map(|group| format!(" via group {group}")).unwrap_or_default();
                data!("#   {} (role {}{via})", grantee.subject, grantee.role)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
