//! What mcpd confirms of a journal: that it signed the permission for this caller, at this agent, for one line.

use std::{fs, process::Command};

use mcpctl_journal::{HeadRecord, JournalEntry, JournalPaths, Line};
use mcpctl_testkit::{daemons::program, response::content};
use serde_json::Value;

use super::hand_over::{agent_id, handed_over, start};

#[tokio::test]
async fn confirmed_is_one_line_that_mcpd_signed_for() {
    let mut deployment = start().await;
    let agent = agent_id(&deployment).await;
    let list: Value = deployment.mcpd.get("/.well-known/mcpctl-keys", "").await.json().await.unwrap();
    let keys = [0, 1].map(|at| list["keys"][at]["publicKey"].as_str().unwrap());
    deployment.agent.reload(|config| format!("{config}\nproofKeys: [{}]\n", keys.join(", "))).await;
    deployment.agent.sign_in(&deployment.mcpd, "alice", &deployment.alice);
    let bob = deployment.mcpd.user("bob", Some("llm-user")).await;
    for bearer in [&deployment.agent.local_key(), &bob] {
        assert_eq!(content(deployment.agent.chat("claude", bearer, false).await).await, "from the desk");
    }
    let confirmed = |row: &Value| (row["report"]["confirmed"].as_bool().unwrap(), row["principal"].clone());
    let rows = handed_over(&deployment.mcpd, &agent, 4).await;
    // Alice reports both. What ended is her agent's statement: mcpd signs for beginnings.
    assert_eq!(confirmed(&rows[0]), (true, "User alice".into()), "{}", rows[0]);
    assert_eq!(confirmed(&rows[2]), (true, "User bob".into()), "{}", rows[2]);
    assert!(!confirmed(&rows[1]).0 && !confirmed(&rows[3]).0);

    // The machine's owner goes on with a line that has a proof of before.
    deployment.agent.kill();
    let paths = JournalPaths::of(&deployment.agent.state_dir());
    let text = fs::read_to_string(&paths.current).unwrap();
    let first: Line = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let JournalEntry::Failover { .. } = &first.entry else { panic!("{first:?}") };
    let head = HeadRecord::read(&paths.head).unwrap().unwrap().head;
    let (forged, _) = Line::after(head, &first.entry).unwrap();
    fs::write(&paths.current, format!("{text}{}\n", String::from_utf8(forged).unwrap())).unwrap();
    deployment.agent.restart().await;
    let rows = handed_over(&deployment.mcpd, &agent, 5).await;
    assert_eq!(confirmed(&rows[4]), (false, "User alice".into()));
    let reason = rows[4]["reason"].as_str().unwrap();
    assert!(reason.starts_with("not confirmed, its proof was used by another line; "), "{reason}");

    let mut mcpctl = Command::new(program("mcpctl"));
    let shown = mcpctl
        .args(["audit", "--action", "failover", "-o", "wide"])
        .envs(deployment.agent.homes())
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(shown.matches("User alice (confirmed)").count(), 1, "{shown}");
    assert_eq!(shown.matches("not confirmed, its proof was used by another line").count(), 1, "{shown}");
}
