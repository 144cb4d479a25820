//! `mcpctl get`.

use std::process::ExitCode;

use super::{
    resources::{kind, parse_kind},
    watch,
};
use crate::{
    Outcome,
    context::Global,
    output::{self, Format},
};

/// What to show.
#[derive(clap::Args)]
pub struct Args {
    /// A kind, e.g. llms
    #[arg(value_parser = kind)]
    kind: String,
    /// Names or ids; all where none is given
    names: Vec<String>,
    /// Only those with these labels, e.g. team=a,tier!=dev
    #[arg(long, short = 'l', value_name = "SELECTOR", conflicts_with = "names")]
    selector: Option<String>,
    /// table, wide, json, yaml, name, or jsonpath=TEMPLATE
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    output: Format,
    /// Go on with every change
    #[arg(long, short)]
    watch: bool,
}

/// Shows resources.
pub async fn run(global: &Global, args: Args) -> Outcome {
    let client = global.client()?;
    let kind = parse_kind(&args.kind)?;
    let mut since = None;
    let items = if args.names.is_empty() {
        let list = client.list(kind, args.selector.as_deref()).await?;
        since = Some(list.revision);
        list.items
    } else {
        let mut items = Vec::new();
        for name in &args.names {
            items.push(client.get(kind, name).await?);
        }
        items
    };
    output::resources(&items, &args.output, args.names.len() == 1)?;
    if args.watch {
        watch::follow(&client, kind, since, &args.names, &args.output).await?;
    }
    Ok(ExitCode::SUCCESS)
}
