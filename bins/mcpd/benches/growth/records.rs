//! Tables of audit and usage with many rows, and requests beside them.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use mcpctl_testkit::daemons::Mcpd;
use serde_json::Value;
use sqlx::{Connection as _, Executor as _, PgConnection, SqliteConnection};

use crate::{reads, table::Table};

/// How far back the rows reach: less than records are kept.
const SPAN: SignedDuration = SignedDuration::from_hours(24 * 20);
const PAGE_TARGET: Duration = Duration::from_millis(50);

/// Adds so many rows to each table of an mcpd that does not run.
pub async fn fill(data_dir: &Path, database_url: Option<&str>, rows: usize, users: usize) {
    let begins = Timestamp::now() - SPAN;
    let step = SPAN.as_micros() / rows as i128;
    let at = format!("{} + i * {step}", begins.as_microsecond());
    match database_url {
        None => {
            let url = format!("sqlite://{}", data_dir.join("mcpd.sqlite").display());
            let mut connection = SqliteConnection::connect(&url).await.unwrap();
            let numbers = format!(
                "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {rows})"
            );
            let id = |part: u8| format!("printf('00000000-0000-7000-8{part:03}-%012x', i)");
            connection.execute("PRAGMA cache_size = -1000000; PRAGMA synchronous = OFF").await.unwrap();
            for text in inserts(&id, &at, users) {
                let text = sqlx::AssertSqlSafe(format!("{numbers} {text} FROM n"));
                sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
            }
            sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
        Some(url) => {
            let mut connection = PgConnection::connect(url).await.unwrap();
            let id = |part: u8| format!("'00000000-0000-7000-8{part:03}-' || lpad(to_hex(i), 12, '0')");
            for text in inserts(&id, &at, users) {
                let text =
                    sqlx::AssertSqlSafe(format!("{text} FROM generate_series(0::bigint, {rows} - 1) AS i"));
                sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
            }
            sqlx::raw_sql("VACUUM ANALYZE").execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
    }
}

/// The beginnings of two statements, which take a number `i` from what follows.
fn inserts(id: &dyn Fn(u8) -> String, at: &str, users: usize) -> [String; 2] {
    let (record, request) = (id(0), id(1));
    // As long as an id is.
    let account = format!("'c000000000000000000' || (100000 + i % {users})");
    let llm = format!("'c{:024}'", 0);
    [
        format!(
            "INSERT INTO audit (id, at, principal, principal_id, token_id, action, kind, resource_id, resource_name, decision, \
             reason, revision, request_id) SELECT {record}, {at}, 'User user-' || (i % {users}), {account}, {account}, \
             'run', 'Llm', {llm}, 'llm-1', 'allowed', 'a role allows it', 1, {request}"
        ),
        format!(
            "INSERT INTO usage (id, at, principal, token_id, llm_id, llm_name, model, input_tokens, output_tokens, stream, outcome, \
             status, attempts, duration_ms, request_id) SELECT {record}, {at}, 'User user-' || (i % {users}), \
             {account}, {llm}, 'llm-1', 'model', 100, 50, 0, 'completed', 200, 1, 900, {request}"
        ),
    ]
}

/// Requests beside the rows.
pub async fn figures(mcpd: &Mcpd, database: &str, rows: usize, table: &mut Table) {
    let reader = reads::make_token(mcpd, "reader-of-records").await;
    for (what, request) in reads::requests(mcpd, &reader) {
        let measured = reads::times(&request).await;
        table.times(&format!("{database}: {what}, {rows} records"), measured, 0.95, reads::TARGET);
    }
    let middle = Timestamp::now() - SPAN / 2;
    let queries = [
        ("a page of the audit", format!("&until={middle}")),
        ("a page of one account's audit", "&subject=user/user-3".to_owned()),
    ];
    for (what, query) in queries {
        let begun = Instant::now();
        let answer = mcpd.get(&format!("/api/v1/audit?limit=100{query}"), &mcpd.admin()).await;
        let page: Value = answer.json().await.unwrap();
        let took = begun.elapsed();
        assert_eq!(page["items"].as_array().map(Vec::len), Some(100), "{page}");
        table.times(&format!("{database}: {what}, {rows} records"), vec![took], 1.0, PAGE_TARGET);
    }
}
