//! Which runtime serves a request. Inference has one of its own where a daemon gives it one: however much of it there is, probes,
//! feeds and changes of resources then do not wait behind it for a thread.
//!
//! A connection is registered with the runtime of its first request, and moves to the other one with a request of the other
//! workload. HTTP/2 connections carry both at once, so they stay where inference is.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tokio::runtime::{Builder, Handle, Runtime};

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Everything but inference.
    Management,
    /// Inference.
    Inference,
}

/// The runtimes of a daemon, one for each workload. The one of inference ends with the last clone.
#[derive(Debug, Clone)]
pub struct Runtimes {
    management: Handle,
    inference: Arc<InferenceRuntime>,
    workload: fn(&str) -> Workload,
}

#[derive(Debug)]
struct InferenceRuntime {
    handle: Handle,
    owned: Option<Runtime>,
}

impl Drop for InferenceRuntime {
    fn drop(&mut self) {
        // Waiting for its tasks would block the runtime that drops it.
        if let Some(runtime) = self.owned.take() {
            runtime.shutdown_background();
        }
    }
}

impl Runtimes {
    /// Starts a runtime for inference, with a thread per processor; the present one serves everything else. `workload` judges a
    /// request by its path.
    ///
    /// # Errors
    /// When the threads cannot be started.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn start(workload: fn(&str) -> Workload) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().thread_name("inference").enable_all().build()?;
        let inference = InferenceRuntime { handle: runtime.handle().clone(), owned: Some(runtime) };
        Ok(Self { management: Handle::current(), inference: Arc::new(inference), workload })
    }

    pub(crate) fn of(&self, workload: Workload) -> &Handle {
        match workload {
            Workload::Management => &self.management,
            Workload::Inference => &self.inference.handle,
        }
    }

    /// The workload of a connection, by the first bytes that arrived on it.
    pub(crate) fn of_first_bytes(&self, bytes: &[u8]) -> Workload {
        if bytes.starts_with(b"PRI ") {
            return Workload::Inference;
        }
        let target = bytes.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
        str::from_utf8(path).map_or(Workload::Management, self.workload)
    }
}

/// The runtime that a connection wants to be served by.
#[derive(Debug)]
pub(crate) struct Placement {
    runtimes: Runtimes,
    inference: AtomicBool,
}

impl Placement {
    pub(crate) fn new(runtimes: Runtimes, first: Workload) -> Arc<Self> {
        Arc::new(Self { runtimes, inference: AtomicBool::new(first == Workload::Inference) })
    }

    fn wanted(&self) -> Workload {
        if self.inference.load(Ordering::Relaxed) { Workload::Inference } else { Workload::Management }
    }

    /// Wants the runtime of a request. Returns whether the connection has to move there first.
    pub(crate) fn turn_to(&self, path: &str) -> bool {
        let inference = (self.runtimes.workload)(path) == Workload::Inference;
        self.inference.swap(inference, Ordering::Relaxed) != inference
    }

    /// Serves a connection at the runtime that it wants, and moves it whenever it wants the other one.
    pub(crate) fn spawn(self: Arc<Self>, served: BoxFuture<'static, ()>) {
        let here = self.wanted();
        let runtime = self.runtimes.of(here).clone();
        runtime.spawn(async move {
            let mut served = served;
            let ended = std::future::poll_fn(|context| match served.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(true),
                Poll::Pending if self.wanted() != here => Poll::Ready(false),
                Poll::Pending => Poll::Pending,
            });
            if !ended.await {
                self.spawn(served);
            }
        });
    }
}

/// Suspends the handler of a request once, so that it begins after its connection has moved.
#[derive(Debug, Default)]
pub(crate) struct Suspend(bool);

impl Future for Suspend {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtimes() -> Runtimes {
        let workload =
            |path: &str| if path.starts_with("/v1/") { Workload::Inference } else { Workload::Management };
        Runtimes::start(workload).unwrap()
    }

    #[tokio::test]
    async fn workload_of_a_connection_is_read_from_its_first_bytes() {
        for (bytes, workload) in [
            ("POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n\r\n", Workload::Inference),
            ("GET /v1/models?limit=1 HTTP/1.1\r\n", Workload::Inference),
            ("HEAD /api/v1/llms/a HTTP/1.1\r\n", Workload::Management),
            ("GET /api/v1/watch?kind=/v1/ HTTP/1.1\r\n", Workload::Management),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Workload::Inference),
            ("POST", Workload::Management),
            ("", Workload::Management),
            ("\u{fffd} /v1", Workload::Management),
        ] {
            assert_eq!(runtimes().of_first_bytes(bytes.as_bytes()), workload, "{bytes}");
        }
        assert_eq!(runtimes().of_first_bytes(b"POST /v1/\xff HTTP/1.1"), Workload::Management);
    }
}
