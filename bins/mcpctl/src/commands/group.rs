//! `mcpctl group add`, `mcpctl group remove`: members of a group, one by one. Others may change the group at the same time: no change
//! of theirs is lost.

use std::process::ExitCode;

use clap::Subcommand;
use mcpctl_api::{Kind, Name, Spec, spec::Subject};
use mcpctl_client::{Changed, Client};
use serde_json::json;

use super::{retry, targets::account, writing::DryRunArg};
use crate::{Outcome, context::Global, failure::Failure, output};

/// What to do with the members.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Add members to a group
    Add(Members),
    /// Remove members from a group
    Remove(Members),
}

/// A group and accounts.
#[derive(clap::Args)]
struct Members {
    /// The group's name
    group: Name,
    /// Accounts, e.g. alice, User/alice or ServiceAccount/ci
    #[arg(value_name = "ACCOUNT", required = true, value_parser = account)]
    accounts: Vec<Subject>,
    #[command(flatten)]
    run: DryRunArg,
}

/// Changes the members.
pub async fn run(global: &Global, args: Args) -> Outcome {
    let (Members { group, accounts, run }, adds) = match args.command {
        Command::Add(members) => (members, true),
        Command::Remove(members) => (members, false),
    };
    let client = run.client(global.client()?);
    let suffix = run.suffix();
    let (done, word) = if adds {
        (add(&client, &group, &accounts, run).await?, "added to")
    } else {
        (remove(&client, &group, &accounts, run).await?, "removed from")
    };
    for account in &accounts {
        match done.contains(account) {
            true => data!("{account} {word} groups/{group}{suffix}")?,
            false if adds => note!("{account} is in groups/{group} already"),
            false => note!("{account} is not in groups/{group}"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Adds members, and returns those that were not in the group.
pub(super) async fn add(
    client: &Client,
    group: &Name,
    accounts: &[Subject],
    run: DryRunArg,
) -> Result<Vec<Subject>, Failure> {
    change(client, group, run, |members| {
        let mut new: Vec<Subject> = Vec::new();
        for account in accounts.iter().filter(|account| !members.contains(account)) {
            if !new.contains(account) {
                new.push(account.clone());
            }
        }
        members.extend(new.iter().cloned());
        new
    })
    .await
}

/// Removes members, and returns those that were in the group.
async fn remove(
    client: &Client,
    group: &Name,
    accounts: &[Subject],
    run: DryRunArg,
) -> Result<Vec<Subject>, Failure> {
    change(client, group, run, |members| {
        let (gone, kept) = members.drain(..).partition(|member| accounts.contains(member));
        *members = kept;
        gone
    })
    .await
}

/// Changes the members at the revision at which they were read.
async fn change(
    client: &Client,
    group: &Name,
    run: DryRunArg,
    change: impl Fn(&mut Vec<Subject>) -> Vec<Subject>,
) -> Result<Vec<Subject>, Failure> {
    retry::until_first(format!("groups/{group}"), async || {
        let resource = client.get(Kind::Group, group.as_str()).await?;
        let Spec::Group(spec) = resource.spec else {
            return Err(Failure::new("mcpd gave no group").into());
        };
        let mut members = spec.members;
        let changed = change(&mut members);
        if !changed.is_empty() && !run.is_client_side() {
            let patch = json!({"members": members});
            let id = resource.id.as_str();
            let Changed { warnings, .. } =
                client.patch(Kind::Group, id, &patch, Some(resource.revision)).await?;
            output::warnings(&warnings);
        }
        Ok(changed)
    })
    .await
}
