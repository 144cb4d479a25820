//! Finds the user, service account or group that a page is about.

use std::sync::Arc;

use mcpctl_access::Stored;
use mcpctl_api::{
    Kind,
    spec::{Subject, SubjectKind},
};

use super::super::{error::HttpError, path, viewed::viewed};
use crate::{app::App, caller::Caller};

/// A user, service account or group that the caller asks for.
pub struct Person {
    /// Its kind and name.
    pub subject: Subject,
    /// Whether it is the caller.
    pub is_own: bool,
    /// `None` of the caller's own account, where it may not view that.
    pub stored: Option<Arc<Stored>>,
}

impl Person {
    /// Finds it, for a caller who may view it or is it.
    pub async fn find(app: &App, caller: &Caller, segment: &str, name: &str) -> Result<Self, HttpError> {
        let kind = match path::kind(segment) {
            Ok(Kind::User) => SubjectKind::User,
            Ok(Kind::ServiceAccount) => SubjectKind::ServiceAccount,
            Ok(Kind::Group) => SubjectKind::Group,
            _ => return Err(HttpError::no_route(&format!("/console/people/{segment}/{name}"))),
        };
        let own = &caller.principal.subject;
        let is_named = kind == own.kind && name == own.name.as_str();
        let stored = match viewed(app, caller, kind.kind(), name).await {
            Ok(stored) => Some(stored),
            Err(_) if is_named => None,
            Err(error) => return Err(error),
        };
        let name = stored.as_ref().map_or(&own.name, |stored| stored.name()).clone();
        let subject = Subject { kind, name };
        Ok(Self { is_own: subject == *own, subject, stored })
    }
}
