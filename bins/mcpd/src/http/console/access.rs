//! Who may use which Llm: a part of the table of all accounts and all Llms, both in pages. Those who may not view accounts and their
//! rights see their own row.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use mcpctl_access::{Permit, Stored, verb::View};
use mcpctl_api::{
    Kind, Name, Verb,
    spec::{Subject, SubjectKind},
};
use serde::Deserialize;

use super::{
    super::{error::HttpError, query::Query, rights},
    fields::{address, contains, given},
    frame::{Frame, Section},
    links,
    note::Done,
    page,
    visit::Visit,
};
use crate::{app::App, caller::Caller, clock};

/// Accounts of one page.
const PAGE_ACCOUNTS: usize = 25;
/// Llms of one page.
const PAGE_LLMS: usize = 8;
/// Maximum of accounts, and of Llms, that are examined for one page, because a filter may match few.
const MAX_EXAMINED: usize = 2000;
/// The page.
const PATH: &str = "/console/access";

/// The fields of the filter, and where both lists begin.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessQuery {
    #[serde(deserialize_with = "given")]
    account: Option<String>,
    #[serde(deserialize_with = "given")]
    llm: Option<String>,
    kind: Accounts,
    granted: bool,
    #[serde(deserialize_with = "given")]
    after: Option<String>,
    #[serde(deserialize_with = "given")]
    llms_after: Option<String>,
    done: Option<String>,
}

/// Which accounts are listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Accounts {
    #[default]
    Users,
    ServiceAccounts,
}

impl Accounts {
    const fn subject_kind(self) -> SubjectKind {
        match self {
            Self::Users => SubjectKind::User,
            Self::ServiceAccounts => SubjectKind::ServiceAccount,
        }
    }
}

impl AccessQuery {
    fn address(&self, after: Option<String>, llms_after: Option<String>) -> String {
        let kind = (self.kind == Accounts::ServiceAccounts).then(|| "serviceaccounts".to_owned());
        let granted = self.granted.then(|| "true".to_owned());
        let fields = [
            ("account", self.account.clone()),
            ("llm", self.llm.clone()),
            ("kind", kind),
            ("granted", granted),
            ("after", after),
            ("llms_after", llms_after),
        ];
        address(PATH, &fields)
    }
}

#[derive(Template)]
#[template(path = "access.html")]
struct AccessPage {
    frame: Frame,
    query: AccessQuery,
    shows_all: bool,
    llms: Vec<Name>,
    rows: Vec<Row>,
    next_accounts: Option<String>,
    next_llms: Option<String>,
    start: String,
    is_first: bool,
    done: Option<String>,
}

struct Row {
    account: Subject,
    disabled: bool,
    cells: Vec<Cell>,
}

struct Cell {
    llm: Name,
    /// The strongest use that is allowed.
    allowed: Option<Verb>,
}

impl Cell {
    const fn word(&self) -> &'static str {
        match self.allowed {
            Some(Verb::Run) => "runs",
            Some(_) => "views",
            None => "no",
        }
    }

    const fn class(&self) -> &'static str {
        match self.allowed {
            Some(Verb::Run) => "good",
            Some(_) => "plain",
            None => "off",
        }
    }
}

impl Row {
    fn link(&self) -> String {
        links::person(&self.account)
    }

    fn why(&self, cell: &Cell) -> String {
        links::why(&self.account, &cell.llm)
    }
}

/// Shows the table.
pub async fn page(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    query: Query<AccessQuery>,
) -> Result<Response, HttpError> {
    let query = query.0;
    let shows_all = rights::may_view_rights(&caller).is_ok();
    let (llms, last_llm) = llms(&caller, &query);
    let (rows, last_account) = match shows_all {
        // It looks at many accounts, so it has a turn as questions about records have.
        true => {
            let (caller, query, llms) = (caller.clone(), query.clone(), llms.clone());
            let account = caller.principal.id.clone();
            app.record_questions.answer(&account, move || accounts(&caller, &query, &llms)).await?
        }
        false => (vec![own(&caller, &llms)], None),
    };
    let next_llms = last_llm.map(|last| query.address(query.after.clone(), Some(last.to_string())));
    let next_accounts =
        last_account.map(|last| query.address(Some(last.to_string()), query.llms_after.clone()));
    let page = AccessPage {
        frame: Frame::new(&visit, Some(Section::Access), Section::Access.label()),
        start: query.address(None, None),
        done: Done::AccessRevoked.stated(&visit.form_token, PATH, query.done.as_deref(), clock::now()),
        is_first: query.after.is_none() && query.llms_after.is_none(),
        query,
        shows_all,
        llms,
        rows,
        next_accounts,
        next_llms,
    };
    page::show(StatusCode::OK, &page)
}

