//! One write of each common kind, one after the other, until its answer.

use std::time::{Duration, Instant};

use mcpctl_testkit::daemons::Mcpd;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::table::Table;

const SAMPLES: usize = 40;
const TARGET: Duration = Duration::from_millis(5);

pub async fn figures(mcpd: &Mcpd, database: &str, table: &mut Table) {
    let admin = mcpd.admin();
    let request = |method: Method, path: &str| mcpd.request(method, path, &admin);
    let post = |path: &str, body: Value| request(Method::POST, path).json(&body);
    let user = |at: usize| json!({"kind": "User", "name": format!("user-{at}")});
    let mut measure = async |what: &str, write: &dyn Fn(usize) -> RequestBuilder| {
        let times = times(write).await;
        table.times(&format!("{database}: {what}"), times, 0.95, TARGET);
    };
    measure("a binding is made", &|at| {
        let binding = json!({"name": format!("new-{at}"), "role": "llm-user", "subjects": [user(at)]});
        post("/api/v1/rolebindings", binding)
    })
    .await;
    measure("a binding is deleted", &|at| request(Method::DELETE, &format!("/api/v1/rolebindings/new-{at}")))
        .await;
    measure("a token is made", &|at| {
        post("/api/v1/tokens", json!({"name": format!("new-{at}"), "subject": user(at)}))
    })
    .await;
    measure("a token is rotated", &|at| post(&format!("/api/v1/tokens/new-{at}/rotate"), json!({}))).await;
    measure("a token is deleted", &|at| request(Method::DELETE, &format!("/api/v1/tokens/new-{at}"))).await;
    measure("a user is made", &|at| post("/api/v1/users", json!({"name": format!("new-{at}")}))).await;
    measure("a user is deleted, with what is hers", &|at| {
        request(Method::DELETE, &format!("/api/v1/users/user-{}", at + SAMPLES))
    })
    .await;
    measure("a group gets another member", &|at| {
        let members: Vec<Value> = (0..=at).map(user).collect();
        request(Method::PATCH, "/api/v1/groups/group-0").json(&json!({"members": members}))
    })
    .await;
    measure("an Llm is applied", &|at| {
        let url = "http://127.0.0.1:9/v1";
        let llm =
            json!({"kind": "Llm", "name": "llm-0", "type": "openai", "url": url, "model": format!("m{at}")});
        post("/api/v1/apply", json!([llm]))
    })
    .await;
}

async fn times(write: &dyn Fn(usize) -> RequestBuilder) -> Vec<Duration> {
    let mut times = Vec::with_capacity(SAMPLES);
    for at in 0..SAMPLES {
        let write = write(at);
        let begun = Instant::now();
        let answer = write.send().await.unwrap();
        times.push(begun.elapsed());
        let (status, body) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{status} {body}");
    }
    times
}
