//! A configuration file that changes while the agent runs.

use std::{
    fs,
    os::unix::fs::symlink,
    time::{Duration, Instant},
};

use mcpctl_testkit::{daemons::eventually, deployment::Deployment};
use reqwest::StatusCode;

/// Five changes and a mistake would take longer than this if the agent found them by its check every 30 s, and not by a
/// notification of the system.
const BELOW_ALL_CHECKS: Duration = Duration::from_secs(120);

#[tokio::test]
async fn changed_configuration_is_used_and_a_broken_one_is_not() {
    let mut deployment =
        Deployment::builder().separate_inference().desk(&["failoverFor: other"]).start().await;
    deployment.provider.refuse().await;
    assert_eq!(deployment.chat().await.status(), StatusCode::BAD_GATEWAY);
    let start = Instant::now();
    let file = deployment.agent.config_file();
    let other = fs::read_to_string(&file).unwrap();
    let good = other.replace("failoverFor: other", "failoverFor: claude");
    let becomes = async |status| {
        eventually("the new configuration", async || {
            (deployment.chat().await.status() == status).then_some(())
        })
        .await;
    };
    // Rewritten in place, replaced as editors do, and as a link whose target is replaced.
    fs::write(&file, &good).unwrap();
    becomes(StatusCode::OK).await;
    let draft = file.with_extension("draft");
    fs::write(&draft, &other).unwrap();
    fs::rename(&draft, &file).unwrap();
    becomes(StatusCode::BAD_GATEWAY).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("mcplocal.yaml");
    fs::write(&target, &good).unwrap();
    symlink(&target, &draft).unwrap();
    fs::rename(&draft, &file).unwrap();
    becomes(StatusCode::OK).await;
    fs::write(elsewhere.path().join("draft"), &other).unwrap();
    fs::rename(elsewhere.path().join("draft"), &target).unwrap();
    becomes(StatusCode::BAD_GATEWAY).await;
    fs::write(&target, &good).unwrap();
    becomes(StatusCode::OK).await;

    fs::write(&target, format!("{good}\nunknownKey: 1\n")).unwrap();
    eventually("the mistake is logged", async || {
        deployment.agent.log().contains("unknown field `unknownKey`").then_some(())
    })
    .await;
    assert_eq!(deployment.chat().await.status(), StatusCode::OK);
    assert!(start.elapsed() < BELOW_ALL_CHECKS, "the agent was not notified of the changes");
}
