//! Races between replicas and between writers: what was acknowledged holds for every later request.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use futures::future::join_all;
use mcpctl_testkit::{daemons::Mcpd, model_server::ModelServer, postgres::Postgres, replicas};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// Two replicas on one PostgreSQL, and a provider.
struct Replicas {
    // Dropped in this order: the daemons end before their database.
    one: Arc<Mcpd>,
    two: Arc<Mcpd>,
    admin: String,
    provider: ModelServer,
    _postgres: Postgres,
    _key: tempfile::TempDir,
}

impl Replicas {
    async fn new() -> Self {
        let replicas::Replicas { one, two, postgres, key } = replicas::Replicas::start().await;
        let provider = ModelServer::start().await;
        one.llm("claude", &provider.base_url()).await;
        let admin = one.admin();
        Self { one: Arc::new(one), two: Arc::new(two), admin, provider, _postgres: postgres, _key: key }
    }

    async fn token(&self, name: &str, user: &str) -> String {
        let wanted = json!({"name": name, "subject": {"kind": "User", "name": user}});
        let issued = self.one.post("/api/v1/tokens", &self.admin, &wanted).await;
        assert_eq!(issued.status(), StatusCode::CREATED, "{name}");
        let issued: Value = issued.json().await.unwrap();
        issued["token"].as_str().unwrap().to_owned()
    }

    /// A revocation at the first replica.
    async fn revoke(&self, how: &str) {
        let patch = async |path: &str, body: Value| {
            self.one.request(Method::PATCH, path, &self.admin).json(&body).send().await.unwrap()
        };
        let answer = match how {
            "binding deleted" => self.one.delete("/api/v1/rolebindings/alice", &self.admin).await,
            "token deleted" => self.one.delete("/api/v1/tokens/alice", &self.admin).await,
            "user deleted" => self.one.delete("/api/v1/users/alice", &self.admin).await,
            "role deleted" => self.one.delete("/api/v1/roles/runner", &self.admin).await,
            "user disabled" => patch("/api/v1/users/alice", json!({"disabled": true})).await,
            "left the group" => patch("/api/v1/groups/team", json!({"members": []})).await,
            "role reduced" => {
                let rules = json!([{"kinds": ["llms"], "verbs": ["view", "run"], "names": ["other"]}]);
                patch("/api/v1/roles/runner", json!({"rules": rules})).await
            }
            "batch" => {
                let disabled = json!([{"kind": "User", "name": "alice", "disabled": true}]);
                self.one.post("/api/v1/apply", &self.admin, &disabled).await
            }
            other => panic!("{other}"),
        };
        assert!(answer.status().is_success(), "{how}: {}", answer.status());
    }
}

fn patch_label(mcpd: &Mcpd, admin: &str, path: &str, label: &str) -> reqwest::RequestBuilder {
    mcpd.request(Method::PATCH, path, admin).json(&json!({"labels": {label: "here"}}))
}

#[tokio::test]
async fn acknowledged_revocations_hold_on_every_replica() {
    let world = Replicas::new().await;
    let chat = json!({"model": "claude", "messages": []});
    let ways = [
        "binding deleted",
        "token deleted",
        "user deleted",
        "role deleted",
        "user disabled",
        "left the group",
        "role reduced",
        "batch",
    ];
    for how in ways {
        world.one.apply(json!([
            {"kind": "User", "name": "alice", "disabled": false},
            {"kind": "Group", "name": "team", "members": [{"kind": "User", "name": "alice"}]},
            {"kind": "Role", "name": "runner", "rules": [{"kinds": ["llms"], "verbs": ["view", "run"], "names": ["claude"]}]},
            {"kind": "RoleBinding", "name": "alice", "role": "runner", "subjects": [{"kind": "Group", "name": "team"}]},
        ]))
        .await;
        let alice = world.token("alice", "alice").await;
        // Both replicas have used the credential, so that whatever either remembers is warm.
        for replica in [&world.one, &world.two] {
            assert_eq!(replica.head("/api/v1/llms/claude", &alice).await.status(), StatusCode::OK, "{how}");
            let answer = replica.post("/v1/chat/completions", &alice, &chat).await;
            let (status, text) = (answer.status(), answer.text().await.unwrap());
            assert_eq!(status, StatusCode::OK, "{how}: {text}");
        }
        world.revoke(how).await;
        let asked = world.provider.inferences().len();
        for replica in [&world.two, &world.one] {
            let probe = replica.head("/api/v1/llms/claude", &alice).await.status();
            let inference = replica.post("/v1/chat/completions", &alice, &chat).await.status();
            let models = replica.get("/v1/models", &alice).await.text().await.unwrap();
            assert!(probe.is_client_error(), "{how}: the probe answers {probe}");
            assert!(inference.is_client_error(), "{how}: inference answers {inference}");
            assert!(!models.contains("claude"), "{how}: {models}");
        }
        assert_eq!(world.provider.inferences().len(), asked, "{how}: the provider was asked");
        world.one.delete("/api/v1/tokens/alice", &world.admin).await;
    }
}

