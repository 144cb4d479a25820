//! The agent and an mcpd with a certificate of a private authority.

use mcpctl_testkit::{
    authority::Authority,
    daemons::{McpdOptions, McpdTls, eventually},
    deployment::{Builder, Deployment},
    model_server::Reply,
    response::header,
};
use reqwest::StatusCode;

fn deployment(tls: &McpdTls) -> Builder {
    Deployment::builder().mcpd(McpdOptions { tls: Some(tls.clone()), ..McpdOptions::default() })
}

fn ca(authority: &Authority) -> String {
    format!("ca: {}", authority.ca_file().display())
}

#[tokio::test]
async fn failover_and_revocation_work_over_tls() {
    let authority = Authority::new();
    let deployment = deployment(&McpdTls::of(&authority)).config(&ca(&authority)).start().await;
    let answer = deployment.chat().await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.text().await.unwrap().contains("from the primary"));

    deployment.overload_provider();
    deployment.desk.queue(Reply::text("one two three").stall_after(1));
    let streamed = deployment.chat_streamed().await;
    assert_eq!(streamed.status(), StatusCode::OK);
    assert!(header(&streamed, "mcpctl-served-by").is_some_and(|by| by.contains("desk")), "{streamed:?}");
    deployment.revoke().await;
    let text = streamed.text().await.unwrap();
    assert!(text.contains("access_revoked") && !text.contains("[DONE]"), "{text}");
    assert_eq!(deployment.chat().await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_authority_that_is_not_named_gets_no_bearer_and_no_failover() {
    let (authority, other) = (Authority::new(), Authority::new());
    let tls = McpdTls::of(&authority);
    let deployment = deployment(&tls).config(&ca(&other)).start().await;
    let answer = deployment.chat().await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    let text = answer.text().await.unwrap();
    assert!(text.contains("its certificate is of an authority that is not trusted here"), "{text}");
    assert_eq!(deployment.inferences(), 0);
    assert_eq!(deployment.probes(), 0);

    // The file is read again by the next connection, without a change of the configuration.
    std::fs::copy(authority.ca_file(), other.ca_file()).unwrap();
    let served = async || (deployment.chat().await.status() == StatusCode::OK).then_some(());
    eventually("the new authority counts", served).await;
    std::fs::write(other.ca_file(), "damaged").unwrap();
    assert_eq!(deployment.chat().await.status(), StatusCode::OK, "the former one stays");
}

#[tokio::test]
async fn the_agent_presents_its_certificate() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let own = clients.issue("agent", &["agent"]);
    let tls = McpdTls { clients: Some((clients.ca_file(), own.clone())), ..McpdTls::of(&authority) };
    let without = deployment(&tls).config(&ca(&authority)).start().await;
    assert_eq!(without.chat().await.status(), StatusCode::BAD_GATEWAY);
    let log = without.agent.log();
    assert!(log.contains("it asks for a client's certificate, and none was presented"), "{log}");

    let (certificate, key) = (own.certificate.display(), own.key.display());
    let config = format!("{}\nclientCertificate: {certificate}\nclientKey: {key}", ca(&authority));
    let deployment = deployment(&tls).config(&config).start().await;
    assert_eq!(deployment.chat().await.status(), StatusCode::OK);
    deployment.overload_provider();
    let answer = deployment.chat().await;
    assert!(answer.text().await.unwrap().contains("from the desk"));
}
