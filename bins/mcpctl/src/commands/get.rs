//! `mcpctl get`.

use std::{collections::HashMap, process::ExitCode};

use jiff::{SignedDuration, Timestamp};
use mcpctl_api::{HumanDuration, Kind, Resource, Spec};
use mcpctl_client::{Client, ClientError};

use super::{
    files::NamedFiles,
    statuses::statuses_of,
    targets::{Choice, LabelSelector, Wanted},
    viewable::{not_viewable, plurals, refusal},
    watch::Watch,
};
use crate::{
    Outcome,
    context::Global,
    failure::Failure,
    output::{
        self, Format,
        fields::{Known, Root},
        resources::{Feed, View, resources},
    },
    suggest,
};

/// What to show.
#[derive(clap::Args)]
pub struct Args {
    /// A kind, e.g. llms, several (llms,users) or all, with names or ids; all of the kind where none is given
    #[arg(value_name = "KIND [NAME]... | KIND/NAME", required_unless_present = "files")]
    what: Vec<String>,
    #[command(flatten)]
    files: NamedFiles,
    /// Only those with these labels, e.g. 'team=a,tier notin (dev),!old'
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    selector: Option<String>,
    /// table, wide, json, yaml, name, jsonpath=TEMPLATE, jsonpath-as-json=TEMPLATE, custom-columns=HEADER:PATH,…; jsonpath-file=FILE
    /// and custom-columns-file=FILE read them from a file
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    output: Format,
    #[command(flatten)]
    view: View,
    /// Only tokens that end within this time, e.g. 7d, the next one first; sessions are left out
    #[arg(long, value_name = "DURATION", conflicts_with = "watch")]
    expiring: Option<HumanDuration>,
    /// Go on with every change, also after a restart of mcpd
    #[arg(long, short, conflicts_with = "sort_by")]
    watch: bool,
    /// Show changes alone, not what there is already
    #[arg(long, conflicts_with_all = ["watch", "sort_by", "expiring"])]
    watch_only: bool,
    /// With -w or --watch-only, show each change as an event: ADDED, also for what is there already, MODIFIED or DELETED
    #[arg(long)]
    output_watch_events: bool,
    /// Where a named resource does not exist, show the others and succeed
    #[arg(long)]
    ignore_not_found: bool,
}

impl Args {
    pub(super) fn follows(&self) -> bool {
        self.watch || self.watch_only
    }
}

/// Shows resources.
pub async fn run(global: &Global, mut args: Args) -> Outcome {
    let wanted = Wanted::parse_or_read(&args.what, &args.files).await?;
    if matches!(wanted, Wanted::These(_)) && args.selector.is_some() {
        return Err(Choice::Names.or(Choice::Selector));
    }
    if args.expiring.is_some() && wanted != Wanted::Kinds(vec![Kind::Token]) {
        return Err(Failure::usage("--expiring is for all tokens").hint("mcpctl get tokens --expiring 7d"));
    }
    let selector = LabelSelector::parse(args.selector.as_deref())?;
    if args.output_watch_events && !args.follows() {
        return Err(Failure::usage("--output-watch-events is for a watch").hint("add -w or --watch-only"));
    }
    check_fields(&wanted, &args)?;
    let client = global.client()?;
    args.view.with_kind = wanted.kinds().len() > 1;
    if args.follows() {
        return follow(&client, wanted, selector, &args).await;
    }
    match wanted {
        Wanted::All => all(&client, &Kind::RESOURCES, selector.as_ref(), &args).await,
        Wanted::Kinds(kinds) => all(&client, &kinds, selector.as_ref(), &args).await,
        Wanted::These(targets) => these(&client, &targets, &args).await,
    }
}

