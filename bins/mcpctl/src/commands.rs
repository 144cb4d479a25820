//! The commands, one file each.

mod admin;
mod apply;
mod audit;
mod auth;
mod chat;
pub mod completion;
mod config;
mod create;
mod delete;
mod describe;
mod doctor;
mod edit;
mod explain;
mod files;
mod get;
mod group;
mod help;
mod label;
mod llm;
mod local;
mod login;
mod passwd;
mod patch;
mod reconnect;
mod replace;
mod resources;
mod retry;
mod rotate;
mod selection;
mod set;
mod statuses;
mod targets;
mod time;
mod token;
mod top;
mod usage;
mod version;
mod viewable;
mod wait;
mod watch;
mod writing;

use clap::{Parser, Subcommand};

use self::label::Texts;
pub use self::targets::account;
use crate::{Outcome, context::Global};

/// Central rules for language models, and local models that replace central ones while mcpd allows it
#[derive(Parser)]
#[command(name = "mcpctl", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Sign in at an mcpd and remember it
    Login(login::Args),
    /// End the session and forget its token
    Logout,
    /// Print who is signed in
    Whoami(auth::WhoamiArgs),
    /// Change your password, or as an administrator another user's
    Passwd(passwd::Args),
    /// Your own tokens
    Token(token::Args),
    /// Contexts: which servers are known, and which one is used
    Config(config::Args),
    /// Show resources
    Get(get::Args),
    /// Show one resource in full
    Describe(describe::Args),
    /// Make a resource
    Create(create::Args),
    /// Make or change resources from files, all or none
    Apply(apply::Args),
    /// Change a resource in an editor
    Edit(edit::Args),
    /// Change fields of a resource
    Patch(patch::Args),
    /// Put documents in the place of resources, all or none
    Replace(replace::Args),
    /// Set or remove labels, by which resources are selected
    Label(label::Args),
    /// Set or remove annotations, texts about resources
    Annotate(label::Args),
    /// Remove resources
    Delete(delete::Args),
    /// Wait until a resource is there, gone, or as it should be
    Wait(wait::Args),
    /// Add members to a group, or remove some
    Group(group::Args),
    /// Set one value of a secret
    Set(set::Args),
    /// Give a token a new secret
    Rotate(rotate::Args),
    /// Show what an apply would change
    Diff(apply::DiffArgs),
    /// List the kinds of resources
    ApiResources(resources::Args),
    /// Show the fields of a kind: what they hold, and what they are for
    Explain(explain::Args),
    /// Questions about rights
    Auth(auth::Args),
    /// Show what mcpd decided, and what ran locally in its place
    Audit(audit::Args),
    /// Show who used how much, and what it cost
    Usage(usage::Args),
    /// Watch what Llms and local model servers are doing now
    Top(top::Args),
    /// What operators do with mcpd itself
    Admin(admin::Args),
    /// Check the way from mcpd to a model
    Llm(llm::Args),
    /// Talk to a model
    Chat(chat::Args),
    /// The agent on this machine
    Local(local::Args),
    /// Check the way from this machine to mcpd and to the models, and this machine's set-up
    Doctor(doctor::Args),
    /// Print a completion script
    Completion(completion::Args),
    /// Print man pages
    Man(help::ManArgs),
    /// Print the options that every command has
    Options,
    /// Print all commands as Markdown
    #[command(hide = true)]
    Reference,
    /// Print versions
    Version(version::Args),
}

impl Cli {
    /// Whether the command prints until its reader closes the pipe.
    pub fn follows(&self) -> bool {
        match &self.command {
            Command::Get(args) => args.follows(),
            Command::Audit(args) => args.follows(),
            Command::Local(args) => args.follows(),
            Command::Chat(_) => true,
            _ => false,
        }
    }
}

/// Runs a command.
pub async fn run(cli: Cli) -> Outcome {
    let Cli { global, command } = cli;
    match command {
        Command::Login(args) => login::login(&global, args).await,
        Command::Logout => login::logout(&global).await,
        Command::Whoami(args) => auth::whoami(&global, &args).await,
        Command::Passwd(args) => passwd::run(&global, args).await,
        Command::Token(args) => token::run(&global, args).await,
        Command::Config(args) => config::run(&global, args).await,
        Command::Get(args) => get::run(&global, args).await,
        Command::Describe(args) => describe::run(&global, &args).await,
        Command::Create(args) => create::run(&global, args).await,
        Command::Apply(args) => apply::run(&global, &args).await,
        Command::Edit(args) => edit::run(&global, &args).await,
        Command::Patch(args) => patch::run(&global, &args).await,
        Command::Replace(args) => replace::run(&global, &args).await,
        Command::Label(args) => label::run(&global, &args, Texts::Labels).await,
        Command::Annotate(args) => label::run(&global, &args, Texts::Annotations).await,
        Command::Delete(args) => delete::run(&global, &args).await,
        Command::Wait(args) => Box::pin(wait::run(&global, &args)).await,
        Command::Group(args) => group::run(&global, args).await,
        Command::Set(args) => set::run(&global, args).await,
        Command::Rotate(args) => rotate::run(&global, args).await,
        Command::Diff(args) => apply::diff(&global, &args).await,
        Command::ApiResources(args) => resources::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Auth(args) => auth::run(&global, args).await,
        Command::Audit(args) => audit::run(&global, args).await,
        Command::Usage(args) => usage::run(&global, args).await,
        Command::Top(args) => Box::pin(top::run(&global, args)).await,
        Command::Admin(args) => admin::run(&global, args).await,
        Command::Llm(args) => llm::run(&global, args).await,
        Command::Chat(args) => chat::run(&global, args).await,
        Command::Local(args) => local::run(&global, args).await,
        Command::Doctor(args) => doctor::run(&global, args).await,
        Command::Completion(args) => completion::run(&args),
        Command::Man(args) => help::man(&args),
        Command::Options => help::options(),
        Command::Reference => help::reference(),
        Command::Version(args) => version::run(&global, &args).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn contract_lists_every_command() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/contract.md");
        let text = std::fs::read_to_string(page).unwrap();
        let listed = text.lines().find_map(|line| line.strip_prefix("Commands: `")?.split_once('`'));
        let command = super::Cli::command();
        let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
        let names: Vec<&str> = shown.map(clap::Command::get_name).collect();
        assert_eq!(listed.unwrap().0, names.join(" "));
    }

    #[test]
    fn command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
