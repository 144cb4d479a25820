//! Receives the browser's answer on a loopback port (RFC 8252, section 7.3).
//!
//! Every program of this machine reaches the port, so only those of this user are answered: another user who learned the state
//! could sign this terminal in as another user. What does not carry the state of this sign-in is answered with an error and
//! changes nothing, so that another program can neither end the sign-in nor put its own answer in.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use mcpctl_api::{oidc::REDIRECT_PATH, visible};
use mcpctl_client::{ForeignPeer, Guard, TrustedUsers};
use mcpctl_owner::connection::OWNERS_ARE_REPORTED;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};
use url::{Url, form_urlencoded};

use crate::{failure::Failure, output::Tone};

/// How long a connection may take to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of a request's head, in bytes; a code may have 4 KiB.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Maximum of connections at once; further ones are closed.
const MAX_CONNECTIONS: usize = 64;
/// Where this user's browser begins; it is redirected to the provider.
const START_PATH: &str = "/sign-in";
/// Longest text of the provider that is repeated, in bytes.
const MAX_WORDS_BYTES: usize = 300;

/// A port that waits for one answer.
pub struct RedirectListener {
    listener: TcpListener,
    address: SocketAddr,
    trusted: TrustedUsers,
}

/// What the answer must carry.
#[derive(Debug, Clone)]
pub struct ExpectedAnswer {
    /// Where the browser gets it.
    pub authorization: Url,
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
    /// None yet: the browser asks where to begin.
    Start,
    /// The answer, with a code.
    Code(String),
    /// The answer of a provider that refuses, or of another provider than the one that was asked.
    Refused(String),
    /// No answer of this sign-in: the status for its sender.
    Other(u16),
}

impl RedirectListener {
    /// Binds a free port, for programs of these users.
    pub async fn bind(trusted: TrustedUsers) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, trusted })
    }

    /// The address that redirects to the provider.
    pub fn start_url(&self) -> String {
        format!("http://{}{START_PATH}", self.address)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Waits for the answer of this sign-in, and returns its code.
    pub async fn wait(self, expected: &ExpectedAnswer) -> Result<String, Failure> {
        let (sender, mut answers) = mpsc::channel::<Result<String, String>>(1);
        let mut connections = JoinSet::new();
        let mut warned = false;
        loop {
            tokio::select! {
                Some(answer) = answers.recv() => {
                    return answer.map_err(|refused| Failure::new(refused).hint("begin again"));
                }
                Some(served) = connections.join_next() => {
                    if let Ok(Ok(Err(foreign))) = served
                        && !std::mem::replace(&mut warned, true)
                    {
                        report(&foreign);
                    }
                }
                accepted = self.listener.accept() => {
                    if let Ok((stream, from)) = accepted
                        && connections.len() < MAX_CONNECTIONS
                    {
                        let port = Port { address: self.address, trusted: self.trusted };
                        let serving = port.serve(stream, from, expected.clone(), sender.clone());
                        connections.spawn(timeout(REQUEST_TIMEOUT, serving));
                    }
                }
            }
        }
    }
}

/// Reports a program that was not answered.
fn report(foreign: &ForeignPeer) {
    let whose = match foreign {
        ForeignPeer::User(uid) => format!("of user {}", mcpctl_owner::user_name(*uid)),
        _ => "whose user cannot be found out".to_owned(),
    };
    note!(
        Tone::Warning,
        "warning:"; " a program {whose} connected to the port of this sign-in and was refused; if it is your browser, name \
         that user with --server-user"
    );
}

/// The port, as a connection sees it.
struct Port {
    address: SocketAddr,
    trusted: TrustedUsers,
}

