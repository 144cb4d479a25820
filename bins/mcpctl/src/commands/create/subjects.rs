//! Options that name users, groups and service accounts.

use mcpctl_api::{
    Name,
    spec::{Subject, SubjectKind},
};

/// Subjects by their kind.
#[derive(clap::Args)]
pub(super) struct Subjects {
    /// For this user
    #[arg(long = "user", value_name = "NAME")]
    users: Vec<Name>,
    /// For the members of this group
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<Name>,
    /// For this service account
    #[arg(long = "serviceaccount", value_name = "NAME")]
    accounts: Vec<Name>,
}

impl Subjects {
    /// All of them.
    pub(super) fn list(self) -> Vec<Subject> {
        let of =
            |kind: SubjectKind, names: Vec<Name>| names.into_iter().map(move |name| Subject { kind, name });
        of(SubjectKind::User, self.users)
            .chain(of(SubjectKind::Group, self.groups))
            .chain(of(SubjectKind::ServiceAccount, self.accounts))
            .collect()
    }
}
