//! Commands through the agent of this machine: which server gets the request, with which key, and what is shown of the agent.

use mcpctl_testkit::{
    daemons::{Mcpd, Mcplocal},
    deployment::Deployment,
    model_server::{ModelServer, Reply},
};
use serde_json::json;

use crate::shell::{Shell, beside};

#[tokio::test]
async fn local_key_is_used_where_it_stands_for_the_same_user() {
    let deployment = Deployment::start().await;
    let mcpd = &deployment.mcpd;
    let mut shell = beside(&deployment.agent);

    // The local key stands for no user yet.
    let error = shell.run(&["chat", "claude", "-p", "Hi"]).await.failed(1);
    assert!(error.contains("not signed in at") && error.contains("hint: mcpctl login"), "{error}");

    shell.run_with(&["login", mcpd.url(), "--token-stdin"], &deployment.alice).await.succeeded();
    // `local/…` needs the local key; no bearer of mcpd is accepted.
    assert_eq!(
        shell.run(&["chat", "local/desk", "-p", "Hi", "--local"]).await.succeeded(),
        "from the desk\n"
    );
    assert_eq!(shell.run(&["chat", "claude", "-p", "Hi", "--local"]).await.succeeded(), "from the primary\n");

    // A token in the environment is another user's.
    let bob = mcpd.user("bob", None).await;
    shell.env.push(("MCPCTL_TOKEN", bob));
    shell.env.push(("MCPCTL_SERVER", mcpd.url().to_owned()));
    let error = shell.run(&["chat", "claude", "-p", "Hi"]).await.failed(1);
    assert!(error.contains("`User bob` may not run"), "{error}");
}

#[tokio::test]
async fn inv_10_agent_acts_for_the_current_context_alone() {
    let (deployment, other) = (Deployment::start().await, Mcpd::start().await);
    let mcpd = &deployment.mcpd;
    let shell = beside(&deployment.agent);
    let login = async |mcpd: &Mcpd, context: &str, token: &str| {
        let output =
            shell.run_with(&["login", mcpd.url(), "--token-stdin", "--context", context], token).await;
        assert_eq!(output.code, 0, "{}", output.stderr);
        output.stderr
    };
    let acts_for = async |expected: &str| {
        let key = deployment.agent.local_key();
        let allowed = deployment.agent.chat("claude", &key, false).await.status().is_success();
        let status = shell.run(&["local", "status"]).await.succeeded();
        assert!(status.contains(&format!("signed in: {expected}")), "{status}");
        allowed
    };
    assert!(login(mcpd, "admin", &mcpd.admin()).await.contains("mcplocal acts for User admin from now on\n"));
    let changed = login(mcpd, "alice", &deployment.alice).await;
    assert!(changed.contains("mcplocal acts for User alice from now on\n"), "{changed}");
    let again = login(mcpd, "alice", &deployment.alice).await;
    assert!(!again.contains("mcplocal"), "nothing changed: {again}");
    assert!(acts_for("User alice").await);

    // Whatever takes the current context away, the administrator's of the same server is not used in its place.
    let output = shell.run(&["logout"]).await;
    assert!(output.stderr.ends_with("mcplocal acts for no account now\n"), "{}", output.stderr);
    assert!(!acts_for("no account (mcpctl config use-context admin)").await);
    let output = shell.run(&["config", "use-context", "admin"]).await;
    assert!(output.stderr.ends_with("mcplocal acts for User admin from now on\n"), "{}", output.stderr);
    assert!(login(&other, "other", &other.admin()).await.contains("mcplocal acts for no account now\n"));
    assert!(!acts_for("no account (mcpctl config use-context admin)").await);
    shell.run(&["config", "use-context", "admin"]).await.succeeded();
    let output = shell.run(&["config", "delete-context", "other"]).await;
    assert!(!output.stderr.contains("mcplocal"), "it was not the current one: {}", output.stderr);
    let output = shell.run(&["config", "delete-context", "admin"]).await;
    assert!(output.stderr.ends_with("mcplocal acts for no account now\n"), "{}", output.stderr);
    assert!(!acts_for("no account (mcpctl login ").await);
}

#[tokio::test]
async fn revoked_user_is_sent_to_an_administrator() {
    let mcpd = Mcpd::start().await;
    let provider = ModelServer::with_default(Reply::text("one two three").stall_after(1)).await;
    mcpd.llm("claude", &provider.base_url()).await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let agent = Mcplocal::start(&format!("server: {}\n", mcpd.url())).await;
    let shell = beside(&agent);
    shell.run_with(&["login", mcpd.url(), "--token-stdin"], &alice).await.succeeded();
    let mut chat = shell.command(&["chat", "claude", "-p", "Hi"]).spawn().unwrap();
    let mut begun = [0; 3];
    tokio::io::AsyncReadExt::read_exact(chat.stdout.as_mut().unwrap(), &mut begun).await.unwrap();
    mcpd.apply(json!([{"kind": "User", "name": "alice", "disabled": true}])).await;
    let output = chat.wait_with_output().await.unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("error: the answer is not complete: "), "{error}");
    assert!(
        error.ends_with("\nhint: ask an administrator, who can run: mcpctl auth who-can run llms claude\n")
            && error.lines().count() == 2,
        "{error}"
    );
}

