//! Requests as they are sent, and the result of every kind of response.

use mcpctl_api::{Document, Kind, Revision};
use mcpctl_client::{Client, ClientError, ClientOptions};
use secrecy::SecretString;
use serde_json::json;
use url::Url;

use super::server::{Server, closed_port};

const TOKEN: &str = "mcpd_hunter2";

fn client(server: Url) -> Client {
    Client::new(server, Some(SecretString::from(TOKEN)), &ClientOptions::default()).unwrap()
}

fn secret() -> Document {
    Document::from_json(br#"{"kind":"Secret","name":"s","data":{"token":"hunter3"}}"#).unwrap()
}

const RESOURCE: &str = r#"{"kind":"Secret","name":"s","id":"cabcdefghijklmnopqrstuvwx","revision":7,
    "createdAt":"2026-01-01T00:00:00Z","updatedAt":"2026-01-01T00:00:00Z","data":{"token":null}}"#;

/// Message and hint, as they are printed; neither ever holds a token or a secret.
fn printed(error: &ClientError) -> (String, Option<String>) {
    let printed = (error.to_string(), error.hint());
    let all = format!("{printed:?} {error:?}");
    assert!(!all.contains("hunter"), "{all}");
    assert!(!printed.0.contains(char::is_control), "{printed:?}");
    printed
}

#[tokio::test]
async fn change_carries_the_expected_revision() {
    let server = Server::answering("200 OK", "mcpctl-warning: a credential was detached\r\n", RESOURCE).await;
    let changed = client(server.url()).put("s", &secret(), Some(Revision(6))).await.unwrap();
    assert_eq!((changed.revision, changed.name.as_str()), (Revision(7), "s"));
    assert_eq!(changed.warnings, ["a credential was detached"]);
    let requests = server.requests();
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("PUT /api/v1/secrets/s HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nif-match: \"6\""), "{head}");
    assert!(head.contains("\r\nauthorization: Bearer mcpd_hunter2"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body, json!({"kind": "Secret", "name": "s", "data": {"token": "hunter3"}}));
}

