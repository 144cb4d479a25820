//! Another user of the machine listens at the address of the agent or of mcpd, and receives nothing.

use std::{
    fs::{self, Permissions},
    io::{BufRead as _, BufReader},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::{Command, Stdio},
};

use mcpctl_testkit::{
    daemons::{Mcpd, Mcplocal},
    model_server::{ModelServer, Reply},
    other_user::{OTHER_UID, Squatter, may_act_as_other_user},
};
use reqwest::{Method, StatusCode};

use crate::shell::{Shell, beside};

const STATUS: &str = r#"{"server":"http://127.0.0.1:1","signedInAs":"mallory","providers":[]}"#;

#[tokio::test]
async fn another_user_on_the_agents_port_gets_nothing() {
    if !may_act_as_other_user() {
        return;
    }
    let mcpd = Mcpd::start().await;
    let provider = ModelServer::with_default(Reply::text("from the primary")).await;
    mcpd.llm("claude", &provider.base_url()).await;
    let mut agent = Mcplocal::start(&format!("server: {}\n", mcpd.url())).await;
    let mut shell = beside(&agent);
    shell.run_with(&["login", mcpd.url(), "--token-stdin"], &mcpd.admin()).await.succeeded();
    agent.stop();
    let squatter = Squatter::start("127.0.0.1:0", STATUS);
    shell.env.push(("MCPLOCAL_ADDRESS", squatter.url()));

    for args in [
        &["local", "status"][..],
        &["local", "logs"],
        &["local", "start"],
        &["local", "stop", "--all"],
        &["doctor"],
        &["local", "env"],
        &["chat", "claude", "--local", "-p", "my private prompt"],
    ] {
        let output = shell.run(args).await;
        assert_eq!(output.code, 1, "{args:?}: {}{}", output.stdout, output.stderr);
        assert!(
            (output.stdout + &output.stderr).contains("`nobody` (uid 65534)"),
            "{args:?} names the other user"
        );
    }
    shell.run(&["version"]).await.succeeded();
    let output = shell.run(&["chat", "claude", "-p", "my private prompt"]).await.succeeded();
    assert_eq!(output, "from the primary\n");
    assert_eq!(squatter.received(), "");

    // Other clients may have sent the key to that user meanwhile.
    drop(squatter);
    let old = agent.local_key();
    agent.restart().await;
    assert_ne!(agent.local_key(), old);
}

#[tokio::test]
async fn another_users_mcpd_gets_neither_password_nor_token() {
    if !may_act_as_other_user() {
        return;
    }
    let squatter = Squatter::start("127.0.0.1:0", "{}");
    let shell = Shell::new();
    let url = squatter.url();
    let password = ["login", &url, "--user", "alice", "--password-stdin"];
    let error = shell.run_with(&password, "hunter2\n").await.failed(1);
    assert!(
        error.contains("is not trusted: the program that listens there belongs to user `nobody`"),
        "{error}"
    );
    assert!(error.contains("hint: nothing was sent; if that is the user that mcpd runs as"), "{error}");
    shell.run_with(&["login", &url, "--token-stdin"], "mcpd_token\n").await.failed(1);
    assert_eq!(squatter.received(), "");
    let named = [&password[..], &["--server-user", "nobody"]].concat();
    shell.run_with(&named, "hunter2\n").await.failed(1);
    assert!(squatter.received().contains("hunter2"), "a named user is trusted");
}

#[tokio::test]
async fn another_user_on_mcpds_port_gets_no_token() {
    if !may_act_as_other_user() {
        return;
    }
    let mut mcpd = Mcpd::start().await;
    let shell = Shell::signed_in(&mcpd).await;
    mcpd.kill();
    let squatter = Squatter::start(mcpd.url().trim_start_matches("http://"), "{}");
    for args in [&["whoami"][..], &["get", "users"], &["doctor"], &["chat", "claude", "-p", "x"], &["logout"]]
    {
        shell.run(args).await;
    }
    assert_eq!(squatter.received(), "");
}

#[tokio::test]
async fn server_user_of_a_context_is_stored() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::new();
    let login = ["login", mcpd.url(), "--token-stdin", "--server-user", "root"];
    shell.run_with(&login, &mcpd.admin()).await.succeeded();
    assert!(fs::read_to_string(shell.contexts()).unwrap().contains("serverUser: root\n"));
    shell.run(&["whoami"]).await.succeeded();
    let error = shell.run(&["whoami", "--server-user", "no-such-user"]).await.failed(1);
    assert!(error.starts_with("error: there is no user `no-such-user` on this machine\nhint: "), "{error}");
}

