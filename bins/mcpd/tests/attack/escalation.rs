//! Escalation: a caller who may write roles, bindings, groups, accounts or tokens, but not `grant`, never gains a right.
//!
//! Each attempt is a sequence of requests. What an attempt may change is not asked here; only what its caller holds
//! afterwards, directly or by a credential that it came by.

use mcpctl_testkit::daemons::Mcpd;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// One request of an attempt: method, path, body.
type Step = (Method, String, Value);

/// The attacker's name.
const EVE: &str = "eve";
const PASSWORD: &str = "a password that eve chose";

struct Range {
    mcpd: Mcpd,
    admin: String,
    eve: String,
}

impl Range {
    /// A daemon with people whose rights are worth having, and an attacker who may write resources of these kinds.
    async fn new(kinds: &[&str]) -> Self {
        let mcpd = Mcpd::start().await;
        let admin = mcpd.admin();
        let mut documents = vec![json!({"kind": "User", "name": EVE})];
        if !kinds.is_empty() {
            let verbs = ["view", "create", "edit", "delete"];
            let rules = json!([{"kinds": kinds, "verbs": verbs, "names": ["*"]}]);
            documents.push(json!({"kind": "Role", "name": "writer", "rules": rules}));
            documents.push(
                json!({"kind": "RoleBinding", "name": "writer", "role": "writer", "subjects": [user(EVE)]}),
            );
        }
        mcpd.apply(Value::Array(documents)).await;
        let eve = mcpd.user(EVE, None).await;
        Self { mcpd, admin, eve }
    }

    /// Puts everything that an attempt may have changed back.
    async fn reset(&self) {
        let everything = json!([{"kinds": ["*"], "verbs": ["*"], "names": ["*"]}]);
        let little = json!([{"kinds": ["llms"], "verbs": ["view"], "names": ["open"]}]);
        let robot = json!({"kind": "ServiceAccount", "name": "robot"});
        let ghost_robot = json!({"kind": "ServiceAccount", "name": "ghost-robot"});
        let group = json!({"kind": "Group", "name": "bosses"});
        self.mcpd.apply(json!([
            {"kind": "Secret", "name": "canary", "data": {"k": "v"}},
            {"kind": "User", "name": EVE},
            {"kind": "User", "name": "boss"},
            {"kind": "User", "name": "retired", "disabled": true},
            {"kind": "ServiceAccount", "name": "robot"},
            {"kind": "Group", "name": "bosses", "members": [user("boss")]},
            {"kind": "Group", "name": "friends", "members": [user(EVE)]},
            {"kind": "Role", "name": "small", "rules": little},
            {"kind": "Role", "name": "powerful", "rules": everything},
            {"kind": "Role", "name": "vacancy", "rules": little},
            {"kind": "RoleBinding", "name": "bosses", "role": "admin",
             "subjects": [user("boss"), user("retired"), user("ghost"), robot, ghost_robot, group]},
            {"kind": "RoleBinding", "name": "small", "role": "small", "subjects": [user(EVE)]},
            {"kind": "RoleBinding", "name": "friends", "role": "small", "subjects": [{"kind": "Group", "name": "friends"}]},
            {"kind": "RoleBinding", "name": "vacancy", "role": "vacancy", "subjects": [user(EVE)]},
            {"kind": "RoleBinding", "name": "idle", "role": "powerful", "subjects": [user("boss")]},
        ]))
        .await;
        for gone in ["roles/vacancy", "users/ghost", "serviceaccounts/ghost-robot"] {
            self.mcpd.delete(&format!("/api/v1/{gone}"), &self.admin).await;
        }
    }

    async fn id(&self, path: &str) -> Option<String> {
        let found = self.mcpd.get(&format!("/api/v1/{path}"), &self.admin).await;
        let found: Value = found.json().await.unwrap();
        found["id"].as_str().map(str::to_owned)
    }

    /// Sends the steps as eve; answers whether something was changed, and the credentials that came back.
    async fn attempt(&self, steps: &[Step]) -> (bool, Vec<String>) {
        let mut changed = false;
        let mut credentials = vec![self.eve.clone()];
        for (method, path, body) in steps {
            // A login that follows refused writes only is one more wrong guess, and those are slowed down.
            if path == "auth/login" && !changed {
                continue;
            }
            let request = self.mcpd.request(method.clone(), &format!("/api/v1/{path}"), &self.eve);
            let request = if body.is_null() { request } else { request.json(body) };
            let answer = request.send().await.unwrap();
            changed |= answer.status().is_success();
            if let Ok(body) = answer.json::<Value>().await {
                credentials.extend(body["token"].as_str().map(str::to_owned));
            }
        }
        (changed, credentials)
    }

