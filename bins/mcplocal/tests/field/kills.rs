//! SIGKILL around entries of the journal; `cargo xtask figures access` does it 200 times.

use mcpctl_testkit::kills;

const ROUNDS: usize = 10;

#[tokio::test]
async fn inv_14_killed_agent_has_a_line_of_each_local_answer() {
    let kills = kills::of_agent(ROUNDS).await;
    assert_eq!(kills.lost, [""; 0]);
    assert!(kills.acknowledged >= 2 * ROUNDS, "{kills:?}");
}
