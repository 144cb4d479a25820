//! Contexts: who is signed in at which server, and that a token goes to its own server only.

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
    shell
        .run_with(&["login", one.url(), "--token-stdin", "--context", "one"], &one.admin())
        .await
        .succeeded();
    shell.run_with(&["login", two.url(), "--token-stdin"], &two.admin()).await.succeeded();
    let mode = fs::metadata(shell.contexts()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let host = two.url().trim_start_matches("http://").to_owned();
    assert_eq!(
        shell.run(&["config", "current-context"]).await.succeeded(),
        format!("{host}\n"),
        "a context is named by host and port"
    );
    shell.run(&["config", "use-context", "one"]).await.succeeded();
    let listed = shell.run(&["config", "get-contexts"]).await.succeeded();
    let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    let address = |mcpd: &Mcpd| mcpd.url().to_owned();
    assert_eq!(rows[0], ["CURRENT", "NAME", "SERVER", "USER", "PINNED", "KEY"]);
    assert_eq!(rows[1][..4], ["*", "one", &address(&one), "admin"]);
    assert_eq!(rows[2][..3], [&host, &address(&two), "admin"]);

    let whoami = |args: &'static [&'static str]| shell.run(args);
    assert!(whoami(&["whoami"]).await.succeeded().contains(one.url()));
    let other = shell.run(&["whoami", "--context", &host]).await.succeeded();
    assert!(other.contains(two.url()), "{other}");
    let unknown = shell.run(&["whoami", "--context", "nope"]).await.failed(1);
    assert_eq!(unknown, "error: there is no context `nope`\nhint: mcpctl config get-contexts\n");
    shell.run(&["config", "delete-context", "one"]).await.succeeded();
    assert!(
        shell.run(&["config", "current-context"]).await.failed(1).contains("there is no current context")
    );
}

#[tokio::test]
async fn token_goes_to_its_own_server_only() {
    let mcpd = Mcpd::start().await;
    let stranger = ModelServer::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    let other = stranger.base_url();
    let other = other.trim_end_matches("/v1");
    let error = shell.run(&["get", "llms", "--server", other]).await.failed(1);
    assert_eq!(error, format!("error: not signed in at {other}\nhint: mcpctl login {other}\n"));
    let error = shell.run(&["get", "llms", "--server", "http://mcpd.example.com"]).await.failed(1);
    assert!(error.contains("is not encrypted, and your token would travel to it"), "{error}");
    assert!(stranger.requests().is_empty(), "{:?}", stranger.requests());
}

#[tokio::test]
async fn variables_override_the_file_unless_they_are_empty() {
    let mcpd = Mcpd::start().await;
    let alice = mcpd.user("alice", None).await;
    let mut shell = Shell::signed_in(&mcpd).await;
    shell.env.push(("MCPCTL_TOKEN", format!("{alice}x")));
    let error = shell.run(&["whoami"]).await.failed(1);
    assert!(error.ends_with("\nhint: unset MCPCTL_TOKEN, or set it to a valid token\n"), "{error}");
    shell.env.push(("MCPCTL_TOKEN", alice));
    assert!(shell.run(&["whoami"]).await.succeeded().starts_with("User alice at "));
    shell.env.push(("MCPCTL_SERVER", "http://127.0.0.1:1".to_owned()));
    let error = shell.run(&["whoami"]).await.failed(1);
    let expected = "error: http://127.0.0.1:1 cannot be reached: connection refused\nhint: check the address, and that mcpd runs there\n";
    assert_eq!(error, expected);
    for name in ["MCPCTL_TOKEN", "MCPCTL_SERVER", "MCPCTL_CONTEXT"] {
        shell.env.push((name, String::new()));
    }
    assert!(shell.run(&["whoami"]).await.succeeded().starts_with("User admin at "));
}

