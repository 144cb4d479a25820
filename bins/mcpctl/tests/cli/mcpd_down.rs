//! Errors at the worst moments: mcpd is down, the token expires, the context is of another server.

use mcpctl_testkit::{daemons::Mcpd, deployment::Deployment};

use crate::shell::{Shell, beside};

/// A deployment, and a shell in which its administrator is signed in.
async fn deployment_and_shell() -> (Deployment, Shell) {
    let deployment = Deployment::start().await;
    let shell = beside(&deployment.agent);
    let mcpd = &deployment.mcpd;
    shell.run_with(&["login", mcpd.url(), "--token-stdin"], &mcpd.admin()).await.succeeded();
    (deployment, shell)
}

#[tokio::test]
async fn chat_names_mcpd_and_the_provider_when_mcpd_is_down() {
    let (mut deployment, shell) = deployment_and_shell().await;
    deployment.mcpd.kill();
    let mcpd = &deployment.mcpd;
    let error = shell.run(&["chat", "claude", "-p", "Hi"]).await.failed(1);
    let expected = format!("[no fallback: mcpd at {} cannot be asked (", mcpd.url());
    assert!(error.contains(&expected) && error.contains("refused"), "{error}");
    assert!(error.contains("`desk` may be used in place of `claude` only while mcpd allows it"), "{error}");
    let error = shell.run(&["chat", "other", "-p", "Hi"]).await.failed(1);
    assert!(error.contains("[no fallback: no local provider is for `other`"), "{error}");
    assert!(deployment.desk.inferences().is_empty());
    assert_eq!(shell.run(&["chat", "local/desk", "-p", "Hi"]).await.succeeded(), "from the desk\n");
}

#[tokio::test]
async fn expiring_token_is_reported_with_its_renewal() {
    let (deployment, shell) = deployment_and_shell().await;
    let mcpd = &deployment.mcpd;
    let create = ["create", "token", "short", "--for", "User/admin", "--expires-in"];
    let context = mcpd.url().trim_start_matches("http://");
    let renewal = format!("renew it: mcpctl token rotate --context {context}");

    let token = shell.run(&[&create[..], &["30d"]].concat()).await.succeeded();
    let output = shell.run_with(&["login", mcpd.url(), "--token-stdin"], &token).await;
    assert!(output.code == 0 && !output.stderr.contains("warning"), "{}", output.stderr);
    assert_eq!(shell.run(&["chat", "claude", "-p", "Hi"]).await.stderr, "");

    let create = ["create", "token", "shorter", "--for", "User/admin", "--expires-in", "6d"];
    let token = shell.run(&create).await.succeeded();
    let output = shell.run_with(&["login", mcpd.url(), "--token-stdin"], &token).await;
    assert!(output.stderr.contains(&renewal), "{}", output.stderr);
    let output = shell.run(&["chat", "claude", "-p", "Hi"]).await;
    assert_eq!(output.stdout, "from the primary\n");
    assert!(
        output.stderr.starts_with("warning: your token at ") && output.stderr.contains(&renewal),
        "{}",
        output.stderr
    );
    let status = shell.run(&["local", "status"]).await.succeeded();
    assert!(status.contains(&renewal), "{status}");
    let report = shell.run(&["doctor"]).await.succeeded();
    assert!(report.contains("warn token: your token at ") && report.contains(&renewal), "{report}");
}

#[tokio::test]
async fn doctor_reports_another_server_and_a_broken_configuration() {
    let (deployment, shell) = deployment_and_shell().await;
    let (mcpd, agent) = (&deployment.mcpd, &deployment.agent);
    let other = Mcpd::start().await;
    shell.run_with(&["login", other.url(), "--token-stdin"], &other.admin()).await.succeeded();
    let report = shell.run(&["doctor"]).await.succeeded();
    let expected =
        format!("warn context: the context is of {} and mcplocal forwards to {}", other.url(), mcpd.url());
    assert!(report.contains(&expected), "{report}");

    let config = agent.config_file().with_file_name("config").join("mcpctl/mcplocal.yaml");
    std::fs::write(&config, "server: http://mcpd.example.com\n").unwrap();
    let report = shell.run(&["doctor"]).await;
    assert_eq!(report.code, 1, "{}", report.stdout);
    assert!(
        report.stdout.contains("FAIL ") && report.stdout.contains("mcplocal.yaml:1:"),
        "{}",
        report.stdout
    );
    let config = format!(
        "server: {}\nproviders:\n  - {{name: desk, type: openai, url: 'http://127.0.0.1:1/v1', model: m}}\n",
        mcpd.url()
    );
    std::fs::write(agent.config_file().with_file_name("config").join("mcpctl/mcplocal.yaml"), config)
        .unwrap();
    let report = shell.run(&["doctor"]).await;
    assert!(report.stdout.contains("127.0.0.1:1"), "{}", report.stdout);
}

#[tokio::test]
async fn login_hints_do_not_lead_from_http_to_https_and_back() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::new();
    let error =
        shell.run_with(&["login", "http://mcpd.example.com:3100", "--token-stdin"], "x").await.failed(1);
    assert!(error.contains("hint: use https: mcpd serves it with `tls` in its configuration"), "{error}");
    let https = mcpd.url().replace("http://", "https://");
    let error = shell.run_with(&["login", &https, "--token-stdin"], &mcpd.admin()).await.failed(1);
    assert!(error.contains("hint: it speaks plain http: write http:// here"), "{error}");
}
