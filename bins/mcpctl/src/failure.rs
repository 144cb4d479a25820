//! Why a command failed: a message of one line, and the next step where there is one.

use std::{fmt, io, process::ExitCode};

use mcpctl_api::visible::one_line;
use mcpctl_client::{ClientError, config::ConfigError};

/// Why a command failed.
#[derive(Debug, Clone)]
pub struct Failure {
    message: String,
    hint: Option<String>,
    cause: Cause,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// It could not be done.
    Failed,
    /// The command line was wrong; nothing was sent.
    Usage,
    /// A comparison could not be made, for which 1 is the answer that something differs.
    Uncompared,
    /// The reader of our output closed the pipe, which is no failure.
    BrokenPipe,
}

impl Failure {
    /// A failure with a message, lower case, no full stop.
    pub fn new(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), hint: None, cause: Cause::Failed }
    }

    /// Wrong usage that the parser of the command line cannot detect.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { cause: Cause::Usage, ..Self::new(message) }
    }

    /// The same failure of a comparison.
    #[must_use]
    pub fn uncompared(self) -> Self {
        match self.cause {
            Cause::Failed => Self { cause: Cause::Uncompared, ..self },
            Cause::Usage | Cause::Uncompared | Cause::BrokenPipe => self,
        }
    }

    /// Whether the command line was wrong.
    pub fn is_usage(&self) -> bool {
        self.cause == Cause::Usage
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
            Some(hint) => one_line(&format!("{} ({hint})", self.message)).into_owned(),
            None => one_line(&self.message).into_owned(),
        }
    }

    /// The message and the next step.
    pub fn parts(&self) -> (&str, Option<&str>) {
        (&self.message, self.hint.as_deref())
    }

    /// The exit code; `None` where the reader of stdout has closed the pipe, which is no failure.
    pub fn exit_code(&self) -> Option<ExitCode> {
        match self.cause {
            Cause::Failed => Some(ExitCode::FAILURE),
            Cause::Usage | Cause::Uncompared => Some(ExitCode::from(2)),
            Cause::BrokenPipe => None,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self { message: error.to_string(), hint: error.hint(), cause: Cause::Failed }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self { message: error.to_string(), hint: error.hint(), cause: Cause::Failed }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let broken_pipe = error.kind() == io::ErrorKind::BrokenPipe;
        let cause = if broken_pipe { Cause::BrokenPipe } else { Cause::Failed };
        // The kinds are lower case and without numbers; where there is none, the system's own words are better.
        let kind = error.kind().to_string();
        let message =
            if kind.contains("uncategorized") || kind == "other error" { error.to_string() } else { kind };
        Self { cause, ..Self::new(message) }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::new(error)
    }
}
