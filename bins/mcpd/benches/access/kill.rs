//! SIGKILL 200 times: around commits of mcpd in both databases, and around entries of the agent's journal.

use mcpctl_testkit::{daemons::McpdOptions, kills, postgres::Postgres};

use crate::table::Table;

const KILLS: usize = 200;

pub async fn figures(table: &mut Table) {
    let postgres = Postgres::start();
    let of_postgres = McpdOptions { database_url: Some(postgres.url()), ..McpdOptions::default() };
    let of_mcpd = [("SQLite", McpdOptions::default()), ("PostgreSQL", of_postgres)];
    for (database, options) in of_mcpd {
        let kills = kills::of_mcpd(options, KILLS).await;
        show(table, &format!("lost writes of mcpd with {database}"), &kills);
    }
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
