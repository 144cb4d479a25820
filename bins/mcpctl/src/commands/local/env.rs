//! `mcpctl local env`: the variables by which clients of OpenAI's and Anthropic's APIs use the agent, in the syntax of a shell; with
//! `--for` the configuration of one client.

use std::{io::IsTerminal as _, process::ExitCode};

use mcpctl_client::Client;
use secrecy::{ExposeSecret as _, SecretString};

use super::clients::{ClientFile, ClientProgram, Edited, Plan, Setup};
use crate::{
    Outcome, agent,
    failure::Failure,
    llm_choice::{self, LlmAccess, only_llm},
    output::{Tone, one_line},
    own_path::own_path,
};

/// For which shell, or which client.
#[derive(clap::Args)]
pub struct Args {
    /// Shell that reads it
    #[arg(long, value_enum, default_value = "bash")]
    shell: Shell,
    /// Client to print the configuration of, which its own file takes
    #[arg(long = "for", value_enum, value_name = "CLIENT")]
    client: Option<ClientProgram>,
    /// Llm that the client asks for; may be left out where there is only one
    #[arg(long, requires = "client")]
    llm: Option<String>,
    /// Take an Llm that mcpd does not list for you, e.g. one that will be there later
    #[arg(long, requires = "llm")]
    force: bool,
    /// Edit the client's file, and keep what else is in it; the file of before stays beside it, ending in `.before-mcpctl`
    #[arg(long, requires = "client")]
    write: bool,
    /// Take out of the client's file what --write put there, and put back what that replaced
    #[arg(long, requires = "client", conflicts_with_all = ["write", "llm"])]
    remove: bool,
}

/// A shell, by how it sets variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    #[value(alias = "sh")]
    Bash,
    Zsh,
    Fish,
    #[value(alias = "pwsh")]
    Powershell,
}

impl Shell {
    fn export(self, name: &str, value: &str) -> String {
        match self {
            Self::Bash | Self::Zsh => format!("export {name}={}", self.quoted(value)),
            Self::Fish => format!("set -gx {name} {}", self.quoted(value)),
            Self::Powershell => format!("$Env:{name} = {}", self.quoted(value)),
        }
    }

    /// One word that the shell changes nothing in.
    pub fn quoted(self, value: &str) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:".contains(c);
        match self {
            Self::Powershell => format!("'{}'", value.replace('\'', "''")),
            _ if !value.is_empty() && value.chars().all(plain) => value.to_owned(),
            Self::Bash | Self::Zsh => format!("'{}'", value.replace('\'', r"'\''")),
            Self::Fish => format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'")),
        }
    }

    /// The command that takes the output over.
    const fn usage(self) -> &'static str {
        match self {
            Self::Bash => "eval \"$(mcpctl local env)\"",
            Self::Zsh => "eval \"$(mcpctl local env --shell zsh)\"",
            Self::Fish => "mcpctl local env --shell fish | source",
            Self::Powershell => "mcpctl local env --shell powershell | Out-String | Invoke-Expression",
        }
    }
}

/// Prints the variables, or sets one client up. An error where no agent listens, so that no key goes to an address that another
/// user could take.
pub async fn run(args: Args) -> Outcome {
    if let (Some(client), true) = (args.client, args.remove) {
        return edit(client, None);
    }
    let (address, key) = (agent::address().await?, agent::local_key()?);
    let root = address.as_str().trim_end_matches('/').to_owned();
    match args.client {
        None => variables(args.shell, &root, &key, "ANTHROPIC_AUTH_TOKEN"),
        Some(ClientProgram::Langchain | ClientProgram::VercelAi) if args.write => {
            Err(Failure::usage("this client has no file of its own")
                .hint("leave --write out: it takes variables"))
        }
        Some(ClientProgram::Langchain | ClientProgram::VercelAi) => {
            variables(args.shell, &root, &key, "ANTHROPIC_API_KEY")
        }
        Some(client) => {
            let setup = setup(root, key, args.llm, args.force).await?;
            warn_of_other_keys(client, &setup);
            warn_of_tools(client, &setup.llm).await;
            if args.write { edit(client, Some(&setup)) } else { print(client, &setup) }
        }
    }
}

/// `anthropic` is the variable that Anthropic's key is in: Claude Code would ask before it uses an `ANTHROPIC_API_KEY`, and others
/// know no other.
fn variables(shell: Shell, root: &str, key: &SecretString, anthropic: &str) -> Outcome {
    let base = format!("{root}/v1");
    let variables = [
        ("OPENAI_BASE_URL", base.as_str()),
        // Of older clients, such as LangChain's.
        ("OPENAI_API_BASE", base.as_str()),
        ("OPENAI_API_KEY", key.expose_secret()),
        // Claude Code and Anthropic's SDKs append `/v1` themselves.
        ("ANTHROPIC_BASE_URL", root),
        (anthropic, key.expose_secret()),
    ];
    for (name, value) in variables {
        data!("{}", shell.export(name, value))?;
    }
    if std::io::stdout().is_terminal() {
        note!("# run: {}", shell.usage());
    }
    Ok(ExitCode::SUCCESS)
}

