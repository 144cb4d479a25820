//! `mcpctl whoami`, `mcpctl auth`: questions about people and rights.

use std::process::ExitCode;

use clap::Subcommand;
use mcpctl_api::{
    Verb,
    question::{CanI, Rights},
    spec::Subject,
};
use mcpctl_client::{
    expiry, fetch_keys,
    pins::{self, OtherKeys},
};

use super::targets::{Targets, account, asked};
use crate::{
    Outcome,
    context::Global,
    failure::Failure,
    output::{
        Shape, Tone, one_line,
        table::{Table, until},
    },
};

/// How to show it.
#[derive(clap::Args)]
pub struct WhoamiArgs {
    /// table, json or yaml
    #[arg(long, short, value_enum, default_value = "table")]
    output: Shape,
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
        /// view, run, use, create, edit, delete, grant or capture
        #[arg(value_parser = verb, required_unless_present = "list")]
        verb: Option<Verb>,
        /// A kind, e.g. llms, with a name or id; to any at all where none is given
        #[arg(value_name = "KIND [NAME] | KIND/NAME", required_unless_present = "list")]
        what: Vec<String>,
        /// Another account, e.g. alice or ServiceAccount/ci, for those who may view accounts and their rights
        #[arg(long = "as", value_name = "ACCOUNT", value_parser = account)]
        account: Option<Subject>,
        /// Everything that is allowed, and by which roles and bindings
        #[arg(long, conflicts_with_all = ["verb", "what"])]
        list: bool,
        /// Print nothing: the exit code is the answer
        #[arg(long, short, conflicts_with = "list")]
        quiet: bool,
        /// table, wide, json or yaml, of the list
        #[arg(long, short, value_enum, default_value = "table", requires = "list")]
        output: Shape,
    },
    /// As `mcpctl whoami`
    #[command(hide = true)]
    Whoami(WhoamiArgs),
    /// Who may do this?
    WhoCan {
        /// view, run, use, create, edit, delete, grant or capture
        #[arg(value_parser = verb)]
        verb: Verb,
        /// A kind and a name or id, e.g. llm claude
        #[arg(value_name = "KIND NAME | KIND/NAME", required = true)]
        what: Vec<String>,
    },
}

/// Prints who is signed in.
pub async fn whoami(global: &Global, args: &WhoamiArgs) -> Outcome {
    let identity = global.identity()?;
    let (trust, context) = (identity.trust.clone(), identity.context.clone());
    let client = identity.client()?;
    let me = client.whoami().await?;
    if args.output.print(&me)? {
        return Ok(ExitCode::SUCCESS);
    }
    let list = |names: &[mcpctl_api::Name]| {
        if names.is_empty() {
            return "none".to_owned();
        }
        names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    data!("{} at {}", me.subject, client.server().as_str().trim_end_matches('/'))?;
    let (_, config) = global.config()?;
    let pinned = config.pins_of(client.server()).map(|pins| pins.keys.as_slice()).unwrap_or_default();
    match pinned.first() {
        Some(key) => data!("key:     {} (pinned)", key.fingerprint())?,
        None => data!("key:     none pinned")?,
    }
    if !pinned.is_empty()
        && let Ok(list) = fetch_keys(client.server(), &trust).await
        && let Some(other) = pins::other_keys(&list.signed, pinned)
    {
        note!(Tone::Warning, "warning:"; " {other}");
        note!(Tone::Hint, "hint:"; " {}", OtherKeys::hint(client.server()));
    }
    data!("groups:  {}", list(&me.groups))?;
    data!("roles:   {}", list(&me.roles))?;
    if let Some(token) = &me.token {
        data!("token:   {token}")?;
    }
    for (at, rule) in me.rules.iter().flatten().enumerate() {
        data!("{} {rule}", if at == 0 { "only:   " } else { "        " })?;
    }
    data!("expires: {} ({})", until(me.expires_at), me.expires_at.strftime("%F %T UTC"))?;
    if let Some(warning) = context.and_then(|context| expiry::warning_of(&context, me.expires_at)) {
        note!(Tone::Warning, "warning:"; " {warning}");
    }
    Ok(ExitCode::SUCCESS)
}

fn verb(text: &str) -> Result<Verb, String> {
    text.parse().map_err(|error| format!("{error}"))
}

fn show_rights(rights: &Rights, output: Shape) -> Outcome {
    if output.print(rights)? {
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["MAY", "ROLE", "BINDING", "VIA GROUP"])
        .wrapping("MAY")
        .without_empty()
        .in_one_line(output == Shape::Wide);
    for held in &rights.rules {
        let via = held.via_group.as_ref().map(ToString::to_string).unwrap_or_default();
        table.row([held.rule.to_string(), held.role.to_string(), held.binding.to_string(), via]);
    }
    table.print()?;
    if rights.disabled {
        note!(Tone::Warning, "warning:"; " {} is disabled, so it may do nothing now", rights.subject);
    }
    for (at, rule) in rights.narrowed_to.iter().flatten().enumerate() {
        note!("{} {rule}", if at == 0 { "with this token only:" } else { "                     " });
    }
    if rights.makers > 0 {
        note!("another account made this credential: it allows no more than that account may do or grant");
    }
    Ok(ExitCode::SUCCESS)
}

/// Answers a question.
pub async fn run(global: &Global, args: Args) -> Outcome {
    match args.question {
        Question::CanI { account, list: true, output, .. } => {
            show_rights(&global.client()?.rights(account.as_ref()).await?, output)
        }
        Question::CanI { verb, what, account, quiet, .. } => {
            let Some(verb) = verb else {
                return Err(Failure::usage("which verb?").hint("e.g. mcpctl auth can-i run llms/gpt"));
            };
            let (kind, name) = asked(&what)?;
            let question = CanI { verb: verb.to_string(), kind: kind.plural().to_owned(), name, account };
            let answer = global.client()?.can_i(&question).await?;
            if !quiet {
                data!("{}: {}", if answer.allowed { "yes" } else { "no" }, one_line(&answer.reason))?;
            }
            Ok(if answer.allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Question::Whoami(args) => whoami(global, &args).await,
        Question::WhoCan { verb, what } => {
            let (kind, name) = match asked(&what)? {
                (kind, Some(name)) => (kind, name),
                (kind, None) if kind.is_resource() => Targets::one(&what)?,
                (kind, None) => {
                    return Err(Failure::usage(format!("whose {}?", kind.plural()))
                        .hint("name an account, e.g. alice or serviceaccount/ci, or '*' for all"));
                }
            };
            let answer = global.client()?.who_can(verb.as_str(), kind.plural(), &name).await?;
            let mut table = Table::new(&["SUBJECT", "ROLE", "BINDING", "VIA GROUP"]).subjects(&["SUBJECT"]);
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
