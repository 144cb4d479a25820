//! What questions about usage cost beside the rows of a year: 300 people in ten groups, each with three of twenty Llms, in the ten hours of
//! each working day. Rows and sums are put straight into the tables, the sums as mcpd would have added them.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp, civil::Weekday, tz::TimeZone};
use mcpctl_testkit::daemons::{Mcpd, McpdOptions};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, SqliteConnection};

use crate::table::Table;

const PEOPLE: usize = 300;
const GROUPS: usize = 10;
const LLMS: usize = 20;
const LLMS_OF_ONE: usize = 3;
/// Weeks of the rows, each with five days of ten hours.
const WEEKS: i64 = 52;
const SAMPLES: usize = 5;
/// Of a question that few sums answer.
const TARGET: Duration = Duration::from_millis(500);
/// Of one about more than an answer may have: it ends, one way or the other.
const BOUND: Duration = Duration::from_secs(11);

/// Fills a database and asks.
pub async fn figures(database: &str, options: McpdOptions, rows: usize, table: &mut Table) {
    let url = options.database_url.clone();
    let mut mcpd = Mcpd::start_with(options).await;
    let (people, llms) = people_and_llms(&mcpd).await;
    mcpd.terminate();
    mcpd.wait();
    let begun = Instant::now();
    let sums = match &url {
        None => {
            let url = format!("sqlite://{}", mcpd.data_dir().join("mcpd.sqlite").display());
            fill_sqlite(&mut SqliteConnection::connect(&url).await.unwrap(), rows, &people, &llms).await
        }
        Some(url) => {
            fill_postgres(&mut PgConnection::connect(url).await.unwrap(), rows, &people, &llms).await
        }
    };
    table.note(&format!(
        "{database}: {rows} rows of usage and {sums} sums, filled in {:.0} s",
        begun.elapsed().as_secs_f64()
    ));
    mcpd.restart().await;
    for (time, days) in [("day", 1), ("week", 7), ("year", 7 * WEEKS)] {
        let since = Timestamp::now() - SignedDuration::from_hours(24 * days);
        for (what, query) in [
            ("", ""),
            (" by user", "&by=user"),
            (" by group", "&by=group"),
            (" by llm", "&by=llm"),
            (" by model", "&by=model"),
            (" by day, UTC", "&by=day"),
            (" by day, Berlin", "&by=day&zone=Europe/Berlin"),
            (" by all but day", "&by=user,group,llm,model"),
            (" of one by llm,day", "&by=llm,day&subject=user/user-3"),
        ] {
            let path = format!("/api/v1/usage?limit=1000&since={since}{query}");
            let mut times = Vec::with_capacity(SAMPLES);
            for _ in 0..SAMPLES {
                times.push(ask(&mcpd, &path, StatusCode::OK).await);
            }
            table.times(&format!("{database}: a {time}{what}"), times, 1.0, TARGET);
        }
    }
    let since = Timestamp::now() - SignedDuration::from_hours(24 * 7 * WEEKS);
    let path = format!("/api/v1/usage?since={since}&by=user,llm,day");
    let too_many = PEOPLE * LLMS_OF_ONE * usize::try_from(5 * WEEKS).unwrap() > 50_000 && rows >= 1_000_000;
    if too_many {
        let took = ask(&mcpd, &path, StatusCode::BAD_REQUEST).await;
        table.times(&format!("{database}: a year by user,llm,day, refused"), vec![took], 1.0, BOUND);
    }
}

async fn ask(mcpd: &Mcpd, path: &str, expected: StatusCode) -> Duration {
    let begun = Instant::now();
    let answer = mcpd.get(path, &mcpd.admin()).await;
    let status = answer.status();
    let body = answer.text().await.unwrap();
    let took = begun.elapsed();
    assert_eq!(status, expected, "{path}: {body}");
    let page: Value = serde_json::from_str(&body).unwrap();
    assert!(status != StatusCode::OK || page["complete"] == true, "{path}");
    took
}

/// The ids of the people and of the Llms, in the order of their numbers.
async fn people_and_llms(mcpd: &Mcpd) -> (Vec<String>, Vec<String>) {
    let user = |at: usize| json!({"kind": "User", "name": format!("user-{at}")});
    let llm = |at: usize| {
        let name = format!("llm-{at}");
        json!({"kind": "Llm", "name": name, "type": "openai", "url": "https://example.com", "model": "m"})
    };
    let group = |at: usize| {
        let members: Vec<Value> = (0..PEOPLE).filter(|person| person % GROUPS == at).map(user).collect();
        json!({"kind": "Group", "name": format!("group-{at}"), "members": members})
    };
    let documents = (0..PEOPLE).map(user).chain((0..LLMS).map(llm)).chain((0..GROUPS).map(group));
    mcpd.apply(documents.collect()).await;
    let ids = async |kind: &str, count: usize| {
        let list: Value = mcpd.get(&format!("/api/v1/{kind}s"), &mcpd.admin()).await.json().await.unwrap();
        let items = list["items"].as_array().unwrap();
        let id = |at: usize| {
            let name = format!("{kind}-{at}");
            let item = items.iter().find(|item| item["name"] == name).unwrap();
            item["id"].as_str().unwrap().to_owned()
        };
        (0..count).map(id).collect::<Vec<_>>()
    };
    (ids("user", PEOPLE).await, ids("llm", LLMS).await)
}

