//! Where lines go. Those of the access log are collected and written in batches by one thread, so that requests do not pay for a
//! system call each; every other line is written at once, after those that were collected before it.

use std::{
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

use super::ACCESS_TARGET;

/// How long lines are collected: the lines of this time are lost when the process is killed.
const COLLECT_TIME: Duration = Duration::from_millis(5);
/// Beyond so many bytes, a request writes what was collected itself, so that no line is dropped.
const MAX_COLLECTED_BYTES: usize = 256 * 1024;

/// Writes to `inner`.
pub(super) struct LineQueue<W>(Arc<Shared<W>>);

struct Shared<W> {
    collected: Mutex<Collected>,
    /// Notified when lines are there again, or the program ends.
    not_empty: Condvar,
    /// The buffer that is filled next; held while lines are written, so that they keep their order.
    spare: Mutex<Vec<u8>>,
    inner: W,
}

struct Collected {
    lines: Vec<u8>,
    /// Whether the thread waits to be notified of lines; otherwise it is about to read them.
    is_idle: bool,
    /// Whether there is a thread that writes them.
    has_thread: bool,
}

/// Writes the remaining lines of the access log when it is dropped, at the end of a program. Later ones are written at once.
#[must_use]
pub struct LogGuard(Option<Collecting>);

/// The thread that writes the access log, and what ends it.
struct Collecting {
    end: Box<dyn FnOnce() + Send>,
    thread: JoinHandle<()>,
}

impl LogGuard {
    /// No lines are collected.
    pub(super) const NONE: Self = Self(None);
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        if let Some(Collecting { end, thread }) = self.0.take() {
            end();
            // Its panic is on stderr.
            let _ = thread.join();
        }
    }
}

impl<W> LineQueue<W>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    /// A queue without a thread: every line is written at once.
    pub(super) fn new(inner: W) -> Self {
        let collected = Collected { lines: Vec::new(), is_idle: false, has_thread: false };
        Self(Arc::new(Shared {
            collected: Mutex::new(collected),
            not_empty: Condvar::new(),
            spare: Mutex::new(Vec::new()),
            inner,
        }))
    }

    /// Collects lines of the access log from now on, unless no thread can be started.
    pub(super) fn start(&self) -> LogGuard {
        let shared = Arc::clone(&self.0);
        shared.collected().has_thread = true;
        match thread::Builder::new().name("log".to_owned()).spawn(move || shared.run()) {
            Ok(thread) => {
                let shared = Arc::clone(&self.0);
                let end = move || {
                    shared.collected().has_thread = false;
                    shared.not_empty.notify_one();
                };
                LogGuard(Some(Collecting { end: Box::new(end), thread }))
            }
            Err(_) => {
                self.0.collected().has_thread = false;
                LogGuard::NONE
            }
        }
    }
}

impl<W> Clone for LineQueue<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<W> Shared<W> {
    fn collected(&self) -> MutexGuard<'_, Collected> {
        self.collected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: for<'w> MakeWriter<'w>> Shared<W> {
    /// The thread: writes what was collected every few milliseconds, while there is something.
    fn run(&self) {
        loop {
            let mut collected = self.collected();
            while collected.lines.is_empty() && collected.has_thread {
                collected.is_idle = true;
                collected = self.not_empty.wait(collected).unwrap_or_else(PoisonError::into_inner);
            }
            collected.is_idle = false;
            let waited = self.not_empty.wait_timeout_while(collected, COLLECT_TIME, |all| all.has_thread);
            let is_last = !waited.unwrap_or_else(PoisonError::into_inner).0.has_thread;
            // A log that cannot be written cannot report that either.
            let _ = self.write_with(&[]);
            if is_last {
                return;
            }
        }
    }

    /// Adds a line of the access log.
    fn collect(&self, line: &[u8]) -> io::Result<()> {
        let mut collected = self.collected();
        let is_full = collected.lines.len().saturating_add(line.len()) > MAX_COLLECTED_BYTES;
        if is_full || !collected.has_thread {
            drop(collected);
            return self.write_with(line);
        }
        collected.lines.extend_from_slice(line);
        if std::mem::take(&mut collected.is_idle) {
            self.not_empty.notify_one();
        }
        Ok(())
    }

    /// Writes what was collected, and then `line`.
    fn write_with(&self, line: &[u8]) -> io::Result<()> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut self.collected().lines, &mut *spare);
        let mut written = Ok(());
        if !spare.is_empty() {
            written = self.inner.make_writer().write_all(&spare);
            spare.clear();
        }
        if !line.is_empty() {
            self.inner.make_writer().write_all(line)?;
        }
        written
    }
}

/// Writes one line.
pub(super) struct LineWriter<'a, W> {
    shared: &'a Shared<W>,
    is_access: bool,
}

impl<'a, W: for<'w> MakeWriter<'w> + 'static> MakeWriter<'a> for LineQueue<W> {
    type Writer = LineWriter<'a, W>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter { shared: &self.0, is_access: false }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        LineWriter { shared: &self.0, is_access: metadata.target() == ACCESS_TARGET }
    }
}

impl<W: for<'w> MakeWriter<'w>> Write for LineWriter<'_, W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.is_access {
            true => self.shared.collect(line),
            false => self.shared.write_with(line),
        }
        .map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Captured {
        bytes: Arc<Mutex<Vec<u8>>>,
        writes: Arc<AtomicUsize>,
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.writes.fetch_add(1, Ordering::Relaxed);
            self.bytes.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Captured {
        fn text(&self) -> String {
            String::from_utf8(self.bytes.lock().unwrap().clone()).unwrap()
        }
    }

    fn queue() -> (Captured, LineQueue<impl for<'w> MakeWriter<'w> + Send + Sync + 'static>) {
        let captured = Captured::default();
        let writer = captured.clone();
        (captured, LineQueue::new(move || writer.clone()))
    }

    #[test]
    fn every_line_is_written_once_in_order_and_in_few_writes() {
        let (captured, queue) = queue();
        let guard = queue.start();
        for number in 0..10_000 {
            queue.0.collect(format!("{number}\n").as_bytes()).unwrap();
        }
        drop(guard);
        let expected: String = (0..10_000).map(|number| format!("{number}\n")).collect();
        assert_eq!(captured.text(), expected);
        assert!(captured.writes.load(Ordering::Relaxed) < 5_000);
        queue.0.collect(b"after the end\n").unwrap();
        assert!(captured.text().ends_with("after the end\n"));
    }

    #[test]
    fn full_queue_is_written_by_the_request_that_fills_it() {
        let (captured, queue) = queue();
        // As if the thread did not run.
        queue.0.collected().has_thread = true;
        let line = vec![b'x'; MAX_COLLECTED_BYTES];
        queue.0.collect(&line).unwrap();
        assert_eq!(captured.text(), "");
        queue.0.collect(b"y\n").unwrap();
        assert_eq!(captured.text().len(), MAX_COLLECTED_BYTES + 2);
        assert!(queue.0.collected().lines.is_empty());
    }

    #[test]
    fn other_lines_come_after_those_that_were_collected_before() {
        let (captured, queue) = queue();
        queue.0.collected().has_thread = true;
        queue.0.collect(b"access\n").unwrap();
        queue.make_writer().write_all(b"warning\n").unwrap();
        assert_eq!(captured.text(), "access\nwarning\n");
    }
}
