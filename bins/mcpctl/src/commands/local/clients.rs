//! Clients whose own configuration `mcpctl local env --for CLIENT` prints or edits, so that they use the agent.
//!
//! A file keeps everything else that is in it, comments included where its format has them. It is written whole or not at all, with
//! the permissions that it had, after what was there was kept beside it. Where a client can run a command for its key, its file has
//! that command and no key.

mod aider;
mod claude_code;
mod codex;
mod continue_dev;
mod yaml_block;

use std::{
    fs::{self, Permissions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use mcpctl_owner::file::{self, Content};
use secrecy::{ExposeSecret as _, SecretString};

use crate::failure::Failure;

/// Maximum size of a client's file, bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;
const PRIVATE: u32 = 0o600;
const OTHERS: u32 = 0o077;

/// A client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ClientProgram {
    /// `settings.json` in ~/.claude
    ClaudeCode,
    /// `config.toml` in ~/.codex
    Codex,
    /// ~/.aider.conf.yml
    Aider,
    /// `config.yaml` and `.env` in ~/.continue
    Continue,
    /// Variables only, `ANTHROPIC_API_KEY` among them
    Langchain,
    /// Variables only, `ANTHROPIC_API_KEY` among them
    VercelAi,
}

impl ClientProgram {
    /// Its files; none where it has only variables.
    pub fn files(self) -> Result<Vec<ClientFile>, Failure> {
        match self {
            Self::ClaudeCode => Ok(vec![claude_code::file()?]),
            Self::Codex => Ok(vec![codex::file()?]),
            Self::Aider => Ok(vec![aider::file()?]),
            Self::Continue => continue_dev::files(),
            Self::Langchain | Self::VercelAi => Ok(Vec::new()),
        }
    }

    /// How the client is started then.
    pub const fn next_step(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude",
            Self::Codex => "codex",
            Self::Aider => "aider",
            Self::Continue => "choose the model in Continue",
            Self::Langchain | Self::VercelAi => "",
        }
    }
}

/// How a client reaches the agent.
pub struct Setup {
    /// The agent's address, without a path.
    pub root: String,
    /// The Llm that the client asks for.
    pub llm: String,
    /// The path of this program.
    pub mcpctl: String,
    /// The local key.
    pub key: SecretString,
}

impl Setup {
    fn base(&self) -> String {
        format!("{}/v1", self.root)
    }

    fn key(&self) -> &str {
        self.key.expose_secret()
    }

    /// The arguments of this program that print the key.
    fn key_arguments(&self) -> [&str; 4] {
        ["local", "key", "--at", &self.root]
    }
}

/// What happens to a file.
#[derive(Clone, Copy)]
pub enum Change<'a> {
    /// The client uses the agent.
    Set(&'a Setup),
    /// It no longer does.
    Remove,
}

/// A file of a client.
pub struct ClientFile {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it will have the key in it.
    holds_key: bool,
    /// Changes a text; fails with what is wrong with the text.
    edit: fn(&str, Change<'_>) -> Result<String, Failure>,
}

/// What became of a file.
pub enum Edited {
    /// It was as it should be.
    Unchanged,
    /// It is written; what was there is kept in this file, where there was one.
    Written(Option<PathBuf>),
    /// Nothing but our own lines was in it, and it is gone.
    Removed,
}

impl ClientFile {
    /// What the file would hold if it held nothing else.
    pub fn fragment(&self, setup: &Setup) -> Result<String, Failure> {
        (self.edit)("", Change::Set(setup))
    }

