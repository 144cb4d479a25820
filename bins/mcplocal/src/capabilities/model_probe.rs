//! Asks a model server which models it serves and what they can do, by the routes that report it: llama.cpp's `/props`,
//! LM Studio's `/api/v0/models`, Ollama's `/api/show` and `/api/ps`, and `max_model_len` of vLLM's `/v1/models`. Whether it counts
//! tokens by Anthropic's API no route reports, so it is asked to count nothing, which no model runs for.

use std::time::Duration;

use bytes::BytesMut;
use mcpctl_dialect::{Dialect, Operation};
use mcpctl_upstream::{Api, AttemptTimeouts, Auth, Target, TargetConfig, UpstreamKind};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use url::Url;

use super::Capabilities;

/// The timeout of each question; the server is on this machine.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum size of a response, bytes: LM Studio and Ollama list every model that is installed.
const MAX_BODY: usize = 4 << 20;

/// The server to ask, and the model.
#[derive(Debug, Clone)]
pub struct ModelProbe {
    http: reqwest::Client,
    target: Target,
}

/// What a server reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// The models that it lists.
    pub models: Vec<String>,
    /// The model in question, or the only one.
    pub model: Option<String>,
    /// Its capabilities.
    pub capabilities: Capabilities,
    /// Whether it lists its models for everyone, and refuses requests with the key that it gets.
    pub refuses_key: bool,
}

/// What a server at the base of its API reports about one of its models; it gets no key.
pub async fn reported(http: &reqwest::Client, base: &Url, model: &str) -> Capabilities {
    let target = Target::new(TargetConfig {
        base_url: base.clone(),
        socket: None,
        model: Some(model.to_owned()),
        credential: None,
        timeouts: AttemptTimeouts {
            connect: PROBE_TIMEOUT,
            response: PROBE_TIMEOUT,
            answer: PROBE_TIMEOUT,
            first_token: PROBE_TIMEOUT,
            idle: PROBE_TIMEOUT,
        },
        api: Api::Openai,
        kind: UpstreamKind::Provider,
    });
    let probe = ModelProbe::new(http, &target);
    probe.capabilities(&probe.root(), model).await
}

/// Why a server reports nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelProbeError {
    /// It answers 401 or 403.
    #[error("{}", if *sent { "it rejects the key that it gets" } else { "it wants a key" })]
    Key {
        /// Whether it got one.
        sent: bool,
    },
    /// It answers something else, or nothing.
    #[error("{0}")]
    NoList(String),
}

impl ModelProbeError {
    /// The next step.
    pub fn hint(&self) -> String {
        match self {
            Self::Key { sent: true } => "write the key that the server was started with into `apiKeyFile`",
            Self::Key { sent: false } => "name a file with its key in `apiKeyFile`",
            Self::NoList(_) => "start the server, or correct `url`",
        }
        .to_owned()
    }
}

/// What a question about a route shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RouteProbe {
    Served,
    NotServed,
    KeyRefused,
    Unknown,
}

impl ModelProbe {
    /// The server of a target, and its model where one is named.
    pub fn new(http: &reqwest::Client, target: &Target) -> Self {
        Self { http: http.clone(), target: target.clone() }
    }

    /// Asks the server.
    ///
    /// # Errors
    /// Why the server does not list its models.
    pub async fn ask(&self) -> Result<ModelInfo, ModelProbeError> {
        let list = self.target.models();
        let (listed, counter) = futures::join!(self.json(Method::GET, list.as_str(), None), self.counter());
        let listed = listed?;
        let data = listed.get("data").and_then(Value::as_array);
        let nothing = || ModelProbeError::NoList("its `/models` lists nothing".to_owned());
        let data: Vec<&Value> = data.ok_or_else(nothing)?.iter().collect();
        let refuses_key = counter == RouteProbe::KeyRefused;
        let models: Vec<String> = data.iter().filter_map(|model| text(model, "id")).collect();
        let model = match (&self.target.model, models.as_slice()) {
            (Some(model), _) => Some(model.clone()),
            (None, [only]) => Some(only.clone()),
            (None, _) => None,
        };
        let Some(name) = &model else {
            return Ok(ModelInfo { models, model, capabilities: Capabilities::default(), refuses_key });
        };
        let entry = data.iter().find(|entry| text(entry, "id").as_ref() == Some(name)).or(data.first());
        let capabilities = match entry.and_then(|entry| text(entry, "owned_by")).as_deref() {
            Some("vllm") => Capabilities {
                context_length: entry.and_then(|entry| number(entry.get("max_model_len"))),
                ..Capabilities::default()
            },
            _ => self.capabilities(&self.root(), name).await,
        };
        let counts_tokens = match counter {
            RouteProbe::Served => Some(true),
            RouteProbe::NotServed => Some(false),
            RouteProbe::KeyRefused | RouteProbe::Unknown => None,
        };
        let capabilities = Capabilities { counts_tokens, ..capabilities };
        Ok(ModelInfo { models, model, capabilities, refuses_key })
    }

