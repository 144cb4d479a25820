//! SIGKILL 200 times: around commits and records of mcpd in both databases, and around entries of the agent's journal.

use std::collections::BTreeSet;

use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions},
    kills,
    postgres::Postgres,
};
use sqlx::Connection as _;

use crate::table::Table;

const KILLS: usize = 200;
const USAGE: &str = "SELECT request_id FROM usage";

pub async fn figures(table: &mut Table) {
    let postgres = Postgres::start();
    let on =
        |postgres: &Postgres| McpdOptions { database_url: Some(postgres.url()), ..McpdOptions::default() };
    let of_mcpd = [("SQLite", McpdOptions::default()), ("PostgreSQL", on(&postgres))];
    for (database, options) in of_mcpd {
        let kills = kills::of_mcpd(options, KILLS).await;
        show(table, &format!("lost writes of mcpd with {database}"), &kills);
    }
    let usage = async |mcpd: &Mcpd| -> BTreeSet<String> {
        let url = format!("sqlite://{}", mcpd.data_dir().join("mcpd.sqlite").display());
        let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
        sqlx::query_scalar(USAGE).fetch_all(&mut connection).await.unwrap().into_iter().collect()
    };
    let kills = kills::of_records(McpdOptions::default(), KILLS, usage).await;
    show(table, "lost records of mcpd with SQLite", &kills);
    // Another one, because each mcpd here makes a master key of its own.
    let postgres = Postgres::start();
    let usage = async |_: &Mcpd| -> BTreeSet<String> {
        let mut connection = sqlx::PgConnection::connect(&postgres.url()).await.unwrap();
        sqlx::query_scalar(USAGE).fetch_all(&mut connection).await.unwrap().into_iter().collect()
    };
    let kills = kills::of_records(on(&postgres), KILLS, usage).await;
    show(table, "lost records of mcpd with PostgreSQL", &kills);
    show(table, "lost lines of the journal", &kills::of_agent(KILLS).await);
}

fn show(table: &mut Table, what: &str, kills: &kills::Kills) {
    table.count(what, kills.lost.len(), 0);
    table.note(&format!("{} acknowledged, {} kills", kills.acknowledged, kills.rounds));
    table.count("acknowledged nothing", usize::from(kills.acknowledged == 0), 0);
    for lost in kills.lost.iter().take(10) {
        table.note(lost);
    }
}
