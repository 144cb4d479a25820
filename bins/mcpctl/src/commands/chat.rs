//! `mcpctl chat`: talk to a model, through the agent where one runs.

use std::{
    io::{IsTerminal as _, Read as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use jiff::Timestamp;
use mcpctl_api::{
    agent::{AgentStatus, EngineState, FailoverOutcome},
    error::{ACCESS_REVOKED, ACCESS_UNCONFIRMED},
};
use mcpctl_client::{
    ChatRequest, Client, ClientError, Delta, ServedBy,
    config::same_server,
    expiry::{self, ExpiryWarning},
};
use rustyline::{DefaultEditor, error::ReadlineError};
use serde_json::json;
use url::Url;

use crate::{
    Outcome, agent,
    context::{Global, Identity},
    failure::Failure,
    output::{self, Tone},
};

/// The Llm, and the way to it.
#[derive(clap::Args)]
pub struct Args {
    /// The Llm; may be left out where there is only one
    llm: Option<String>,
    /// Ask this and end; - reads it from standard input
    #[arg(long, short, value_name = "PROMPT")]
    prompt: Option<String>,
    /// Through mcplocal, or not at all
    #[arg(long, conflicts_with = "direct")]
    local: bool,
    /// Straight to mcpd, without mcplocal and its local models
    #[arg(long)]
    direct: bool,
}

/// Chats.
pub async fn run(global: &Global, args: Args) -> Outcome {
    // Mistakes on the command line are reported before any request is sent.
    let prompt = match args.prompt.as_deref() {
        Some("-") => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            Some(text.trim_end().to_owned())
        }
        Some(prompt) => Some(prompt.to_owned()),
        None if std::io::stdin().is_terminal() => None,
        None => {
            return Err(
                Failure::usage("there is no terminal to talk at").hint("say -p PROMPT, or -p - to read it")
            );
        }
    };
    if prompt.as_deref().is_some_and(|prompt| prompt.trim().is_empty()) {
        return Err(Failure::usage("the prompt is empty"));
    }
    let through = through(global, &args).await?;
    if let Some(warning) = &through.expiry {
        note!(Tone::Warning, "warning:"; " {warning}");
    }
    let llm = match args.llm {
        Some(llm) => llm,
        None => only_llm(&through.client, "mcpctl chat").await?,
    };
    let mut chat = ChatRequest { model: llm, messages: Vec::new(), max_tokens: None, temperature: None };
    match prompt {
        Some(prompt) => ask(&through, &mut chat, &prompt).await?,
        None => converse(&through, &mut chat).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The way to the model.
struct Through {
    client: Client,
    /// The agent, where the way leads through it, as this machine's user.
    agent: Option<Client>,
    /// The mcpd that decides.
    server: Url,
    /// A warning that the bearer ends soon.
    expiry: Option<ExpiryWarning>,
}

/// The way through the agent where it runs and forwards to the chosen server; else straight to mcpd.
async fn through(global: &Global, args: &Args) -> Result<Through, Failure> {
    let identity = global.identity();
    let agent = if args.direct { None } else { Some(agent::find().await) };
    let agent = match agent {
        Some(Ok(agent)) => agent,
        Some(Err(failure)) if args.local => return Err(failure),
        Some(Err(_)) | None => return straight(identity?),
    };
    match identity {
        Ok(identity) => {
            let theirs = &agent.status.server;
            if !same_server(theirs, &identity.server) {
                let message = format!("mcplocal speaks for {theirs}, not for {}", identity.server);
                if args.local {
                    return Err(Failure::new(message).hint("choose the context of its server with --context"));
                }
                note!("note: {message}, so this goes straight there");
                return straight(identity);
            }
            // The agent uses the credential of this machine's user, so a bearer of another user does not go through it.
            let current = global.config()?.1.current_context;
            let same_account = identity.context.as_ref().is_some_and(|context| {
                current.as_ref() == Some(&context.name)
                    && agent.status.signed_in_as == Some(context.account_label())
            });
            if identity.bearer.is_some() && !same_account {
                let message = "the chosen token is not the one that mcplocal acts with";
                if args.local {
                    return Err(Failure::new(message)
                        .hint("unset MCPCTL_TOKEN and leave out --context, or leave out --local"));
                }
                note!("note: {message}, so this goes straight to mcpd");
                return straight(identity);
            }
            let expiry = identity.context.as_ref().and_then(expiry::warning);
            Ok(Through {
                client: agent.client.clone(),
                agent: Some(agent.client),
                server: agent.status.server,
                expiry,
            })
        }
        // Without a chosen server the agent's own is used.
        Err(_) if global.chooses_nothing() => Ok(Through {
            client: agent.client.clone(),
            agent: Some(agent.client),
            server: agent.status.server,
            expiry: None,
        }),
        Err(failure) => Err(failure),
    }
}

fn straight(identity: Identity) -> Result<Through, Failure> {
    let expiry = identity.context.as_ref().and_then(expiry::warning);
    let server = identity.server.clone();
    Ok(Through { client: identity.client()?, agent: None, server, expiry })
}

/// The Llm that the account may run, where there is only one; `command` is what takes its name.
pub async fn only_llm(client: &Client, command: &str) -> Result<String, Failure> {
    let models = client.models().await?;
    let ids = models.iter().map(|model| model.id.as_str());
    let ids: Vec<&str> = ids.filter(|id| !id.contains('/')).collect();
    match ids.as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => Err(Failure::new("there is no Llm that you may run").hint("ask an administrator for access")),
        several => Err(Failure::usage("which Llm?").hint(format!("{command} {}", several.join(" | ")))),
    }
}

/// Warns of an Llm that the account may not run, with those that it may; of none where they cannot be asked for.
pub async fn check_llm(client: &Client, llm: &str) {
    let Ok(models) = client.models().await else { return };
    if models.iter().any(|model| model.id == llm) {
        return;
    }
    let known: Vec<String> = models.into_iter().map(|model| model.id).collect();
    note!(Tone::Warning, "warning:"; " `{llm}` is no Llm that you may run; there are: {}", known.join(", "));
}

async fn converse(through: &Through, chat: &mut ChatRequest) -> Result<(), Failure> {
    let mut editor = DefaultEditor::new().map_err(Failure::new)?;
    let way = if through.agent.is_some() { "through mcplocal" } else { "straight at mcpd" };
    note!("talking to `{}` {way}; Ctrl-D ends", chat.model);
    loop {
        match editor.readline("> ") {
            Ok(line) if line.trim().is_empty() => {}
            Ok(line) => {
                let _ = editor.add_history_entry(&line);
                let before = chat.messages.len();
                // Ctrl-C ends the answer and not the conversation; dropping the request cancels it up to the model.
                let ended = tokio::select! {
                    ended = ask(through, chat, &line) => ended,
                    _ = tokio::signal::ctrl_c() => {
                        note!("");
                        Err(Failure::new("stopped"))
                    }
                };
                if let Err(failure) = ended {
                    // The conversation continues without the message that was not answered.
                    chat.messages.truncate(before);
                    output::report(&failure);
                }
            }
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => return Ok(()),
            Err(error) => return Err(Failure::new(error)),
        }
    }
}

/// Sends a message and prints the answer; after a failure prints why no local provider answered.
async fn ask(through: &Through, chat: &mut ChatRequest, prompt: &str) -> Result<(), Failure> {
    let begun = Timestamp::now();
    let mut text = String::new();
    let answered = exchange(through, chat, prompt, &mut text).await;
    // Once there is text, a model has answered, whatever ended it.
    if let (Err(_), Some(agent), true) = (&answered, &through.agent, text.is_empty()) {
        explain_no_failover(agent, &chat.model, begun).await;
    }
    answered
}

/// Prints why no local provider answered; the primary's own error does not contain it.
async fn explain_no_failover(agent: &Client, llm: &str, since: Timestamp) {
    let Ok(status) = agent.local_status().await else { return };
    if let Some(why) = why_no_failover(&status, llm, since) {
        note!(Tone::Warning, &format!("[{}]", output::one_line(&why)); "");
    }
}

/// Why no local provider answered in place of the primary since then; `None` where that is not known.
fn why_no_failover(status: &AgentStatus, llm: &str, since: Timestamp) -> Option<String> {
    let last = status.last_failover.as_ref().filter(|last| last.llm == llm && last.at >= since);
    let Some(last) = last else {
        let covered = status.failovers.iter().any(|route| route.llm == llm);
        return (!covered && !llm.contains('/'))
            .then(|| format!("no local provider falls back for `{llm}`: none has it in `failoverFor`"));
    };
    let server = status.server.as_str().trim_end_matches('/');
    let (name, reason) = (&last.provider, last.reason.as_deref().unwrap_or_default());
    match (last.outcome, last.access.last().map(String::as_str)) {
        (FailoverOutcome::Failed, _) => {
            Some(format!("the local provider `{name}` could not be used: {reason}"))
        }
        (FailoverOutcome::Refused, Some("unreachable")) => {
            let reason = if reason.is_empty() { "no answer of mcpd" } else { reason };
            Some(format!(
                "mcpd at {server} cannot be asked ({reason}), and the local provider `{name}` may be used in place of \
                 `{llm}` only while mcpd allows it; for its own sake it can be: mcpctl chat local/{name}"
            ))
        }
        (FailoverOutcome::Refused, Some("forbidden")) if !reason.is_empty() => {
            Some(format!("the local provider `{name}` may not be used: {reason}"))
        }
        (FailoverOutcome::Refused, Some("forbidden")) => Some(format!(
            "mcpd at {server} does not allow you `{llm}`, so the local provider `{name}` may not be used in its place"
        )),
        _ => None,
    }
}

/// Sends a message, prints the answer as it streams, adds it to `text`, and both to the conversation.
async fn exchange(
    through: &Through,
    chat: &mut ChatRequest,
    prompt: &str,
    text: &mut String,
) -> Result<(), Failure> {
    chat.messages.push(json!({"role": "user", "content": prompt}));
    let mut progress = Progress::new(through.agent.as_ref());
    let mut stream = progress
        .show_while(through.client.chat(chat))
        .await
        .map_err(|error| explain(error, &through.server, &chat.model))?;
    // During a cold start the response begins with comments, long before the first token.
    let mut next = progress.show_while(stream.next()).await;
    if !matches!(next, Some(Delta::Broken(_))) {
        note_failover(&stream.served_by);
    }
    // Escapes control characters of the model on a terminal.
    let mut out = output::terminal::stream();
    while let Some(delta) = next {
        match delta {
            Delta::Text(piece) => {
                out.write_all(piece.as_bytes())?;
                out.flush()?;
                text.push_str(&piece);
            }
            Delta::Reasoning(_) | Delta::Finished(_) | Delta::Usage(_) => {}
            Delta::Broken(broken) if text.is_empty() => {
                let failure = Failure::new(broken.message);
                return Err(match next_step(broken.code.as_deref(), &chat.model) {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                });
            }
            Delta::Broken(broken) => {
                writeln!(out)?;
                let hint = next_step(broken.code.as_deref(), &chat.model);
                return Err(Failure::new(format!("the answer is not complete: {}", broken.message))
                    .hint(hint.unwrap_or_else(|| "ask again".to_owned())));
            }
        }
        next = stream.next().await;
    }
    writeln!(out)?;
    chat.messages.push(json!({"role": "assistant", "content": &*text}));
    Ok(())
}

/// Prints that a fallback answered, a local provider or another Llm, and why.
fn note_failover(served_by: &ServedBy) {
    let Some(class) = &served_by.failover else { return };
    let why = match class.as_str() {
        "connect" => "mcpd or its provider cannot be reached",
        "no_response" => "mcpd did not answer in time",
        "no_first_token" => "the central model did not begin in time",
        "server_error" => "mcpd's provider is in trouble",
        "rate_limited" => "mcpd's provider has no room",
        "upstream_credentials" => "mcpd has no key that its provider accepts",
        "context_length" => "the prompt is too long for the central model",
        other => other,
    };
    let name = served_by.name.as_deref().unwrap_or("another model");
    note!(Tone::Warning, &format!("[answered by the fallback `{name}`: {why}]"); "");
}

fn explain(error: ClientError, server: &Url, llm: &str) -> Failure {
    let hint = match &error {
        // Whatever the agent forwards of mcpd's hint to programs.
        ClientError::Refused { status, .. } if status.as_u16() == 401 => {
            Some(format!("mcpctl login {}", server.as_str().trim_end_matches('/')))
        }
        ClientError::Refused { error: body, .. } if error.hint().is_none() => {
            next_step(body.error.code.as_deref(), llm)
        }
        _ => None,
    };
    let failure = Failure::from(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// What to do about an error with this code.
fn next_step(code: Option<&str>, llm: &str) -> Option<String> {
    match code? {
        // Asking again changes nothing about it.
        "forbidden" | ACCESS_REVOKED => {
            Some(format!("an administrator can say why: mcpctl auth who-can run llms {llm}"))
        }
        ACCESS_UNCONFIRMED => Some("ask again once mcpd answers".to_owned()),
        _ => None,
    }
}

/// A line with the progress of a cold start, on terminals only.
struct Progress<'a> {
    agent: Option<&'a Client>,
    shown: bool,
}

impl<'a> Progress<'a> {
    fn new(agent: Option<&'a Client>) -> Self {
        Self { agent: agent.filter(|_| std::io::stderr().is_terminal()), shown: false }
    }

    /// Waits for a future, and shows the line meanwhile.
    async fn show_while<T>(&mut self, waited_for: impl Future<Output = T>) -> T {
        tokio::pin!(waited_for);
        loop {
            tokio::select! {
                value = &mut waited_for => {
                    if std::mem::take(&mut self.shown) {
                        let _ = write!(anstream::stderr(), "\r\x1b[2K");
                    }
                    return value;
                }
                () = tokio::time::sleep(Duration::from_millis(200)) => self.show().await,
            }
        }
    }

    async fn show(&mut self) {
        let Some(agent) = self.agent else { return };
        let Ok(status) = agent.local_status().await else { return };
        let mut engines = status.providers.iter().filter_map(|provider| provider.engine.as_ref());
        if let Some(engine) = engines.find(|engine| engine.state == EngineState::Starting) {
            self.shown = true;
            let line = format!("local model `{}` is {}…", engine.name, agent::engine_state(engine));
            let _ = write!(anstream::stderr(), "\r\x1b[2K{}", output::one_line(&line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_step_depends_on_how_access_ended() {
        for (code, expected) in [
            ("forbidden", Some("an administrator can say why: mcpctl auth who-can run llms gpt")),
            (ACCESS_REVOKED, Some("an administrator can say why: mcpctl auth who-can run llms gpt")),
            (ACCESS_UNCONFIRMED, Some("ask again once mcpd answers")),
            ("server_error", None),
        ] {
            assert_eq!(next_step(Some(code), "gpt").as_deref(), expected, "{code}");
        }
        assert_eq!(next_step(None, "gpt"), None);
    }
}
