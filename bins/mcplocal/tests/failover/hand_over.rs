//! The journal in mcpd's audit: every line once, whatever is killed in between, and only where a user is signed in.

use std::{ffi::OsStr, fs, path::Path, process::Command};

use mcpctl_journal::{ChainHead, HeadRecord, JournalPaths, LineHash};
use mcpctl_testkit::{
    daemons::{Mcpd, Mcplocal, eventually, program},
    deployment::Deployment,
    model_server::Reply,
    response::content,
};
use reqwest::Method;
use serde_json::{Value, json};

/// A deployment whose primary always fails.
pub async fn start() -> Deployment {
    Deployment::builder().unreachable_inference().start().await
}

pub async fn agent_id(deployment: &Deployment) -> String {
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
pub async fn handed_over(mcpd: &Mcpd, agent: &str, lines: usize) -> Vec<Value> {
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
    let run = |name: &str, args: &[&str]| {
        let mut command = Command::new(program(name));
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

#[tokio::test]
async fn copied_state_directory_shows_as_a_fork() {
    let mut deployment = start().await;
    let agent = agent_id(&deployment).await;
    deployment.agent.sign_in(&deployment.mcpd, "alice", &deployment.alice);
    assert_eq!(content(deployment.chat().await).await, "from the desk");
    handed_over(&deployment.mcpd, &agent, 2).await;
    deployment.agent.stop();
    let config = fs::read_to_string(deployment.agent.config_file()).unwrap();
    let mut copy = Mcplocal::start(&config.replace("listen: 127.0.0.1:0", "")).await;
    copy.stop();
    for file in ["agent-id", "journal.jsonl", "journal.head"] {
        fs::copy(deployment.agent.state_dir().join(file), copy.state_dir().join(file)).unwrap();
    }
    copy.restart().await;
    deployment.agent.restart().await;
    copy.sign_in(&deployment.mcpd, "alice", &deployment.alice);
    for agent in [&deployment.agent, &copy] {
        assert_eq!(content(agent.chat("claude", &deployment.alice, false).await).await, "from the desk");
    }
    let rows = eventually("mcpd has the lines of both", async || {
        let rows = reported(&deployment.mcpd, &agent).await;
        (rows.iter().filter(|row| !row["report"]["seq"].is_null()).count() == 6).then_some(rows)
    })
    .await;
    let fork = rows.iter().find(|row| row["action"] == "journal-fork").expect("the fork");
    assert_eq!((&fork["principal"], &fork["decision"]), (&"User alice".into(), &"denied".into()));
}

#[tokio::test]
async fn mcpd_of_an_older_backup_gets_the_lines_again() {
    let mut deployment = start().await;
    let agent = agent_id(&deployment).await;
    deployment.agent.sign_in(&deployment.mcpd, "alice", &deployment.alice);
    assert_eq!(content(deployment.chat().await).await, "from the desk");
    handed_over(&deployment.mcpd, &agent, 2).await;
    let data = deployment.mcpd.data_dir();
    let database = |name: &OsStr| name.to_string_lossy().starts_with("mcpd.sqlite");
    let backup = tempfile::tempdir().unwrap();
    let copy = |from: &Path, to: &Path| {
        for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
            if database(&entry.file_name()) {
                fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
    };
    deployment.mcpd.kill();
    copy(&data, backup.path());
    deployment.mcpd.restart().await;
    assert_eq!(content(deployment.chat().await).await, "from the desk");
    handed_over(&deployment.mcpd, &agent, 4).await;
    deployment.mcpd.kill();
    for entry in fs::read_dir(&data).unwrap().map(|entry| entry.unwrap()) {
        if database(&entry.file_name()) {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    copy(backup.path(), &data);
    deployment.mcpd.restart().await;
    assert_eq!(content(deployment.chat().await).await, "from the desk");
    handed_over(&deployment.mcpd, &agent, 6).await;
}

#[tokio::test]
async fn lines_about_one_mcpd_never_go_to_another() {
    let (deployment, other) = (start().await, start().await);
    let agent = agent_id(&deployment).await;
    // Alice is signed in nowhere, so that her lines wait.
    assert_eq!(content(deployment.chat().await).await, "from the desk");
    let server = other.mcpd.url().to_owned();
    deployment.agent.reload(|config| config.replace(deployment.mcpd.url(), &server)).await;
    deployment.agent.sign_in(&other.mcpd, "alice", &other.alice);
    let answer = deployment.agent.chat("claude", &other.alice, false).await;
    assert_eq!(content(answer).await, "from the desk");
    let rows = eventually("the new mcpd has its lines", async || {
        let rows = reported(&other.mcpd, &agent).await;
        (rows.iter().any(|row| row["report"]["seq"] == 5)).then_some(rows)
    })
    .await;
    let shown: Vec<_> =
        rows.iter().map(|row| (row["report"]["seq"].as_u64(), row["action"].as_str().unwrap())).collect();
    let gap = (None, "journal-gap");
    assert_eq!(shown, [gap, (Some(3), "journal-lost"), (Some(4), "failover"), (Some(5), "failover-end")]);
    assert!(
        rows[1]["reason"]
            .as_str()
            .unwrap()
            .contains("the lines 1 to 2 are lost: they are about another mcpd")
    );
    assert!(reported(&deployment.mcpd, &agent).await.is_empty());
}

#[tokio::test]
async fn journal_cut_at_its_end_shows_against_mcpd() {
    let mut deployment = start().await;
    let agent = agent_id(&deployment).await;
    deployment.agent.sign_in(&deployment.mcpd, "alice", &deployment.alice);
    for _ in 0..2 {
        assert_eq!(content(deployment.chat().await).await, "from the desk");
    }
    handed_over(&deployment.mcpd, &agent, 4).await;
    deployment.agent.kill();
    // The owner cuts the last line off, and writes a head that fits.
    let paths = JournalPaths::of(&deployment.agent.state_dir());
    let text = fs::read_to_string(&paths.current).unwrap();
    let kept: Vec<_> = text.lines().take(3).collect();
    fs::write(&paths.current, format!("{}\n", kept.join("\n"))).unwrap();
    let mut head = HeadRecord::read(&paths.head).unwrap().unwrap();
    (head.head, head.handed_over) = (ChainHead { seq: 3, hash: LineHash::of(kept[2].as_bytes()) }, 3);
    head.write(&paths.head).unwrap();
    let verify = |args: &[&str]| {
        let mut mcpctl = Command::new(program("mcpctl"));
        let output = mcpctl
            .args(["local", "journal", "verify"])
            .args(args)
            .envs(deployment.agent.homes())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(verify(&["--offline"]).0, Some(0));
    let (code, shown) = verify(&[]);
    let expected = "FAIL journal.jsonl: the lines with the numbers 4 to 4 are missing at its end";
    assert!(code == Some(1) && shown.contains(expected), "{shown}");
}

#[tokio::test]
async fn refused_credential_shows_in_the_status() {
    let deployment = start().await;
    let agent = agent_id(&deployment).await;
    let unknown = mcpctl_secret::token::mint(mcpctl_secret::token::Prefix::Mcpd).unwrap();
    deployment.agent.sign_in(&deployment.mcpd, "alice", unknown.expose());
    assert_eq!(content(deployment.chat().await).await, "from the desk");
    let backlog = eventually("the status has the reason", async || {
        let backlog = deployment.agent.status().await["journalBacklog"].clone();
        (!backlog["reason"].is_null()).then_some(backlog)
    })
    .await;
    assert_eq!(backlog["lines"], 2);
    assert!(
        backlog["reason"].as_str().unwrap().starts_with("mcpd refuses the credential of `alice`"),
        "{backlog}"
    );
    deployment.agent.sign_in(&deployment.mcpd, "alice", &deployment.alice);
    handed_over(&deployment.mcpd, &agent, 2).await;
    eventually("nothing waits", async || {
        deployment.agent.status().await["journalBacklog"].is_null().then_some(())
    })
    .await;
}

#[tokio::test]
async fn replaced_journal_shows_in_status_doctor_and_verify() {
    let deployment = start().await;
    assert_eq!(content(deployment.chat().await).await, "from the desk");
    let file = deployment.agent.journal_file();
    fs::copy(&file, file.with_extension("copy")).unwrap();
    fs::rename(file.with_extension("copy"), &file).unwrap();
    let config = deployment.agent.config_file();
    let problem = "another file was put in its place while the agent ran";
    let hint =
        "keep the files of the journal as evidence, then restart: `mcpctl local down`, `mcpctl local up`";
    for (args, code, expected) in [
        (&["local", "status"][..], 0, [problem, hint]),
        (&["local", "doctor", "--config", config.to_str().unwrap()], 1, ["FAIL journal", hint]),
        (&["local", "journal", "verify", "--offline"], 1, ["FAIL journal.jsonl", problem]),
    ] {
        let output =
            Command::new(program("mcpctl")).args(args).envs(deployment.agent.homes()).output().unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {shown}");
        assert!(expected.iter().all(|expected| shown.contains(expected)), "{args:?}: {shown}");
    }
}

#[tokio::test]
async fn line_of_a_killed_agent_and_an_unreadable_head_are_handed_over() {
    let mut deployment = start().await;
    let agent = agent_id(&deployment).await;
    deployment.desk.set_default(Reply::hang());
    let chat = json!({"model": "claude", "messages": [{"role": "user", "content": "Hi"}]});
    let request =
        deployment.agent.request(Method::POST, "/v1/chat/completions", &deployment.alice).json(&chat);
    let asked = tokio::spawn(request.send());
    eventually("the prompt arrives", async || (!deployment.desk.inferences().is_empty()).then_some(())).await;
    // Before the model has answered.
    deployment.agent.kill();
    let _ = asked.await;
    deployment.agent.sign_in(&deployment.mcpd, "alice", &deployment.alice);
    deployment.agent.restart().await;
    let rows = handed_over(&deployment.mcpd, &agent, 1).await;
    assert_eq!((&rows[0]["action"], &rows[0]["decision"]), (&"failover".into(), &"allowed".into()));

    // Without its head the journal goes on from its last line, and what mcpd has is not recorded again.
    deployment.agent.kill();
    fs::write(JournalPaths::of(&deployment.agent.state_dir()).head, "no head").unwrap();
    deployment.desk.set_default(Reply::text("from the desk"));
    deployment.agent.restart().await;
    assert_eq!(content(deployment.chat().await).await, "from the desk");
    handed_over(&deployment.mcpd, &agent, 3).await;
    assert!(deployment.agent.log().contains("the head of the journal cannot be read"));
}
