//! Model servers that run already: each usual address is asked for its list of models, without a credential.

use std::{collections::BTreeMap, env, time::Duration};

use futures::StreamExt as _;
use mcpctl_api::{discovery::FoundServer, visible::is_hidden};
use mcpctl_client::is_loopback;
use mcpctl_owner::{connection, own_uid, user_name};
use reqwest::redirect::Policy;
use serde_json::Value;
use url::Url;

use crate::capabilities;

/// The server is on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);
const TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum size of a list of models, bytes.
const MAX_BODY: usize = 1 << 20;
/// Models of one server that are listed, and characters of their names.
const MAX_MODELS: usize = 200;
const MAX_NAME: usize = 256;
/// Models of one server that are asked about, as many as a question of `mcpctl local init` lists; and how many at once.
const MAX_ASKED: usize = 20;
const ASKED_AT_ONCE: usize = 4;

/// A server's product, and the address at which it listens unless it is configured otherwise.
struct Usual {
    product: &'static str,
    address: String,
}

/// What was found, and where it was looked for.
pub(super) struct Asked {
    pub(super) found: Vec<FoundServer>,
    pub(super) asked: Vec<String>,
}

fn usual() -> Vec<Usual> {
    let at = |product, address: &str| Usual { product, address: address.to_owned() };
    vec![
        Usual { product: "Ollama", address: ollama().unwrap_or_else(|| "http://127.0.0.1:11434".to_owned()) },
        at("LM Studio", "http://127.0.0.1:1234"),
        at("vLLM", "http://127.0.0.1:8000"),
        at("llama-server", "http://127.0.0.1:8080"),
    ]
}

/// The address in Ollama's own variable, where it is on this machine. Ollama takes it with and without a scheme.
fn ollama() -> Option<String> {
    let text = env::var("OLLAMA_HOST").ok()?;
    let text = text.trim().trim_end_matches('/');
    let mut url: Url = match text.contains("://") {
        true => text.parse().ok()?,
        false => format!("http://{text}").parse().ok()?,
    };
    // A server that listens at every address is reached at this machine's own.
    if url.host_str() == Some("0.0.0.0") {
        url.set_host(Some("127.0.0.1")).ok()?;
    }
    if url.port().is_none() {
        url.set_port(Some(11434)).ok()?;
    }
    is_loopback(&url).then(|| url.as_str().trim_end_matches('/').to_owned())
}

/// Asks at every usual address.
pub(super) async fn ask_all() -> Asked {
    let usual = usual();
    let asked = usual.iter().map(|usual| format!("{} ({})", usual.address, usual.product)).collect();
    let http = reqwest::Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TIMEOUT)
        .build();
    let Ok(http) = http else { return Asked { found: Vec::new(), asked } };
    let found = futures::future::join_all(usual.iter().map(|usual| ask(&http, usual))).await;
    Asked { found: found.into_iter().flatten().collect(), asked }
}

async fn ask(http: &reqwest::Client, usual: &Usual) -> Option<FoundServer> {
    let url: Url = format!("{}/v1", usual.address).parse().ok()?;
    let mut answer = http.get(format!("{url}/models")).send().await.ok()?;
    let user = foreign_user(&url);
    if matches!(answer.status().as_u16(), 401 | 403) {
        let product = usual.product.to_owned();
        let (models, tools) = (Vec::new(), BTreeMap::new());
        return Some(FoundServer { product, url, models, tools, wants_key: true, user });
    }
    if !answer.status().is_success() {
        return None;
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.ok()? {
        if body.len() + chunk.len() > MAX_BODY {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    let list: Value = serde_json::from_slice(&body).ok()?;
    let models = list.get("data")?.as_array()?;
    let text = |model: &Value, key: &str| model.get(key).and_then(Value::as_str).map(str::to_owned);
    // Several products serve this list at each other's usual address.
    let product = match models.first().and_then(|model| text(model, "owned_by")).as_deref() {
        Some("vllm") => "vLLM",
        Some("llamacpp") => "llama-server",
        Some("library") => "Ollama",
        _ => usual.product,
    };
    let is_name = |name: &String| name.chars().count() <= MAX_NAME && !name.chars().any(is_hidden);
    let models = models.iter().filter_map(|model| text(model, "id")).filter(is_name).take(MAX_MODELS);
    let models: Vec<String> = models.collect();
    // vLLM reports nothing about them.
    let tools = if product == "vLLM" { BTreeMap::new() } else { tools(http, &url, &models).await };
    Some(FoundServer { product: product.to_owned(), url, models, tools, wants_key: false, user })
}

/// Whether the first models call tools, as far as the server reports it in time.
async fn tools(http: &reqwest::Client, url: &Url, models: &[String]) -> BTreeMap<String, bool> {
    let asked = models.iter().take(MAX_ASKED).map(|model| async move {
        Some((model.clone(), capabilities::reported(http, url, model).await.tools?))
    });
    let answers = futures::stream::iter(asked).buffer_unordered(ASKED_AT_ONCE);
    answers.take_until(tokio::time::sleep(TIMEOUT)).filter_map(std::future::ready).collect().await
}

/// The other user whose program listens there; `None` where the system does not list who does.
fn foreign_user(url: &Url) -> Option<String> {
    let holders = connection::listeners(url.port_or_known_default()?).ok()?;
    holders.iter().find(|holder| holder.uid != own_uid()).map(|holder| user_name(holder.uid))
}
