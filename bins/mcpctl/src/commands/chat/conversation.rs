//! A conversation on the terminal: question after question, and commands that begin with a slash.

use mcpctl_client::Client;

use super::{
    Chat,
    answer::Fallback,
    editor::{Editor, Typed},
    history::History,
    slash,
};
use crate::{
    failure::Failure,
    output::{self, Tone},
};

/// Talks until the person ends it.
pub async fn converse(mut chat: Chat, keeps_history: bool) -> Result<(), Failure> {
    let history = if keeps_history { History::open() } else { History::none() };
    let mut editor = Editor::new(history, names(&chat.through.client).await)?;
    let way = if chat.through.agent.is_some() { "through mcplocal" } else { "straight at mcpd" };
    note!("talking to `{}` {way}; /help shows commands, Ctrl-D ends", chat.request.model);
    loop {
        let last = chat.turns.last().and_then(|turn| turn.answer.as_ref());
        let standing = last.filter(|last| last.model == chat.request.model);
        let fallback = standing.and_then(|last| last.fallback.clone());
        let text = match editor.read(&prompt(&chat.request.model, fallback.as_ref()), fallback.is_some())? {
            Typed::Text(text) => text,
            Typed::End => return Ok(()),
        };
        let question = match slash::command_of(&text) {
            None => Some(text),
            Some(command) => match slash::run(&mut chat, command).await {
                Ok(slash::Next::Ask(question)) => Some(question),
                Ok(slash::Next::Read) => None,
                Ok(slash::Next::End) => return Ok(()),
                Err(failure) => {
                    output::report(&failure);
                    None
                }
            },
        };
        if let Some(question) = question {
            ask(&mut chat, question, fallback.as_ref()).await;
        }
    }
}

/// The models that can be asked, for completion; none where they cannot be listed.
async fn names(client: &Client) -> Vec<String> {
    client.models().await.map(|models| models.into_iter().map(|model| model.id).collect()).unwrap_or_default()
}

/// The prompt shows who answered last, where that is not the Llm itself.
fn prompt(llm: &str, fallback: Option<&Fallback>) -> String {
    let llm = output::one_line(llm);
    match fallback {
        None => format!("{llm}> "),
        Some(Fallback { name, is_local: true, .. }) => format!("{llm} (local: {name})> "),
        Some(Fallback { name, .. }) => format!("{llm} (fallback: {name})> "),
    }
}

async fn ask(chat: &mut Chat, question: String, before: Option<&Fallback>) {
    // Ctrl-C ends the answer and not the conversation; dropping the request cancels it up to the model.
    let ended = tokio::select! {
        ended = chat.ask(question) => ended,
        _ = tokio::signal::ctrl_c() => {
            note!("");
            note!(Tone::Warning, "[stopped; the conversation goes on without this question]"; "");
            return;
        }
    };
    match ended {
        Ok(answer) if before.is_some() && answer.fallback.is_none() => {
            note!(Tone::Good, &format!("[back at `{}`: it answers itself again]", answer.model); "");
        }
        Ok(_) => {}
        Err(failure) => {
            output::report(&failure);
        }
    }
}
