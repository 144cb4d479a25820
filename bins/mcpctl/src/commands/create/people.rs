//! Users, groups, service accounts.

use std::{io::Read as _, process::ExitCode};

use mcpctl_api::{
    Document, Kind, Name, Spec,
    spec::{GroupSpec, NewPassword, SecretValue, ServiceAccountSpec, Subject, SubjectKind, UserSpec},
};

use super::{check, credentials::TokenOptions, document, onboarding};
use crate::{
    Outcome,
    commands::{
        group,
        targets::subject,
        writing::{DryRun, WriteArgs},
    },
    context::Global,
    failure::Failure,
    output,
};

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
    #[arg(long = "stdin", alias = "password-stdin")]
    password_stdin: bool,
    /// Put the user into this group; several are possible
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<Name>,
    /// Make a first token too; printed once, on standard output
    #[arg(long)]
    token: bool,
}

impl User {
    /// Makes the user, then what goes with it.
    pub(super) async fn create(self, global: &Global, write: WriteArgs) -> Outcome {
        let (name, groups, token) = (self.name.clone(), self.groups.clone(), self.token);
        if token && write.output.is_some() {
            return Err(Failure::usage("with --token, the token is all that is printed").hint("leave -o out"));
        }
        let document = self.document()?;
        check(&document)?;
        if write.is_client_side() {
            if token || !groups.is_empty() {
                note!("the groups and the token are not in the document of a user");
            }
            return write.print_unsent(&document, "created");
        }
        let client = &write.client(global.client()?);
        // Before the user is made, so that a typing error leaves nothing behind.
        for group in &groups {
            client.get(Kind::Group, group.as_str()).await?;
        }
        // With a token, that alone is the data.
        let report = |text: String| match token {
            true => {
                note!("{text}");
                Ok(())
            }
            false => data!("{text}"),
        };
        let made = client.create(&document).await?;
        let suffix = write.suffix();
        if token {
            output::warnings(&made.warnings);
            report(format!("users/{name} created{suffix}"))?;
        } else {
            write.print(&made, "created")?;
        }
        let subject = Subject { kind: SubjectKind::User, name };
        for group in &groups {
            if let Err(failure) = group::add(client, group, std::slice::from_ref(&subject), write.run()).await
            {
                return Err(failure
                    .hint(format!("the user is made; then: mcpctl group add {group} {}", subject.name)));
            }
            let text = format!("{subject} added to groups/{group}{suffix}");
            if write.output.is_some() { note!("{text}") } else { report(text)? }
        }
        if token && write.dry_run() == DryRun::Server {
            note!("whether a token can be made is judged once the user is there");
        } else if token {
            let name = onboarding::first_token(&subject.name)?;
            return TokenOptions::default().issue(client, name, subject, write).await;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn document(self) -> Result<Document, Failure> {
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
