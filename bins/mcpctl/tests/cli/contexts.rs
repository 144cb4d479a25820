//! Who is signed in where, and where tokens go: to their own server, and nowhere else.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
};

use mcpctl_testkit::{daemons::Mcpd, model_server::ModelServer};

use crate::shell::Shell;

#[tokio::test]
async fn contexts_are_listed_switched_and_forgotten() {
    let (one, two) = (Mcpd::start().await, Mcpd::start().await);
    let shell = Shell::new();
    shell.run_with(&["login", one.url(), "--token-stdin", "--context", "one"], &one.admin()).await.good();
    shell.run_with(&["login", two.url(), "--token-stdin"], &two.admin()).await.good();
    let mode = fs::metadata(shell.contexts()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let host = two.url().trim_start_matches("http://").to_owned();
    assert_eq!(
        shell.run(&["config", "current-context"]).await.good(),
        format!("{host}\n"),
        "by host and port"
    );
    shell.run(&["config", "use-context", "one"]).await.good();
    let listed = shell.run(&["config", "get-contexts"]).await.good();
    let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    let address = |mcpd: &Mcpd| format!("{}/", mcpd.url());
    assert_eq!(rows[0], ["CURRENT", "NAME", "SERVER", "USER"]);
    assert_eq!(rows[1], ["*", "one", &address(&one), "admin"]);
    assert_eq!(rows[2], [&host, &address(&two), "admin"]);

    let whoami = |args: &'static [&'static str]| shell.run(args);
    assert!(whoami(&["whoami"]).await.good().contains(one.url()));
    let other = shell.run(&["whoami", "--context", &host]).await.good();
    assert!(other.contains(two.url()), "{other}");
    let unknown = shell.run(&["whoami", "--context", "nope"]).await.failed(1);
    assert_eq!(unknown, "error: there is no context `nope`\nhint: mcpctl config get-contexts\n");
    shell.run(&["config", "delete-context", "one"]).await.good();
    assert!(
        shell.run(&["config", "current-context"]).await.failed(1).contains("there is no current context")
    );
}

#[tokio::test]
async fn a_token_goes_to_its_own_server_only() {
    let mcpd = Mcpd::start().await;
    let stranger = ModelServer::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    let other = stranger.base_url();
    let other = other.trim_end_matches("/v1");
    let said = shell.run(&["get", "llms", "--server", other]).await.failed(1);
    assert_eq!(said, format!("error: nobody is signed in at {other}\nhint: mcpctl login {other}\n"));
    let said = shell.run(&["get", "llms", "--server", "http://mcpd.example.com"]).await.failed(1);
    assert!(said.contains("is not encrypted, and your token would travel to it"), "{said}");
    assert!(stranger.requests().is_empty(), "{:?}", stranger.requests());
}

#[tokio::test]
async fn variables_override_the_file_and_empty_ones_do_not() {
    let mcpd = Mcpd::start().await;
    let alice = mcpd.user("alice", None).await;
    let mut shell = Shell::signed_in(&mcpd).await;
    shell.more.push(("MCPCTL_TOKEN", alice));
    assert!(shell.run(&["whoami"]).await.good().starts_with("User alice at "));
    shell.more.push(("MCPCTL_SERVER", "http://127.0.0.1:1".to_owned()));
    let said = shell.run(&["whoami"]).await.failed(1);
    let expected = "error: http://127.0.0.1:1 cannot be reached: connection refused\nhint: check the address, and that mcpd runs there\n";
    assert_eq!(said, expected);
    for name in ["MCPCTL_TOKEN", "MCPCTL_SERVER", "MCPCTL_CONTEXT"] {
        shell.more.push((name, String::new()));
    }
    assert!(shell.run(&["whoami"]).await.good().starts_with("User admin at "));
}

#[tokio::test]
async fn a_file_that_cannot_be_trusted_is_not_used() {
    let shell = Shell::new();
    fs::create_dir_all(shell.path("config/mcpctl")).unwrap();
    let put = |text: &str, mode: u32| {
        fs::write(shell.contexts(), text).unwrap();
        fs::set_permissions(shell.contexts(), Permissions::from_mode(mode)).unwrap();
    };
    let shown = shell.contexts().display().to_string();
    put("contexts: []\n", 0o644);
    let said = shell.run(&["whoami"]).await.failed(1);
    assert_eq!(
        said,
        format!("error: `{shown}` can be read by others, and it holds tokens\nhint: chmod 600 {shown}\n")
    );
    put("contexts:\n- name: a\n  servr: https://a\n  token: mcpd_hunter2\n", 0o600);
    let said = shell.run(&["whoami"]).await.failed(1);
    assert!(said.starts_with(&format!("error: {shown}:3:3: unknown field `servr`")), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    let report = shell.run(&["doctor"]).await;
    assert_eq!((report.code, report.err.as_str()), (1, ""));
    assert!(report.out.starts_with(&format!("FAIL contexts: {shown}:3:3: ")), "{}", report.out);
}

#[tokio::test]
async fn logging_out_says_what_became_of_the_token() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    // The bootstrap token is nobody's session.
    let said = shell.run(&["logout"]).await;
    assert_eq!(said.code, 0);
    assert!(
        said.err.starts_with("note: the token is forgotten here, but it is still good: "),
        "{}",
        said.err
    );
    assert!(!fs::read_to_string(shell.contexts()).unwrap().contains("mcpd_"));

    // One that was revoked meanwhile is not good any more, and nothing need be said of it.
    let token = mcpd.user("alice", None).await;
    shell.run_with(&["login", mcpd.url(), "--token-stdin"], &token).await.good();
    mcpd.delete("/api/v1/tokens/alice-token", &mcpd.admin()).await;
    assert!(shell.run(&["whoami"]).await.failed(1).contains("the credential is not valid"));
    let said = shell.run(&["logout"]).await;
    assert_eq!((said.code, said.err), (0, format!("signed out at {}\n", mcpd.url())));
    assert!(shell.run(&["logout"]).await.failed(1).contains("nobody is signed in"));
}

#[tokio::test]
async fn a_server_that_is_gone_keeps_nobody_signed_in() {
    let mut mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    mcpd.kill();
    let said = shell.run(&["logout"]).await;
    assert_eq!(said.code, 0);
    assert!(said.err.contains("cannot be reached"), "{}", said.err);
    assert!(!fs::read_to_string(shell.contexts()).unwrap().contains("mcpd_"), "the token is forgotten");
}
