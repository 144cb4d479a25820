//! `mcpctl group add`, `mcpctl group remove`: members of a group, one by one. Others may change the group at the same time: no change
//! of theirs is lost.

use std::{process::ExitCode, time::Duration};

use clap::Subcommand;
use mcpctl_api::{Kind, Name, Spec, spec::Subject};
use mcpctl_client::{Changed, Client, ClientError};
use serde_json::json;

use super::targets::account;
use crate::{Outcome, context::Global, failure::Failure, output};

/// How often a change is tried again that lost to another writer. Each loss is another writer's success.
const MAX_ATTEMPTS: u32 = 20;
/// How long it waits before the first repetition; longer before later ones.
const BACKOFF: Duration = Duration::from_millis(20);

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
}

/// Changes the members.
pub async fn run(global: &Global, args: Args) -> Outcome {
    let client = global.client()?;
    let (Members { group, accounts }, adds) = match args.command {
        Command::Add(members) => (members, true),
        Command::Remove(members) => (members, false),
    };
    let (done, word) = if adds {
        (add(&client, &group, &accounts).await?, "added to")
    } else {
        (remove(&client, &group, &accounts).await?, "removed from")
    };
    for account in &accounts {
        match done.contains(account) {
            true => data!("{account} {word} groups/{group}")?,
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
) -> Result<Vec<Subject>, Failure> {
    change(client, group, |members| {
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
async fn remove(client: &Client, group: &Name, accounts: &[Subject]) -> Result<Vec<Subject>, Failure> {
    change(client, group, |members| {
        let (gone, kept) = members.drain(..).partition(|member| accounts.contains(member));
        *members = kept;
        gone
    })
    .await
}

/// Changes the members at the revision at which they were read, and again where another writer was first.
async fn change(
    client: &Client,
    group: &Name,
    change: impl Fn(&mut Vec<Subject>) -> Vec<Subject>,
) -> Result<Vec<Subject>, Failure> {
    for attempt in 0..MAX_ATTEMPTS {
        let resource = client.get(Kind::Group, group.as_str()).await?;
        let Spec::Group(spec) = resource.spec else { return Err(Failure::new("mcpd gave no group")) };
        let mut members = spec.members;
        let changed = change(&mut members);
        if changed.is_empty() {
            return Ok(changed);
        }
        let patch = json!({"members": members});
        match client.patch(Kind::Group, resource.id.as_str(), &patch, Some(resource.revision)).await {
            Ok(Changed { warnings, .. }) => {
                output::warnings(&warnings);
                return Ok(changed);
            }
            Err(error) if is_stale(&error) => tokio::time::sleep(BACKOFF * (attempt + 1)).await,
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::new(format!("other changes of groups/{group} were first, {MAX_ATTEMPTS} times"))
        .hint("run it again"))
}

/// Whether a write was refused because another one was first.
pub(super) fn is_stale(error: &ClientError) -> bool {
    error.status().is_some_and(|status| status.as_u16() == 412)
}