/// The Llms of the page, and the last one that was examined where more follow.
fn llms(caller: &Caller, query: &AccessQuery) -> (Vec<Name>, Option<Name>) {
    let after = query.llms_after.as_deref().unwrap_or_default();
    let permits = caller.snapshot.permitted_after::<View>(&caller.principal, Kind::Llm, after);
    let names = permits.map(|permit: Permit<View>| permit.resource().name().clone());
    select(names, PAGE_LLMS, |name| contains(name.as_str(), query.llm.as_deref()).then(|| name.clone()))
}

fn accounts(caller: &Caller, query: &AccessQuery, llms: &[Name]) -> (Vec<Row>, Option<Name>) {
    let kind = query.kind.subject_kind();
    let after = query.after.as_deref().unwrap_or_default();
    let names =
        caller.snapshot.all_after(kind.kind(), after).map(|stored: &Arc<Stored>| stored.name().clone());
    select(names, PAGE_ACCOUNTS, |name| {
        if !contains(name.as_str(), query.account.as_deref()) {
            return None;
        }
        let account = Subject { kind, name: name.clone() };
        let disabled = !caller.snapshot.is_active(&account);
        let may = |verb, llm: &Name| {
            caller.snapshot.reason_for(&account, verb, Kind::Llm, Some(llm.as_str())).is_some()
        };
        let cells = cells(llms, may);
        let has_any = cells.iter().any(|cell| cell.allowed.is_some());
        (has_any || !query.granted).then_some(Row { account, disabled, cells })
    })
}

/// The caller's own row: what the credential in use may do.
fn own(caller: &Caller, llms: &[Name]) -> Row {
    let Caller { principal, snapshot, .. } = caller;
    let cells =
        cells(llms, |verb, llm| snapshot.reason(principal, verb, Kind::Llm, Some(llm.as_str())).is_some());
    Row { account: principal.subject.clone(), disabled: false, cells }
}

fn cells(llms: &[Name], may: impl Fn(Verb, &Name) -> bool) -> Vec<Cell> {
    let cell = |llm: &Name| Cell {
        llm: llm.clone(),
        allowed: [Verb::Run, Verb::View].into_iter().find(|verb| may(*verb, llm)),
    };
    llms.iter().map(cell).collect()
}

/// The first items that names give, and the last name that was examined where more follow.
fn select<T>(
    names: impl Iterator<Item = Name>,
    max_items: usize,
    item: impl Fn(&Name) -> Option<T>,
) -> (Vec<T>, Option<Name>) {
    let mut names = names.peekable();
    let (mut items, mut last, mut examined) = (Vec::new(), None, 0);
    while items.len() < max_items && examined < MAX_EXAMINED {
        let Some(name) = names.next() else { break };
        items.extend(item(&name));
        examined += 1;
        last = Some(name);
    }
    let has_more = names.peek().is_some();
    (items, last.filter(|_| has_more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_end_where_nothing_follows() {
        let names = || (0..10).map(|n| format!("n{n}").parse::<Name>().unwrap());
        let even = |name: &Name| name.as_str().ends_with(['0', '2', '4', '6', '8']).then(|| name.clone());
        let (items, last) = select(names(), 3, even);
        assert_eq!((items.len(), last.unwrap().as_str()), (3, "n4"));
        let (items, last) = select(names().skip(5), 3, even);
        assert_eq!((items.len(), last), (2, None));
        let (items, last) = select((0..5000).map(|n| format!("n{n}").parse().unwrap()), 3, |_| None::<()>);
        assert_eq!((items.len(), last.unwrap().as_str()), (0, "n1999"), "the work of a page is bounded");
    }
}
