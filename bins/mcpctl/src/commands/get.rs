//! `mcpctl get`.

use std::process::ExitCode;

use jiff::{SignedDuration, Timestamp};
use mcpctl_api::{HumanDuration, Kind, Resource, Revision, Spec};
use mcpctl_client::{Client, ClientError};

use super::{
    targets::{LabelSelector, Targets},
    watch::{self, Selected},
};
use crate::{
    Outcome,
    context::Global,
    failure::Failure,
    output::{self, Format, Statuses},
};

/// What to show.
#[derive(clap::Args)]
pub struct Args {
    /// A kind, e.g. llms, with names or ids; all of the kind where none is given
    #[arg(value_name = "KIND [NAME]... | KIND/NAME", required = true)]
    what: Vec<String>,
    /// Only those with these labels, e.g. 'team=a,tier notin (dev),!old'
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    selector: Option<String>,
    /// table, wide, json, yaml, name, or jsonpath=TEMPLATE
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    output: Format,
    /// Only tokens that end within this time, e.g. 7d, the next one first; sessions are left out
    #[arg(long, value_name = "DURATION", conflicts_with = "watch")]
    expiring: Option<HumanDuration>,
    /// Go on with every change
    #[arg(long, short)]
    watch: bool,
}

impl Args {
    pub(super) fn follows(&self) -> bool {
        self.watch
    }
}

/// Shows resources.
pub async fn run(global: &Global, args: Args) -> Outcome {
    let targets = Targets::parse(&args.what)?;
    if matches!(targets, Targets::These(_)) && args.selector.is_some() {
        return Err(Failure::usage("either names or a selector, not both"));
    }
    if args.expiring.is_some() && !matches!(targets, Targets::All(Kind::Token)) {
        return Err(Failure::usage("--expiring is for all tokens").hint("mcpctl get tokens --expiring 7d"));
    }
    let selector = LabelSelector::parse(args.selector.as_deref())?;
    let client = global.client()?;
    if args.watch {
        return follow(&client, &targets, selector.as_ref(), &args.output).await;
    }
    let targets = match targets {
        Targets::All(kind) => {
            let list = client.list(kind, selector.as_ref().map(|selector| selector.text.as_str())).await?;
            let items = match args.expiring {
                Some(within) => expiring(list.items, within)?,
                None => list.items,
            };
            output::resources(
                &items,
                &statuses_of(&client, &items, &args.output).await,
                &args.output,
                false,
            )?;
            if items.is_empty() && kind == Kind::Token {
                note!("your own tokens: mcpctl token list");
            }
            return Ok(ExitCode::SUCCESS);
        }
        Targets::These(targets) => targets,
    };
    // Prints the resources that exist, then an error for each that does not.
    let (mut found, mut failures) = (Vec::new(), Vec::<ClientError>::new());
    for (kind, name) in &targets {
        match client.get(*kind, name).await {
            Ok(resource) => found.push(resource),
            Err(error @ ClientError::Refused { .. }) => failures.push(error),
            Err(error) => return Err(error.into()),
        }
    }
    if !found.is_empty() {
        let statuses = statuses_of(&client, &found, &args.output).await;
        output::resources(&found, &statuses, &args.output, targets.len() == 1)?;
    }
    match failures.pop() {
        None => Ok(ExitCode::SUCCESS),
        Some(last) => {
            for failure in failures {
                output::report(&Failure::from(failure));
            }
            Err(last.into())
        }
    }
}

/// The tokens that end within this time and have not ended yet.
fn expiring(mut items: Vec<Resource>, within: HumanDuration) -> Result<Vec<Resource>, Failure> {
    let now = Timestamp::now();
    let span = SignedDuration::try_from(within.0).unwrap_or(SignedDuration::MAX);
    let until = now.checked_add(span).unwrap_or(Timestamp::MAX);
    let end = |item: &Resource| match &item.spec {
        Spec::Token(token) if !token.session => Some(token.expires_at),
        _ => None,
    };
    items.retain(|item| end(item).is_some_and(|end| now < end && end <= until));
    items.sort_by_key(end);
    Ok(items)
}

/// What mcpd reports of the resources that a table shows; nothing where it does not, because it is older.
async fn statuses_of(client: &Client, items: &[Resource], format: &Format) -> Statuses {
    let mut statuses = Statuses::default();
    if !matches!(format, Format::Table | Format::Wide) {
        return statuses;
    }
    let shows = |kind: Kind| items.iter().any(|item| item.kind() == kind);
    if shows(Kind::Token) {
        let tokens = client.token_statuses().await.map(|list| list.items).unwrap_or_default();
        statuses.tokens = tokens.into_iter().map(|status| (status.id.clone(), status)).collect();
    }
    match items {
        [llm] if llm.kind() == Kind::Llm => {
            let status = client.llm_status(llm.id.as_str()).await.ok();
            statuses.llms = status.map(|status| (llm.name.clone(), status)).into_iter().collect();
        }
        _ if shows(Kind::Llm) => {
            let llms = client.llm_statuses().await.unwrap_or_default();
            statuses.llms = llms.into_iter().map(|status| (status.llm.clone(), status)).collect();
        }
        _ => {}
    }
    statuses
}

/// Shows what there is, and goes on with every change. A list and its revision belong together, so that nothing is lost
/// between the two; resources that are named are picked from it.
async fn follow(
    client: &Client,
    targets: &Targets,
    selector: Option<&LabelSelector>,
    format: &Format,
) -> Outcome {
    let (kind, names): (Kind, &[(Kind, String)]) = match targets {
        Targets::All(kind) => (*kind, &[]),
        Targets::These(targets) => match targets.split_first() {
            Some(((kind, _), rest)) if rest.iter().all(|(other, _)| other == kind) => (*kind, targets),
            _ => return Err(Failure::usage("one kind at a time can be watched")),
        },
    };
    let wanted = |resource: &str, id: &str| {
        names.is_empty() || names.iter().any(|(_, name)| name == resource || name == id)
    };
    for (kind, name) in names {
        client.get(*kind, name).await?;
    }
    let list = client.list(kind, selector.map(|selector| selector.text.as_str())).await?;
    let since: Revision = list.revision;
    let items: Vec<Resource> =
        list.items.into_iter().filter(|item| wanted(item.name.as_str(), item.id.as_str())).collect();
    let statuses = statuses_of(client, &items, format).await;
    output::resources(&items, &statuses, format, items.len() == 1 && !names.is_empty())?;
    let selector = selector.map(|selector| Selected {
        selector: &selector.parsed,
        shown: items.iter().map(|item| item.id.clone()).collect(),
    });
    watch::follow(client, kind, since, wanted, selector, output::Feed::new(format, !items.is_empty()))
        .await?;
    Ok(ExitCode::SUCCESS)
}
