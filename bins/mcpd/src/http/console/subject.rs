//! Finds the user, service account or group that a page is about.

use std::sync::Arc;

use mcpctl_access::{Permit, Stored, verb::View};
use mcpctl_api::{
    Kind,
    spec::{Subject, SubjectKind},
};

use super::super::{error::HttpError, path, viewed::viewed};
use crate::{app::App, caller::Caller};

/// A user, service account or group that the caller asks for.
pub struct ViewedSubject {
    /// Its kind and name.
    pub subject: Subject,
    /// Whether it is the caller.
    pub is_own: bool,
    /// `None` of the caller's own account, where it may not view that.
    pub stored: Option<Arc<Stored>>,
}

impl ViewedSubject {
    /// Finds it, for a caller who may view it or is it. A denial is recorded, but not of the own account: its page is shown.
    pub async fn find(app: &App, caller: &Caller, segment: &str, name: &str) -> Result<Self, HttpError> {
        let kind = match path::kind(segment) {
            Ok(Kind::User) => SubjectKind::User,
            Ok(Kind::ServiceAccount) => SubjectKind::ServiceAccount,
            Ok(Kind::Group) => SubjectKind::Group,
            _ => return Err(HttpError::no_route(&format!("/console/people/{segment}/{name}"))),
        };
        let Caller { principal, snapshot, .. } = caller;
        let own = &principal.subject;
        if kind == own.kind && name == own.name.as_str() {
            let permit = snapshot.authorize::<View>(principal, kind.kind(), name);
            let stored = permit.ok().map(Permit::into_resource);
            return Ok(Self { subject: own.clone(), is_own: true, stored });
        }
        let stored = viewed(app, caller, kind.kind(), name).await?;
        let subject = Subject { kind, name: stored.name().clone() };
        Ok(Self { is_own: subject == *own, subject, stored: Some(stored) })
    }
}
