//! Sessions, and questions about who may do what.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    HumanDuration, Id, Name,
    resource::Revision,
    spec::{Rule, SecretValue, Subject},
};

/// `POST /api/v1/auth/login`
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoginRequest {
    /// The user's name.
    pub user: String,
    /// The user's password.
    #[schema(value_type = String)]
    pub password: SecretValue,
}

/// `POST /api/v1/auth/password`: the caller's own password
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PasswordChange {
    /// The present one.
    #[schema(value_type = String)]
    pub current: SecretValue,
    /// The new one, of 12 to 256 characters.
    #[schema(value_type = String)]
    pub new: SecretValue,
}

/// `POST /api/v1/tokens`
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenRequest {
    /// The new token's name.
    #[schema(value_type = String)]
    pub name: Name,
    /// A user or a service account.
    pub subject: Subject,
    /// How long it is valid; 30 days by default, at most 366 days.
    #[serde(default)]
    pub expires_in: Option<HumanDuration>,
    /// Narrows the token to what these rules and its owner's rights both allow; all that its owner may do where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<Rule>>,
}

/// `POST /api/v1/tokens/:idOrName/rotate`
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RotationRequest {
    /// How long the old secret stays valid, at most 7 days; it ends at once where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace: Option<HumanDuration>,
    /// How long the new one is valid, at most 366 days; as long as the old one was made for where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<HumanDuration>,
}

/// `POST /api/v1/auth/token-exchange`
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExchangeRequest {
    /// The service account to act for.
    #[schema(value_type = String)]
    pub service_account: Name,
    /// The workload's own token, a JWT.
    #[schema(value_type = String)]
    pub token: SecretValue,
    /// How long the new token is valid, at most 1 hour and never longer than the workload's own; 10 minutes by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<HumanDuration>,
}

/// A new credential. The only answer that ever holds it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IssuedToken {
    /// The token's id.
    #[schema(value_type = String)]
    pub id: Id,
    /// The token's name.
    #[schema(value_type = String)]
    pub name: Name,
    /// The account that it belongs to.
    pub subject: Subject,
    /// The time from which it is rejected.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// The bearer itself.
    #[schema(value_type = String)]
    pub token: SecretValue,
    /// What the token is narrowed to: the rules that were asked for, or those of the token that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<Rule>>,
    /// What the caller should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// `GET /api/v1/auth/whoami`
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WhoAmI {
    /// The caller.
    pub subject: Subject,
    /// The caller's id.
    #[schema(value_type = String)]
    pub id: Id,
    /// Groups the caller is in.
    #[schema(value_type = Vec<String>)]
    pub groups: Vec<Name>,
    /// Roles bound to the caller, directly or by a group.
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<Name>,
    /// When the credential that was presented ends.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// The name of that credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub token: Option<Name>,
    /// The rules that the credential is narrowed to, within what the roles allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<Rule>>,
}

/// `POST /api/v1/auth/can-i`
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CanI {
    /// E.g. `view`.
    pub verb: String,
    /// E.g. `llms`.
    pub kind: String,
    /// A name or id; left out: is there any name on which it is allowed?
    #[serde(default)]
    pub name: Option<String>,
    /// Another account, for callers who may view accounts and their rights.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub account: Option<Subject>,
}

/// The answer to [`CanI`].
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanIAnswer {
    /// Whether it is allowed.
    pub allowed: bool,
    /// In words: which role and binding allow it, or that none does.
    pub reason: String,
    /// The revision at which this was decided.
    pub revision: Revision,
}

/// `GET /api/v1/auth/rights`: what the caller, or the account that `subject` names, may do
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rights {
    /// The account.
    pub subject: Subject,
    /// Whether its credentials are refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// The groups that it is in.
    #[schema(value_type = Vec<String>)]
    pub groups: Vec<Name>,
    /// Every rule that it holds.
    pub rules: Vec<HeldRule>,
    /// The rules that the caller's own credential is narrowed to, within the rules above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub narrowed_to: Option<Vec<Rule>>,
    /// How many other accounts made the caller's own credential: it allows no more than each of them may do or grant.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub makers: usize,
    /// The revision at which this holds.
    pub revision: Revision,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// A rule, and by which role and binding an account holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldRule {
    /// The rule.
    pub rule: Rule,
    /// The role that has it.
    #[schema(value_type = String)]
    pub role: Name,
    /// The binding that gives the role.
    #[schema(value_type = String)]
    pub binding: Name,
    /// The group by which the account has the binding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub via_group: Option<Name>,
}

/// `GET /api/v1/auth/who-can?verb=&kind=&name=`
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WhoCan {
    /// Each subject that may, with the binding that allows it.
    pub subjects: Vec<Grantee>,
    /// The revision at which this was decided.
    pub revision: Revision,
}

/// A subject that may, and the binding that allows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Grantee {
    /// The user, group or service account.
    pub subject: Subject,
    /// The role that allows it.
    #[schema(value_type = String)]
    pub role: Name,
    /// The binding that gives the role.
    #[schema(value_type = String)]
    pub binding: Name,
    /// The group by which the subject has the binding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub via_group: Option<Name>,
}

/// The answer to a list: resources of one kind, ordered by name; all of them, or a page.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct List<T> {
    /// The revision that the list shows; a watch goes on from here.
    pub revision: Revision,
    /// The resources.
    pub items: Vec<T>,
    /// `after` of the next page; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Name>,
}

/// The result of an apply for one document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// The document's kind.
    pub kind: crate::Kind,
    /// The document's name.
    #[schema(value_type = String)]
    pub name: Name,
    /// What was done.
    pub outcome: ApplyOutcome,
    /// What it is from then on, or would be; where `resources=true` asked for it and the writer may view it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub resource: Option<crate::Resource>,
}

/// A resource that an apply removes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Removal {
    /// Its kind.
    pub kind: crate::Kind,
    /// Its name or id.
    #[serde(rename = "idOrName")]
    pub target: String,
    /// The revision that it must still have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub revision: Option<Revision>,
}

/// What an apply did to one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ApplyOutcome {
    /// There was none of that name.
    Created,
    /// There was one with other content.
    Configured,
    /// There was one with the same content.
    Unchanged,
}

/// The answer to an apply.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplyReport {
    /// In the order of the documents.
    pub results: Vec<Applied>,
    /// Whether nothing was stored.
    pub dry_run: bool,
    /// What the writer should know, e.g. that a credential was detached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}
