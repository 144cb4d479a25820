//! The kinds of resources and records, and the verbs that rules allow on them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A kind that rules are about. Documents name a kind of resource in the singular (`Llm`), paths and rules in the plural (`llms`).
/// Records are of a kind too, so that rules can allow to view them; a name there is that of the account that they are about, with its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub enum Kind {
    /// A named language model behind an upstream provider.
    Llm,
    /// Keys and values that cannot be read back.
    Secret,
    /// A person.
    User,
    /// A set of users and service accounts that rules can name.
    Group,
    /// A program that calls in its own right.
    ServiceAccount,
    /// A list of rules.
    Role,
    /// Gives a role to subjects.
    RoleBinding,
    /// A bearer credential of a user or service account.
    Token,
    /// How much inference subjects may use.
    Limit,
    /// The records of who used how much. No resource: there are no documents of it.
    Usage,
    /// The records of what was decided. No resource: there are no documents of it.
    Audit,
}

impl Kind {
    /// Every kind of resource, in the order in which a batch is best applied.
    pub const RESOURCES: [Self; 9] = [
        Self::Secret,
        Self::Llm,
        Self::User,
        Self::ServiceAccount,
        Self::Group,
        Self::Role,
        Self::RoleBinding,
        Self::Limit,
        Self::Token,
    ];

    /// Every kind that a rule may name: the resources, and the records.
    pub const ALL: [Self; 11] = [
        Self::Secret,
        Self::Llm,
        Self::User,
        Self::ServiceAccount,
        Self::Group,
        Self::Role,
        Self::RoleBinding,
        Self::Limit,
        Self::Token,
        Self::Usage,
        Self::Audit,
    ];

    /// Whether it has resources, with documents and names of their own.
    pub const fn is_resource(self) -> bool {
        !matches!(self, Self::Usage | Self::Audit)
    }

    /// The singular of documents, e.g. `Llm`.
    pub fn singular(self) -> &'static str {
        match self {
            Self::Llm => "Llm",
            Self::Secret => "Secret",
            Self::User => "User",
            Self::Group => "Group",
            Self::ServiceAccount => "ServiceAccount",
            Self::Role => "Role",
            Self::RoleBinding => "RoleBinding",
            Self::Token => "Token",
            Self::Limit => "Limit",
            Self::Usage => "Usage",
            Self::Audit => "Audit",
        }
    }

    /// The plural of paths and rules, e.g. `llms`.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Llm => "llms",
            Self::Secret => "secrets",
            Self::User => "users",
            Self::Group => "groups",
            Self::ServiceAccount => "serviceaccounts",
            Self::Role => "roles",
            Self::RoleBinding => "rolebindings",
            Self::Token => "tokens",
            Self::Limit => "limits",
            Self::Usage => "usage",
            Self::Audit => "audit",
        }
    }
}

/// A word that is no kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a kind; kinds are llms, secrets, users, groups, serviceaccounts, roles, rolebindings, limits, tokens, usage, audit"
)]
pub struct UnknownKind(String);

/// Reads singular and plural, in any case, and kubectl's short form `sa`.
impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let is = |kind: &Kind| {
            text.eq_ignore_ascii_case(kind.singular())
                || text.eq_ignore_ascii_case(kind.plural())
                || (*kind == Self::ServiceAccount && text.eq_ignore_ascii_case("sa"))
        };
        Self::ALL.into_iter().find(is).ok_or_else(|| UnknownKind(text.to_owned()))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.singular())
    }
}

/// What a rule allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Read a resource; a secret's value is never readable.
    View,
    /// Send inference through an Llm.
    Run,
    /// Refer to a secret from an Llm, so that its value is sent to that Llm's provider.
    Use,
    /// Make a resource.
    Create,
    /// Change a resource.
    Edit,
    /// Remove a resource.
    Delete,
    /// Hand out rights that one does not hold oneself; on a user or service account, make credentials for it.
    Grant,
    /// Let an Llm keep what its callers send and receive.
    Capture,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 8] = [
        Self::View,
        Self::Run,
        Self::Use,
        Self::Create,
        Self::Edit,
        Self::Delete,
        Self::Grant,
        Self::Capture,
    ];

    /// The word of rules and questions, e.g. `view`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Run => "run",
            Self::Use => "use",
            Self::Create => "create",
            Self::Edit => "edit",
            Self::Delete => "delete",
            Self::Grant => "grant",
            Self::Capture => "capture",
        }
    }
}

/// A word that is no verb.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a verb; verbs are view, run, use, create, edit, delete, grant, capture")]
pub struct UnknownVerb(String);

impl FromStr for Verb {
    type Err = UnknownVerb;

    fn from_str(text: &str) -> Result<Self, UnknownVerb> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == text).ok_or_else(|| UnknownVerb(text.to_owned()))
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