    /// Whether a credential can do what eve never could.
    async fn gained(&self, credential: &str) -> bool {
        let canary = self.mcpd.head("/api/v1/secrets/canary", credential).await.status();
        let grants = json!({"verb": "grant", "kind": "roles", "name": "anything"});
        let grants = self.mcpd.post("/api/v1/auth/can-i", credential, &grants).await;
        let grants: Value = grants.json().await.unwrap();
        canary == StatusCode::OK || grants["allowed"] == true
    }

    async fn check(&self, attempts: &[Vec<Step>]) {
        for steps in attempts {
            let (changed, credentials) = self.attempt(steps).await;
            for credential in credentials {
                assert!(!self.gained(&credential).await, "eve gained rights by {steps:#?}");
            }
            if changed {
                self.reset().await;
            }
        }
        self.reset().await;
        let binding =
            json!({"kind": "RoleBinding", "name": "idle", "role": "powerful", "subjects": [user(EVE)]});
        self.mcpd.apply(json!([binding])).await;
        assert!(self.gained(&self.eve).await, "rights that eve is given are seen");
    }

    /// The attempts, each by the names and by the ids of what it writes.
    async fn attempts(&self) -> Vec<Vec<Step>> {
        self.reset().await;
        let mut all = bindings();
        all.extend(roles());
        all.extend(groups());
        all.extend(accounts());
        all.extend(self.tokens().await);
        all.extend(batches());
        for steps in all.clone() {
            let mut by_id = steps;
            let mut differs = false;
            for (_, path, _) in by_id.iter_mut().filter(|(method, ..)| *method != Method::POST) {
                if let (Some((kind, _)), Some(id)) = (path.clone().split_once('/'), self.id(path).await) {
                    *path = format!("{kind}/{id}");
                    differs = true;
                }
            }
            if differs {
                all.push(by_id);
            }
        }
        all
    }

    async fn tokens(&self) -> Vec<Vec<Step>> {
        let token = |name: &str, subject: Value| post("tokens", json!({"name": name, "subject": subject}));
        let robot = |name: &str| json!({"kind": "ServiceAccount", "name": name});
        let (boss, own) = (self.id("users/boss").await.unwrap(), "tokens/eve-token");
        vec![
            vec![token("of-boss", user("boss"))],
            vec![token("of-admin", user("admin"))],
            vec![token("of-retired", user("retired"))],
            vec![token("of-ghost", user("ghost"))],
            vec![token("of-robot", robot("robot"))],
            vec![token("of-ghost-robot", robot("ghost-robot"))],
            vec![token("of-bosses", json!({"kind": "Group", "name": "bosses"}))],
            vec![token("of-own", user(EVE))],
            vec![patch(own, json!({"subject": user("boss"), "subjectId": boss}))],
            vec![put(
                own,
                json!({"subject": user("boss"), "subjectId": boss, "expiresAt": "2099-01-01T00:00:00Z"}),
            )],
            vec![post(
                "apply",
                json!([{"kind": "Token", "name": "written", "subject": user("boss"), "subjectId": boss,
                "expiresAt": "2099-01-01T00:00:00Z"}]),
            )],
        ]
    }
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "name": name})
}

fn everything() -> Value {
    json!([{"kinds": ["*"], "verbs": ["*"], "names": ["*"]}])
}

fn post(path: &str, body: Value) -> Step {
    (Method::POST, path.to_owned(), body)
}

fn put(path: &str, body: Value) -> Step {
    (Method::PUT, path.to_owned(), body)
}

fn patch(path: &str, body: Value) -> Step {
    (Method::PATCH, path.to_owned(), body)
}

fn delete(path: &str) -> Step {
    (Method::DELETE, path.to_owned(), Value::Null)
}

fn bindings() -> Vec<Vec<Step>> {
    let bind = |name: &str, role: &str| json!({"name": name, "role": role, "subjects": [user(EVE)]});
    let friends =
        json!({"name": "grab-4", "role": "admin", "subjects": [{"kind": "Group", "name": "friends"}]});
    vec![
        vec![post("rolebindings", bind("grab-1", "admin"))],
        vec![post("rolebindings", bind("grab-2", "powerful"))],
        vec![post("rolebindings", friends)],
        vec![put("rolebindings/idle", bind("idle", "powerful"))],
        vec![patch("rolebindings/idle", json!({"subjects": [user(EVE)]}))],
        vec![patch("rolebindings/small", json!({"role": "admin"}))],
        vec![patch("rolebindings/small", json!({"role": "powerful", "name": "small-renamed"}))],
        vec![put("rolebindings/small", bind("small", "powerful"))],
        vec![patch("rolebindings/friends", json!({"role": "admin"}))],
        vec![patch("rolebindings/bosses", json!({"subjects": [user("boss"), user(EVE)]}))],
        vec![delete("rolebindings/idle"), post("rolebindings", bind("idle", "powerful"))],
        vec![
            patch("rolebindings/idle", json!({"role": "small", "subjects": [user(EVE)]})),
            patch("rolebindings/idle", json!({"role": "powerful"})),
        ],
    ]
}

