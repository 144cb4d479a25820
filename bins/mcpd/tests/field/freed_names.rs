//! Names that come back: what is made under the name of something deleted inherits nothing of it.

use mcpctl_testkit::daemons::Mcpd;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const READ_LLMS: &str = r#"[{"kinds": ["llms"], "verbs": ["view"], "names": ["*"]}]"#;

fn rules() -> Value {
    serde_json::from_str(READ_LLMS).unwrap()
}

fn binding(name: &str, role: &str, subjects: Value) -> Value {
    json!({"kind": "RoleBinding", "name": name, "role": role, "subjects": subjects})
}

/// Status and `mcpctl-warning` of a deletion.
async fn delete(mcpd: &Mcpd, token: &str, path: &str) -> (StatusCode, String) {
    let answer = mcpd.delete(&format!("/api/v1/{path}"), token).await;
    let warning = answer.headers().get("mcpctl-warning").map(|text| text.to_str().unwrap().to_owned());
    (answer.status(), warning.unwrap_or_default())
}

async fn names(mcpd: &Mcpd, kind: &str) -> Vec<String> {
    let list: Value = mcpd.get(&format!("/api/v1/{kind}"), &mcpd.admin()).await.json().await.unwrap();
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

async fn show(mcpd: &Mcpd, path: &str) -> Value {
    mcpd.get(&format!("/api/v1/{path}"), &mcpd.admin()).await.json().await.unwrap()
}

async fn token(mcpd: &Mcpd, name: &str, subject: &Value) -> String {
    let issued = mcpd.post("/api/v1/tokens", &mcpd.admin(), &json!({"name": name, "subject": subject})).await;
    assert_eq!(issued.status(), StatusCode::CREATED);
    issued.json::<Value>().await.unwrap()["token"].as_str().unwrap().to_owned()
}

async fn may_view_llms(mcpd: &Mcpd, token: &str) -> bool {
    let question = json!({"verb": "view", "kind": "llms"});
    let answer = mcpd.post("/api/v1/auth/can-i", token, &question).await;
    answer.json::<Value>().await.unwrap()["allowed"].as_bool().unwrap()
}

#[tokio::test]
async fn account_created_again_has_no_rights_of_the_old_one() {
    let mcpd = Mcpd::start().await;
    for (kind, path) in [("User", "users"), ("ServiceAccount", "serviceaccounts")] {
        let bob = json!({"kind": kind, "name": "bob"});
        let ann = json!({"kind": "User", "name": "ann"});
        mcpd.apply(json!([
            bob, ann,
            {"kind": "Role", "name": "reader", "rules": rules()},
            {"kind": "Group", "name": "team", "members": [bob, ann]},
            binding("alone", "reader", json!([bob])),
            binding("both", "reader", json!([bob, ann])),
            binding("team", "reader", json!([{"kind": "Group", "name": "team"}])),
        ]))
        .await;
        let old = token(&mcpd, &format!("old-{path}"), &bob).await;
        assert!(may_view_llms(&mcpd, &old).await);

        // The dry run returns the same and changes nothing.
        let (status, dry) = delete(&mcpd, &mcpd.admin(), &format!("{path}/bob?dryRun=true")).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        assert!(may_view_llms(&mcpd, &old).await);
        let (status, warning) = delete(&mcpd, &mcpd.admin(), &format!("{path}/bob")).await;
        assert_eq!((status, &warning), (StatusCode::NO_CONTENT, &dry));
        for expected in [
            format!("1 token(s) of {kind} `bob` are deleted too"),
            format!("RoleBinding `alone` is deleted too: it named nothing but {kind} bob"),
            format!("RoleBinding `both` no longer names {kind} bob"),
            format!("Group `team` no longer names {kind} bob"),
        ] {
            assert!(warning.contains(&expected), "{expected}: {warning}");
        }
        assert!(!names(&mcpd, "rolebindings").await.contains(&"alone".to_owned()));
        assert_eq!(show(&mcpd, "rolebindings/both").await["subjects"], json!([ann]));
        assert_eq!(show(&mcpd, "groups/team").await["members"], json!([ann]));

        mcpd.apply(json!([bob])).await;
        let new = token(&mcpd, &format!("new-{path}"), &bob).await;
        assert!(!may_view_llms(&mcpd, &new).await, "{kind}");
        assert_eq!(mcpd.get("/api/v1/auth/whoami", &old).await.status(), StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn groups_and_roles_made_again_give_nothing() {
    let mcpd = Mcpd::start().await;
    let ann = json!({"kind": "User", "name": "ann"});
    let group = json!({"kind": "Group", "name": "team", "members": [ann]});
    let role = json!({"kind": "Role", "name": "reader", "rules": rules()});
    let by_group = binding("by-group", "reader", json!([{"kind": "Group", "name": "team"}]));
    mcpd.apply(json!([ann, group, role, by_group])).await;
    let token = token(&mcpd, "ann", &ann).await;
    assert!(may_view_llms(&mcpd, &token).await);

    let (_, warning) = delete(&mcpd, &mcpd.admin(), "groups/team").await;
    assert!(warning.contains("RoleBinding `by-group` is deleted too"), "{warning}");
    mcpd.apply(json!([group])).await;
    assert!(!may_view_llms(&mcpd, &token).await, "a group made again");

    mcpd.apply(json!([by_group])).await;
    assert!(may_view_llms(&mcpd, &token).await);
    let (_, warning) = delete(&mcpd, &mcpd.admin(), "roles/reader").await;
    assert!(
        warning.contains("RoleBinding `by-group` is deleted too: it gave the Role `reader`"),
        "{warning}"
    );
    mcpd.apply(json!([role])).await;
    assert!(!may_view_llms(&mcpd, &token).await, "a role made again");
}

#[tokio::test]
async fn rights_follow_a_rename_and_the_old_name_keeps_none() {
    let mcpd = Mcpd::start().await;
    let (ann, team) = (json!({"kind": "User", "name": "ann"}), json!({"kind": "Group", "name": "team"}));
    mcpd.apply(json!([
        ann,
        {"kind": "Role", "name": "reader", "rules": rules()},
        {"kind": "Group", "name": "team", "members": [ann]},
        binding("b", "reader", json!([team])),
    ]))
    .await;
    let token = token(&mcpd, "ann", &ann).await;
    let renames = [("users/ann", "anna"), ("groups/team", "crew"), ("roles/reader", "viewers")];
    for (path, name) in renames {
        let rename = mcpd.request(Method::PATCH, &format!("/api/v1/{path}"), &mcpd.admin());
        let answer = rename.json(&json!({"name": name})).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let warning = answer.headers()["mcpctl-warning"].to_str().unwrap();
        assert!(warning.contains(name) && warning.contains("instead of"), "{warning}");
        assert!(may_view_llms(&mcpd, &token).await, "{path}: the rights follow");
    }
    let anna = json!({"kind": "User", "name": "anna"});
    assert_eq!(show(&mcpd, "groups/crew").await["members"], json!([anna]));
    let shown = show(&mcpd, "rolebindings/b").await;
    assert_eq!((&shown["role"], &shown["subjects"][0]["name"]), (&json!("viewers"), &json!("crew")));
    assert_eq!(show(&mcpd, "tokens/ann").await["subject"], anna);

    // What is made under the old names holds nothing.
    mcpd.apply(json!([ann, {"kind": "Group", "name": "team", "members": [ann]}])).await;
    let other = self::token(&mcpd, "other", &ann).await;
    assert!(!may_view_llms(&mcpd, &other).await);
}

#[tokio::test]
async fn deletion_obeys_the_rules_for_taking_rights_away() {
    let mcpd = Mcpd::start().await;
    let everything = json!([{"kinds": ["*"], "verbs": ["*"], "names": ["*"]}]);
    let manage = json!([{"kinds": ["users", "groups", "roles"], "verbs": ["view", "create", "edit", "delete"], "names": ["*"]}]);
    let boss = json!({"kind": "User", "name": "boss"});
    mcpd.apply(json!([
        boss,
        {"kind": "Role", "name": "all", "rules": everything},
        {"kind": "Group", "name": "ops", "members": [boss]},
        binding("ops", "all", json!([{"kind": "Group", "name": "ops"}])),
        {"kind": "User", "name": "guest"},
        {"kind": "Group", "name": "guests", "members": [{"kind": "User", "name": "guest"}]},
    ]))
    .await;
    let mallory = mcpd.user_with_rules("mallory", manage).await;
    for path in ["users/boss", "groups/ops", "roles/all"] {
        assert_eq!(delete(&mcpd, &mallory, path).await.0, StatusCode::FORBIDDEN, "{path}");
    }
    // A token of an account that was renamed is still that account's.
    token(&mcpd, "boss", &boss).await;
    let rename = mcpd.request(Method::PATCH, "/api/v1/users/boss", &mcpd.admin());
    assert_eq!(rename.json(&json!({"name": "chief"})).send().await.unwrap().status(), StatusCode::OK);
    let tokens = json!([{"kinds": ["tokens"], "verbs": ["view", "delete"], "names": ["*"]}]);
    let eve = mcpd.user_with_rules("eve", tokens).await;
    assert_eq!(delete(&mcpd, &eve, "tokens/boss").await.0, StatusCode::FORBIDDEN);

    // The names of bindings are for those who may view them.
    mcpd.apply(json!([binding("secret-binding", "llm-user", json!([{"kind": "User", "name": "guest"}]))]))
        .await;
    let rights = json!([
        {"kinds": ["users"], "verbs": ["view", "delete", "grant"], "names": ["guest"]},
        {"kinds": ["groups"], "verbs": ["view"], "names": ["guests"]},
    ]);
    let hr = mcpd.user_with_rules("hr", rights).await;
    let (status, warning) = delete(&mcpd, &hr, "users/guest").await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert!(warning.contains("Group `guests` no longer names User guest"), "{warning}");
    assert!(
        warning.contains("1 binding(s), group(s) or Limit(s) that you may not view change too"),
        "{warning}"
    );
    assert!(!warning.contains("secret-binding"), "{warning}");
}

#[tokio::test]
async fn each_implied_change_is_recorded_and_watched() {
    let mcpd = Mcpd::start().await;
    let bob = json!({"kind": "User", "name": "bob"});
    mcpd.apply(json!([
        bob,
        {"kind": "Group", "name": "team", "members": [bob]},
        binding("b", "llm-user", json!([bob])),
    ]))
    .await;
    let before = show(&mcpd, "users").await["revision"].as_u64().unwrap();
    assert_eq!(delete(&mcpd, &mcpd.admin(), "users/bob").await.0, StatusCode::NO_CONTENT);
    let path = format!("/api/v1/watch?kinds=users,groups,rolebindings&since={before}");
    let mut watch = mcpd.get(&path, &mcpd.admin()).await;
    let mut seen = String::new();
    while !(seen.contains("\"bob\"") && seen.contains("\"team\"") && seen.contains("\"b\"")) {
        seen.push_str(std::str::from_utf8(&watch.chunk().await.unwrap().unwrap()).unwrap());
    }
    assert_eq!(seen.matches("event: delete").count(), 2, "{seen}");
}
