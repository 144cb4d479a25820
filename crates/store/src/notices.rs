//! Notices of new revisions, for [`crate::Replica`]. On PostgreSQL every commit notifies the other replicas in its own
//! transaction, and one connection listens; the current revision is polled besides. A notice that is lost costs time
//! alone: it is only a reason to read the store.

use std::time::Duration;

use mcpctl_api::Revision;
use sqlx::{
    PgPool,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    connection::Transaction,
    database::{Database, Store},
    error::StoreError,
    exclusive::LISTENER_NAME,
};

/// The channel of PostgreSQL's notifications. The payload is the revision.
const CHANNEL: &str = "mcpctl_revision";
/// The payload in place of a revision when the signing keys were rotated.
const KEYS_ROTATED: &str = "keys";
/// How often the revision is polled while nothing announces it.
pub const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// The same while notifications do not arrive: the other replicas are of an older version, or a pooler swallows them.
const SHORT_POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How long to wait before the next connection, when one was lost.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);
/// How long the listening connection may take to answer before it counts as lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// What is known of the store's revision.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Notice {
    /// A commit announced this revision.
    Announced(Revision),
    /// The store was at this revision, by a read that began then.
    Read(Revision, Instant),
}

/// Announces to the other replicas what a transaction commits.
pub(crate) trait Announce {
    async fn announce(&mut self, revision: Revision) -> Result<(), sqlx::Error>;

    /// Announces that the signing keys were rotated.
    async fn announce_keys(&mut self) -> Result<(), sqlx::Error>;
}

impl Announce for Transaction<sqlx::Sqlite> {
    /// SQLite has one replica.
    async fn announce(&mut self, _revision: Revision) -> Result<(), sqlx::Error> {
        Ok(())
    }

    async fn announce_keys(&mut self) -> Result<(), sqlx::Error> {
        Ok(())
    }
}

impl Announce for Transaction<sqlx::Postgres> {
    async fn announce(&mut self, revision: Revision) -> Result<(), sqlx::Error> {
        notify(self, &revision.to_string()).await
    }

    async fn announce_keys(&mut self) -> Result<(), sqlx::Error> {
        notify(self, KEYS_ROTATED).await
    }
}

async fn notify(transaction: &mut Transaction<sqlx::Postgres>, payload: &str) -> Result<(), sqlx::Error> {
    let notify = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(payload);
    notify.execute(&mut **transaction).await.map(drop)
}

/// Sends notices until no one receives them.
pub(crate) async fn follow(store: Store, notices: watch::Sender<Notice>) {
    let following = async {
        match &store.database {
            Database::Sqlite(_) => poll(&store, &notices).await,
            Database::Postgres(pool) => keep_listening(&store, pool, &notices).await,
        }
    };
    tokio::select! {
        () = notices.closed() => {}
        () = following => {}
    }
}

/// Commits of this process are announced within it; other programs write to the file seldom, as `mcpd bootstrap-token` does.
async fn poll(store: &Store, notices: &watch::Sender<Notice>) {
    loop {
        sleep(POLL_INTERVAL).await;
        read(store, notices).await;
    }
}

async fn read(store: &Store, notices: &watch::Sender<Notice>) {
    let began = Instant::now();
    // Without an answer there is nothing to send: how old the last one is shows in `Replica::confirmed_at`.
    if let Ok(Ok(revision)) = timeout(ANSWER_TIMEOUT, store.current_revision()).await {
        notices.send_replace(Notice::Read(revision, began));
    }
}

async fn keep_listening(store: &Store, pool: &PgPool, notices: &watch::Sender<Notice>) {
    let mut lost = false;
    loop {
        match Listening::begin(pool).await {
            Ok(mut listening) => {
                if lost {
                    tracing::info!("the connection that listens for changes is back");
                }
                lost = false;
                let error = listening.run(store, notices).await;
                tracing::debug!(?error, "the connection that listens for changes ended");
            }
            Err(error) if !lost => {
                lost = true;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "no connection listens for changes of other replicas: they are polled"
                );
            }
            Err(_) => {}
        }
        read(store, notices).await;
        sleep(RECONNECT_INTERVAL).await;
    }
}

/// A connection that listens.
struct Listening {
    listener: PgListener,
    /// The last revision that was announced or read.
    known: Revision,
    poll_interval: Duration,
}

impl Listening {
    async fn begin(pool: &PgPool) -> Result<Self, StoreError> {
        // A connection of its own: the pool's are for requests.
        let own = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(ANSWER_TIMEOUT)
            .connect_lazy_with(pool.connect_options().as_ref().clone().application_name(LISTENER_NAME));
        let mut listener = PgListener::connect_with(&own).await?;
        // A connection that is lost is made anew here, so that what was announced meanwhile is read.
        listener.eager_reconnect(false);
        answered(listener.listen(CHANNEL)).await?;
        Ok(Self { listener, known: Revision::default(), poll_interval: POLL_INTERVAL })
    }

    /// Sends notices until the connection is lost.
    async fn run(&mut self, store: &Store, notices: &watch::Sender<Notice>) -> Result<(), StoreError> {
        // After the listening has begun, so that every commit is either read or announced.
        let mut polled = self.poll(notices).await?;
        loop {
            tokio::select! {
                announced = self.listener.try_recv() => {
                    let Some(announced) = announced? else { return Ok(()) };
                    self.poll_interval = POLL_INTERVAL;
                    if announced.payload() == KEYS_ROTATED {
                        store.announce_rotation();
                        continue;
                    }
                    // An unreadable one is a reason to read, too: no revision is the greatest.
                    self.known = Revision(announced.payload().parse().unwrap_or(u64::MAX));
                    notices.send_replace(Notice::Announced(self.known));
                }
                () = sleep_until(polled + self.poll_interval) => {
                    let known = self.known;
                    polled = self.poll(notices).await?;
                    if self.known != known {
                        self.poll_interval = SHORT_POLL_INTERVAL;
                    }
                }
            }
        }
    }

    /// Reads the revision on the listening connection itself, which shows that it still works.
    async fn poll(&mut self, notices: &watch::Sender<Notice>) -> Result<Instant, StoreError> {
        let began = Instant::now();
        let read = sqlx::query_scalar("SELECT current FROM revision").fetch_one(&mut self.listener);
        let current: i64 = answered(read).await?;
        self.known = Revision(current.unsigned_abs());
        notices.send_replace(Notice::Read(self.known, began));
        Ok(began)
    }
}

async fn answered<T>(answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
    match timeout(ANSWER_TIMEOUT, answer).await {
        Ok(answered) => Ok(answered?),
        Err(_) => Err(StoreError::NoAnswer(ANSWER_TIMEOUT.as_secs())),
    }
}
