//! What an acknowledged transaction survives; `docs/explanation/durability.md` has it for operators.

use serde::Deserialize;

/// What a transaction survives once it is acknowledged. Every one survives the death of mcpd by any signal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Durability {
    /// mcpd's death. A power cut loses what was acknowledged in the last milliseconds.
    #[default]
    Crash,
    /// A power cut too: the disk has it before it is acknowledged.
    PowerCut,
}

/// The statement that begins a write transaction of this durability.
pub(crate) const fn begin_postgres(durability: Durability) -> &'static str {
    match durability {
        Durability::PowerCut => "BEGIN",
        // The server has it when it is acknowledged, and its disk within three times `wal_writer_delay`.
        Durability::Crash => "BEGIN; SET LOCAL synchronous_commit = off",
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Connection as _;

    use super::*;

    #[tokio::test]
    async fn only_strict_transactions_wait_for_the_disk_of_postgres() {
        let postgres = mcpctl_testkit::postgres::Postgres::start();
        let mut connection = sqlx::PgConnection::connect(&postgres.url()).await.unwrap();
        for (durability, expected) in [(Durability::PowerCut, "on"), (Durability::Crash, "off")] {
            sqlx::raw_sql(begin_postgres(durability)).execute(&mut connection).await.unwrap();
            let waits: String =
                sqlx::query_scalar("SHOW synchronous_commit").fetch_one(&mut connection).await.unwrap();
            assert_eq!(waits, expected, "{durability:?}");
            sqlx::raw_sql("COMMIT").execute(&mut connection).await.unwrap();
        }
    }
}
