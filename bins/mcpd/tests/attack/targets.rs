//! Keys of an Llm's targets: each goes to the address beside which someone who may `use` it wrote it.

use mcpctl_testkit::{
    daemons::Mcpd,
    model_server::{ModelServer, Reply},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const KEYS: [&str; 2] = ["Bearer sk-key-a", "Bearer sk-key-b"];

/// An Llm with two targets that have a key each, and Mallory, who may edit Llms and use no secret.
struct World {
    mcpd: Mcpd,
    providers: [ModelServer; 2],
    evil: ModelServer,
    mallory: String,
}

impl World {
    async fn new() -> Self {
        let mcpd = Mcpd::start().await;
        let mut servers = Vec::new();
        for _ in 0..3 {
            servers.push(ModelServer::with_default(Reply::text("hello")).await);
        }
        let rules = json!([{"kinds": ["llms"], "verbs": ["view", "create", "edit", "delete", "run"], "names": ["*"]}]);
        let mallory = mcpd.user_with_rules("mallory", rules).await;
        let evil = servers.pop().unwrap();
        let world = Self { mcpd, providers: servers.try_into().unwrap(), evil, mallory };
        world
            .mcpd
            .apply(json!([{"kind": "Secret", "name": "prod", "data": {"a": "sk-key-a", "b": "sk-key-b"}}]))
            .await;
        world.restore().await;
        world
    }

    async fn restore(&self) {
        let targets =
            [self.target(Some("a"), &self.providers[0]), self.target(Some("b"), &self.providers[1])];
        self.mcpd.apply(json!([self.llm(json!(targets))])).await;
    }

    fn llm(&self, targets: Value) -> Value {
        json!({"kind": "Llm", "name": "many", "type": "openai", "model": "m", "targets": targets})
    }

    fn target(&self, key: Option<&str>, at: &ModelServer) -> Value {
        let mut target = json!({"url": at.base_url()});
        if let Some(key) = key {
            target["apiKey"] = json!({"secret": "prod", "key": key});
        }
        target
    }

    /// The targets as they are shown, with the ids that the server added.
    async fn shown(&self) -> Value {
        let llm = self.mcpd.get("/api/v1/llms/many", &self.mallory).await;
        llm.json::<Value>().await.unwrap()["targets"].clone()
    }

    /// Mallory's write; the status and the warning.
    async fn write(&self, method: Method, path: &str, body: &Value) -> (StatusCode, String) {
        let answer = self.mcpd.request(method, path, &self.mallory).json(body).send().await.unwrap();
        let warning = answer.headers().get("mcpctl-warning").map(|text| text.to_str().unwrap().to_owned());
        (answer.status(), warning.unwrap_or_default())
    }

    async fn patch(&self, targets: Value) -> (StatusCode, String) {
        self.write(Method::PATCH, "/api/v1/llms/many", &json!({"targets": targets})).await
    }

    /// Sends requests until each target of the Llm was asked.
    async fn run(&self) {
        let body = json!({"model": "many", "messages": [{"role": "user", "content": "Hi"}]});
        for _ in 0..6 {
            self.mcpd.post("/v1/chat/completions", &self.mallory, &body).await.text().await.unwrap();
        }
    }

    /// The keys that a server was sent since the last call of this.
    fn keys(server: &ModelServer, from: &mut usize) -> Vec<String> {
        let requests = server.requests();
        let new = requests.get(*from..).unwrap_or_default();
        *from = requests.len();
        let mut keys: Vec<_> =
            new.iter().filter_map(|request| request.header("authorization").map(str::to_owned)).collect();
        keys.dedup();
        keys
    }
}

/// Whatever Mallory makes of the list, no server gets a key that was not written beside its address.
#[tokio::test]
async fn inv_11_key_of_a_target_goes_to_its_address_only() {
    let world = World::new().await;
    let [first, second] = &world.providers;
    let evil = &world.evil;
    let shown = world.shown().await;
    let with_url = |at: usize, url: String| {
        let mut targets = shown.clone();
        targets[at]["url"] = json!(url);
        targets
    };
    let swapped = {
        let mut targets = shown.clone();
        let (one, two) = (targets[0]["url"].clone(), targets[1]["url"].clone());
        (targets[0]["url"], targets[1]["url"]) = (two, one);
        targets
    };
    let keys_swapped = {
        let mut targets = shown.clone();
        let (one, two) = (targets[0]["apiKey"].clone(), targets[1]["apiKey"].clone());
        (targets[0]["apiKey"], targets[1]["apiKey"]) = (two, one);
        targets
    };
    let inserted = {
        let mut targets = shown.clone();
        targets
            .as_array_mut()
            .unwrap()
            .insert(0, json!({"url": evil.base_url(), "apiKey": shown[0]["apiKey"]}));
        targets
    };
    let path_added = format!("{}/proxy", first.base_url());
    let mut from = [0; 3];
    // Which of the two keys its address keeps.
    for (what, targets, kept) in [
        ("first moved", with_url(0, evil.base_url()), [false, true]),
        ("second moved", with_url(1, evil.base_url()), [true, false]),
        ("another path of the host", with_url(0, path_added), [false, true]),
        ("addresses swapped", swapped, [false, false]),
        ("keys swapped", keys_swapped, [false, false]),
        ("address inserted before", inserted, [true, true]),
        (
            "without ids",
            json!([world.target(Some("a"), evil), world.target(Some("b"), second)]),
            [false, true],
        ),
        (
            "other key of the secret",
            json!([world.target(Some("b"), first), world.target(Some("b"), second)]),
            [false, true],
        ),
        ("reversed", json!([shown[1], shown[0]]), [true, true]),
        ("one removed", json!([shown[1]]), [false, true]),
        (
            "model and weight changed",
            json!([
                {"url": first.base_url(), "apiKey": shown[0]["apiKey"], "model": "n", "weight": 3},
                {"url": second.base_url(), "apiKey": shown[1]["apiKey"]},
            ]),
            [true, true],
        ),
    ] {
        for (server, from) in world.providers.iter().chain([evil]).zip(&mut from) {
            World::keys(server, from);
        }
        let (status, _) = world.patch(targets).await;
        assert_eq!(status, StatusCode::OK, "{what}");
        world.run().await;
        assert_eq!(World::keys(evil, &mut from[2]), Vec::<String>::new(), "{what}");
        for at in 0..2 {
            let keys = World::keys(&world.providers[at], &mut from[at]);
            assert_eq!(keys, if kept[at] { vec![KEYS[at]] } else { vec![] }, "{what}: target {at}");
        }
        world.restore().await;
    }
}

/// What was detached is warned of, and does not come back when the address does; nor by another form of the document.
#[tokio::test]
async fn inv_11_detached_key_of_a_target_stays_detached() {
    let world = World::new().await;
    let shown = world.shown().await;
    let mut moved = shown.clone();
    moved[0]["url"] = json!(world.evil.base_url());
    let (status, warning) = world.patch(moved).await;
    assert_eq!(status, StatusCode::OK);
    let host = world.evil.address().to_string();
    assert!(warning.contains("detached") && warning.contains(&host), "{warning}");
    let (status, _) = world.patch(shown.clone()).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "the reference is gone, and writing it anew takes `use`");
    world.restore().await;

    // From a list to one address and back, or to another type of API.
    let path = "/api/v1/llms/many";
    let [first, _] = &world.providers;
    let single = |url: String| json!({"kind": "Llm", "name": "many", "type": "openai", "model": "m", "url": url, "apiKey": shown[0]["apiKey"]});
    let (status, warning) = world.write(Method::PUT, path, &single(world.evil.base_url())).await;
    assert_eq!((status, warning.contains("detached")), (StatusCode::OK, true), "{warning}");
    world.restore().await;
    let (status, warning) = world.write(Method::PUT, path, &single(first.base_url())).await;
    assert_eq!((status, warning.contains("detached")), (StatusCode::OK, false), "{warning}");
    let widened = json!([{"url": world.evil.base_url(), "apiKey": shown[0]["apiKey"]}, shown[0]]);
    let (status, warning) = world.write(Method::PUT, path, &world.llm(widened)).await;
    assert_eq!((status, warning.contains("detached")), (StatusCode::OK, true), "{warning}");
    assert_eq!(world.shown().await[0].get("apiKey"), None);
    assert!(world.shown().await[1]["apiKey"].is_object());
    world.restore().await;
    let mut other_type = world.llm(shown.clone());
    other_type["type"] = json!("azure-openai");
    let (status, warning) = world.write(Method::PUT, path, &other_type).await;
    assert_eq!((status, warning.matches("detached").count()), (StatusCode::OK, 2), "{warning}");
    world.restore().await;

    // An Llm of her own, under another name, or with a copy of the whole reference.
    let mut own = world.llm(json!([{"url": world.evil.base_url(), "apiKey": shown[1]["apiKey"]}]));
    own["name"] = json!("mine");
    assert_eq!(world.write(Method::POST, "/api/v1/llms", &own).await.0, StatusCode::FORBIDDEN);
    let renamed = json!({"name": "mine"});
    assert_eq!(world.write(Method::PATCH, path, &renamed).await.0, StatusCode::FORBIDDEN);
    world.run().await;
    assert_eq!(World::keys(&world.evil, &mut 0), Vec::<String>::new());
}

