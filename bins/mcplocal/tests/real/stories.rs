//! What every engine lives through.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use mcpctl_testkit::daemons::{Mcplocal, within};
use reqwest::StatusCode;

use crate::world::{Real, World, first_content, gone};

/// Started by the first request that needs it, streams, is freed by a caller who goes, rests when idle.
pub async fn a_day(real: &Real) {
    let world = World::new(real, "idleTimeout: 4s").await;
    assert_eq!(world.engine().await["state"], "stopped");
    let answer = world.ask(true, 16).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["mcpctl-served-by"], "desk");
    assert_eq!(answer.headers()["mcpctl-failover"], "connect");
    let text = answer.text().await.unwrap();
    assert!(text.contains("\"content\":\"") && text.trim_end().ends_with("data: [DONE]"), "{text}");

    let engine = world.engine().await;
    assert_eq!(engine["state"], "ready", "{engine}");
    assert!(engine["residentBytes"].as_u64().unwrap() > 50 << 20, "{engine}");
    let status = world.agent.status().await;
    assert!(status["providers"][0]["tokensPerSecond"].as_f64().unwrap() > 0.0, "{status}");
    assert!(status["providers"][0]["capabilities"]["contextLength"].as_u64().is_some(), "{status}");
    let family = world.family().await;
    let log = world.log().await;
    assert!(log.lines().count() > 5 && !log.contains(&family.key), "{log}");
    assert!(family.names().iter().all(|(_, name)| !name.contains(&family.key)), "{:?}", family.names());

    let mut long = world.ask(true, 1500).await;
    first_content(&mut long).await;
    within(real.patience, "it runs", async || (world.running(&family).await == 1.0).then_some(())).await;
    drop(long);
    within(real.patience, "it is gone", async || (world.running(&family).await == 0.0).then_some(())).await;
    assert_eq!(world.ask(false, 4).await.status(), StatusCode::OK);
    assert_eq!(world.engine().await["pid"], engine["pid"], "it is the same");
    within(real.patience, "its guards are gone", async || {
        (world.engine().await["inFlight"] == 0).then_some(())
    })
    .await;

    world.until("stopped").await;
    gone(&family).await;
}

/// SIGKILL of the agent, in the midst of a stream; and the next agent finds a clean house.
pub async fn the_agent_is_killed(real: &Real) {
    let world = World::new(real, "").await;
    let family = world.start().await;
    let mut answer = world.ask(true, 1500).await;
    first_content(&mut answer).await;
    let World { agent, mcpd, alice, real, dir } = world;
    let config = std::fs::read_to_string(agent.config_file()).unwrap().replace("listen: 127.0.0.1:0\n", "");
    let home = agent.kill();
    let rest = answer.text().await.unwrap_or_default();
    assert!(!rest.contains("[DONE]"), "cut, and looks complete: {rest}");
    gone(&family).await;

    let agent = Mcplocal::start_in(home, &config).await;
    assert!(!agent.log().contains("left over"), "{}", agent.log());
    let world = World { agent, mcpd, alice, real, dir };
    assert_eq!(world.ask(false, 4).await.status(), StatusCode::OK);
}

/// SIGTERM of the agent: what runs comes to its end, and nothing is left.
pub async fn the_agent_ends_in_good_order(real: &Real) {
    let mut world = World::new(real, "").await;
    let family = world.start().await;
    let mut answer = world.ask(true, 64).await;
    first_content(&mut answer).await;
    world.agent.terminate();
    let rest = answer.text().await.unwrap();
    assert!(rest.trim_end().ends_with("data: [DONE]"), "{rest}");
    assert!(world.agent.wait().success());
    assert!(family.members().is_empty(), "{:?}", family.names());
}

/// It listens on a socket in a private directory, and on no port.
pub async fn other_users_do_not_reach_it(real: &Real) {
    let world = World::new(real, "").await;
    let family = world.start().await;
    let engine = world.engine().await;
    assert!(engine["port"].is_null(), "{engine}");
    let socket = Path::new(engine["socket"].as_str().unwrap());
    let directory = std::fs::metadata(socket.parent().unwrap()).unwrap();
    assert_eq!(directory.permissions().mode() & 0o777, 0o700);
    assert_eq!(world.ask(false, 4).await.status(), StatusCode::OK);
    assert_eq!(world.control("stop").await.status(), StatusCode::OK);
    gone(&family).await;
    assert!(!socket.exists());
}

/// Somebody takes the port that was chosen, before the engine can: the engine's own words tell, and another port is tried.
pub async fn the_port_is_taken(real: &Real) {
    let dir = tempfile::tempdir().unwrap();
    let quick = dir.path().join("quick");
    let server = if real.named_by == "venv" { real.program.join("bin/vllm") } else { real.program.clone() };
    let script = format!(
        "#!/bin/sh\nif mkdir {0}/first 2>/dev/null; then\nport=$(echo \"$*\" | sed 's/.*--port \\([0-9]*\\).*/\\1/')\n\
         python3 -c \"import socket,time; s=socket.create_server(('127.0.0.1',$port)); open('{0}/taken','w'); time.sleep(600)\" &\n\
         while [ ! -e {0}/taken ]; do :; done\nfi\nexec {1} \"$@\"\n",
        dir.path().display(),
        server.display(),
    );
    std::fs::write(&quick, script).unwrap();
    std::fs::set_permissions(&quick, std::fs::Permissions::from_mode(0o755)).unwrap();
    let real = Real { named_by: "command", program: quick, ..real.clone() };
    let world = World::new(&real, "").await;
    let family = world.start().await;
    assert!(dir.path().join("taken").exists());
    assert!(world.agent.log().contains("once more on another port"), "{}", world.agent.log());
    assert_eq!(world.ask(false, 4).await.status(), StatusCode::OK);
    // The first attempt is gone whole, with whoever held the port.
    assert_eq!(world.control("stop").await.status(), StatusCode::OK);
    gone(&family).await;
}

/// A model that is none: the caller gets the primary's own error, and the engine's own words say why.
pub async fn the_model_is_none(real: &Real, broken: &Path, why: &str) {
    let real = Real { model: broken.to_owned(), ..real.clone() };
    let world = World::new(&real, "").await;
    let answer = world.ask(false, 4).await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(answer.headers()["mcpctl-failure"], "connect");
    assert_eq!(answer.headers()["mcpctl-no-failover"], "local_failed");
    let engine = world.engine().await;
    let said = engine["lastError"].as_str().unwrap();
    assert!(
        said.contains("ended by itself (exit code 1)") && said.contains(why),
        "{said}\n{}",
        world.log().await
    );
    // Not more often than makes sense.
    let answer = world.control("start").await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    let answer = world.control("start").await.text().await.unwrap();
    assert!(answer.contains("rests for") && answer.contains(why), "{answer}");
}
