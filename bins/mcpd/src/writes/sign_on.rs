//! Plans the session of a person whom an OpenID provider vouches for: finds the linked user or creates one, and stores the
//! groups of the claim.
//!
//! A user is found by issuer and subject alone. A name or an address that a provider states never leads to an existing user,
//! because people can often choose both themselves.

use std::sync::Arc;

use jiff::Timestamp;
use mcpctl_access::{Snapshot, Stored};
use mcpctl_api::{
    Id, Kind, Name, Resource, Spec,
    oidc::IssuerUrl,
    spec::{ExternalIdentity, Subject, SubjectKind, TokenOrigin, UserSpec},
};
use mcpctl_secret::token::TokenHash;

use super::{
    Batch, Plan,
    external::identity,
    session::{SessionDraft, put_session},
};

/// The name of the user that `mcpd bootstrap-token` makes an administrator.
const RESERVED: &str = "admin";

/// A person whom a provider vouches for, and the session to begin.
pub struct VouchedPerson<'a> {
    /// The account at the provider.
    pub origin: TokenOrigin,
    /// The values of the groups' claim.
    pub groups: &'a [String],
    /// A new user, if an unknown person becomes one.
    pub newcomer: Option<Newcomer<'a>>,
    /// The session's name.
    pub session: Name,
    /// The hash of the session's token.
    pub hash: TokenHash,
    /// Maximum of sessions of one user.
    pub max_sessions: usize,
}

/// What a new user is made of.
pub struct Newcomer<'a> {
    /// The claim that has the name.
    pub claim: &'a str,
    /// The name that the provider states.
    pub name: Option<&'a str>,
    /// Whether the ID token has that claim.
    pub is_stated: bool,
    /// What the user's name begins with.
    pub prefix: &'a str,
    /// Maximum of users of this provider.
    pub max_users: usize,
    /// A claim that has none of the values that the configuration requires of newcomers.
    pub missing: Option<&'a str>,
    /// For people.
    pub display_name: Option<String>,
    /// For people.
    pub email: Option<String>,
}

/// Why a person whom a provider vouches for gets no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignOnRefusal {
    /// No user is linked to the account, and none is created.
    #[error("no user of this mcpd is linked to your account `{subject}` at {issuer}")]
    Unlinked {
        /// The provider.
        issuer: IssuerUrl,
        /// The account.
        subject: String,
    },
    /// The linked user is disabled.
    #[error("your user is disabled")]
    Disabled,
    /// The account that linked the user is deleted or disabled.
    #[error("the account that linked your user to the provider is gone or disabled, so the link is void")]
    VoidLink,
    /// A claim has none of the values that the configuration requires of newcomers.
    #[error(
        "no user is created: the provider's claim `{claim}` has no value that this mcpd accepts of newcomers"
    )]
    NotAdmitted {
        /// The claim.
        claim: String,
        /// The account at the provider.
        origin: TokenOrigin,
    },
    /// The provider has as many users as the configuration allows.
    #[error(
        "no user is created: {max} users of {issuer} exist already, which is the most that this mcpd creates"
    )]
    TooMany {
        /// The most.
        max: usize,
        /// The provider.
        issuer: IssuerUrl,
    },
    /// The claim with the name is absent.
    #[error("no user can be created: the ID token has no claim `{claim}`")]
    NotStated {
        /// The claim.
        claim: String,
    },
    /// No name can be made of the claim with the name.
    #[error("no user can be created: the provider's claim `{claim}` has no name that a user can have")]
    NoName {
        /// The claim.
        claim: String,
    },
    /// The name belongs to another user, or is meant for one.
    #[error("no user can be created: the name `{name}` is taken")]
    NameTaken {
        /// The name.
        name: Name,
        /// The provider.
        issuer: IssuerUrl,
        /// The account.
        subject: String,
    },
}

/// The user that is linked to an account at a provider.
pub fn linked_user<'a>(snapshot: &'a Snapshot, origin: &TokenOrigin) -> Option<&'a Arc<Stored>> {
    snapshot.linked_to(origin).next()
}

/// Begins a session, and ends the oldest ones of the user beyond the maximum.
///
/// # Errors
/// When the person may not sign in.
pub fn begin(before: &Snapshot, person: &VouchedPerson<'_>, now: Timestamp) -> Result<Plan, SignOnRefusal> {
    let mut batch = Batch::new(before);
    let user = match linked_user(before, &person.origin) {
        Some(user) => known(before, &mut batch, user, person, now)?,
        None => newcomer(before, &mut batch, person, now)?,
    };
    let makers = identity(&user).map(|identity| identity.linked_by.clone()).unwrap_or_default();
    let draft = SessionDraft {
        name: person.session.clone(),
        hash: person.hash,
        origin: Some(person.origin.clone()),
        makers: &makers,
        max_sessions: person.max_sessions,
        token: None,
    };
    let session = put_session(before, &mut batch, &user, draft, now);
    Ok(Plan::of(before, batch, Some(session)))
}