/// `hosts` of a secret, its deletion and the right of who attached it hold for each target by itself.
#[tokio::test]
async fn inv_11_reference_of_each_target_must_be_in_force() {
    let world = World::new().await;
    let admin = world.mcpd.admin();
    let hosts = json!({"data": {"a": null, "b": null}, "hosts": [world.providers[0].address().to_string()]});
    let answer =
        world.mcpd.request(Method::PUT, "/api/v1/secrets/prod", &admin).json(&hosts).send().await.unwrap();
    let warning = answer.headers()["mcpctl-warning"].to_str().unwrap().to_owned();
    assert!(warning.contains(&world.providers[1].address().to_string()), "{warning}");
    let mut from = [world.providers[0].requests().len(), world.providers[1].requests().len()];
    world.run().await;
    assert_eq!(World::keys(&world.providers[0], &mut from[0]), [KEYS[0]]);
    assert_eq!(World::keys(&world.providers[1], &mut from[1]), Vec::<String>::new());
    let elsewhere = world
        .llm(json!([world.target(Some("a"), &world.providers[0]), world.target(Some("a"), &world.evil)]));
    let answer = world.mcpd.post("/api/v1/apply", &admin, &json!([elsewhere])).await;
    let error: Value = answer.json().await.unwrap();
    assert_eq!(error["error"]["param"], "[0].targets[1].url", "{error}");
}