async fn fill_sqlite(
    connection: &mut SqliteConnection,
    rows: usize,
    people: &[String],
    llms: &[String],
) -> i64 {
    connection.execute("PRAGMA cache_size = -1000000; PRAGMA synchronous = OFF").await.unwrap();
    let numbers =
        format!("WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {rows})");
    let insert = insert_rows(rows, "printf('00000000-0000-7000-8000-%012x', i)");
    for text in tables_of_names(people, llms)
        .into_iter()
        .chain([format!("{numbers} {insert} FROM n {JOIN}")])
        .chain(sums())
    {
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *connection).await.unwrap();
    }
    sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut *connection).await.unwrap();
    sqlx::query_scalar("SELECT COUNT(*) FROM usage_sums").fetch_one(&mut *connection).await.unwrap()
}

async fn fill_postgres(
    connection: &mut PgConnection,
    rows: usize,
    people: &[String],
    llms: &[String],
) -> i64 {
    let insert = insert_rows(rows, "'00000000-0000-7000-8000-' || lpad(to_hex(i), 12, '0')");
    let rows = format!("{insert} FROM generate_series(0::bigint, {rows} - 1) AS n (i) {JOIN}");
    let memory = "SET synchronous_commit = off; SET work_mem = '512MB'".to_owned();
    for text in [memory].into_iter().chain(tables_of_names(people, llms)).chain([rows]).chain(sums()) {
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *connection).await.unwrap();
    }
    sqlx::raw_sql("VACUUM ANALYZE").execute(&mut *connection).await.unwrap();
    sqlx::query_scalar("SELECT COUNT(*) FROM usage_sums").fetch_one(&mut *connection).await.unwrap()
}

/// Joins each number `i` with a person, and with one of the person's Llms.
const JOIN: &str =
    "JOIN people ON people.n = i % 300 JOIN llms ON llms.n = (i % 300 + 7 * ((i / 300) % 3)) % 20";

/// Temporary tables of both, and their rows.
fn tables_of_names(people: &[String], llms: &[String]) -> Vec<String> {
    let values = |ids: &[String]| {
        ids.iter().enumerate().map(|(n, id)| format!("({n}, '{id}')")).collect::<Vec<_>>().join(", ")
    };
    let table = |name: &str, ids: &[String]| {
        format!(
            "CREATE TEMP TABLE {name} (n BIGINT PRIMARY KEY, id TEXT NOT NULL); INSERT INTO {name} VALUES {}",
            values(ids)
        )
    };
    vec![table("people", people), table("llms", llms)]
}

/// The beginning of a statement, which takes a number `i` from what follows. The rows have the hours from 8 to 18 of the days from Monday
/// to Friday, up to this week.
fn insert_rows(rows: usize, id: &str) -> String {
    let today = TimeZone::UTC.to_datetime(Timestamp::now()).date();
    let monday = today - SignedDuration::from_hours(24 * i64::from(today.weekday().since(Weekday::Monday)));
    let first = monday - SignedDuration::from_hours(24 * 7 * (WEEKS - 1));
    let begin = TimeZone::UTC.to_timestamp(first.at(8, 0, 0, 0)).unwrap().as_microsecond();
    // Ten hours of each of five days.
    let working = 1_000_000 * 36_000 * 5 * WEEKS;
    let step = (working / i64::try_from(rows).unwrap()).max(1);
    let day = 36_000_000_000_i64;
    let at = format!(
        "{begin} + (i * {step}) / {day} / 5 * {week} + (i * {step}) / {day} % 5 * {whole_day} + (i * {step}) % {day}",
        week = 7 * 86_400_000_000_i64,
        whole_day = 86_400_000_000_i64,
    );
    format!(
        "INSERT INTO usage (id, at, principal, principal_id, token_id, llm_id, llm_name, model, input_tokens, output_tokens, \
         stream, outcome, status, attempts, duration_ms, request_id, cost_nanos, counted) \
         SELECT {id}, {at}, 'User user-' || people.n, people.id, people.id, llms.id, 'llm-' || llms.n, 'model-' || llms.n, \
         900 + i % 311, 200 + i % 97, 1, 'ok', 200, 1, 2000, {id}, 3000000, 1"
    )
}

/// The statements that add all rows up: to the hours of accounts, and from those to the rest.
fn sums() -> [String; 2] {
    const COLUMNS: &str = "INSERT INTO usage_sums (span, of_all, hour, account, llm_id, model, principal, llm_name, requests, \
         fallbacks, failures, input_tokens, output_tokens, cached_input_tokens, cache_write_input_tokens, \
         reasoning_tokens, estimated, unpriced, cost_nanos)";
    [
        format!(
            "{COLUMNS} SELECT 1, 0, at / 3600000000, principal_id, llm_id, model, MAX(principal), MAX(llm_name), COUNT(*), \
             0, 0, SUM(input_tokens), SUM(output_tokens), 0, 0, 0, 0, 0, SUM(cost_nanos) \
             FROM usage GROUP BY at / 3600000000, principal_id, llm_id, model"
        ),
        format!(
            "WITH kept (length, whose) AS (VALUES (24, 0), (720, 0), (1, 1), (24, 1)) \
             {COLUMNS} SELECT length, whose, hour / length * length, CASE whose WHEN 1 THEN '' ELSE account END, llm_id, model, \
             MAX(CASE whose WHEN 1 THEN '' ELSE principal END), MAX(llm_name), SUM(requests), 0, 0, \
             SUM(input_tokens), SUM(output_tokens), 0, 0, 0, 0, 0, SUM(cost_nanos) \
             FROM usage_sums CROSS JOIN kept WHERE span = 1 AND of_all = 0 GROUP BY 1, 2, 3, 4, 5, 6"
        ),
    ]
}
