//! `mcpctl chat`: talk to a model, through the agent where one runs.

mod answer;
mod compose;
mod conversation;
mod editor;
mod explain;
mod history;
mod progress;
mod slash;
mod transcript;
mod way;

use std::{path::PathBuf, process::ExitCode};

use clap::builder::FalseyValueParser;
use mcpctl_client::ChatRequest;
use serde_json::json;

use crate::{
    Outcome,
    context::Global,
    failure::Failure,
    llm_choice::only_llm,
    output::{self, Tone},
};
use answer::{Answer, Shown};

/// The Llm, the way to it, and what it is asked.
#[derive(clap::Args)]
pub struct Args {
    /// The Llm; may be left out where there is only one
    llm: Option<String>,
    /// Ask this and end; a pipe or a file at standard input goes with it
    #[arg(conflicts_with = "prompt")]
    question: Option<String>,
    /// Ask this and end, without standard input; - reads it from there
    #[arg(long, short, value_name = "PROMPT")]
    prompt: Option<String>,
    /// File that goes with the question, as text; several times for several
    #[arg(long = "file", short, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Instructions to the model for the whole conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// How much chance has to do with the answer, from 0 to 2
    #[arg(long, value_name = "NUMBER", value_parser = temperature)]
    temperature: Option<f64>,
    /// Longest answer, in tokens
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,
    /// text, or json: one object with the answer, who gave it, tokens and times
    #[arg(long, short, value_enum, default_value = "text")]
    output: Format,
    /// Print Markdown as it comes, on a terminal too
    #[arg(long)]
    raw: bool,
    /// Print tokens and times after each answer
    #[arg(long)]
    stats: bool,
    /// Neither keep what is typed nor offer what was typed before
    #[arg(long, env = "MCPCTL_NO_HISTORY", value_parser = FalseyValueParser::new())]
    no_history: bool,
    /// Through mcplocal, or not at all
    #[arg(long, conflicts_with = "direct")]
    local: bool,
    /// Straight to mcpd, without mcplocal and its local models
    #[arg(long)]
    direct: bool,
}

/// `-o`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// The answer.
    Text,
    /// An object.
    Json,
}

fn temperature(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=2.0).contains(&number) => Ok(number),
        _ => Err("a number from 0 to 2".to_owned()),
    }
}

/// A conversation so far, and how it goes on.
struct Chat {
    through: way::Through,
    /// The request without messages.
    request: ChatRequest,
    system: Option<String>,
    /// A message; an answer has what is known about it.
    turns: Vec<Turn>,
    shown: Shown,
    stats: bool,
}

/// A message of the conversation.
struct Turn {
    text: String,
    /// `None` of a question.
    answer: Option<Answer>,
}

impl Chat {
    /// Sends a message, and shows the answer. After a failure the conversation is what it was before.
    async fn ask(&mut self, text: String) -> Result<Answer, Failure> {
        let mut request = self.request.clone();
        let system = self.system.iter().map(|system| json!({"role": "system", "content": system}));
        let turns = self.turns.iter().map(|turn| {
            let role = if turn.answer.is_some() { "assistant" } else { "user" };
            json!({"role": role, "content": turn.text})
        });
        request.messages = system.chain(turns).collect();
        request.messages.push(json!({"role": "user", "content": text}));
        let answer = answer::exchange(&self.through, &request, self.shown).await?;
        self.turns.push(Turn { text, answer: None });
        self.turns.push(Turn { text: answer.content.clone(), answer: Some(answer.clone()) });
        if self.stats {
            note!(Tone::Quiet, &answer.stats(); "");
        }
        Ok(answer)
    }
}

/// Chats.
pub async fn run(global: &Global, args: Args) -> Outcome {
    // Mistakes on the command line are reported before any request is sent.
    if let (Some(llm), None) = (&args.llm, &args.question)
        && llm.contains(char::is_whitespace)
    {
        return Err(Failure::usage(format!("`{}` is not the name of an Llm", output::one_line(llm)))
            .hint("name it before the question: mcpctl chat LLM \"QUESTION\""));
    }
    let question = compose::question(&args)?;
    if question.is_none() && args.output == Format::Json {
        return Err(
            Failure::usage("`-o json` is for one question").hint("mcpctl chat LLM \"QUESTION\" -o json")
        );
    }
    let answered = answer_or_converse(global, &args, question).await;
    match answered {
        Err(failure) if args.output == Format::Json && !failure.is_usage() => {
            let (message, hint) = failure.parts();
            let error = json!({"model": args.llm, "error": {"message": message, "hint": hint}});
            data!("{error}")?;
            Ok(failure.exit_code().unwrap_or(ExitCode::SUCCESS))
        }
        answered => answered.map(|()| ExitCode::SUCCESS),
    }
}

async fn answer_or_converse(global: &Global, args: &Args, question: Option<String>) -> Result<(), Failure> {
    let through = way::through(global, args).await?;
    if let Some(warning) = &through.expiry {
        note!(Tone::Warning, "warning:"; " {warning}");
    }
    let llm = match &args.llm {
        Some(llm) => llm.clone(),
        None => only_llm(&through.client, "mcpctl chat").await?,
    };
    let request = ChatRequest {
        model: llm,
        messages: Vec::new(),
        max_tokens: args.max_tokens,
        temperature: args.temperature,
    };
    let shown = match args.output {
        Format::Json => Shown::Nothing,
        Format::Text if args.raw => Shown::Raw,
        Format::Text => Shown::fitting(),
    };
    let (system, turns) = (args.system.clone(), Vec::new());
    let mut chat = Chat { through, request, system, turns, shown, stats: args.stats };
    match question {
        Some(question) => {
            let answer = chat.ask(question).await?;
            if args.output == Format::Json {
                data!("{}", answer.json())?;
            }
            Ok(())
        }
        None => conversation::converse(chat, !args.no_history).await,
    }
}
