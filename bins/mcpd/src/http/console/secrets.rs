//! Secrets: which Llms use each, and forms that write values. No page ever has a value.

use std::{collections::BTreeMap, sync::Arc};

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use mcpctl_access::{Permit, Snapshot, Stored, verb::View};
use mcpctl_api::{
    Document, Id, Kind, Name, Revision, Spec, Verb,
    error::ErrorBody,
    spec::{SecretSpec, SecretValue},
};
use serde::Deserialize;
use serde_json::json;

use super::{
    super::{error::HttpError, path::Path, query::Query, resources, viewed::viewed},
    fields::{self, Pages, address, items},
    form::{self, Form},
    frame::{Frame, Section},
    page, text,
    visit::Visit,
};
use crate::{
    app::App,
    caller::Caller,
    commit::{WriteOptions, commit},
    writes::Intent,
};

/// The page.
const PATH: &str = "/console/secrets";
/// Secrets of one page.
const PAGE_ITEMS: usize = 100;

/// The query of the page.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecretsQuery {
    after: Option<Name>,
}

#[derive(Template)]
#[template(path = "secrets.html")]
struct SecretsPage {
    frame: Frame,
    rows: Vec<SecretRow>,
    pages: Pages,
    may_create: bool,
    form: NewSecretForm,
    error: Option<ErrorBody>,
}

struct SecretRow {
    stored: Arc<Stored>,
    users: Vec<KeyUser>,
}

/// An Llm that refers to a secret.
#[derive(Clone)]
struct KeyUser {
    llm: Name,
    key: String,
    /// Whether the value is sent: the reference is in force.
    in_force: bool,
}

