//! `mcpctl describe`: one resource in full, and what belongs to it.

mod account;

use std::process::ExitCode;

use mcpctl_api::{
    Kind, Resource, Spec, Verb,
    token_status::{TokenState, TokenStatus},
};
use mcpctl_client::Client;

use super::{
    files::NamedFiles,
    targets::{Choice, LabelSelector, Wanted},
    viewable::{not_viewable, refusal},
};
use crate::{
    Outcome,
    context::Global,
    failure::Failure,
    output::{
        self,
        table::{age, until},
    },
    suggest,
};

/// Accounts that may run an Llm are listed up to so many.
const MAX_GRANTEES: usize = 20;

/// What to describe.
#[derive(clap::Args)]
pub struct Args {
    /// A kind, e.g. llm, with names or ids; all of the kind where none is given
    #[arg(value_name = "KIND [NAME]... | KIND/NAME", required_unless_present = "files")]
    what: Vec<String>,
    #[command(flatten)]
    files: NamedFiles,
    /// Only those with these labels, e.g. 'team=a,tier notin (dev),!old'
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    selector: Option<String>,
}

/// Describes resources; for an Llm also its breakers, and who may run it where the caller may view that, and for a Limit how it stands.
pub async fn run(global: &Global, args: &Args) -> Outcome {
    let wanted = Wanted::parse_or_read(&args.what, &args.files).await?;
    let selector = LabelSelector::parse(args.selector.as_deref())?;
    if matches!(wanted, Wanted::These(_)) && selector.is_some() {
        return Err(Choice::Names.or(Choice::Selector));
    }
    let client = global.client()?;
    let kinds = match wanted {
        Wanted::These(targets) => {
            for (at, (kind, name)) in targets.iter().enumerate() {
                let found = client.get(*kind, name).await;
                let resource = match found {
                    Ok(resource) => resource,
                    Err(error) => return Err(suggest::not_found(&client, *kind, name, error).await),
                };
                separated(&client, at, &resource).await?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        Wanted::All => Kind::RESOURCES.to_vec(),
        Wanted::Kinds(kinds) => kinds,
    };
    let mut count = 0;
    for kind in kinds.iter().copied() {
        let list = client.list(kind, selector.as_ref().map(|selector| selector.text.as_str())).await?;
        for resource in &list.items {
            separated(&client, count, resource).await?;
            count += 1;
        }
    }
    if count == 0 {
        let denied = not_viewable(&client, &kinds).await;
        if !denied.is_empty() && denied == kinds {
            return Err(refusal(&denied));
        }
        note!("nothing found");
    }
    Ok(ExitCode::SUCCESS)
}

async fn separated(client: &Client, before: usize, resource: &Resource) -> Outcome {
    if before > 0 {
        data!("---")?;
    }
    describe(client, resource).await
}

async fn describe(client: &Client, resource: &Resource) -> Outcome {
    let kind = resource.kind();
    data!("{}", output::yaml(resource)?.trim_end())?;
    if matches!(resource.spec, Spec::Secret(_)) {
        data!("# values are stored and never shown; `null` in a document keeps them")?;
    }
    data!("# made {} ago, changed {} ago", age(resource.created_at), age(resource.updated_at))?;
    if let Spec::Token(token) = &resource.spec {
        // Left out where mcpd does not show it, because it is older.
        if let Ok(status) = client.token_status(resource.id.as_str()).await {
            token_status(resource, &status)?;
        }
        token.rules.iter().flatten().try_for_each(|rule| data!("# may only: {rule}"))?;
    }
    account::describe(client, resource).await?;
    if kind == Kind::Limit {
        limit_status(client, resource).await?;
    }
    if kind == Kind::Llm {
        breakers(client, resource).await?;
        // Left out for a caller who may not view accounts.
        if let Ok(answer) = client.who_can(Verb::Run.as_str(), kind.plural(), resource.name.as_str()).await {
            data!("# may be run by:")?;
            let more = answer.subjects.len().saturating_sub(MAX_GRANTEES);
            for grantee in answer.subjects.into_iter().take(MAX_GRANTEES) {
                let via = grantee.via_group.map(|group| format!(" via group {group}")).unwrap_or_default();
                data!("#   {} (role {}{via})", grantee.subject, grantee.role)?;
            }
            if more > 0 {
                data!("#   and {more} more: mcpctl auth who-can run llms {}", resource.name)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn token_status(token: &Resource, status: &TokenStatus) -> Result<(), Failure> {
    let reason = status.reason.as_ref().map(|reason| format!(": {}", output::one_line(reason)));
    let reason = reason.unwrap_or_default();
    data!("# status: {}{reason}", status.state.as_str())?;
    if status.state == TokenState::Void {
        data!("#   an administrator takes it over with: mcpctl rotate token {}", token.name)?;
    }
    data!("# ends {}, last used {}", until(status.expires_at), output::last_used(status))
}

/// Left out where mcpd does not show them, because it is older.
async fn breakers(client: &Client, llm: &Resource) -> Result<(), Failure> {
    let Ok(status) = client.llm_status(llm.id.as_str()).await else { return Ok(()) };
    let used = status.last_used_at.map_or_else(
        || "not used since this mcpd started".to_owned(),
        |at| format!("last used {} ago", age(at)),
    );
    data!("# state: {}, {used} (as this mcpd has seen it)", output::llm_state(&status))?;
    if let Some(failure) = &status.last_failure {
        let (class, ago) = (output::one_line(&failure.class), age(failure.at));
        let answer = if failure.status == 0 { String::new() } else { format!(", status {}", failure.status) };
        data!("# last failure: {class}{answer}, {ago} ago")?;
    }
    let many = status.breakers.len() > 1;
    for (at, breaker) in status.breakers.iter().enumerate() {
        let place = match &breaker.url {
            Some(url) if many => format!(" of {url}"),
            None if many => format!(" of target {}", at + 1),
            _ => String::new(),
        };
        data!("# breaker{place}: {}", output::breaker(breaker))?;
    }
    for key in &status.void_keys {
        let reason = key.reason.as_ref().map(|reason| format!(": {}", output::one_line(reason)));
        let (field, reason) = (output::one_line(&key.field), reason.unwrap_or_default());
        data!("# {field}: void, no key is sent{reason}")?;
        data!("#   attach Secret `{}` again by writing it without `secretId`", key.secret)?;
        if field == "apiKey" {
            let patch = r#"{"apiKey": {"secretId": null}}"#;
            data!("#   mcpctl patch llm {} -p '{patch}'", llm.name)?;
        }
    }
    Ok(())
}

async fn limit_status(client: &Client, limit: &Resource) -> Result<(), Failure> {
    let status = client.limit_status(limit.id.as_str()).await?;
    if status.counters.is_empty() && status.hidden == 0 {
        return data!("# nothing of it is used");
    }
    data!("# used:")?;
    for count in &status.counters {
        let whose = count.subject.as_ref().map(|subject| format!("{subject}: ")).unwrap_or_default();
        let (used, max, unit, per) = (&count.used, &count.max, count.unit(), &count.per);
        let free = match used.as_u64() {
            Some(0) => String::new(),
            _ => format!(", all free again {}", until(count.resets_at)),
        };
        data!("#   {whose}{used} of {max} {unit} per {per}{free}")?;
    }
    if status.hidden > 0 {
        data!("#   and {} more that you may not view", status.hidden)?;
    }
    Ok(())
}