#[tokio::test]
async fn planted_socket_is_not_trusted() {
    if !may_act_as_other_user() {
        return;
    }
    let shell = Shell::new();
    let state = shell.path("state/mcpctl/mcplocal");
    fs::create_dir_all(&state).unwrap();
    for dir in state.ancestors().take(4) {
        fs::set_permissions(dir, Permissions::from_mode(0o777)).unwrap();
    }
    let script = "import socket,sys\ns=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(9)\n\
                  print('listening',flush=True)\nwhile True:\n c,_=s.accept(); print('got',c.recv(999),flush=True); c.close()";
    let mut planted = Command::new("python3")
        .args(["-c", script])
        .arg(state.join("agent.sock"))
        .uid(OTHER_UID)
        .gid(OTHER_UID)
        .current_dir("/")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(planted.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "listening");
    let error = shell.run(&["local", "status"]).await.failed(1);
    assert!(error.contains("can be written to by other users"), "{error}");
    for dir in state.ancestors().take(4) {
        fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
    }
    let error = shell.run(&["local", "status"]).await.failed(1);
    assert!(error.contains("it belongs to user `nobody` (uid 65534)"), "{error}");
    planted.kill().unwrap();
    planted.wait().unwrap();
    for line in lines.map_while(Result::ok) {
        assert_eq!(line, "got b''");
    }
}

#[tokio::test]
async fn rotated_key_replaces_the_old_one_at_once() {
    let mut agent = Mcplocal::start("server: https://mcpd.example.com\n").await;
    let shell = beside(&agent);
    let old = agent.local_key();
    let output = shell.run(&["local", "rotate-key"]).await;
    assert_eq!((output.code, output.stdout.as_str()), (0, ""), "{}", output.stderr);
    assert!(
        output.stderr.starts_with("mcplocal has a new key and refuses the old one\n"),
        "{}",
        output.stderr
    );
    let new = agent.local_key();
    assert_ne!(new, old);
    for (key, expected) in [(&old, StatusCode::UNAUTHORIZED), (&new, StatusCode::OK)] {
        assert_eq!(agent.request(Method::GET, "/status", key).send().await.unwrap().status(), expected);
    }
    let env = shell.run(&["local", "env"]).await.succeeded();
    assert!(env.contains(&format!("OPENAI_API_KEY={new}\n")) && !env.contains(&old), "{env}");

    agent.stop();
    let output = shell.run(&["local", "rotate-key"]).await;
    assert!(
        output.stderr.starts_with("there is a new key; mcplocal refuses the old one when it runs\n"),
        "{}",
        output.stderr
    );
    assert_ne!(agent.local_key(), new);
}

#[tokio::test]
async fn local_env_prints_where_the_agent_listens() {
    let agent = Mcplocal::start("server: https://mcpd.example.com\n").await;
    let mut shell = beside(&agent);
    shell.env.retain(|(name, _)| *name != "MCPLOCAL_ADDRESS");
    shell.env.push(("MCPLOCAL_ADDRESS", String::new()));
    let env = shell.run(&["local", "env"]).await.succeeded();
    assert!(env.starts_with(&format!("export OPENAI_BASE_URL={}/v1\n", agent.url())), "{env}");
}

#[tokio::test]
async fn agent_of_another_user_gets_no_bearer() {
    let mcpd = Mcpd::start().await;
    let provider = ModelServer::with_default(Reply::text("from the primary")).await;
    mcpd.llm("claude", &provider.base_url()).await;
    let agent = Mcplocal::start(&format!("server: {}\n", mcpd.url())).await;
    let mut shell = beside(&agent);
    shell.run_with(&["login", mcpd.url(), "--token-stdin"], &mcpd.admin()).await.succeeded();
    let bob = mcpd.user("bob", Some("llm-user")).await;
    shell.env.push(("MCPCTL_TOKEN", bob));
    let output = shell.run(&["chat", "claude", "-p", "Hi"]).await;
    assert_eq!((output.code, output.stdout.as_str()), (0, "from the primary\n"), "{}", output.stderr);
    assert!(output.stderr.contains("so this goes straight to mcpd"), "{}", output.stderr);
    let error = shell.run(&["chat", "claude", "-p", "Hi", "--local"]).await.failed(1);
    assert!(error.contains("hint: unset MCPCTL_TOKEN"), "{error}");
    assert!(!agent.log().contains("/v1/chat/completions"), "{}", agent.log());
}
