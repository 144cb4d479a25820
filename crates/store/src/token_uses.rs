//! When tokens were last used. Not part of the resources: a use makes no revision.

use std::collections::HashMap;

use jiff::Timestamp;
use mcpctl_api::{Id, Kind};
use sqlx::{QueryBuilder, Row as _};

use crate::{
    database::{Store, read_connection, write_transaction_of},
    durability::Durability,
    error::StoreError,
};

/// Tokens that one statement asks for.
const MAX_ASKED: usize = 500;

impl Store {
    /// Records uses of tokens, all or none; a time that is earlier than the recorded one changes nothing.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn record_token_uses(&self, uses: &HashMap<Id, Timestamp>) -> Result<(), StoreError> {
        // All replicas lock rows in the same order, so that they never deadlock.
        let mut uses: Vec<_> = uses.iter().collect();
        uses.sort_unstable();
        write_transaction_of!(&self.database, Durability::Crash, transaction => {
            for (token, at) in uses {
                sqlx::query(
                    "INSERT INTO token_uses (token_id, used_at) VALUES ($1, $2) \
                     ON CONFLICT (token_id) DO UPDATE SET used_at = \
                     CASE WHEN excluded.used_at > token_uses.used_at THEN excluded.used_at ELSE token_uses.used_at END",
                )
                .bind(token.as_str())
                .bind(at.as_microsecond())
                .execute(&mut *transaction)
                .await?;
            }
        });
        Ok(())
    }

    /// When each token that was ever used was last used.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn token_uses(&self) -> Result<HashMap<Id, Timestamp>, StoreError> {
        read_connection!(&self.database, connection => {
            let rows = sqlx::query("SELECT token_id, used_at FROM token_uses").fetch_all(&mut *connection).await?;
            let mut uses = HashMap::with_capacity(rows.len());
            for row in &rows {
                let token: String = row.try_get("token_id")?;
                let used_at = Timestamp::from_microsecond(row.try_get("used_at")?);
                if let (Ok(token), Ok(used_at)) = (token.parse::<Id>(), used_at) {
                    uses.insert(token, used_at);
                }
            }
            Ok(uses)
        })
    }

    /// As [`Store::token_uses`], of these tokens alone.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn token_uses_of(&self, tokens: &[Id]) -> Result<HashMap<Id, Timestamp>, StoreError> {
        let mut uses = HashMap::with_capacity(tokens.len());
        for tokens in tokens.chunks(MAX_ASKED) {
            read_connection!(&self.database, connection => {
                let mut query = QueryBuilder::new("SELECT token_id, used_at FROM token_uses WHERE token_id IN (");
                let mut list = query.separated(", ");
                for token in tokens {
                    list.push_bind(token.to_string());
                }
                query.push(")");
                for row in &query.build().fetch_all(&mut *connection).await? {
                    let token: String = row.try_get("token_id")?;
                    let used_at = Timestamp::from_microsecond(row.try_get("used_at")?);
                    if let (Ok(token), Ok(used_at)) = (token.parse::<Id>(), used_at) {
                        uses.insert(token, used_at);
                    }
                }
            });
        }
        Ok(uses)
    }

    /// Removes at most `limit` rows of tokens that no longer exist, and returns how many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn prune_token_uses(&self, limit: u32) -> Result<u64, StoreError> {
        Ok(write_transaction_of!(&self.database, Durability::Crash, transaction => {
            sqlx::query(
                "DELETE FROM token_uses WHERE token_id IN (SELECT token_id FROM token_uses \
                 WHERE token_id NOT IN (SELECT id FROM resources WHERE kind = $1) LIMIT $2)",
            )
            .bind(Kind::Token.singular())
            .bind(i64::from(limit))
            .execute(&mut *transaction)
            .await?
            .rows_affected()
        }))
    }
}
