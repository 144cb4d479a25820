//! What each page is behind: headers, forms of other sites, hosts, addresses that do not exist, and the switch.

use mcpctl_testkit::daemons::{Mcpd, McpdOptions};
use reqwest::{Method, StatusCode};

use crate::browser::{Browser, Page};

fn options(config: &str) -> McpdOptions {
    McpdOptions { config: Some(config.to_owned()), ..McpdOptions::default() }
}

fn is_protected(page: &Page) {
    let policy = page.header("content-security-policy");
    for part in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(policy.contains("base-uri 'none'") && policy.contains("form-action 'self'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert_eq!(page.header("cross-origin-opener-policy"), "same-origin");
    assert_eq!(page.header("cross-origin-resource-policy"), "same-origin");
    assert_eq!(page.header("referrer-policy"), "same-origin");
}

#[tokio::test]
async fn every_answer_is_protected_and_no_page_is_kept() {
    let mcpd = Mcpd::start().await;
    let browser = Browser::at(&mcpd);
    let sign_in = browser.get("/console/sign-in").await;
    sign_in.is(StatusCode::OK);
    let style =
        sign_in.html.split("stylesheet\" href=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    browser.post("/console/sign-in", "/console/sign-in", &[("token", &mcpd.admin())]).await;
    for path in ["/console/", "/console/llms", "/console/nothing", "/console/llms?x=y", "/console/sign-in"] {
        let page = browser.get(path).await;
        is_protected(&page);
        assert_eq!(page.header("cache-control"), "no-store", "{path}");
        page.lacks("<style").lacks(" style=").lacks("onclick").lacks("<script>");
    }
    let style = browser.get(&style).await;
    is_protected(&style);
    assert_eq!(style.header("content-type"), "text/css; charset=utf-8");
    assert!(style.header("cache-control").contains("immutable"));
    let page = browser.get("/console/assets/console-0000000000000000.css").await;
    page.is(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn only_the_form_of_the_sign_in_sets_a_cookie() {
    let mcpd = Mcpd::start().await;
    let stranger = Browser::at(&mcpd);
    let page = stranger.send(Method::HEAD, "/console/sign-in", &[], None).await;
    assert_eq!(page.header("set-cookie"), "");
    let sign_in = stranger.get("/console/sign-in").await;
    assert!(sign_in.header("set-cookie").starts_with("__Host-"));
    let style = sign_in.html.split("stylesheet\" href=\"").nth(1).unwrap().split('"').next().unwrap();
    let host = [("host", "evil.example")];
    let stranger = Browser::at(&mcpd);
    for page in [
        stranger.get(style).await,
        stranger.get("/console/assets/none.css").await,
        stranger.get("/console/llms").await,
        stranger.get("/console/sign-in?x=y").await,
        stranger.send(Method::GET, "/console/sign-in", &host, None).await,
        stranger.send_form("/console/sign-in", &[("x", &"x".repeat(9000))], &[]).await,
    ] {
        assert_eq!(page.header("set-cookie"), "", "{}", page.html);
    }
    let style = stranger.get(style).await;
    assert_eq!(style.header("vary"), "", "a proxy keeps one copy of it for all");
}

#[tokio::test]
async fn console_is_at_the_listener_of_the_management_alone() {
    let mcpd = Mcpd::start_with(McpdOptions { inference_listener: true, ..McpdOptions::default() }).await;
    Browser::at(&mcpd).get("/console/sign-in").await.is(StatusCode::OK);
    let browser = Browser::at_url(mcpd.inference_url());
    let bearer = format!("Bearer {}", mcpd.admin());
    for path in ["/console", "/console/llms", "/console/sign-in"] {
        browser.get(path).await.is(StatusCode::UNAUTHORIZED);
        let page = browser.send(Method::GET, path, &[("authorization", &bearer)], None).await;
        page.is(StatusCode::NOT_FOUND).has("of mcpd's main address");
        assert_eq!(page.header("content-type"), "application/json", "{path}");
    }
}

#[tokio::test]
async fn forms_of_other_sites_are_refused() {
    let mcpd = Mcpd::start().await;
    let browser = Browser::signed_in(&mcpd, &mcpd.admin()).await;
    let token = browser.get("/console/llms").await.hidden("form_token");
    let host = mcpd.url().strip_prefix("http://").unwrap();
    let subdomain = format!("http://x.{host}");
    let suffixed = format!("http://{host}.evil.example");
    for headers in [
        [("origin", "https://evil.example"), ("sec-fetch-site", "")],
        [("origin", "null"), ("sec-fetch-site", "")],
        [("origin", ""), ("sec-fetch-site", "")],
        [("origin", ""), ("sec-fetch-site", "cross-site")],
        [("origin", ""), ("sec-fetch-site", "same-site")],
        [("origin", ""), ("sec-fetch-site", "none")],
        [("origin", mcpd.url()), ("sec-fetch-site", "cross-site")],
        [("origin", &subdomain), ("sec-fetch-site", "same-origin")],
        [("origin", &suffixed), ("sec-fetch-site", "same-origin")],
    ] {
        for path in ["/console/sign-out", "/console/sign-in"] {
            let page = browser.send_form(path, &[("form_token", &token)], &headers).await;
            assert_eq!(page.status, StatusCode::FORBIDDEN, "{headers:?} {}", page.html);
            is_protected(&page);
            page.has("a page of another site has sent this");
        }
    }
    // Of another session, of the sign-in, twice, and none.
    let other =
        Browser::signed_in(&mcpd, &mcpd.admin()).await.get("/console/llms").await.hidden("form_token");
    let visitor = Browser::at(&mcpd).get("/console/sign-in").await.hidden("form_token");
    for fields in [
        vec![("form_token", other.as_str())],
        vec![("form_token", visitor.as_str())],
        vec![("form_token", token.as_str()), ("form_token", token.as_str())],
        vec![("form_token", "")],
        vec![],
    ] {
        let page = browser.send_form("/console/sign-out", &fields, &[]).await;
        page.is(StatusCode::FORBIDDEN).has("was not made for your session");
    }
    // A sign-in that another site prepares lacks the cookie that its form belongs to.
    let admin = mcpd.admin();
    let forced = [("form_token", visitor.as_str()), ("token", admin.as_str())];
    Browser::at(&mcpd).send_form("/console/sign-in", &forced, &[]).await.is(StatusCode::FORBIDDEN);
    browser.get("/console/llms").await.is(StatusCode::OK);
    browser.send_form("/console/sign-out", &[("form_token", &token)], &[]).await.is(StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn errors_are_pages_with_the_next_step() {
    let mcpd = Mcpd::start().await;
    let browser = Browser::signed_in(&mcpd, &mcpd.admin()).await;
    browser
        .get("/console/nothing")
        .await
        .is(StatusCode::NOT_FOUND)
        .has("<h1>Not found</h1>")
        .has("<span>admin</span>")
        .has("begins at <code>/console/</code>")
        .lacks("openapi");
    for section in ["llms", "tokens", "secrets", "assets", "people/user", "sign-in/with"] {
        let page = browser.get(&format!("/console/{section}/%ff")).await;
        page.is(StatusCode::BAD_REQUEST).has("is not UTF-8 in percent-encoding");
        is_protected(&page);
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8", "{section}");
    }
    let large = "x".repeat(300 << 10);
    let stranger = Browser::at(&mcpd);
    let own = browser.get("/console/llms").await.hidden("form_token");
    let token = ("form_token", own.as_str());
    let sent = async |to: &str, fields: &[(&str, &str)]| browser.send_form(to, fields, &[]).await;
    for (page, status, text) in [
        (browser.get("/console/llms?x=%3Cb%3E").await, 400, "unknown field"),
        (sent("/console/tokens", &[token, ("name", "x")]).await, 400, "missing field"),
        (sent("/console/tokens", &[token, ("name", "x"), ("expires_in", "soon")]).await, 400, "soon"),
        // A script gets no redirect that it would follow.
        (
            stranger.send(Method::GET, "/console/llms", &[("sec-fetch-mode", "cors")], None).await,
            401,
            "you are not signed in",
        ),
        (stranger.send_form("/console/tokens", &[token], &[]).await, 401, "you are not signed in"),
        (sent("/console/tokens", &[("name", "x")]).await, 403, "was not made for your session"),
        (browser.get("/console/llms/none").await, 404, "none"),
        (browser.get("/console/people/roles/x").await, 404, "nothing at this address"),
        (browser.get("/console/sign-out").await, 405, "this address takes POST"),
        (sent("/console/llms", &[token]).await, 405, "this address takes GET and HEAD"),
        (
            browser.send(Method::PUT, "/console/tokens/x/revoke", &[("origin", mcpd.url())], None).await,
            405,
            "this address takes GET, HEAD and POST",
        ),
        (sent("/console/sign-out", &[token, ("x", &large)]).await, 413, "KiB"),
        (sent("/console/sign-in", &[("x", &large[..9000])]).await, 413, "KiB"),
    ] {
        assert_eq!(page.status.as_u16(), status, "{}", page.html);
        page.has("role=\"alert\"").has(text);
        is_protected(&page);
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8", "{text}");
    }
    // A credential in an address is in logs by then.
    let page = browser.get(&format!("/console/llms?token={}", mcpd.admin())).await;
    page.is(StatusCode::BAD_REQUEST).has("does not belong into the address");
}

#[tokio::test]
async fn hosts_are_checked_and_foreign_returns_dropped() {
    let mcpd = Mcpd::start().await;
    let browser = Browser::at(&mcpd);
    let page = browser.send(Method::GET, "/console/sign-in", &[("host", "evil.example")], None).await;
    page.is(StatusCode::FORBIDDEN).has("host name that is not its own");
    for bad in [
        "https://evil.example",
        "//evil.example",
        "/console/../api",
        "/console/%0d%0ax",
        "/console/%252e%252e/%252e%252e/evil",
        "/console/%2573ign-out",
    ] {
        let page = browser.get(&format!("/console/sign-in?return_to={bad}")).await;
        assert_eq!(page.hidden("return_to"), "/console/", "{bad}");
        let fields = [("token", &*mcpd.admin()), ("return_to", bad)];
        let page = browser.post("/console/sign-in", "/console/sign-in", &fields).await;
        page.is(StatusCode::SEE_OTHER);
        assert_eq!(page.header("location"), "/console/", "{bad}");
    }
}

#[tokio::test]
async fn passwords_are_not_taken_where_they_can_be_read_on_the_way() {
    let env = vec![("MCPD_ALLOW_PLAIN_HTTP", "true".to_owned())];
    let mcpd =
        Mcpd::start_with(McpdOptions { listen: Some("0.0.0.0:0"), env, ..McpdOptions::default() }).await;
    let browser = Browser::at(&mcpd);
    let host = ("host", "mcpd.example.com");
    let page = browser.send(Method::GET, "/console/sign-in", &[host], None).await;
    page.is(StatusCode::OK).has("can be read on its way").lacks("type=\"password\"");
    // A browser that calls a proxy with TLS shows it by what it sends.
    let tls = ("sec-fetch-site", "none");
    let page = browser.send(Method::GET, "/console/sign-in", &[host, tls], None).await;
    page.has("type=\"password\"").lacks("can be read on its way");
    let token = page.hidden("form_token");
    let admin = mcpd.admin();
    let fields = [("form_token", token.as_str()), ("token", admin.as_str())];
    let plain = [host, ("origin", "http://mcpd.example.com"), ("sec-fetch-site", "")];
    browser.send_form("/console/sign-in", &fields, &plain).await.is(StatusCode::FORBIDDEN);
    let private = [host, ("origin", "https://mcpd.example.com")];
    browser.send_form("/console/sign-in", &fields, &private).await.is(StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn console_can_be_turned_off() {
    let mcpd = Mcpd::start_with(options("console: false\n")).await;
    let browser = Browser::at(&mcpd);
    for path in ["/console", "/console/", "/console/sign-in"] {
        let page = browser.get(path).await;
        assert!(matches!(page.status.as_u16(), 401 | 404), "{path}: {}", page.status);
        assert_eq!(page.header("content-type"), "application/json");
    }
}
