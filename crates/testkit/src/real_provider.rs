//! A real OpenID provider (`oidc-provider` from npm) on a free loopback port, and a browser that signs in there.

use std::{collections::BTreeMap, path::Path, process::Stdio};

use http::header::{COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Client, Response};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::node;

/// The provider; it ends when dropped.
pub struct RealProvider {
    issuer: String,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl RealProvider {
    /// Its public client.
    pub const CLIENT: &str = "mcpctl";
    /// Its confidential client, and the secret of that.
    pub const CONFIDENTIAL: (&str, &str) = ("mcpctl-confidential", "a secret: of a client");

    /// Starts it. `accounts` has further claims by account, such as `{"alice": {"groups": ["eng"]}}`.
    pub async fn start(accounts: &Value) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("oidc");
        let modules = node::packages(&folder);
        let mut child = Command::new("node")
            .arg(folder.join("provider.mjs"))
            .env("OIDC_MODULES", modules)
            .env("OIDC_ACCOUNTS", accounts.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("node");
        let input = child.stdin.take().expect("its input");
        let mut output = BufReader::new(child.stdout.take().expect("its output")).lines();
        let issuer = output.next_line().await.expect("its output").expect("its issuer");
        Self { issuer, input, output, _child: child }
    }

    /// Its identity.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Replaces its keys.
    pub async fn rotate(&mut self) {
        self.input.write_all(b"rotate\n").await.expect("its input");
        self.output.next_line().await.expect("its output").expect("its answer");
    }

    /// Opens an address as `account` would in a browser: signs in and consents wherever a page asks. Returns the address to
    /// which the browser is sent in the end, if that is another server's.
    pub async fn browse(&self, url: &str, account: &str) -> Option<String> {
        let http = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client");
        let mut browser = Browser { http, cookies: BTreeMap::new() };
        let mut response = browser.get(url).await;
        // Each page leads on; more than these would be a loop.
        for _ in 0..20 {
            if let Some(location) = response.headers().get(LOCATION) {
                let location = response.url().join(location.to_str().expect("text")).expect("an address");
                if !location.as_str().starts_with(&self.issuer) {
                    return Some(location.into());
                }
                response = browser.get(location.as_str()).await;
                continue;
            }
            let at = response.url().clone();
            let page = response.text().await.expect("a page");
            let (action, fields) = form(&page, account)?;
            response = browser.post(at.join(&action).expect("an address").as_str(), &fields).await;
        }
        panic!("the provider never comes to an end");
    }
}

struct Browser {
    http: Client,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    async fn get(&mut self, url: &str) -> Response {
        let request = self.http.get(url).header(COOKIE, self.cookie());
        let response = request.send().await.expect("a response");
        self.keep_cookies(response)
    }

    async fn post(&mut self, url: &str, fields: &[(String, String)]) -> Response {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = self.http.post(url).header(COOKIE, self.cookie());
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
        let response = request.send().await.expect("a response");
        self.keep_cookies(response)
    }

    fn cookie(&self) -> String {
        let pairs = self.cookies.iter().map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join("; ")
    }

    fn keep_cookies(&mut self, response: Response) -> Response {
        for cookie in response.headers().get_all(SET_COOKIE) {
            let pair = cookie.to_str().expect("text").split(';').next().expect("a pair");
            let (name, value) = pair.split_once('=').expect("a pair");
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        response
    }
}

/// Where the first form of a page leads, and its fields as `account` fills them in.
fn form(page: &str, account: &str) -> Option<(String, Vec<(String, String)>)> {
    let form = page.split("<form").nth(1)?.split("</form>").next()?;
    let attribute = |tag: &str, name: &str| {
        let value = tag.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?;
        Some(value.replace("&amp;", "&"))
    };
    let action = attribute(form, "action")?;
    let fields = form.split("<input").skip(1).filter_map(|input| {
        let tag = input.split('>').next()?;
        let name = attribute(tag, "name")?;
        let value = match name.as_str() {
            "login" | "password" => account.to_owned(),
            _ => attribute(tag, "value")?,
        };
        Some((name, value))
    });
    Some((action, fields.collect()))
}
