//! The journal in mcpd's audit: every line once, whatever is killed in between, and only where a user is signed in.

use std::{fs, process::Command};

use mcpctl_testkit::{
    daemons::{Mcpd, eventually},
    deployment::Deployment,
    response::content,
};
use serde_json::Value;

/// A deployment whose primary always fails.
async fn start() -> Deployment {
    Deployment::builder().unreachable_inference().start().await
}

async fn agent_id(deployment: &Deployment) -> String {
    deployment.agent.status().await["agentId"].as_str().unwrap().to_owned()
}

/// What an agent reported, by its lines' numbers.
async fn reported(mcpd: &Mcpd, agent: &str) -> Vec<Value> {
    let path = format!("/api/v1/audit?limit=1000&agent={agent}");
    let page: Value = mcpd.get(&path, &mcpd.admin()).await.json().await.unwrap();
    let mut rows = page["items"].as_array().unwrap().clone();
    rows.sort_by_key(|row| row["report"]["seq"].as_u64().unwrap_or_default());
    rows
}

/// Waits until mcpd has this many lines of the agent, and fails if it has any of them twice or marks a gap.
async fn handed_over(mcpd: &Mcpd, agent: &str, lines: usize) -> Vec<Value> {
    let what = format!("mcpd has {lines} lines");
    let rows = eventually(&what, async || {
        let rows = reported(mcpd, agent).await;
        (rows.len() >= lines).then_some(rows)
    })
    .await;
    let seqs: Vec<_> = rows.iter().map(|row| row["report"]["seq"].as_u64().unwrap_or_default()).collect();
    assert_eq!(seqs, (1..=lines as u64).collect::<Vec<_>>());
    rows
}

#[tokio::test]
async fn failovers_stand_in_the_audit_beside_central_decisions() {
    let deployment = start().await;
    let agent = agent_id(&deployment).await;
    deployment.agent.sign_in(&deployment.mcpd, "alice", &deployment.alice);
    let bob = deployment.mcpd.user("bob", Some("llm-user")).await;
    for bearer in [&deployment.agent.local_key(), &bob] {
        assert_eq!(content(deployment.agent.chat("claude", bearer, false).await).await, "from the desk");
    }
    let rows = handed_over(&deployment.mcpd, &agent, 4).await;
    let shown: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["action"].as_str().unwrap(),
                row["resourceName"].as_str().unwrap(),
                row["decision"].as_str().unwrap(),
            )
        })
        .collect();
    let (began, ended) = (("failover", "claude", "allowed"), ("failover-end", "claude", "allowed"));
    assert_eq!(shown, [began, ended, began, ended]);
    // Whose request it was: the reporter's own, and what the agent says of another caller.
    assert_eq!(rows[0]["principal"], "User alice");
    assert!(rows[2]["principal"].as_str().unwrap().starts_with("(reported) bearer:"), "{}", rows[2]);
    assert!(rows.iter().all(|row| row["report"]["reportedBy"] == "User alice"), "{rows:?}");
    let journal: Vec<String> =
        fs::read_to_string(deployment.agent.journal_file()).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(rows.iter().map(|row| row["report"]["line"].as_str().unwrap()).collect::<Vec<_>>(), journal);
    // By Llm and time, together with what mcpd decided itself: the probes.
    let page: Value = deployment
        .mcpd
        .get("/api/v1/audit?llm=claude&since=2026-01-01T00:00:00Z", &deployment.mcpd.admin())
        .await
        .json()
        .await
        .unwrap();
    let of =
        |action: &str| page["items"].as_array().unwrap().iter().filter(|row| row["action"] == action).count();
    assert_eq!((of("failover"), of("view")), (2, 2), "{page}");
    assert!(!page.to_string().contains(&bob[5..20]));
}

