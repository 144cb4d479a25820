//! Resources, people and rights over HTTP, as stories on a real daemon.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::os::unix::fs::PermissionsExt as _;

use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions, eventually, program},
    model_server::ModelServer,
    routes::InferenceRoute,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

async fn json_of(answer: reqwest::Response) -> Value {
    answer.json().await.unwrap()
}

#[tokio::test]
async fn first_start_writes_a_private_token_and_never_prints_it() {
    let mcpd = Mcpd::start().await;
    for file in ["bootstrap-token", "master-key", "mcpd.sqlite"] {
        let mode = std::fs::metadata(mcpd.data_dir().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let me = json_of(mcpd.get("/api/v1/auth/whoami", &mcpd.admin()).await).await;
    assert_eq!((&me["subject"]["name"], &me["roles"]), (&json!("admin"), &json!(["admin"])));
    assert!(mcpd.log().contains("bootstrap-token") && !mcpd.log().contains(&mcpd.admin()));
}

#[tokio::test]
async fn inv_09_get_and_head_of_an_llm_by_id_and_by_name() {
    let mcpd = Mcpd::start().await;
    mcpd.llm("claude", "http://127.0.0.1:1").await;
    let admin = mcpd.admin();
    let got = mcpd.get("/api/v1/llms/claude", &admin).await;
    let headers = got.headers().clone();
    let llm = json_of(got).await;
    let id = llm["id"].as_str().unwrap();
    assert_eq!(json_of(mcpd.get(&format!("/api/v1/llms/{id}"), &admin).await).await, llm, "by id as by name");

    for path in ["/api/v1/llms/claude".to_owned(), format!("/api/v1/llms/{id}")] {
        let head = mcpd.head(&path, &admin).await;
        assert_eq!(head.status(), StatusCode::OK);
        for name in ["content-type", "content-length", "etag"] {
            assert_eq!(head.headers().get(name), headers.get(name), "{name}");
        }
        assert!(head.bytes().await.unwrap().is_empty());
    }
    assert_eq!(mcpd.head("/api/v1/llms/missing", &admin).await.status(), StatusCode::NOT_FOUND);

    // Without `view`: the same answer by id and by name, GET and HEAD, existing or not.
    let outsider = mcpd.user("nobody", None).await;
    let absent = "cabcdefghijklmnopqrstuvwx";
    for target in ["claude", id, "missing", absent] {
        let path = format!("/api/v1/llms/{target}");
        assert_eq!(mcpd.get(&path, &outsider).await.status(), StatusCode::FORBIDDEN, "GET {target}");
        assert_eq!(mcpd.head(&path, &outsider).await.status(), StatusCode::FORBIDDEN, "HEAD {target}");
    }
}

/// The routes are those of the OpenAPI document, which a unit test compares with the router's.
#[tokio::test]
async fn inv_09_every_inference_route_decides_by_name_as_by_id() {
    let provider = ModelServer::start().await;
    let mcpd = Mcpd::start().await;
    mcpd.llm("claude", &provider.base_url()).await;
    let (admin, outsider) = (mcpd.admin(), mcpd.user("nobody", None).await);
    let llm = json_of(mcpd.get("/api/v1/llms/claude", &admin).await).await;
    let id = llm["id"].as_str().unwrap();
    let send = async |route: &InferenceRoute, verb: &Method, model: &str, bearer: &str| {
        let request = mcpd.request(verb.clone(), &route.path(model), bearer);
        route.with_body(request, model).send().await.unwrap()
    };
    for route in InferenceRoute::all(&mcpd).await {
        let verbs = if route.runs() { vec![Method::POST] } else { vec![Method::GET, Method::HEAD] };
        for verb in &verbs {
            for model in ["claude", id] {
                let status = send(&route, verb, model, &admin).await.status();
                assert_eq!(status, StatusCode::OK, "{verb} {}", route.path(model));
            }
            let before = provider.inferences().len();
            for model in ["claude", id, "missing", "cabcdefghijklmnopqrstuvwx"] {
                let answer = send(&route, verb, model, &outsider).await;
                let expected = if route.lists() { StatusCode::OK } else { StatusCode::FORBIDDEN };
                assert_eq!(answer.status(), expected, "{verb} {}", route.path(model));
                let body = answer.text().await.unwrap();
                assert!(!route.lists() || !(body.contains("claude") || body.contains(id)), "{body}");
            }
            assert_eq!(provider.inferences().len(), before, "{verb} {}", route.path(id));
        }
    }
}

/// Every route of the OpenAPI document, with a body that reads; a route that is missing here fails the test.
fn body_for(method: &str, path: &str) -> Option<Value> {
    let llm =
        json!({"kind": "Llm", "name": "x", "type": "openai", "url": "http://127.0.0.1:1", "model": "m"});
    Some(match (method, path) {
        ("post", "/api/v1/apply") => json!([llm]),
        ("post", "/api/v1/auth/can-i") => json!({"verb": "view", "kind": "llms"}),
        ("post", "/api/v1/{kind}") | ("put", "/api/v1/{kind}/{idOrName}") => llm,
        ("patch", _) => json!({"model": "n"}),
        (
            "post",
            "/v1/chat/completions"
            | "/v1/completions"
            | "/v1/embeddings"
            | "/v1/messages"
            | "/v1/messages/count_tokens"
            | "/api/v1/llms/{idOrName}/infer",
        ) => {
            json!({"model": "x", "messages": []})
        }
        ("post", "/v1/responses") => json!({"model": "x", "input": "Hi"}),
        ("post", "/api/v1/agents/{agent}/journal") => json!({}),
        ("post", "/api/v1/auth/logout" | "/api/v1/admin/rotate-keys") | ("get" | "delete", _) => Value::Null,
        ("post", "/api/v1/tokens/{idOrName}/rotate" | "/api/v1/llms/{idOrName}/test") => json!({}),
        ("post", "/api/v1/admin/lift-throttle") => json!({"user": "x"}),
        ("post", "/api/v1/auth/password") => json!({"current": "a", "new": "a new password"}),
        _ => return None,
    })
}

#[tokio::test]
async fn every_route_denies_unknown_and_unauthorized_callers() {
    let mcpd = Mcpd::start().await;
    let outsider = mcpd.user("nobody", None).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let document: Value =
        http.get(format!("{}/openapi.json", mcpd.url())).send().await.unwrap().json().await.unwrap();
    let public = [
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/api/v1/auth/methods",
        "/api/v1/auth/login",
        "/api/v1/auth/oidc/code",
        "/api/v1/auth/oidc/device",
        "/api/v1/auth/oidc/device/poll",
        "/api/v1/auth/token-exchange",
        "/.well-known/mcpctl-keys",
    ];
    // What everybody who is known may do; lists and questions show no more than the caller may see.
    let known = [
        "/api/v1/auth/logout",
        "/api/v1/audit",
        "/api/v1/usage",
        "/api/v1/llm-status",
        "/api/v1/llm-activity",
        "/api/v1/agents/{agent}/journal",
        "/api/v1/auth/whoami",
        "/api/v1/auth/can-i",
        "/api/v1/auth/password",
        "/api/v1/auth/rights",
        "/api/v1/auth/token-status",
        "/v1/models",
        "/api/v1/watch",
        "/api/v1/feed",
    ];
    let mut seen = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let body = body_for(method, path);
            if public.contains(&path.as_str()) {
                continue;
            }
            let body = body.unwrap_or_else(|| panic!("{method} {path} is not in this test"));
            let url = path.replace("{kind}", "llms").replace("{idOrName}", "x");
            let url =
                if url.ends_with("who-can") { format!("{url}?verb=view&kind=llms&name=x") } else { url };
            let verb: Method = method.to_uppercase().parse().unwrap();
            let send = async |bearer: &str| {
                let request = mcpd.request(verb.clone(), &url, bearer);
                let request = if body.is_null() { request } else { request.json(&body) };
                request.send().await.unwrap()
            };
            for unknown in ["", "nonsense", "mcpd_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
                assert_eq!(send(unknown).await.status(), StatusCode::UNAUTHORIZED, "{method} {path}");
            }
            let is_list = method == "get" && path == "/api/v1/{kind}";
            if !known.contains(&path.as_str()) && !is_list {
                assert_eq!(send(&outsider).await.status(), StatusCode::FORBIDDEN, "{method} {path}");
            }
            seen += 1;
        }
    }
    assert!(seen >= 15, "{seen} routes");
    let nothing = mcpd.get("/nothing/here", &mcpd.admin()).await;
    assert_eq!(nothing.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn every_kind_has_create_read_update_delete_with_revisions() {
    let mcpd = Mcpd::start().await;
    let admin = mcpd.admin();
    let documents = [
        json!({"kind": "Llm", "name": "a", "type": "openai", "url": "http://127.0.0.1:1", "model": "m"}),
        json!({"kind": "Secret", "name": "a", "data": {"k": "v"}}),
        json!({"kind": "User", "name": "a"}),
        json!({"kind": "Group", "name": "a", "members": []}),
        json!({"kind": "ServiceAccount", "name": "a"}),
        json!({"kind": "Role", "name": "a", "rules": [{"kinds": ["llms"], "verbs": ["view"], "names": ["*"]}]}),
        json!({"kind": "RoleBinding", "name": "a", "role": "viewer", "subjects": [{"kind": "User", "name": "a"}]}),
        json!({"kind": "Limit", "name": "a", "per": "all", "requests": {"max": 9, "window": "1h"}}),
    ];
    for document in documents {
        let kind = document["kind"].as_str().unwrap();
        let list = format!("/api/v1/{}s", kind.to_lowercase());
        let one = format!("{list}/a");
        let made = mcpd.post(&list, &admin, &document).await;
        assert_eq!(made.status(), StatusCode::CREATED, "{kind}");
        let etag = made.headers()["etag"].to_str().unwrap().to_owned();
        assert_eq!(mcpd.post(&list, &admin, &document).await.status(), StatusCode::CONFLICT, "{kind}");
        let labelled = mcpd.request(Method::PATCH, &one, &admin).json(&json!({"labels": {"team": "a"}}));
        let labelled = labelled.header("if-match", &etag).send().await.unwrap();
        assert_eq!(labelled.status(), StatusCode::OK, "{kind}: {}", labelled.text().await.unwrap());
        let selected = json_of(mcpd.get(&format!("{list}?labelSelector=team%3Da"), &admin).await).await;
        assert_eq!(selected["items"].as_array().unwrap().len(), 1, "{kind}");
        let stale =
            mcpd.request(Method::DELETE, &one, &admin).header("if-match", &etag).send().await.unwrap();
        assert_eq!(stale.status(), StatusCode::PRECONDITION_FAILED, "{kind}");
        assert_eq!(mcpd.delete(&one, &admin).await.status(), StatusCode::NO_CONTENT, "{kind}");
        assert_eq!(mcpd.get(&one, &admin).await.status(), StatusCode::NOT_FOUND, "{kind}");
    }
}

#[tokio::test]
async fn apply_is_atomic_and_names_the_wrong_document() {
    let mcpd = Mcpd::start().await;
    let admin = mcpd.admin();
    let good = json!({"kind": "User", "name": "good"});
    for (bad, code, param) in [
        (json!({"kind": "User", "name": "Bad Name"}), 400, "[1].name"),
        (json!({"kind": "User", "name": "cabcdefghijklmnopqrstuvwx"}), 400, "[1].name"),
        (json!({"kind": "User", "name": "b", "nickname": "x"}), 400, "[1].nickname"),
        (
            json!({"kind": "RoleBinding", "name": "b", "role": "no-such", "subjects": [{"kind": "User", "name": "x"}]}),
            400,
            "[1].role",
        ),
        (json!({"kind": "Role", "name": "admin", "rules": []}), 400, "[1].name"),
    ] {
        let answer = mcpd.post("/api/v1/apply", &admin, &json!([good, bad])).await;
        assert_eq!(answer.status(), code, "{bad}");
        let body = json_of(answer).await;
        assert_eq!(body["error"]["param"], param, "{body}");
        assert_eq!(mcpd.get("/api/v1/users/good", &admin).await.status(), StatusCode::NOT_FOUND, "{bad}");
    }
    let dry = mcpd.post("/api/v1/apply?dryRun=true", &admin, &json!([good])).await;
    assert_eq!(json_of(dry).await["results"][0]["outcome"], "created");
    assert_eq!(mcpd.get("/api/v1/users/good", &admin).await.status(), StatusCode::NOT_FOUND);
    mcpd.apply(json!([good])).await;
    let again = json_of(mcpd.post("/api/v1/apply", &admin, &json!([good])).await).await;
    assert_eq!(again["results"][0]["outcome"], "unchanged");
}

#[tokio::test]
async fn inv_11_and_12_secrets_stay_inside_and_rights_do_not_grow() {
    let mcpd = Mcpd::start().await;
    let admin = mcpd.admin();
    mcpd.apply(json!([
        {"kind": "Secret", "name": "key", "data": {"token": "s3cret-value"}},
        {"kind": "Llm", "name": "claude", "type": "openai", "url": "https://api.example.com", "model": "m",
         "apiKey": {"secret": "key", "key": "token"}},
        {"kind": "Llm", "name": "gpt", "type": "openai", "url": "https://api.example.com", "model": "m",
         "apiKey": {"secret": "key", "key": "token"}},
        {"kind": "Role", "name": "llm-editor", "rules": [{"kinds": ["llms"], "verbs": ["view", "edit", "create"], "names": ["*"]}]},
        {"kind": "Role", "name": "binder", "rules": [{"kinds": ["rolebindings", "users", "groups"], "verbs": ["*"], "names": ["*"]}]},
        {"kind": "RoleBinding", "name": "eve-edits", "role": "llm-editor", "subjects": [{"kind": "User", "name": "eve"}]},
        {"kind": "RoleBinding", "name": "mallory-binds", "role": "binder", "subjects": [{"kind": "User", "name": "mallory"}]},
    ]))
    .await;
    let shown = mcpd.get("/api/v1/secrets/key", &admin).await.text().await.unwrap();
    assert!(shown.contains("\"token\":null") && !shown.contains("s3cret-value"), "{shown}");

    let eve = mcpd.user("eve", None).await;
    // The type decides on the header that carries the key, and so on who may see it.
    for (llm, change) in
        [("claude", json!({"url": "https://evil.example"})), ("gpt", json!({"type": "azure-openai"}))]
    {
        let moved = mcpd.request(Method::PATCH, &format!("/api/v1/llms/{llm}"), &eve).json(&change);
        let moved = moved.send().await.unwrap();
        assert!(moved.headers()["mcpctl-warning"].to_str().unwrap().contains("detached"), "{change}");
        assert_eq!(json_of(moved).await.get("apiKey"), None, "the credential did not go along: {change}");
    }
    let stolen = json!({"kind": "Llm", "name": "mine", "type": "openai", "url": "https://evil.example", "model": "m",
                        "apiKey": {"secret": "key", "key": "token"}});
    assert_eq!(mcpd.post("/api/v1/llms", &eve, &stolen).await.status(), StatusCode::FORBIDDEN);

    let mallory = mcpd.user("mallory", None).await;
    let binding = json!({"kind": "RoleBinding", "name": "x", "role": "admin", "subjects": [{"kind": "User", "name": "mallory"}]});
    let refused = mcpd.post("/api/v1/rolebindings", &mallory, &binding).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert_eq!(json_of(refused).await["error"]["code"], "escalation");
    let password = mcpd.request(Method::PATCH, "/api/v1/users/admin", &mallory);
    let password = password.json(&json!({"password": "a long password"})).send().await.unwrap();
    assert_eq!(
        password.status(),
        StatusCode::FORBIDDEN,
        "an administrator's password is not mallory's to set"
    );
}

#[tokio::test]
async fn tokens_end_by_expiry_deletion_and_with_their_owner() {
    let mcpd = Mcpd::start().await;
    let admin = mcpd.admin();
    let alice = mcpd.user("alice", Some("viewer")).await;
    let subject = json!({"kind": "User", "name": "alice"});
    let short = json!({"name": "short", "subject": subject, "expiresIn": "400ms"});
    let short = json_of(mcpd.post("/api/v1/tokens", &admin, &short).await).await;
    let short = short["token"].as_str().unwrap().to_owned();
    assert_eq!(mcpd.get("/api/v1/auth/whoami", &short).await.status(), StatusCode::OK);
    let expired = eventually("the token expires", async || {
        let answer = mcpd.get("/api/v1/auth/whoami", &short).await;
        (answer.status() == StatusCode::UNAUTHORIZED).then_some(answer)
    })
    .await;
    assert!(expired.text().await.unwrap().contains("expired"));

    let second = json!({"name": "second", "subject": subject});
    let second = json_of(mcpd.post("/api/v1/tokens", &admin, &second).await).await["token"].clone();
    let second = second.as_str().unwrap();
    assert_eq!(mcpd.delete("/api/v1/tokens/second", &admin).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(mcpd.get("/api/v1/auth/whoami", second).await.status(), StatusCode::UNAUTHORIZED);

    mcpd.delete("/api/v1/users/alice", &admin).await;
    mcpd.apply(json!([subject])).await;
    assert_eq!(
        mcpd.get("/api/v1/auth/whoami", &alice).await.status(),
        StatusCode::UNAUTHORIZED,
        "a namesake is another"
    );
    let query = mcpd.get(&format!("/api/v1/auth/whoami?token={admin}"), &admin).await;
    assert_eq!(query.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn login_logout_and_wrong_passwords() {
    let mcpd = Mcpd::start().await;
    mcpd.apply(json!([{"kind": "User", "name": "alice", "password": "correct horse battery"}])).await;
    let stored = mcpd.get("/api/v1/users/alice", &mcpd.admin()).await.text().await.unwrap();
    assert!(!stored.contains("\"password\"") && !stored.contains("argon2"), "{stored}");
    let login = async |password: &str| {
        let body = json!({"user": "alice", "password": password});
        mcpd.post("/api/v1/auth/login", "", &body).await
    };
    let session = json_of(login("correct horse battery").await).await["token"].as_str().unwrap().to_owned();
    assert_eq!(mcpd.get("/api/v1/auth/whoami", &session).await.status(), StatusCode::OK);
    assert_eq!(
        mcpd.post("/api/v1/auth/logout", &session, &Value::Null).await.status(),
        StatusCode::NO_CONTENT
    );
    assert_eq!(mcpd.get("/api/v1/auth/whoami", &session).await.status(), StatusCode::UNAUTHORIZED);
    // How guesses are slowed is in `attack/logins.rs`.
    for _ in 0..4 {
        assert_eq!(login("wrong").await.status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(login("correct horse battery").await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn can_i_and_who_can_give_reasons() {
    let mcpd = Mcpd::start().await;
    mcpd.llm("claude", "http://127.0.0.1:1").await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let ask = async |verb: &str| {
        let question = json!({"verb": verb, "kind": "llms", "name": "claude"});
        json_of(mcpd.post("/api/v1/auth/can-i", &alice, &question).await).await
    };
    let yes = ask("run").await;
    assert_eq!(
        (&yes["allowed"], &yes["reason"]),
        (&json!(true), &json!("role `llm-user`, given by rolebinding `alice-llm-user`"))
    );
    assert_eq!(ask("edit").await["allowed"], false);
    let who = "/api/v1/auth/who-can?verb=run&kind=llms&name=claude";
    let subjects = json_of(mcpd.get(who, &mcpd.admin()).await).await;
    let names: Vec<_> = subjects["subjects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["subject"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["admin", "alice"]);
    assert_eq!(
        mcpd.get(who, &alice).await.status(),
        StatusCode::FORBIDDEN,
        "people are not for everybody to list"
    );
}

/// The names of a page, and its `next`.
async fn page(mcpd: &Mcpd, query: &str, bearer: &str) -> (Vec<String>, Option<String>) {
    let page = json_of(mcpd.get(&format!("/api/v1/secrets?{query}"), bearer).await).await;
    let names =
        page["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned());
    (names.collect(), page["next"].as_str().map(str::to_owned))
}

#[tokio::test]
async fn lists_are_paged_by_what_the_caller_may_view() {
    let mcpd = Mcpd::start().await;
    let names = ["a1", "a2", "b1", "b2", "b3", "c1"];
    let secret =
        |name: &&str| json!({"kind": "Secret", "name": name, "data": {}, "labels": {"team": &name[1..]}});
    mcpd.apply(names.iter().map(secret).collect()).await;
    let admin = mcpd.admin();
    let expected = |names: &[&str], next: Option<&str>| {
        (names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), next.map(str::to_owned))
    };
    assert_eq!(page(&mcpd, "", &admin).await, expected(&names, None), "whole");
    assert_eq!(page(&mcpd, "limit=4", &admin).await, expected(&names[..4], Some("b2")));
    assert_eq!(page(&mcpd, "limit=4&after=b2", &admin).await, expected(&names[4..], None));
    assert_eq!(page(&mcpd, "limit=2&after=b2", &admin).await, expected(&names[4..], None), "exactly full");
    assert_eq!(page(&mcpd, "after=b", &admin).await, expected(&names[2..], None), "a name that is free");
    assert_eq!(page(&mcpd, "after=c1", &admin).await, expected(&[], None));
    let selected = "labelSelector=team%3D1&limit=2";
    assert_eq!(page(&mcpd, selected, &admin).await, expected(&["a1", "b1"], Some("b1")));
    assert_eq!(page(&mcpd, &format!("{selected}&after=b1"), &admin).await, expected(&["c1"], None));

    // `next` names what the caller may view, whatever lies between.
    let rules = json!([{"kinds": ["secrets"], "verbs": ["view"], "names": ["a2", "b*"]}]);
    let alice = mcpd.user_with_rules("alice", rules).await;
    assert_eq!(page(&mcpd, "", &alice).await, expected(&["a2", "b1", "b2", "b3"], None));
    assert_eq!(page(&mcpd, "limit=2", &alice).await, expected(&["a2", "b1"], Some("b1")));
    assert_eq!(page(&mcpd, "limit=2&after=b1", &alice).await, expected(&["b2", "b3"], None));

    for wrong in ["limit=0", "limit=1001", "limit=-1", "after=%20", "before=a"] {
        let refused = mcpd.get(&format!("/api/v1/secrets?{wrong}"), &admin).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{wrong}");
    }
}

/// A page looks at a bounded number of resources, so that a selector that matches none costs no walk over all.
#[tokio::test]
async fn page_that_selects_nothing_has_an_end_and_goes_on() {
    let mcpd = Mcpd::start().await;
    let secret = |at: usize| json!({"kind": "Secret", "name": format!("s{at:04}"), "data": {}});
    mcpd.apply((0..1000).map(secret).collect()).await;
    let last = json!({"kind": "Secret", "name": "s1000", "data": {}, "labels": {"team": "a"}});
    mcpd.apply(json!([last])).await;
    let query = "labelSelector=team&limit=10";
    let (names, next) = page(&mcpd, query, &mcpd.admin()).await;
    assert_eq!((names.len(), next.as_deref()), (0, Some("s0999")));
    let (names, next) = page(&mcpd, &format!("{query}&after=s0999"), &mcpd.admin()).await;
    assert_eq!((names, next), (vec!["s1000".to_owned()], None));
}

#[tokio::test]
async fn watch_shows_changes_that_the_caller_may_view() {
    let mcpd = Mcpd::start().await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let mut events = mcpd.get("/api/v1/watch", &alice).await;
    mcpd.llm("claude", "http://127.0.0.1:1").await;
    mcpd.apply(json!([{"kind": "User", "name": "hidden"}])).await;
    mcpd.delete("/api/v1/llms/claude", &mcpd.admin()).await;
    let mut text = String::new();
    while !text.contains("event: delete") {
        text.push_str(std::str::from_utf8(&events.chunk().await.unwrap().unwrap()).unwrap());
    }
    assert!(text.contains("claude") && !text.contains("hidden"), "{text}");
}

#[tokio::test]
async fn inv_05_revocation_holds_on_other_replicas_at_once() {
    let postgres = mcpctl_testkit::postgres::Postgres::start();
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("master-key");
    // Replicas share a key, so it is made before either starts; a single daemon makes its own.
    let single = Mcpd::start().await;
    std::fs::copy(single.data_dir().join("master-key"), &key).unwrap();
    let options = McpdOptions {
        database_url: Some(postgres.url()),
        master_key_file: Some(key),
        ..McpdOptions::default()
    };
    let one = Mcpd::start_with(options.clone()).await;
    let two = Mcpd::start_with(options).await;
    one.llm("claude", "http://127.0.0.1:1").await;
    let alice = one.user("alice", Some("llm-user")).await;
    let binding = json!([{"kind": "RoleBinding", "name": "alice-llm-user", "role": "llm-user",
                          "subjects": [{"kind": "User", "name": "alice"}]}]);
    for round in 0..20 {
        assert_eq!(two.head("/api/v1/llms/claude", &alice).await.status(), StatusCode::OK, "round {round}");
        assert_eq!(
            one.delete("/api/v1/rolebindings/alice-llm-user", &one.admin()).await.status(),
            StatusCode::NO_CONTENT
        );
        assert_eq!(
            two.head("/api/v1/llms/claude", &alice).await.status(),
            StatusCode::FORBIDDEN,
            "round {round}"
        );
        one.apply(binding.clone()).await;
    }
}

#[tokio::test]
async fn inv_14_acknowledged_writes_survive_a_kill() {
    let mut mcpd = Mcpd::start().await;
    let alice = mcpd.user("alice", Some("viewer")).await;
    assert_eq!(
        mcpd.delete("/api/v1/rolebindings/alice-viewer", &mcpd.admin()).await.status(),
        StatusCode::NO_CONTENT
    );
    mcpd.kill();
    mcpd.restart().await;
    assert_eq!(mcpd.get("/api/v1/llms/x", &alice).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(mcpd.get("/api/v1/users/alice", &mcpd.admin()).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn failed_starts_print_one_error_and_change_nothing() {
    let mcpd = Mcpd::start().await;
    let dir = tempfile::tempdir().unwrap();
    let fresh = dir.path().join("fresh");
    let listen = mcpd.url().trim_start_matches("http://").to_owned();
    let start = |args: &[&str]| {
        let output = std::process::Command::new(program("mcpd")).arg("serve").args(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, stderr) = start(&["--data-dir", fresh.to_str().unwrap(), "--listen", &listen]);
    assert_eq!(code, Some(1));
    assert!(
        stderr.contains(&format!("cannot listen on `{listen}`")) && stderr.contains("\nhint: "),
        "{stderr}"
    );
    assert!(!fresh.exists(), "nothing was made");

    let broken = dir.path().join("broken");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(broken.join("mcpd.sqlite"), "this is no database, but it is long enough to look like one")
        .unwrap();
    let (code, stderr) = start(&["--data-dir", broken.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("cannot be opened") && stderr.contains("hint: "), "{stderr}");

    let url = "postgres://u:p4ssword@127.0.0.1:1/db";
    let args = ["--data-dir", fresh.to_str().unwrap(), "--listen", "127.0.0.1:0", "--database-url", url];
    let (code, stderr) = start(&args);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("hint: ") && !stderr.contains("p4ssword"), "{stderr}");
    let (code, _) = start(&["--no-such-flag"]);
    assert_eq!(code, Some(2));
}
