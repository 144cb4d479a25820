//! Users, groups, service accounts.

use std::io::Read as _;

use mcpctl_api::{
    Document, Kind, Name, Spec,
    spec::{GroupSpec, NewPassword, SecretValue, ServiceAccountSpec, Subject, SubjectKind, UserSpec},
};

use super::document;
use crate::{commands::targets::kind, failure::Failure};

/// A person.
#[derive(clap::Args)]
pub(super) struct User {
    /// Their name
    name: Name,
    /// What people call them
    #[arg(long)]
    display_name: Option<String>,
    /// Where they are written to
    #[arg(long)]
    email: Option<String>,
    /// Read a password for `mcpctl login` from standard input
    #[arg(long)]
    password_stdin: bool,
}

impl User {
    pub(super) fn document(self) -> Result<Document, Failure> {
        let password = if self.password_stdin {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            NewPassword::Set(SecretValue::new(text.trim_end_matches(['\r', '\n'])))
        } else {
            NewPassword::Keep
        };
        let spec =
            UserSpec { display_name: self.display_name, email: self.email, password, ..UserSpec::default() };
        Ok(document(self.name, Spec::User(spec)))
    }
}

/// A set of users and service accounts.
#[derive(clap::Args)]
pub(super) struct Group {
    /// Its name
    name: Name,
    /// Members, e.g. User/alice or ServiceAccount/ci
    #[arg(long = "member", value_name = "KIND/NAME", value_parser = subject)]
    members: Vec<Subject>,
}

impl Group {
    pub(super) fn document(self) -> Document {
        document(self.name, Spec::Group(GroupSpec { members: self.members, ..GroupSpec::default() }))
    }
}

/// A program that calls in its own right.
#[derive(clap::Args)]
pub(super) struct ServiceAccount {
    /// Its name
    name: Name,
    /// What it is for
    #[arg(long)]
    description: Option<String>,
}

impl ServiceAccount {
    pub(super) fn document(self) -> Document {
        let spec = ServiceAccountSpec { description: self.description, ..ServiceAccountSpec::default() };
        document(self.name, Spec::ServiceAccount(spec))
    }
}

/// `User/alice`
pub(in crate::commands) fn subject(text: &str) -> Result<Subject, String> {
    let wrong = || format!("`{text}` is not KIND/NAME, e.g. User/alice");
    let (kind_text, name) = text.split_once('/').ok_or_else(wrong)?;
    let kind = match kind(kind_text)? {
        Kind::User => SubjectKind::User,
        Kind::Group => SubjectKind::Group,
        Kind::ServiceAccount => SubjectKind::ServiceAccount,
        _ => return Err(format!("`{text}` is neither User/…, Group/… nor ServiceAccount/…")),
    };
    Ok(Subject { kind, name: name.parse().map_err(|error| format!("{error}"))? })
}
