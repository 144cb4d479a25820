//! SIGKILL around commits; `cargo xtask figures access` does it 200 times.

use mcpctl_testkit::{daemons::McpdOptions, kills, postgres::Postgres};

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
