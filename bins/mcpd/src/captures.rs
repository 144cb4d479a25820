//! The bodies of requests to Llms with `capture: {bodies: true}`: lines of JSON in `captures.jsonl` of the data directory,
//! for the owner of the directory alone and of bounded size. No route shows them, and no header of a request is in them.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
};

use jiff::Timestamp;
use mcpctl_owner::{
    PathError,
    file::{self, OpenMode},
};
use serde::Serialize;

use crate::config::CaptureLimits;

/// Captures that wait to be written; further ones are left out, so that a slow disk delays no answer.
const QUEUE: usize = 32;

/// What was sent and received in one request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Capture {
    /// When the answer ended.
    pub at: Timestamp,
    /// The id of the request, as in the access log and the audit.
    pub request_id: String,
    /// The caller.
    pub principal: String,
    /// The Llm.
    pub llm: String,
    /// The status of the answer.
    pub status: u16,
    /// The request's body.
    pub request: String,
    /// The answer's body, as far as it was delivered.
    pub response: String,
    /// Whether a body is longer than what is kept of it.
    pub cut: bool,
}

/// Writes captures on a thread of its own. Where nothing is captured, there is no file.
#[derive(Debug)]
pub struct Captures {
    writer: Mutex<Option<(SyncSender<Capture>, JoinHandle<()>)>>,
    /// Longest body that is kept, bytes; the rest of a longer one is left out.
    pub max_body: usize,
}

impl Captures {
    /// Starts the writer for this data directory.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(data_dir: &Path, limits: CaptureLimits) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE);
        let (path, max) = (data_dir.join("captures.jsonl"), limits.file_bytes.as_u64());
        let mut log = CaptureFile { path, max, open: None };
        let writer =
            thread::Builder::new().name("captures".to_owned()).spawn(move || log.write_all(&receiver))?;
        let max_body = usize::try_from(limits.body_bytes.as_u64()).unwrap_or(usize::MAX);
        Ok(Self { writer: Mutex::new(Some((sender, writer))), max_body })
    }

    /// Hands a capture to the writer. Never waits.
    pub fn record(&self, capture: Capture) {
        let running = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((sender, _)) = &*running else { return };
        if let Err(TrySendError::Full(capture) | TrySendError::Disconnected(capture)) =
            sender.try_send(capture)
        {
            let Capture { request_id, llm, .. } = capture;
            tracing::warn!(request_id, llm, "a capture was left out: the disk does not keep up");
        }
    }

    /// Writes what waits, and ends the writer.
    pub async fn finish(&self) {
        let running = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((sender, writer)) = running {
            drop(sender);
            let ended = tokio::task::spawn_blocking(move || writer.join()).await;
            if !matches!(ended, Ok(Ok(()))) {
                tracing::error!("the writer of captures ended early");
            }
        }
    }
}

struct CaptureFile {
    path: PathBuf,
    /// Maximum size, bytes; the predecessor `captures.jsonl.1` has as many.
    max: u64,
    open: Option<(File, u64)>,
}

impl CaptureFile {
    fn write_all(&mut self, captures: &Receiver<Capture>) {
        for capture in captures {
            if let Err(error) = self.write(&capture) {
                self.open = None;
                tracing::error!(%error, path = %self.path.display(), "a capture cannot be written");
            }
        }
    }

    fn write(&mut self, capture: &Capture) -> io::Result<()> {
        let mut line = serde_json::to_vec(capture)?;
        line.push(b'\n');
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.open.is_none() {
            self.open = Some(open(&self.path)?);
        }
        if self.open.as_ref().is_some_and(|(_, bytes)| *bytes > 0 && bytes.saturating_add(length) > self.max)
        {
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            std::fs::rename(&self.path, old)?;
            self.open = Some(open(&self.path)?);
        }
        let Some((file, bytes)) = &mut self.open else { return Ok(()) };
        file.write_all(&line)?;
        *bytes = bytes.saturating_add(length);
        Ok(())
    }
}

/// Opens or creates the file, for this user alone.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let opened = file::open_own(path, OpenMode::Append);
    let file = opened.map_err(|error: PathError| io::Error::other(error.to_string()))?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn capture(request: &str) -> Capture {
        Capture {
            at: Timestamp::UNIX_EPOCH,
            request_id: "r".to_owned(),
            principal: "User alice".to_owned(),
            llm: "claude".to_owned(),
            status: 200,
            request: request.to_owned(),
            response: String::new(),
            cut: false,
        }
    }

    #[test]
    fn file_is_private_and_has_one_predecessor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("captures.jsonl");
        let mut log = CaptureFile { path: path.clone(), max: 400, open: None };
        for number in 0..20 {
            log.write(&capture(&format!("line\n{number}"))).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.len() <= 400 && text.ends_with("\n") && text.contains(r#""request":"line\n19""#),
            "{text}"
        );
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
