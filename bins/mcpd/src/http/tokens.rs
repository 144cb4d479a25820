//! `POST /api/v1/tokens`: a credential for somebody; the answer is the only one that ever holds it.

use std::sync::Arc;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use jiff::{SignedDuration, Timestamp};
use mcpctl_access::{Change, Confidential, Snapshot, Stored};
use mcpctl_api::{
    HumanDuration, Id, Kind, Name, Resource, Spec, Verb,
    question::{IssuedToken, TokenRequest},
    spec::{SecretValue, Subject, SubjectKind, TokenSpec},
};
use mcpctl_secret::token::{self, MintedToken, Prefix};

use super::{
    caller::Caller,
    commit::{self, Attempts},
    error::HttpError,
};
use crate::{
    app::App,
    audit,
    writes::{self, Refusal},
};

/// INVARIANT 15: a token for which no end is asked ends all the same.
const DEFAULT: HumanDuration = HumanDuration::from_secs(30 * 24 * 3600);
/// Nobody needs to come back sooner than once a year.
const LONGEST: HumanDuration = HumanDuration::from_secs(366 * 24 * 3600);

/// Makes a token for a user or service account.
pub(super) async fn create(app: &App, caller: Caller, body: &[u8]) -> Result<Response, HttpError> {
    let request: TokenRequest =
        serde_json::from_slice(body).map_err(|error| HttpError::invalid("", error.to_string()))?;
    let expires_in = request.expires_in.unwrap_or(DEFAULT);
    if expires_in.is_zero() || expires_in > LONGEST {
        let message = format!("a token is good for more than nothing and at most {LONGEST}");
        return Err(HttpError::invalid("expiresIn", message));
    }
    if request.subject.kind == SubjectKind::Group {
        return Err(HttpError::invalid("subject.kind", "a token stands for a User or a ServiceAccount"));
    }
    let _admission = commit::admit(app, &caller)?;
    // Refused without a turn: a caller without rights keeps no writer waiting.
    authorize(app, &caller, &request).await?;
    let mut attempts = Attempts::begin(app, commit::lane(&caller), &caller).await;
    while let Some((caller, lock)) = attempts.next().await? {
        authorize(app, &caller, &request).await?;
        let minted = token::mint(Prefix::Mcpd).map_err(|_| HttpError::internal())?;
        let draft = Draft {
            name: request.name.clone(),
            subject: request.subject.clone(),
            expires_at: end(app.now(), expires_in)?,
            session: false,
            issued_by: caller.snapshot.makers(&caller.principal, &request.subject),
        };
        let (stored, issued) = draft.issue(&caller.snapshot, &minted, app.now())?;
        let changes = vec![Change::Put(stored)];
        let rows = audit::changes(app, &caller, &changes);
        if commit::try_commit(&app.store, lock, &caller, changes, rows).await? {
            return Ok(answer(issued));
        }
    }
    Err(HttpError::unavailable("too many writers at once"))
}

async fn authorize(app: &App, caller: &Caller, request: &TokenRequest) -> Result<(), HttpError> {
    let Caller { principal, snapshot, .. } = caller;
    if let Err(denied) = snapshot.authorize_create(principal, Kind::Token, &request.name) {
        audit::denied(app, caller, Verb::Create, Kind::Token, request.name.as_str(), &denied.to_string())
            .await?;
        return Err(denied.into());
    }
    // Before anything is said of the subject: whether it exists is for those who may make credentials for it.
    if let Err(escalation) = snapshot.check_credential(principal, &request.subject) {
        let escalation = writes::shown(snapshot, principal, escalation);
        let reason = escalation.to_string();
        audit::denied(app, caller, Verb::Create, Kind::Token, request.name.as_str(), &reason).await?;
        return Err(Refusal::from(escalation).into());
    }
    if snapshot.by_name(Kind::Token, request.name.as_str()).is_some() {
        return Err(Refusal::Exists { kind: Kind::Token, name: request.name.clone() }.into());
    }
    Ok(())
}

/// A token to be made.
pub(super) struct Draft {
    pub(super) name: Name,
    pub(super) subject: Subject,
    pub(super) expires_at: Timestamp,
    pub(super) session: bool,
    /// Other accounts that answer for it; of a session those that set the password.
    pub(super) issued_by: Vec<Id>,
}

impl Draft {
    pub(super) fn issue(
        self,
        snapshot: &Snapshot,
        minted: &MintedToken,
        now: Timestamp,
    ) -> Result<(Arc<Stored>, IssuedToken), HttpError> {
        let Self { name, subject, expires_at, session, issued_by } = self;
        let owner = snapshot
            .by_name(subject.kind.kind(), subject.name.as_str())
            .ok_or_else(|| HttpError::invalid("subject.name", format!("there is no {subject}")))?;
        let resource = Resource {
            id: Id::mint(),
            name,
            labels: Default::default(),
            revision: snapshot.revision().next(),
            created_at: now,
            updated_at: now,
            spec: Spec::Token(TokenSpec {
                subject: subject.clone(),
                subject_id: owner.id().clone(),
                expires_at,
                session,
                issued_by,
            }),
        };
        let issued = IssuedToken {
            id: resource.id.clone(),
            name: resource.name.clone(),
            subject,
            expires_at,
            token: SecretValue::new(minted.expose()),
        };
        let confidential = Some(Confidential::TokenHash(*minted.hash().as_bytes()));
        Ok((Arc::new(Stored { resource, confidential }), issued))
    }
}

pub(super) fn end(now: Timestamp, expires_in: HumanDuration) -> Result<Timestamp, HttpError> {
    let span = SignedDuration::try_from(expires_in.0).map_err(|_| HttpError::internal())?;
    now.checked_add(span).map_err(|_| HttpError::internal())
}

pub(super) fn answer(issued: IssuedToken) -> Response {
    let mut response = (StatusCode::CREATED, Json(issued)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
