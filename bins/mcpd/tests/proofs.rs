//! Signed answers to probes, and the keys that sign them, on real daemons.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use mcpctl_access::proof::{
    BearerHash, KeyListClaims, LeaseClaims, ProbeNonce, ProofClaims, ProofQuestion, PublicKey, verify,
};
use mcpctl_api::Id;
use mcpctl_secret::token::{self, Prefix};
use mcpctl_testkit::{
    daemons::{Mcpd, eventually},
    replicas::Replicas,
    response::header,
};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, PgConnection, SqliteConnection};

const KEYS: &str = "/.well-known/mcpctl-keys";
const ROTATE: &str = "/api/v1/admin/rotate-keys";

/// The two public keys of the list, whose signature holds.
async fn keys(mcpd: &Mcpd) -> [PublicKey; 2] {
    let list: Value = mcpd.get(KEYS, "").await.json().await.unwrap();
    let shown = [0, 1].map(|at| list["keys"][at]["publicKey"].as_str().unwrap().parse().unwrap());
    let signed: KeyListClaims = verify(list["signed"].as_str().unwrap(), &shown[..1]).unwrap();
    assert_eq!(signed.keys.clone().map(|key| key.public_key), shown);
    assert_eq!(list["keys"][0]["fingerprint"], json!(signed.current().fingerprint));
    shown
}

/// A probe, and what it asks.
struct Probe {
    question: ProofQuestion,
    answer: Response,
}

impl Probe {
    async fn send(mcpd: &Mcpd, asked: &str, bearer: Option<&str>) -> Self {
        let agent = Id::mint();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&agent.as_str().as_bytes()[1..17]);
        let nonce = ProbeNonce::from(bytes);
        let url = format!("{}/api/v1/llms/{asked}", mcpd.url());
        let mut request = reqwest::Client::builder().no_proxy().build().unwrap().head(url);
        request =
            request.header("mcpctl-probe-nonce", nonce.to_string()).header("mcpctl-agent", agent.as_str());
        if let Some(bearer) = bearer {
            request = request.bearer_auth(bearer);
        }
        let question =
            ProofQuestion { nonce, agent, bearer: bearer.map(BearerHash::of), asked: asked.to_owned() };
        Self { question, answer: request.send().await.unwrap() }
    }

    /// The proof, verified.
    fn proof(&self, keys: &[PublicKey]) -> ProofClaims {
        let token = header(&self.answer, "mcpctl-access-proof");
        let proof: ProofClaims = verify(token.unwrap(), keys).unwrap();
        proof.answers(&self.question).unwrap();
        assert_eq!(header(&self.answer, "cache-control"), Some("no-store"));
        proof
    }

    fn lease(&self, keys: &[PublicKey], proof: &ProofClaims) -> Option<LeaseClaims> {
        let token = self.answer.headers().get("mcpctl-access-lease")?;
        let lease: LeaseClaims = verify(token.to_str().unwrap(), keys).unwrap();
        lease.accompanies(proof).unwrap();
        Some(lease)
    }
}

fn llm(name: &str, failover: &Value) -> Value {
    json!({"kind": "Llm", "name": name, "type": "openai", "url": "http://127.0.0.1:1", "model": "m",
           "failover": failover})
}

