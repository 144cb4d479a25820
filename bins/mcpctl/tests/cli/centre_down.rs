//! What a person reads at the worst moments: the centre is gone, the token ends, the context is another server's.

use mcpctl_testkit::{
    daemons::{Mcpd, Mcplocal},
    model_server::{ModelServer, Reply},
};

use crate::shell::{Shell, beside};

async fn agent_and_shell(mcpd: &Mcpd, desk: &ModelServer) -> (Mcplocal, Shell) {
    let config = format!(
        "server: {}\nproviders:\n  - {{name: desk, type: openai, url: {}, model: m, failoverFor: claude}}\n",
        mcpd.url(),
        desk.base_url()
    );
    let agent = Mcplocal::start(&config).await;
    let shell = beside(&agent);
    shell.run_with(&["login", mcpd.url(), "--token-stdin"], &mcpd.admin()).await.good();
    (agent, shell)
}

#[tokio::test]
async fn chat_names_mcpd_and_the_provider_when_mcpd_is_down() {
    let mut mcpd = Mcpd::start().await;
    let desk = ModelServer::with_default(Reply::text("from the desk")).await;
    let (_agent, shell) = agent_and_shell(&mcpd, &desk).await;
    mcpd.kill();
    let said = shell.run(&["chat", "claude", "-p", "Hi"]).await.failed(1);
    let expected = format!("[mcpd at {} cannot be asked (", mcpd.url());
    assert!(said.contains(&expected) && said.contains("refused"), "{said}");
    assert!(said.contains("`desk` may be used in place of `claude` only while mcpd allows it"), "{said}");
    let said = shell.run(&["chat", "other", "-p", "Hi"]).await.failed(1);
    assert!(said.contains("[no local provider falls back for `other`"), "{said}");
    assert!(desk.inferences().is_empty());
    assert_eq!(shell.run(&["chat", "local/desk", "-p", "Hi"]).await.good(), "from the desk\n");
}

#[tokio::test]
async fn token_that_ends_soon_is_reported_with_its_renewal() {
    let mcpd = Mcpd::start().await;
    let centre = ModelServer::with_default(Reply::text("from the centre")).await;
    mcpd.llm("claude", &centre.base_url()).await;
    let desk = ModelServer::start().await;
    let (_agent, shell) = agent_and_shell(&mcpd, &desk).await;
    let create = ["create", "token", "short", "--for", "User/admin", "--expires-in"];
    let renewal =
        format!("renew it: mcpctl create token NAME --for User/admin | mcpctl login {}", mcpd.url());

    let token = shell.run(&[&create[..], &["30d"]].concat()).await.good();
    let said = shell.run_with(&["login", mcpd.url(), "--token-stdin"], &token).await;
    assert!(said.code == 0 && !said.err.contains("warning"), "{}", said.err);
    assert_eq!(shell.run(&["chat", "claude", "-p", "Hi"]).await.err, "");

    let create = ["create", "token", "shorter", "--for", "User/admin", "--expires-in", "6d"];
    let token = shell.run(&create).await.good();
    let said = shell.run_with(&["login", mcpd.url(), "--token-stdin"], &token).await;
    assert!(said.err.contains(&renewal), "{}", said.err);
    let said = shell.run(&["chat", "claude", "-p", "Hi"]).await;
    assert_eq!(said.out, "from the centre\n");
    assert!(said.err.starts_with("warning: your token at ") && said.err.contains(&renewal), "{}", said.err);
    let status = shell.run(&["local", "status"]).await.good();
    assert!(status.contains(&renewal), "{status}");
    let report = shell.run(&["doctor"]).await.good();
    assert!(report.contains("warn token: your token at ") && report.contains(&renewal), "{report}");
}

#[tokio::test]
async fn doctor_sees_another_server_and_a_broken_configuration() {
    let mcpd = Mcpd::start().await;
    let other = Mcpd::start().await;
    let desk = ModelServer::start().await;
    let (agent, shell) = agent_and_shell(&mcpd, &desk).await;
    shell.run_with(&["login", other.url(), "--token-stdin"], &other.admin()).await.good();
    let report = shell.run(&["doctor"]).await.good();
    let expected =
        format!("warn context: the context is of {} and mcplocal speaks for {}", other.url(), mcpd.url());
    assert!(report.contains(&expected), "{report}");

    let config = agent.config_file().with_file_name("config").join("mcpctl/mcplocal.yaml");
    std::fs::write(&config, "server: http://mcpd.example.com\n").unwrap();
    let report = shell.run(&["doctor"]).await;
    assert_eq!(report.code, 1, "{}", report.out);
    assert!(report.out.contains("FAIL ") && report.out.contains("mcplocal.yaml:1:"), "{}", report.out);
    let config = format!(
        "server: {}\nproviders:\n  - {{name: desk, type: openai, url: 'http://127.0.0.1:1/v1', model: m}}\n",
        mcpd.url()
    );
    std::fs::write(agent.config_file().with_file_name("config").join("mcpctl/mcplocal.yaml"), config)
        .unwrap();
    let report = shell.run(&["doctor"]).await;
    assert!(report.out.contains("127.0.0.1:1"), "{}", report.out);
}

#[tokio::test]
async fn login_does_not_send_a_newcomer_from_http_to_https_and_back() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::new();
    let said =
        shell.run_with(&["login", "http://mcpd.example.com:3100", "--token-stdin"], "x").await.failed(1);
    assert!(
        said.contains("hint: mcpd itself speaks no TLS: use the https address of the reverse proxy"),
        "{said}"
    );
    let https = mcpd.url().replace("http://", "https://");
    let said = shell.run_with(&["login", &https, "--token-stdin"], &mcpd.admin()).await.failed(1);
    assert!(said.contains("hint: mcpd itself speaks no TLS: write http:// here"), "{said}");
}
