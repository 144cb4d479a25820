//! Revokes a right: a binding, or an account's place in it or in a group. It is committed only while the binding or group is as it was
//! shown.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use mcpctl_access::Stored;
use mcpctl_api::{Document, Kind, Name, Revision, Spec, Verb, spec::Subject};
use serde::Deserialize;

use super::{
    super::{
        error::HttpError,
        query::{self, Query},
        rights,
        viewed::viewed,
    },
    confirmation::{self, Confirmation},
    fields::{address, given},
    form::Form,
    frame::Section,
    links::{self, Link},
    visit::Visit,
};
use crate::{app::App, caller::Caller, consequences::Direction, writes::Intent};

/// The page.
const PATH: &str = "/console/access/revoke";

/// What is revoked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeQuery {
    binding: Name,
    #[serde(default, deserialize_with = "given")]
    subject: Option<String>,
    #[serde(default, deserialize_with = "given")]
    group: Option<Name>,
    #[serde(default)]
    way: Option<Way>,
}

/// How it is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Way {
    /// The account leaves the group by which it has the binding.
    Member,
    /// The binding no longer names the account.
    Subject,
    /// The binding is deleted.
    Binding,
}

impl Way {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Subject => "subject",
            Self::Binding => "binding",
        }
    }
}

/// A change that revokes, as of the snapshot of its caller.
struct Revocation {
    way: Way,
    binding: Name,
    account: Option<Subject>,
    group: Option<Name>,
    /// Whether the binding names the account and no other subject, so that without it the binding is deleted.
    is_sole: bool,
    /// What is changed or deleted.
    changed: Arc<Stored>,
}

impl Revocation {
    /// Reads which one is meant, for a caller who may view accounts and their rights.
    async fn find(app: &App, caller: &Caller, query: &RevokeQuery) -> Result<Self, HttpError> {
        rights::may_view_rights(caller)?;
        let binding = viewed(app, caller, Kind::RoleBinding, query.binding.as_str()).await?;
        let account = query.subject.as_deref().map(query::account).transpose()?;
        let is_sole = matches!(&binding.resource.spec, Spec::RoleBinding(spec)
            if account.as_ref().is_some_and(|account| spec.subjects.iter().all(|subject| subject == account)));
        let way = query.way.unwrap_or(match (&account, &query.group) {
            (Some(_), Some(_)) => Way::Member,
            (Some(_), None) => Way::Subject,
            (None, _) => Way::Binding,
        });
        let way = if way == Way::Subject && is_sole { Way::Binding } else { way };
        let changed = match (way, &query.group) {
            (Way::Member, Some(group)) => viewed(app, caller, Kind::Group, group.as_str()).await?,
            (Way::Member, None) => return Err(HttpError::invalid("group", "a group is missing")),
            _ => Arc::clone(&binding),
        };
        if way != Way::Binding && account.is_none() {
            return Err(HttpError::invalid("subject", "an account is missing"));
        }
        Ok(Self {
            way,
            binding: binding.name().clone(),
            account,
            group: query.group.clone(),
            is_sole,
            changed,
        })
    }

    /// The change, if what it is about still has this revision.
    fn intent(&self, expected: Revision) -> Result<Intent, HttpError> {
        let (kind, target) = (self.changed.kind(), self.changed.name().to_string());
        let delete = Intent::Delete { kind, target: target.clone(), expected: Some(expected) };
        let mut document: Document = self.changed.resource.to_document();
        let left = match (&mut document.spec, &self.account) {
            (_, _) if self.way == Way::Binding => return Ok(delete),
            (Spec::RoleBinding(binding), Some(account)) => without(&mut binding.subjects, account),
            (Spec::Group(group), Some(account)) => without(&mut group.members, account),
            _ => None,
        };
        match left {
            None => Err(HttpError::invalid("subject", self.not_named()).hint(
                "a claim of its sign-in may make it a member: take it out of the group at the OpenID provider, or delete the binding",
            )),
            // A binding has at least one subject.
            Some(0) if kind == Kind::RoleBinding => Ok(delete),
            Some(_) => Ok(Intent::Replace { target, write: document.into(), expected: Some(expected) }),
        }
    }

    fn not_named(&self) -> String {
        let account = self.account.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{} `{}` does not name {account}", self.changed.kind(), self.changed.name())
    }

