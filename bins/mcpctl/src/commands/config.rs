//! `mcpctl config`: the contexts.

use std::process::ExitCode;

use clap::Subcommand;
use mcpctl_client::config;

use crate::{Outcome, context::Global, failure::Failure, output::table::Table};

/// What to do with contexts.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the contexts
    GetContexts,
    /// Print the name of the current one
    CurrentContext,
    /// Use another one from now on
    UseContext {
        /// Its name
        name: String,
    },
    /// Forget one
    DeleteContext {
        /// Its name
        name: String,
    },
    /// Print the file, tokens hidden
    View,
}

/// Runs the command.
pub fn run(global: &Global, args: Args) -> Outcome {
    let (path, mut config) = global.config()?;
    let unknown =
        |name: &str| Failure::new(format!("there is no context `{name}`")).hint("mcpctl config get-contexts");
    match args.command {
        Command::GetContexts => {
            let mut table = Table::new(&["CURRENT", "NAME", "SERVER", "USER", "PINNED KEY"]);
            for context in &config.contexts {
                let pinned = config.pins_of(&context.server).and_then(|pins| pins.keys.first());
                let current = config.current_context.as_ref() == Some(&context.name);
                table.row([
                    if current { "*" } else { "" },
                    &context.name,
                    context.server.as_str(),
                    context.user.as_deref().unwrap_or_default(),
                    &pinned.map_or_else(|| "none".to_owned(), |key| key.fingerprint().to_string()),
                ]);
            }
            table.print()?;
        }
        Command::CurrentContext => match &config.current_context {
            Some(name) => data!("{name}")?,
            None => return Err(Failure::new("there is no current context").hint("mcpctl login URL")),
        },
        Command::UseContext { name } => {
            config::update(&path, |config| {
                if config.context(Some(&name)).is_none() {
                    return Err(unknown(&name));
                }
                config.current_context = Some(name.clone());
                Ok((true, ()))
            })?;
            note!("switched to context `{name}`");
        }
        Command::DeleteContext { name } => {
            config::update(&path, |config| {
                if config.context(Some(&name)).is_none() {
                    return Err(unknown(&name));
                }
                config.contexts.retain(|context| context.name != name);
                config.current_context = config.current_context.take().filter(|current| *current != name);
                Ok((true, ()))
            })?;
            note!("context `{name}` deleted");
        }
        Command::View => {
            for context in &mut config.contexts {
                context.token = context.token.take().map(|_| mcpctl_api::spec::SecretValue::new("REDACTED"));
            }
            data!("{}", crate::output::yaml(&config)?.trim_end())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