#[tokio::test]
async fn inv_10_agent_of_another_server_gets_no_token() {
    let (ours, theirs) = (Mcpd::start().await, Deployment::start().await);
    let provider = ModelServer::with_default(Reply::text("from ours")).await;
    ours.llm("claude", &provider.base_url()).await;
    let shell = beside(&theirs.agent);
    shell.run_with(&["login", ours.url(), "--token-stdin"], &ours.admin()).await.succeeded();

    let output = shell.run(&["chat", "claude", "-p", "Hi"]).await;
    assert_eq!((output.code, output.stdout.as_str()), (0, "from ours\n"), "{}", output.stderr);
    assert!(
        output.stderr.contains(&format!("mcplocal forwards to {}", theirs.mcpd.url())),
        "{}",
        output.stderr
    );
    let error = shell.run(&["chat", "claude", "-p", "Hi", "--local"]).await.failed(1);
    assert!(error.contains("mcplocal forwards to") && error.contains("hint: "), "{error}");
    assert_eq!(theirs.inferences(), 0);
    let agent = &theirs.agent;
    assert!(!agent.log().contains("/v1/chat/completions"), "the agent got the request: {}", agent.log());
}

#[tokio::test]
async fn chat_without_an_agent_goes_straight_to_mcpd() {
    let mcpd = Mcpd::start().await;
    let provider = ModelServer::with_default(Reply::text("from the primary")).await;
    mcpd.llm("claude", &provider.base_url()).await;
    let mut shell = Shell::signed_in(&mcpd).await;
    // Another program listens at the agent's address.
    shell.env.push(("MCPLOCAL_ADDRESS", provider.base_url().trim_end_matches("/v1").to_owned()));
    std::fs::create_dir_all(shell.path("state/mcpctl/mcplocal")).unwrap();
    let key = shell.file("state/mcpctl/mcplocal/local-key", "mcpl_key\n");
    std::fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let output = shell.run(&["chat", "claude", "-p", "Hi"]).await;
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (0, "from the primary\n", ""));
    assert!(shell.run(&["chat", "claude", "-p", "Hi", "--local"]).await.failed(1).contains("hint: "));
    assert!(
        provider
            .requests()
            .iter()
            .all(|request| request.header("authorization") != Some(&format!("Bearer {}", mcpd.admin())))
    );

    shell.env.push(("MCPLOCAL_ADDRESS", "https://agent.example.com".to_owned()));
    let error = shell.run(&["local", "env"]).await.failed(1);
    assert!(error.contains("is not on this machine"), "{error}");
    shell.env.push(("MCPLOCAL_ADDRESS", "http://127.0.0.1:1".to_owned()));
    let error = shell.run(&["local", "status"]).await.failed(1);
    assert!(
        error.starts_with("error: mcplocal does not answer at `")
            && error.contains("/agent.sock`: it is not there\nhint: start it with `mcpctl local up`"),
        "{error}"
    );
}

#[tokio::test]
async fn incomplete_answer_is_a_failure() {
    let mcpd = Mcpd::start().await;
    let provider = ModelServer::with_default(Reply::text("one two three").cut_after(2)).await;
    mcpd.llm("claude", &provider.base_url()).await;
    let shell = Shell::signed_in(&mcpd).await;
    let output = shell.run(&["chat", "claude", "-p", "Hi"]).await;
    assert_eq!(output.code, 1, "{}{}", output.stdout, output.stderr);
    assert!(
        "one two three\n".starts_with(output.stdout.trim_end()) && output.stdout != "one two three\n",
        "{}",
        output.stdout
    );
    assert!(output.stderr.starts_with("error: the answer is not complete: "), "{}", output.stderr);
}

#[tokio::test]
async fn agent_is_shown_for_people_and_for_programs() {
    let deployment = Deployment::start().await;
    let mcpd = &deployment.mcpd;
    let shell = beside(&deployment.agent);
    shell.run_with(&["login", mcpd.url(), "--token-stdin"], &mcpd.admin()).await.succeeded();
    let status = shell.run(&["local", "status", "-o", "json"]).await.succeeded();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(
        (&status["signedInAs"], &status["providers"][0]["name"]),
        (&"User admin".into(), &"desk".into())
    );
    assert!(
        shell.run(&["local", "status", "-o", "yaml"]).await.succeeded().contains("signedInAs: User admin\n")
    );
    let error = shell.run(&["local", "logs"]).await.failed(1);
    assert!(error.contains("the agent starts no model server itself"), "{error}");
    let env = shell.run(&["local", "env"]).await;
    assert_eq!(env.stderr, "", "only what to export, where the output is not a terminal");
    let report = shell.run(&["doctor"]).await;
    assert_eq!(report.code, 0, "{}", report.stdout);
    let expected = format!("ok   mcplocal: forwards to {}, local providers: 1", mcpd.url());
    assert!(
        report.stdout.contains("ok   signed in: User admin\n") && report.stdout.contains(&expected),
        "{}",
        report.stdout
    );
    let signed = "ok   probe: mcpd's answers are signed, SHA256:";
    assert!(report.stdout.contains(signed), "{}", report.stdout);
    let versions = shell.run(&["version"]).await.succeeded();
    assert_eq!(versions.lines().count(), 3, "{versions}");
}
