//! `mcpctl local env`: the variables by which clients of OpenAI's and Anthropic's APIs use the agent, in the syntax of a shell.

use std::{io::IsTerminal as _, process::ExitCode};

use secrecy::ExposeSecret as _;

use crate::{Outcome, agent};

/// For which shell.
#[derive(clap::Args)]
pub struct Args {
    /// Shell that reads it
    #[arg(long, value_enum, default_value = "bash")]
    shell: Shell,
}

/// A shell, by how it sets variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Shell {
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
    fn quoted(self, value: &str) -> String {
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

/// Prints the variables. An error where no agent listens, so that no key is exported with an address that another user could
/// take.
pub async fn run(args: Args) -> Outcome {
    let (address, key) = (agent::address().await?, agent::local_key()?);
    let root = address.as_str().trim_end_matches('/');
    let base = format!("{root}/v1");
    let variables = [
        ("OPENAI_BASE_URL", base.as_str()),
        // Of older clients, such as LangChain's.
        ("OPENAI_API_BASE", base.as_str()),
        ("OPENAI_API_KEY", key.expose_secret()),
        // Claude Code and Anthropic's SDKs append `/v1` themselves.
        // Claude Code would ask before it uses an `ANTHROPIC_API_KEY`.
        ("ANTHROPIC_BASE_URL", root),
        ("ANTHROPIC_AUTH_TOKEN", key.expose_secret()),
    ];
    for (name, value) in variables {
        data!("{}", args.shell.export(name, value))?;
    }
    if std::io::stdout().is_terminal() {
        note!("# run: {}", args.shell.usage());
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
