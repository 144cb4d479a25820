//! A database of either kind, and commits to it.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::sync::Arc;

use jiff::Timestamp;
use mcpctl_access::{Change, Confidential, Stored};
use mcpctl_api::{Id, Resource, Revision, Spec, spec::UserSpec};
use mcpctl_secret::envelope::{Keyring, MasterKey};
use mcpctl_store::{Author, CommitError, Location, RecordedChanges, Store};
use mcpctl_testkit::postgres::Postgres;
use tempfile::TempDir;

/// A database of one kind, its key and its files.
pub struct Database {
    pub location: Location,
    pub key: String,
    pub dir: TempDir,
    pub postgres: Option<Postgres>,
}

impl Database {
    pub fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let location = Location::Sqlite(dir.path().join("mcpd.sqlite"));
        Self { location, key: MasterKey::generate().unwrap().to_text().to_string(), dir, postgres: None }
    }

    pub fn postgres() -> Self {
        let postgres = Postgres::start();
        let location = Location::Postgres(postgres.url());
        Self { location, postgres: Some(postgres), ..Self::sqlite() }
    }

    pub fn keys(&self) -> Arc<Keyring> {
        Arc::new(Keyring::new(MasterKey::from_text(&self.key).unwrap()))
    }

    pub async fn open(&self) -> Store {
        Store::open(&self.location, self.keys()).await.unwrap()
    }

    /// Runs a statement as the owner of the database.
    pub async fn execute(&self, statement: &'static str) {
        use sqlx::Connection as _;
        match &self.location {
            Location::Sqlite(path) => {
                let url = format!("sqlite://{}", path.display());
                let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
                sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
            }
            Location::Postgres(url) => {
                let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
                sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
            }
        }
    }
}

pub fn stored(name: &str, spec: Spec, revision: u64, confidential: Option<Confidential>) -> Arc<Stored> {
    Arc::new(Stored {
        resource: Resource {
            id: Id::mint(),
            name: name.parse().unwrap(),
            labels: Default::default(),
            annotations: [("example.com/note".to_owned(), "two\nlines".to_owned())].into(),
            revision: Revision(revision),
            created_at: "2026-01-01T00:00:00Z".parse().unwrap(),
            updated_at: "2026-01-01T00:00:00Z".parse().unwrap(),
            spec,
        },
        confidential,
    })
}

pub fn user(name: &str, revision: u64) -> Arc<Stored> {
    stored(name, Spec::User(UserSpec::default()), revision, None)
}

pub fn put(name: &str, revision: u64) -> Change {
    Change::Put(user(name, revision))
}

pub fn delete(stored: &Stored, revision: u64) -> Change {
    Change::Delete {
        kind: stored.kind(),
        id: stored.id().clone(),
        name: stored.name().clone(),
        revision: Revision(revision),
    }
}

pub async fn commit(store: &Store, base: u64, changes: Vec<Change>) -> Result<Revision, CommitError> {
    let author = Author { principal: "tester".to_owned(), ..Author::default() };
    store.commit(RecordedChanges::new(Revision(base), author, Timestamp::UNIX_EPOCH, changes)).await
}

/// The same resource at another revision.
pub fn at(stored: &Stored, revision: u64) -> Arc<Stored> {
    let resource = Resource { revision: Revision(revision), ..stored.resource.clone() };
    Arc::new(Stored { resource, confidential: stored.confidential.clone() })
}