async fn setup(root: String, key: SecretString, llm: Option<String>, force: bool) -> Result<Setup, Failure> {
    let agent = agent::client()?;
    let llm = match llm {
        Some(llm) => {
            if !force {
                check_llm(&agent, &llm).await?;
            }
            llm
        }
        None => only_llm(&agent, "mcpctl local env --for CLIENT --llm").await?,
    };
    let mcpctl = own_path()?;
    let mcpctl =
        mcpctl.to_str().ok_or_else(|| Failure::new("the path of this program is not UTF-8"))?.to_owned();
    Ok(Setup { root, llm, mcpctl, key })
}

/// Fails where mcpd has no Llm of this name that the account may run. Only a warning where mcpd cannot be asked: the agent's user may
/// be offline, and the client is for later.
async fn check_llm(agent: &Client, llm: &str) -> Result<(), Failure> {
    let (similar, others) = match llm_choice::access(agent, llm).await {
        LlmAccess::Allowed => return Ok(()),
        LlmAccess::Denied { similar, others } => (similar, others),
        LlmAccess::Unknown(error) => {
            let reason = Failure::from(error).in_one_line();
            note!(Tone::Warning, "warning:"; " whether you may run `{}` is not known: {reason}", one_line(llm));
            return Ok(());
        }
    };
    let hint = match (similar, others) {
        (Some(similar), _) => similar,
        (None, Some(others)) => format!("you may run: {others}; --force takes another name all the same"),
        (None, None) => {
            "ask an administrator for access, or set the client up all the same with --force".to_owned()
        }
    };
    Err(Failure::new(llm_choice::denied(llm)).hint(hint))
}

/// A key in the environment comes before the command in Claude Code's settings.
fn warn_of_other_keys(client: ClientProgram, setup: &Setup) {
    if client != ClientProgram::ClaudeCode {
        return;
    }
    for name in ["ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY"] {
        let other = std::env::var(name).is_ok_and(|key| !key.is_empty() && key != setup.key.expose_secret());
        if other {
            note!(Tone::Warning, "warning:"; " {name} is set to another key here, and Claude Code would send that one");
            note!(Tone::Hint, "hint:"; " unset {name} where claude runs");
        }
    }
}

/// A client that sends tools with every request gets no fallback from a model that calls none, which would show only once the Llm fails.
async fn warn_of_tools(client: ClientProgram, llm: &str) {
    let Some(agent) = agent::find().await.ok().filter(|_| client.sends_tools()) else { return };
    let mut routes = agent.status.failovers.iter();
    let Some(route) = routes.find(|route| route.llm == llm) else { return };
    let provider = agent.status.providers.iter().find(|provider| provider.name == route.provider);
    if let Some((provider, gap)) = provider.and_then(|one| Some((one, one.without_tools.as_ref()?))) {
        let (name, reason) = (one_line(&provider.name), one_line(&gap.reason));
        note!(Tone::Warning, "warning:"; " this client sends tools, and the local model `{name}` for `{}` may not take them: {reason}", one_line(llm));
        note!(Tone::Hint, "hint:"; " {}", one_line(&gap.hint));
    }
}

fn print(client: ClientProgram, setup: &Setup) -> Outcome {
    for file in client.files()? {
        note!("# {}", file.path.display());
        data!("{}", file.fragment(setup)?.trim_end())?;
    }
    note!("# --write puts this into the file, and keeps what else is in it");
    Ok(ExitCode::SUCCESS)
}

fn edit(client: ClientProgram, setup: Option<&Setup>) -> Outcome {
    let plan = |file: ClientFile| file.plan(setup);
    // All of them before the first is written.
    let plans: Vec<Plan> = client.files()?.into_iter().map(plan).collect::<Result<_, _>>()?;
    for plan in plans {
        let path = one_line(&plan.path().display().to_string());
        if let Some(elsewhere) = plan.key_goes_to() {
            note!(Tone::Warning, "warning:"; " `{path}` is a link: this machine's key goes into `{}`", elsewhere.display());
            note!(Tone::Hint, "hint:"; " keep that file out of version control, or take the key out of it with --remove");
        }
        match plan.apply()? {
            Edited::Unchanged => data!("{path} unchanged")?,
            Edited::Removed => data!("{path} removed")?,
            Edited::Written(backup) => {
                data!("{path} written")?;
                if let Some(backup) = backup {
                    note!("the file of before is `{}`", backup.display());
                }
            }
        }
    }
    if let Some(setup) = setup {
        note!("it asks for `{}`; start it: {}", setup.llm, client.next_step());
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_one_word_in_every_shell() {
        let value = r"a'b\$(c) [::1]";
        assert_eq!(Shell::Bash.export("X", value), r"export X='a'\''b\$(c) [::1]'");
        assert_eq!(Shell::Zsh.export("X", value), Shell::Bash.export("X", value));
        assert_eq!(Shell::Fish.export("X", value), r"set -gx X 'a\'b\\$(c) [::1]'");
        assert_eq!(Shell::Powershell.export("X", value), r"$Env:X = 'a''b\$(c) [::1]'");
        assert_eq!(Shell::Bash.export("X", "http://127.0.0.1:1/v1"), "export X=http://127.0.0.1:1/v1");
        assert_eq!(Shell::Bash.export("X", ""), "export X=''");
    }
}