impl Port {
    /// Answers one request. The code, or why there is none, is sent on; nothing of another user's program is read.
    async fn serve(
        self,
        mut stream: TcpStream,
        from: SocketAddr,
        expected: ExpectedAnswer,
        answers: mpsc::Sender<Result<String, String>>,
    ) -> Result<(), ForeignPeer> {
        // Elsewhere the state alone decides; no argument of a process shows it there.
        if OWNERS_ARE_REPORTED
            && let Err(foreign) = Guard::new(self.trusted).check_addresses(self.address, from).await
        {
            // Browsers open connections in advance and close them again, and then no program holds the other end.
            let is_another_users = matches!(foreign, ForeignPeer::User(_));
            let reports = is_another_users || matches!(stream.peek(&mut [0]).await, Ok(1..));
            return if reports { Err(foreign) } else { Ok(()) };
        }
        let Some(head) = read_head(&mut stream).await else { return Ok(()) };
        let answer = read(&head, self.address, &expected);
        // The page first: all other connections, which browsers open in advance, end with the answer.
        let _ = stream.write_all(response(&answer, &expected).as_bytes()).await;
        let _ = stream.shutdown().await;
        // Only the first answer counts.
        match answer {
            Answer::Code(code) => drop(answers.send(Ok(code)).await),
            Answer::Refused(why) => drop(answers.send(Err(why)).await),
            Answer::Start | Answer::Other(_) => {}
        }
        Ok(())
    }
}

fn response(answer: &Answer, expected: &ExpectedAnswer) -> String {
    let (status, text) = match answer {
        Answer::Start => ("302 Found", "The sign-in goes on at the provider."),
        Answer::Code(_) => {
            ("200 OK", "The sign-in is complete once the terminal reports it. You can close this window.")
        }
        Answer::Refused(_) => {
            ("200 OK", "The sign-in was refused; the terminal shows why. You can close this window.")
        }
        Answer::Other(404) => ("404 Not Found", "There is nothing here."),
        Answer::Other(_) => ("400 Bad Request", "This is not the answer that mcpctl waits for."),
    };
    let location = match answer {
        Answer::Start => format!("location: {}\r\n", expected.authorization),
        _ => String::new(),
    };
    let page = format!(
        "<!doctype html><meta charset=utf-8><title>mcpctl</title><body style='font-family:sans-serif;margin:3em'><p>{text}"
    );
    format!(
        "HTTP/1.1 {status}\r\n{location}content-type: text/html; charset=utf-8\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\ncontent-security-policy: default-src 'none'; style-src 'unsafe-inline'\r\n\
         referrer-policy: no-referrer\r\nconnection: close\r\n\r\n{page}",
        page.len()
    )
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
fn read(head: &str, address: SocketAddr, expected: &ExpectedAnswer) -> Answer {
    let mut lines = head.lines();
    let line = lines.next().unwrap_or_default();
    // A page that made a name of its own lead here is not answered.
    let host =
        lines.filter_map(|line| line.split_once(':')).filter(|(name, _)| name.eq_ignore_ascii_case("host"));
    if !host.map(|(_, value)| value.trim()).eq([address.to_string().as_str()]) {
        return Answer::Other(400);
    }
    let mut parts = line.split(' ');
    let (method, target) = (parts.next(), parts.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match (method, path) {
        (Some("GET"), REDIRECT_PATH) => {}
        (Some("GET"), START_PATH) => return Answer::Start,
        _ => return Answer::Other(404),
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

    const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4711);

    fn expected(issuer: &str, names_issuer: bool) -> ExpectedAnswer {
        ExpectedAnswer {
            authorization: "https://id.example/auth?state=s-1".parse().unwrap(),
            state: "s-1".to_owned(),
            issuer: issuer.to_owned(),
            names_issuer,
        }
    }

    fn answer(target: &str, names_issuer: bool) -> Answer {
        let head = format!("GET {target} HTTP/1.1\r\nhost: 127.0.0.1:4711\r\n\r\n");
        read(&head, ADDRESS, &expected("https://id.example", names_issuer))
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
        let head = |method: &str, path: &str, host: &str| {
            read(&format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"), ADDRESS, &expected("", false))
        };
        let code = "/callback?code=c&state=s-1";
        assert_eq!(head("POST", code, "127.0.0.1:4711"), Answer::Other(404));
        assert_eq!(head("GET", START_PATH, "127.0.0.1:4711"), Answer::Start);
        for host in
            ["evil.example:4711", "localhost:4711", "127.0.0.1", "127.0.0.1:4711\r\nhost: evil.example"]
        {
            assert_eq!(head("GET", code, host), Answer::Other(400), "{host}");
            assert_eq!(head("GET", START_PATH, host), Answer::Other(400), "{host}");
        }
    }
}
