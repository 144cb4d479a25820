//! From the first login to the last logout, in the order in which people work.

use mcpctl_testkit::{
    daemons::{Mcpd, Mcplocal},
    model_server::{ModelServer, Reply},
};

use crate::shell::Shell;

#[tokio::test]
async fn administrator_creates_resources_and_checks_access() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    assert!(shell.run(&["whoami"]).await.succeeded().contains("User admin"));
    shell.file(
        "team.yaml",
        "kind: Llm\nname: claude\ntype: openai\nurl: http://127.0.0.1:1/v1\nmodel: m\n---\nkind: User\nname: alice\n",
    );
    let args = ["apply", "-f", "team.yaml"];
    assert_eq!(shell.run(&args).await.succeeded(), "llms/claude created\nusers/alice created\n");
    assert_eq!(shell.run(&args).await.succeeded(), "llms/claude unchanged\nusers/alice unchanged\n");
    assert_eq!(shell.run(&["diff", "-f", "team.yaml"]).await.succeeded(), "");
    let yaml = shell.run(&["get", "llm", "claude", "-o", "yaml"]).await.succeeded();
    assert_eq!(shell.run_with(&["apply", "-f", "-"], &yaml).await.succeeded(), "llms/claude unchanged\n");
    assert_eq!(shell.run(&["get", "llms", "-o", "name"]).await.succeeded(), "llms/claude\n");
    assert_eq!(shell.run(&["get", "llms", "-o", "jsonpath={.items[*].model}"]).await.succeeded(), "m\n");

    shell.run(&["create", "rolebinding", "b", "--role", "llm-user", "--user", "alice"]).await.succeeded();
    let who = shell.run(&["auth", "who-can", "run", "llm", "claude"]).await.succeeded();
    assert!(who.contains("User alice   llm-user   b"), "{who}");
    let token = shell.run(&["create", "token", "t", "--for", "User/alice"]).await.succeeded();
    assert!(token.starts_with("mcpd_") && token.lines().count() == 1, "the token alone");

    let mut alice = Shell::new();
    alice.env.extend([("MCPCTL_SERVER", mcpd.url().to_owned()), ("MCPCTL_TOKEN", token.trim().to_owned())]);
    assert!(alice.run(&["auth", "can-i", "run", "llms", "claude"]).await.succeeded().starts_with("yes: "));
    assert!(alice.run(&["auth", "can-i", "delete", "llms", "claude"]).await.failed(1).is_empty());
    shell.run(&["delete", "rolebinding", "b"]).await.succeeded();
    let refused = alice.run(&["get", "llms"]).await.failed(1);
    assert!(refused.starts_with("error: you may not view llms\nhint: "), "{refused}");
    let refused = alice.run(&["get", "llm", "claude"]).await.failed(1);
    assert_eq!(refused, "error: `User alice` may not view llms `claude`\n");
}

#[tokio::test]
async fn mistakes_get_one_error_with_a_place_and_a_hint() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    let cases = [
        (
            "kind: Llm\nname: a\ntype: openai\nurl: http://x\nmodel: m\nmodle: n\n",
            "f.yaml:6:1: unknown field `modle`",
        ),
        (
            "kind: User\nname: cabcdefghijklmnopqrstuvwx\n",
            "f.yaml:2:7: `cabcdefghijklmnopqrstuvwx` looks like an id",
        ),
        (
            "kind: User\nname: ok\n---\nkind: RoleBinding\nname: b\nrole: nope\nsubjects: [{kind: User, name: ok}]\n",
            "f.yaml:6: role: there is no Role `nope`",
        ),
        ("kind: User\nname: [\n", "f.yaml:2:7: the `[` that begins here is not closed"),
    ];
    for (text, expected) in cases {
        shell.file("f.yaml", text);
        let error = shell.run(&["apply", "-f", "f.yaml"]).await.failed(1);
        assert!(error.contains(expected), "{error}");
        assert_eq!(error.lines().filter(|line| line.starts_with("error: ")).count(), 1);
    }
    assert!(
        shell.run(&["get", "users", "-o", "name"]).await.succeeded() == "users/admin\n",
        "nothing was stored"
    );
    assert!(shell.run(&["get", "lmls"]).await.failed(2).contains("`lmls` is not a kind"));
    assert!(shell.run(&["frobnicate"]).await.failed(2).contains("unrecognized"));
    assert!(shell.run(&["chat"]).await.failed(2).contains("hint: "));

    let stranger = Shell::new();
    assert!(stranger.run(&["get", "llms"]).await.failed(1).contains("hint: mcpctl login"));
    let error =
        stranger.run_with(&["login", "http://127.0.0.1:1", "--token-stdin"], "mcpd_x").await.failed(1);
    assert!(error.contains("cannot be reached") && error.contains("hint: "), "{error}");
    let error = stranger.run_with(&["login", mcpd.url(), "--token-stdin"], "mcpd_x").await.failed(1);
    assert!(error.contains("the credential is not valid"), "{error}");
    assert!(!stranger.home.path().join("config").exists(), "a failed login left something");
}

