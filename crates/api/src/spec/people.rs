//! Who calls: users, groups, service accounts, and the tokens that stand for them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ExternalIdentity, ExternalLink, FieldError, GroupClaim, Rule, SecretValue, TrustedWorkload};
use crate::{Id, Name, oidc::IssuerUrl};

/// The fields of a `User`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schema(example = json!({"kind": "User", "name": "alice", "displayName": "Alice Jones", "email": "alice@example.com"}))]
pub struct UserSpec {
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// A disabled user's credentials are refused.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// For `mcpctl login`; write-only, kept as a hash. Left out, the stored password stays; `null` removes it.
    #[serde(skip_serializing_if = "NewPassword::is_keep")]
    #[schema(write_only, value_type = Option<String>)]
    pub password: NewPassword,
    /// Ids of the accounts that set the password for this user, set by the server: a session that begins with it may do
    /// no more than each of them may do or grant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, read_only)]
    pub password_set_by: Vec<Id>,
    /// When an administrator last lifted the throttling of attempts to sign in with the password, set by the server: attempts before
    /// count no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, read_only)]
    pub throttle_lifted_at: Option<Timestamp>,
    /// The account at an OpenID provider by which this user signs in. Left out, the stored one stays; `null` removes it, and
    /// ends its sessions. Only administrators change it.
    #[serde(skip_serializing_if = "ExternalLink::is_keep")]
    #[schema(value_type = Option<ExternalIdentity>)]
    pub external: ExternalLink,
}

/// The password of a document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NewPassword {
    /// Left out: the stored one stays.
    #[default]
    Keep,
    /// `null`: the stored one is removed.
    Remove,
    /// This one is stored, as a hash.
    Set(SecretValue),
}

impl NewPassword {
    /// Whether the document leaves the password out.
    pub fn is_keep(&self) -> bool {
        *self == Self::Keep
    }
}

impl Serialize for NewPassword {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Set(password) => password.serialize(serializer),
            Self::Keep | Self::Remove => serializer.serialize_none(),
        }
    }
}

impl<'de> Deserialize<'de> for NewPassword {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Remove, Self::Set))
    }
}

impl UserSpec {
    /// Fewest characters of a password (NIST SP 800-63B, section 3.1.1.2, for one that stands alone: 15; we ask for
    /// 12 because logins are rate-limited).
    pub const MIN_PASSWORD_CHARS: usize = 12;
    /// Most characters of a password; bounds the work that a login can ask for.
    pub const MAX_PASSWORD_CHARS: usize = 256;

    pub(super) fn validate(&self) -> Result<(), FieldError> {
        self.external.validate()?;
        let length = match &self.password {
            NewPassword::Set(password) => Some(password.expose().chars().count()),
            NewPassword::Keep | NewPassword::Remove => None,
        };
        match length {
            Some(n) if !(Self::MIN_PASSWORD_CHARS..=Self::MAX_PASSWORD_CHARS).contains(&n) => {
                Err(FieldError::new(
                    "password",
                    format!(
                        "a password has {} to {} characters",
                        Self::MIN_PASSWORD_CHARS,
                        Self::MAX_PASSWORD_CHARS
                    ),
                ))
            }
            _ => Ok(()),
        }
    }
}

/// The fields of a `ServiceAccount`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schema(example = json!({"kind": "ServiceAccount", "name": "ci", "description": "nightly evaluation"}))]
pub struct ServiceAccountSpec {
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// A disabled account's credentials are refused.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// Workloads of Kubernetes, CI systems and the like, whose own tokens are exchanged for a token of this account.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trust: Vec<TrustedWorkload>,
    /// Ids of the other accounts that wrote `trust`, set by the server: an exchanged token may do no more than each of them may
    /// do or grant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, read_only)]
    pub trust_set_by: Vec<Id>,
}

impl ServiceAccountSpec {
    pub(super) fn validate(&self) -> Result<(), FieldError> {
        TrustedWorkload::check_list(&self.trust)
    }
}

/// The fields of a `Group`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"kind": "Group", "name": "team", "members": [{"kind": "User", "name": "alice"}]}))]
pub struct GroupSpec {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Users and service accounts; groups do not nest.
    #[serde(default)]
    pub members: Vec<Subject>,
    /// Values of a provider's claim: who signs in with one of them is a member in sessions that such a sign-in began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<GroupClaim>,
}

