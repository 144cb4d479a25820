//! `mcpctl label`, `mcpctl annotate`: sets and removes single labels and annotations. Others may change the resource at the same time:
//! no change of theirs is lost.

use std::{collections::BTreeMap, process::ExitCode};

use mcpctl_api::{
    Kind, Resource,
    selector::{check_key, check_value},
};
use mcpctl_client::{Changed, Client};
use serde_json::{Map, Value, json};

use super::{
    retry::{self, Lost},
    selection::SelectionArgs,
    writing::{WriteArgs, WriteReport},
};
use crate::{Outcome, context::Global, failure::Failure, output};

/// What to change, and of which resources.
#[derive(clap::Args)]
pub struct Args {
    /// A kind and names or ids, or KIND/NAME…; then KEY=VALUE to set, KEY- to remove
    #[arg(value_name = "KIND [NAME]... | KIND/NAME... KEY=VALUE | KEY-", required = true)]
    words: Vec<String>,
    #[command(flatten)]
    selection: SelectionArgs,
    /// Replace another value of the key
    #[arg(long)]
    overwrite: bool,
    /// Show those that there are, after the changes where there are any
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    write: WriteArgs,
}

/// Which of the two maps of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Texts {
    Labels,
    Annotations,
}

impl Texts {
    const fn field(self) -> &'static str {
        match self {
            Self::Labels => "labels",
            Self::Annotations => "annotations",
        }
    }

    fn of(self, resource: &Resource) -> &BTreeMap<String, String> {
        match self {
            Self::Labels => &resource.labels,
            Self::Annotations => &resource.annotations,
        }
    }

    /// What is reported of a resource that has changed, or not.
    const fn word(self, done: Done) -> &'static str {
        match (self, done) {
            (Self::Labels, Done::Set) => "labeled",
            (Self::Labels, Done::Removed) => "unlabeled",
            (Self::Labels, Done::Nothing) => "not labeled",
            (Self::Annotations, Done::Set) => "annotated",
            (Self::Annotations, Done::Removed) => "unannotated",
            (Self::Annotations, Done::Nothing) => "not annotated",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Set,
    Removed,
    Nothing,
}

/// Sets or removes labels or annotations.
pub async fn run(global: &Global, args: &Args, texts: Texts) -> Outcome {
    // Names hold no `=` and end in no `-`.
    let is_change = |word: &&String| word.contains('=') || word.ends_with('-');
    let (changes, what): (Vec<&String>, Vec<&String>) = args.words.iter().partition(is_change);
    let changes = Changes::parse(&changes, texts)?;
    let what: Vec<String> = what.into_iter().cloned().collect();
    if changes.0.is_empty() && !args.list {
        return Err(Failure::usage(format!("no {} are given", texts.field()))
            .hint("KEY=VALUE sets one, KEY- removes one, --list shows them"));
    }
    let targets = args.selection.targets(|| global.client(), &what).await?;
    let client = args.write.client(global.client()?);
    let (mut report, mut failures) = (args.write.report(), Vec::new());
    for (kind, name) in &targets {
        let target = Target { client: &client, kind: *kind, name, texts };
        match target.change(&changes, args, &mut report).await {
            Ok(()) => {}
            Err(failure) => failures.push(failure),
        }
    }
    report.finish()?;
    let Some(last) = failures.pop() else { return Ok(ExitCode::SUCCESS) };
    for failure in &failures {
        output::report(failure);
    }
    Err(last)
}

/// The value of each key, or `None` where it is removed.
struct Changes(BTreeMap<String, Option<String>>);

impl Changes {
    fn parse(words: &[&String], texts: Texts) -> Result<Self, Failure> {
        let mut changes = BTreeMap::new();
        for word in words {
            let (key, value) = match word.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (word.strip_suffix('-').unwrap_or(word), None),
            };
            let wrong = |error: &str| Failure::usage(format!("`{key}`: {error}"));
            check_key(key).map_err(wrong)?;
            if let (Some(value), Texts::Labels) = (value, texts) {
                check_value(value).map_err(wrong)?;
            }
            if changes.insert(key.to_owned(), value.map(str::to_owned)).is_some() {
                return Err(Failure::usage(format!("`{key}` is given twice")).hint("a key has one value"));
            }
        }
        Ok(Self(changes))
    }

    /// What of the changes a resource does not have yet.
    fn missing(&self, has: &BTreeMap<String, String>) -> Vec<(&String, &Option<String>)> {
        self.0.iter().filter(|(key, value)| has.get(*key) != value.as_ref()).collect()
    }
}

/// A resource, and which of its maps is changed.
struct Target<'a> {
    client: &'a Client,
    kind: Kind,
    name: &'a str,
    texts: Texts,
}

impl Target<'_> {
    async fn change(&self, changes: &Changes, args: &Args, report: &mut WriteReport) -> Result<(), Failure> {
        let Self { client, kind, name, texts } = self;
        if changes.0.is_empty() {
            return self.list(&client.get(*kind, name).await?);
        }
        let (done, resource, changed) = retry::until_first(format!("{}/{name}", kind.plural()), async || {
            let resource = client.get(*kind, name).await?;
            let (patch, done) = self.patch(&resource, changes, args.overwrite)?;
            if done == Done::Nothing || args.write.is_client_side() {
                return Ok((done, patched(resource, &patch).map_err(Lost::from)?, None));
            }
            let id = resource.id.as_str();
            let changed =
                retry::while_busy(async || client.patch(*kind, id, &patch, Some(resource.revision)).await)
                    .await?;
            Ok((done, resource, Some(changed)))
        })
        .await?;
        if let Some(Changed { warnings, .. }) = &changed {
            report.warn(warnings);
        }
        let now = changed.and_then(|changed| changed.resource).unwrap_or(resource);
        if args.list {
            return self.list(&now);
        }
        report.add(*kind, &now.name, Some(&now), texts.word(done))
    }

    /// The merge patch of the changes; another value of a key stays unless it may be overwritten.
    fn patch(
        &self,
        resource: &Resource,
        changes: &Changes,
        overwrite: bool,
    ) -> Result<(Value, Done), Failure> {
        let has = self.texts.of(resource);
        let missing = changes.missing(has);
        let other = missing.iter().find(|(key, value)| value.is_some() && has.contains_key(*key));
        if let Some((key, _)) = other.filter(|_| !overwrite) {
            let (kind, field) = (self.kind.plural(), self.texts.field());
            let now = has.get(*key).map(String::as_str).unwrap_or_default();
            return Err(Failure::new(format!(
                "{kind}/{}: {field} has `{key}` already, as `{now}`",
                resource.name
            ))
            .hint("--overwrite replaces it"));
        }
        let done = match missing.as_slice() {
            [] => Done::Nothing,
            some if some.iter().any(|(_, value)| value.is_some()) => Done::Set,
            _ => Done::Removed,
        };
        let map: Map<String, Value> =
            missing.into_iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        Ok((json!({ self.texts.field(): map }), done))
    }

    fn list(&self, resource: &Resource) -> Result<(), Failure> {
        let field = self.texts.field();
        note!("{field} of {}/{}:", self.kind.plural(), resource.name);
        self.texts.of(resource).iter().try_for_each(|(key, value)| data!("{key}={value}"))
    }
}

/// The resource as the patch would leave it.
fn patched(resource: Resource, patch: &Value) -> Result<Resource, Failure> {
    let mut value = serde_json::to_value(&resource)?;
    json_patch::merge(&mut value, patch);
    Ok(serde_json::from_value(value)?)
}
