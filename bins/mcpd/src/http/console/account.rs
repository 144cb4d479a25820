//! What an administrator does to an account: disables it, enables it again, and ends its sessions. Each has a page that shows first what
//! it does.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use mcpctl_api::{
    Kind, Revision, Spec,
    spec::{Subject, SubjectKind},
};
use serde::Deserialize;
use serde_json::json;

use super::{
    super::{error::HttpError, path::Path, resources, rights, viewed::viewed},
    confirmation::{self, Confirmation},
    form::Form,
    frame::Section,
    links,
    note::Done,
    subject::Person,
    visit::Visit,
};
use crate::{app::App, caller::Caller, clock, writes::Intent};

/// Sessions that one form ends.
const MAX_SESSIONS: usize = 200;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// No credential of the account is accepted any more.
    Disable,
    /// They are accepted again.
    Enable,
    /// Its sessions end.
    EndSessions,
}

impl Step {
    const ALL: [Self; 3] = [Self::Disable, Self::Enable, Self::EndSessions];

    const fn segment(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::EndSessions => "end-sessions",
        }
    }

    /// What a link to its page is called.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Disable => "Disable…",
            Self::Enable => "Enable…",
            Self::EndSessions => "End the sessions…",
        }
    }

    /// The address of its page.
    pub fn path(self, account: &Subject) -> String {
        format!("{}/{}", links::person(account), self.segment())
    }

    const fn done(self) -> Done {
        match self {
            Self::Disable => Done::Disabled,
            Self::Enable => Done::Enabled,
            Self::EndSessions => Done::SessionsEnded,
        }
    }

    fn title(self, account: &Subject, is_own: bool) -> String {
        match self {
            Self::Disable => format!("Disable {}", account.name),
            Self::Enable => format!("Enable {}", account.name),
            Self::EndSessions if is_own => "End your other sessions".to_owned(),
            Self::EndSessions => format!("End the sessions of {}", account.name),
        }
    }

    fn notes(self, is_own: bool, shows_rights: bool) -> Vec<&'static str> {
        let mut notes = match self {
            Self::Disable => vec![
                "None of its credentials is accepted any more: no password, no sign-in at a provider, no token and no session. They are kept, and are accepted again when the account is enabled.",
            ],
            Self::Enable => vec![
                "Its password, its sign-in at a provider, and its tokens and sessions that have not expired are accepted again.",
            ],
            Self::EndSessions => vec!["Its tokens stay, and it may sign in again."],
        };
        if is_own && self == Self::Disable {
            notes.push("It is your own account: you will be signed out, and cannot enable it yourself.");
        }
        if !shows_rights && self != Self::EndSessions {
            notes.push("What it may use is not listed, because you may not view the rights of accounts.");
        }
        notes
    }
}

/// A step on an account, as of the snapshot of its caller.
struct Planned {
    step: Step,
    account: Subject,
    is_own: bool,
    intents: Vec<Intent>,
    /// The revision that the account has to have still.
    expected: Option<Revision>,
}

impl Planned {
    /// Reads which step is meant. `shown` is the revision that was shown before; on the page itself there is none.
    async fn find(
        app: &App,
        caller: &Caller,
        (segment, name, step): (String, String, String),
        shown: Option<Revision>,
    ) -> Result<Self, HttpError> {
        let unknown = || HttpError::no_route(&format!("/console/people/{segment}/{name}/{step}"));
        let found = Step::ALL.into_iter().find(|known| known.segment() == step).ok_or_else(unknown)?;
        let person = Person::find(app, caller, &segment, &name).await?;
        if person.subject.kind == SubjectKind::Group {
            return Err(unknown());
        }
        let Person { subject: account, is_own, .. } = person;
        if found == Step::EndSessions {
            let intents = session_ends(caller, &account)?;
            return Ok(Self { step: found, account, is_own, intents, expected: None });
        }
        let current = viewed(app, caller, account.kind.kind(), account.name.as_str()).await?;
        let disables = found == Step::Disable;
        if caller.snapshot.is_active(&account) != disables {
            let state = if disables { "disabled" } else { "enabled" };
            return Err(HttpError::invalid("", format!("{account} is {state} already")));
        }
        let expected = shown.unwrap_or(current.resource.revision);
        let (target, patch) = (current.id().to_string(), json!({ "disabled": disables }));
        let intents = vec![resources::merged(&current, target, patch, expected)?];
        Ok(Self { step: found, account, is_own, intents, expected: Some(expected) })
    }
}

/// The ends of an account's sessions, those that the caller may end and not the one in use.
fn session_ends(caller: &Caller, account: &Subject) -> Result<Vec<Intent>, HttpError> {
    let Caller { principal, snapshot, .. } = caller;
    let id = snapshot.by_name(account.kind.kind(), account.name.as_str()).map(|stored| stored.id());
    let sessions = id.into_iter().flat_map(|id| snapshot.tokens_of(id)).filter(|stored| {
        matches!(&stored.resource.spec, Spec::Token(token) if token.session)
            && *stored.id() != principal.token
            && snapshot.may_revoke_token(principal, stored, clock::now())
    });
    let end = |id: String| Intent::Delete { kind: Kind::Token, target: id, expected: None };
    let ends: Vec<_> = sessions.take(MAX_SESSIONS).map(|stored| end(stored.id().to_string())).collect();
    if ends.is_empty() {
        return Err(HttpError::invalid("", format!("{account} has no session that you may end")));
    }
    Ok(ends)
}

/// Shows what a step does.
pub async fn page(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    Path(parts): Path<(String, String, String)>,
) -> Result<Response, HttpError> {
    let Planned { step, account, is_own, intents, expected } =
        Planned::find(&app, &caller, parts, None).await?;
    let shows_rights = rights::may_view_rights(&caller).is_ok();
    let person = links::person(&account);
    let confirmation = Confirmation {
        section: Section::People,
        above: (account.name.to_string(), person.clone()),
        title: step.title(&account, is_own),
        notes: step.notes(is_own, shows_rights),
        intents,
        shows_rights: shows_rights && step != Step::EndSessions,
        is_loss: step != Step::Enable,
        action: step.path(&account),
        fields: expected.map(|revision| ("expected", revision.to_string())).into_iter().collect(),
        back: person,
        others: Vec::new(),
    };
    confirmation::show(&app, &visit, &caller, confirmation).await
}

/// The form that confirms it, with the revision that was shown.
#[derive(Deserialize)]
pub struct StepForm {
    expected: Option<u64>,
}

/// Does it.
pub async fn change(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    Path(parts): Path<(String, String, String)>,
    Form(form): Form<StepForm>,
) -> Result<Response, HttpError> {
    let shown = Revision(form.expected.unwrap_or_default());
    let planned = Planned::find(&app, &caller, parts, Some(shown)).await?;
    let next = planned.step.done().page(&links::person(&planned.account));
    confirmation::make(&app, &visit, caller, planned.intents, &next).await
}
