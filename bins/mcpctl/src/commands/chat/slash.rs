//! The commands of a conversation.

use std::path::Path;

use mcpctl_api::similar::most_similar;

use super::{Chat, compose, transcript};
use crate::{
    failure::Failure,
    llm_choice,
    output::{Tone, one_line, terminal},
};

/// A command, as `/help` shows it.
pub struct Command {
    /// With its slash.
    pub name: &'static str,
    argument: &'static str,
    about: &'static str,
}

impl Command {
    /// Its name as completion writes it: with a blank where something follows.
    pub fn completed(&self) -> String {
        format!("{}{}", self.name, if self.argument.is_empty() { "" } else { " " })
    }
}

/// All of them.
pub const COMMANDS: &[Command] = &[
    command("/help", "", "show this"),
    command("/model", "[LLM]", "ask another Llm, or show which one is asked and who answered last"),
    command(
        "/system",
        "[TEXT|-]",
        "give instructions for all that follows, show them, or with - take them back",
    ),
    command("/file", "FILE [TEXT]", "ask about a file"),
    command("/retry", "", "ask the last question again"),
    command("/save", "FILE", "save the conversation: JSON where FILE ends in .json, else Markdown"),
    command("/stats", "", "show tokens and times after each answer, or no longer"),
    command("/clear", "", "forget the conversation, and keep the instructions"),
    command("/quit", "", "end"),
];

const fn command(name: &'static str, argument: &'static str, about: &'static str) -> Command {
    Command { name, argument, about }
}

/// What happens after a command.
pub enum Next {
    /// The next line is read.
    Read,
    /// This is asked.
    Ask(String),
    /// The conversation ends.
    End,
}

/// The command that a text is: its first word is a slash and letters. A path is none.
pub fn command_of(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_end();
    let (name, argument) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let letters = name.strip_prefix('/')?;
    letters.chars().all(|c| c.is_ascii_alphabetic()).then(|| (name, argument.trim()))
}

/// Runs a command.
pub async fn run(chat: &mut Chat, (name, argument): (&str, &str)) -> Result<Next, Failure> {
    match name {
        "/help" => help(),
        "/model" => model(chat, argument).await?,
        "/system" => system(chat, argument),
        "/file" => return file(argument).map(Next::Ask),
        "/retry" => return retry(chat).map(Next::Ask),
        "/save" => save(chat, argument)?,
        "/stats" => {
            chat.stats = !chat.stats;
            note!(
                "tokens and times are {}",
                if chat.stats { "shown after each answer" } else { "not shown" }
            );
        }
        "/clear" => {
            chat.turns.clear();
            note!("the conversation begins anew");
        }
        "/quit" | "/exit" | "/bye" => return Ok(Next::End),
        _ => {
            let known = COMMANDS.iter().map(|command| command.name);
            let step = most_similar(name, known).map_or_else(
                || "/help shows all; a blank before it sends it as a question".to_owned(),
                |similar| format!("did you mean `{similar}`? A blank before it sends it as a question"),
            );
            return Err(Failure::usage(format!("`{}` is not a command", one_line(name))).hint(step));
        }
    }
    Ok(Next::Read)
}

fn help() {
    for Command { name, argument, about } in COMMANDS {
        let usage = format!("{name} {argument}");
        note!(Tone::Title, &format!("{usage:<20}"); " {about}");
    }
    note!(
        "a line that ends in \\, Alt-Enter or an open ``` goes on in the next; Ctrl-C stops an answer, Ctrl-D ends"
    );
}

async fn model(chat: &mut Chat, named: &str) -> Result<(), Failure> {
    if !named.is_empty() {
        // Where mcpd cannot be asked, the next question shows it.
        if let Some(hint) = llm_choice::in_place_of(&chat.through.client, named).await {
            let message = format!("{}; still asking `{}`", llm_choice::denied(named), chat.request.model);
            return Err(Failure::new(message).hint(hint));
        }
        named.clone_into(&mut chat.request.model);
        note!("asking `{named}` from here on");
        return Ok(());
    }
    note!("asking `{}`", chat.request.model);
    let last = chat.turns.iter().rev().find_map(|turn| turn.answer.as_ref());
    if let Some(last) = last {
        match &last.fallback {
            None => note!("`{}` gave the last answer itself", last.model),
            Some(fallback) => {
                let place = if fallback.is_local { "on this machine " } else { "" };
                note!(
                    Tone::Marked,
                    &format!("the fallback `{}` {place}gave the last answer, in place of `{}`", fallback.name, last.model);
                    ": {}", fallback.reason()
                );
            }
        }
    }
    if let Ok(models) = chat.through.client.models().await {
        let names: Vec<String> = models.into_iter().map(|model| model.id).collect();
        note!("there are: {}", names.join(", "));
    }
    Ok(())
}

fn system(chat: &mut Chat, text: &str) {
    match text {
        "" => match &chat.system {
            Some(system) => note!("{system}"),
            None => note!("no instructions; /system TEXT gives some"),
        },
        "-" => {
            chat.system = None;
            note!("without instructions from here on");
        }
        text => {
            chat.system = Some(text.to_owned());
            note!("with these instructions from here on");
        }
    }
}

fn file(argument: &str) -> Result<String, Failure> {
    let (path, question) = argument.split_once(char::is_whitespace).unwrap_or((argument, ""));
    if path.is_empty() {
        return Err(Failure::usage("which file?").hint("/file FILE [TEXT]"));
    }
    let path = Path::new(path);
    let text = compose::quoted(path, &compose::file(path, compose::MAX_BYTES)?);
    Ok(if question.trim().is_empty() { text } else { format!("{}\n\n{text}", question.trim()) })
}

fn retry(chat: &mut Chat) -> Result<String, Failure> {
    let last = chat.turns.iter().rposition(|turn| turn.answer.is_none());
    let Some(last) = last else { return Err(Failure::usage("there is no question yet")) };
    let question = chat.turns.get(last).map(|turn| turn.text.clone()).unwrap_or_default();
    chat.turns.truncate(last);
    Ok(question)
}

fn save(chat: &Chat, path: &str) -> Result<(), Failure> {
    if path.is_empty() {
        return Err(Failure::usage("where to?").hint("/save FILE"));
    }
    let path = Path::new(path);
    let shown = one_line(&path.display().to_string());
    if path.exists() && !terminal::confirm(&format!("`{shown}` is there; replace it?"))? {
        note!("nothing was saved");
        return Ok(());
    }
    transcript::save(chat, path)?;
    note!("saved in `{shown}`");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_no_command() {
        assert_eq!(command_of("/model gpt "), Some(("/model", "gpt")));
        assert_eq!(command_of("/help"), Some(("/help", "")));
        for text in ["/etc/passwd is what?", " /help", "a /help", "/a1", ""] {
            assert_eq!(command_of(text), None, "{text:?}");
        }
    }
}