/// Every status with every decision, by name and by id.
#[tokio::test]
async fn inv_04_every_answer_to_a_probe_is_signed() {
    let mcpd = Mcpd::start().await;
    mcpd.apply(json!([
        llm("open", &json!({})),
        llm("strict", &json!({"require": "run"})),
        llm("closed", &json!({"allowed": false})),
        llm("lenient", &json!({"require": "run", "offlineGrace": "1m"})),
    ]))
    .await;
    let viewer = mcpd.user("viewer", Some("viewer")).await;
    let runner = mcpd.user("runner", Some("llm-user")).await;
    let stranger = mcpd.user("stranger", None).await;
    let gone = mcpd.user("gone", Some("viewer")).await;
    assert!(mcpd.delete("/api/v1/users/gone", &mcpd.admin()).await.status().is_success());
    let [current, _] = keys(&mcpd).await;

    let table = [
        (Some(&viewer), "open", 200, "allowed", "view", None),
        (Some(&viewer), "strict", 200, "run_required", "run", None),
        (Some(&viewer), "closed", 200, "failover_off", "view", None),
        (Some(&viewer), "lenient", 200, "run_required", "run", None),
        (Some(&viewer), "missing", 404, "not_found", "view", None),
        (Some(&runner), "strict", 200, "allowed", "run", None),
        (Some(&runner), "lenient", 200, "allowed", "run", Some(60)),
        (Some(&stranger), "open", 403, "forbidden", "view", None),
        (Some(&stranger), "missing", 403, "forbidden", "view", None),
        (Some(&gone), "open", 401, "unauthenticated", "view", None),
        (None, "open", 401, "unauthenticated", "view", None),
    ];
    let noise = "nonsense".to_owned();
    let table = table.into_iter().chain([(Some(&noise), "open", 401, "unauthenticated", "view", None)]);
    for (bearer, name, status, reason, verb, grace) in table {
        let shown = mcpd.get(&format!("/api/v1/llms/{name}"), &mcpd.admin()).await;
        let id = shown.json::<Value>().await.unwrap()["id"].as_str().map(str::to_owned);
        for asked in std::iter::once(name.to_owned()).chain(id.clone()) {
            let probe = Probe::send(&mcpd, &asked, bearer.map(String::as_str)).await;
            assert_eq!(probe.answer.status(), status, "{asked} {reason}");
            let proof = probe.proof(&[current]);
            assert_eq!((proof.reason.as_str(), proof.verb.as_str()), (reason, verb), "{asked}");
            assert_eq!((proof.allows(), proof.holds > 0), (reason == "allowed", reason == "allowed"));
            assert_eq!(proof.subject.is_some(), status != 401);
            let seen = id.clone().filter(|_| status == 200);
            assert_eq!(proof.llm.as_ref().map(ToString::to_string), seen, "{asked} {reason}");
            assert_eq!(
                probe.answer.headers().get("mcpctl-llm-id").map(|id| id.to_str().unwrap()),
                seen.as_deref()
            );
            let lease = probe.lease(&[current], &proof);
            assert_eq!(lease.map(|lease| lease.grace), grace, "{asked} {reason}");
        }
    }
}

#[tokio::test]
async fn probes_without_a_whole_question_get_no_proof() {
    let mcpd = Mcpd::start().await;
    mcpd.llm("claude", "http://127.0.0.1:1").await;
    let (admin, nonce, agent) = (mcpd.admin(), "A".repeat(22), Id::mint().to_string());
    let (short, id) = ("A".repeat(21), agent.as_str());
    let malformed: [&[(&str, &str)]; 7] = [
        &[("mcpctl-probe-nonce", "")],
        &[("mcpctl-probe-nonce", &nonce)],
        &[("mcpctl-probe-nonce", &short), ("mcpctl-agent", id)],
        &[("mcpctl-probe-nonce", &nonce), ("mcpctl-agent", "agent")],
        &[("mcpctl-probe-nonce", &nonce), ("mcpctl-agent", id), ("mcpctl-agent", id)],
        &[("mcpctl-probe-nonce", &nonce), ("mcpctl-probe-nonce", &nonce), ("mcpctl-agent", id)],
        &[("mcpctl-probe-nonce", "ä"), ("mcpctl-agent", id)],
    ];
    let send = async |verb: &Method, path: &str, headers: &[(&str, &str)], bearer: &str| {
        let request = mcpd.request(verb.clone(), path, bearer);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.send().await.unwrap()
    };
    let unsigned = |answer: &Response, status: u16| {
        assert_eq!(answer.status(), status);
        assert!(!answer.headers().contains_key("mcpctl-access-proof"));
    };
    for headers in malformed {
        unsigned(&send(&Method::HEAD, "/api/v1/llms/claude", headers, &admin).await, 400);
        unsigned(&send(&Method::HEAD, "/api/v1/llms/claude", headers, "mcpd_no").await, 401);
    }
    let whole = [("mcpctl-probe-nonce", nonce.as_str()), ("mcpctl-agent", id)];
    unsigned(&send(&Method::HEAD, "/api/v1/llms/claude", &[], &admin).await, 200);
    unsigned(&send(&Method::GET, "/api/v1/llms/claude", &whole, &admin).await, 200);
    unsigned(&send(&Method::HEAD, "/api/v1/users/admin", &whole, &admin).await, 200);
    unsigned(&send(&Method::HEAD, "/api/v1/users/admin", &whole, "mcpd_no").await, 401);
    unsigned(&send(&Method::HEAD, "/api/v1/llms", &whole, "mcpd_no").await, 401);
    let long = format!("/api/v1/llms/{}", "a".repeat(129));
    unsigned(&send(&Method::HEAD, &long, &whole, &admin).await, 404);
    let shown = mcpd.get("/api/v1/llms/claude", &admin).await;
    assert!(header(&shown, "mcpctl-llm-id").is_some_and(Id::has_shape), "GET shows the id");
}

