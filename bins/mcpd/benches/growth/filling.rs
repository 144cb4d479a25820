//! Fills a store: resources in batches by the API; tokens, which the API makes one by one, in batches by the store.

use std::{fmt, path::Path, sync::Arc};

use jiff::Timestamp;
use mcpctl_access::{Change, Confidential, Stored};
use mcpctl_api::{
    Id, Name, Resource, Revision, Spec,
    spec::{Subject, SubjectKind, TokenSpec},
};
use mcpctl_store::{Author, Location, RecordedChanges, Store};
use mcpctl_testkit::daemons::Mcpd;
use serde_json::{Value, json};

/// Documents of one apply, and changes of one commit.
const BATCH: usize = 1000;
/// Groups of which each lists as many users.
const MEMBERS: usize = 100;

/// How many there are of each kind.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Of them, and of tokens.
    bindings: usize,
    pub users: usize,
    llms: usize,
}

impl Size {
    /// A hundred bindings for each Llm, and ten for each user.
    pub fn of(bindings: usize) -> Self {
        Self { bindings, users: (bindings / 10).max(MEMBERS), llms: (bindings / 100).max(1) }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bindings, users, llms } = self;
        write!(f, "{llms} Llms, {users} users, {bindings} bindings, {bindings} tokens")
    }
}

/// Everything but tokens.
pub async fn by_api(mcpd: &Mcpd, size: Size, model: &str) {
    let user = |at: usize| json!({"kind": "User", "name": format!("user-{at}")});
    let llm = |at: usize| json!({"kind": "Llm", "name": format!("llm-{at}"), "type": "openai", "url": model, "model": "m"});
    let group = |at: usize| {
        let members: Vec<Value> = (at * MEMBERS..(at + 1) * MEMBERS).map(user).collect();
        json!({"kind": "Group", "name": format!("group-{at}"), "members": members})
    };
    let binding = |at: usize| {
        let subjects = [user(at % size.users)];
        json!({"kind": "RoleBinding", "name": format!("binding-{at}"), "role": "llm-user", "subjects": subjects})
    };
    let (llms, users) = ((0..size.llms).map(llm), (0..size.users).map(user));
    let rest = (0..size.users / MEMBERS).map(group).chain((0..size.bindings).map(binding));
    let documents: Vec<Value> = llms.chain(users).chain(rest).collect();
    for batch in documents.chunks(BATCH) {
        mcpd.apply(Value::Array(batch.to_vec())).await;
    }
}

/// The users that own tokens, and the administrator who makes them.
pub struct Owners {
    users: Vec<(Name, Id)>,
    admin: Id,
    revision: Revision,
}

/// Reads them from a running mcpd, page by page.
pub async fn owners(mcpd: &Mcpd) -> Owners {
    let (mut users, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/v1/users?limit={BATCH}{after}");
        let page: Value = mcpd.get(&path, &mcpd.admin()).await.json().await.unwrap();
        for item in page["items"].as_array().unwrap() {
            let text = |key: &str| item[key].as_str().unwrap().to_owned();
            users.push((text("name").parse::<Name>().unwrap(), text("id").parse::<Id>().unwrap()));
        }
        let Some(next) = page["next"].as_str() else {
            let at = users.iter().position(|(name, _)| name.as_str() == "admin").unwrap();
            let revision = Revision(page["revision"].as_u64().unwrap());
            let (_, admin) = users.remove(at);
            return Owners { users, admin, revision };
        };
        after = format!("&after={next}");
    }
}

/// Adds tokens to the store of an mcpd that does not run.
pub async fn tokens(data_dir: &Path, database_url: Option<&str>, size: Size, owners: &Owners) {
    let location = match database_url {
        None => Location::Sqlite(data_dir.join("mcpd.sqlite")),
        Some(url) => Location::Postgres(url.to_owned()),
    };
    let store = Store::open_with_key_file(&location, &data_dir.join("master-key")).await.unwrap();
    let mut revision = owners.revision;
    let all: Vec<usize> = (0..size.bindings).collect();
    for batch in all.chunks(BATCH) {
        let changes: Vec<Change> =
            batch.iter().zip(revision.0 + 1..).map(|(at, revision)| token(*at, revision, owners)).collect();
        let author = Author { principal: "User admin".to_owned(), ..Author::default() };
        let changes = RecordedChanges::new(revision, author, Timestamp::now(), changes);
        revision = store.commit(changes).await.unwrap();
    }
}

fn token(at: usize, revision: u64, owners: &Owners) -> Change {
    let (name, id) = &owners.users[at % owners.users.len()];
    let spec = TokenSpec {
        subject: Subject { kind: SubjectKind::User, name: name.clone() },
        subject_id: id.clone(),
        expires_at: Timestamp::MAX,
        session: false,
        origin: None,
        rotated_from: None,
        begun_with: None,
        prefix: None,
        issued_by: vec![owners.admin.clone()],
        rules: None,
    };
    let resource = Resource {
        id: Id::mint(),
        name: format!("token-{at}").parse().unwrap(),
        labels: Default::default(),
        annotations: Default::default(),
        revision: Revision(revision),
        created_at: Timestamp::now(),
        updated_at: Timestamp::now(),
        spec: Spec::Token(spec),
    };
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&(at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    Change::Put(Arc::new(Stored { resource, confidential: Some(Confidential::TokenHash(hash)) }))
}
