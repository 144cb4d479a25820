//! `mcpctl whoami`, `mcpctl auth`: questions about people and rights.

use std::process::ExitCode;

use clap::Subcommand;
use mcpctl_api::question::CanI;

use super::resources::{kind, parse_kind};
use crate::{
    Outcome,
    context::Global,
    output::table::{Table, until},
};

/// How to show it.
#[derive(clap::Args)]
pub struct WhoamiArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What to ask.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    question: Question,
}

#[derive(Subcommand)]
enum Question {
    /// May I do this? Exit code 0 for yes, 1 for no
    CanI {
        /// view, run, create, edit, delete or grant
        verb: String,
        /// A kind, e.g. llms
        #[arg(value_parser = kind)]
        kind: String,
        /// A name or id; left out: to any at all
        name: Option<String>,
    },
    /// Who may do this?
    WhoCan {
        /// view, run, create, edit, delete or grant
        verb: String,
        /// A kind, e.g. llms
        #[arg(value_parser = kind)]
        kind: String,
        /// A name or id
        name: String,
    },
}

/// Says who is signed in.
pub async fn whoami(global: &Global, args: &WhoamiArgs) -> Outcome {
    let client = global.client()?;
    let me = client.whoami().await?;
    if args.json {
        anstream::println!("{}", serde_json::to_string_pretty(&me)?);
        return Ok(ExitCode::SUCCESS);
    }
    let list = |names: &[mcpctl_api::Name]| {
        if names.is_empty() {
            return "none".to_owned();
        }
        names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    anstream::println!("{} at {}", me.subject, client.server());
    anstream::println!("groups:  {}", list(&me.groups));
    anstream::println!("roles:   {}", list(&me.roles));
    anstream::println!("expires: {} ({})", until(me.expires_at), me.expires_at.strftime("%F %T UTC"));
    Ok(ExitCode::SUCCESS)
}

/// Answers a question.
pub async fn run(global: &Global, args: Args) -> Outcome {
    let client = global.client()?;
    match args.question {
        Question::CanI { verb, kind, name } => {
            let kind = parse_kind(&kind)?.plural().to_owned();
            let answer = client.can_i(&CanI { verb, kind, name }).await?;
            anstream::println!("{}: {}", if answer.allowed { "yes" } else { "no" }, answer.reason);
            Ok(if answer.allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Question::WhoCan { verb, kind, name } => {
            let answer = client.who_can(&verb, parse_kind(&kind)?.plural(), &name).await?;
            let mut table = Table::new(&["SUBJECT", "ROLE", "BINDING", "VIA GROUP"]);
            for grantee in answer.subjects {
                table.row([
                    grantee.subject.to_string(),
                    grantee.role.to_string(),
                    grantee.binding.to_string(),
                    grantee.via_group.map(|group| group.to_string()).unwrap_or_default(),
                ]);
            }
            table.print()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