    /// Changes the file.
    pub fn apply(&self, change: Change<'_>) -> Result<Edited, Failure> {
        let here = |failure: Failure| self.at_path(&failure);
        let before = self.read()?;
        if before.is_none() && matches!(change, Change::Remove) {
            return Ok(Edited::Unchanged);
        }
        let text = before.as_deref().unwrap_or_default();
        let after = (self.edit)(text, change).map_err(here)?;
        let mode = match &before {
            None => None,
            Some(_) => Some(fs::metadata(&self.path)?.permissions().mode() & 0o7777),
        };
        let exposed = self.holds_key && mode.is_some_and(|mode| mode & OTHERS != 0);
        if Some(&after) == before.as_ref() && !exposed {
            return Ok(Edited::Unchanged);
        }
        // The file that a link of a dotfile manager points to.
        let real = if before.is_some() { self.path.canonicalize()? } else { self.path.clone() };
        let parent = real.parent().ok_or_else(|| Failure::new("the file has no directory"))?;
        fs::create_dir_all(parent)?;
        let backup = match &before {
            Some(before) => Some(self.keep(&real, before)?),
            None => None,
        };
        if after.trim().is_empty() {
            fs::remove_file(&real)?;
            return Ok(Edited::Removed);
        }
        let mode = match mode {
            Some(mode) if !self.holds_key => mode,
            _ => PRIVATE,
        };
        let draft = draft(parent, after.as_bytes(), mode)?;
        if self.read()? != before {
            return Err(here(Failure::new("another program changed it meanwhile").hint("run this again")));
        }
        draft.persist(&real).map_err(|error| Failure::from(error.error))?;
        Ok(Edited::Written(backup))
    }

