//! Engines that share memory, and engines that do not.

use mcpctl_testkit::deployment::Deployment;
use reqwest::StatusCode;
use serde_json::json;

#[tokio::test]
async fn engines_of_a_group_preempt_each_other_and_no_others() {
    let deployment = Deployment::builder()
        .engine("one", "", &[])
        .engine("two", "", &[])
        .engine("other", "", &["group: cpu"])
        .signed_in()
        .start()
        .await;
    for name in ["other", "one", "two"] {
        assert_eq!(deployment.chat_locally(name).await.status(), StatusCode::OK, "{name}");
    }
    let state = async |name| deployment.engine(name).await["state"].clone();
    assert_eq!(
        (state("one").await, state("two").await, state("other").await),
        (json!("stopped"), json!("ready"), json!("ready"))
    );
}