fn roles() -> Vec<Vec<Step>> {
    let role = |name: &str| json!({"name": name, "rules": everything()});
    let mut attempts = vec![
        vec![post("roles", role("grab")), patch("rolebindings/small", json!({"role": "grab"}))],
        vec![post("roles", role("vacancy"))],
        vec![put("roles/new", role("new")), patch("rolebindings/small", json!({"role": "new"}))],
        vec![patch("roles/small", json!({"rules": everything()}))],
        vec![put("roles/small", role("small"))],
        vec![delete("roles/small"), post("roles", role("small"))],
        vec![patch("roles/small", json!({"name": "moved"})), post("roles", role("small"))],
        vec![patch("roles/powerful", json!({"name": "vacancy"}))],
        vec![delete("roles/small"), patch("roles/powerful", json!({"name": "small"}))],
        vec![patch(
            "roles/small",
            json!({"rules": [{"kinds": ["secrets"], "verbs": ["view"], "names": ["canary"]}]}),
        )],
        vec![
            patch(
                "roles/small",
                json!({"rules": [{"kinds": ["roles"], "verbs": ["grant"], "names": ["*"]}]}),
            ),
            patch("roles/small", json!({"rules": everything()})),
        ],
        vec![
            patch("roles/small", json!({"name": "admin"})),
            patch("rolebindings/small", json!({"role": "admin"})),
        ],
    ];
    for builtin in ["viewer", "llm-user", "editor", "admin"] {
        let path = format!("roles/{builtin}");
        let bind = patch("rolebindings/small", json!({"role": builtin}));
        attempts.push(vec![patch(&path, json!({"rules": everything()})), bind.clone()]);
        attempts.push(vec![put(&path, role(builtin)), bind.clone()]);
        attempts.push(vec![delete(&path), post("roles", role(builtin)), bind.clone()]);
        attempts.push(vec![patch(&path, json!({"name": "vacancy"})), bind]);
    }
    attempts
}

fn groups() -> Vec<Vec<Step>> {
    let bosses = json!({"name": "bosses", "members": [user(EVE)]});
    vec![
        vec![patch("groups/bosses", json!({"members": [user("boss"), user(EVE)]}))],
        vec![put("groups/bosses", bosses.clone())],
        vec![delete("groups/bosses"), post("groups", bosses.clone())],
        vec![delete("groups/bosses"), patch("groups/friends", json!({"name": "bosses"}))],
        vec![patch("groups/bosses", json!({"name": "former"})), post("groups", bosses)],
        vec![patch("groups/bosses", json!({"members": [{"kind": "Group", "name": "friends"}]}))],
        vec![
            patch("groups/bosses", json!({"members": [user("eve-two")]})),
            post("users", json!({"name": "eve-two", "password": PASSWORD})),
            login("eve-two"),
        ],
    ]
}

fn login(name: &str) -> Step {
    post("auth/login", json!({"user": name, "password": PASSWORD}))
}

fn accounts() -> Vec<Vec<Step>> {
    let robot_token = post(
        "tokens",
        json!({"name": "robots", "subject": {"kind": "ServiceAccount", "name": "ghost-robot"}}),
    );
    vec![
        vec![post("users", json!({"name": "ghost", "password": PASSWORD})), login("ghost")],
        vec![
            post("users", json!({"name": "ghost"})),
            patch("users/ghost", json!({"password": PASSWORD})),
            login("ghost"),
        ],
        vec![patch("users/boss", json!({"password": PASSWORD})), login("boss")],
        vec![put("users/boss", json!({"name": "boss", "password": PASSWORD})), login("boss")],
        vec![patch("users/admin", json!({"password": PASSWORD})), login("admin")],
        vec![patch("users/retired", json!({"disabled": false, "password": PASSWORD})), login("retired")],
        vec![
            patch("users/retired", json!({"password": PASSWORD})),
            patch("users/retired", json!({"disabled": false})),
            login("retired"),
        ],
        vec![patch("users/eve", json!({"name": "ghost"}))],
        vec![
            delete("users/boss"),
            post("users", json!({"name": "boss", "password": PASSWORD})),
            login("boss"),
        ],
        vec![delete("users/boss"), patch("users/eve", json!({"name": "boss"}))],
        vec![
            post("users", json!({"name": "mine", "password": PASSWORD})),
            patch("users/mine", json!({"name": "ghost"})),
            login("ghost"),
        ],
        vec![post("serviceaccounts", json!({"name": "ghost-robot"})), robot_token.clone()],
        vec![patch("serviceaccounts/robot", json!({"name": "ghost-robot"})), robot_token],
    ]
}

