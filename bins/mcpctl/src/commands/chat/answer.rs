//! One answer: shown as it comes, with who gave it, in how many tokens and how fast.

use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use anstream::{AutoStream, ColorChoice};
use jiff::Timestamp;
use mcpctl_api::agent::FailoverOutcome;
use mcpctl_client::{ChatRequest, Client, ClientError, Delta, ServedBy};
use mcpctl_dialect::usage::Usage;
use serde_json::{Value, json};

use super::{explain, progress::Progress, way::Through};
use crate::{
    failure::Failure,
    llm_choice,
    output::{
        Tone,
        markdown::Markdown,
        one_line,
        terminal::{self, TextStream},
    },
};

/// Longest answer that is kept, with what the model thinks; an event has at most 1 MiB more.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// Width of a terminal that does not report it.
const DEFAULT_WIDTH: u16 = 80;

/// How an answer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Markdown laid out.
    Rendered,
    /// As the model wrote it.
    Raw,
    /// Not while it comes.
    Nothing,
}

impl Shown {
    /// Laid out on a terminal with colours, else as the model wrote it.
    pub fn fitting() -> Self {
        let out = std::io::stdout();
        let is_plain = std::env::var("TERM").is_ok_and(|terminal| terminal == "dumb");
        match out.is_terminal() && !is_plain && AutoStream::choice(&out) != ColorChoice::Never {
            true => Self::Rendered,
            false => Self::Raw,
        }
    }
}

/// An answer that is complete.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The Llm that was asked.
    pub model: String,
    /// The text.
    pub content: String,
    /// Who answered in its place.
    pub fallback: Option<Fallback>,
    served_by: ServedBy,
    reasoning: String,
    usage: Option<Usage>,
    finish_reason: Option<String>,
    /// From the request to the first text or thought.
    first: Duration,
    total: Duration,
}

/// Who answered in place of the Llm that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// The local provider, or the other Llm.
    pub name: String,
    /// Whether it is a model of this machine.
    pub is_local: bool,
    /// The failure class of the Llm.
    class: String,
}

impl Fallback {
    /// Why it answered.
    pub fn reason(&self) -> &str {
        explain::class(&self.class)
    }
}

impl Answer {
    /// The answer for programs.
    pub fn json(&self) -> Value {
        let usage = self.usage.map(|usage| {
            json!({
                "inputTokens": usage.input_tokens,
                "outputTokens": usage.output_tokens,
                "cachedInputTokens": usage.cached_input_tokens,
                "reasoningTokens": usage.reasoning_tokens,
            })
        });
        let fallback = self.fallback.as_ref();
        json!({
            "model": self.model,
            "servedBy": self.served_by.name,
            "local": fallback.is_some_and(|fallback| fallback.is_local) || self.model.starts_with("local/"),
            "failover": fallback.map(|fallback| json!({
                "class": fallback.class,
                "reason": fallback.reason(),
            })),
            "attempts": self.served_by.attempts,
            "content": self.content,
            "reasoning": (!self.reasoning.is_empty()).then_some(&self.reasoning),
            "finishReason": self.finish_reason,
            "usage": usage,
            "time": {
                "firstTokenMs": milliseconds(self.first),
                "totalMs": milliseconds(self.total),
                "tokensPerSecond": self.rate().map(|rate| (rate * 10.0).round() / 10.0),
            },
        })
    }

    /// Tokens and times in one line.
    pub fn stats(&self) -> String {
        let tokens = self.usage.map_or_else(
            || "tokens not reported".to_owned(),
            |usage| format!("tokens: {} in, {} out", usage.input_tokens, usage.output_tokens),
        );
        let rate = self.rate().map(|rate| format!(", {rate:.1} tokens/s")).unwrap_or_default();
        let (first, total) = (self.first.as_secs_f64(), self.total.as_secs_f64());
        format!("[{tokens}; first after {first:.1} s, all in {total:.1} s{rate}]")
    }

