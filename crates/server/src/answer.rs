//! The unfinished responses of a connection. A response that the peer does not take is dropped, so that its source (a
//! provider's connection, a watch) is released.

use std::{
    collections::BTreeMap,
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::time::Instant;

use crate::progress::{LeastRate, Progress};

/// The largest piece that is handed to the connection at once, so that progress shows even while a peer takes a large
/// response slowly.
const MAX_PIECE_BYTES: usize = 16 * 1024;

/// The requests of one connection whose responses are unfinished.
#[derive(Debug, Clone)]
pub(crate) struct Answers(Arc<Mutex<InFlightRequests>>);

#[derive(Debug)]
struct InFlightRequests {
    next: u64,
    requests: usize,
    /// All requests of the connection so far.
    seen: u64,
    quiet_since: Instant,
    bodies: BTreeMap<u64, Arc<Mutex<Slot>>>,
}

impl Default for Answers {
    fn default() -> Self {
        let running = InFlightRequests {
            next: 0,
            requests: 0,
            seen: 0,
            quiet_since: Instant::now(),
            bodies: BTreeMap::new(),
        };
        Self(Arc::new(Mutex::new(running)))
    }
}

/// A request, from the end of its head to the end of its response.
#[derive(Debug)]
pub(crate) struct InFlight(Answers);

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut running = self.0.running();
        running.requests = running.requests.saturating_sub(1);
        running.quiet_since = Instant::now();
    }
}

impl Answers {
    fn running(&self) -> MutexGuard<'_, InFlightRequests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request's head arrived.
    pub(crate) fn begin(&self) -> InFlight {
        let mut running = self.running();
        running.requests += 1;
        running.seen += 1;
        InFlight(self.clone())
    }

    /// Since when there is no request in flight; `None` while there is one.
    pub(crate) fn quiet_since(&self) -> Option<Instant> {
        let running = self.running();
        (running.requests == 0).then_some(running.quiet_since)
    }

    /// Whether a request's head ever arrived.
    pub(crate) fn any_request(&self) -> bool {
        self.running().seen > 0
    }

    /// Wraps the body of a response, so that it is dropped when it stalls.
    pub(crate) fn watch(&self, body: Body, request: InFlight, least: LeastRate) -> AnswerBody {
        let slot = Slot {
            body: Some((body, request)),
            rest: Bytes::new(),
            handed_out: 0,
            progress: Progress::default(),
            waker: None,
        };
        let slot = Arc::new(Mutex::new(slot));
        let mut running = self.running();
        let id = running.next;
        running.next += 1;
        running.bodies.insert(id, Arc::clone(&slot));
        AnswerBody { slot, least, id, answers: self.clone() }
    }

    /// Drops the responses that the peer does not take, and returns their number.
    pub(crate) fn cut_stalled(&self, now: Instant, least: LeastRate) -> usize {
        let bodies: Vec<_> = self.running().bodies.values().map(Arc::clone).collect();
        bodies.iter().filter(|slot| cut_if_stalled(slot, now, least)).count()
    }
}

fn cut_if_stalled(slot: &Mutex<Slot>, now: Instant, least: LeastRate) -> bool {
    let (body, waker) = {
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.body.is_none() || !slot.progress.is_stalled(now, least) {
            return false;
        }
        slot.rest = Bytes::new();
        (slot.body.take(), slot.waker.take())
    };
    // Outside the lock, because dropping a body runs the code of its source.
    drop(body);
    if let Some(waker) = waker {
        waker.wake();
    }
    true
}

/// The unsent part of a response.
struct Slot {
    body: Option<(Body, InFlight)>,
    rest: Bytes,
    /// Bytes of the last piece. The connection has taken them when it polls again.
    handed_out: usize,
    progress: Progress,
    waker: Option<Waker>,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("progress", &self.progress).finish_non_exhaustive()
    }
}

/// The body of a response, dropped when it stalls.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    slot: Arc<Mutex<Slot>>,
    least: LeastRate,
    id: u64,
    answers: Answers,
}

impl AnswerBody {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        let removed = self.answers.running().bodies.remove(&self.id);
        // After the lock is released, because dropping the request takes it too.
        drop(removed);
    }
}

impl hyper::body::Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let least = self.least;
        let mut slot = self.slot();
        let Slot { body, rest, handed_out, progress, waker } = &mut *slot;
        let Some((body, _)) = body else {
            let error = io::Error::new(io::ErrorKind::TimedOut, "the peer does not take the answer");
            return Poll::Ready(Some(Err(axum::Error::new(error))));
        };
        if waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        let taken = std::mem::take(handed_out);
        if rest.is_empty() {
            match Pin::new(body).poll_frame(cx) {
                Poll::Pending => {
                    // The peer took everything; from here on the delay is the upstream's.
                    progress.done();
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => *rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                Poll::Ready(end) => return Poll::Ready(end),
            }
        }
        let piece = rest.split_to(rest.len().min(MAX_PIECE_BYTES));
        *handed_out = piece.len();
        // The clock is read once per piece, and not where the peer has taken everything.
        let now = Instant::now();
        progress.moved(u64::try_from(taken).unwrap_or(u64::MAX), now, least);
        progress.waiting(now);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        let slot = self.slot();
        slot.rest.is_empty() && slot.body.as_ref().is_some_and(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let slot = self.slot();
        let rest = u64::try_from(slot.rest.len()).unwrap_or(u64::MAX);
        let Some((body, _)) = &slot.body else { return SizeHint::default() };
        let inner = body.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(inner.lower().saturating_add(rest));
        hint
    }
}
