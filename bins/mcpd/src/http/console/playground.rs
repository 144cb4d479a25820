//! The playground: a prompt, the model's answer, and who gave it. With a script the answer appears as it is written; without one it comes
//! as a page. Either way it is a request as every other: authorized, counted, limited, recorded, and falling back.

use std::{sync::Arc, time::Instant};

use askama::Template;
use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use bytesize::ByteSize;
use mcpctl_access::{Permit, verb::Run};
use mcpctl_api::{
    ApiError, Kind, Name,
    error::ErrorBody,
    header::{ATTEMPTS, FAILOVER, SERVED_BY},
};
use mcpctl_dialect::{Operation, error::UpstreamError};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    super::{error::HttpError, inference, query::Query},
    form::Form,
    frame::{Frame, Section},
    page,
    visit::Visit,
};
use crate::{app::App, caller::Caller};

/// Llms that can be chosen.
const MAX_LLMS: usize = 1000;
/// Longest answer that is shown as a page.
const MAX_ANSWER: ByteSize = ByteSize::mib(4);
/// By which the script asks for the answer as it is written.
const EVENTS: &str = "text/event-stream";

/// The query of the page.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlaygroundQuery {
    llm: String,
}

#[derive(Template)]
#[template(path = "playground.html")]
struct PlaygroundPage {
    frame: Frame,
    llms: Vec<Name>,
    form: PromptForm,
    answer: Option<Answer>,
}

impl PlaygroundPage {
    fn failed(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.error.is_some())
    }

    fn reasons(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| !answer.reasoning.is_empty())
    }
}

/// What was asked.
#[derive(Default, Deserialize)]
pub struct PromptForm {
    llm: String,
    #[serde(default)]
    system: String,
    prompt: String,
    #[serde(default)]
    temperature: String,
    #[serde(default)]
    max_tokens: String,
}

/// What came of it.
#[derive(Default)]
struct Answer {
    text: String,
    reasoning: String,
    error: Option<String>,
    served_by: String,
    failover: Option<String>,
    attempts: String,
    model: String,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    finish: Option<String>,
    millis: u128,
}

impl PromptForm {
    /// The request, as OpenAI's clients send it.
    fn request(&self, stream: bool) -> Result<Value, HttpError> {
        let mut messages = Vec::new();
        if !self.system.trim().is_empty() {
            messages.push(json!({"role": "system", "content": self.system}));
        }
        messages.push(json!({"role": "user", "content": self.prompt}));
        let mut request = json!({"model": self.llm, "messages": messages});
        if let Value::Object(request) = &mut request {
            if let Some(temperature) = number::<f64>("temperature", &self.temperature)? {
                // JSON has neither `NaN` nor infinity.
                if !temperature.is_finite() {
                    return Err(not_a_number("temperature", &self.temperature));
                }
                request.insert("temperature".to_owned(), temperature.into());
            }
            if let Some(most) = number::<u32>("max_tokens", &self.max_tokens)? {
                request.insert("max_tokens".to_owned(), most.into());
            }
            if stream {
                request.insert("stream".to_owned(), true.into());
                request.insert("stream_options".to_owned(), json!({"include_usage": true}));
            }
        }
        Ok(request)
    }
}

/// A field that may be left empty.
fn number<T: std::str::FromStr>(field: &str, text: &str) -> Result<Option<T>, HttpError> {
    let given = Some(text.trim()).filter(|text| !text.is_empty());
    given.map(str::parse).transpose().map_err(|_| not_a_number(field, text))
}

fn not_a_number(field: &str, text: &str) -> HttpError {
    HttpError::invalid(field, format!("`{text}` is not a number that `{field}` can be"))
}

/// Shows the form.
pub async fn page(
    visit: Visit,
    caller: Caller,
    query: Query<PlaygroundQuery>,
) -> Result<Response, HttpError> {
    let form = PromptForm { llm: query.0.llm, ..PromptForm::default() };
    page::show(StatusCode::OK, &made(&visit, &caller, form, None))
}

