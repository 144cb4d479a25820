//! One question to the model, its answer shown as it comes, and the progress of a cold start while it does not.

use std::time::Duration;

use anyhow::Result;
use mcpctl_api::agent::{EngineState, StartPhase};
use mcpctl_client::{ChatRequest, Client, ClientError, Delta, ServedBy};
use serde_json::json;

use xtask::printer::Printer;

use crate::world::LLM;

/// What the demo asks. Small models answer it at some length, so that streaming can be seen.
const QUESTION: &str = "Write a greeting and something nice about rivers, in two sentences.";

/// What came of a question.
#[derive(Debug)]
pub(crate) enum Reply {
    /// An answer, and who gave it.
    Answer { served_by: ServedBy, text: String },
    /// An error.
    Error { status: u16, code: String, message: String },
}

/// Asks through `client`; `status` is that of the agent, watched while nothing comes.
pub(crate) async fn ask(printer: &Printer, client: &Client, status: &Client) -> Result<Reply> {
    let messages = vec![json!({"role": "user", "content": QUESTION})];
    // Small models sometimes do not find an end.
    let chat = ChatRequest { model: LLM.to_owned(), messages, max_tokens: Some(60), temperature: None };
    let answer = client.chat(&chat);
    tokio::pin!(answer);
    let mut shown = String::new();
    let answer = loop {
        tokio::select! {
            answer = &mut answer => break answer,
            () = tokio::time::sleep(Duration::from_millis(30)) => {
                if let Some(progress) = progress(status).await.filter(|progress| *progress != shown) {
                    printer.note(&progress);
                    shown = progress;
                }
            }
        }
    };
    let mut stream = match answer {
        Ok(stream) => stream,
        Err(ClientError::Refused { status, error }) => {
            let code = error.error.code.clone().unwrap_or_default();
            let message = error.to_string();
            printer.seen(&format!("error {} ({code}): {message}", status.as_u16()));
            return Ok(Reply::Error { status: status.as_u16(), code, message });
        }
        Err(error) => return Err(error.into()),
    };
    let served_by = stream.served_by.clone();
    let mut text = String::new();
    printer.piece("     ");
    while let Some(delta) = stream.next().await {
        match delta {
            Delta::Text(piece) => {
                printer.piece(&piece);
                text.push_str(&piece);
            }
            Delta::Reasoning(_) | Delta::Finished(_) | Delta::Usage(_) => {}
            Delta::Broken(broken) => {
                printer.line_end();
                let (code, message) = ("broken_stream".to_owned(), broken.message);
                return Ok(Reply::Error { status: 200, code, message });
            }
        }
    }
    printer.line_end();
    let name = served_by.name.as_deref().unwrap_or("an unnamed server");
    match &served_by.failover {
        None => printer.seen(&format!("answered by `{name}`, centrally")),
        Some(class) => printer
            .seen(&format!("answered by the local provider `{name}`, because the primary failed: {class}")),
    }
    Ok(Reply::Answer { served_by, text })
}

/// What the local engine is at, while it starts.
async fn progress(status: &Client) -> Option<String> {
    let status = status.local_status().await.ok()?;
    let engine = status.providers.into_iter().next()?.engine?;
    if engine.state != EngineState::Starting {
        return None;
    }
    Some(match engine.phase? {
        StartPhase::Spawning => "the local engine is started".to_owned(),
        StartPhase::Loading => "it loads the weights".to_owned(),
        _ => "it answers its first request".to_owned(),
    })
}
