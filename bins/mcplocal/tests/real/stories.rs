//! The stories that every engine runs.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use mcpctl_testkit::daemons::within;
use reqwest::StatusCode;

use crate::setup::{Real, Setup, first_content, gone};

/// The first request starts the engine; it streams, cancels the request of a caller who leaves, and stops when idle.
pub async fn starts_serves_and_idles(real: &Real) {
    let setup = Setup::new(real, "idleTimeout: 4s").await;
    assert_eq!(setup.engine().await["state"], "stopped");
    let answer = setup.chat(true, 16).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["mcpctl-served-by"], "desk");
    assert_eq!(answer.headers()["mcpctl-failover"], "connect");
    let text = answer.text().await.unwrap();
    assert!(text.contains("\"content\":\"") && text.trim_end().ends_with("data: [DONE]"), "{text}");

    let engine = setup.engine().await;
    assert_eq!(engine["state"], "ready", "{engine}");
    assert!(engine["residentBytes"].as_u64().unwrap() > 50 << 20, "{engine}");
    let status = setup.deployment.agent.status().await;
    assert!(status["providers"][0]["tokensPerSecond"].as_f64().unwrap() > 0.0, "{status}");
    assert!(status["providers"][0]["capabilities"]["contextLength"].as_u64().is_some(), "{status}");
    let family = setup.family().await;
    let log = setup.log().await;
    assert!(log.lines().count() > 5 && !log.contains(&family.key), "{log}");
    assert!(family.names().iter().all(|(_, name)| !name.contains(&family.key)), "{:?}", family.names());

    let mut long = setup.chat(true, 1500).await;
    first_content(&mut long).await;
    within(real.start_timeout, "the request runs", async || {
        (setup.running(&family).await == 1.0).then_some(())
    })
    .await;
    drop(long);
    within(real.start_timeout, "the request is cancelled", async || {
        (setup.running(&family).await == 0.0).then_some(())
    })
    .await;
    assert_eq!(setup.chat(false, 4).await.status(), StatusCode::OK);
    assert_eq!(setup.engine().await["pid"], engine["pid"], "the engine was restarted");
    within(real.start_timeout, "the agent counts no request", async || {
        (setup.engine().await["inFlight"] == 0).then_some(())
    })
    .await;

    setup.engine_is("stopped").await;
    gone(&family).await;
}

/// The agent is killed during a stream: the engine ends with it, and the next agent finds no leftovers.
pub async fn the_agent_is_killed(real: &Real) {
    let mut setup = Setup::new(real, "").await;
    let family = setup.start().await;
    let mut answer = setup.chat(true, 1500).await;
    first_content(&mut answer).await;
    setup.deployment.agent.kill();
    let rest = answer.text().await.unwrap_or_default();
    assert!(!rest.contains("[DONE]"), "cut, and looks complete: {rest}");
    gone(&family).await;

    let agent = &mut setup.deployment.agent;
    agent.restart().await;
    assert!(!agent.log().contains("left over"), "{}", agent.log());
    assert_eq!(setup.chat(false, 4).await.status(), StatusCode::OK);
}

/// SIGTERM of the agent: a running stream completes, and no process is left.
pub async fn the_agent_stops(real: &Real) {
    let mut setup = Setup::new(real, "").await;
    let family = setup.start().await;
    let mut answer = setup.chat(true, 64).await;
    first_content(&mut answer).await;
    setup.deployment.agent.terminate();
    let rest = answer.text().await.unwrap();
    assert!(rest.trim_end().ends_with("data: [DONE]"), "{rest}");
    assert!(setup.deployment.agent.wait().success());
    assert!(family.members().is_empty(), "{:?}", family.names());
}

/// The engine listens on a socket in a private directory, and on no port.
pub async fn other_users_do_not_reach_it(real: &Real) {
    let setup = Setup::new(real, "").await;
    let family = setup.start().await;
    let engine = setup.engine().await;
    assert!(engine["port"].is_null(), "{engine}");
    let socket = Path::new(engine["socket"].as_str().unwrap());
    let directory = std::fs::metadata(socket.parent().unwrap()).unwrap();
    assert_eq!(directory.permissions().mode() & 0o777, 0o700);
    assert_eq!(setup.chat(false, 4).await.status(), StatusCode::OK);
    assert_eq!(setup.control("stop").await.status(), StatusCode::OK);
    gone(&family).await;
    assert!(!socket.exists());
}

/// Another program takes the engine's port first: the agent reads that in the engine's log and tries another port.
pub async fn the_port_is_taken(real: &Real) {
    let dir = tempfile::tempdir().unwrap();
    let quick = dir.path().join("quick");
    let server =
        if real.program_key == "venv" { real.program.join("bin/vllm") } else { real.program.clone() };
    let script = format!(
        "#!/bin/sh\nif mkdir {0}/first 2>/dev/null; then\nport=$(echo \"$*\" | sed 's/.*--port \\([0-9]*\\).*/\\1/')\n\
         python3 -c \"import socket,time; s=socket.create_server(('127.0.0.1',$port)); open('{0}/taken','w'); time.sleep(600)\" &\n\
         while [ ! -e {0}/taken ]; do :; done\nfi\nexec {1} \"$@\"\n",
        dir.path().display(),
        server.display(),
    );
    std::fs::write(&quick, script).unwrap();
    std::fs::set_permissions(&quick, std::fs::Permissions::from_mode(0o755)).unwrap();
    let real = Real { program_key: "command", program: quick, ..real.clone() };
    let setup = Setup::new(&real, "").await;
    let family = setup.start().await;
    assert!(dir.path().join("taken").exists());
    assert!(
        setup.deployment.agent.log().contains("once more on another port"),
        "{}",
        setup.deployment.agent.log()
    );
    assert_eq!(setup.chat(false, 4).await.status(), StatusCode::OK);
    // The first start leaves no process, the one that holds the port included.
    assert_eq!(setup.control("stop").await.status(), StatusCode::OK);
    gone(&family).await;
}

/// A model that cannot be loaded: the caller gets the primary's own error, and the status has the engine's reason.
pub async fn the_model_is_broken(real: &Real, broken: &Path, why: &str) {
    let real = Real { model: broken.to_owned(), ..real.clone() };
    let setup = Setup::new(&real, "").await;
    let answer = setup.chat(false, 4).await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(answer.headers()["mcpctl-failure"], "connect");
    assert_eq!(answer.headers()["mcpctl-no-failover"], "local_failed");
    let engine = setup.engine().await;
    let error = engine["lastError"].as_str().unwrap();
    assert!(
        error.contains("ended by itself (exit code 1)") && error.contains(why),
        "{error}\n{}",
        setup.log().await
    );
    // The backoff bounds the starts.
    let answer = setup.control("start").await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    let answer = setup.control("start").await.text().await.unwrap();
    assert!(answer.contains("rests for") && answer.contains(why), "{answer}");
}