/// Refuses an order by a field that none of the kinds has, and warns of other paths that lead to none.
fn check_fields(wanted: &Wanted, args: &Args) -> Result<(), Failure> {
    let kinds = wanted.kinds();
    if let Some(path) = &args.view.sort_by
        && let Some(unknown) = Known::new(&kinds, Root::Resource).unknown(path)
    {
        return Err(unknown);
    }
    let root = match (wanted, &args.output) {
        (_, Format::Columns(_)) => Root::Resource,
        _ if args.output_watch_events => Root::Event,
        _ if args.follows() => Root::Resource,
        (Wanted::These(targets), _) if targets.len() == 1 => Root::Resource,
        _ => Root::List,
    };
    if matches!(args.output, Format::Columns(_) | Format::JsonPath(_) | Format::JsonPathAsJson(_)) {
        Known::new(&kinds, root).unknown_in(&args.output).iter().for_each(output::warn);
    }
    Ok(())
}

/// Shows everything of some kinds that the caller may view.
async fn all(client: &Client, kinds: &[Kind], selector: Option<&LabelSelector>, args: &Args) -> Outcome {
    let (mut items, mut empty) = (Vec::new(), Vec::new());
    for kind in kinds {
        let list = client.list(*kind, selector.map(|selector| selector.text.as_str())).await?;
        let found = match args.expiring {
            Some(within) => expiring(list.items, within)?,
            None => list.items,
        };
        if found.is_empty() {
            empty.push(*kind);
        }
        items.extend(found);
    }
    let denied = not_viewable(client, &empty).await;
    if denied == kinds {
        return Err(refusal(&denied));
    }
    args.view.sort(&mut items)?;
    let statuses = statuses_of(client, &items, &args.output).await;
    resources(&items, &statuses, &args.output, &args.view, false)?;
    if let ([Kind::Token], true) = (kinds, items.is_empty()) {
        note!("your own tokens: mcpctl token list");
    }
    if !denied.is_empty() {
        note!("left out, because you may not view them: {}", plurals(&denied));
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows the named resources that exist, then an error for each that does not.
async fn these(client: &Client, targets: &[(Kind, String)], args: &Args) -> Outcome {
    let (mut found, mut failures) = (Vec::new(), Vec::<Failure>::new());
    let mut names = suggest::Names::default();
    for (kind, name) in targets {
        match client.get(*kind, name).await {
            Ok(resource) => found.push(resource),
            Err(error) if args.ignore_not_found && error.is_missing() => {}
            Err(error @ ClientError::Refused { .. }) => {
                failures.push(names.not_found(client, *kind, name, error).await);
            }
            Err(error) => return Err(error.into()),
        }
    }
    args.view.sort(&mut found)?;
    if !found.is_empty() {
        let statuses = statuses_of(client, &found, &args.output).await;
        resources(&found, &statuses, &args.output, &args.view, targets.len() == 1)?;
    }
    match failures.pop() {
        None => Ok(ExitCode::SUCCESS),
        Some(last) => {
            for failure in failures {
                output::report(&failure);
            }
            Err(last)
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

/// Shows what there is, and goes on with every change.
async fn follow(client: &Client, wanted: Wanted, selector: Option<LabelSelector>, args: &Args) -> Outcome {
    let one =
        || Failure::usage("one kind at a time can be watched").hint("name one, e.g. mcpctl get llms -w");
    let (kind, names) = match wanted {
        Wanted::All => return Err(one()),
        Wanted::Kinds(kinds) => match kinds.as_slice() {
            [kind] => (*kind, Vec::new()),
            _ => return Err(one()),
        },
        Wanted::These(targets) => match targets.split_first() {
            Some(((kind, _), rest)) if rest.iter().all(|(other, _)| other == kind) => {
                (*kind, targets.iter().map(|(_, name)| name.clone()).collect())
            }
            _ => return Err(one()),
        },
    };
    let feed = Feed::new(&args.output, &args.view, args.output_watch_events);
    let watch = Watch { client, kind, names, selector, format: &args.output, feed, shown: HashMap::new() };
    Box::pin(watch.run(args.watch_only)).await?;
    Ok(ExitCode::SUCCESS)
}
