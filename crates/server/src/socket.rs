//! The socket of a connection, with a record of whether the peer takes the written data.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use crate::progress::{LeastRate, Progress};

/// How long the peer's data is read and dropped before the socket is closed. Closing a socket with unread bytes resets the
/// connection, and a reset can overtake the response that explains why the rest was not read.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
const DISCARD_BUFFER_BYTES: usize = 16 * 1024;

/// A socket that records the progress of its writes.
pub(crate) struct Socket<S> {
    inner: S,
    written: Arc<Mutex<Progress>>,
    least: LeastRate,
    linger: Option<Pin<Box<Sleep>>>,
}

impl<S> Socket<S> {
    /// Wraps a socket. `written` is shared with the checks of the connection.
    pub(crate) fn new(inner: S, written: Arc<Mutex<Progress>>, least: LeastRate) -> Self {
        Self { inner, written, least, linger: None }
    }

    /// The socket itself.
    pub(crate) fn inner_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    fn record(&self, write: &Poll<io::Result<usize>>) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        match write {
            Poll::Pending => written.waiting(Instant::now()),
            // Most writes wait for nothing, and need no clock.
            Poll::Ready(Ok(count)) if written.is_waiting() => {
                written.moved(u64::try_from(*count).unwrap_or(u64::MAX), Instant::now(), self.least);
            }
            Poll::Ready(_) => {}
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.record(&write);
        write
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.record(&write);
        write
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    /// hyper and h2 flush the socket when all of their own buffers are written, so no data is waiting then.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).done();
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { inner, linger, .. } = &mut *self;
        let linger = match linger {
            Some(linger) => linger,
            None => {
                ready!(Pin::new(&mut *inner).poll_shutdown(cx))?;
                linger.insert(Box::pin(sleep(LINGER_TIMEOUT)))
            }
        };
        let mut discarded = [0; DISCARD_BUFFER_BYTES];
        loop {
            if linger.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut discarded);
            match ready!(Pin::new(&mut *inner).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                // The peer has closed or reset the connection, so that a reset of ours can overtake nothing.
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}
