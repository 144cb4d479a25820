//! Stale allows: requests that began after a revocation was acknowledged, and were allowed all the same. For a minute, under load, at two
//! replicas.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use mcpctl_testkit::{
    daemons::UNBOUNDED_WRITES,
    model_server::{ModelServer, Reply},
    replicas::Replicas,
};
use reqwest::StatusCode;
use serde_json::json;
use tokio::sync::RwLock;

use crate::table::Table;

const DURATION: Duration = Duration::from_secs(60);
const USERS: usize = 4;
const CALLERS_OF_EACH: usize = 4;
/// How long a user keeps a right, and goes on without it.
const PHASE: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Counts {
    /// Begun after the acknowledgement.
    after: AtomicUsize,
    /// Of those, allowed.
    stale: AtomicUsize,
    /// Begun while the right held, and allowed.
    allowed: AtomicUsize,
    revocations: AtomicUsize,
}

/// One user whose right comes and goes. Requests hold the lock for reading, so that a new grant waits until they have ended.
#[derive(Default)]
struct User {
    granting: RwLock<()>,
    revoked: AtomicBool,
}

pub async fn figures(table: &mut Table) {
    let replicas = Replicas::start_with(UNBOUNDED_WRITES).await;
    let model = ModelServer::with_default(Reply::text("one")).await;
    replicas.one.llm_with_default_timeouts("claude", &model.base_url()).await;
    let (replicas, counts) = (Arc::new(replicas), Arc::new(Counts::default()));
    let end = Instant::now() + DURATION;
    let mut tasks = Vec::new();
    for at in 0..USERS {
        let name = format!("user-{at}");
        let bearer = replicas.one.user(&name, Some("llm-user")).await;
        let user = Arc::new(User::default());
        for caller in 0..CALLERS_OF_EACH {
            let (replicas, counts) = (Arc::clone(&replicas), Arc::clone(&counts));
            let (user, bearer) = (Arc::clone(&user), bearer.clone());
            tasks.push(tokio::spawn(call(replicas, counts, user, bearer, caller, end)));
        }
        tasks.push(tokio::spawn(revoke_and_grant(
            Arc::clone(&replicas),
            Arc::clone(&counts),
            user,
            name,
            end,
        )));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let of = |count: &AtomicUsize| count.load(Ordering::SeqCst);
    table.count("stale allows", of(&counts.stale), 0);
    table.note(&format!(
        "{} requests began after one of {} acknowledged revocations, {} before",
        of(&counts.after),
        of(&counts.revocations),
        of(&counts.allowed)
    ));
    // Without these the count above shows nothing.
    let controls = [&counts.after, &counts.revocations, &counts.allowed];
    table.count("of what they need: missing", controls.iter().filter(|count| of(count) == 0).count(), 0);
}

async fn call(
    replicas: Arc<Replicas>,
    counts: Arc<Counts>,
    user: Arc<User>,
    bearer: String,
    number: usize,
    end: Instant,
) {
    let chat = json!({"model": "claude", "messages": []});
    let mut at = number;
    while Instant::now() < end {
        let mcpd = if at.is_multiple_of(2) { &replicas.one } else { &replicas.two };
        let _running = user.granting.read().await;
        let revoked = user.revoked.load(Ordering::SeqCst);
        // A request to the model, a probe, and the question of a list.
        let allowed = match at % 3 {
            0 => mcpd.post("/v1/chat/completions", &bearer, &chat).await.status() == StatusCode::OK,
            1 => mcpd.head("/api/v1/llms/claude", &bearer).await.status() == StatusCode::OK,
            _ => mcpd.get("/v1/models", &bearer).await.text().await.unwrap().contains("claude"),
        };
        match (revoked, allowed) {
            (true, allowed) => {
                counts.after.fetch_add(1, Ordering::SeqCst);
                counts.stale.fetch_add(usize::from(allowed), Ordering::SeqCst);
            }
            (false, true) => drop(counts.allowed.fetch_add(1, Ordering::SeqCst)),
            (false, false) => {}
        }
        at += 1;
    }
}

async fn revoke_and_grant(
    replicas: Arc<Replicas>,
    counts: Arc<Counts>,
    user: Arc<User>,
    name: String,
    end: Instant,
) {
    let path = format!("/api/v1/rolebindings/{name}-llm-user");
    let subjects = json!([{"kind": "User", "name": name}]);
    let binding = json!({"kind": "RoleBinding", "name": format!("{name}-llm-user"), "role": "llm-user", "subjects": subjects});
    let mut at = 0;
    while Instant::now() < end {
        tokio::time::sleep(PHASE).await;
        let mcpd = if at % 2 == 0 { &replicas.one } else { &replicas.two };
        let gone = mcpd.delete(&path, &replicas.one.admin()).await.status();
        if gone != StatusCode::NO_CONTENT {
            // Crowded out by the other writers; nothing was acknowledged.
            continue;
        }
        user.revoked.store(true, Ordering::SeqCst);
        counts.revocations.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(PHASE).await;
        let _none_running = user.granting.write().await;
        user.revoked.store(false, Ordering::SeqCst);
        while !replicas
            .one
            .post("/api/v1/apply", &replicas.one.admin(), &json!([binding]))
            .await
            .status()
            .is_success()
        {
            tokio::time::sleep(PHASE).await;
        }
        at += 1;
    }
}
