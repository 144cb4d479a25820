//! A model that answers by what a request has, for tests of real clients: [`ModelServer::answer_with`](crate::model_server::ModelServer::answer_with).
//! It calls the tools that it is given, reports the results, writes what a schema asks for, and counts images; and it refuses what
//! the provider's documentation does not allow. It reads the three APIs by itself, so that a mistake in `dialect` is not repeated here.

mod chat;
mod messages;
mod responses;

use serde_json::{Value, json};

use crate::model_server::{RecordedRequest, Reply};

/// The arguments of its calls, one call each where calls may be parallel. A tool of its has the property `city`.
pub const CITIES: [&str; 2] = ["Oslo", "Rome"];

/// What a prompt begins with that it thinks about first, whether the request asks for reasoning or not, as many models do.
pub const THINK: &str = "Think first.";

/// What it thinks then, and where a request asks for reasoning.
pub const THOUGHT: &str = "Let me see.";

/// A prompt that it answers with 429 and a `Retry-After` of a minute.
pub const LIMITED: &str = "Reach the rate limit";

/// A prompt whose streamed answer it cuts after two words.
pub const CUT: &str = "Break off";

/// A request as the model understands it.
#[derive(Debug, Default)]
struct Conversation {
    system: String,
    turns: Vec<Turn>,
    tools: Vec<Tool>,
    /// One call at a time.
    sequential: bool,
    /// A call is required.
    forced: bool,
    /// No call is allowed.
    forbidden: bool,
    schema: Option<Value>,
    reasoning: bool,
}

#[derive(Debug)]
struct Tool {
    name: String,
    schema: Value,
}

#[derive(Debug, Default)]
struct Turn {
    assistant: bool,
    text: String,
    images: usize,
    calls: Vec<String>,
    /// Ids and texts.
    results: Vec<(String, String)>,
}

/// Why a provider refuses a request: the field, and words.
#[derive(Debug)]
struct Refusal {
    param: String,
    message: String,
}

impl Refusal {
    fn new(param: &str, message: &str) -> Self {
        Self { param: param.to_owned(), message: format!("`{param}`: {message}") }
    }
}

type Read<T> = Result<T, Refusal>;

/// The reply to a request of any API.
pub fn reply_to(request: &RecordedRequest) -> Reply {
    let path = request.path.split('?').next().unwrap_or_default();
    let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
        return Reply::error(400, "the body is not JSON", "invalid_json");
    };
    let messages = path.contains("/messages");
    let read = match path.rsplit('/').next() {
        Some("messages" | "count_tokens") => messages::read(&body, path.ends_with("/messages")),
        Some("responses") => responses::read(&body),
        Some("completions") if path.ends_with("/chat/completions") => chat::read(&body),
        Some("completions") => Ok(Conversation {
            turns: vec![Turn {
                text: body["prompt"].as_str().unwrap_or_default().to_owned(),
                ..Turn::default()
            }],
            ..Conversation::default()
        }),
        _ => Ok(Conversation::default()),
    };
    let refused = |status: u16, kind: &str, param: Value, message: &str| {
        let error = json!({ "type": kind, "message": message });
        let body = if messages {
            json!({ "type": "error", "error": error, "request_id": "req_1" })
        } else {
            json!({ "error": { "message": message, "type": kind, "code": null, "param": param } })
        };
        Reply::status(status, body.to_string()).header("content-type", "application/json")
    };
    match read.and_then(|conversation| conversation.check().map(|()| conversation)) {
        Err(Refusal { param, message }) => refused(400, "invalid_request_error", json!(param), &message),
        Ok(conversation) if conversation.last_text().contains(LIMITED) => {
            let kind = if messages { "rate_limit_error" } else { "requests" };
            refused(429, kind, Value::Null, "too many requests").header("retry-after", "60")
        }
        Ok(conversation) => conversation.answer(),
    }
}