#[tokio::test]
async fn lists_deletes_and_questions_have_their_paths() {
    let list = Server::answering("200 OK", "", &format!(r#"{{"revision":9,"items":[{RESOURCE}]}}"#)).await;
    let found = client(list.url()).list(Kind::Secret, Some("team=a,tier!=dev")).await.unwrap();
    assert_eq!((found.revision, found.items.len()), (Revision(9), 1));
    let delete = Server::sending("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
    client(delete.url()).delete(Kind::RoleBinding, "b", None).await.unwrap();
    let who = Server::answering("200 OK", "", r#"{"subjects":[],"revision":1}"#).await;
    client(who.url()).who_can("run", "llms", "a b&c").await.unwrap();
    let line = |server: &Server| server.requests()[0].lines().next().unwrap().to_owned();
    assert_eq!(line(&list), "GET /api/v1/secrets?limit=1000&labelSelector=team%3Da%2Ctier%21%3Ddev HTTP/1.1");
    assert_eq!(line(&delete), "DELETE /api/v1/rolebindings/b HTTP/1.1");
    assert_eq!(line(&who), "GET /api/v1/auth/who-can?verb=run&kind=llms&name=a+b%26c HTTP/1.1");
}

#[tokio::test]
async fn error_response_keeps_message_hint_and_param() {
    let body = r#"{"error":{"message":"there is no secret `x`","type":"invalid_request_error","code":"invalid_request",
        "param":"[2].apiKey.secret","hint":"make it first"}}"#;
    let server = Server::answering("400 Bad Request", "mcpctl-error-source: mcpd\r\n", body).await;
    let error = client(server.url()).as_dry_run(true).apply(&[&secret()]).await.unwrap_err();
    assert_eq!(printed(&error), ("there is no secret `x`".to_owned(), Some("make it first".to_owned())));
    assert_eq!(error.param(), Some("[2].apiKey.secret"));
    assert_eq!(error.status().unwrap().as_u16(), 400);
    assert!(server.requests()[0].starts_with("POST /api/v1/apply?dryRun=true HTTP/1.1\r\n"));
    let ClientError::Refused { error, .. } = error else { panic!("{error:?}") };
    assert_eq!(
        (error.source_name.as_deref(), error.error.code.as_deref()),
        (Some("mcpd"), Some("invalid_request"))
    );
}

#[tokio::test]
async fn provider_error_of_any_shape_is_read_when_mcpd_passed_it() {
    let headers = "mcpctl-error-source: upstream\r\nmcpctl-failure: server_error\r\nmcpctl-attempts: 3\r\n";
    for (body, message) in [
        (r#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#, "Loading model"),
        (r#"{"error":"no\n\u001b[2Jroom"}"#, "no [2Jroom"),
        ("<html>", "status 503 Service Unavailable without a reason"),
    ] {
        let server = Server::answering("503 Service Unavailable", headers, body).await;
        let error = client(server.url()).models().await.unwrap_err();
        assert_eq!(printed(&error).0, message);
        let ClientError::Refused { error, .. } = error else { panic!("{error:?}") };
        assert_eq!(error.failure.as_deref(), Some("server_error"));
        assert_eq!(error.attempts, Some(3));
    }
}

#[tokio::test]
async fn response_of_another_server_is_not_taken_for_mcpds() {
    let asked = "check the address: is it mcpd that answers there?";
    for (status, body, reason) in [
        ("200 OK", "<html>", "expected value at line 1 column 1"),
        ("200 OK", "{}", "missing field `subject` at line 1 column 2"),
        ("404 Not Found", "<html>nginx</html>", "status 404 Not Found"),
        ("404 Not Found", r#"{"message":"no Route matched"}"#, "status 404 Not Found"),
    ] {
        let server = Server::answering(status, "", body).await;
        let (message, hint) = printed(&client(server.url()).whoami().await.unwrap_err());
        let at = server.url().to_string();
        let expected = format!("{} gave an answer that is not mcpd's: {reason}", at.trim_end_matches('/'));
        assert_eq!((message, hint.as_deref()), (expected, Some(asked)), "{status} {body}");
    }
    let ssh = Server::sending("SSH-2.0-OpenSSH_9.6\r\n").await;
    let (message, hint) = printed(&client(ssh.url()).whoami().await.unwrap_err());
    assert!(message.contains("gave an answer that is not mcpd's"), "{message}");
    assert_eq!(hint.as_deref(), Some(asked));
}

#[tokio::test]
async fn cut_response_is_unreadable() {
    let server = Server::sending("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"subject\"").await;
    let error = client(server.url()).whoami().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreadable { .. }), "{error:?}");
    printed(&error);
}

#[tokio::test]
async fn redirect_is_reported_and_not_followed() {
    let elsewhere = Server::answering("200 OK", "", RESOURCE).await;
    let server = Server::answering("302 Found", &format!("location: {}\r\n", elsewhere.url()), "").await;
    let error = client(server.url()).get(Kind::Secret, "s").await.unwrap_err();
    let (message, hint) = printed(&error);
    assert!(message.ends_with(&format!("redirects to {}", elsewhere.url())), "{message}");
    assert_eq!(hint.as_deref(), Some("use that address, where you trust it"));
    assert!(elsewhere.requests().is_empty(), "the token went to another server");
}

#[tokio::test]
async fn closed_port_is_reported_with_the_address() {
    let server = closed_port();
    let (message, hint) = printed(&client(server.clone()).whoami().await.unwrap_err());
    let address = server.as_str().trim_end_matches('/');
    assert_eq!(message, format!("{address} cannot be reached: connection refused"));
    assert_eq!(hint.as_deref(), Some("check the address, and that mcpd runs there"));
}

#[tokio::test]
async fn silent_server_is_given_up_after_the_timeout() {
    let server = Server::hanging().await;
    let options =
        ClientOptions { timeout: std::time::Duration::from_millis(200), ..ClientOptions::default() };
    let error = Client::new(server.url(), None, &options).unwrap().whoami().await.unwrap_err();
    assert!(printed(&error).0.ends_with("cannot be reached: no answer in time"), "{error}");
    assert!(!server.requests()[0].contains("authorization"), "no token, no header");
}

#[tokio::test]
async fn https_to_a_plain_server_is_reported_with_a_hint() {
    // Answered with HTTP, whatever the first bytes were.
    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = plain.local_addr().unwrap();
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        let (mut connection, _) = plain.accept().await.unwrap();
        connection.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    });
    let error = client(format!("https://{address}").parse().unwrap()).whoami().await.unwrap_err();
    let (message, hint) = printed(&error);
    assert_eq!(message, format!("https://{address} cannot be trusted: it does not speak TLS"));
    assert_eq!(hint.as_deref(), Some("it speaks plain http: write http:// here"));
}

#[tokio::test]
async fn name_never_reaches_into_another_path() {
    let server = Server::answering("200 OK", "", RESOURCE).await;
    let client = client(server.url());
    for path in ["", ".", ".."] {
        let error = client.delete(Kind::Secret, path, None).await.unwrap_err();
        assert_eq!(printed(&error).0, format!("`{path}` is neither a name nor an id"));
    }
    assert!(server.requests().is_empty());
    for name in ["../users/alice", "a?b#c", "%2e%2e"] {
        client.get(Kind::Secret, name).await.unwrap();
    }
    let paths: Vec<String> =
        server.requests().iter().map(|r| r.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(
        paths,
        ["/api/v1/secrets/..%2Fusers%2Falice", "/api/v1/secrets/a%3Fb%23c", "/api/v1/secrets/%252e%252e"]
    );
}

#[test]
fn invalid_address_or_token_is_rejected_before_sending() {
    let new = |address: &str, token: &str| {
        Client::new(address.parse().unwrap(), Some(SecretString::from(token)), &ClientOptions::default())
            .unwrap_err()
    };
    let (message, hint) = printed(&new("https://me:hunter2@host/?token=hunter2", TOKEN));
    assert_eq!(message, "`https://host` is not the address of a server: it has credentials in it");
    assert_eq!(hint.as_deref(), Some("write it like https://mcpd.example.com"));
    let (message, _) = printed(&new("https://host", "hunter2\nhunter3"));
    assert_eq!(message, "the token cannot be sent: it holds characters that no token has");
}
