//! Through the agent of this machine: who is asked, with which key, and what is said of it.

use mcpctl_testkit::{
    daemons::{Mcpd, Mcplocal},
    model_server::{ModelServer, Reply},
};

use crate::shell::{Shell, beside};

async fn agent_of(mcpd: &Mcpd, desk: &ModelServer) -> Mcplocal {
    Mcplocal::start(&format!(
        "server: {}\nproviders:\n  - {{name: desk, type: openai, url: '{}', model: m, failoverFor: claude}}\n",
        mcpd.url(),
        desk.base_url()
    ))
    .await
}

#[tokio::test]
async fn the_key_of_this_machine_is_used_where_it_stands_for_the_same_person() {
    let mcpd = Mcpd::start().await;
    let provider = ModelServer::with_default(Reply::text("from the centre")).await;
    let desk = ModelServer::with_default(Reply::text("from the desk")).await;
    mcpd.llm("claude", &provider.base_url()).await;
    let agent = agent_of(&mcpd, &desk).await;
    let mut shell = beside(&agent);

    // The key stands for nobody yet.
    let said = shell.run(&["chat", "claude", "-p", "Hi"]).await.failed(1);
    assert!(said.contains("nobody is signed in at") && said.contains("hint: mcpctl login"), "{said}");

    let alice = mcpd.user("alice", Some("llm-user")).await;
    shell.run_with(&["login", mcpd.url(), "--token-stdin"], &alice).await.good();
    // `local/…` is for the key alone; a bearer of mcpd's does not open it.
    assert_eq!(shell.run(&["chat", "local/desk", "-p", "Hi", "--local"]).await.good(), "from the desk\n");
    assert_eq!(shell.run(&["chat", "claude", "-p", "Hi", "--local"]).await.good(), "from the centre\n");

    // A token of the environment is another person, and counts as such.
    let bob = mcpd.user("bob", None).await;
    shell.more.push(("MCPCTL_TOKEN", bob));
    shell.more.push(("MCPCTL_SERVER", mcpd.url().to_owned()));
    let said = shell.run(&["chat", "claude", "-p", "Hi"]).await.failed(1);
    assert!(said.contains("`User bob` may not run"), "{said}");
}

#[tokio::test]
async fn inv_10_a_token_is_not_given_to_an_agent_that_speaks_for_another_server() {
    let (ours, theirs) = (Mcpd::start().await, Mcpd::start().await);
    let provider = ModelServer::with_default(Reply::text("from ours")).await;
    let other = ModelServer::with_default(Reply::text("from theirs")).await;
    ours.llm("claude", &provider.base_url()).await;
    theirs.llm("claude", &other.base_url()).await;
    let agent = agent_of(&theirs, &other).await;
    let shell = beside(&agent);
    shell.run_with(&["login", ours.url(), "--token-stdin"], &ours.admin()).await.good();

    let said = shell.run(&["chat", "claude", "-p", "Hi"]).await;
    assert_eq!((said.code, said.out.as_str()), (0, "from ours\n"), "{}", said.err);
    assert!(said.err.contains(&format!("mcplocal speaks for {}", theirs.url())), "{}", said.err);
    let said = shell.run(&["chat", "claude", "-p", "Hi", "--local"]).await.failed(1);
    assert!(said.contains("mcplocal speaks for") && said.contains("hint: "), "{said}");
    assert!(other.inferences().is_empty());
    assert!(!agent.log().contains("/v1/chat/completions"), "the agent was not asked: {}", agent.log());
}

#[tokio::test]
async fn without_an_agent_one_goes_straight_and_is_told_so_where_one_insists() {
    let mcpd = Mcpd::start().await;
    let provider = ModelServer::with_default(Reply::text("from the centre")).await;
    mcpd.llm("claude", &provider.base_url()).await;
    let mut shell = Shell::signed_in(&mcpd).await;
    // Something else listens where the agent would be.
    shell.more.push(("MCPLOCAL_ADDRESS", provider.base_url().trim_end_matches("/v1").to_owned()));
    std::fs::create_dir_all(shell.path("state/mcpctl/mcplocal")).unwrap();
    let key = shell.file("state/mcpctl/mcplocal/local-key", "mcpl_key\n");
    std::fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let said = shell.run(&["chat", "claude", "-p", "Hi"]).await;
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "from the centre\n", ""));
    assert!(shell.run(&["chat", "claude", "-p", "Hi", "--local"]).await.failed(1).contains("hint: "));
    assert!(
        provider
            .requests()
            .iter()
            .all(|request| request.header("authorization") != Some(&format!("Bearer {}", mcpd.admin())))
    );

    shell.more.push(("MCPLOCAL_ADDRESS", "https://agent.example.com".to_owned()));
    let said = shell.run(&["local", "env"]).await.failed(1);
    assert!(said.contains("is not on this machine"), "{said}");
    shell.more.push(("MCPLOCAL_ADDRESS", "http://127.0.0.1:1".to_owned()));
    let said = shell.run(&["local", "status"]).await.failed(1);
    assert!(
        said.starts_with("error: mcplocal does not answer at `")
            && said.contains("/agent.sock`: it is not there\nhint: start it with `mcpctl local up`"),
        "{said}"
    );
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_success() {
    let mcpd = Mcpd::start().await;
    let provider = ModelServer::with_default(Reply::text("one two three").cut_after(2)).await;
    mcpd.llm("claude", &provider.base_url()).await;
    let shell = Shell::signed_in(&mcpd).await;
    let said = shell.run(&["chat", "claude", "-p", "Hi"]).await;
    assert_eq!(said.code, 1, "{}{}", said.out, said.err);
    assert!(
        "one two three\n".starts_with(said.out.trim_end()) && said.out != "one two three\n",
        "{}",
        said.out
    );
    assert!(said.err.starts_with("error: the answer is not complete: "), "{}", said.err);
}

#[tokio::test]
async fn the_agent_is_shown_for_people_and_for_programs() {
    let mcpd = Mcpd::start().await;
    let desk = ModelServer::start().await;
    let agent = agent_of(&mcpd, &desk).await;
    let shell = beside(&agent);
    shell.run_with(&["login", mcpd.url(), "--token-stdin"], &mcpd.admin()).await.good();
    let status = shell.run(&["local", "status", "-o", "json"]).await.good();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!((&status["signedInAs"], &status["providers"][0]["name"]), (&"admin".into(), &"desk".into()));
    assert!(shell.run(&["local", "status", "-o", "yaml"]).await.good().contains("signedInAs: admin\n"));
    let said = shell.run(&["local", "logs"]).await.failed(1);
    assert!(said.contains("the agent starts no model server itself"), "{said}");
    let env = shell.run(&["local", "env"]).await;
    assert_eq!(env.err, "", "nothing but what to export, where it is not for a person");
    let report = shell.run(&["doctor"]).await;
    assert_eq!(report.code, 0, "{}", report.out);
    let expected = format!("ok   mcplocal: speaks for {}, local providers: 1", mcpd.url());
    assert!(
        report.out.contains("ok   signed in: User admin\n") && report.out.contains(&expected),
        "{}",
        report.out
    );
    let expected = format!("ok   probe: as trustworthy as the program that listens at {}: ", mcpd.url());
    assert!(report.out.contains(&expected), "{}", report.out);
    let versions = shell.run(&["version"]).await.good();
    assert_eq!(versions.lines().count(), 3, "{versions}");
}
