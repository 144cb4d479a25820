//! Which user a person becomes, and what of it can be changed by whom.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{CLIENT, World, config, refusal};

#[tokio::test]
async fn first_sign_in_creates_a_user_where_that_is_allowed() {
    let world = World::start("autoCreate: true").await;
    world.vouch(
        "248-289",
        json!({"preferred_username": "Alice@Example.com", "name": "Alice\n", "email": "a@example.com"}),
    );
    let token = world.token().await;
    let me: Value = world.mcpd.get("/api/v1/auth/whoami", &token).await.json().await.unwrap();
    assert_eq!(me["subject"], json!({"kind": "User", "name": "alice@example.com"}));
    let user = world.user("alice@example.com").await;
    assert_eq!(user["external"], json!({"issuer": world.provider.url(), "subject": "248-289"}));
    assert_eq!(
        (user["displayName"].as_str(), user["email"].as_str()),
        (Some("Alice"), Some("a@example.com"))
    );
    // The exchange carries what binds the code, and the redirect that mcpd makes itself.
    let exchange = world.provider.received("/token").pop().unwrap().form;
    assert_eq!(exchange["code_verifier"], "v".repeat(43));
    assert_eq!(exchange["redirect_uri"], "http://127.0.0.1:4711/callback");
    assert_eq!((exchange["client_id"].as_str(), exchange.get("client_secret")), ("mcpctl", None));

    // The same account is the same user, whatever it is called by now; another account is another user.
    world.vouch("248-289", json!({"preferred_username": "admin"}));
    let again: Value =
        world.mcpd.get("/api/v1/auth/whoami", &world.token().await).await.json().await.unwrap();
    assert_eq!(again["id"], me["id"]);
    world.vouch("other", json!({"preferred_username": "alice@example.com"}));
    let (status, code, message) = refusal(world.sign_in().await).await;
    assert_eq!((status, code.as_str()), (403, "name_taken"), "{message}");

    // A session ends with a logout, and with its user.
    assert_eq!(
        world.mcpd.post("/api/v1/auth/logout", &token, &json!({})).await.status(),
        StatusCode::NO_CONTENT
    );
    assert_eq!(world.mcpd.get("/api/v1/auth/whoami", &token).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn names_that_mean_something_here_are_given_to_nobody() {
    let world = World::start("autoCreate: true").await;
    world
        .mcpd
        .apply(json!([
            {"kind": "User", "name": "local", "email": "local@example.com"},
            {"kind": "Group", "name": "team", "members": [{"kind": "User", "name": "awaited"}]},
            {"kind": "RoleBinding", "name": "b", "role": "admin", "subjects": [{"kind": "User", "name": "boss"}]},
        ]))
        .await;
    for name in ["local", "awaited", "boss", "admin"] {
        world.vouch(
            &format!("sub-of-{name}"),
            json!({"preferred_username": name, "email": "local@example.com"}),
        );
        let (status, code, message) = refusal(world.sign_in().await).await;
        assert_eq!((status, code.as_str()), (403, "name_taken"), "{name}: {message}");
    }
    for name in [json!("аdmin"), json!(""), json!(7), Value::Null] {
        world.vouch("x", json!({"preferred_username": name}));
        let (status, code, _) = refusal(world.sign_in().await).await;
        assert_eq!((status, code.as_str()), (403, "no_name"), "{name}");
    }
    let users: Value = world.mcpd.get("/api/v1/users", &world.mcpd.admin()).await.json().await.unwrap();
    assert_eq!(users["items"].as_array().unwrap().len(), 2, "{users}");
}

#[tokio::test]
async fn only_an_administrator_links_and_unlinks() {
    let world = World::start("autoCreate: false").await;
    world.vouch("248", json!({"preferred_username": "alice"}));
    let (status, code, message) = refusal(world.sign_in().await).await;
    assert_eq!((status, code.as_str()), (403, "not_linked"));
    assert!(message.contains("`248`") && message.contains(&world.provider.url()), "{message}");

    let rules = json!([{"kinds": ["users"], "verbs": ["view", "create", "edit", "grant"], "names": ["*"]}]);
    let editor = world.mcpd.user_with_rules("editor", rules).await;
    world.mcpd.user("alice", None).await;
    let external = json!({"external": {"issuer": world.provider.url(), "subject": "248"}});
    let patch = async |name: &str, bearer: &str, patch: &Value| {
        world
            .mcpd
            .request(Method::PATCH, &format!("/api/v1/users/{name}"), bearer)
            .json(patch)
            .send()
            .await
            .unwrap()
    };
    assert_eq!(refusal(patch("alice", &editor, &external).await).await.0, 400);
    let mut new = external.clone();
    new["name"] = "mallory".into();
    assert_eq!(refusal(world.mcpd.post("/api/v1/users", &editor, &new).await).await.0, 400);
    let admin = world.mcpd.admin();
    assert_eq!(patch("alice", &admin, &external).await.status(), StatusCode::OK);
    // One account at a provider is one user here.
    let (_, _, message) = refusal(patch("editor", &admin, &external).await).await;
    assert!(message.contains("is linked to this account already"), "{message}");

    let token = world.token().await;
    let me: Value = world.mcpd.get("/api/v1/auth/whoami", &token).await.json().await.unwrap();
    assert_eq!(me["subject"]["name"], "alice");
    // A document that was read before changes nothing, and an editor cannot invent groups.
    let mut document = world.user("alice").await;
    document["external"]["groups"] = json!(["admins"]);
    document["displayName"] = "A".into();
    let put =
        world.mcpd.request(Method::PUT, "/api/v1/users/alice", &editor).json(&document).send().await.unwrap();
    assert_eq!(put.status(), StatusCode::OK);
    assert_eq!(world.user("alice").await["external"].get("groups"), None);
    assert_eq!(refusal(patch("alice", &editor, &json!({"external": null})).await).await.0, 400);
    assert_eq!(world.mcpd.get("/api/v1/auth/whoami", &token).await.status(), StatusCode::OK);

    assert_eq!(patch("alice", &admin, &json!({"external": null})).await.status(), StatusCode::OK);
    assert_eq!(world.user("alice").await.get("external"), None);
    assert_eq!(world.mcpd.get("/api/v1/auth/whoami", &token).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(refusal(world.sign_in().await).await.1, "not_linked");
}

#[tokio::test]
async fn disabled_users_stay_out_and_deleted_ones_begin_anew() {
    let world = World::start("autoCreate: true").await;
    world.vouch("248", json!({"preferred_username": "alice"}));
    let token = world.token().await;
    let binding = json!([{"kind": "RoleBinding", "name": "b", "role": "viewer", "subjects": [{"kind": "User", "name": "alice"}]}]);
    world.mcpd.apply(binding).await;
    assert_eq!(world.mcpd.get("/api/v1/users/admin", &token).await.status(), StatusCode::OK);
    world.mcpd.apply(json!([{"kind": "User", "name": "alice", "disabled": true}])).await;
    let (status, code, _) = refusal(world.sign_in().await).await;
    assert_eq!((status, code.as_str()), (403, "disabled"));
    assert_eq!(world.mcpd.get("/api/v1/users/admin", &token).await.status(), StatusCode::UNAUTHORIZED);

    let old = world.user("alice").await["id"].clone();
    assert_eq!(
        world.mcpd.delete("/api/v1/users/alice", &world.mcpd.admin()).await.status(),
        StatusCode::NO_CONTENT
    );
    let token = world.token().await;
    assert_ne!(world.user("alice").await["id"], old);
    assert_eq!(world.mcpd.get("/api/v1/users/admin", &token).await.status(), StatusCode::FORBIDDEN);
}

/// A link that an account made is as good as that account: it caps the sessions, and ends with it.
#[tokio::test]
async fn link_ends_with_the_account_that_made_it_and_is_taken_over() {
    let world = World::start("autoCreate: false").await;
    let admin = world.mcpd.admin();
    let deputy = world.mcpd.user("deputy", Some("admin")).await;
    let external = json!({"issuer": world.provider.url(), "subject": "248"});
    let alice = json!({"name": "alice", "external": external});
    assert_eq!(world.mcpd.post("/api/v1/users", &deputy, &alice).await.status(), StatusCode::CREATED);
    world.vouch("248", json!({}));
    let token = world.token().await;
    let warning = |answer: &reqwest::Response| {
        let warned = answer.headers().get("mcpctl-warning").map(|text| text.to_str().unwrap().to_owned());
        warned.unwrap_or_default()
    };
    let disabled = patch(&world, "deputy", &admin, &json!({"disabled": true})).await;
    assert!(warning(&disabled).contains("User `alice` cannot sign in at its provider while User `deputy`"));
    assert_eq!(world.mcpd.get("/api/v1/auth/whoami", &token).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(refusal(world.sign_in().await).await.1, "void_link");
    let deleted = world.mcpd.delete("/api/v1/users/deputy", &admin).await;
    assert!(warning(&deleted).contains("write `external` again"), "{}", warning(&deleted));

    // An editor cannot answer for it; what an administrator writes again counts again.
    let rules = json!([{"kinds": ["users"], "verbs": ["view", "edit", "grant"], "names": ["*"]}]);
    let editor = world.mcpd.user_with_rules("editor", rules).await;
    let again = json!({"external": external});
    assert_eq!(patch(&world, "alice", &editor, &again).await.status(), StatusCode::OK);
    assert_eq!(refusal(world.sign_in().await).await.1, "void_link");
    let renewed = patch(&world, "alice", &admin, &again).await;
    assert!(warning(&renewed).contains("you answer for the link now"), "{}", warning(&renewed));
    world.token().await;
    assert_eq!(warning(&patch(&world, "alice", &admin, &again).await), "");
}

/// The sign-in of an administrator that another one linked goes on when the other one leaves.
#[tokio::test]
async fn administrator_keeps_its_link_when_it_deletes_who_made_it() {
    let world = World::start("autoCreate: false").await;
    let first = world.mcpd.user("first", Some("admin")).await;
    world.mcpd.user("second", Some("admin")).await;
    let external = json!({"external": {"issuer": world.provider.url(), "subject": "248"}});
    assert_eq!(patch(&world, "second", &first, &external).await.status(), StatusCode::OK);
    world.vouch("248", json!({}));
    let session = world.token().await;
    let deleted = world.mcpd.delete("/api/v1/users/first", &session).await;
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    assert_eq!(world.mcpd.get("/api/v1/auth/whoami", &session).await.status(), StatusCode::OK);
    world.token().await;
}

async fn patch(world: &World, name: &str, bearer: &str, patch: &Value) -> reqwest::Response {
    let request = world.mcpd.request(Method::PATCH, &format!("/api/v1/users/{name}"), bearer);
    request.json(patch).send().await.unwrap()
}

#[tokio::test]
async fn newcomers_are_bounded_by_number_and_by_claims() {
    let world =
        World::start("autoCreate: {maxUsers: 2, namePrefix: corp-, claims: {email: ['*@example.com']}}")
            .await;
    let email = |text: &str, verified: bool| json!({"email": text, "email_verified": verified});
    for (subject, claims) in [
        ("none", json!({})),
        ("unverified", email("a@example.com", false)),
        ("elsewhere", email("a@example.com.evil.example", true)),
    ] {
        world.vouch(subject, claims);
        let (status, code, message) = refusal(world.sign_in().await).await;
        assert_eq!((status, code.as_str()), (403, "not_admitted"), "{subject}");
        assert!(message.contains("claim `email`") && !message.contains("a@example"), "{message}");
    }
    for subject in ["alice", "bob"] {
        world.vouch(subject, email("x@Example.com", true));
        world.token().await;
        assert_eq!(world.user(&format!("corp-{subject}")).await["external"]["subject"], subject);
    }
    world.vouch("carol", email("c@example.com", true));
    let (status, code, message) = refusal(world.sign_in().await).await;
    assert_eq!((status, code.as_str()), (403, "too_many_users"));
    assert!(message.contains("2 users of"), "{message}");
    // Who is a user already, and whom an administrator links, signs in all the same; a deletion makes room.
    world.vouch("alice", json!({}));
    world.token().await;
    let external = json!({"issuer": world.provider.url(), "subject": "dave"});
    world.mcpd.apply(json!([{"kind": "User", "name": "dave", "external": external}])).await;
    world.vouch("dave", json!({}));
    world.token().await;
    for name in ["dave", "corp-bob"] {
        let path = format!("/api/v1/users/{name}");
        assert_eq!(world.mcpd.delete(&path, &world.mcpd.admin()).await.status(), StatusCode::NO_CONTENT);
    }
    world.vouch("carol", email("c@example.com", true));
    world.token().await;
}

#[tokio::test]
async fn sessions_end_with_the_provider_that_began_them() {
    let mut world = World::start("autoCreate: true").await;
    world.vouch("alice", json!({}));
    let session = world.token().await;
    let own = json!({"name": "t", "subject": {"kind": "User", "name": "alice"}});
    let own: Value = world.mcpd.post("/api/v1/tokens", &world.mcpd.admin(), &own).await.json().await.unwrap();
    let (own, admin) = (own["token"].as_str().unwrap(), world.mcpd.admin());
    let whoami = async |mcpd: &mcpctl_testkit::daemons::Mcpd, token: &str| {
        refusal(mcpd.get("/api/v1/auth/whoami", token).await).await
    };
    // Who is no longer admitted there renews nothing with what is left.
    let of_session = json!({"name": "alice-laptop", "subject": {"kind": "User", "name": "alice"}});
    let made = world.mcpd.post("/api/v1/tokens", &session, &of_session).await;
    let made: Value = made.json().await.unwrap();
    let laptop = made["token"].as_str().unwrap();
    let path = "/api/v1/tokens/alice-laptop/rotate";
    let (status, _, message) = refusal(world.mcpd.post(path, laptop, &json!({})).await).await;
    assert!(status == 400 && message.starts_with("User alice signs in by a provider"), "{message}");
    assert_eq!(world.mcpd.post(path, &session, &json!({})).await.status(), 201);
    // Another provider of the same name is another one.
    let other = config("http://127.0.0.1:9", "autoCreate: true", "");
    world.mcpd.restart_with(&other).await;
    let (status, _, message) = whoami(&world.mcpd, &session).await;
    assert!(status == 401 && message.contains("does not list the issuer"), "{message}");
    assert_eq!(whoami(&world.mcpd, own).await.0, 200, "a token of the user is none of the provider's");
    let token: Value = world.mcpd.get("/api/v1/auth/token-status", &admin).await.json().await.unwrap();
    assert!(token.to_string().contains("does not list the issuer"), "{token}");
    world.mcpd.restart_with(&config(&world.provider.url(), "autoCreate: true", "")).await;
    assert_eq!(whoami(&world.mcpd, &session).await.0, 200);
}

/// Approved after the user is gone: what counts is the moment at which the session would begin.
#[tokio::test]
async fn device_code_of_a_user_who_is_cut_off_begins_no_session() {
    let world = World::start("autoCreate: false, deviceCode: true").await;
    let admin = world.mcpd.admin();
    let external = json!({"issuer": world.provider.url(), "subject": "248"});
    world.mcpd.apply(json!([{"kind": "User", "name": "alice", "external": external}])).await;
    for (cut_off, code) in [(json!({"disabled": true}), "disabled"), (Value::Null, "not_linked")] {
        let begun = world.mcpd.post("/api/v1/auth/oidc/device", "", &json!({"issuer": "corp"})).await;
        let begun: Value = begun.json().await.unwrap();
        let poll = json!({"issuer": "corp", "deviceCode": begun["deviceCode"]});
        let poll = async || world.mcpd.post("/api/v1/auth/oidc/device/poll", "", &poll).await;
        let pending = json!({"error": "authorization_pending"});
        world.provider.prescribe("/token", mcpctl_testkit::issuer::Prescribed::json(400, &pending));
        assert_eq!(poll().await.status(), StatusCode::ACCEPTED);
        let done = match &cut_off {
            Value::Null => world.mcpd.delete("/api/v1/users/alice", &admin).await,
            change => patch(&world, "alice", &admin, change).await,
        };
        assert!(done.status().is_success());
        world.provider.grant(&world.provider.claims(CLIENT, "248"));
        let refused = mcpctl_testkit::daemons::eventually("the approval arrived", async || {
            let answer = poll().await;
            (answer.status() != StatusCode::ACCEPTED).then_some(answer)
        });
        assert_eq!(refusal(refused.await).await.1, code);
    }
}
