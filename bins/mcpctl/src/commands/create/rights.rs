//! Roles and bindings.

use mcpctl_api::{
    Document, Kind, Name, Spec, Verb,
    spec::{Allowed, NamePattern, RoleBindingSpec, RoleSpec, Rule, Subject, SubjectKind},
};

use super::document;
use crate::failure::Failure;

/// A role of one rule; more rules are for a file.
#[derive(clap::Args)]
pub(super) struct Role {
    /// What it is called
    name: Name,
    /// What it allows: view, run, create, edit, delete, grant or *
    #[arg(long = "verb", required = true, value_delimiter = ',')]
    verbs: Vec<String>,
    /// On which kinds, e.g. llms, or *
    #[arg(long = "kind", required = true, value_delimiter = ',')]
    kinds: Vec<String>,
    /// With which names, in which * stands for any characters
    #[arg(long = "name", required = true, value_delimiter = ',', value_name = "PATTERN", id = "pattern")]
    names: Vec<NamePattern>,
}

impl Role {
    pub(super) fn document(self) -> Result<Document, Failure> {
        let kinds = self.kinds.iter().map(|text| allowed::<Kind>(text)).collect::<Result<_, _>>()?;
        let verbs = self.verbs.iter().map(|text| allowed::<Verb>(text)).collect::<Result<_, _>>()?;
        let rules = vec![Rule { kinds, verbs, names: self.names }];
        Ok(document(self.name, Spec::Role(RoleSpec { description: None, rules })))
    }
}

fn allowed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<Allowed<T>, Failure> {
    if text == "*" { Ok(Allowed::Any) } else { text.parse().map(Allowed::Only).map_err(Failure::new) }
}

/// Gives a role to subjects.
#[derive(clap::Args)]
pub(super) struct RoleBinding {
    /// What it is called
    name: Name,
    /// The role
    #[arg(long)]
    role: Name,
    /// A user who gets it
    #[arg(long = "user", value_name = "NAME")]
    users: Vec<Name>,
    /// A group that gets it
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<Name>,
    /// A service account that gets it
    #[arg(long = "serviceaccount", value_name = "NAME")]
    accounts: Vec<Name>,
}

impl RoleBinding {
    pub(super) fn document(self) -> Result<Document, Failure> {
        let of =
            |kind: SubjectKind, names: Vec<Name>| names.into_iter().map(move |name| Subject { kind, name });
        let subjects: Vec<Subject> = of(SubjectKind::User, self.users)
            .chain(of(SubjectKind::Group, self.groups))
            .chain(of(SubjectKind::ServiceAccount, self.accounts))
            .collect();
        if subjects.is_empty() {
            return Err(Failure::new("a binding for nobody").hint("say --user, --group or --serviceaccount"));
        }
        Ok(document(self.name, Spec::RoleBinding(RoleBindingSpec { role: self.role, subjects })))
    }
}
