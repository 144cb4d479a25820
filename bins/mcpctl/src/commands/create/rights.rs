//! Roles and bindings.

use std::str::FromStr;

use mcpctl_api::{
    Document, Kind, Name, Spec, Verb,
    spec::{Allowed, NamePattern, RoleBindingSpec, RoleSpec, Rule},
};

use super::{document, subjects::Subjects};
use crate::failure::Failure;

/// A role of one rule; more rules are for a file.
#[derive(clap::Args)]
pub(super) struct Role {
    /// What it is called
    name: Name,
    /// What it allows: view, run, use, create, edit, delete, grant, capture or *
    #[arg(long = "verb", required = true, value_delimiter = ',', value_name = "VERB", value_parser = <Allowed<Verb> as FromStr>::from_str)]
    verbs: Vec<Allowed<Verb>>,
    /// On which kinds, e.g. llms, or *
    #[arg(long = "kind", required = true, value_delimiter = ',', value_name = "KIND", value_parser = <Allowed<Kind> as FromStr>::from_str)]
    kinds: Vec<Allowed<Kind>>,
    /// With which names, in which * stands for any characters
    #[arg(long = "name", required = true, value_delimiter = ',', value_name = "PATTERN", id = "pattern")]
    names: Vec<NamePattern>,
}

impl Role {
    pub(super) fn document(self) -> Document {
        let Self { name, verbs, kinds, names } = self;
        document(name, Spec::Role(RoleSpec { description: None, rules: vec![Rule { kinds, verbs, names }] }))
    }
}

/// Gives a role to subjects.
#[derive(clap::Args)]
pub(super) struct RoleBinding {
    /// What it is called
    name: Name,
    /// The role
    #[arg(long)]
    role: Name,
    #[command(flatten)]
    subjects: Subjects,
}

impl RoleBinding {
    pub(super) fn document(self) -> Result<Document, Failure> {
        let subjects = self.subjects.list();
        if subjects.is_empty() {
            return Err(
                Failure::usage("a binding without subjects").hint("add --user, --group or --serviceaccount")
            );
        }
        Ok(document(self.name, Spec::RoleBinding(RoleBindingSpec { role: self.role, subjects })))
    }
}