    fn read(&self) -> Result<Option<String>, Failure> {
        match file::read_named(&self.path, Content::Public, MAX_FILE_BYTES) {
            Ok(bytes) => {
                let text = String::from_utf8(bytes);
                text.map(Some).map_err(|_| self.at_path(&Failure::new("it is not UTF-8")))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps the text of before beside the file; it may hold keys of the client's, so only its user may read it.
    fn keep(&self, real: &Path, before: &str) -> Result<PathBuf, Failure> {
        let backup = file::beside(real, ".before-mcpctl");
        file::replace(&backup, before.as_bytes())?;
        Ok(backup)
    }

    fn at_path(&self, failure: &Failure) -> Failure {
        let (message, hint) = failure.parts();
        let at = Failure::new(format!("`{}`: {message}", self.path.display()));
        at.hint(
            hint.unwrap_or(
                "nothing was changed; correct the file, or print the lines to add without --write",
            ),
        )
    }
}

fn draft(parent: &Path, bytes: &[u8], mode: u32) -> Result<tempfile::NamedTempFile, Failure> {
    let mut draft = tempfile::NamedTempFile::new_in(parent)?;
    draft.write_all(bytes)?;
    draft.as_file().set_permissions(Permissions::from_mode(mode))?;
    draft.as_file().sync_all()?;
    Ok(draft)
}

/// A directory that a variable of the client names, else one in the home directory.
fn directory(variable: Option<&str>, in_home: &str) -> Result<PathBuf, Failure> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(named) = variable.and_then(absolute) {
        return Ok(named);
    }
    let home = absolute("HOME").ok_or_else(|| Failure::new("HOME is not set"))?;
    Ok(home.join(in_home))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn setup() -> Setup {
        Setup {
            root: "http://127.0.0.1:3200".to_owned(),
            llm: "gpt".to_owned(),
            mcpctl: "/opt/my tools/mcpctl".to_owned(),
            key: SecretString::from("mcpl_key"),
        }
    }

    /// Every edit is idempotent, and taking it out leaves the file of before.
    #[test]
    fn edits_can_be_repeated_and_taken_out() {
        let setup = setup();
        for (client, before) in [
            (
                ClientProgram::ClaudeCode,
                "{\n  \"theme\": \"dark\",\n  \"env\": {\n    \"X\": \"1\"\n  }\n}\n",
            ),
            (ClientProgram::ClaudeCode, ""),
            (ClientProgram::Codex, "# mine\n[tui]\nx = 1 # one\n"),
            (ClientProgram::Codex, ""),
            (ClientProgram::Aider, "# mine\nmodel: sonnet # best\ndark-mode: true\n"),
            (ClientProgram::Aider, ""),
            (
                ClientProgram::Continue,
                "name: Mine\nversion: 1.0.0\nschema: v1\nmodels:\n  # first\n  - name: a\n    provider: ollama\n    model: m\n",
            ),
            (ClientProgram::Continue, "name: Mine\nversion: 1.0.0\nschema: v1\n"),
            (ClientProgram::Continue, "name: Mine\nmodels: []\nrules: [x]\n"),
            (ClientProgram::Continue, ""),
        ] {
            let file = &client.files().unwrap()[0];
            let edit = |text: &str, change: Change<'_>| {
                (file.edit)(text, change)
                    .unwrap_or_else(|failure| panic!("{client:?}: {}\n{text}", failure.in_one_line()))
            };
            let once = edit(before, Change::Set(&setup));
            assert_ne!(once, before, "{client:?}");
            assert_eq!(edit(&once, Change::Set(&setup)), once, "{client:?}");
            let other = Setup { llm: "claude".to_owned(), ..self::setup() };
            assert_eq!(edit(&edit(&once, Change::Set(&other)), Change::Set(&setup)), once, "{client:?}");
            assert_eq!(edit(&once, Change::Remove).trim(), before.trim(), "{client:?}");
            assert_eq!(edit(before, Change::Remove).trim(), before.trim(), "{client:?}");
        }
    }

    #[test]
    fn file_that_does_not_parse_is_left_alone() {
        for (client, text) in [
            (ClientProgram::ClaudeCode, "{\"a\": 1,}"),
            (ClientProgram::ClaudeCode, "[]"),
            (ClientProgram::ClaudeCode, "{\"env\": 5}"),
            (ClientProgram::Codex, "a = "),
            (ClientProgram::Codex, "model_providers = 5"),
            (ClientProgram::Aider, "a: [b"),
            (ClientProgram::Aider, "- a"),
            (ClientProgram::Aider, "model: |\n  text\n"),
            (ClientProgram::Continue, "models: {a: b}\n"),
            (ClientProgram::Continue, "models: [{name: a}]\n"),
        ] {
            let file = &client.files().unwrap()[0];
            assert!((file.edit)(text, Change::Set(&setup())).is_err(), "{client:?}: {text}");
        }
    }

    #[test]
    fn key_is_in_no_file_whose_client_runs_a_command() {
        for client in [ClientProgram::ClaudeCode, ClientProgram::Codex, ClientProgram::Continue] {
            let file = &client.files().unwrap()[0];
            let text = file.fragment(&setup()).unwrap();
            assert!(!text.contains("mcpl_key") && !file.holds_key, "{text}");
        }
    }

    #[test]
    fn file_keeps_its_permissions_and_one_with_a_key_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let (path, link) = (dir.path().join("real.json"), dir.path().join("settings.json"));
        fs::write(&path, "{}").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let setup = setup();
        let file = ClientFile { path: link.clone(), ..claude_code::file().unwrap() };
        let Edited::Written(Some(backup)) = file.apply(Change::Set(&setup)).unwrap() else { panic!() };
        assert_eq!(fs::read_to_string(&backup).unwrap(), "{}");
        assert_eq!((mode(&path), mode(&backup)), (0o640, 0o600));
        assert!(link.is_symlink() && fs::read_to_string(&path).unwrap().contains("apiKeyHelper"));
        assert!(matches!(file.apply(Change::Set(&setup)).unwrap(), Edited::Unchanged));

        let path = dir.path().join("aider.yml");
        fs::write(&path, "dark-mode: true\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let file = ClientFile { path: path.clone(), ..aider::file().unwrap() };
        assert!(matches!(file.apply(Change::Set(&setup)).unwrap(), Edited::Written(Some(_))));
        assert_eq!(mode(&path), 0o600);
    }
}