/// Documents of one `apply`, in every order.
fn batches() -> Vec<Vec<Step>> {
    let role = json!({"kind": "Role", "name": "batch", "rules": everything()});
    let group = json!({"kind": "Group", "name": "batch", "members": [user(EVE)]});
    let direct = json!({"kind": "RoleBinding", "name": "batch", "role": "batch", "subjects": [user(EVE)]});
    let by_group = json!({"kind": "RoleBinding", "name": "batch", "role": "batch", "subjects": [{"kind": "Group", "name": "batch"}]});
    let granting = json!({"kind": "Role", "name": "small", "rules": [{"kinds": ["*"], "verbs": ["grant"], "names": ["*"]}]});
    let grown = json!({"kind": "Role", "name": "small", "rules": everything()});
    let boss = json!({"kind": "User", "name": "boss", "password": PASSWORD});
    let sets = [
        vec![role.clone(), direct],
        vec![role.clone(), group.clone(), by_group],
        vec![granting, grown.clone()],
        vec![json!({"kind": "Group", "name": "bosses", "members": [user(EVE)]}), user("harmless")],
        vec![role, group, grown],
        vec![user("harmless"), boss],
    ];
    let orders = sets.iter().flat_map(|set| permutations(set));
    orders.map(|order| vec![post("apply", Value::Array(order)), login("boss")]).collect()
}

fn permutations(items: &[Value]) -> Vec<Vec<Value>> {
    if items.len() < 2 {
        return vec![items.to_vec()];
    }
    let mut all = Vec::new();
    for at in 0..items.len() {
        let mut rest = items.to_vec();
        let first = rest.remove(at);
        all.extend(permutations(&rest).into_iter().map(|tail| [vec![first.clone()], tail].concat()));
    }
    all
}

#[tokio::test]
async fn writers_of_people_and_rights_gain_nothing() {
    let range = Range::new(&["roles", "rolebindings", "groups", "users", "serviceaccounts", "tokens"]).await;
    let attempts = range.attempts().await;
    range.check(&attempts).await;
}

#[tokio::test]
async fn writers_of_roles_and_bindings_gain_nothing() {
    let range = Range::new(&["roles", "rolebindings"]).await;
    let attempts = range.attempts().await;
    range.check(&attempts).await;
}

#[tokio::test]
async fn writers_of_accounts_and_tokens_gain_nothing() {
    let range = Range::new(&["users", "serviceaccounts", "tokens"]).await;
    let attempts = range.attempts().await;
    range.check(&attempts).await;
}

#[tokio::test]
async fn callers_without_rights_change_nothing() {
    let range = Range::new(&[]).await;
    let attempts = range.attempts().await;
    range.check(&attempts).await;
}

#[tokio::test]
async fn built_in_roles_are_the_same_for_administrators() {
    let range = Range::new(&[]).await;
    let before: Value = range.mcpd.get("/api/v1/roles", &range.admin).await.json().await.unwrap();
    for builtin in ["viewer", "llm-user", "editor", "admin"] {
        let id = range.id(&format!("roles/{builtin}")).await.unwrap();
        // A document that has what the role has already is no change, and is accepted.
        let viewing = json!([{"kinds": ["llms"], "verbs": ["view"], "names": ["*"]}]);
        let other = if builtin == "admin" { viewing } else { everything() };
        for path in [format!("roles/{builtin}"), format!("roles/{id}")] {
            let whole = json!({"name": builtin, "rules": other});
            for (method, path, body) in [
                patch(&path, json!({"rules": other})),
                patch(&path, json!({"name": "another"})),
                patch(&path, json!({"labels": {"a": "b"}})),
                put(&path, whole.clone()),
                post("apply", json!([{"kind": "Role", "name": builtin, "rules": []}])),
                delete(&path),
            ] {
                let request = range.mcpd.request(method.clone(), &format!("/api/v1/{path}"), &range.admin);
                let request = if body.is_null() { request } else { request.json(&body) };
                let status = request.send().await.unwrap().status();
                assert!(status.is_client_error(), "{method} {path} {body}: {status}");
            }
        }
    }
    let after: Value = range.mcpd.get("/api/v1/roles", &range.admin).await.json().await.unwrap();
    assert_eq!(after["items"], before["items"]);
}