#[tokio::test]
async fn a_deleted_token_ends_inference_under_load() {
    let world = Replicas::new().await;
    let chat = json!({"model": "claude", "messages": []});
    for round in 0..3 {
        let name = format!("alice-{round}");
        let user = format!("alice-{round}");
        world.one.user(&user, Some("llm-user")).await;
        let alice = world.token(&name, &user).await;
        let (revoked, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (before, after) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let callers = (0..6).map(|at| {
            let replica = Arc::clone(if at % 2 == 0 { &world.one } else { &world.two });
            let (revoked, stop, before, after) =
                (revoked.clone(), stop.clone(), before.clone(), after.clone());
            let (alice, chat) = (alice.clone(), chat.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let later = revoked.load(Ordering::SeqCst);
                    let status = replica.post("/v1/chat/completions", &alice, &chat).await.status();
                    if later {
                        assert_eq!(
                            status,
                            StatusCode::UNAUTHORIZED,
                            "a request after the acknowledged deletion"
                        );
                        after.fetch_add(1, Ordering::SeqCst);
                    } else if status == StatusCode::OK {
                        before.fetch_add(1, Ordering::SeqCst);
                    }
                }
            })
        });
        let callers: Vec<_> = callers.collect();
        let enough = async |count: &AtomicUsize| {
            while count.load(Ordering::SeqCst) < 30
                && !callers.iter().any(tokio::task::JoinHandle::is_finished)
            {
                tokio::task::yield_now().await;
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        enough(&before).await;
        let deleted = world.one.delete(&format!("/api/v1/tokens/{name}"), &world.admin).await;
        assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
        revoked.store(true, Ordering::SeqCst);
        enough(&after).await;
        stop.store(true, Ordering::SeqCst);
        for caller in join_all(callers).await {
            caller.unwrap();
        }
        assert!(before.load(Ordering::SeqCst) >= 30 && after.load(Ordering::SeqCst) >= 30);
    }
}

#[tokio::test]
async fn concurrent_creates_of_one_name_make_one_resource() {
    let world = Replicas::new().await;
    let documents = [
        ("users", json!({"displayName": "x"})),
        ("groups", json!({"members": []})),
        ("secrets", json!({"data": {"k": "v"}})),
        ("tokens", json!({"subject": {"kind": "User", "name": "admin"}})),
        ("roles", json!({"rules": [{"kinds": ["llms"], "verbs": ["view"], "names": ["*"]}]})),
    ];
    for (kind, mut document) in documents {
        document["name"] = json!("contested");
        let list = format!("/api/v1/{kind}");
        let creates = (0..12).map(|at| {
            let replica = if at % 2 == 0 { &world.one } else { &world.two };
            replica.post(&list, &world.admin, &document)
        });
        let mut credentials = Vec::new();
        let mut made = 0;
        for answer in join_all(creates).await {
            let status = answer.status();
            made += usize::from(status == StatusCode::CREATED);
            assert!(matches!(status.as_u16(), 201 | 409 | 429 | 503), "{kind}: {status}");
            if status == StatusCode::CREATED {
                let body: Value = answer.json().await.unwrap();
                credentials.extend(body["token"].as_str().map(str::to_owned));
            }
        }
        assert_eq!(made, 1, "{kind}: one create is acknowledged");
        for replica in [&world.one, &world.two] {
            let listed: Value = replica.get(&list, &world.admin).await.json().await.unwrap();
            let named = listed["items"].as_array().unwrap().iter().filter(|item| item["name"] == "contested");
            assert_eq!(named.count(), 1, "{kind}");
            for credential in &credentials {
                assert_eq!(replica.get("/api/v1/auth/whoami", credential).await.status(), StatusCode::OK);
            }
        }
    }
}

#[tokio::test]
async fn deleted_resources_stay_deleted_under_writers() {
    let world = Replicas::new().await;
    for round in 0..4 {
        let path = format!("/api/v1/users/target-{round}");
        world.one.apply(json!([{"kind": "User", "name": format!("target-{round}")}])).await;
        let deletion = Arc::new(AtomicBool::new(false));
        let writers = (0..6).map(|at| {
            let replica = Arc::clone(if at % 2 == 0 { &world.one } else { &world.two });
            let (admin, path) = (world.admin.clone(), path.clone());
            let deletion = Arc::clone(&deletion);
            tokio::spawn(async move {
                // Each writer tries a few times more after the deletion.
                let mut later = 0;
                while later < 5 {
                    let acknowledged = deletion.load(Ordering::SeqCst);
                    let request = patch_label(&replica, &admin, &path, &format!("writer-{at}"));
                    let status = request.send().await.unwrap().status();
                    assert!(!(acknowledged && status.is_success()), "a write to what was deleted: {status}");
                    later += usize::from(acknowledged);
                }
            })
        });
        let writers: Vec<_> = writers.collect();
        // Retried where writers were faster: fairness is another test's.
        let mut deleted = world.two.delete(&path, &world.admin).await.status();
        while !deleted.is_success() {
            assert!(matches!(deleted.as_u16(), 412 | 429 | 503), "{deleted}");
            deleted = world.two.delete(&path, &world.admin).await.status();
        }
        deletion.store(true, Ordering::SeqCst);
        for writer in join_all(writers).await {
            writer.unwrap();
        }
        for replica in [&world.one, &world.two] {
            assert_eq!(
                replica.get(&path, &world.admin).await.status(),
                StatusCode::NOT_FOUND,
                "it came back"
            );
        }
    }
}

#[tokio::test]
async fn acknowledged_writes_of_several_replicas_are_kept() {
    let world = Replicas::new().await;
    world.one.apply(json!([{"kind": "User", "name": "shared"}])).await;
    let path = "/api/v1/users/shared";
    let labels: Vec<_> = (0..10).map(|at| format!("writer-{at}")).collect();
    let writes = labels.iter().enumerate().map(|(at, label)| {
        let replica = if at % 2 == 0 { &world.one } else { &world.two };
        let admin = &world.admin;
        async move {
            // A stale or crowded out write is repeated, as a client does.
            while !patch_label(replica, admin, path, label).send().await.unwrap().status().is_success() {}
        }
    });
    join_all(writes).await;
    for replica in [&world.one, &world.two] {
        let user: Value = replica.get(path, &world.admin).await.json().await.unwrap();
        for label in &labels {
            assert_eq!(user["labels"][label], "here", "an acknowledged write is lost: {user}");
        }
    }
}
