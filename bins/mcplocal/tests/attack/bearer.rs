//! The caller's bearer is looked for wherever it must not be, after requests of every kind: at the primary, fallen back, denied.

use std::{fs, path::Path};

use mcpctl_testkit::{
    deployment::Deployment,
    process::{arguments_and_environment, core_dump_limits},
};

/// The files below a directory that hold a text.
fn files_with(dir: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            found.extend(files_with(&path, text));
        } else if kind.is_file() {
            let content = fs::read(&path).unwrap_or_default();
            if content.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[tokio::test]
async fn inv_10_bearer_is_in_no_file_argument_or_environment() {
    let mut deployment = Deployment::builder().separate_inference().start().await;
    for stream in [false, true] {
        deployment.agent.chat("claude", &deployment.alice, stream).await.text().await.unwrap();
    }
    deployment.provider.refuse().await;
    for stream in [false, true] {
        let answer = deployment.agent.chat("claude", &deployment.alice, stream).await;
        assert!(answer.text().await.unwrap().contains("desk"));
    }
    deployment.revoke().await;
    deployment.chat().await.text().await.unwrap();
    let Deployment { mcpd, agent, alice, provider, desk, .. } = &deployment;
    let secret = alice.strip_prefix("mcpd_").unwrap();
    for (what, pid) in [("mcpd", mcpd.pid()), ("mcplocal", agent.pid())] {
        let text = String::from_utf8_lossy(&arguments_and_environment(pid)).into_owned();
        assert!(!text.contains(secret), "{what}");
        let (soft, hard) = core_dump_limits(pid);
        assert!(["0", "1"].contains(&&*hard) && soft == hard, "{what} may dump {soft} bytes, at most {hard}");
    }
    // Logs, the journal, the database and its journal, states.
    for dir in [mcpd.data_dir(), agent.state_dir()] {
        assert_eq!(files_with(&dir, secret), [""; 0]);
    }
    assert!(!mcpd.log().contains(secret) && !agent.log().contains(secret));
    for request in provider.requests().iter().chain(&desk.requests()) {
        assert!(!format!("{request:?}{}", String::from_utf8_lossy(&request.body)).contains(secret));
    }
    let admin = mcpd.admin();
    assert_eq!(files_with(&mcpd.data_dir(), &admin).len(), 1, "the control: the bootstrap token's own file");
}