#[tokio::test]
async fn untrusted_contexts_file_is_not_used() {
    let shell = Shell::new();
    fs::create_dir_all(shell.path("config/mcpctl")).unwrap();
    let put = |text: &str, mode: u32| {
        fs::write(shell.contexts(), text).unwrap();
        fs::set_permissions(shell.contexts(), Permissions::from_mode(mode)).unwrap();
    };
    let shown = shell.contexts().display().to_string();
    put("contexts: []\n", 0o644);
    let error = shell.run(&["whoami"]).await.failed(1);
    assert_eq!(
        error,
        format!("error: `{shown}` can be read by others, and it holds tokens\nhint: chmod 600 {shown}\n")
    );
    put("contexts:\n- name: a\n  servr: https://a\n  token: mcpd_hunter2\n", 0o600);
    let error = shell.run(&["whoami"]).await.failed(1);
    assert!(error.starts_with(&format!("error: {shown}:3:3: unknown field `servr`")), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
    let report = shell.run(&["doctor"]).await;
    assert_eq!((report.code, report.stderr.as_str()), (1, ""));
    assert!(report.stdout.starts_with(&format!("FAIL contexts: {shown}:3:3: ")), "{}", report.stdout);
}

#[tokio::test]
async fn logout_reports_whether_the_token_is_still_valid() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    // The bootstrap token belongs to no session.
    let output = shell.run(&["logout"]).await;
    assert_eq!(output.code, 0);
    assert!(
        output.stderr.starts_with("note: the token is forgotten here, but it is still good: "),
        "{}",
        output.stderr
    );
    assert!(!fs::read_to_string(shell.contexts()).unwrap().contains("mcpd_"));

    // A revoked token is no longer valid, so the logout does not mention it.
    let token = mcpd.user("alice", None).await;
    shell.run_with(&["login", mcpd.url(), "--token-stdin"], &token).await.succeeded();
    mcpd.delete("/api/v1/tokens/alice-token", &mcpd.admin()).await;
    assert!(shell.run(&["whoami"]).await.failed(1).contains("the credential is not valid"));
    let output = shell.run(&["logout"]).await;
    assert_eq!((output.code, output.stderr), (0, format!("signed out at {}\n", mcpd.url())));
    assert!(shell.run(&["logout"]).await.failed(1).contains("not signed in\nhint: "));
}

#[tokio::test]
async fn context_takes_no_name_that_another_has() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::new();
    for name in ["a", "b"] {
        let login = ["login", mcpd.url(), "--token-stdin", "--context", name];
        shell.run_with(&login, &mcpd.admin()).await.succeeded();
    }
    let error = shell.run(&["config", "rename-context", "a", "b"]).await.failed(1);
    assert!(error.contains("hint: ") && error.contains("mcpctl config delete-context b"), "{error}");
}

#[tokio::test]
async fn logout_works_while_the_server_is_down() {
    let mut mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    mcpd.kill();
    let output = shell.run(&["logout"]).await;
    assert_eq!(output.code, 0);
    assert!(output.stderr.contains("cannot be reached"), "{}", output.stderr);
    assert!(!fs::read_to_string(shell.contexts()).unwrap().contains("mcpd_"), "the token is forgotten");
}

#[tokio::test]
async fn sign_in_replaces_no_context_of_another_account() {
    let mcpd = Mcpd::start().await;
    let alice = mcpd.user("alice", None).await;
    let shell = Shell::new();
    let host = mcpd.url().trim_start_matches("http://").to_owned();
    let login = async |token: &str| shell.run_with(&["login", mcpd.url(), "--stdin"], token).await;
    let whoami = async |context: &str| shell.run(&["whoami", "--context", context]).await.succeeded();
    login(&mcpd.admin()).await.succeeded();
    let output = login(&alice).await;
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(output.stderr.contains(&format!("as User alice (context `alice@{host}`)")), "{}", output.stderr);
    let kept = format!("the current context was `{host}`, of User admin: mcpctl config use-context {host}\n");
    assert!(output.stderr.contains(&kept), "{}", output.stderr);
    assert!(whoami(&host).await.starts_with("User admin at "));

    // The context that was named is another account's: without a terminal to ask on it stays.
    let named = ["login", mcpd.url(), "--stdin", "--context", &host];
    let error = shell.run_with(&named, &alice).await.failed(1);
    let expected = format!(
        "error: the context `{host}` has the token of User admin at {}, so that of User alice was not kept\n\
         hint: keep both with another --context, e.g. alice@{host}; or first: mcpctl config delete-context {host}\n",
        mcpd.url()
    );
    assert_eq!(error, expected);
    assert!(whoami(&host).await.starts_with("User admin at "));

    // What is hinted after a revocation is for the account that lost its token, and leaves the other one.
    mcpd.delete("/api/v1/tokens/alice-token", &mcpd.admin()).await;
    let hint = format!("mcpctl login {} --context alice@{host}", mcpd.url());
    for args in [&["get", "llms"][..], &["whoami"], &["chat", "gpt", "-p", "Hi"]] {
        let error = shell.run(args).await.failed(1);
        assert!(error.ends_with(&format!("\nhint: {hint}\n")), "{args:?}: {error}");
    }
    assert!(shell.run(&["doctor"]).await.stdout.contains(&hint));
    shell.run(&["logout"]).await.succeeded();
    assert!(shell.run(&["get", "llms"]).await.failed(1).ends_with(&format!("\nhint: {hint}\n")));
    login(&mcpd.user("bob", None).await).await.succeeded();
    assert!(whoami(&format!("bob@{host}")).await.starts_with("User bob at "));
    login(&mcpd.admin()).await.succeeded();
    assert_eq!(shell.run(&["config", "current-context"]).await.succeeded(), format!("{host}\n"));
}
