//! A conversation as a file: JSON for programs, Markdown for people. Only its user may read it.

use std::{ffi::OsStr, fmt::Write as _, path::Path};

use mcpctl_owner::file;
use serde_json::json;

use super::{Chat, Turn};
use crate::failure::Failure;

/// Writes the conversation, whole or not at all, in place of a file that is there.
pub fn save(chat: &Chat, path: &Path) -> Result<(), Failure> {
    let text = match path.extension().and_then(OsStr::to_str) {
        Some("json") => format!("{}\n", serde_json::to_string_pretty(&as_json(chat))?),
        _ => markdown(chat),
    };
    Ok(file::replace(path, text.as_bytes())?)
}

fn as_json(chat: &Chat) -> serde_json::Value {
    let system = chat.system.iter().map(|system| json!({"role": "system", "content": system}));
    let turns = chat.turns.iter().map(|turn| match &turn.answer {
        None => json!({"role": "user", "content": turn.text}),
        Some(answer) => {
            let mut message = answer.json();
            if let Some(members) = message.as_object_mut() {
                members.insert("role".to_owned(), "assistant".into());
            }
            message
        }
    });
    json!({"model": chat.request.model, "messages": system.chain(turns).collect::<Vec<_>>()})
}

fn markdown(chat: &Chat) -> String {
    let mut text = String::new();
    if let Some(system) = &chat.system {
        let _ = writeln!(text, "## Instructions\n\n{system}\n");
    }
    for Turn { text: message, answer } in &chat.turns {
        let author = match answer {
            None => "You".to_owned(),
            Some(answer) => match &answer.fallback {
                None => answer.model.clone(),
                Some(fallback) => format!("{} in place of {}", fallback.name, answer.model),
            },
        };
        let _ = writeln!(text, "## {author}\n\n{}\n", message.trim_end());
    }
    text
}
