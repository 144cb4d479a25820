//! `mcpctl llm test`: mcpd sends a small request to each target of an Llm, and reports each step on the way to the model.

use std::process::ExitCode;

use clap::Subcommand;
use mcpctl_api::{
    Kind, Name,
    llm_test::{LlmTest, StepState, TargetTest, TestStep},
};

use crate::{
    Outcome,
    context::Global,
    failure::Failure,
    output::{Shape, Tone, finding, one_line},
    suggest,
};

/// What to do with an Llm.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check the way from mcpd to the model, step by step. Exit code 1 where one fails
    ///
    /// mcpd sends one question and accepts 16 tokens, from each target of the Llm: it counts as usage of yours, and takes the
    /// right to run the Llm. Those who may edit it see the addresses and what the provider answers.
    Test {
        /// The Llm's name or id
        #[arg(value_name = "NAME")]
        llm: String,
        /// table, json or yaml
        #[arg(long, short, value_enum, default_value = "table")]
        output: Shape,
    },
}

/// Runs the command.
pub async fn run(global: &Global, args: Args) -> Outcome {
    let Command::Test { llm, output } = args.command;
    let client = global.client()?;
    let test = match client.test_llm(&llm).await {
        Ok(test) => test,
        Err(error) => return Err(suggest::not_found(&client, Kind::Llm, &llm, error).await),
    };
    if !output.print(&test)? {
        print(&test)?;
    }
    Ok(if test.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints a test for people.
pub fn print(test: &LlmTest) -> Result<(), Failure> {
    let many = test.targets.len() > 1;
    for (at, target) in test.targets.iter().enumerate() {
        if at > 0 {
            data!("")?;
        }
        print_target(&test.llm, target, many.then_some(at + 1))?;
    }
    Ok(())
}

fn print_target(llm: &Name, target: &TargetTest, number: Option<usize>) -> Result<(), Failure> {
    let place = match (&target.url, number) {
        (Some(url), _) => format!(" at {}", one_line(url.as_str())),
        (None, Some(number)) => format!(", target {number}"),
        (None, None) => String::new(),
    };
    data!(Tone::Title, &format!("{llm}{place}"); "")?;
    for step in &target.steps {
        print_step(step)?;
        if let (StepState::Failed, Some(problem)) = (step.state, &target.problem) {
            finding::indented(Tone::Plain, "    ", &one_line(&problem.reason))?;
            problem.hint.iter().try_for_each(|hint| finding::hint(hint))?;
        }
    }
    Ok(())
}

fn print_step(step: &TestStep) -> Result<(), Failure> {
    let (tone, word) = match step.state {
        StepState::Ok => (Tone::Good, "ok  "),
        StepState::Failed => (Tone::Bad, "FAIL"),
        StepState::Skipped => (Tone::Plain, "-   "),
    };
    let took = step.millis.map(|millis| format!("{millis} ms")).unwrap_or_default();
    let note = match (&step.note, step.state) {
        (Some(note), _) => one_line(note),
        (None, StepState::Skipped) => "not made".to_owned(),
        (None, _) => String::new(),
    };
    let text = format!("{:<12}{took:>9}  {note}", step.step.describe());
    data!(tone, word; " {}", text.trim_end())
}
