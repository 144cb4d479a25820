//! How long a stream is waited for. A timer is set only when nothing has arrived, and moved only when it fires too early, so that
//! an event costs one reading of the clock and no work of the timer.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// The limits of one stream, and since when it is waited for.
pub(crate) struct Patience {
    /// Longest time without a byte.
    idle: Duration,
    /// Longest time without content.
    content: Duration,
    /// When the stream ends in any case.
    last: Instant,
    content_at: Instant,
    /// Whether content has arrived since the clock was read.
    had_content: bool,
    /// Since when nothing has arrived; `None` until the clock is read.
    silent_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Which limit has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expired {
    /// No byte arrived for this long.
    Idle(Duration),
    /// No content arrived in time.
    Content,
}

impl Patience {
    /// At most `idle` without a byte and `content` from `begun` to the first content.
    pub(crate) fn new(idle: Duration, content: Duration, begun: Instant) -> Self {
        Self {
            idle,
            content,
            last: after(begun, content),
            content_at: begun,
            had_content: false,
            silent_since: None,
            timer: None,
        }
    }

    /// From the first content on: at most `idle` without a byte, and as long as before between two events with content. The stream
    /// ends at `last` in any case.
    pub(crate) fn go_on(&mut self, idle: Duration, last: Instant) {
        (self.idle, self.last, self.had_content, self.silent_since) = (idle, last, true, None);
    }

    /// Waits until `last`, for bytes that have no content.
    pub(crate) fn linger(&mut self, last: Instant) {
        (self.idle, self.last, self.silent_since) = (Duration::MAX, last, None);
    }

    /// An event with content has arrived.
    pub(crate) fn content(&mut self) {
        self.had_content = true;
    }

    /// Bytes have arrived.
    ///
    /// # Errors
    /// When there was no content for too long although bytes keep coming.
    pub(crate) fn arrived(&mut self) -> Result<(), Expired> {
        // Where the stream was waited for, `poll_expired` has read the clock.
        if self.silent_since.take().is_none() && self.now() >= self.until() {
            return Err(Expired::Content);
        }
        Ok(())
    }

    /// Nothing has arrived: pending until one of the limits has passed.
    pub(crate) fn poll_expired(&mut self, context: &mut Context<'_>) -> Poll<Expired> {
        let since = match self.silent_since {
            Some(since) => since,
            None => {
                let now = self.now();
                *self.silent_since.insert(now)
            }
        };
        let (idle, until) = (after(since, self.idle), self.until());
        let deadline = idle.min(until);
        loop {
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            // A timer that fires before the deadline is moved then.
            if timer.deadline() > deadline {
                timer.as_mut().reset(deadline);
            }
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            if timer.deadline() >= deadline {
                let expired = if idle <= until { Expired::Idle(self.idle) } else { Expired::Content };
                return Poll::Ready(expired);
            }
            timer.as_mut().reset(deadline);
        }
    }

    fn until(&self) -> Instant {
        after(self.content_at, self.content).min(self.last)
    }

    /// The time; content since the last reading counts from it.
    fn now(&mut self) -> Instant {
        let now = Instant::now();
        if std::mem::take(&mut self.had_content) {
            self.content_at = now;
        }
        now
    }
}

/// The output of a future; `None` where the timer fires first.
pub(crate) async fn before<F: Future>(mut timer: Pin<&mut Sleep>, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => timer.as_mut().poll(context).map(|()| None),
    })
    .await
}

/// `begun + duration`. Where the clock cannot represent that, one year after `begun`, so that there is still a deadline.
pub(crate) fn after(begun: Instant, duration: Duration) -> Instant {
    begun.checked_add(duration).unwrap_or_else(|| begun + Duration::from_secs(365 * 24 * 60 * 60))
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const IDLE: Duration = Duration::from_secs(10);
    const CONTENT: Duration = Duration::from_secs(60);

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// Polls it once, as a stream that has nothing more for now, and returns whether it goes on waiting.
    async fn is_waited_for(patience: &mut Patience) -> bool {
        poll_fn(|context| Poll::Ready(patience.poll_expired(context).is_pending())).await
    }

    #[tokio::test(start_paused = true)]
    async fn silence_counts_from_the_first_wait_after_the_last_byte() {
        let begun = Instant::now();
        let mut patience = Patience::new(IDLE, CONTENT, begun);
        for _ in 0..4 {
            assert!(is_waited_for(&mut patience).await);
            advance(seconds(9)).await;
            patience.arrived().unwrap();
        }
        // While the caller takes nothing, the upstream is not waited for.
        advance(seconds(15)).await;
        let expired = poll_fn(|context| patience.poll_expired(context)).await;
        assert_eq!((expired, begun.elapsed()), (Expired::Content, seconds(60)));

        let mut patience = Patience::new(IDLE, CONTENT, Instant::now());
        let begun = Instant::now();
        assert!(is_waited_for(&mut patience).await);
        advance(seconds(4)).await;
        patience.arrived().unwrap();
        let expired = poll_fn(|context| patience.poll_expired(context)).await;
        assert_eq!((expired, begun.elapsed()), (Expired::Idle(IDLE), seconds(14)));
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_without_content_are_not_waited_for_longer_than_the_limit() {
        let mut patience = Patience::new(IDLE, CONTENT, Instant::now());
        patience.go_on(IDLE, Instant::now() + seconds(100));
        for _ in 0..59 {
            patience.arrived().unwrap();
            advance(seconds(1)).await;
        }
        patience.content();
        patience.arrived().unwrap();
        for _ in 0..41 {
            patience.arrived().unwrap();
            advance(seconds(1)).await;
        }
        patience.content();
        assert_eq!(patience.arrived(), Err(Expired::Content), "the stream has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn shorter_limit_moves_the_timer_forward() {
        let begun = Instant::now();
        let mut patience = Patience::new(CONTENT, CONTENT * 2, begun);
        assert!(is_waited_for(&mut patience).await);
        patience.go_on(IDLE, begun + CONTENT * 9);
        let mut expired = pin!(poll_fn(|context| patience.poll_expired(context)));
        assert_eq!((expired.as_mut().await, begun.elapsed()), (Expired::Idle(IDLE), IDLE));
    }
}