/// One field stops agents, whatever the others are, and a document that leaves it out does not lift that unnoticed.
#[tokio::test]
async fn stop_of_failover_is_one_field_and_is_lifted_with_a_warning() {
    let mcpd = Mcpd::start().await;
    mcpd.apply(json!([llm("claude", &json!({"require": "run", "offlineGrace": "1m"}))])).await;
    let patch = |failover: Value| {
        let request = mcpd.request(Method::PATCH, "/api/v1/llms/claude", &mcpd.admin());
        request
            .header("content-type", "application/merge-patch+json")
            .json(&json!({"failover": failover}))
            .send()
    };
    let stopped: Value = patch(json!({"allowed": false})).await.unwrap().json().await.unwrap();
    assert_eq!(stopped["failover"], json!({"allowed": false, "require": "run", "offlineGrace": "1m"}));
    let mut document = llm("claude", &json!({}));
    document.as_object_mut().unwrap().remove("failover");
    let applied = mcpd.post("/api/v1/apply?skipCheck=true", &mcpd.admin(), &json!([document])).await;
    let applied: Value = applied.json().await.unwrap();
    assert_eq!(
        applied["warnings"],
        json!([
            "agents may answer in place of Llm `claude` again: `failover.allowed` was false",
            "agents may answer in place of Llm `claude` for all who may view it: `failover.require` was `run`",
        ])
    );
}

