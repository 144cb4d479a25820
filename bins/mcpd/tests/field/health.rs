//! `mcpd health`, and what `/readyz` answers before mcpd ends.

use std::process::{Command, Output};

use mcpctl_testkit::{
    authority::Authority,
    daemons::{Mcpd, McpdOptions, McpdTls, closed_address, eventually, program},
    model_server::{ModelServer, Reply},
};
use reqwest::StatusCode;
use serde_json::json;

/// Runs `mcpd health`; returns whether it succeeded, and what it printed.
async fn health(arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(program("mcpd"));
    command.arg("health").args(arguments);
    // Aside, because the other end may be a task of this test.
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let Output { status, stdout, stderr } = output.unwrap();
    (status.success(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

fn address(mcpd: &Mcpd) -> &str {
    mcpd.url().split_once("://").unwrap().1
}

#[tokio::test]
async fn health_is_asked_where_mcpd_listens() {
    let mcpd = Mcpd::start().await;
    let listen = address(&mcpd).to_owned();
    assert_eq!(health(&["--listen", &listen]).await, (true, "ready\n".to_owned()));
    assert_eq!(health(&["--listen", &listen, "--live"]).await, (true, "live\n".to_owned()));
    assert_eq!(health(&[mcpd.url()]).await, (true, "ready\n".to_owned()));
    let port = listen.split_once(':').unwrap().1;
    let everywhere = ["--listen", &format!("0.0.0.0:{port}"), "--allow-plain-http"];
    assert_eq!(health(&everywhere).await, (true, "ready\n".to_owned()));
    let config = mcpd.data_dir().join("mcpd.yaml");
    std::fs::write(&config, format!("listen: {listen}\ndatabaseUrlFile: /gone\n")).unwrap();
    let config = config.display().to_string();
    assert_eq!(health(&["--config", &config]).await, (true, "ready\n".to_owned()), "no other file is read");

    let nothing = closed_address().to_string();
    let (healthy, output) = health(&["--listen", &nothing]).await;
    assert!(
        !healthy
            && output
                .contains(&format!("error: http://{nothing} cannot be reached: connection refused\nhint: ")),
        "{output}"
    );
    // A model server is no mcpd.
    let other = ModelServer::with_default(Reply::text("Hi")).await;
    let (healthy, output) = health(&["--listen", &other.address().to_string()]).await;
    assert!(!healthy && output.contains("is it mcpd that answers there?"), "{output}");
}

#[tokio::test]
async fn health_is_asked_over_tls() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let own = clients.issue("client", &["health"]);
    let issued = authority.issue("named", &["mcpd.example.com"]);
    let tls = McpdTls {
        issued: issued.clone(),
        clients: Some((clients.ca_file(), own.clone())),
        ..McpdTls::of(&authority)
    };
    let mcpd = Mcpd::start_with(McpdOptions { tls: Some(tls), ..McpdOptions::default() }).await;
    let path = |path: &std::path::Path| path.display().to_string();
    let (certificate, key) = (path(&issued.certificate), path(&issued.key));
    let served = ["--listen", address(&mcpd), "--tls-certificate", &certificate, "--tls-key", &key];
    let (healthy, output) = health(&served).await;
    assert!(!healthy && output.contains("asks for a client's certificate"), "{output}");
    let (own, own_key, ca) = (path(&own.certificate), path(&own.key), path(&authority.ca_file()));
    let presented = ["--client-certificate", &own, "--client-key", &own_key];
    let (healthy, output) = health(&[&served[..], &presented[..]].concat()).await;
    assert!(healthy, "its certificate is for another name than the address: {output}");

    // An address that is given is verified.
    let (healthy, output) = health(&[&[mcpd.url(), "--ca", &ca][..], &presented[..]].concat()).await;
    assert!(!healthy && output.contains("only for: ") && output.contains("mcpd.example.com"), "{output}");
    let (healthy, output) = health(&[&[mcpd.url()][..], &presented[..]].concat()).await;
    assert!(!healthy && output.contains("cannot be trusted"), "{output}");
}

#[tokio::test]
async fn requests_are_accepted_until_load_balancers_notice() {
    let config = Some("drainDelay: 5m\n".to_owned());
    let mut mcpd = Mcpd::start_with(McpdOptions { config, ..McpdOptions::default() }).await;
    let provider = ModelServer::with_default(Reply::text("Hi")).await;
    mcpd.llm_with_default_timeouts("claude", &provider.base_url()).await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    mcpd.terminate();
    let gone =
        async || (mcpd.get("/readyz", "").await.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(());
    eventually("mcpd is not ready", gone).await;
    let (healthy, output) = health(&["--listen", address(&mcpd)]).await;
    assert!(!healthy && output.contains("this replica is going down"), "{output}");
    assert!(health(&["--listen", address(&mcpd), "--live"]).await.0);
    let chat = json!({"model": "claude", "messages": [{"role": "user", "content": "Hi"}]});
    assert_eq!(mcpd.post("/v1/chat/completions", &alice, &chat).await.status(), StatusCode::OK);
    // The second signal ends the wait.
    mcpd.terminate();
    assert!(mcpd.wait().success());
}