    /// Whether a server with OpenAI's API counts tokens by Anthropic's too, as llama.cpp and vLLM do: it misses the fields of a
    /// request that has none. llama.cpp does so with status 500.
    async fn counter(&self) -> RouteProbe {
        if self.target.api.dialect() == Dialect::Anthropic {
            return RouteProbe::Unknown;
        }
        let url = self.target.endpoint(Operation::CountTokens);
        match self.send(Method::POST, url.as_str(), Some(json!({}))).await {
            Err(_) => RouteProbe::Unknown,
            Ok(answer) => match answer.status().as_u16() {
                401 | 403 => RouteProbe::KeyRefused,
                400 | 422 | 500 => RouteProbe::Served,
                // LM Studio answers 200 at every path.
                200 | 404 | 405 | 501 => RouteProbe::NotServed,
                _ => RouteProbe::Unknown,
            },
        }
    }

    /// The address of the server without the path of OpenAI's API.
    fn root(&self) -> String {
        let mut models = self.target.models();
        models.set_query(None);
        let base = models.as_str().strip_suffix("/models").unwrap_or_default();
        base.strip_suffix("/v1").unwrap_or(base).to_owned()
    }

    /// Each server knows one of the three routes.
    async fn capabilities(&self, root: &str, model: &str) -> Capabilities {
        let (props, studio) = (format!("{root}/props"), format!("{root}/api/v0/models"));
        let (show, running) = (format!("{root}/api/show"), format!("{root}/api/ps"));
        let (props, studio, show, running) = futures::join!(
            self.json(Method::GET, &props, None),
            self.json(Method::GET, &studio, None),
            self.json(Method::POST, &show, Some(json!({"model": model}))),
            self.json(Method::GET, &running, None),
        );
        let props = props.map(|props| of_llama(&props)).unwrap_or_default();
        // LM Studio also answers Ollama's route, with less detail.
        if props.context_length.is_some() {
            return props;
        }
        let studio = studio.map(|list| of_lm_studio(&list, model)).unwrap_or_default();
        let ollama = show.map(|show| of_ollama(&show, running.ok().as_ref(), model)).unwrap_or_default();
        studio.or(ollama)
    }

    async fn json(&self, method: Method, url: &str, body: Option<Value>) -> Result<Value, ModelProbeError> {
        let no_list = |error: reqwest::Error| ModelProbeError::NoList(reason(&error.without_url()));
        let mut answer = self.send(method, url, body).await.map_err(no_list)?;
        match answer.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(ModelProbeError::Key { sent: self.target.credential.is_some() });
            }
            status if !status.is_success() => {
                return Err(ModelProbeError::NoList(format!("it answers {}", status.as_u16())));
            }
            _ => {}
        }
        let mut bytes = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(no_list)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_BODY {
                return Err(ModelProbeError::NoList(format!("its answer has more than {MAX_BODY} bytes")));
            }
        }
        serde_json::from_slice(&bytes)
            .map_err(|_| ModelProbeError::NoList("its answer is not JSON".to_owned()))
    }

    async fn send(&self, method: Method, url: &str, body: Option<Value>) -> reqwest::Result<Response> {
        let mut request: RequestBuilder = self.http.request(method, url).timeout(PROBE_TIMEOUT);
        if self.target.api.dialect() == Dialect::Anthropic {
            request = request.header("anthropic-version", "2023-06-01");
        }
        if let Some(key) = self.target.credential.as_ref().map(secrecy::ExposeSecret::expose_secret) {
            request = match self.target.auth() {
                Auth::Bearer => request.bearer_auth(key),
                Auth::XApiKey => request.header("x-api-key", key),
                Auth::ApiKey => request.header("api-key", key),
            };
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await
    }
}

fn reason(error: &reqwest::Error) -> String {
    match error.status() {
        Some(status) => format!("it answers {}", status.as_u16()),
        None if error.is_connect() => "it cannot be reached".to_owned(),
        None if error.is_timeout() => format!("it does not answer within {} s", PROBE_TIMEOUT.as_secs()),
        None => error.to_string(),
    }
}