/// The request after an acknowledged revocation is denied, and the denial is signed; what is not on record is not decided.
#[tokio::test]
async fn inv_05_a_revocation_is_in_the_next_proof_and_on_record() {
    let mcpd = Mcpd::start().await;
    mcpd.apply(json!([llm("claude", &json!({"offlineGrace": "5m"}))])).await;
    let viewer = mcpd.user("viewer", Some("viewer")).await;
    let pinned = keys(&mcpd).await;
    let probe = Probe::send(&mcpd, "claude", Some(&viewer)).await;
    let before = probe.proof(&pinned);
    assert_eq!(probe.lease(&pinned, &before).unwrap().grace, 300);
    mcpd.apply(json!([llm("claude", &json!({"allowed": false}))])).await;
    let probe = Probe::send(&mcpd, "claude", Some(&viewer)).await;
    let after = probe.proof(&pinned);
    assert_eq!(
        (after.allows(), after.reason.as_str(), after.llm.clone()),
        (false, "failover_off", before.llm)
    );
    assert!(after.revision > before.revision && probe.lease(&pinned, &after).is_none());

    let database = format!("sqlite://{}/mcpd.sqlite", mcpd.data_dir().display());
    let mut connection = SqliteConnection::connect(&database).await.unwrap();
    let denials = "SELECT COUNT(*) FROM audit WHERE decision = 'denied' AND action = 'failover' AND reason LIKE '%`claude` does not let agents%'";
    let denials: i64 = sqlx::query_scalar(denials).fetch_one(&mut connection).await.unwrap();
    assert_eq!(denials, 1);
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no'); END";
    connection.execute(refuse).await.unwrap();
    let probe = Probe::send(&mcpd, "claude", Some(&viewer)).await;
    assert_eq!(probe.answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(!probe.answer.headers().contains_key("mcpctl-access-proof"));
}

#[tokio::test]
async fn replicas_sign_with_one_pair_and_follow_a_rotation() {
    let replicas = Replicas::start().await;
    let (one, two) = (&replicas.one, &replicas.two);
    one.apply(json!([llm("claude", &json!({}))])).await;
    let admin = one.admin();
    let pinned = keys(one).await;
    assert_eq!(keys(two).await, pinned);
    let kid = pinned[0].id().to_string();

    let rotated = two.post(ROTATE, &admin, &json!({"current": kid})).await;
    assert_eq!(rotated.status(), StatusCode::OK);
    let after = keys(two).await;
    assert_eq!(after[0], pinned[1], "the next key is the current one");
    assert!(!pinned.contains(&after[1]));
    eventually("the other replica signs with it", async || (keys(one).await == after).then_some(())).await;
    for mcpd in [one, two] {
        let proof = Probe::send(mcpd, "claude", Some(&admin)).await.proof(&after[..1]);
        assert!(proof.allows());
        // An agent that pinned both keys before the rotation reads it, and the list.
        assert!(Probe::send(mcpd, "claude", Some(&admin)).await.proof(&pinned).allows());
        let list: Value = mcpd.get(KEYS, "").await.json().await.unwrap();
        assert!(verify::<KeyListClaims>(list["signed"].as_str().unwrap(), &pinned).is_ok());
    }
    // The same command again, as by a second administrator, rotates nothing.
    let again = one.post(ROTATE, &admin, &json!({"current": kid})).await;
    assert_eq!(again.status(), StatusCode::CONFLICT);
    assert_eq!(again.json::<Value>().await.unwrap()["error"]["code"], "keys_rotated");
    // Nor does another one within the hour, at any replica, unless it is asked for.
    let soon = one.post(ROTATE, &admin, &json!({"current": after[0].id().to_string()})).await;
    assert_eq!(soon.status(), StatusCode::CONFLICT);
    let error: Value = soon.json().await.unwrap();
    assert_eq!(error["error"]["code"], "keys_rotated_recently");
    assert_eq!(keys(one).await, after);
    assert_eq!(one.post(ROTATE, &admin, &json!({"again": true})).await.status(), StatusCode::OK);
    assert_eq!(keys(one).await[0], after[1]);
}

/// An agent that follows a rotation pins the new pair, which does not have the old key.
#[tokio::test]
async fn inv_05_a_rotation_holds_for_the_next_probe_at_every_replica() {
    let replicas = Replicas::start().await;
    let (one, two) = (&replicas.one, &replicas.two);
    one.apply(json!([llm("claude", &json!({"offlineGrace": "1m"}))])).await;
    let admin = one.admin();
    let mut postgres = PgConnection::connect(&replicas.postgres.url()).await.unwrap();
    for (at, other) in [(one, two), (two, one), (one, two)] {
        // No notice reaches the other replica.
        let listening =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mcpd listens'";
        postgres.execute(listening).await.unwrap();
        assert_eq!(at.post(ROTATE, &admin, &json!({"again": true})).await.status(), StatusCode::OK);
        let [current, _] = keys(at).await;
        let unknown = token::mint(Prefix::Mcpd).unwrap();
        for bearer in [unknown.expose(), &admin] {
            let probe = Probe::send(other, "claude", Some(bearer)).await;
            let proof = probe.proof(&[current]);
            assert_eq!(probe.lease(&[current], &proof).is_some(), bearer == admin);
        }
    }
}

#[tokio::test]
async fn keys_survive_a_restart_and_only_an_administrator_rotates() {
    let mut mcpd = Mcpd::start().await;
    let before = keys(&mcpd).await;
    for role in ["editor", "viewer"] {
        let other = mcpd.user(role, Some(role)).await;
        let refused = mcpd.post(ROTATE, &other, &json!({})).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{role}");
    }
    for odd in [json!({"current": "x"}), json!({"force": true}), json!(null)] {
        assert_eq!(mcpd.post(ROTATE, &mcpd.admin(), &odd).await.status(), StatusCode::BAD_REQUEST, "{odd}");
    }
    assert_eq!(keys(&mcpd).await, before);
    mcpd.kill();
    mcpd.restart().await;
    assert_eq!(keys(&mcpd).await, before);
    let rotated = mcpd.request(Method::POST, ROTATE, &mcpd.admin()).send().await.unwrap();
    assert_eq!(rotated.status(), StatusCode::OK);
    let after = keys(&mcpd).await;
    assert_eq!(after[0], before[1]);
    mcpd.kill();
    mcpd.restart().await;
    assert_eq!(keys(&mcpd).await, after, "an acknowledged rotation survives `kill -9`");

    let database = format!("sqlite://{}/mcpd.sqlite", mcpd.data_dir().display());
    let mut connection = SqliteConnection::connect(&database).await.unwrap();
    let rows = "SELECT decision || ' ' || resource_name FROM audit WHERE action = 'rotate-keys' \
                OR resource_name = 'signing-keys' ORDER BY at";
    let rows: Vec<String> = sqlx::query_scalar(rows).fetch_all(&mut connection).await.unwrap();
    let fingerprint = after[0].fingerprint();
    assert_eq!(rows, ["denied signing-keys", "denied signing-keys", &format!("allowed {fingerprint}")]);
    let list = mcpd.get(KEYS, "").await;
    assert_eq!(header(&list, "cache-control"), Some("public, max-age=10"));
}
