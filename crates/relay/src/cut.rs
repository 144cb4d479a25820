//! A stream's body that can be cut from outside, also while its reader does not read: the upstream's work is cancelled at once.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures::Stream;

use crate::{body::StreamBody, recovery::Recovery};

/// A stream on its way to the caller, until it is cut.
pub struct CuttableBody(Arc<Mutex<State>>);

/// Cuts one stream.
pub struct Cutter(Weak<Mutex<State>>);

struct State {
    /// Taken when it ends, and when it is cut.
    body: Option<StreamBody>,
    /// What the reader gets after a cut.
    last: Option<Bytes>,
    reader: Option<Waker>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CuttableBody {
    /// A body that was not cut yet.
    pub fn new(body: StreamBody) -> Self {
        Self(Arc::new(Mutex::new(State { body: Some(body), last: None, reader: None })))
    }

    /// Goes on with another attempt where the stream breaks.
    #[must_use]
    pub fn recovered_by(self, recovery: Option<Recovery>) -> Self {
        {
            let mut state = lock(&self.0);
            state.body = state.body.take().map(|body| body.recovered_by(recovery));
        }
        self
    }

    /// What cuts it.
    pub fn cutter(&self) -> Cutter {
        Cutter(Arc::downgrade(&self.0))
    }
}

impl Cutter {
    /// Ends the stream with `last`, which must not look like a proper end (INVARIANT 13). False where it had ended before.
    pub fn cut(&self, last: Bytes) -> bool {
        let Some(state) = self.0.upgrade() else { return false };
        let (body, reader) = {
            let mut state = lock(&state);
            let Some(body) = state.body.take() else { return false };
            state.last = Some(last);
            (body, state.reader.take())
        };
        // Cancels the upstream's work, and accounts for it.
        drop(body);
        if let Some(reader) = reader {
            reader.wake();
        }
        true
    }
}

impl Stream for CuttableBody {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = lock(&self.0);
        let State { body: running, last, reader } = &mut *state;
        let Some(body) = running else { return Poll::Ready(last.take().map(Ok)) };
        let polled = Pin::new(&mut *body).poll_next(context);
        if polled.is_pending() {
            if reader.as_ref().is_none_or(|reader| !reader.will_wake(context.waker())) {
                *reader = Some(context.waker().clone());
            }
        } else if body.is_done() {
            // Nothing may follow its last bytes.
            *running = None;
        }
        polled
    }
}
