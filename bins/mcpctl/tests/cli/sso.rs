//! `mcpctl login` at a real OpenID provider, with the browser of a person.

use std::{fs, os::unix::fs::PermissionsExt as _};

use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions, eventually},
    other_user::{get_as_other_user, may_act_as_other_user},
    real_provider::RealProvider,
};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use crate::shell::Shell;

/// Runs a login; `browse` is called with the address and the code that it prints.
async fn login(
    mcpd: &Mcpd,
    args: &[&str],
    browse: impl AsyncFnOnce(String, String),
) -> (bool, String, Shell) {
    login_from(Shell::new(), mcpd, args, browse).await
}

async fn login_from(
    shell: Shell,
    mcpd: &Mcpd,
    args: &[&str],
    browse: impl AsyncFnOnce(String, String),
) -> (bool, String, Shell) {
    let args: Vec<&str> = ["login", mcpd.url()].into_iter().chain(args.iter().copied()).collect();
    let mut child = shell.command(&args).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut printed = String::new();
    let (mut url, mut code) = (String::new(), String::new());
    while let Some(line) = lines.next_line().await.unwrap() {
        printed.push_str(&line);
        printed.push('\n');
        let indented = line.strip_prefix("  ").map(str::to_owned);
        match indented {
            Some(text) if url.is_empty() => url = text,
            Some(text) => code = text,
            // The blank line after them.
            None if line.is_empty() && !url.is_empty() => break,
            None => {}
        }
    }
    browse(url, code).await;
    let mut rest = String::new();
    lines.into_inner().read_to_string(&mut rest).await.unwrap();
    (child.wait().await.unwrap().success(), printed + &rest, shell)
}

#[tokio::test]
async fn login_signs_in_by_a_browser_and_by_a_device_code() {
    let provider = RealProvider::start(&json!({})).await;
    let config = format!(
        "oidc: [{{name: corp, issuer: '{}', clientId: mcpctl, autoCreate: true, deviceCode: true}}]\n",
        provider.issuer()
    );
    let mcpd = Mcpd::start_with(McpdOptions { config: Some(config), ..McpdOptions::default() }).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();

    let (done, printed, shell) = login(&mcpd, &["--sso", "--no-browser"], async |url, _| {
        let back = provider.browse(&url, "alice").await.expect("the way back");
        // Another program finds the port, and cannot end the sign-in nor put its own answer in.
        let port = back.split("/callback").next().unwrap();
        for foreign in ["/callback?code=c&state=s", "/callback?error=access_denied&state=s", "/"] {
            assert!(http.get(format!("{port}{foreign}")).send().await.unwrap().status().is_client_error());
        }
        let page = http.get(&back).send().await.unwrap().text().await.unwrap();
        assert!(page.contains("close this window"), "{page}");
    })
    .await;
    assert!(done && printed.contains("signed in at") && printed.contains("User alice"), "{printed}");
    assert!(shell.run(&["whoami"]).await.succeeded().contains("User alice"));
    shell.run(&["logout"]).await.succeeded();

    let (done, printed, shell) = login(&mcpd, &["--device"], async |url, code| {
        assert!(!code.is_empty());
        let browsed = provider.browse(&format!("{url}?user_code={code}"), "bob").await;
        assert_eq!(browsed, None);
    })
    .await;
    assert!(done && printed.contains(provider.issuer()), "{printed}");
    assert!(shell.run(&["whoami"]).await.succeeded().contains("User bob"));

    // Without a provider, without its name, and in a script.
    let plain = Mcpd::start().await;
    assert!(
        shell.run(&["login", plain.url(), "--sso"]).await.failed(1).contains("trusts no OpenID provider")
    );
    assert!(shell.run(&["login", mcpd.url(), "--sso=other"]).await.failed(1).contains("it trusts: corp"));
    assert!(shell.run(&["login", mcpd.url()]).await.failed(2).contains("--sso"));
}

/// Other users of the machine read the arguments of every process, and reach every port of it.
#[tokio::test]
async fn other_users_neither_see_nor_answer_a_sign_in() {
    let provider = RealProvider::start(&json!({})).await;
    let config = format!(
        "oidc: [{{name: corp, issuer: '{}', clientId: mcpctl, autoCreate: true}}]\n",
        provider.issuer()
    );
    let mcpd = Mcpd::start_with(McpdOptions { config: Some(config), ..McpdOptions::default() }).await;
    let http =
        reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    // A desktop whose browser writes down its arguments.
    let mut shell = Shell::new();
    let (bin, opened) = (shell.path("bin"), shell.path("opened"));
    fs::create_dir(&bin).unwrap();
    fs::write(
        bin.join("xdg-open"),
        format!("#!/bin/sh\nprintf '%s' \"$*\" > {0}.new && mv {0}.new {0}\n", opened.display()),
    )
    .unwrap();
    fs::set_permissions(bin.join("xdg-open"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    shell.env.extend([("PATH", path), ("DISPLAY", ":99".to_owned())]);

    let (done, printed, shell) = login_from(shell, &mcpd, &["--sso"], async |url, _| {
        let start = eventually("the browser was opened", async || fs::read_to_string(&opened).ok()).await;
        let (address, path) = start.strip_prefix("http://").unwrap().split_once('/').unwrap();
        assert_eq!(path, "sign-in", "what other users see carries nothing");
        let address: std::net::SocketAddr = address.parse().unwrap();
        let back = provider.browse(&url, "alice").await.expect("the way back");
        if may_act_as_other_user() {
            for target in ["/sign-in", &back[back.find("/callback").unwrap()..]] {
                assert_eq!(get_as_other_user(address, target), "", "{target}");
            }
        }
        let redirect = http.get(&start).send().await.unwrap();
        assert_eq!(redirect.headers()["location"], url.as_str());
        http.get(&back).send().await.unwrap();
    })
    .await;
    assert!(done && printed.contains("User alice"), "{printed}");
    if may_act_as_other_user() {
        assert!(
            printed.contains("a program of user `nobody` (uid 65534) connected to the port"),
            "{printed}"
        );
    }
    let contexts = fs::read_to_string(shell.path("config/mcpctl/config.yaml")).unwrap();
    assert!(contexts.contains("provider: corp"), "{contexts}");
}
