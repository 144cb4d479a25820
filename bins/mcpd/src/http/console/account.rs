//! What an administrator does to an account: disables it, enables it again, and ends its sessions. Each has a page that shows first what
//! it does.

use std::{cmp::Reverse, sync::Arc};

use axum::{extract::State, http::StatusCode, response::Response};
use mcpctl_access::Stored;
use mcpctl_api::{
    ErrorKind, Id, Kind, Revision, Spec,
    spec::{Subject, SubjectKind},
};
use serde::Deserialize;
use serde_json::json;

use super::{
    super::{error::HttpError, path::Path, resources, rights},
    confirmation::{self, Confirmation},
    form::Form,
    frame::Section,
    links,
    note::{Done, SessionCounts},
    subject::ViewedSubject,
    visit::Visit,
};
use crate::{app::App, caller::Caller, clock, consequences::Direction, writes::Intent};

/// Maximum of sessions that one form ends, the newest ones.
const MAX_SESSIONS: usize = 1000;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountAction {
    /// No credential of the account is accepted any more.
    Disable,
    /// They are accepted again.
    Enable,
    /// Its sessions end.
    EndSessions,
}

impl AccountAction {
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

    const fn done(self, counts: SessionCounts) -> Done {
        match self {
            Self::Disable => Done::Disabled,
            Self::Enable => Done::Enabled,
            Self::EndSessions => Done::SessionsEnded(counts),
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

    fn notes(self, is_own: bool, shows_rights: bool, counts: SessionCounts) -> Vec<String> {
        let mut notes = vec![match self {
            Self::Disable => {
                "None of its credentials is accepted any more: no password, no sign-in at a provider, no token and no session. They are kept, and are accepted again when the account is enabled."
            }
            Self::Enable => {
                "Its password, its sign-in at a provider, and its tokens and sessions that have not expired are accepted again."
            }
            Self::EndSessions => "Its tokens stay, and it may sign in again. A session that begins before you confirm ends too.",
        }
        .to_owned()];
        if is_own && self == Self::Disable {
            notes.push("It is your own account: you cannot enable it yourself.".to_owned());
        }
        if !shows_rights && self != Self::EndSessions {
            notes.push(
                "What it may use is not listed, because you may not view the rights of accounts.".to_owned(),
            );
        }
        let SessionCounts { left, forbidden, .. } = counts;
        if left > 0 {
            notes.push(format!(
                "Older sessions that stay, because a form ends {MAX_SESSIONS}: {left}. End them afterwards."
            ));
        }
        if forbidden > 0 {
            notes.push(format!("Sessions that stay, because you may not end them: {forbidden}."));
        }
        notes
    }
}

/// The sessions of an account, without the one in use, as far as the caller may view them.
pub struct Sessions {
    /// Those that the caller may end, the newest first.
    pub may_end: Vec<Id>,
    /// How many others there are.
    forbidden: usize,
}

impl Sessions {
    /// Those of this account.
    pub fn of(caller: &Caller, account: &Subject) -> Self {
        let Caller { principal, snapshot, .. } = caller;
        let id = snapshot.by_name(account.kind.kind(), account.name.as_str()).map(|stored| stored.id());
        let tokens = id.into_iter().flat_map(|id| snapshot.tokens_of(id));
        let is_other_session = |stored: &&Arc<Stored>| {
            matches!(&stored.resource.spec, Spec::Token(token) if token.session)
                && *stored.id() != principal.token
                && snapshot.may_view_token(principal, stored)
        };
        let now = clock::now();
        let (mut may_end, forbidden): (Vec<_>, Vec<_>) = tokens
            .filter(is_other_session)
            .partition(|stored| snapshot.may_revoke_token(principal, stored, now));
        may_end.sort_by_key(|stored| Reverse(stored.resource.created_at));
        Self {
            may_end: may_end.into_iter().map(|stored| stored.id().clone()).collect(),
            forbidden: forbidden.len(),
        }
    }

    /// Takes those that one form ends.
    fn ends(mut self, max: usize) -> (Vec<Id>, SessionCounts) {
        let left = self.may_end.split_off(self.may_end.len().min(max));
        let counts = SessionCounts { ended: self.may_end.len(), left: left.len(), forbidden: self.forbidden };
        (self.may_end, counts)
    }
}

/// An action on an account, as of the snapshot of its caller.
struct Planned {
    action: AccountAction,
    account: Subject,
    is_own: bool,
    intents: Vec<Intent>,
    /// What the form repeats of what was shown.
    fields: Vec<(&'static str, String)>,
    /// Of an end of sessions.
    counts: SessionCounts,
}

impl Planned {
    /// Reads which action is meant. The form is of the page that was shown before; on that page there is none.
    async fn find(
        app: &App,
        caller: &Caller,
        (segment, name, action): (String, String, String),
        form: Option<&ActionForm>,
    ) -> Result<Self, HttpError> {
        let unknown = || HttpError::no_route(&format!("/console/people/{segment}/{name}/{action}"));
        let found = AccountAction::ALL.into_iter().find(|known| known.segment() == action);
        let action = found.ok_or_else(unknown)?;
        let ViewedSubject { subject: account, is_own, stored } =
            ViewedSubject::find(app, caller, &segment, &name).await?;
        if account.kind == SubjectKind::Group {
            return Err(unknown());
        }
        if action == AccountAction::EndSessions {
            let id = stored.map_or_else(|| caller.principal.id.clone(), |stored| stored.id().clone());
            let (intents, counts) = session_ends(caller, &account)?;
            if form.is_some_and(|form| form.account.as_ref() != Some(&id)) {
                return Err(another(&account));
            }
            let fields = vec![("account", id.to_string())];
            return Ok(Self { action, account, is_own, intents, fields, counts });
        }
        // The own account is there even where the caller may not view it; the dry run decides about the change.
        let own = || caller.snapshot.by_id(&caller.principal.id).cloned();
        let current = stored.or_else(own).ok_or_else(unknown)?;
        let disables = action == AccountAction::Disable;
        if caller.snapshot.is_active(&account) != disables {
            let (state, other) = if disables { ("disabled", "enable") } else { ("enabled", "disable") };
            return Err(HttpError::invalid("", format!("{account} is {state} already"))
                .hint(format!("nothing is left to do; its page shows its state, and offers to {other} it")));
        }
        let shown = form.map(|form| Revision(form.expected.unwrap_or_default()));
        let expected = shown.unwrap_or(current.resource.revision);
        let (target, patch) = (account.name.to_string(), json!({ "disabled": disables }));
        let intents = vec![resources::merged(&current, target, patch, expected)?];
        let counts = SessionCounts::default();
        let fields = vec![("expected", expected.to_string())];
        Ok(Self { action, account, is_own, intents, fields, counts })
    }
}

/// The account of a form was deleted, and another one has its name.
fn another(account: &Subject) -> HttpError {
    HttpError::new(
        StatusCode::PRECONDITION_FAILED,
        ErrorKind::ConflictError,
        "stale_account",
        format!("{account} is not the account whose sessions were shown"),
    )
    .hint("open the page of the account again")
}

/// The ends of an account's sessions, those that the caller may end and not the one in use.
fn session_ends(caller: &Caller, account: &Subject) -> Result<(Vec<Intent>, SessionCounts), HttpError> {
    let (ends, counts) = Sessions::of(caller, account).ends(MAX_SESSIONS);
    if ends.is_empty() {
        let hint = match counts.forbidden {
            0 => "the page of the account lists its tokens and sessions".to_owned(),
            _ => "ask an administrator to end those that you may view".to_owned(),
        };
        return Err(HttpError::invalid("", format!("{account} has no session that you may end")).hint(hint));
    }
    let end = |id: Id| Intent::Delete { kind: Kind::Token, target: id.to_string(), expected: None };
    Ok((ends.into_iter().map(end).collect(), counts))
}

/// Shows what an action does.
pub async fn page(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    Path(parts): Path<(String, String, String)>,
) -> Result<Response, HttpError> {
    let Planned { action, account, is_own, intents, fields, counts } =
        Planned::find(&app, &caller, parts, None).await?;
    let may_view_rights = rights::may_view_rights(&caller).is_ok();
    let confirmation = Confirmation {
        section: Section::People,
        above: links::to_person(&account),
        title: action.title(&account, is_own),
        notes: action.notes(is_own, may_view_rights, counts),
        direction: if action == AccountAction::Enable { Direction::Gain } else { Direction::Loss },
        shows_rights: may_view_rights && action != AccountAction::EndSessions,
        action: action.path(&account),
        fields,
        back: links::person(&account),
        others: Vec::new(),
    };
    confirmation::show(&app, &visit, &caller, intents, confirmation).await
}

/// The form that confirms it, with the revision that was shown; of an end of sessions, with the id of the account.
#[derive(Deserialize)]
pub struct ActionForm {
    expected: Option<u64>,
    account: Option<Id>,
}

/// Does it.
pub async fn change(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    Path(parts): Path<(String, String, String)>,
    Form(form): Form<ActionForm>,
) -> Result<Response, HttpError> {
    let Planned { action, account, intents, counts, .. } =
        Planned::find(&app, &caller, parts, Some(&form)).await?;
    let next = action.done(counts).page(&links::person(&account));
    confirmation::make(&app, &visit, caller, intents, &next).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_beyond_what_a_form_ends_are_counted() {
        let sessions = |count| Sessions { may_end: (0..count).map(|_| Id::mint()).collect(), forbidden: 2 };
        for (count, ended, left) in [(2, 2, 0), (3, 3, 0), (5, 3, 2)] {
            let newest = sessions(count);
            let first: Vec<Id> = newest.may_end.iter().take(3).cloned().collect();
            let (ends, counts) = newest.ends(3);
            assert_eq!(ends, first);
            assert_eq!(counts, SessionCounts { ended, left, forbidden: 2 });
        }
    }
}
