//! Signing in at an OpenID provider.

use std::collections::BTreeMap;

use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions},
    issuer::ScriptedIssuer,
};
use reqwest::{Method, StatusCode, Url};
use serde_json::json;

use crate::browser::{Browser, Page};

struct World {
    mcpd: Mcpd,
    provider: ScriptedIssuer,
}

impl World {
    async fn start() -> Self {
        let provider = ScriptedIssuer::start().await;
        let config = format!(
            "oidc:\n  - {{name: corp, issuer: '{}', clientId: mcpctl, autoCreate: true}}\n",
            provider.url()
        );
        let mcpd = Mcpd::start_with(McpdOptions { config: Some(config), ..McpdOptions::default() }).await;
        Self { mcpd, provider }
    }

    /// Begins a sign-in; returns what the provider is asked for.
    async fn begin(&self, browser: &Browser) -> BTreeMap<String, String> {
        let page = browser.get("/console/sign-in?return_to=/console/llms?after=a").await;
        page.is(StatusCode::OK).has("Sign in with corp");
        let way = page.html.split("href=\"/console/sign-in/with/").nth(1).unwrap().split('"').next().unwrap();
        let page = browser.get(&format!("/console/sign-in/with/{way}")).await;
        page.is(StatusCode::SEE_OTHER);
        let address: Url = page.header("location").parse().unwrap();
        assert!(address.as_str().starts_with(&self.provider.url()), "{address}");
        address.query_pairs().into_owned().collect()
    }

    /// What the provider vouches for, with the nonce that it was asked with.
    fn vouch(&self, asked: &BTreeMap<String, String>) {
        let mut claims = self.provider.claims("mcpctl", "248");
        claims["nonce"] = json!(asked["nonce"]);
        claims["preferred_username"] = json!("alice");
        self.provider.grant(&claims);
    }

    /// The browser comes back, from a page of the provider.
    async fn callback(&self, browser: &Browser, fields: &[(&str, &str)]) -> Page {
        let mut address: Url = format!("{}/console/sign-in/return", self.mcpd.url()).parse().unwrap();
        address.query_pairs_mut().extend_pairs(fields);
        let path = format!("{}?{}", address.path(), address.query().unwrap());
        browser.send(Method::GET, &path, &[("sec-fetch-site", "cross-site")], None).await
    }
}

#[tokio::test]
async fn person_of_a_provider_signs_in_and_returns_to_the_page() {
    let world = World::start().await;
    let browser = Browser::at(&world.mcpd);
    let asked = world.begin(&browser).await;
    assert_eq!((asked["response_type"].as_str(), asked["code_challenge_method"].as_str()), ("code", "S256"));
    let redirect = format!("{}/console/sign-in/return", world.mcpd.url());
    assert_eq!(asked["redirect_uri"], redirect);
    world.vouch(&asked);
    let page = world
        .callback(&browser, &[("code", "code-1"), ("state", &asked["state"]), ("session_state", "x")])
        .await;
    page.is(StatusCode::SEE_OTHER);
    assert_eq!(page.header("location"), "/console/llms?after=a");
    browser.get("/console/llms").await.is(StatusCode::OK).has("<span>alice</span>");
    let exchange = world.provider.received("/token").pop().unwrap().form;
    assert_eq!((exchange["redirect_uri"].as_str(), exchange["code"].as_str()), (redirect.as_str(), "code-1"));
    assert_eq!(exchange["code_verifier"].len(), 64);
    // The way back leads here once.
    assert_eq!(browser.cookie("sign-in"), None);
    let page = world.callback(&browser, &[("code", "code-1"), ("state", &asked["state"])]).await;
    page.is(StatusCode::FORBIDDEN).has("this browser has begun no sign-in");
}

#[tokio::test]
async fn answers_that_this_browser_did_not_ask_for_are_refused() {
    let world = World::start().await;
    let (browser, attacker) = (Browser::at(&world.mcpd), Browser::at(&world.mcpd));
    let exchanged = || world.provider.received("/token").len();
    // Another's answer, in a browser that has begun none and in one that has begun its own.
    let theirs = world.begin(&attacker).await;
    world.vouch(&theirs);
    let answer = [("code", "code-1"), ("state", theirs["state"].as_str())];
    world.callback(&browser, &answer).await.is(StatusCode::FORBIDDEN).has("begun no sign-in");
    world.begin(&browser).await;
    world.callback(&browser, &answer).await.is(StatusCode::FORBIDDEN).has("belongs to another sign-in");
    for (fields, message) in [
        (vec![("iss", "https://evil.example")], "of another provider"),
        (vec![("error", "access_denied"), ("error_description", "not <you>\n")], "not &#60;you&#62;"),
    ] {
        let asked = world.begin(&browser).await;
        let mut all = vec![("code", "code-1"), ("state", asked["state"].as_str())];
        all.extend(fields);
        world.callback(&browser, &all).await.is(StatusCode::FORBIDDEN).has(message);
    }
    assert_eq!((exchanged(), browser.cookie("session")), (0, None), "no code was used");
    // A token with another nonce, e.g. of another sign-in.
    let asked = world.begin(&browser).await;
    world
        .callback(&browser, &[("code", "code-1"), ("state", &asked["state"])])
        .await
        .is(StatusCode::UNAUTHORIZED);
    assert_eq!(browser.cookie("session"), None);
    // Another site begins no sign-in, and no name leads elsewhere.
    let begin = "/console/sign-in/with/corp";
    browser
        .send(Method::GET, begin, &[("sec-fetch-site", "cross-site")], None)
        .await
        .is(StatusCode::FORBIDDEN);
    browser.get("/console/sign-in/with/other").await.is(StatusCode::BAD_REQUEST).has("no provider");
    let page = browser.get(&format!("{begin}?return_to=https://evil.example")).await;
    page.is(StatusCode::SEE_OTHER);
    assert!(browser.cookie("sign-in").unwrap().ends_with("/%2Fconsole%2F"));
}