    /// Tokens a second after the first one.
    fn rate(&self) -> Option<f64> {
        let tokens = u32::try_from(self.usage?.output_tokens).ok().filter(|tokens| *tokens > 1)?;
        let time = self.total.checked_sub(self.first)?.as_secs_f64();
        (time > 0.0).then(|| f64::from(tokens - 1) / time)
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Sends a request and shows the answer; after a failure prints why no local provider answered.
pub async fn exchange(through: &Through, request: &ChatRequest, shown: Shown) -> Result<Answer, Failure> {
    let began_at = Timestamp::now();
    let mut answer = Answer {
        model: request.model.clone(),
        content: String::new(),
        fallback: None,
        served_by: ServedBy::default(),
        reasoning: String::new(),
        usage: None,
        finish_reason: None,
        first: Duration::ZERO,
        total: Duration::ZERO,
    };
    let mut screen = Screen::new(shown);
    let ended = receive(through, request, &mut answer, &mut screen, began_at).await;
    // Also after a failure: a half answer is shown as far as it came.
    screen.end()?;
    match ended {
        Ok(()) => Ok(answer),
        Err(NoAnswer { failure, no_failover, is_refused }) => {
            // Once there is text, a model has answered, whatever ended it.
            if let (Some(agent), true) = (&through.agent, answer.content.is_empty()) {
                explain::no_failover(agent, &request.model, began_at, no_failover.as_deref()).await;
            }
            // A name that is not known is refused as one that is not allowed.
            if is_refused && let Some(hint) = llm_choice::in_place_of(&through.client, &request.model).await {
                return Err(failure.hint(hint));
            }
            Err(match failure.parts() {
                (_, None) => {
                    failure.hint(format!("what is wrong on the way: mcpctl doctor --llm {}", request.model))
                }
                _ => failure,
            })
        }
    }
}

/// Why there is no whole answer.
struct NoAnswer {
    failure: Failure,
    /// Why no local provider answered, in the agent's word.
    no_failover: Option<String>,
    /// Whether mcpd does not let the account run the Llm, or knows none of the name.
    is_refused: bool,
}

impl From<Failure> for NoAnswer {
    fn from(failure: Failure) -> Self {
        Self { failure, no_failover: None, is_refused: false }
    }
}

async fn receive(
    through: &Through,
    request: &ChatRequest,
    answer: &mut Answer,
    screen: &mut Screen,
    began_at: Timestamp,
) -> Result<(), NoAnswer> {
    let begun = Instant::now();
    let llm = &request.model;
    let mut progress = Progress::new(through.agent.as_ref(), llm);
    let stream = progress.show_while(through.client.chat(request)).await;
    let mut stream = stream.map_err(|error| {
        let no_failover = match &error {
            ClientError::Refused { error, .. } => error.no_failover.clone(),
            _ => None,
        };
        let is_refused = error.status().is_some_and(|status| matches!(status.as_u16(), 403 | 404));
        NoAnswer { failure: explain::failure(error, &through.renewal, llm), no_failover, is_refused }
    })?;
    if let (Some(_), Some(provider)) = (&stream.served_by.failover, &stream.served_by.name) {
        progress.falls_back_to(provider);
    }
    // During a cold start the response begins with comments, long before the first token.
    let mut next = progress.show_while(stream.next()).await;
    answer.served_by = stream.served_by.clone();
    if !matches!(next, Some(Delta::Broken(_))) {
        answer.fallback = fallback(through.agent.as_ref(), llm, &answer.served_by, began_at).await;
        if let Some(fallback) = &answer.fallback {
            mark(llm, fallback);
        }
    }
    while let Some(delta) = next {
        if answer.first.is_zero() && matches!(delta, Delta::Text(_) | Delta::Reasoning(_)) {
            answer.first = begun.elapsed();
        }
        match delta {
            Delta::Text(piece) => {
                screen.text(&piece)?;
                answer.content.push_str(&piece);
            }
            Delta::Reasoning(piece) => {
                screen.reasoning(&piece)?;
                answer.reasoning.push_str(&piece);
            }
            Delta::Finished(reason) => answer.finish_reason = Some(reason),
            Delta::Usage(usage) => answer.usage = Some(usage),
            Delta::Broken(broken) => {
                let hint = explain::next_step(broken.code.as_deref(), llm);
                if !answer.content.is_empty() {
                    let failure = Failure::new(format!("the answer is not complete: {}", broken.message));
                    return Err(failure.hint(hint.unwrap_or_else(|| "ask again".to_owned())).into());
                }
                let failure = Failure::new(broken.message);
                return Err(match hint {
                    Some(hint) => failure.hint(hint).into(),
                    None => failure.into(),
                });
            }
        }
        if answer.content.len().saturating_add(answer.reasoning.len()) > MAX_ANSWER_BYTES {
            let mebibytes = MAX_ANSWER_BYTES >> 20;
            let failure =
                Failure::new(format!("the answer is not complete: it is longer than {mebibytes} MiB"));
            return Err(failure.hint("bound it with --max-tokens").into());
        }
        next = stream.next().await;
    }
    answer.total = begun.elapsed();
    if answer.finish_reason.as_deref() == Some("length") {
        screen.end()?;
        note!(Tone::Warning, "[the answer is cut: it has as many tokens as it may have]"; "");
    }
    Ok(())
}

/// Who answered in place of the Llm; that it is a model of this machine the agent knows.
async fn fallback(
    agent: Option<&Client>,
    llm: &str,
    served_by: &ServedBy,
    since: Timestamp,
) -> Option<Fallback> {
    let class = one_line(served_by.failover.as_deref()?);
    let name = one_line(served_by.name.as_deref().unwrap_or("another model"));
    let status = match agent {
        Some(agent) => agent.local_status().await.ok(),
        None => None,
    };
    let is_local = status.and_then(|status| status.last_failover).is_some_and(|last| {
        let is_this = last.llm == llm && last.provider == name && last.at >= since;
        is_this && last.outcome == FailoverOutcome::Served
    });
    Some(Fallback { name, is_local, class })
}

/// Prints above an answer that it is not the primary's, and why.
fn mark(llm: &str, fallback: &Fallback) {
    let (Fallback { name, is_local, .. }, why) = (fallback, fallback.reason());
    let text = match is_local {
        true => format!(
            "[LOCAL MODEL: answered by the fallback `{name}` on this machine, in place of `{llm}`: {why}]"
        ),
        false => format!("[answered by the fallback `{name}`, in place of `{llm}`: {why}]"),
    };
    note!(Tone::Marked, &text; "");
}

/// Where an answer is written.
struct Screen {
    out: Out,
    /// Whether the last character is no line end.
    is_open: bool,
    thinks: bool,
}

enum Out {
    Rendered(Markdown),
    Raw(TextStream<std::io::StdoutLock<'static>>),
    Nothing,
}

impl Screen {
    fn new(shown: Shown) -> Self {
        let out = match shown {
            Shown::Rendered => {
                let width = terminal::width().unwrap_or(DEFAULT_WIDTH);
                Out::Rendered(Markdown::new(usize::from(width)))
            }
            Shown::Raw => Out::Raw(terminal::stream()),
            Shown::Nothing => Out::Nothing,
        };
        Self { out, is_open: false, thinks: false }
    }

    fn text(&mut self, piece: &str) -> Result<(), Failure> {
        self.end_reasoning()?;
        self.is_open = true;
        match &mut self.out {
            Out::Rendered(markdown) => write_out(&markdown.push(piece))?,
            Out::Raw(stream) => {
                stream.write_all(piece.as_bytes())?;
                stream.flush()?;
            }
            Out::Nothing => {}
        }
        Ok(())
    }

    /// What the model thinks, dimmed. A program at the other end of a pipe gets the answer alone.
    fn reasoning(&mut self, piece: &str) -> Result<(), Failure> {
        if matches!(self.out, Out::Rendered(_)) {
            self.thinks = true;
            write_out(&terminal::dimmed(piece))?;
        }
        Ok(())
    }

    fn end_reasoning(&mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.thinks) {
            write_out("\n\n")?;
        }
        Ok(())
    }

    /// Ends the last line.
    fn end(&mut self) -> Result<(), Failure> {
        self.end_reasoning()?;
        if !std::mem::take(&mut self.is_open) {
            return Ok(());
        }
        match &mut self.out {
            Out::Rendered(markdown) => write_out(&markdown.finish())?,
            Out::Raw(stream) => {
                writeln!(stream)?;
                stream.flush()?;
            }
            Out::Nothing => {}
        }
        Ok(())
    }
}

impl Drop for Screen {
    /// An answer that is interrupted leaves the terminal at the beginning of a line.
    fn drop(&mut self) {
        let _ = self.end();
    }
}

fn write_out(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
