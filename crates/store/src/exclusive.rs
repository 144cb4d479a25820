//! A PostgreSQL database that one command has to itself, as `mcpd migrate`. A command and a running mcpd see each other: the command takes
//! a lock and then looks for connections of mcpd; an mcpd that opens the database has a connection and then looks for the lock. The
//! lock is of a transaction, so that it holds behind a pooler too.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use tokio::time::{Instant, sleep};

/// What the connections of an mcpd are called in `pg_stat_activity`.
pub(crate) const APPLICATION_NAME: &str = "mcpd";
/// What the one that listens for changes is called.
pub(crate) const LISTENER_NAME: &str = "mcpd listens";
/// The advisory lock: `mcpdkeep` in ASCII.
const LOCK: i64 = 0x6d63_7064_6b65_6570;
/// How long connections of an mcpd that has just ended may last.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often they are looked for meanwhile.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Whether a command has the database to itself now.
pub(crate) async fn is_reserved(pool: &PgPool) -> Result<bool, sqlx::Error> {
    let is_free: bool =
        sqlx::query_scalar("SELECT pg_try_advisory_xact_lock_shared($1)").bind(LOCK).fetch_one(pool).await?;
    Ok(!is_free)
}

/// Takes the database for the rest of the transaction; `false` where another command has it.
pub(crate) async fn reserve(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let start = Instant::now();
    loop {
        let taken: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)")
            .bind(LOCK)
            .fetch_one(&mut *connection)
            .await?;
        // An mcpd that looks for the lock holds it for that moment.
        if taken || start.elapsed() >= LINGER_TIMEOUT {
            return Ok(taken);
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// How many connections of a running mcpd there are.
pub(crate) async fn connections(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    let start = Instant::now();
    loop {
        // A transaction sees the connections of its first look otherwise.
        sqlx::raw_sql("SELECT pg_stat_clear_snapshot()").execute(&mut *connection).await?;
        let count: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM pg_stat_activity \
             WHERE datname = current_database() AND application_name IN ($1, $2)",
        )
        .bind(APPLICATION_NAME)
        .bind(LISTENER_NAME)
        .fetch_one(&mut *connection)
        .await?;
        if count == 0 || start.elapsed() >= LINGER_TIMEOUT {
            return Ok(count);
        }
        sleep(POLL_INTERVAL).await;
    }
}
