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
    links, note, page,
    sign_in::set_cookie,
    text,
    visit::Visit,
};
use crate::{
    app::App,
    caller::Caller,
    clock,
    commit::{WriteOptions, commit},
    consequences::{Consequences, NoConsequences, RightsDelta},
    writes::Intent,
};

/// Llms that the page names of each account; it counts the others.
const SHOWN_LLMS: usize = 20;

/// A change, and what its page shows besides its consequences.
pub struct Confirmation {
    /// Where the page belongs.
    pub section: Section,
    /// Name and address of the page above it.
    pub above: (String, String),
    /// What is asked, which the button repeats.
    pub title: String,
    /// What the dry run does not show.
    pub notes: Vec<&'static str>,
    /// The change.
    pub intents: Vec<Intent>,
    /// Whether the page lists which rights accounts lose and gain.
    pub shows_rights: bool,
    /// Whether the change takes something away.
    pub is_loss: bool,
    /// Where its form is sent, and what it repeats.
    pub action: String,
    /// Hidden fields of the form.
    pub fields: Vec<(&'static str, String)>,
    /// The page of those who change nothing.
    pub back: String,
    /// Title and address of what can be done instead.
    pub others: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "confirmation.html")]
struct ConfirmationPage {
    frame: Frame,
    above: (String, String),
    notes: Vec<&'static str>,
    shows_rights: bool,
    is_loss: bool,
    action: String,
    fields: Vec<(&'static str, String)>,
    back: String,
    others: Vec<(String, String)>,
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
    confirmation: Confirmation,
) -> Result<Response, HttpError> {
    let Confirmation {
        section,
        above,
        title,
        notes,
        intents,
        shows_rights,
        is_loss,
        action,
        fields,
        back,
        others,
    } = confirmation;
    // It reads many rules, so it has a turn as questions about records have.
    let turn = app.record_questions.take(&caller.principal.id).await?;
    let consequences = Consequences::of(Arc::clone(app), caller.clone(), intents).await;
    drop(turn);
    let consequences = consequences.map_err(|error| match error {
        NoConsequences::Refused(cause) => cause.into(),
        NoConsequences::Panicked(error) => {
            tracing::error!(%error, "the consequences of a change could not be computed");
            HttpError::internal()
        }
    })?;
    let frame = Frame::new(visit, Some(section), title);
    let page = ConfirmationPage {
        frame,
        above,
        notes,
        shows_rights,
        is_loss,
        action,
        fields,
        back,
        others,
        consequences,
    };
    page::show(StatusCode::OK, &page)
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
    /// Names of a list, and how many more there are.
    fn names<'a>(names: impl Iterator<Item = &'a Name> + Clone) -> String {
        let shown: Vec<&str> = names.clone().take(SHOWN_LLMS).map(Name::as_str).collect();
        match names.count().saturating_sub(SHOWN_LLMS) {
            0 => shown.join(", "),
            more => format!("{} and {more} more", shown.join(", ")),
        }
    }

    /// The Llms that an account keeps, by the binding that gives them.
    fn kept(delta: &RightsDelta) -> Vec<(String, String)> {
        let mut by_binding: BTreeMap<String, Vec<&Name>> = BTreeMap::new();
        for (llm, Reason { binding, role, via_group }) in &delta.kept {
            let via = via_group.as_ref().map(|group| format!(", by group {group}")).unwrap_or_default();
            by_binding.entry(format!("{binding} (role {role}{via})")).or_default().push(llm);
        }
        by_binding.into_iter().map(|(binding, llms)| (binding, Self::names(llms.into_iter()))).collect()
    }
}
