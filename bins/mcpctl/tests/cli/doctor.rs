//! `mcpctl doctor` of an administrator without an agent: each step from this machine to the models, and what each fault reads like.

use mcpctl_testkit::{
    authority::{Authority, Issued},
    daemons::{Mcpd, McpdOptions, McpdTls},
    model_server::{ModelServer, Reply},
};
use serde_json::{Value, json};

use crate::shell::Shell;

/// A shell on a machine without an agent.
fn without_agent() -> Shell {
    let mut shell = Shell::new();
    shell.env.clear();
    shell
}

async fn served(authority: &Authority, issued: Issued) -> Mcpd {
    let tls = McpdTls { issued, ..McpdTls::of(authority) };
    Mcpd::start_with(McpdOptions { tls: Some(tls), ..McpdOptions::default() }).await
}

#[tokio::test]
async fn steps_to_mcpd_are_reported_with_tls_and_its_faults() {
    let (authority, other) = (Authority::new(), Authority::new());
    let names = ["127.0.0.1", "localhost"];
    let mcpd = served(&authority, authority.issue_ending("good", &names, 40)).await;
    let shell = without_agent();
    let (ca, other_ca) = (authority.ca_file().display().to_string(), other.ca_file().display().to_string());
    let by_name = mcpd.url().replace("127.0.0.1", "localhost");
    shell.run_with(&["login", &by_name, "--token-stdin", "--ca", &ca], &mcpd.admin()).await.succeeded();
    let report = shell.run(&["doctor"]).await.succeeded();
    let address = mcpd.url().trim_start_matches("https://");
    for line in [
        "\nok   name: localhost is ".to_owned(),
        format!("\nok   connect: {address} ("),
        format!("\nok   TLS: trusted by {ca}, ends in 39d"),
        format!("\nok   server: {by_name}, mcpd {}, ready\n", env!("CARGO_PKG_VERSION")),
        "\nok   clock: as mcpd's, within seconds\n".to_owned(),
        "\nok   signed in: User admin\n".to_owned(),
        "\nok   token: ends in ".to_owned(),
        "\nok   mcplocal: not set up on this machine".to_owned(),
    ] {
        assert!(report.contains(&line), "{line} is not in {report}");
    }
    let findings = shell.run(&["doctor", "-o", "json"]).await.succeeded();
    let findings: Value = serde_json::from_str(&findings).unwrap();
    let tls = findings.as_array().unwrap().iter().find(|finding| finding["what"] == "TLS").unwrap();
    assert_eq!(tls["state"], "ok", "{findings}");

    // What fails ends the way: the steps after it are not tried.
    let at = async |server: &str, ca: &str| {
        let report = shell.run(&["doctor", "--server", server, "--ca", ca]).await;
        assert!(report.code == 1 && !report.stdout.contains("signed in"), "{}", report.stdout);
        report.stdout
    };
    let report = at(mcpd.url(), &other_ca).await;
    assert!(
        report.contains("FAIL TLS: ")
            && report.contains("authority that is not trusted here (is it the right server?"),
        "{report}"
    );
    let elsewhere = served(&authority, authority.issue("elsewhere", &["mcpd.example.com"])).await;
    let report = at(elsewhere.url(), &ca).await;
    assert!(
        report.contains("not for `127.0.0.1`, only for: mcpd.example.com (use a name of the"),
        "{report}"
    );
    let old = served(&authority, authority.issue_expired("old", &names)).await;
    let report = at(old.url(), &ca).await;
    assert!(
        report.contains("FAIL TLS: ") && report.contains("expired 2021-01-01 00:00 UTC (renew it"),
        "{report}"
    );
    let report = at("https://no-such-host.invalid", &ca).await;
    assert!(
        report.contains("FAIL name: ") && report.contains("`no-such-host.invalid` cannot be resolved"),
        "{report}"
    );
    let report = at("https://127.0.0.1:1", &ca).await;
    assert!(
        report.contains("FAIL connect: ") && report.contains("connection refused (is mcpd running there"),
        "{report}"
    );

    // One that still works, and soon does not.
    let soon = served(&authority, authority.issue_ending("soon", &names, 6)).await;
    let mut shell = without_agent();
    shell.env.push(("MCPCTL_TOKEN", soon.admin()));
    let report = shell.run(&["doctor", "--server", soon.url(), "--ca", &ca]).await.succeeded();
    assert!(report.contains("warn TLS: trusted by ") && report.contains("ends in 5d"), "{report}");
    assert!(report.contains("(renew the certificate"), "{report}");
}

#[tokio::test]
async fn llms_that_fail_are_reported_and_none_is_asked_unless_named() {
    let (mcpd, provider) = (Mcpd::start().await, ModelServer::start().await);
    mcpd.llm_with_default_timeouts("gpt", &provider.base_url()).await;
    let healthy = ModelServer::start().await;
    mcpd.llm_with_default_timeouts("claude", &healthy.base_url()).await;
    let shell = without_agent();
    shell.run_with(&["login", mcpd.url(), "--token-stdin"], &mcpd.admin()).await.succeeded();
    let report = shell.run(&["doctor"]).await.succeeded();
    assert!(report.contains("\nok   llms: 2 not used since mcpd's start\n"), "{report}");
    assert!(provider.requests().is_empty());

    let report = shell.run(&["doctor", "--llm", "gpt"]).await.succeeded();
    assert!(
        report.contains("\nok   llm gpt, first token: ") && report.contains("\nok   llm gpt, answer: "),
        "{report}"
    );
    assert_eq!(provider.inferences().len(), 1);

    provider.set_default(Reply::error(500, "out of memory", "oom"));
    let report = shell.run(&["doctor", "--llm", "gpt", "--llm", "none"]).await;
    assert_eq!(report.code, 1);
    let found = format!(
        "\nFAIL llm gpt, first token: `{}` fails: status 500: out of memory (see the log",
        provider.address()
    );
    assert!(report.stdout.contains(&found), "{}", report.stdout);
    assert!(report.stdout.contains("\nFAIL llm none: there is no Llm `none`"), "{}", report.stdout);
    let report = shell.run(&["doctor"]).await;
    assert_eq!(report.code, 1);
    let state = "\nFAIL llm gpt: failing since ";
    assert!(
        report.stdout.contains(state) && report.stdout.contains("(mcpctl llm test gpt shows where)"),
        "{}",
        report.stdout
    );

    // Where one is named, the others are another question.
    let report = shell.run(&["doctor", "--llm", "claude"]).await.succeeded();
    assert!(!report.contains("gpt") && report.contains("\nok   llm claude, answer: "), "{report}");
    assert!(
        report.contains("(mcpctl explain llm.failover.offlineGrace)"),
        "a page is nowhere here: {report}"
    );

    // Others see what they may view.
    let rules = json!([{"kinds": ["llms"], "verbs": ["run"], "names": ["gpt"]}]);
    let alice = mcpd.user_with_rules("alice", rules).await;
    let other = without_agent();
    other.run_with(&["login", mcpd.url(), "--token-stdin"], &alice).await.succeeded();
    let report = other.run(&["doctor"]).await.succeeded();
    assert!(report.contains("\nwarn llms: there is none that this account may view"), "{report}");
    assert!(!report.contains("gpt"), "{report}");
}
