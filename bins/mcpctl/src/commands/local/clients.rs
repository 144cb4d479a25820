//! Clients whose own configuration `mcpctl local env --for CLIENT` prints or edits, so that they use the agent.
//!
//! A file keeps everything else that is in it, comments included where its format has them. It is written whole or not at all, with
//! the permissions that it had, after what the user had there was kept beside it; taking ours out puts values that they replaced
//! back from there. Where a client can run a command for its key, its file has
//! that command and no key.

mod aider;
mod claude_code;
mod codex;
mod continue_dev;
mod yaml_block;

use std::{
    fs::{self, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use mcpctl_owner::file::{self, Content};
use secrecy::{ExposeSecret as _, SecretString};

use super::kept;
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

    /// Whether its requests have tools, whatever its user asks.
    pub const fn sends_tools(self) -> bool {
        match self {
            Self::ClaudeCode | Self::Codex | Self::Continue => true,
            Self::Aider | Self::Langchain | Self::VercelAi => false,
        }
    }

    /// How the client is started then.
    pub const fn next_step(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude",
            Self::Codex => "codex",
            Self::Aider => "aider",
            Self::Continue => "cn, or choose the model in the editor",
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
enum Change<'a> {
    /// The client uses the agent.
    Set(&'a Setup),
    /// It no longer does. Values that ours replaced come back from the text of before, where that was kept.
    Remove {
        /// What the file held before ours.
        before: Option<&'a str>,
    },
}

/// A file of a client.
pub struct ClientFile {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it will have the key in it.
    holds_key: bool,
    /// Changes a text; fails with what is wrong with the text. A text without anything of ours is what [`Change::Remove`] returns
    /// as it is.
    edit: fn(&str, Change<'_>) -> Result<String, Failure>,
}

/// What will become of a file. Nothing is written yet, so that a client with two files gets both or none.
pub struct Plan {
    file: ClientFile,
    /// The file that a link of a dotfile manager points to, else the path itself.
    real: PathBuf,
    before: Option<String>,
    step: Step,
}

enum Step {
    Nothing,
    /// Write this text, after what was there is kept, where it is the user's alone.
    Set {
        text: String,
        mode: u32,
        keeps: bool,
    },
    /// Write this text; what was kept has no use then.
    Remove {
        text: String,
        mode: u32,
    },
}

/// What became of a file.
pub enum Edited {
    /// It was as it should be.
    Unchanged,
    /// It is written; what was there is kept in this file, where there was something of the user's.
    Written(Option<PathBuf>),
    /// Nothing but our own lines was in it, and it is gone.
    Removed,
}

impl ClientFile {
    /// What the file would hold if it held nothing else.
    pub fn fragment(&self, setup: &Setup) -> Result<String, Failure> {
        (self.edit)("", Change::Set(setup))
    }

    /// Reads the file and edits its text: with a setup the client uses the agent, without one it no longer does.
    pub fn plan(self, setup: Option<&Setup>) -> Result<Plan, Failure> {
        let before = read(&self.path)?;
        let real = kept::real(&self.path)?;
        let text = before.as_deref().unwrap_or_default();
        let edit = |text: &str, change: Change<'_>| {
            (self.edit)(text, change).map_err(|failure| self.at_path(&failure))
        };
        let own = edit(text, Change::Remove { before: None })?;
        let mode = match &before {
            None => PRIVATE,
            Some(_) => fs::metadata(&real)?.permissions().mode() & 0o7777,
        };
        let step = match setup {
            Some(setup) => {
                let edited = edit(text, Change::Set(setup))?;
                let is_exposed = self.holds_key && mode & OTHERS != 0;
                let mode = if self.holds_key { PRIVATE } else { mode };
                match before.as_ref() == Some(&edited) && !is_exposed {
                    true => Step::Nothing,
                    false => Step::Set { text: edited, mode, keeps: before.is_some() && own == text },
                }
            }
            None if own == text => Step::Nothing,
            None => {
                let kept = read(&backup(&real))?;
                // A text that was kept with something of ours in it has nothing of that to give back.
                let kept = kept.map(|kept| edit(&kept, Change::Remove { before: None })).transpose()?;
                Step::Remove { text: edit(text, Change::Remove { before: kept.as_deref() })?, mode }
            }
        };
        Ok(Plan { file: self, real, before, step })
    }

    fn at_path(&self, failure: &Failure) -> Failure {
        at_path(&self.path, failure)
    }
}

impl Plan {
    /// The path that the user knows.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// The file elsewhere that a link lets the key be written to, where it would be.
    pub fn key_goes_to(&self) -> Option<&Path> {
        let holds_key = self.file.holds_key && matches!(self.step, Step::Set { .. });
        (holds_key && self.real != self.file.path).then_some(self.real.as_path())
    }

    /// Writes it.
    pub fn apply(self) -> Result<Edited, Failure> {
        match &self.step {
            Step::Nothing => Ok(Edited::Unchanged),
            Step::Set { text, mode, keeps } => {
                let parent = self.real.parent().ok_or_else(|| Failure::new("the file has no directory"))?;
                fs::create_dir_all(parent)?;
                let kept = match &self.before {
                    Some(before) if *keeps => {
                        let backup = backup(&self.real);
                        file::replace(&backup, before.as_bytes())?;
                        Some(backup)
                    }
                    _ => None,
                };
                self.write(text, *mode)?;
                Ok(Edited::Written(kept))
            }
            Step::Remove { text, mode } => {
                let is_empty = text.trim().is_empty();
                if is_empty {
                    self.check_unchanged()?;
                    fs::remove_file(&self.real)?;
                } else {
                    self.write(text, *mode)?;
                }
                match fs::remove_file(backup(&self.real)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                    _ => {}
                }
                Ok(if is_empty { Edited::Removed } else { Edited::Written(None) })
            }
        }
    }

    fn write(&self, text: &str, mode: u32) -> Result<(), Failure> {
        let parent = self.real.parent().ok_or_else(|| Failure::new("the file has no directory"))?;
        let draft = draft(parent, text.as_bytes(), mode)?;
        self.check_unchanged()?;
        draft.persist(&self.real).map_err(|error| Failure::from(error.error))?;
        Ok(())
    }

    fn check_unchanged(&self) -> Result<(), Failure> {
        match read(&self.file.path)? == self.before {
            true => Ok(()),
            false => {
                let failure = Failure::new("another program changed it meanwhile");
                Err(self.file.at_path(&failure.hint("run this again")))
            }
        }
    }
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    match file::read_named(path, Content::Public, MAX_FILE_BYTES) {
        Ok(bytes) => {
            let text = String::from_utf8(bytes);
            text.map(Some).map_err(|_| at_path(path, &Failure::new("it is not UTF-8")))
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Where the text of before is kept; it may hold keys of the client's, so only its user may read it.
fn backup(real: &Path) -> PathBuf {
    file::beside(real, ".before-mcpctl")
}

fn at_path(path: &Path, failure: &Failure) -> Failure {
    let (message, hint) = failure.parts();
    let at = Failure::new(format!("`{}`: {message}", path.display()));
    at.hint(
        hint.unwrap_or("nothing was changed; correct the file, or print the lines to add without --write"),
    )
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
            assert_eq!(edit(&once, Change::Remove { before: None }).trim(), before.trim(), "{client:?}");
            assert_eq!(edit(before, Change::Remove { before: None }).trim(), before.trim(), "{client:?}");
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
        let file = || ClientFile { path: link.clone(), ..claude_code::file().unwrap() };
        let apply = |file: ClientFile| file.plan(Some(&setup)).unwrap().apply().unwrap();
        let Edited::Written(Some(backup)) = apply(file()) else { panic!() };
        assert_eq!(fs::read_to_string(&backup).unwrap(), "{}");
        assert_eq!((mode(&path), mode(&backup)), (0o640, 0o600));
        assert!(link.is_symlink() && fs::read_to_string(&path).unwrap().contains("apiKeyHelper"));
        assert!(matches!(apply(file()), Edited::Unchanged));

        let path = dir.path().join("aider.yml");
        fs::write(&path, "dark-mode: true\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let link = dir.path().join(".aider.conf.yml");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for (at, elsewhere) in [(&link, true), (&path, false)] {
            let file = ClientFile { path: at.clone(), ..aider::file().unwrap() };
            let plan = file.plan(Some(&setup)).unwrap();
            // It could be in a work tree of git.
            assert_eq!(plan.key_goes_to().is_some(), elsewhere && mode(&path) == 0o644, "{}", at.display());
            plan.apply().unwrap();
        }
        assert_eq!(mode(&path), 0o600);
    }

    /// What ours replaced comes back, also after a second Llm, and nothing of it is kept then.
    #[test]
    fn values_that_ours_replaced_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let settings = r#"{"apiKeyHelper": "corp key", "env": {"ANTHROPIC_BASE_URL": "https://gw", "ANTHROPIC_MODEL": "opus"}}"#;
        let codex =
            "# mine\nmodel = 'o3'\nmodel_provider = \"corp\"\n\n[model_providers.mcpctl]\nname = \"own\"\n";
        let aider = "# mine\r\nmodel: sonnet # best\r\ndark-mode: true\r\n";
        let models = "name: Mine\r\nmodels:\r\n  - name: a\r\n    provider: ollama\r\n    model: m\r\n";
        for (client, at, before) in [
            (ClientProgram::ClaudeCode, 0, settings),
            (ClientProgram::Codex, 0, codex),
            (ClientProgram::Codex, 0, "model = \"o3\"\r\n\r\n[tui]\r\nx = 1\r\n"),
            (ClientProgram::Aider, 0, aider),
            (ClientProgram::Continue, 0, models),
            (ClientProgram::Continue, 0, "name: Mine\r\nmodels: []\r\n"),
            (ClientProgram::Continue, 1, "A=1\r\nB=2"),
        ] {
            let path = dir.path().join("file");
            fs::write(&path, before).unwrap();
            let plan = |setup: Option<&Setup>| {
                let file = client.files().unwrap().remove(at);
                ClientFile { path: path.clone(), ..file }.plan(setup).unwrap().apply().unwrap()
            };
            let kept = backup(&path);
            plan(Some(&setup()));
            plan(Some(&Setup { llm: "claude".to_owned(), ..setup() }));
            assert_eq!(fs::read_to_string(&kept).unwrap(), before, "{client:?}");
            plan(None);
            assert_eq!(fs::read_to_string(&path).unwrap().trim_end(), before.trim_end(), "{client:?}");
            assert!(!kept.exists(), "{client:?}");
            assert!(matches!(plan(None), Edited::Unchanged));
        }
    }
}
