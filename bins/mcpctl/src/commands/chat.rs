//! `mcpctl chat`: talk to a model, through the agent where one runs.

use std::{
    io::{IsTerminal as _, Read as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use jiff::Timestamp;
use mcpctl_client::{ChatRequest, Client, ClientError, Delta, ServedBy, config::same_server};
use rustyline::{DefaultEditor, error::ReadlineError};
use serde_json::{Value, json};

use crate::{
    Outcome, agent,
    context::{Global, Identity},
    expiry,
    failure::Failure,
    output::{self, Tone},
};

/// Whom to talk to.
#[derive(clap::Args)]
pub struct Args {
    /// The Llm; where there is only one, it need not be said
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
    // What is wrong on this side is said before anything is asked of a server.
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
        None => only_llm(&through.client).await?,
    };
    let mut chat = ChatRequest { model: llm, messages: Vec::new(), max_tokens: None };
    match prompt {
        Some(prompt) => ask(&through, &mut chat, &prompt).await?,
        None => converse(&through, &mut chat).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The way to the model.
struct Through {
    client: Client,
    /// The agent that it leads through, as this machine's user.
    agent: Option<Client>,
    /// That the bearer ends soon.
    expiry: Option<String>,
}

/// Through the agent where it runs and speaks for the server that was chosen; else straight there.
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
            let theirs = agent.server();
            if !theirs.as_ref().is_some_and(|theirs| same_server(theirs, &identity.server)) {
                // Another server would answer.
                let theirs = theirs.map_or_else(|| "another server".to_owned(), |url| url.to_string());
                let message = format!("mcplocal speaks for {theirs}, not for {}", identity.server);
                if args.local {
                    return Err(Failure::new(message).hint("choose the context of its server with --context"));
                }
                note!("note: {message}, so this goes straight there");
                return straight(identity);
            }
            // The agent acts for who is signed in on this machine. A bearer of another person is not given to it.
            let same_person = identity.user.is_some() && identity.user.as_deref() == agent.user();
            if identity.bearer.is_some() && !same_person {
                let message = "the chosen token is not that of mcplocal's signed-in user";
                if args.local {
                    return Err(Failure::new(message).hint("unset MCPCTL_TOKEN, or leave out --local"));
                }
                note!("note: {message}, so this goes straight to mcpd");
                return straight(identity);
            }
            let expiry = identity.context.as_ref().and_then(expiry::warning);
            Ok(Through { client: agent.client.clone(), agent: Some(agent.client), expiry })
        }
        // With no server chosen, the agent's own is the one that is meant.
        Err(_) if global.chooses_nothing() => {
            Ok(Through { client: agent.client.clone(), agent: Some(agent.client), expiry: None })
        }
        Err(failure) => Err(failure),
    }
}

fn straight(identity: Identity) -> Result<Through, Failure> {
    let expiry = identity.context.as_ref().and_then(expiry::warning);
    Ok(Through { client: identity.client()?, agent: None, expiry })
}

async fn only_llm(client: &Client) -> Result<String, Failure> {
    let models = client.models().await?;
    let ids = models.pointer("/data").and_then(Value::as_array).into_iter().flatten();
    let ids: Vec<&str> =
        ids.filter_map(|model| model.get("id")?.as_str()).filter(|id| !id.contains('/')).collect();
    match ids.as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => Err(Failure::new("there is no Llm that you may run").hint("ask an administrator for access")),
        several => Err(Failure::usage("which Llm?").hint(format!("mcpctl chat {}", several.join(" | ")))),
    }
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
                let said = chat.messages.len();
                // Ctrl-C ends the answer and not the conversation; what is dropped is cancelled up to the model.
                let ended = tokio::select! {
                    ended = ask(through, chat, &line) => ended,
                    _ = tokio::signal::ctrl_c() => {
                        note!("");
                        Err(Failure::new("stopped"))
                    }
                };
                if let Err(failure) = ended {
                    // The conversation goes on without what was not answered.
                    chat.messages.truncate(said);
                    failure.report();
                }
            }
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => return Ok(()),
            Err(error) => return Err(Failure::new(error)),
        }
    }
}

/// Asks; where nobody answers, says too why no local model stood in.
async fn ask(through: &Through, chat: &mut ChatRequest, prompt: &str) -> Result<(), Failure> {
    let begun = Timestamp::now();
    let answered = converse_once(through, chat, prompt).await;
    if let (Err(_), Some(agent)) = (&answered, &through.agent) {
        say_why_nobody(agent, &chat.model, begun).await;
    }
    answered
}

/// The centre's own error says nothing of what happened on this machine.
async fn say_why_nobody(agent: &Client, llm: &str, since: Timestamp) {
    let Ok(status) = agent.local_status().await else { return };
    if let Some(why) = why_nobody(&status, llm, since) {
        note!(Tone::Warning, &format!("[{}]", output::one_line(&why)); "");
    }
}

