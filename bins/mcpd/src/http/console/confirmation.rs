//! A change that a person confirms. Its page shows first what the change does, from a dry run of it; its form makes the change.

use std::{collections::BTreeMap, sync::Arc};

use askama::Template;
use axum::{
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use mcpctl_access::Reason;
use mcpctl_api::{Name, Verb};

use super::{
    super::error::HttpError,
    cookies::Cookie,
    frame::{Frame, Section},
    links::{self, Link},
    note, page,
    sign_in::set_cookie,
    text,
    visit::Visit,
};
use crate::{
    app::App,
    caller::Caller,
    clock,
    commit::{WriteOptions, commit},
    consequences::{Consequences, ConsequencesError, Direction, RightsDelta, listed},
    writes::Intent,
};

/// Changes that the page lists, and warnings; it counts the others.
const SHOWN_CHANGES: usize = 50;

/// What the page of a change shows besides its consequences.
pub struct Confirmation {
    /// Where the page belongs.
    pub section: Section,
    /// The page above it.
    pub above: Link,
    /// What is asked, which the button repeats.
    pub title: String,
    /// What the dry run does not show.
    pub notes: Vec<String>,
    /// Whether the change takes something away.
    pub direction: Direction,
    /// Whether the page lists which rights accounts lose or gain.
    pub shows_rights: bool,
    /// Where its form is sent, and what it repeats.
    pub action: String,
    /// Hidden fields of the form.
    pub fields: Vec<(&'static str, String)>,
    /// The page of those who change nothing.
    pub back: String,
    /// What can be done instead.
    pub others: Vec<Link>,
}

#[derive(Template)]
#[template(path = "confirmation.html")]
struct ConfirmationPage {
    frame: Frame,
    confirmation: Confirmation,
    consequences: Consequences,
}

/// Shows what a change does.
///
/// # Errors
/// When the change would be refused; that is not recorded, because to look at a page is no attempt.
pub async fn show(
    app: &Arc<App>,
    visit: &Visit,
    caller: &Caller,
    intents: Vec<Intent>,
    confirmation: Confirmation,
) -> Result<Response, HttpError> {
    let direction = confirmation.shows_rights.then_some(confirmation.direction);
    let consequences = Consequences::of(app, caller, intents, direction).await;
    let consequences = consequences.map_err(|error| match error {
        ConsequencesError::Refused(cause) => HttpError::from(cause),
        ConsequencesError::NoAnswer(error) => error.into(),
    })?;
    let frame = Frame::new(visit, Some(confirmation.section), confirmation.title.clone());
    page::show(StatusCode::OK, &ConfirmationPage { frame, confirmation, consequences })
}

/// Makes a confirmed change, and leads to a page that confirms it; to the sign-in where the change has ended the session in use.
///
/// # Errors
/// When the change is refused.
pub async fn make(
    app: &App,
    visit: &Visit,
    caller: Caller,
    intents: Vec<Intent>,
    next: &str,
) -> Result<Response, HttpError> {
    let session = caller.bearer();
    let options = WriteOptions { skip_check: true, ..WriteOptions::default() };
    Box::pin(commit(app, caller, intents, options)).await.map_err(|error| error.cause)?;
    match app.authenticate(session).await.map_err(HttpError::from) {
        Err(error) if error.status() == StatusCode::UNAUTHORIZED => {
            let mut response = Redirect::to("/console/sign-in?signed_out=true").into_response();
            set_cookie(&mut response, Cookie::Session.clear(visit.host.as_ref()));
            Ok(response)
        }
        _ => Ok(Redirect::to(&note::confirming(&visit.form_token, next, clock::now())).into_response()),
    }
}

impl ConfirmationPage {
    fn is_loss(&self) -> bool {
        self.confirmation.direction == Direction::Loss
    }

    /// What changes, and the warnings.
    fn lines(&self) -> Vec<String> {
        let Consequences { changes, warnings, .. } = &self.consequences;
        let listed = |lines: &[String]| {
            let more = lines.len().saturating_sub(SHOWN_CHANGES);
            let more = (more > 0).then(|| format!("and {more} more"));
            lines.iter().take(SHOWN_CHANGES).cloned().chain(more).collect::<Vec<_>>()
        };
        [listed(changes), listed(warnings)].concat()
    }

    /// The Llms that an account keeps, by the binding that gives them.
    fn kept(delta: &RightsDelta) -> Vec<(String, String)> {
        let mut by_binding: BTreeMap<String, Vec<&Name>> = BTreeMap::new();
        for (llm, Reason { binding, role, via_group }) in &delta.kept {
            let via = via_group.as_ref().map(|group| format!(", by group {group}")).unwrap_or_default();
            by_binding.entry(format!("{binding} (role {role}{via})")).or_default().push(llm);
        }
        by_binding.into_iter().map(|(binding, llms)| (binding, listed(llms.into_iter()))).collect()
    }
}