impl Subject {
    /// Most subjects of one group or binding; bounds the work of a change of rights.
    pub const MAX_LISTED: usize = 5000;

    /// As rules about records and paths name it, e.g. `serviceaccount/ci`.
    pub fn path(&self) -> String {
        format!("{}/{}", self.kind.kind().singular().to_ascii_lowercase(), self.name)
    }

    /// Rejects a list that is too long.
    pub(super) fn check_list(param: &str, subjects: &[Self]) -> Result<(), FieldError> {
        if subjects.len() > Self::MAX_LISTED {
            let message = format!("at most {} entries, this list has {}", Self::MAX_LISTED, subjects.len());
            return Err(FieldError::new(param, message).hint("split it into several groups or bindings"));
        }
        Ok(())
    }
}

impl GroupSpec {
    pub(super) fn validate(&self) -> Result<(), FieldError> {
        Subject::check_list("members", &self.members)?;
        GroupClaim::check_list(&self.claims)?;
        match self.members.iter().position(|m| m.kind == SubjectKind::Group) {
            Some(at) => Err(FieldError::new(format!("members[{at}].kind"), "groups do not nest")
                .hint("members are of kind User or ServiceAccount")),
            None => Ok(()),
        }
    }
}

/// An account or group that a binding, a group or a token names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subject {
    /// User, group or service account.
    pub kind: SubjectKind,
    /// Its name.
    #[schema(value_type = String)]
    pub name: Name,
}

/// The kinds that a role can be bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub enum SubjectKind {
    /// A person.
    User,
    /// A set of users and service accounts.
    Group,
    /// A program.
    ServiceAccount,
}

impl SubjectKind {
    /// As a kind of resource.
    pub fn kind(self) -> crate::Kind {
        match self {
            Self::User => crate::Kind::User,
            Self::Group => crate::Kind::Group,
            Self::ServiceAccount => crate::Kind::ServiceAccount,
        }
    }
}

impl std::fmt::Display for SubjectKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind().singular())
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Written for each request, so without the machinery of formats.
        for part in [self.kind.kind().singular(), " ", self.name.as_str()] {
            f.write_str(part)?;
        }
        Ok(())
    }
}

/// The account at an issuer for which a token was made.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenOrigin {
    /// The issuer.
    pub issuer: IssuerUrl,
    /// The person or workload there.
    pub subject: String,
}

/// The fields of a `Token`; made by `POST /api/v1/tokens` and by login, never by `apply`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenSpec {
    /// The user or service account that it belongs to.
    pub subject: Subject,
    /// The subject's id: a token never passes to a namesake made later.
    #[schema(value_type = String)]
    pub subject_id: Id,
    /// The time from which it is rejected.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// Whether a login made it; such a token ends with `logout`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub session: bool,
    /// Who vouched at its beginning, where an OpenID provider or the issuer of a workload's token did. It ends when mcpd lists
    /// that issuer no more. Of a user's session the groups count that the provider's claims map to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<TokenOrigin>,
    /// Ids of other accounts that made it for the subject: it may do no more than each of them may do or grant. Empty
    /// where the subject made it itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub issued_by: Vec<Id>,
    /// Narrows the token: it may do only what these rules and its owner's rights both allow. Left out, it may do all that
    /// its owner may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<Rule>>,
    /// Id of the token whose old secret this is, kept by a rotation with a grace period; it ends with that token, and with
    /// its next rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub rotated_from: Option<Id>,
    /// Id of the token that a session of the console was begun with; the session ends with that token, and with its next rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub begun_with: Option<Id>,
    /// The first characters of the secret, by which its owner recognizes it. Left out of sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}

impl TokenSpec {
    /// Maximum number of rules of one token.
    pub const MAX_RULES: usize = 32;
    /// Maximum number of names of one of them; tokens are many, and the rules of each are kept in memory.
    pub const MAX_NAMES: usize = 100;

    /// Checks rules that narrow a token.
    ///
    /// # Errors
    /// The first rule that is empty or too long; or that there is none.
    pub fn check_rules(rules: &[Rule]) -> Result<(), FieldError> {
        // INVARIANT 15: an empty list must not mean everything.
        if rules.is_empty() {
            return Err(FieldError::new("rules", "a token without rules allows nothing")
                .hint("leave `rules` out for a token that may do all that its owner may"));
        }
        Rule::check_list(rules, "a token", Self::MAX_RULES, Self::MAX_NAMES)
    }
}
