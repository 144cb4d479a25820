//! SIGKILL around commits; `cargo xtask figures access` does it 200 times.

use std::collections::BTreeSet;

use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions},
    kills,
    postgres::Postgres,
};
use sqlx::Connection as _;

const ROUNDS: usize = 10;

#[tokio::test]
async fn inv_14_killed_mcpd_loses_nothing_acknowledged() {
    let postgres = Postgres::start();
    let of_postgres = McpdOptions { database_url: Some(postgres.url()), ..McpdOptions::default() };
    for options in [McpdOptions::default(), of_postgres] {
        let kills = kills::of_mcpd(options, ROUNDS).await;
        assert_eq!(kills.lost, [""; 0]);
        assert!(kills.acknowledged >= 4 * ROUNDS, "{kills:?}");
    }
}

#[tokio::test]
async fn inv_14_killed_mcpd_loses_no_record_of_an_answer() {
    const USAGE: &str = "SELECT request_id FROM usage";
    let usage = async |mcpd: &Mcpd| -> BTreeSet<String> {
        let url = format!("sqlite://{}", mcpd.data_dir().join("mcpd.sqlite").display());
        let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
        sqlx::query_scalar(USAGE).fetch_all(&mut connection).await.unwrap().into_iter().collect()
    };
    let of_sqlite = kills::of_records(McpdOptions::default(), ROUNDS, usage).await;
    let postgres = Postgres::start();
    let options = McpdOptions { database_url: Some(postgres.url()), ..McpdOptions::default() };
    let usage = async |_: &Mcpd| -> BTreeSet<String> {
        let mut connection = sqlx::PgConnection::connect(&postgres.url()).await.unwrap();
        sqlx::query_scalar(USAGE).fetch_all(&mut connection).await.unwrap().into_iter().collect()
    };
    let of_postgres = kills::of_records(options, ROUNDS, usage).await;
    for kills in [of_sqlite, of_postgres] {
        assert_eq!(kills.lost, [""; 0]);
        assert!(kills.acknowledged >= 4 * ROUNDS, "{kills:?}");
    }
}
