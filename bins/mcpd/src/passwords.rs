//! Changes the password of the caller, who presents the present one besides its credential.

use mcpctl_access::{Confidential, Escalation};
use mcpctl_api::{
    question::PasswordChange,
    spec::{SubjectKind, UserSpec},
};

use crate::{
    app::App,
    caller::Caller,
    commit::{self, WriteFailure, WriteOptions},
    login::Network,
    sessions::{self, LoginError},
    writes::{Intent, password::OwnPassword},
};

/// Why the password is not changed.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// A service account has none, and a user may have none.
    #[error("{0} has no password")]
    None(String),
    /// The present one is wrong, or could not be verified.
    #[error(transparent)]
    NotVerified(#[from] LoginError),
    /// The new one is too short or too long.
    #[error("a password has {} to {} characters", UserSpec::MIN_PASSWORD_CHARS, UserSpec::MAX_PASSWORD_CHARS)]
    Length,
    /// The new one is the present one.
    #[error("the new password is the present one")]
    Same,
    /// It cannot be stored.
    #[error(transparent)]
    Write(#[from] WriteFailure),
}

/// Verifies the present password, counted as an attempt to sign in, and stores the new one.
///
/// # Errors
/// When the present one is wrong, which is recorded, the new one is none, or the store fails.
pub async fn change(
    app: &App,
    caller: Caller,
    network: Network,
    change: PasswordChange,
) -> Result<(), PasswordError> {
    let PasswordChange { current, new } = change;
    if caller.principal.narrowing.is_some() {
        return Err(WriteFailure::Refused(Escalation::Narrowed.into()).into());
    }
    let subject = &caller.principal.subject;
    let own = caller.snapshot.by_id(&caller.principal.id);
    let has_password = own.is_some_and(|own| matches!(own.confidential, Some(Confidential::PasswordHash(_))));
    if subject.kind != SubjectKind::User || !has_password {
        return Err(PasswordError::None(subject.to_string()));
    }
    let chars = new.expose().chars().count();
    if !(UserSpec::MIN_PASSWORD_CHARS..=UserSpec::MAX_PASSWORD_CHARS).contains(&chars) {
        return Err(PasswordError::Length);
    }
    if current == new {
        return Err(PasswordError::Same);
    }
    let name = subject.name.clone();
    let verified = sessions::verify(app, &name, network, current.expose()).await?;
    let intent = Intent::ChangePassword(OwnPassword { verified: verified.password_hash, new, hash: None });
    commit::commit(app, caller, vec![intent], WriteOptions::default()).await.map_err(|error| error.cause)?;
    Ok(())
}
