//! The log of one engine. Reads in it how far a start is, and why the engine ended.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mcpctl_supervisor::OutputLog;
use tokio::{sync::watch, time::Instant};

use crate::{
    ServerKind,
    server::{self, ModelServer},
    status::StartPhase,
};

/// The part of a line that an error repeats.
const MAX_DIAGNOSIS_CHARS: usize = 300;
/// An engine that ran on for this long after a complaint ended for another reason.
const COMPLAINT_RETENTION: Duration = Duration::from_secs(60);

pub(crate) struct EngineLog {
    server: ServerKind,
    output: OutputLog,
    complaints: Mutex<Complaints>,
    /// How far the start is, by the last line that shows it.
    progress: watch::Sender<Option<(StartPhase, Option<u8>)>>,
}

#[derive(Default)]
struct Complaints {
    /// The first of the recent complaints.
    first: Option<(Instant, String)>,
    /// Whether the last line was `first`, so that the next one may explain it.
    is_open: bool,
}

impl Complaints {
    /// Keeps the first complaint until it is too old to be why the engine ends.
    fn read(&mut self, server: &dyn ModelServer, line: &str) {
        if let (true, Some((_, complaint))) = (self.is_open, &mut self.first)
            && let Some(explanation) = server.explanation(complaint, line)
        {
            *complaint = explanation.to_owned();
        }
        let complaint = server.complaint(line).filter(|_| self.recent().is_none());
        self.is_open = complaint.is_some();
        if let Some(complaint) = complaint {
            self.first = Some((Instant::now(), complaint.to_owned()));
        }
    }

    fn recent(&self) -> Option<&str> {
        let recent = self.first.as_ref().filter(|(at, _)| at.elapsed() < COMPLAINT_RETENTION);
        recent.map(|(_, complaint)| complaint.as_str())
    }
}

impl EngineLog {
    pub(crate) fn new(server: ServerKind, directory: &Path, name: &str) -> Self {
        let (output, progress) = (OutputLog::new(directory, name), watch::Sender::new(None));
        Self { server, output, complaints: Mutex::default(), progress }
    }

    pub(crate) fn output(&self) -> &OutputLog {
        &self.output
    }

    /// How far the start is, by what the engine writes.
    pub(crate) fn progress(&self) -> watch::Receiver<Option<(StartPhase, Option<u8>)>> {
        self.progress.subscribe()
    }

    /// Begins the log of a new start. None of the `secrets` ever gets into it.
    pub(crate) fn begin(&self, secrets: Vec<String>) {
        self.progress.send_replace(None);
        *self.complaints() = Complaints::default();
        self.output.begin(secrets);
    }

    /// Adds a line, and returns it as it was added: without secrets.
    pub(crate) fn line(&self, line: &str) -> String {
        if let Some(progress) = server::start_progress(self.server.server(), line) {
            self.progress.send_replace(Some(progress));
        }
        let line = self.output.line(line);
        self.complaints().read(self.server.server(), &line);
        line
    }

    /// Why the engine ended, if it has: its first recent complaint, or else its last line.
    pub(crate) fn diagnosis(&self) -> String {
        let complaint = self.complaints().recent().map(str::to_owned);
        let line = complaint.unwrap_or_else(|| self.output.last_line());
        line.trim().chars().take(MAX_DIAGNOSIS_CHARS).collect()
    }

    fn complaints(&self) -> MutexGuard<'_, Complaints> {
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn diagnosis_is_first_recent_complaint_or_last_line() {
        let dir = tempfile::tempdir().unwrap();
        let log = EngineLog::new(ServerKind::VLLM, dir.path(), "e");
        log.begin(vec!["s3cr3t-key".to_owned()]);
        assert_eq!(log.diagnosis(), "");
        log.line("all is well");
        assert_eq!(log.diagnosis(), "all is well");
        log.line("ValueError: no s3cr3t-key fits");
        log.line("RuntimeError: it did not start");
        log.line("goodbye");
        assert_eq!(log.diagnosis(), "ValueError: no [redacted] fits");
        // The engine ran on for long: it ends for another reason.
        tokio::time::advance(COMPLAINT_RETENTION).await;
        assert_eq!(log.diagnosis(), "goodbye");
        log.line("MemoryError: no more");
        assert_eq!(log.diagnosis(), "MemoryError: no more");
        log.begin(Vec::new());
        assert_eq!(log.diagnosis(), "");
        log.line("ValidationError: 1 validation error for ModelConfig");
        log.line("  Value error, it is too long");
        log.line("  Value error, that is not the first");
        assert_eq!(log.diagnosis(), "Value error, it is too long");
    }
}