/// The key of each target is tried at its own address before it is stored, and at no other.
#[tokio::test]
async fn new_key_of_each_target_is_checked_at_its_address() {
    let world = World::new().await;
    let admin = world.mcpd.admin();
    world.providers[0].require_key("sk-key-a");
    world.providers[1].require_key("sk-key-b");
    let put = async |targets: Value| {
        let request = world.mcpd.request(Method::PUT, "/api/v1/llms/many", &admin);
        let answer = request.json(&world.llm(targets)).send().await.unwrap();
        (answer.status(), answer.json::<Value>().await.unwrap())
    };
    let asked = || world.providers.each_ref().map(|server| server.requests().len());
    let before = asked();
    let [first, second] = &world.providers;
    let right = json!([world.target(Some("a"), first), world.target(Some("b"), second)]);
    assert_eq!(put(right.clone()).await.0, StatusCode::OK);
    assert_eq!(asked(), before, "nothing is new");
    let (status, error) = put(json!([world.target(Some("a"), first), world.target(Some("a"), second)])).await;
    assert_eq!((status, &error["error"]["code"]), (StatusCode::BAD_REQUEST, &json!("credential_refused")));
    assert_eq!(error["error"]["param"], "targets[1].apiKey", "{error}");
    assert_eq!(asked()[0], before[0], "the first has its key already");
    // A new value of the secret is tried at every target that sends it.
    let value = json!({"data": {"a": "sk-old-key", "b": null}});
    let answer =
        world.mcpd.request(Method::PATCH, "/api/v1/secrets/prod", &admin).json(&value).send().await.unwrap();
    let error: Value = answer.json().await.unwrap();
    assert_eq!(
        (&error["error"]["code"], asked()[0] > before[0]),
        (&json!("credential_refused"), true),
        "{error}"
    );
}
