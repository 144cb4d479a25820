//! Tables and reports on a terminal of 80 columns.

use mcpctl_testkit::deployment::Deployment;

use crate::shell::beside;

#[tokio::test]
async fn tables_fit_a_terminal_of_80_columns() {
    let deployment = Deployment::start().await;
    let mcpd = &deployment.mcpd;
    let mut shell = beside(&deployment.agent);
    shell
        .run_with(&["login", mcpd.url(), "--token-stdin", "--context", "administrator"], &mcpd.admin())
        .await
        .succeeded();
    for args in [
        &["create", "serviceaccount", "continuous-integration"][..],
        &["create", "rolebinding", "ci", "--role", "llm-user", "--serviceaccount", "continuous-integration"],
        &["create", "token", "nightly-builds", "--for", "ServiceAccount/continuous-integration"],
        &["admin", "rotate-keys"],
    ] {
        shell.run(args).await.succeeded();
    }
    // A denial by a rule of the Llm, which has a long reason at mcpd and in the journal.
    shell.run(&["patch", "llm", "claude", "-p", "failover: {allowed: false}"]).await.succeeded();
    deployment.overload_provider();
    let error = shell.run(&["chat", "claude", "-p", "Hi"]).await.failed(1);
    let rule = "[the local provider `desk` may not be used: the Llm `claude` does not let agents answer in its place";
    assert!(error.contains(rule), "{error}");
    let whole = shell.run(&["audit"]).await.succeeded();
    assert!(whole.contains("   the Llm `claude` does not let agents answer in its place"), "{whole}");

    shell.env.push(("COLUMNS", "80".to_owned()));
    let config = deployment.agent.config_file().display().to_string();
    for args in [
        &["audit"][..],
        &["local", "journal"],
        &["local", "status"],
        &["local", "doctor", "--config", &config],
        &["doctor"],
        &["config", "get-contexts"],
        &["get", "tokens"],
        &["get", "llms"],
        &["get", "rolebindings"],
        &["auth", "who-can", "run", "llms", "claude"],
    ] {
        let output = shell.run(args).await.stdout;
        let widest = output.lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(widest.chars().count() <= 80, "{args:?}\n{output}");
    }
    // On a narrow one each provider has lines of its own, and nothing of the table is lost.
    shell.env.push(("COLUMNS", "60".to_owned()));
    for args in [&["local", "status"][..], &["local", "history"]] {
        let output = shell.run(args).await.succeeded();
        let widest = output.lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(widest.chars().count() <= 60 && output.contains("desk"), "{args:?}\n{output}");
    }
    shell.env.push(("COLUMNS", "40".to_owned()));
    let output = shell.run(&["local", "status"]).await.succeeded();
    assert!(
        output.contains("\ndesk external, for claude\n  openai, ") && !output.contains("PROVIDER"),
        "{output}"
    );
    shell.env.push(("COLUMNS", "80".to_owned()));
    // What was decided stays whole beside names of any length.
    let audit = shell.run(&["audit"]).await.succeeded();
    let first = audit.lines().filter(|line| !line.starts_with(' ')).skip(1);
    for line in first {
        let word = line.split_whitespace().nth(2).unwrap();
        assert!(["allowed", "denied"].contains(&word), "{audit}");
    }
    let wide = shell.run(&["audit", "-o", "wide"]).await.succeeded();
    assert!(wide.lines().next().unwrap().contains("REPORTED BY   REQUEST"), "{wide}");
}