#[tokio::test]
async fn inv_14_lines_wait_for_a_user_and_survive_kills() {
    let mut deployment = start().await;
    let agent = agent_id(&deployment).await;
    for _ in 0..3 {
        assert_eq!(content(deployment.chat().await).await, "from the desk");
    }
    // Killed before any line was handed over, as no user is signed in.
    deployment.agent.kill();
    assert!(reported(&deployment.mcpd, &agent).await.is_empty());
    deployment.agent.sign_in(&deployment.mcpd, "alice", &deployment.alice);
    deployment.agent.restart().await;
    handed_over(&deployment.mcpd, &agent, 6).await;

    // mcpd had the lines, and the agent was killed before it knew: it has the state of before.
    let head = deployment.agent.state_dir().join("journal.head");
    let handed = fs::read_to_string(&head).unwrap();
    deployment.agent.kill();
    let before = handed.replace("\"handedOver\":6", "\"handedOver\":2");
    assert_ne!(handed, before, "{handed}");
    fs::write(&head, before).unwrap();
    deployment.agent.restart().await;
    assert_eq!(content(deployment.chat().await).await, "from the desk");
    handed_over(&deployment.mcpd, &agent, 8).await;
}

#[tokio::test]
async fn lines_wait_while_mcpd_is_away() {
    let mut deployment = start().await;
    let agent = agent_id(&deployment).await;
    assert_eq!(content(deployment.chat().await).await, "from the desk");
    deployment.mcpd.kill();
    deployment.agent.sign_in(&deployment.mcpd, "alice", &deployment.alice);
    eventually("the agent cannot hand over", async || {
        deployment.agent.log().contains("cannot be handed over").then_some(())
    })
    .await;
    deployment.mcpd.restart().await;
    handed_over(&deployment.mcpd, &agent, 2).await;
}

#[tokio::test]
async fn two_agents_of_one_user_have_chains_of_their_own() {
    let (one, other) = (start().await, start().await);
    let ids = [agent_id(&one).await, agent_id(&other).await];
    assert_ne!(ids[0], ids[1]);
    // Both are signed in at the first one's mcpd.
    let server = one.mcpd.url().to_owned();
    other.agent.reload(|config| config.replace(other.mcpd.url(), &server)).await;
    for deployment in [&one, &other] {
        deployment.agent.sign_in(&one.mcpd, "alice", &one.alice);
        let answer = deployment.agent.chat("claude", &one.alice, false).await;
        assert_eq!(content(answer).await, "from the desk");
    }
    for id in &ids {
        handed_over(&one.mcpd, id, 2).await;
    }
}

#[tokio::test]
async fn removed_line_shows_at_the_agent_and_in_the_audit() {
    let mut deployment = start().await;
    let agent = agent_id(&deployment).await;
    for _ in 0..2 {
        assert_eq!(content(deployment.chat().await).await, "from the desk");
    }
    deployment.agent.kill();
    let text = fs::read_to_string(deployment.agent.journal_file()).unwrap();
    let kept: String =
        text.lines().enumerate().filter(|(at, _)| *at != 1).map(|(_, line)| format!("{line}\n")).collect();
    fs::write(deployment.agent.journal_file(), kept).unwrap();
    let homes = deployment.agent.homes();
    let run = |program: &str, args: &[&str]| {
        let mut command = Command::new(mcpctl_testkit::daemons::program(program));
        let output = command.args(args).envs(homes.clone()).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let problem = "journal.jsonl:2: the line with the number 2 is missing before it";
    let (whole, verified) = run("mcpctl", &["local", "journal", "verify", "--offline"]);
    assert!(!whole && verified.contains(problem), "{verified}");
    let config = deployment.agent.config_file();
    let (_, findings) = run("mcplocal", &["--doctor", "--config", config.to_str().unwrap()]);
    assert!(findings.contains(problem), "{findings}");
    let (_, lines) = run("mcpctl", &["local", "journal", "--event", "failover", "-o", "json"]);
    let lines: Value = serde_json::from_str(&lines).unwrap();
    assert_eq!((lines.as_array().unwrap().len(), &lines[0]["llm"]), (2, &"claude".into()));
    deployment.agent.sign_in(&deployment.mcpd, "alice", &deployment.alice);
    deployment.agent.restart().await;
    let rows = eventually("mcpd has the lines that are left", async || {
        let rows = reported(&deployment.mcpd, &agent).await;
        (rows.len() == 4).then_some(rows)
    })
    .await;
    let gap = rows.iter().find(|row| row["action"] == "journal-gap").expect("the gap");
    assert!(gap["reason"].as_str().unwrap().contains("2 to 2"), "{gap}");
    assert_eq!(gap["principal"], "User alice");
    let (whole, audit) = run("mcpctl", &["audit", "--action", "journal-gap", "-o", "json"]);
    assert!(whole && audit.contains("2 to 2"), "{audit}");
}
