//! The command line and an mcpd that serves TLS with a certificate of a private authority: what works, and what each mistake reads like.

use mcpctl_testkit::{
    authority::{Authority, Issued},
    daemons::{Mcpd, McpdOptions, McpdTls},
};

use crate::shell::Shell;

async fn mcpd(tls: &McpdTls) -> Mcpd {
    Mcpd::start_with(McpdOptions { tls: Some(tls.clone()), ..McpdOptions::default() }).await
}

fn path(path: &std::path::Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn login_keeps_the_authority_for_later_commands() {
    let authority = Authority::new();
    let mcpd = mcpd(&McpdTls::of(&authority)).await;
    let (shell, ca) = (Shell::new(), authority.ca_file());
    let error = shell.run_with(&["login", mcpd.url(), "--token-stdin"], &mcpd.admin()).await.failed(1);
    assert!(
        error.contains("cannot be trusted: its certificate is of an authority that is not trusted here"),
        "{error}"
    );
    assert!(error.contains("`--ca FILE` of mcpctl, `ca` in mcplocal.yaml"), "{error}");
    let login = ["login", mcpd.url(), "--token-stdin", "--ca", path(&ca)];
    shell.run_with(&login, &mcpd.admin()).await.succeeded();
    let whoami = shell.run(&["whoami"]).await.succeeded();
    assert!(whoami.contains("(pinned)"), "{whoami}");
    let report = shell.run(&["doctor"]).await.stdout;
    let expected = format!("ok   TLS: trusted by {}, ends in ", path(&ca));
    assert!(report.contains(&expected), "{report}");
    assert!(report.contains("warn replicas: one mcpd on SQLite"), "{report}");
    assert!(report.contains("warn inference: shares mcpd's address"), "{report}");
    assert!(!report.contains("proxy"), "{report}");
    // Without the flag it is the one of the context.
    shell.run_with(&["login", mcpd.url(), "--token-stdin"], &mcpd.admin()).await.succeeded();
    shell.run(&["get", "llms"]).await.succeeded();
    let error = shell.run(&["get", "llms", "--ca", "/none.pem"]).await.failed(1);
    assert!(error.contains("`/none.pem` cannot be used: "), "{error}");
}

#[tokio::test]
async fn every_mistake_names_its_cause_and_the_next_step() {
    let authority = Authority::new();
    let served = async |issued: Issued| {
        let tls = McpdTls { issued, ..McpdTls::of(&authority) };
        mcpd(&tls).await
    };
    let (shell, ca) = (Shell::new(), authority.ca_file());
    let login = async |url: &str| {
        shell.run_with(&["login", url, "--token-stdin", "--ca", path(&ca)], "x").await.failed(1)
    };
    let elsewhere = served(authority.issue("elsewhere", &["mcpd.example.com"])).await;
    let error = login(elsewhere.url()).await;
    assert!(error.contains("its certificate is not for `127.0.0.1`, only for: "), "{error}");
    assert!(
        error.contains("mcpd.example.com") && error.contains("hint: use a name of the certificate"),
        "{error}"
    );

    let old = served(authority.issue_expired("old", &["127.0.0.1"])).await;
    let error = login(old.url()).await;
    assert!(error.contains("its certificate expired 2021-01-01 00:00 UTC"), "{error}");
    assert!(error.contains("hint: renew it"), "{error}");

    let good = served(authority.issue("good", &["127.0.0.1"])).await;
    let error = login(&good.url().replace("https://", "http://")).await;
    assert!(error.contains("this address speaks TLS") && error.contains("hint: write https://"), "{error}");

    let plain = Mcpd::start().await;
    let error = login(&plain.url().replace("http://", "https://")).await;
    assert!(error.contains("does not speak TLS") && error.contains("hint: it speaks plain http"), "{error}");
}

#[tokio::test]
async fn a_certificate_is_presented_where_mcpd_asks_for_one() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let own = clients.issue("alice", &["alice"]);
    let tls = McpdTls { clients: Some((clients.ca_file(), own.clone())), ..McpdTls::of(&authority) };
    let mcpd = mcpd(&tls).await;
    let (shell, ca) = (Shell::new(), authority.ca_file());
    let login = ["login", mcpd.url(), "--token-stdin", "--ca", path(&ca)];
    let error = shell.run_with(&login, &mcpd.admin()).await.failed(1);
    assert!(error.contains("it asks for a client's certificate, and none was presented"), "{error}");
    assert!(error.contains("--client-certificate FILE --client-key FILE"), "{error}");
    let mut login = login.to_vec();
    login.extend(["--client-certificate", path(&own.certificate)]);
    let error = shell.run_with(&login, &mcpd.admin()).await.failed(1);
    assert!(error.contains("a client's certificate is given without its key"), "{error}");
    login.extend(["--client-key", path(&own.key)]);
    shell.run_with(&login, &mcpd.admin()).await.succeeded();
    shell.run(&["get", "llms"]).await.succeeded();
}