    fn title(&self, way: Way) -> String {
        let account = self.account.as_ref().map(|account| account.name.to_string()).unwrap_or_default();
        match (way, &self.group) {
            (Way::Member, Some(group)) => format!("Take {account} out of the group {group}"),
            (Way::Subject, _) => format!("Take {account} out of the binding {}", self.binding),
            _ => format!("Delete the binding {}", self.binding),
        }
    }

    fn fields(&self, way: Way) -> [(&'static str, Option<String>); 4] {
        [
            ("binding", Some(self.binding.to_string())),
            ("subject", self.account.as_ref().map(Subject::path)),
            ("group", self.group.as_ref().map(ToString::to_string)),
            ("way", Some(way.as_str().to_owned())),
        ]
    }

    /// The page that it is left to.
    fn back(&self) -> String {
        self.account.as_ref().map_or_else(|| "/console/access".to_owned(), links::person)
    }

    /// The other ways to revoke, each with its page.
    fn others(&self) -> Vec<Link> {
        let member = self.group.is_some() && self.account.is_some();
        let ways = [
            (Way::Member, member),
            (Way::Subject, self.account.is_some() && !member && !self.is_sole),
            (Way::Binding, true),
        ];
        let others = ways.into_iter().filter(|(way, is_there)| *is_there && *way != self.way);
        let page = |(way, _)| Link { title: self.title(way), address: address(PATH, &self.fields(way)) };
        others.map(page).collect()
    }
}

/// Takes an account out of a list; returns how many are left, or `None` where it is not in it.
fn without(list: &mut Vec<Subject>, account: &Subject) -> Option<usize> {
    let before = list.len();
    list.retain(|listed| listed != account);
    (list.len() < before).then_some(list.len())
}

/// The page of a revocation, for a caller who may make one of those that it leads to.
pub fn offered(
    caller: &Caller,
    binding: &Name,
    account: Option<&Subject>,
    group: Option<&Name>,
) -> Option<String> {
    let Caller { principal, snapshot, .. } = caller;
    let may = |verb, kind, name: &Name| snapshot.authorize_name(principal, verb, kind, name.as_str()).is_ok();
    let may_revoke = rights::may_view_rights(caller).is_ok()
        && (may(Verb::Delete, Kind::RoleBinding, binding)
            || may(Verb::Edit, Kind::RoleBinding, binding)
            || group.is_some_and(|group| may(Verb::Edit, Kind::Group, group)));
    may_revoke.then(|| links::revoke(binding, account, group))
}

/// Shows what a revocation does.
pub async fn page(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    query: Query<RevokeQuery>,
) -> Result<Response, HttpError> {
    let revocation = Revocation::find(&app, &caller, &query.0).await?;
    let revision = revocation.changed.resource.revision;
    let fields = revocation.fields(revocation.way).into_iter();
    let fields = fields.filter_map(|(name, value)| Some((name, value?)));
    let confirmation = Confirmation {
        section: Section::Access,
        above: Section::Access.link(),
        title: revocation.title(revocation.way),
        notes: match revocation.is_sole && revocation.way == Way::Binding {
            true => vec!["The account is the only one that the binding names.".to_owned()],
            false => Vec::new(),
        },
        direction: Direction::Loss,
        shows_rights: true,
        action: PATH.to_owned(),
        fields: fields.chain([("expected", revision.to_string())]).collect(),
        back: revocation.back(),
        others: revocation.others(),
    };
    let intents = vec![revocation.intent(revision)?];
    confirmation::show(&app, &visit, &caller, intents, confirmation).await
}

/// The form that confirms it: what the address of its page has, and what was shown.
#[derive(Deserialize)]
pub struct RevokeForm {
    binding: Name,
    #[serde(default, deserialize_with = "given")]
    subject: Option<String>,
    #[serde(default, deserialize_with = "given")]
    group: Option<Name>,
    way: Way,
    expected: u64,
}

/// Revokes.
pub async fn revoke(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    Form(form): Form<RevokeForm>,
) -> Result<Response, HttpError> {
    let RevokeForm { binding, subject, group, way, expected } = form;
    let query = RevokeQuery { binding, subject, group, way: Some(way) };
    let revocation = Revocation::find(&app, &caller, &query).await?;
    let intent = revocation.intent(Revision(expected))?;
    confirmation::make(&app, &visit, caller, vec![intent], &revocation.back()).await
}
