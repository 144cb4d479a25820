//! The fields of each kind of resource, as people write them. Fields that only the server sets are in
//! [`Resource`](crate::Resource).

mod external;
mod limit;
mod llm;
mod people;
mod price;
mod rbac;
mod secret;
mod trust;

use serde_json::{Map, Value};

pub use external::{ExternalIdentity, ExternalLink, GroupClaim};
pub use limit::{Allowance, Budget, Ceiling, Currency, LimitScope, LimitSpec, Measure, Period, Span};
pub use llm::{
    Breaker, Capability, Capture, Failover, FailoverVerb, Fallback, FallbackClass, LlmSpec, LlmTarget,
    MidStream, ProviderType, Retries, SecretKeyRef, Timeouts, Upstream,
};
pub use people::{
    GroupSpec, NewPassword, ServiceAccountSpec, Subject, SubjectKind, TokenOrigin, TokenSpec, UserSpec,
};
pub use price::Price;
pub use rbac::{Allowed, NamePattern, NotARule, RoleBindingSpec, RoleSpec, Rule};
pub use secret::{HostPattern, NotAHost, SecretSpec, SecretValue};
pub use trust::{NotTrustable, SubjectPattern, Text, TrustedWorkload};

use crate::Kind;

/// The fields of a resource of one kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    /// A named language model; boxed, because it is far larger than the others, of which there are far more.
    Llm(Box<LlmSpec>),
    /// Keys and values that cannot be read back.
    Secret(SecretSpec),
    /// A person.
    User(UserSpec),
    /// A set of users and service accounts.
    Group(GroupSpec),
    /// A program that calls in its own right.
    ServiceAccount(ServiceAccountSpec),
    /// A list of rules.
    Role(RoleSpec),
    /// Gives a role to subjects.
    RoleBinding(RoleBindingSpec),
    /// A bearer credential.
    Token(TokenSpec),
    /// How much inference subjects may use.
    Limit(LimitSpec),
}

/// A field that reads well but breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{param}: {message}")]
pub struct FieldError {
    /// Where, e.g. `rules[0].verbs`.
    pub param: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl FieldError {
    pub(crate) fn new(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: param.into(), message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl Spec {
    /// The kind that these are the fields of.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Llm(_) => Kind::Llm,
            Self::Secret(_) => Kind::Secret,
            Self::User(_) => Kind::User,
            Self::Group(_) => Kind::Group,
            Self::ServiceAccount(_) => Kind::ServiceAccount,
            Self::Role(_) => Kind::Role,
            Self::RoleBinding(_) => Kind::RoleBinding,
            Self::Token(_) => Kind::Token,
            Self::Limit(_) => Kind::Limit,
        }
    }

    /// Checks what types alone cannot: ranges, URLs, empty lists.
    ///
    /// # Errors
    /// The first field that breaks a rule.
    pub fn validate(&self) -> Result<(), FieldError> {
        match self {
            Self::Llm(spec) => spec.validate(),
            Self::Secret(spec) => spec.validate(),
            Self::User(spec) => spec.validate(),
            Self::Role(spec) => spec.validate(),
            Self::RoleBinding(spec) => spec.validate(),
            Self::Group(spec) => spec.validate(),
            Self::Limit(spec) => spec.validate(),
            Self::ServiceAccount(spec) => spec.validate(),
            Self::Token(_) => Ok(()),
        }
    }

    pub(crate) fn to_fields(&self) -> Result<Map<String, Value>, serde_json::Error> {
        let value = match self {
            Self::Llm(spec) => serde_json::to_value(spec),
            Self::Secret(spec) => serde_json::to_value(spec),
            Self::User(spec) => serde_json::to_value(spec),
            Self::Group(spec) => serde_json::to_value(spec),
            Self::ServiceAccount(spec) => serde_json::to_value(spec),
            Self::Role(spec) => serde_json::to_value(spec),
            Self::RoleBinding(spec) => serde_json::to_value(spec),
            Self::Token(spec) => serde_json::to_value(spec),
            Self::Limit(spec) => serde_json::to_value(spec),
        }?;
        match value {
            Value::Object(map) => Ok(map),
            _ => Ok(Map::new()),
        }
    }
}