/// The linked user, with the groups of this sign-in.
fn known(
    before: &Snapshot,
    batch: &mut Batch,
    user: &Arc<Stored>,
    person: &VouchedPerson<'_>,
    now: Timestamp,
) -> Result<Arc<Stored>, SignOnRefusal> {
    let Spec::User(spec) = &user.resource.spec else { return Err(SignOnRefusal::Disabled) };
    if spec.disabled {
        return Err(SignOnRefusal::Disabled);
    }
    let Some(identity) = spec.external.identity() else { return Err(SignOnRefusal::VoidLink) };
    if !before.are_active(&identity.linked_by) {
        return Err(SignOnRefusal::VoidLink);
    }
    if identity.groups == person.groups {
        return Ok(Arc::clone(user));
    }
    let external = ExternalIdentity { groups: person.groups.to_vec(), ..identity.clone() };
    let resource = Resource {
        revision: batch.next_revision(),
        updated_at: now,
        spec: Spec::User(UserSpec { external: Some(external).into(), ..spec.clone() }),
        ..user.resource.clone()
    };
    let user = Arc::new(Stored { resource, confidential: user.confidential.clone() });
    batch.put(Arc::clone(&user));
    Ok(user)
}

fn newcomer(
    before: &Snapshot,
    batch: &mut Batch,
    person: &VouchedPerson<'_>,
    now: Timestamp,
) -> Result<Arc<Stored>, SignOnRefusal> {
    let TokenOrigin { issuer, subject } = person.origin.clone();
    let Some(newcomer) = &person.newcomer else { return Err(SignOnRefusal::Unlinked { issuer, subject }) };
    if let Some(claim) = newcomer.missing {
        return Err(SignOnRefusal::NotAdmitted { claim: claim.to_owned(), origin: person.origin.clone() });
    }
    if !newcomer.is_stated {
        return Err(SignOnRefusal::NotStated { claim: newcomer.claim.to_owned() });
    }
    let name = newcomer.name.and_then(|stated| user_name(newcomer.prefix, stated));
    let name = name.ok_or_else(|| SignOnRefusal::NoName { claim: newcomer.claim.to_owned() })?;
    let account = Subject { kind: SubjectKind::User, name: name.clone() };
    // Bindings and groups may name an account before there is one: they do not mean an account that chooses that name at a provider.
    if name.as_str() == RESERVED
        || before.by_name(Kind::User, name.as_str()).is_some()
        || before.is_named(&account)
    {
        return Err(SignOnRefusal::NameTaken { name, issuer, subject });
    }
    if before.count_linked_at(&issuer) >= newcomer.max_users {
        return Err(SignOnRefusal::TooMany { max: newcomer.max_users, issuer });
    }
    let external =
        ExternalIdentity { issuer, subject, groups: person.groups.to_vec(), linked_by: Vec::new() };
    let spec = UserSpec {
        display_name: newcomer.display_name.clone(),
        email: newcomer.email.clone(),
        external: Some(external).into(),
        ..UserSpec::default()
    };
    let resource = Resource {
        id: Id::mint(),
        name,
        labels: Default::default(),
        annotations: Default::default(),
        revision: batch.next_revision(),
        created_at: now,
        updated_at: now,
        spec: Spec::User(spec),
    };
    let user = Arc::new(Stored { resource, confidential: None });
    batch.put(Arc::clone(&user));
    Ok(user)
}

/// The name of a user that a provider's name becomes: in lower case, with `-` for ASCII characters that names do not have.
/// A name with other characters becomes none, because it would look like another one.
fn user_name(prefix: &str, stated: &str) -> Option<Name> {
    if !stated.is_ascii() {
        return None;
    }
    let kept = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '+');
    let name: String = stated.chars().map(|c| if kept(c) { c.to_ascii_lowercase() } else { '-' }).collect();
    // The name has to be one without the prefix too, so that a prefix makes no name of what is none.
    name.parse::<Name>().ok()?;
    format!("{prefix}{name}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stated_names_become_names_or_nothing() {
        for (stated, expected) in [
            ("alice", "alice"),
            ("Alice.B", "alice.b"),
            ("Alice@Example.com", "alice@example.com"),
            ("CORP\\alice", "corp-alice"),
        ] {
            assert_eq!(user_name("", stated).unwrap().as_str(), expected);
            assert_eq!(user_name("corp-", stated).unwrap().as_str(), format!("corp-{expected}"));
        }
        for stated in
            ["", "аlice", "müller", "-alice", "alice ", "@", "cabcdefghijklmnopqrstuvwx", &"a".repeat(64)]
        {
            assert_eq!(user_name("", stated), None, "{stated}");
            assert_eq!(user_name("corp-", stated), None, "{stated}");
        }
    }
}
