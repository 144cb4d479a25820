//! How a command says that it failed: one line, and the next step where there is one.

use std::{fmt, io, process::ExitCode};

use mcpctl_client::{ClientError, config::ConfigError};
use owo_colors::OwoColorize as _;

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    message: String,
    hint: Option<String>,
    /// Whoever read our output went away; that is nobody's fault.
    broken_pipe: bool,
}

impl Failure {
    /// A failure with a message, lower case, no full stop.
    pub fn new(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), hint: None, broken_pipe: false }
    }

    /// Adds the next step.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Message and hint as part of a line.
    pub fn in_one_line(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{} ({hint})", self.message),
            None => self.message.clone(),
        }
    }

    /// Prints it, and gives the exit code.
    pub fn report(self) -> ExitCode {
        if self.broken_pipe {
            return ExitCode::SUCCESS;
        }
        anstream::eprintln!("{} {}", "error:".red().bold(), self.message);
        if let Some(hint) = self.hint {
            anstream::eprintln!("{} {hint}", "hint:".cyan());
        }
        ExitCode::FAILURE
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self { message: error.to_string(), hint: error.hint(), broken_pipe: false }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self { message: error.to_string(), hint: error.hint(), broken_pipe: false }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let broken_pipe = error.kind() == io::ErrorKind::BrokenPipe;
        Self { message: error.to_string(), hint: None, broken_pipe }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::new(error)
    }
}
