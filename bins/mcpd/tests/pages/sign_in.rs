//! Signing in with a browser: at an OpenID provider, and over TLS.

use mcpctl_browser::{Browser, Key};
use mcpctl_testkit::{
    authority::Authority,
    daemons::{Mcpd, McpdOptions, McpdTls},
    real_provider::RealProvider,
};
use serde_json::json;

/// The cookies of mcpd: name, and whether scripts and connections that can be read get it.
async fn cookies(browser: &Browser) -> Vec<(String, bool, bool, String)> {
    let cookies = browser.cookies().await;
    let of_mcpd = cookies
        .as_array()
        .unwrap()
        .iter()
        .filter(|cookie| cookie["name"].as_str().is_some_and(|name| name.contains("mcpd")));
    of_mcpd
        .map(|cookie| {
            assert_eq!((&cookie["path"], &cookie["domain"]), (&json!("/"), &json!("127.0.0.1")), "{cookie}");
            let text = |field: &str| cookie[field].as_str().unwrap_or_default().to_owned();
            let flag = |field: &str| cookie[field].as_bool().unwrap_or_default();
            (text("name"), flag("httpOnly"), flag("secure"), text("sameSite"))
        })
        .collect()
}

#[tokio::test]
async fn person_signs_in_at_a_provider_and_returns_to_the_page() {
    let provider = RealProvider::start(&json!({"carol": {"name": "Carol"}})).await;
    let config = format!(
        "oidc:\n  - {{name: corp, issuer: '{}', clientId: mcpctl, scopes: [openid, profile], autoCreate: true}}\n",
        provider.issuer()
    );
    let mcpd = Mcpd::start_with(McpdOptions { config: Some(config), ..McpdOptions::default() }).await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/console/people/users/carol", mcpd.url())).await;
    browser.click("Sign in with corp").await;
    browser.element("input[name=login]").await.send_keys("carol").await.unwrap();
    browser.element("input[name=password]").await.send_keys("any" + Key::Enter).await.unwrap();
    browser.click("Continue").await;
    browser.is_at("/console/people/users/carol").await;
    browser.shows("Tokens and sessions").await;
    let port = mcpd.url().rsplit(':').next().unwrap();
    let session = (format!("__Host-mcpd-session-{port}"), true, true, "Lax".to_owned());
    assert_eq!(cookies(&browser).await, [session], "nothing is left of the way to the provider");
    // What the pages of the provider complain about is not mcpd's.
    browser.complaints().await;
    browser.click("Sign out").await;
    browser.shows("You are signed out").await;
    assert_eq!(cookies(&browser).await.iter().filter(|cookie| cookie.0.contains("session")).count(), 0);
    assert_eq!(browser.complaints().await, Vec::<String>::new());
}

#[tokio::test]
async fn console_over_tls_keeps_its_session_in_a_cookie_of_the_host() {
    let authority = Authority::new();
    let tls = McpdTls::of(&authority);
    let pin = tls.issued.public_key_pin();
    let mcpd = Mcpd::start_with(McpdOptions { tls: Some(tls), ..McpdOptions::default() }).await;
    assert!(mcpd.url().starts_with("https://"));
    let browser = Browser::start_trusting(&pin).await;
    browser.open(&format!("{}/console/tokens", mcpd.url())).await;
    browser.fill("Token", &mcpd.admin()).await;
    browser.click("Sign in with the token").await;
    browser.is_at("/console/tokens").await;
    browser.shows("this session").await;
    let port = mcpd.url().rsplit(':').next().unwrap();
    let session = (format!("__Host-mcpd-session-{port}"), true, true, "Lax".to_owned());
    assert_eq!(cookies(&browser).await, [session]);
    assert_eq!(browser.evaluate("document.cookie").await, json!(""), "no script reads it");
    assert_eq!(browser.evaluate("isSecureContext").await, json!(true));
    browser.inspect("tls").await;
}