impl SecretRow {
    fn spec(&self) -> Option<&SecretSpec> {
        match &self.stored.resource.spec {
            Spec::Secret(spec) => Some(spec),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&String> {
        self.spec().into_iter().flat_map(|spec| spec.data.keys()).collect()
    }

    fn hosts(&self) -> Vec<String> {
        self.spec().into_iter().flat_map(|spec| &spec.hosts).map(ToString::to_string).collect()
    }
}

/// The Llms that the caller may view, by the secrets that they refer to.
fn users(caller: &Caller) -> BTreeMap<Name, Vec<KeyUser>> {
    let mut users: BTreeMap<Name, Vec<KeyUser>> = BTreeMap::new();
    let Caller { principal, snapshot, .. } = caller;
    let llms = snapshot.permitted_after::<View>(principal, Kind::Llm, "").map(Permit::into_resource);
    for stored in llms {
        let Spec::Llm(llm) = &stored.resource.spec else { continue };
        for upstream in llm.upstreams() {
            let Some(key) = upstream.api_key else { continue };
            let in_force = matches!(snapshot.attached_secret(&upstream), Some(Ok(_)));
            let user = KeyUser { llm: stored.name().clone(), key: key.key.clone(), in_force };
            let known = users.entry(key.secret.clone()).or_default();
            if !known.iter().any(|other| (&other.llm, &other.key) == (&user.llm, &user.key)) {
                known.push(user);
            }
        }
    }
    users
}

/// Shows the list.
pub async fn page(visit: Visit, caller: Caller, query: Query<SecretsQuery>) -> Result<Response, HttpError> {
    page::show(StatusCode::OK, &list(&visit, &caller, query.0))
}

/// The page with an empty form.
fn list(visit: &Visit, caller: &Caller, SecretsQuery { after }: SecretsQuery) -> SecretsPage {
    let mut users = users(caller);
    let Caller { principal, snapshot, .. } = caller;
    let from = after.as_ref().map_or("", Name::as_str);
    let mut permits = snapshot.permitted_after::<View>(principal, Kind::Secret, from);
    let rows: Vec<SecretRow> = permits
        .by_ref()
        .take(PAGE_ITEMS)
        .map(Permit::into_resource)
        .map(|stored| SecretRow { users: users.remove(stored.name()).unwrap_or_default(), stored })
        .collect();
    let next = rows.last().filter(|_| permits.next().is_some()).map(|row| row.stored.name().clone());
    let next = next.map(|last| address(PATH, &[("after", Some(last.to_string()))]));
    SecretsPage {
        frame: Frame::new(visit, Some(Section::Secrets), Section::Secrets.label()),
        rows,
        pages: Pages { start: after.as_ref().map(|_| PATH.to_owned()), next },
        may_create: may_create(snapshot, caller),
        form: NewSecretForm::default(),
        error: None,
    }
}

fn may_create(snapshot: &Snapshot, caller: &Caller) -> bool {
    snapshot.reason(&caller.principal, Verb::Create, Kind::Secret, None).is_some()
}

/// The form of a new secret. Where it is shown again, its value is not.
#[derive(Deserialize)]
pub struct NewSecretForm {
    name: String,
    key: String,
    value: SecretValue,
    #[serde(default)]
    hosts: String,
    #[serde(default)]
    description: String,
}

impl Default for NewSecretForm {
    fn default() -> Self {
        let [name, hosts, description] = [const { String::new() }; 3];
        Self { name, key: "token".to_owned(), value: SecretValue::new(""), hosts, description }
    }
}

impl NewSecretForm {
    /// The secret's name, and the write that makes it.
    fn intent(&self) -> Result<(Name, Intent), HttpError> {
        let name = fields::name(self.name.trim(), self.name.trim())?;
        let hosts: Vec<&str> = items(&self.hosts).collect();
        let mut document = json!({
            "kind": Kind::Secret, "name": name, "data": {&self.key: self.value.expose().trim()}, "hosts": hosts,
        });
        if let (false, Some(document)) = (self.description.trim().is_empty(), document.as_object_mut()) {
            document.insert("description".to_owned(), self.description.trim().into());
        }
        let document = serde_json::to_vec(&document).map_err(|_| HttpError::internal())?;
        Ok((name, Intent::Create(Document::from_json_as(Kind::Secret, &document)?.into())))
    }
}

/// Makes a secret; shows the form again where it cannot.
pub async fn create(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    Form(form): Form<NewSecretForm>,
) -> Result<Response, HttpError> {
    let made = async {
        let (name, intent) = form.intent()?;
        let plan = Box::pin(commit(&app, caller.clone(), vec![intent], WriteOptions::default())).await;
        Ok::<_, HttpError>((name, plan.map_err(|error| error.cause)?))
    };
    match made.await {
        Ok((name, plan)) => {
            let text = format!("The secret {name} is stored.");
            show_after(&app, &visit, &caller, &name, Written { text, warnings: plan.warnings }).await
        }
        Err(error) if !may_create(&caller.snapshot, &caller) => Err(error),
        Err(error) => {
            let page = list(&visit, &caller, SecretsQuery::default());
            let page = SecretsPage { form, error: Some(error.body().clone()), ..page };
            page::refused(error, &page)
        }
    }
}

/// What a form did.
struct Written {
    text: String,
    warnings: Vec<String>,
}

#[derive(Template)]
#[template(path = "secret.html")]
struct SecretPage {
    frame: Frame,
    row: SecretRow,
    may_edit: bool,
    written: Option<Written>,
    /// What the form has of the key and of the check.
    key: String,
    unchecked: bool,
    error: Option<ErrorBody>,
}

/// Shows one secret, with the form that writes a value.
pub async fn one(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Response, HttpError> {
    page::show(StatusCode::OK, &of_secret(&app, &visit, &caller, &name).await?)
}

/// The page with a form in which its first key is chosen.
async fn of_secret(app: &App, visit: &Visit, caller: &Caller, name: &str) -> Result<SecretPage, HttpError> {
    let stored = viewed(app, caller, Kind::Secret, name).await?;
    let users = users(caller).remove(stored.name()).unwrap_or_default();
    let frame = Frame::new(visit, Some(Section::Secrets), stored.name().to_string());
    let Caller { principal, snapshot, .. } = caller;
    let may_edit =
        snapshot.authorize_name(principal, Verb::Edit, Kind::Secret, stored.name().as_str()).is_ok();
    let row = SecretRow { stored, users };
    let key = row.keys().first().map(ToString::to_string).unwrap_or_default();
    Ok(SecretPage { frame, row, may_edit, written: None, key, unchecked: false, error: None })
}

/// Shows a secret that was written, to a caller who may view it; to another the list.
async fn show_after(
    app: &App,
    visit: &Visit,
    caller: &Caller,
    name: &Name,
    written: Written,
) -> Result<Response, HttpError> {
    let caller = app.authenticate(caller.bearer()).await?;
    if caller.snapshot.authorize_name(&caller.principal, Verb::View, Kind::Secret, name.as_str()).is_ok() {
        let page = of_secret(app, visit, &caller, name.as_str()).await?;
        return page::show(StatusCode::OK, &SecretPage { written: Some(written), ..page });
    }
    page(visit.clone(), caller, Query(SecretsQuery::default())).await
}

/// The form of a value.
#[derive(Deserialize)]
pub struct ValueForm {
    key: String,
    value: SecretValue,
    secret_id: Id,
    revision: u64,
    #[serde(default)]
    unchecked: bool,
}

/// Writes the value of one key; all others stay. Shows the form again where it cannot.
pub async fn set(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    Path(name): Path<String>,
    Form(form): Form<ValueForm>,
) -> Result<Response, HttpError> {
    let written = Box::pin(write(&app, &caller, &name, &form)).await;
    match written {
        Ok((name, written)) => show_after(&app, &visit, &caller, &name, written).await,
        Err(error) => match of_secret(&app, &visit, &app.authenticate(caller.bearer()).await?, &name).await {
            Ok(page) if page.may_edit => {
                let ValueForm { key, unchecked, .. } = form;
                let page = SecretPage { key, unchecked, error: Some(error.body().clone()), ..page };
                page::refused(error, &page)
            }
            _ => Err(error),
        },
    }
}

async fn write(
    app: &Arc<App>,
    caller: &Caller,
    name: &str,
    form: &ValueForm,
) -> Result<(Name, Written), HttpError> {
    let current = resources::editable(app, caller, Kind::Secret, name).await?;
    // Another secret of this name, since the page was made, is not the one that is meant.
    let target = form.secret_id.to_string();
    let patch = json!({"data": {&form.key: form.value.expose().trim()}});
    let intent = resources::merged(&current, target, patch, Revision(form.revision))?;
    let options = WriteOptions { skip_check: form.unchecked, ..WriteOptions::default() };
    let plan = commit(app, caller.clone(), vec![intent], options).await.map_err(|error| error.cause)?;
    let text = format!("The value of {} is stored; the next request uses it.", form.key);
    Ok((current.name().clone(), Written { text, warnings: plan.warnings }))
}