impl Conversation {
    /// The rules that all three APIs share: every call has its result in what follows, and nothing else comes first.
    fn check(&self) -> Read<()> {
        if self.tools.is_empty() && self.forced {
            return Err(Refusal::new("tool_choice", "there are no tools"));
        }
        for tool in &self.tools {
            if tool.schema["type"] != "object" {
                return Err(Refusal::new("tools", "a schema is not an object"));
            }
        }
        let mut open: Vec<&str> = Vec::new();
        for turn in &self.turns {
            for (id, _) in &turn.results {
                let Some(at) = open.iter().position(|open| open == id) else {
                    return Err(Refusal::new("messages", &format!("no call has the id {id}")));
                };
                open.remove(at);
            }
            let image = turn.images > 0 && turn.results.is_empty();
            let more = !turn.text.is_empty() || image || turn.assistant;
            if more && !open.is_empty() {
                return Err(Refusal::new("messages", &format!("there is no result of {open:?}")));
            }
            open.extend(turn.calls.iter().map(String::as_str));
        }
        if open.is_empty() { Ok(()) } else { Err(Refusal::new("messages", "the last call has no result")) }
    }

    /// What came after the model's last words.
    fn news(&self) -> &[Turn] {
        let begin = self.turns.iter().rposition(|turn| turn.assistant).map_or(0, |at| at + 1);
        &self.turns[begin..]
    }

    fn last_text(&self) -> String {
        self.news().iter().map(|turn| turn.text.as_str()).collect()
    }

    fn answer(&self) -> Reply {
        let images: usize = self.news().iter().map(|turn| turn.images).sum();
        let results: Vec<&str> =
            self.news().iter().flat_map(|turn| &turn.results).map(|(_, text)| text.as_str()).collect();
        let text = if !results.is_empty() {
            let seen = if images > 0 { format!(" and {images} image") } else { String::new() };
            format!("It is {}{seen}.", results.join(" and "))
        } else if let Some(tool) = self.tools.first().filter(|_| !self.forbidden) {
            let count = if self.sequential { 1 } else { CITIES.len() };
            let arguments: Vec<String> =
                CITIES[..count].iter().map(|city| json!({ "city": city }).to_string()).collect();
            let calls: Vec<(&str, &str)> =
                arguments.iter().map(|arguments| (tool.name.as_str(), arguments.as_str())).collect();
            return self.thinking(Reply::tool_calls(&calls));
        } else if let Some(schema) = &self.schema {
            let name = schema["properties"]["name"]["enum"][0].as_str().unwrap_or("Mia");
            json!({ "name": name }).to_string()
        } else if images > 0 {
            format!("I see {images} image.")
        } else {
            let manner = if self.system == "Be brief." { "Briefly" } else { "You said" };
            format!("{manner}: {}", self.last_text())
        };
        let reply = self.thinking(Reply::text(&text));
        if self.last_text().contains(CUT) { reply.cut_after(2) } else { reply }
    }

    fn thinking(&self, reply: Reply) -> Reply {
        let thinks = self.reasoning || self.turns.iter().any(|turn| turn.text.starts_with(THINK));
        if thinks { reply.reasoning(THOUGHT) } else { reply }
    }
}

/// Refuses keys that the provider's documentation does not have.
fn known(body: &Value, keys: &str) -> Read<()> {
    let unknown = |key: &&String| !keys.split_whitespace().any(|known| known == *key);
    match body.as_object().into_iter().flat_map(serde_json::Map::keys).find(unknown) {
        Some(key) => Err(Refusal::new(key, "unknown field")),
        None => Ok(()),
    }
}

fn list<'a>(value: &'a Value, param: &str) -> Read<&'a Vec<Value>> {
    value.as_array().ok_or_else(|| Refusal::new(param, "a list is needed"))
}

fn string<'a>(value: &'a Value, param: &str) -> Read<&'a str> {
    value.as_str().ok_or_else(|| Refusal::new(param, "a string is needed"))
}

fn tool(of: &Value, schema: &Value) -> Read<Tool> {
    Ok(Tool { name: string(&of["name"], "tools")?.to_owned(), schema: schema.clone() })
}

/// An image by its data URL.
fn is_image(url: &Value) -> bool {
    url.as_str().is_some_and(|url| url.starts_with("data:image/png;base64,iVBOR"))
}
