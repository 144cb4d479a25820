//! `mcpctl apply --prune`: removes what the selector selects and no file names, in the same commit.

use std::{
    collections::{BTreeSet, HashSet},
    io::IsTerminal as _,
};

use mcpctl_access::builtin;
use mcpctl_api::{Kind, Resource, question::Removal};
use mcpctl_client::Client;

use crate::{
    commands::{
        delete::list_removed,
        files::FromFile,
        targets::{LabelSelector, kind},
    },
    failure::Failure,
    output::terminal,
};

/// The options of pruning.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct PruneArgs {
    /// Remove what the selector selects and the files do not name, of the kinds that are in the files
    #[arg(long, requires = "selector")]
    prune: bool,
    /// Prune these kinds, instead of those that are in the files
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kind, requires = "prune")]
    prune_allowlist: Vec<Kind>,
    /// Do not ask before something is pruned
    #[arg(long, short, requires = "prune")]
    yes: bool,
}

/// What is pruned.
pub(super) struct Prune<'a> {
    selector: &'a LabelSelector,
    kinds: &'a [Kind],
}

/// What the files name: kinds, and names or ids.
pub(super) type Named = HashSet<(Kind, String)>;

/// What the documents name, also those that are not selected: a document whose labels are wrong keeps its resource.
pub(super) fn names(found: &[FromFile]) -> Named {
    let name =
        |found: &FromFile| found.document.name.as_ref().map(|name| (found.document.kind(), name.to_string()));
    let id = |found: &FromFile| found.document.id.as_ref().map(|id| (found.document.kind(), id.to_string()));
    found.iter().flat_map(|found| [name(found), id(found)]).flatten().collect()
}

/// The removal of a resource as it is.
pub(super) fn removal(resource: &Resource) -> Removal {
    Removal { kind: resource.kind(), target: resource.id.to_string(), revision: Some(resource.revision) }
}

impl PruneArgs {
    /// What is to be pruned; never without a selector that selects.
    pub(super) fn check<'a>(
        &'a self,
        selector: Option<&'a LabelSelector>,
    ) -> Result<Option<Prune<'a>>, Failure> {
        if !self.prune {
            return Ok(None);
        }
        if self.prune_allowlist.contains(&Kind::Token) {
            return Err(Failure::usage("tokens are not in files, so they are not pruned")
                .hint("mcpctl delete tokens -l SELECTOR"));
        }
        match selector.filter(|selector| !selector.parsed.is_empty()) {
            Some(selector) => Ok(Some(Prune { selector, kinds: &self.prune_allowlist })),
            None => {
                Err(Failure::usage("an empty selector would prune everything that the files do not name")
                    .hint("name the labels, e.g. -l team=a"))
            }
        }
    }

    /// Shows what goes, and asks.
    pub(super) fn agree(&self, pruned: &[Resource], along: &[String]) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        note!("this is no longer in the files, and is removed:");
        let targets: Vec<_> =
            pruned.iter().map(|resource| (resource.kind(), resource.name.to_string())).collect();
        list_removed(&targets, along);
        if !std::io::stdin().is_terminal() {
            return Err(Failure::new(
                "nothing was changed: there is no terminal to ask whether to remove it",
            )
            .hint("-y removes it, --dry-run judges the whole"));
        }
        if terminal::confirm("Remove it?")? { Ok(()) } else { Err(Failure::new("nothing was changed")) }
    }
}

impl Prune<'_> {
    /// What is selected and not named, the last kinds first, so that what refers to something goes before that.
    pub(super) async fn find(&self, client: &Client, named: &Named) -> Result<Vec<Resource>, Failure> {
        let in_files: BTreeSet<Kind> = named.iter().map(|(kind, _)| *kind).collect();
        let is_pruned = |kind: &Kind| match self.kinds {
            [] => in_files.contains(kind) && *kind != Kind::Token,
            listed => listed.contains(kind),
        };
        let mut pruned = Vec::new();
        for kind in Kind::RESOURCES.into_iter().rev().filter(is_pruned) {
            let list = client.list(kind, Some(&self.selector.text)).await?;
            pruned.extend(list.items.into_iter().filter(|resource| {
                let is_named = [resource.name.as_str(), resource.id.as_str()]
                    .into_iter()
                    .any(|name| named.contains(&(kind, name.to_owned())));
                let is_builtin = kind == Kind::Role && builtin::is_builtin(resource.name.as_str());
                !is_named && !is_builtin
            }));
        }
        Ok(pruned)
    }
}
