//! Another user of the machine listens where mcpctl expects the agent or mcpd: they get nothing.

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
    let provider = ModelServer::with_default(Reply::text("from the centre")).await;
    mcpd.llm("claude", &provider.base_url()).await;
    let mut agent = Mcplocal::start(&format!("server: {}\n", mcpd.url())).await;
    let mut shell = beside(&agent);
    shell.run_with(&["login", mcpd.url(), "--token-stdin"], &mcpd.admin()).await.good();
    agent.stop();
    let squatter = Squatter::start("127.0.0.1:0", STATUS);
    shell.more.push(("MCPLOCAL_ADDRESS", squatter.url()));

    for args in [
        &["local", "status"][..],
        &["local", "logs"],
        &["local", "start"],
        &["local", "stop", "--all"],
        &["doctor"],
        &["local", "env"],
        &["chat", "claude", "--local", "-p", "my private prompt"],
    ] {
        let said = shell.run(args).await;
        assert_eq!(said.code, 1, "{args:?}: {}{}", said.out, said.err);
        assert!((said.out + &said.err).contains("`nobody` (uid 65534)"), "{args:?} names the other user");
    }
    shell.run(&["version"]).await.good();
    let said = shell.run(&["chat", "claude", "-p", "my private prompt"]).await.good();
    assert_eq!(said, "from the centre\n");
    assert_eq!(squatter.received(), "");

    // Clients that are not ours may have given the key away meanwhile.
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
    let said = shell.run_with(&password, "hunter2\n").await.failed(1);
    assert!(
        said.contains("is not trusted: the program that listens there belongs to user `nobody`"),
        "{said}"
    );
    assert!(said.contains("hint: nothing was sent; if that is the user that mcpd runs as"), "{said}");
    shell.run_with(&["login", &url, "--token-stdin"], "mcpd_token\n").await.failed(1);
    assert_eq!(squatter.received(), "");
    let named = [&password[..], &["--server-user", "nobody"]].concat();
    shell.run_with(&named, "hunter2\n").await.failed(1);
    assert!(squatter.received().contains("hunter2"), "where it was named it is trusted");
}

#[tokio::test]
async fn a_token_is_not_sent_to_who_took_over_mcpds_port() {
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
async fn the_user_of_a_context_is_remembered() {
    let mcpd = Mcpd::start().await;
    let shell = Shell::new();
    let login = ["login", mcpd.url(), "--token-stdin", "--server-user", "root"];
    shell.run_with(&login, &mcpd.admin()).await.good();
    assert!(fs::read_to_string(shell.contexts()).unwrap().contains("serverUser: root\n"));
    shell.run(&["whoami"]).await.good();
    let said = shell.run(&["whoami", "--server-user", "no-such-user"]).await.failed(1);
    assert!(said.starts_with("error: there is no user `no-such-user` on this machine\nhint: "), "{said}");
}

#[tokio::test]
async fn a_planted_socket_is_not_trusted() {
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
    let said = shell.run(&["local", "status"]).await.failed(1);
    assert!(said.contains("can be written to by other users"), "{said}");
    for dir in state.ancestors().take(4) {
        fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
    }
    let said = shell.run(&["local", "status"]).await.failed(1);
    assert!(said.contains("it belongs to user `nobody` (uid 65534)"), "{said}");
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
    let said = shell.run(&["local", "rotate-key"]).await;
    assert_eq!((said.code, said.out.as_str()), (0, ""), "{}", said.err);
    assert!(said.err.starts_with("mcplocal has a new key and refuses the old one\n"), "{}", said.err);
    let new = agent.local_key();
    assert_ne!(new, old);
    for (key, expected) in [(&old, StatusCode::UNAUTHORIZED), (&new, StatusCode::OK)] {
        assert_eq!(agent.request(Method::GET, "/status", key).send().await.unwrap().status(), expected);
    }
    let env = shell.run(&["local", "env"]).await.good();
    assert!(env.contains(&format!("OPENAI_API_KEY={new}\n")) && !env.contains(&old), "{env}");

    agent.stop();
    let said = shell.run(&["local", "rotate-key"]).await;
    assert!(
        said.err.starts_with("there is a new key; mcplocal refuses the old one when it runs\n"),
        "{}",
        said.err
    );
    assert_ne!(agent.local_key(), new);
}

#[tokio::test]
async fn local_env_prints_where_the_agent_listens() {
    let agent = Mcplocal::start("server: https://mcpd.example.com\n").await;
    let mut shell = beside(&agent);
    shell.more.retain(|(name, _)| *name != "MCPLOCAL_ADDRESS");
    shell.more.push(("MCPLOCAL_ADDRESS", String::new()));
    let env = shell.run(&["local", "env"]).await.good();
    assert!(env.starts_with(&format!("export OPENAI_BASE_URL={}/v1\n", agent.url())), "{env}");
}

#[tokio::test]
async fn bearer_of_another_person_is_not_given_to_the_agent() {
    let mcpd = Mcpd::start().await;
    let provider = ModelServer::with_default(Reply::text("from the centre")).await;
    mcpd.llm("claude", &provider.base_url()).await;
    let agent = Mcplocal::start(&format!("server: {}\n", mcpd.url())).await;
    let mut shell = beside(&agent);
    shell.run_with(&["login", mcpd.url(), "--token-stdin"], &mcpd.admin()).await.good();
    let bob = mcpd.user("bob", Some("llm-user")).await;
    shell.more.push(("MCPCTL_TOKEN", bob));
    let said = shell.run(&["chat", "claude", "-p", "Hi"]).await;
    assert_eq!((said.code, said.out.as_str()), (0, "from the centre\n"), "{}", said.err);
    assert!(said.err.contains("so this goes straight to mcpd"), "{}", said.err);
    let said = shell.run(&["chat", "claude", "-p", "Hi", "--local"]).await.failed(1);
    assert!(said.contains("hint: unset MCPCTL_TOKEN"), "{said}");
    assert!(!agent.log().contains("/v1/chat/completions"), "{}", agent.log());
}