fn made(visit: &Visit, caller: &Caller, form: PromptForm, answer: Option<Answer>) -> PlaygroundPage {
    let permits = caller.snapshot.permitted_after::<Run>(&caller.principal, Kind::Llm, "");
    let llms = permits.take(MAX_LLMS).map(|permit: Permit<Run>| permit.resource().name().clone()).collect();
    let frame = Frame::new(visit, Some(Section::Playground), Section::Playground.label());
    PlaygroundPage { frame, llms, form, answer }
}

/// Sends the prompt.
pub async fn infer(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    headers: HeaderMap,
    Form(form): Form<PromptForm>,
) -> Result<Response, HttpError> {
    if headers.get(header::ACCEPT).is_some_and(|accepted| accepted == EVENTS) {
        return Box::pin(sent(&app, &caller, &form, true)).await;
    }
    let begun = Instant::now();
    let answered = async { read(Box::pin(sent(&app, &caller, &form, false)).await?, begun).await };
    match answered.await {
        Ok(answer) => page::show(StatusCode::OK, &made(&visit, &caller, form, Some(answer))),
        Err(error) => {
            let answer = Answer { error: Some(with_hint(error.body())), ..Answer::default() };
            let page = made(&visit, &caller, form, Some(answer));
            // On the page, so that the prompt is not lost.
            if page.llms.is_empty() { Err(error) } else { page::refused(error, &page) }
        }
    }
}

/// The answer of the model, or of mcpd in its place.
async fn sent(
    app: &Arc<App>,
    caller: &Caller,
    form: &PromptForm,
    stream: bool,
) -> Result<Response, HttpError> {
    let body = serde_json::to_vec(&form.request(stream)?).map_err(|_| HttpError::internal())?;
    // None of the browser's headers is for the provider.
    let sent = inference::Sent::new(caller.clone(), HeaderMap::new(), body.into());
    inference::answer(app, Operation::Chat, None, sent).await
}

/// Reads a whole answer, or the error in its place.
async fn read(response: Response, begun: Instant) -> Result<Answer, HttpError> {
    let (parts, body) = response.into_parts();
    let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut answer = Answer {
        served_by: text(SERVED_BY).unwrap_or_default(),
        failover: text(FAILOVER),
        attempts: text(ATTEMPTS).unwrap_or_default(),
        ..Answer::default()
    };
    let most = usize::try_from(MAX_ANSWER.as_u64()).unwrap_or(usize::MAX);
    let body = axum::body::to_bytes(Body::new(body), most).await.map_err(|_| {
        HttpError::invalid("", format!("the answer is longer than {MAX_ANSWER}")).hint("ask for fewer tokens")
    })?;
    answer.millis = begun.elapsed().as_millis();
    if !parts.status.is_success() {
        answer.error = Some(message(parts.status, &body));
        return Ok(answer);
    }
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    let field = |pointer: &str| json.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    answer.text = field("/choices/0/message/content").unwrap_or_default();
    answer.reasoning = field("/choices/0/message/reasoning_content")
        .or_else(|| field("/choices/0/message/reasoning"))
        .unwrap_or_default();
    answer.model = field("/model").unwrap_or_default();
    answer.finish = field("/choices/0/finish_reason").filter(|reason| reason != "stop");
    answer.input_tokens = json.pointer("/usage/prompt_tokens").and_then(Value::as_u64);
    answer.output_tokens = json.pointer("/usage/completion_tokens").and_then(Value::as_u64);
    Ok(answer)
}

/// An error of mcpd, with its hint.
fn with_hint(error: &ErrorBody) -> String {
    let hint = error.hint.as_deref().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("{}{hint}", error.message)
}

/// What an error is, with its hint where mcpd wrote it.
fn message(status: StatusCode, body: &[u8]) -> String {
    if let Ok(ApiError { error }) = serde_json::from_slice(body) {
        return with_hint(&error);
    }
    let message = UpstreamError::read(body).message;
    message.unwrap_or_else(|| format!("the provider answered with status {}", status.as_u16()))
}
