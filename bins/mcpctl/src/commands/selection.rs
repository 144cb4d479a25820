//! The resources that a changing command is for: named, or selected of a kind by labels or all of them.

use mcpctl_access::builtin;
use mcpctl_api::{Kind, Name};
use mcpctl_client::Client;

use super::{
    files::NamedFiles,
    targets::{Choice, LabelSelector, Wanted},
    viewable::{not_viewable, refusal},
};
use crate::failure::Failure;

/// The arguments that name or select resources.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SelectionArgs {
    #[command(flatten)]
    pub files: NamedFiles,
    /// Those of the kind with these labels, e.g. 'team=a,tier notin (dev),!old'
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    selector: Option<String>,
    /// All of the kind
    #[arg(long, conflicts_with = "selector")]
    all: bool,
}

impl SelectionArgs {
    /// Whether resources are selected, and not named.
    pub fn selects(&self) -> bool {
        self.all || self.selector.is_some()
    }

    /// The resources, in order of their names where they are selected. Built-in roles cannot be changed, so they are not selected.
    pub async fn targets(
        &self,
        client: impl FnOnce() -> Result<Client, Failure>,
        words: &[String],
    ) -> Result<Vec<(Kind, String)>, Failure> {
        if self.files.are_given() {
            return match (self.selects(), words) {
                (true, _) => Err(Choice::Files.or(Choice::Selector)),
                (false, []) => self.files.targets().await,
                (false, _) => Err(Choice::Names.or(Choice::Files)),
            };
        }
        let selector = LabelSelector::parse(self.selector.as_deref())?;
        let kinds = match Wanted::parse(words)? {
            Wanted::These(_) if self.selects() => return Err(Choice::Names.or(Choice::Selector)),
            Wanted::These(targets) => return Ok(targets),
            Wanted::All => {
                return Err(
                    Failure::usage("`all` is not a kind here").hint("name the kinds, e.g. llms,users")
                );
            }
            Wanted::Kinds(kinds) => kinds,
        };
        let plurals = kinds.iter().map(|kind| kind.plural()).collect::<Vec<_>>().join(", ");
        if !self.selects() {
            return Err(Failure::usage(format!("which of the {plurals}?"))
                .hint("name one, select some with -l, or all with --all"));
        }
        // An empty selector is most often an empty variable.
        if selector.as_ref().is_some_and(|selector| selector.parsed.is_empty()) {
            return Err(Failure::usage(format!("an empty selector means all {plurals}"))
                .hint("name the labels, e.g. -l team=a, or select all with --all"));
        }
        let (client, mut targets) = (client()?, Vec::new());
        for kind in kinds.iter().copied() {
            let list = client.list(kind, selector.as_ref().map(|selector| selector.text.as_str())).await?;
            let is_changeable = |name: &Name| kind != Kind::Role || !builtin::is_builtin(name.as_str());
            let names = list.items.into_iter().map(|item| item.name).filter(is_changeable);
            targets.extend(names.map(|name| (kind, name.to_string())));
        }
        if targets.is_empty() {
            let denied = not_viewable(&client, &kinds).await;
            if !denied.is_empty() && denied == kinds {
                return Err(refusal(&denied));
            }
            note!("nothing found");
        }
        Ok(targets)
    }
}
