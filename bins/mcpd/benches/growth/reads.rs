//! What a store is asked while others write to it, and lists.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use mcpctl_testkit::daemons::{Mcpd, program};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::json;

use crate::table::Table;

const SAMPLES: usize = 200;
pub const TARGET: Duration = Duration::from_millis(5);
const WHOLE_LIST_TARGET: Duration = Duration::from_secs(3);

/// A token of a user, by this name.
pub async fn make_token(mcpd: &Mcpd, name: &str) -> String {
    let token = json!({"name": name, "subject": {"kind": "User", "name": "user-1"}});
    let issued = mcpd.post("/api/v1/tokens", &mcpd.admin(), &token).await;
    let issued: serde_json::Value = issued.json().await.unwrap();
    issued["token"].as_str().unwrap().to_owned()
}

/// Requests that are measured beside each kind of load.
pub fn requests(mcpd: &Mcpd, bearer: &str) -> [(&'static str, RequestBuilder); 2] {
    let chat = json!({"model": "llm-1", "messages": [{"role": "user", "content": "Hi"}]});
    [
        ("a probe", mcpd.request(Method::HEAD, "/api/v1/llms/llm-1", bearer)),
        ("a chat", mcpd.request(Method::POST, "/v1/chat/completions", bearer).json(&chat)),
    ]
}

pub async fn figures(mcpd: &Mcpd, database: &str, table: &mut Table) {
    let admin = mcpd.admin();
    let bearer = &make_token(mcpd, "reader").await;
    let asked = requests(mcpd, bearer);
    for (what, request) in &asked {
        table.times(&format!("{database}: {what}"), times(request).await, 0.95, TARGET);
    }
    for (what, request) in &asked {
        // Until it is measured, a binding is made and deleted without a pause.
        let writes = async {
            for at in 0.. {
                let subjects = [json!({"kind": "User", "name": "user-2"})];
                let binding =
                    json!({"name": format!("beside-{at}"), "role": "llm-user", "subjects": subjects});
                mcpd.post("/api/v1/rolebindings", &admin, &binding).await;
                mcpd.delete(&format!("/api/v1/rolebindings/beside-{at}"), &admin).await;
            }
        };
        let measured = tokio::select! {
            measured = times(request) => measured,
            () = writes => Vec::new(),
        };
        table.times(&format!("{database}: {what} beside writes"), measured, 0.95, TARGET);
    }

    for kind in ["rolebindings", "tokens", "users", "llms"] {
        let page = mcpd.request(Method::GET, &format!("/api/v1/{kind}?limit=100"), &admin);
        table.times(&format!("{database}: a page of {kind}"), times(&page).await, 0.95, TARGET);
    }
    let page = mcpd.request(Method::GET, "/api/v1/tokens?limit=100", bearer);
    table.times(&format!("{database}: a page of what one may not view"), times(&page).await, 0.95, TARGET);
    let page = mcpd.request(Method::GET, "/api/v1/rolebindings?limit=100&labelSelector=team", &admin);
    table.times(&format!("{database}: a page that selects nothing"), times(&page).await, 0.95, TARGET);
    for kind in ["rolebindings", "tokens"] {
        let took = get(mcpd, kind).await;
        table.times(&format!("{database}: mcpctl get {kind}"), vec![took], 1.0, WHOLE_LIST_TARGET);
    }
}

pub async fn times(request: &RequestBuilder) -> Vec<Duration> {
    let mut times = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let request = request.try_clone().unwrap();
        let begun = Instant::now();
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.bytes().await.unwrap();
        times.push(begun.elapsed());
    }
    times
}

/// A whole list, as a person reads it.
async fn get(mcpd: &Mcpd, kind: &str) -> Duration {
    let mut command = tokio::process::Command::new(program("mcpctl"));
    command.args(["get", kind]).env("MCPCTL_SERVER", mcpd.url()).env("MCPCTL_TOKEN", mcpd.admin());
    command.stdin(Stdio::null());
    let begun = Instant::now();
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    begun.elapsed()
}