#[tokio::test]
async fn password_signs_in_and_logout_ends_the_session() {
    let mcpd = Mcpd::start().await;
    let admin = Shell::signed_in(&mcpd).await;
    let password = "a password of some length";
    admin.run_with(&["create", "user", "alice", "--password-stdin"], password).await.succeeded();
    let alice = Shell::new();
    alice.run_with(&["login", mcpd.url(), "--user", "alice", "--password-stdin"], password).await.succeeded();
    assert!(alice.run(&["whoami"]).await.succeeded().contains("User alice"));
    let view = alice.run(&["config", "view"]).await.succeeded();
    assert!(view.contains("REDACTED") && !view.contains("mcpd_"), "{view}");
    alice.run(&["logout"]).await.succeeded();
    assert!(alice.run(&["whoami"]).await.failed(1).contains("not signed in"));
}

#[tokio::test]
async fn chat_works_directly_and_through_the_agent() {
    let mcpd = Mcpd::start().await;
    let mut provider = ModelServer::with_default(Reply::text("from the primary")).await;
    let desk = ModelServer::with_default(Reply::text("from the desk")).await;
    mcpd.llm("claude", &provider.base_url()).await;
    let mut shell = Shell::signed_in(&mcpd).await;
    let output = shell.run(&["chat", "claude", "-p", "Hi"]).await;
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (0, "from the primary\n", ""));
    assert_eq!(
        shell.run_with(&["chat", "-p", "-"], "Hi").await.succeeded(),
        "from the primary\n",
        "the only Llm"
    );

    let agent = Mcplocal::start(&format!(
        "server: {}\nproviders:\n  - {{name: desk, type: openai, url: '{}', model: m, failoverFor: claude}}\n",
        mcpd.url(),
        desk.base_url()
    ))
    .await;
    // The agent acts for the user who is signed in on its machine.
    agent.sign_in(&mcpd, "admin", &mcpd.admin());
    shell.env = vec![("MCPLOCAL_ADDRESS", agent.url().to_owned())];
    let [_, (_, state)] = agent.homes();
    shell.env.push(("XDG_STATE_HOME", state.display().to_string()));
    provider.refuse().await;
    let output = shell.run(&["chat", "claude", "-p", "Hi"]).await;
    assert_eq!((output.code, output.stdout.as_str()), (0, "from the desk\n"));
    assert!(output.stderr.contains("answered by the fallback `desk`"), "{}", output.stderr);
    let direct = shell.run(&["chat", "claude", "-p", "Hi", "--direct"]).await.failed(1);
    assert!(direct.contains("the provider cannot be reached"), "{direct}");

    let status = shell.run(&["local", "status"]).await.succeeded();
    assert!(status.contains("desk") && status.contains("last failover"), "{status}");
    let env = shell.run(&["local", "env"]).await.succeeded();
    assert!(
        env.contains(&format!("OPENAI_BASE_URL={}/v1", agent.url())) && env.contains("OPENAI_API_KEY=mcpl_")
    );
    assert!(
        env.contains(&format!("ANTHROPIC_BASE_URL={}\n", agent.url()))
            && env.contains("ANTHROPIC_AUTH_TOKEN=mcpl_"),
        "{env}"
    );
    assert!(shell.run(&["local", "logs", "desk"]).await.failed(1).contains("is not started by the agent"));
}

#[tokio::test]
async fn completion_and_version_need_no_server() {
    let shell = Shell::new();
    assert!(shell.run(&["completion", "bash"]).await.succeeded().contains("_mcpctl"));
    assert!(shell.run(&["version"]).await.succeeded().starts_with("mcpctl "));
    assert!(shell.run(&["--help"]).await.succeeded().contains("Talk to a model"));
}