fn of_llama(props: &Value) -> Capabilities {
    let flag = |pointer: &str| props.pointer(pointer).and_then(Value::as_bool);
    let context = number(props.pointer("/default_generation_settings/n_ctx"));
    Capabilities {
        tools: flag("/chat_template_caps/supports_tools"),
        vision: flag("/modalities/vision"),
        // It continues an assistant's message whenever it has a template.
        prefill: context.map(|_| true),
        context_length: context,
        ..Capabilities::default()
    }
}

fn of_lm_studio(list: &Value, model: &str) -> Capabilities {
    let models = list.get("data").and_then(Value::as_array).into_iter().flatten();
    let Some(entry) = models.into_iter().find(|entry| text(entry, "id").as_deref() == Some(model)) else {
        return Capabilities::default();
    };
    let kind = text(entry, "type");
    let listed = entry.get("capabilities").and_then(Value::as_array);
    Capabilities {
        tools: listed.map(|list| list.iter().any(|word| word == "tool_use")),
        vision: kind.as_deref().map(|kind| kind == "vlm"),
        prefill: None,
        embeddings: kind.as_deref().map(|kind| kind == "embeddings"),
        context_length: number(entry.get("loaded_context_length"))
            .or(number(entry.get("max_context_length"))),
        ..Capabilities::default()
    }
}

/// Ollama silently cuts prompts that are longer than the context with which it loaded the model. So that context counts once
/// the model is loaded; before that, the model's own maximum.
fn of_ollama(show: &Value, running: Option<&Value>, model: &str) -> Capabilities {
    let Some(listed) = show.get("capabilities").and_then(Value::as_array) else {
        return Capabilities::default();
    };
    let has = |word: &str| Some(listed.iter().any(|listed| listed == word));
    let loaded = running.and_then(|running| running.get("models")?.as_array()).and_then(|models| {
        let same = |entry: &&Value| {
            text(entry, "name").as_deref() == Some(model) || text(entry, "model").as_deref() == Some(model)
        };
        number(models.iter().find(same)?.get("context_length"))
    });
    let bound = show.get("model_info").and_then(Value::as_object).and_then(|info| {
        number(info.iter().find(|(key, _)| key.ends_with(".context_length")).map(|(_, value)| value))
    });
    Capabilities {
        tools: has("tools"),
        vision: has("vision"),
        prefill: None,
        embeddings: has("embedding"),
        context_length: loaded.or(bound),
        ..Capabilities::default()
    }
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

fn number(value: Option<&Value>) -> Option<u32> {
    value?.as_u64().and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_tells_in_its_own_way() {
        let llama = of_llama(&json!({
            "default_generation_settings": {"n_ctx": 2048},
            "modalities": {"vision": false}, "chat_template_caps": {"supports_tools": true},
        }));
        let expected = (Some(true), Some(false), Some(true), Some(2048));
        assert_eq!((llama.tools, llama.vision, llama.prefill, llama.context_length), expected);

        let list = json!({"data": [
            {"id": "other", "type": "llm"},
            {"id": "m", "type": "vlm", "capabilities": ["tool_use"], "max_context_length": 32768, "loaded_context_length": 4096},
        ]});
        let studio = of_lm_studio(&list, "m");
        assert_eq!((studio.tools, studio.vision, studio.embeddings), (Some(true), Some(true), Some(false)));
        assert_eq!(studio.context_length, Some(4096));
        assert_eq!(of_lm_studio(&list, "unknown"), Capabilities::default());

        let show =
            json!({"capabilities": ["completion", "tools"], "model_info": {"qwen3.context_length": 40960}});
        let running = json!({"models": [{"name": "m", "context_length": 4096}]});
        let ollama = of_ollama(&show, Some(&running), "m");
        assert_eq!(
            (ollama.tools, ollama.vision, ollama.context_length),
            (Some(true), Some(false), Some(4096))
        );
        assert_eq!(of_ollama(&show, None, "m").context_length, Some(40960));
    }

    #[test]
    fn other_answers_report_nothing() {
        for strange in [json!(null), json!([]), json!({"error": "no such route"}), json!("x")] {
            assert_eq!(of_llama(&strange), Capabilities::default());
            assert_eq!(of_lm_studio(&strange, "m"), Capabilities::default());
            assert_eq!(of_ollama(&strange, Some(&strange), "m"), Capabilities::default());
        }
    }
}
