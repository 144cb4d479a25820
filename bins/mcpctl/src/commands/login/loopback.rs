//! Receives the browser's answer on a loopback port (RFC 8252, section 7.3).
//!
//! Every program of this machine reaches the port. What does not carry the state of this sign-in is answered with an error
//! and changes nothing, so that another program can neither end the sign-in nor put its own answer in.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use mcpctl_api::{oidc::REDIRECT_PATH, visible};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};
use url::form_urlencoded;

use crate::failure::Failure;

/// How long a connection may take to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of a request's head, in bytes; a code may have 4 KiB.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Maximum of connections at once; further ones are closed.
const MAX_CONNECTIONS: usize = 64;
/// Longest text of the provider that is repeated, in bytes.
const MAX_WORDS_BYTES: usize = 300;

/// A port that waits for one answer.
pub struct RedirectListener {
    listener: TcpListener,
    address: SocketAddr,
}

/// What the answer must carry.
#[derive(Debug, Clone)]
pub struct ExpectedAnswer {
    /// The state of the request.
    pub state: String,
    /// The issuer, where the answer names one (RFC 9207).
    pub issuer: String,
    /// Whether it must name one.
    pub names_issuer: bool,
}

/// What a request to the port is.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// The answer, with a code.
    Code(String),
    /// The answer of a provider that refuses, or of another provider than the one that was asked.
    Refused(String),
    /// No answer of this sign-in: the status for its sender.
    Other(u16),
}

impl RedirectListener {
    /// Binds a free port.
    pub async fn bind() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Waits for the answer of this sign-in, and returns its code.
    pub async fn wait(self, expected: &ExpectedAnswer) -> Result<String, Failure> {
        let (sender, mut answers) = mpsc::channel(1);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                answer = answers.recv() => match answer {
                    Some(Answer::Code(code)) => {
                        // The page is still being written.
                        while connections.join_next().await.is_some() {}
                        return Ok(code);
                    }
                    Some(Answer::Refused(why)) => {
                        while connections.join_next().await.is_some() {}
                        return Err(Failure::new(why).hint("begin again"));
                    }
                    Some(Answer::Other(_)) | None => {}
                },
                accepted = self.listener.accept() => {
                    while connections.try_join_next().is_some() {}
                    if let Ok((stream, _)) = accepted
                        && connections.len() < MAX_CONNECTIONS
                    {
                        let (expected, sender) = (expected.clone(), sender.clone());
                        connections.spawn(timeout(REQUEST_TIMEOUT, serve(stream, expected, sender)));
                    }
                }
            }
        }
    }
}

async fn serve(mut stream: TcpStream, expected: ExpectedAnswer, answers: mpsc::Sender<Answer>) {
    let Some(head) = read_head(&mut stream).await else { return };
    let answer = read(&head, &expected);
    let (status, text) = match &answer {
        Answer::Code(_) => {
            ("200 OK", "The sign-in is complete once the terminal reports it. You can close this window.")
        }
        Answer::Refused(_) => {
            ("200 OK", "The sign-in was refused; the terminal shows why. You can close this window.")
        }
        Answer::Other(404) => ("404 Not Found", "There is nothing here."),
        Answer::Other(_) => ("400 Bad Request", "This is not the answer that mcpctl waits for."),
    };
    let page = format!(
        "<!doctype html><meta charset=utf-8><title>mcpctl</title><body style='font-family:sans-serif;margin:3em'><p>{text}"
    );
    let response = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         content-security-policy: default-src 'none'; style-src 'unsafe-inline'\r\nreferrer-policy: no-referrer\r\n\
         connection: close\r\n\r\n{page}",
        page.len()
    );
    if !matches!(answer, Answer::Other(_)) {
        // Only the first answer counts; the receiver is gone after it.
        let _ = answers.send(answer).await;
    }
    let _ = stream.write_all(response.as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut buffer = [0; 2048];
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        head.extend_from_slice(buffer.get(..count)?);
        if head.len() > MAX_HEAD_BYTES {
            return None;
        }
    }
    String::from_utf8(head).ok()
}

/// Reads a request's head.
fn read(head: &str, expected: &ExpectedAnswer) -> Answer {
    let line = head.lines().next().unwrap_or_default();
    let mut parts = line.split(' ');
    let (method, target) = (parts.next(), parts.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if method != Some("GET") || path != REDIRECT_PATH {
        return Answer::Other(404);
    }
    let fields: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    // RFC 6749, section 3.1: no parameter is there twice.
    let one = |name: &str| {
        let mut values = fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str());
        let first = values.next();
        if values.next().is_some() { Err(Answer::Other(400)) } else { Ok(first) }
    };
    let values =
        (|| Ok((one("state")?, one("iss")?, one("code")?, one("error")?, one("error_description")?)))();
    let (state, issuer, code, error, description) = match values {
        Ok(values) => values,
        Err(other) => return other,
    };
    if state != Some(expected.state.as_str()) {
        return Answer::Other(400);
    }
    // RFC 9207: an answer of another provider must not reach this one's token endpoint.
    let from_issuer = match issuer {
        Some(issuer) => issuer == expected.issuer,
        None => !expected.names_issuer,
    };
    if !from_issuer {
        return Answer::Refused(
            "the answer came from another provider than the one that was asked".to_owned(),
        );
    }
    match (code, error) {
        (Some(code), None) if !code.is_empty() => Answer::Code(code.to_owned()),
        (_, Some(error)) => {
            let words = description.map_or_else(|| error.to_owned(), |text| format!("{error} ({text})"));
            let words = visible::short(&visible::one_line(&words), MAX_WORDS_BYTES);
            Answer::Refused(format!("the provider refuses the sign-in: {words}"))
        }
        _ => Answer::Other(400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(target: &str, names_issuer: bool) -> Answer {
        let expected =
            ExpectedAnswer { state: "s-1".to_owned(), issuer: "https://id.example".to_owned(), names_issuer };
        read(&format!("GET {target} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"), &expected)
    }

    #[test]
    fn only_the_answer_of_this_sign_in_counts() {
        assert_eq!(answer("/callback?code=c%2B1&state=s-1", false), Answer::Code("c+1".to_owned()));
        assert_eq!(
            answer("/callback?code=c&state=s-1&iss=https%3A%2F%2Fid.example", true),
            Answer::Code("c".to_owned())
        );
        for (target, status) in [
            ("/", 404),
            ("/callback/", 404),
            ("/favicon.ico", 404),
            ("/callback", 400),
            ("/callback?code=c", 400),
            ("/callback?code=c&state=s-2", 400),
            ("/callback?code=c&state=s-1&state=s-1", 400),
            ("/callback?code=c&code=d&state=s-1", 400),
            ("/callback?code=&state=s-1", 400),
            ("/callback?error=access_denied&state=s-2", 400),
        ] {
            assert_eq!(answer(target, false), Answer::Other(status), "{target}");
        }
        for target in [
            "/callback?code=c&state=s-1&iss=https%3A%2F%2Fevil.example",
            "/callback?error=access_denied&error_description=no%0A%1b&state=s-1",
            "/callback?code=c&error=x&state=s-1",
        ] {
            assert!(matches!(answer(target, false), Answer::Refused(_)), "{target}");
        }
        assert!(matches!(answer("/callback?code=c&state=s-1", true), Answer::Refused(_)));
        let expected = ExpectedAnswer { state: "s-1".to_owned(), issuer: String::new(), names_issuer: false };
        assert_eq!(read("POST /callback?code=c&state=s-1 HTTP/1.1\r\n\r\n", &expected), Answer::Other(404));
    }
}
