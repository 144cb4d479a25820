//! Configuration that changes while engines run, start, or are waited for.

use mcpctl_testkit::{daemons::eventually, deployment::Deployment, response::header};
use reqwest::StatusCode;

#[tokio::test]
async fn changed_engine_drains_and_unchanged_engine_keeps_running() {
    let deployment = Deployment::builder()
        .engine("one", "busy", &["group: a"])
        .engine("two", "", &["group: b"])
        .signed_in()
        .start()
        .await;
    deployment.start_engine("two").await;
    deployment.hold_engine("one", "busy");
    let change = async {
        deployment.engine_shows("one", "inFlight", 1).await;
        let changed = |config: &str| config.replace("group: a", "group: a\n    contextLength: 512");
        deployment.agent.change_config(changed);
        // The status shows the new engine, which runs no request yet.
        deployment.engine_shows("one", "inFlight", 0).await;
        deployment.release_engine("one", "busy");
    };
    let (answer, ()) = futures::join!(deployment.chat_locally("one"), change);
    assert_eq!(answer.status(), StatusCode::OK, "{}", answer.text().await.unwrap());
    assert_eq!(deployment.chat_locally("one").await.status(), StatusCode::OK);
    assert_eq!((deployment.starts("one"), deployment.starts("two")), (2, 1));
    assert_eq!(deployment.engine("two").await["state"], "ready");
}

/// A deployment whose provider fails, and whose engine, which fails over for `claude`, does not become ready.
async fn never_ready(config: &str) -> Deployment {
    let deployment = Deployment::builder()
        .config(config)
        .engine("desk", "hold", &["failoverFor: claude"])
        .signed_in()
        .start()
        .await;
    deployment.hold_engine("desk", "hold");
    deployment.overload_provider();
    deployment
}

async fn waiters(deployment: &Deployment, count: usize) {
    eventually("requests wait for the first start", async || {
        (deployment.engine("desk").await["queued"] == count && deployment.starts("desk") == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn waiters_of_a_changed_engine_get_the_new_one() {
    let deployment = never_ready("").await;
    let change = async {
        waiters(&deployment, 2).await;
        deployment.set_script("desk", "");
        let changed = "failoverFor: claude\n    idleTimeout: 1h";
        deployment.agent.change_config(|config| config.replace("failoverFor: claude", changed));
    };
    let (failed_over, local, ()) = futures::join!(deployment.chat(), deployment.chat_locally("desk"), change);
    assert_eq!(local.status(), StatusCode::OK, "{}", local.text().await.unwrap());
    assert_eq!(header(&failed_over, "mcpctl-served-by"), Some("desk"));
    assert_eq!(deployment.starts("desk"), 2);
}

#[tokio::test]
async fn waiter_gets_the_primarys_error_when_failover_is_removed() {
    let deployment = never_ready("").await;
    let change = async {
        waiters(&deployment, 1).await;
        deployment.set_script("desk", "");
        let changed = "failoverFor: gpt\n    idleTimeout: 1h";
        deployment.agent.change_config(|config| config.replace("failoverFor: claude", changed));
    };
    let (answer, ()) = futures::join!(deployment.chat(), change);
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(header(&answer, "mcpctl-no-failover"), Some("local_failed"));
    assert_eq!(deployment.starts("desk"), 1, "nothing ran for the waiter");
}

/// The breaker counts a failure when it happens, not when the fallback has answered; and where no local provider serves,
/// the request goes to the primary in spite of the open breaker.
#[tokio::test]
async fn breaker_opens_before_a_slow_fallback_answers() {
    let deployment = never_ready("primary: {breaker: {failures: 1, open: 1h}}").await;
    let second = async {
        deployment.engine_shows("desk", "queued", 1).await;
        let sent = deployment.provider.inferences().len();
        let both_wait = async {
            deployment.engine_shows("desk", "queued", 2).await;
            assert_eq!(deployment.provider.inferences().len(), sent, "the breaker is open");
            deployment.control("desk", "stop").await;
        };
        futures::join!(deployment.chat(), both_wait).0
    };
    let (first, second) = futures::join!(deployment.chat(), second);
    assert_eq!(
        (first.status(), second.status()),
        (StatusCode::SERVICE_UNAVAILABLE, StatusCode::SERVICE_UNAVAILABLE)
    );
}
