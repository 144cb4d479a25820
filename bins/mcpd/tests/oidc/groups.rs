//! Groups that a claim maps to: what they give, to which credentials, and who may map them.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{World, refusal};

const GROUPS: &str = "autoCreate: true, groupsClaim: groups";

impl World {
    async fn map_team(&self, value: &str) {
        let claims = json!([{"issuer": self.provider.url(), "value": value}]);
        self.mcpd
            .apply(json!([
                {"kind": "Group", "name": "team", "claims": claims},
                {"kind": "RoleBinding", "name": "team", "role": "viewer", "subjects": [{"kind": "Group", "name": "team"}]},
            ]))
            .await;
    }

    async fn may_view(&self, token: &str) -> bool {
        match self.mcpd.get("/api/v1/users/admin", token).await.status() {
            StatusCode::OK => true,
            StatusCode::FORBIDDEN => false,
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn claim_gives_membership_in_its_sessions_and_until_the_next_sign_in() {
    let world = World::start(GROUPS).await;
    world.map_team("eng").await;
    world.vouch("alice", json!({"groups": ["sales", "eng", "eng"]}));
    let session = world.token().await;
    assert!(world.may_view(&session).await);
    let me: Value = world.mcpd.get("/api/v1/auth/whoami", &session).await.json().await.unwrap();
    assert_eq!((&me["groups"], &me["roles"]), (&json!(["team"]), &json!(["viewer"])));
    assert_eq!(world.user("alice").await["external"]["groups"], json!(["eng", "sales"]));
    let who =
        world.mcpd.get("/api/v1/auth/who-can?verb=view&kind=users&name=admin", &world.mcpd.admin()).await;
    let who: Value = who.json().await.unwrap();
    let alice = json!({"subject": {"kind": "User", "name": "alice"}, "role": "viewer", "binding": "team", "viaGroup": "team"});
    assert!(who["subjects"].as_array().unwrap().contains(&alice), "{who}");

    // A token of the same user lasts longer than any sign-in, so the claim does not count for it.
    let token = json!({"name": "t", "subject": {"kind": "User", "name": "alice"}});
    let issued: Value =
        world.mcpd.post("/api/v1/tokens", &world.mcpd.admin(), &token).await.json().await.unwrap();
    assert!(!world.may_view(issued["token"].as_str().unwrap()).await);

    // Another user of the same claim gets the group, one without it does not, and a next sign-in without it ends it for
    // the sessions of before too.
    world.vouch("bob", json!({"groups": "eng"}));
    assert!(world.may_view(&world.token().await).await);
    world.vouch("carol", json!({}));
    assert!(!world.may_view(&world.token().await).await);
    world.vouch("alice", json!({"groups": ["sales"]}));
    let second = world.token().await;
    assert!(!world.may_view(&second).await && !world.may_view(&session).await);

    // A group that gets the claim, another name or no claim any more: each holds at once.
    world.map_team("sales").await;
    assert!(world.may_view(&session).await);
    let renamed = json!({"name": "crew", "claims": [{"issuer": world.provider.url(), "value": "sales"}]});
    let put =
        world.mcpd.request(reqwest::Method::PUT, "/api/v1/groups/team", &world.mcpd.admin()).json(&renamed);
    assert_eq!(put.send().await.unwrap().status(), StatusCode::OK);
    assert!(world.may_view(&session).await);
    assert_eq!(
        world.mcpd.delete("/api/v1/groups/crew", &world.mcpd.admin()).await.status(),
        StatusCode::NO_CONTENT
    );
    assert!(!world.may_view(&session).await);
}

/// A value of one provider is nothing at another, and a name in a claim is no group.
#[tokio::test]
async fn values_belong_to_their_provider() {
    let world = World::start(GROUPS).await;
    world
        .mcpd
        .apply(json!([
            {"kind": "Group", "name": "team", "claims": [{"issuer": "https://id.example.com", "value": "eng"}]},
            {"kind": "RoleBinding", "name": "team", "role": "viewer", "subjects": [{"kind": "Group", "name": "team"}]},
        ]))
        .await;
    world.vouch("alice", json!({"groups": ["eng", "team"]}));
    assert!(!world.may_view(&world.token().await).await);
    for groups in [json!([1]), json!({"eng": true}), json!(["x".repeat(257)]), json!([""]), json!(true)] {
        world.vouch("alice", json!({"groups": groups}));
        let (status, code, _) = refusal(world.sign_in().await).await;
        assert_eq!((status, code.as_str()), (403, "groups_unreadable"), "{groups}");
    }
}

/// A claim hands the group's rights to everyone who will sign in with it, so it takes those rights to map one.
#[tokio::test]
async fn inv_12_only_those_who_hold_a_groups_rights_map_a_claim_to_it() {
    let world = World::start(GROUPS).await;
    world.vouch("mallory", json!({"groups": ["everyone"]}));
    let rules = json!([{"kinds": ["groups"], "verbs": ["view", "create", "edit"], "names": ["*"]},
                       {"kinds": ["rolebindings"], "verbs": ["view", "create", "edit"], "names": ["*"]},
                       {"kinds": ["roles"], "verbs": ["view"], "names": ["*"]}]);
    let editor = world.mcpd.user_with_rules("editor", rules).await;
    world
        .mcpd
        .apply(json!([
            {"kind": "Group", "name": "admins"},
            {"kind": "RoleBinding", "name": "admins", "role": "admin", "subjects": [{"kind": "Group", "name": "admins"}]},
        ]))
        .await;
    let claims = json!([{"issuer": world.provider.url(), "value": "everyone"}]);
    let write = async |name: &str, method: reqwest::Method, path: &str| {
        let body = json!({"name": name, "claims": claims});
        world.mcpd.request(method, path, &editor).json(&body).send().await.unwrap()
    };
    // No user has signed in with it yet, and it is refused all the same.
    let (status, code, message) =
        refusal(write("admins", reqwest::Method::PUT, "/api/v1/groups/admins").await).await;
    assert_eq!((status, code.as_str()), (403, "escalation"), "{message}");
    let mallory = world.token().await;
    let refused = write("admins", reqwest::Method::PUT, "/api/v1/groups/admins").await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    // A group without rights may have the claim, and then gets none from who does not hold them.
    assert_eq!(write("guests", reqwest::Method::POST, "/api/v1/groups").await.status(), StatusCode::CREATED);
    let binding = json!({"name": "x", "role": "admin", "subjects": [{"kind": "Group", "name": "guests"}]});
    let (status, code, _) = refusal(world.mcpd.post("/api/v1/rolebindings", &editor, &binding).await).await;
    assert_eq!((status, code.as_str()), (403, "escalation"));
    assert!(!world.may_view(&mallory).await);
}
