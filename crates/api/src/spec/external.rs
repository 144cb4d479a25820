//! What ties users and groups to an OpenID provider: a user's account there, and the values of a claim that map to a group.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use super::FieldError;
use crate::{Id, oidc::IssuerUrl};

/// A user's account at an OpenID provider. Matched by issuer and subject, never by name or address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalIdentity {
    /// The provider.
    pub issuer: IssuerUrl,
    /// The provider's id of the account (`sub`).
    pub subject: String,
    /// The values of the groups' claim at the last sign-in, set by the server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(read_only)]
    pub groups: Vec<String>,
    /// Ids of the accounts that linked it, set by the server; empty where the first sign-in did. A session may do no more
    /// than each of them may do or grant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, read_only)]
    pub linked_by: Vec<Id>,
}

impl ExternalIdentity {
    /// Most characters of a subject (OpenID Connect Core 1.0, section 2).
    pub const MAX_SUBJECT_CHARS: usize = 255;

    /// Whether both are the same account, whatever its groups are.
    pub fn is_same_account(&self, other: &Self) -> bool {
        self.issuer == other.issuer && self.subject == other.subject
    }

    fn validate(&self) -> Result<(), FieldError> {
        let count = self.subject.chars().count();
        if !(1..=Self::MAX_SUBJECT_CHARS).contains(&count) || self.subject.chars().any(char::is_control) {
            return Err(FieldError::new("external.subject", "a subject has 1 to 255 characters"));
        }
        Ok(())
    }
}

/// The external identity of a document, as [`super::NewPassword`] for passwords.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ExternalLink {
    /// Left out: the stored one stays. In a stored user: there is none.
    #[default]
    Keep,
    /// `null`: the stored one is removed.
    Remove,
    /// This one is linked.
    Set(Box<ExternalIdentity>),
}

impl ExternalLink {
    /// The identity, where there is one.
    pub fn identity(&self) -> Option<&ExternalIdentity> {
        match self {
            Self::Set(identity) => Some(identity),
            Self::Keep | Self::Remove => None,
        }
    }

    /// As [`ExternalLink::identity`], to change it.
    pub fn identity_mut(&mut self) -> Option<&mut ExternalIdentity> {
        match self {
            Self::Set(identity) => Some(identity),
            Self::Keep | Self::Remove => None,
        }
    }

    /// Whether the document leaves it out.
    pub fn is_keep(&self) -> bool {
        *self == Self::Keep
    }

    pub(super) fn validate(&self) -> Result<(), FieldError> {
        self.identity().map_or(Ok(()), ExternalIdentity::validate)
    }
}

impl From<Option<ExternalIdentity>> for ExternalLink {
    fn from(identity: Option<ExternalIdentity>) -> Self {
        identity.map_or(Self::Keep, |identity| Self::Set(Box::new(identity)))
    }
}

impl Serialize for ExternalLink {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.identity().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ExternalLink {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Remove, |identity| Self::Set(Box::new(identity))))
    }
}

/// A value of a provider's claim whose holders are members of a group. A value of one provider means nothing at another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupClaim {
    /// The provider.
    pub issuer: IssuerUrl,
    /// The value, compared character by character.
    pub value: String,
}

impl GroupClaim {
    /// Most claims of one group.
    pub const MAX_LISTED: usize = 100;
    /// Most characters of a value.
    pub const MAX_VALUE_CHARS: usize = 256;

    /// Whether a text can be a value.
    pub fn is_value(text: &str) -> bool {
        let count = text.chars().count();
        (1..=Self::MAX_VALUE_CHARS).contains(&count) && !text.chars().any(char::is_control)
    }

    pub(super) fn check_list(claims: &[Self]) -> Result<(), FieldError> {
        if claims.len() > Self::MAX_LISTED {
            let message = format!("at most {} entries, this list has {}", Self::MAX_LISTED, claims.len());
            return Err(FieldError::new("claims", message));
        }
        match claims.iter().position(|claim| !Self::is_value(&claim.value)) {
            Some(at) => {
                Err(FieldError::new(format!("claims[{at}].value"), "a value has 1 to 256 characters"))
            }
            None => Ok(()),
        }
    }
}