/// Why no local provider answered in the centre's place, where one was asked for since then.
fn why_nobody(status: &Value, llm: &str, since: Timestamp) -> Option<String> {
    let last = status.get("lastFailover").filter(|last| {
        let text = |key: &str| last.get(key).and_then(Value::as_str).unwrap_or_default();
        text("llm") == llm && text("at").parse().is_ok_and(|at: Timestamp| at >= since)
    });
    let server = status.get("server").and_then(Value::as_str).unwrap_or("mcpd").trim_end_matches('/');
    let Some(last) = last else {
        let failovers = status.get("failovers").and_then(Value::as_array).into_iter().flatten();
        let covered = failovers.filter_map(|pair| pair.get("llm")?.as_str()).any(|name| name == llm);
        return (!covered && !llm.contains('/'))
            .then(|| format!("no local provider falls back for `{llm}`: none has it in `failoverFor`"));
    };
    let text = |key: &str| last.get(key).and_then(Value::as_str).unwrap_or_default();
    let (name, reason) = (text("provider"), text("reason"));
    let access = last.get("access").and_then(Value::as_array).and_then(|all| all.last()?.as_str());
    match (text("outcome"), access) {
        ("failed", _) => Some(format!("the local provider `{name}` could not be used: {reason}")),
        ("refused", Some("unreachable")) => {
            let reason = if reason.is_empty() { "no answer of mcpd" } else { reason };
            Some(format!(
                "mcpd at {server} cannot be asked ({reason}), and the local provider `{name}` may be used in place of \
                 `{llm}` only while mcpd allows it; for its own sake it can be: mcpctl chat local/{name}"
            ))
        }
        ("refused", Some("forbidden")) => Some(format!(
            "mcpd at {server} does not allow you `{llm}`, so the local provider `{name}` may not be used in its place"
        )),
        _ => None,
    }
}

/// Asks, prints the answer as it comes, and keeps both in the conversation.
async fn converse_once(through: &Through, chat: &mut ChatRequest, prompt: &str) -> Result<(), Failure> {
    chat.messages.push(json!({"role": "user", "content": prompt}));
    let mut progress = Progress::new(through.agent.as_ref());
    let mut stream = progress.beside(through.client.chat(chat)).await.map_err(explain)?;
    // A cold start says that it is one in comments, long before the first word.
    let mut next = progress.beside(stream.next()).await;
    if !matches!(next, Some(Delta::Broken(_))) {
        say_who(&stream.served_by);
    }
    let mut text = String::new();
    // A model's words are shown by a terminal, and never obeyed.
    let mut out = output::terminal::stream();
    while let Some(delta) = next {
        match delta {
            Delta::Text(piece) => {
                out.write_all(piece.as_bytes())?;
                out.flush()?;
                text.push_str(&piece);
            }
            Delta::Usage(_) => {}
            Delta::Broken(message) if text.is_empty() => return Err(Failure::new(message)),
            Delta::Broken(message) => {
                writeln!(out)?;
                return Err(Failure::new(format!("the answer is not complete: {message}")).hint("ask again"));
            }
        }
        next = stream.next().await;
    }
    writeln!(out)?;
    chat.messages.push(json!({"role": "assistant", "content": text}));
    Ok(())
}

fn say_who(served_by: &ServedBy) {
    let Some(class) = &served_by.failover else { return };
    let why = match class.as_str() {
        "connect" => "the centre or its provider cannot be reached",
        "no_response" => "the centre did not answer in time",
        "no_first_token" => "the centre's model did not begin in time",
        "server_error" => "the centre's provider is in trouble",
        "rate_limited" => "the centre's provider has no room",
        "upstream_credentials" => "the centre has no key that its provider accepts",
        "context_length" => "the prompt is too long for the central model",
        other => other,
    };
    let name = served_by.name.as_deref().unwrap_or("a local model");
    note!(Tone::Warning, &format!("[answered by the local provider `{name}`: {why}]"); "");
}

fn explain(error: ClientError) -> Failure {
    match &error {
        ClientError::Refused { error: body, .. } if error.hint().is_none() => {
            let failure = Failure::new(&error);
            match body.error.code.as_deref() {
                Some("forbidden") => {
                    failure.hint("an administrator can say why: mcpctl auth who-can run llms NAME")
                }
                _ => failure,
            }
        }
        _ => error.into(),
    }
}

/// A line that says what a cold start is at, on terminals only.
struct Progress<'a> {
    agent: Option<&'a Client>,
    shown: bool,
}

impl<'a> Progress<'a> {
    fn new(agent: Option<&'a Client>) -> Self {
        Self { agent: agent.filter(|_| std::io::stderr().is_terminal()), shown: false }
    }

    /// Waits for something, and shows the line while it takes long.
    async fn beside<T>(&mut self, waited_for: impl Future<Output = T>) -> T {
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
        let engines = status.get("providers").and_then(Value::as_array).into_iter().flatten();
        let starting = engines
            .filter_map(|provider| provider.get("engine"))
            .find(|engine| engine.get("state").and_then(Value::as_str) == Some("starting"));
        if let Some(engine) = starting {
            self.shown = true;
            let name = engine.get("name").and_then(Value::as_str).unwrap_or_default();
            let said = output::one_line(&format!("local model `{name}` is {}…", agent::state_of(engine)));
            let _ = write!(anstream::stderr(), "\r\x1b[2K{said}");
        }
    }
}
