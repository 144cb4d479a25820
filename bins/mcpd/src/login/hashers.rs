//! A fixed few threads that hash passwords, each with memory of its own that it keeps.
//!
//! The bound belongs to the work and not to who waits for it: a caller who goes away frees nothing, because the thread
//! is busy until the hash is done. Work that has not begun when its caller goes away is skipped.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use mcpctl_secret::password::{HashError, Hasher};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::oneshot;

use super::line::Line;

/// New passwords that wait to be hashed for authorized writers.
const MAX_WAITING_WRITES: usize = 256;

/// All places to wait are taken; nothing was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords wait to be hashed; try again in a second")]
pub struct Busy;

/// Threads that hash passwords; they end when this is dropped.
pub struct Hashers<P> {
    shared: Arc<Shared<P>>,
}

struct Shared<P> {
    state: Mutex<State<P>>,
    work: Condvar,
}

struct State<P> {
    logins: Line<P, Verification>,
    /// One party: writers are bounded elsewhere, each with one password at a time.
    writes: Line<(), NewHash>,
    /// Which of the two is next, so that neither waits for all of the other.
    writes_first: bool,
    ended: bool,
}

struct Verification {
    password: SecretString,
    stored: Option<String>,
    done: oneshot::Sender<bool>,
}

struct NewHash {
    password: SecretString,
    done: oneshot::Sender<Result<String, HashError>>,
}

enum Task {
    Verify(Verification),
    Hash(NewHash),
}

impl<P: PartialEq + Send + 'static> Hashers<P> {
    /// Starts so many threads, before which so many attempts can wait.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(threads: u32, waiting: u32) -> std::io::Result<Self> {
        let state = State {
            logins: Line::new(usize::try_from(waiting).unwrap_or(usize::MAX)),
            writes: Line::new(MAX_WAITING_WRITES),
            writes_first: false,
            ended: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), work: Condvar::new() });
        let hashers = Self { shared };
        for number in 1..=threads {
            let shared = Arc::clone(&hashers.shared);
            std::thread::Builder::new().name(format!("hasher-{number}")).spawn(move || work(&shared))?;
        }
        Ok(hashers)
    }

    /// Compares a password with what is stored for a user; nothing is stored for users who do not exist, and that takes
    /// as long.
    ///
    /// # Errors
    /// When no place to wait is left for this party.
    pub async fn verify(
        &self,
        party: P,
        password: SecretString,
        stored: Option<String>,
    ) -> Result<bool, Busy> {
        let (done, verified) = oneshot::channel();
        let verification = Verification { password, stored, done };
        let gone = |waiting: &Verification| waiting.done.is_closed();
        self.shared.lock().logins.push(party, verification, gone).map_err(|_| Busy)?;
        self.shared.work.notify_one();
        // Dropped unanswered: another party needed the place.
        verified.await.map_err(|_| Busy)
    }

    /// Hashes a new password.
    ///
    /// # Errors
    /// When no place to wait is left, or the password cannot be hashed.
    pub async fn hash(&self, password: SecretString) -> Result<Result<String, HashError>, Busy> {
        let (done, hashed) = oneshot::channel();
        let gone = |waiting: &NewHash| waiting.done.is_closed();
        self.shared.lock().writes.push((), NewHash { password, done }, gone).map_err(|_| Busy)?;
        self.shared.work.notify_one();
        hashed.await.map_err(|_| Busy)
    }
}

impl<P> Drop for Hashers<P> {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.work.notify_all();
    }
}

impl<P> Shared<P> {
    fn lock(&self) -> MutexGuard<'_, State<P>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: PartialEq> Shared<P> {
    /// Waits for the next task; nothing when the hashers end.
    fn next(&self) -> Option<Task> {
        let mut state = self.lock();
        loop {
            if state.ended {
                return None;
            }
            if let Some(task) = state.next() {
                return Some(task);
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<P: PartialEq> State<P> {
    fn next(&mut self) -> Option<Task> {
        self.writes_first = !self.writes_first;
        if self.writes_first {
            self.write().or_else(|| self.login())
        } else {
            self.login().or_else(|| self.write())
        }
    }

    fn login(&mut self) -> Option<Task> {
        std::iter::from_fn(|| self.logins.pop()).find(|task| !task.done.is_closed()).map(Task::Verify)
    }

    fn write(&mut self) -> Option<Task> {
        std::iter::from_fn(|| self.writes.pop()).find(|task| !task.done.is_closed()).map(Task::Hash)
    }
}

fn work<P: PartialEq>(shared: &Shared<P>) {
    let mut hasher = Hasher::default();
    while let Some(task) = shared.next() {
        // INVARIANT 8: a panic answers nothing, which is a denial; the thread goes on with fresh memory.
        if catch_unwind(AssertUnwindSafe(|| perform(&mut hasher, task))).is_err() {
            hasher = Hasher::default();
        }
    }
}

fn perform(hasher: &mut Hasher, task: Task) {
    match task {
        Task::Verify(Verification { password, stored, done }) => {
            let verified = hasher.verify(password.expose_secret(), stored.as_deref());
            if verified == Err(mcpctl_secret::password::VerifyError::Unreadable) {
                tracing::error!("a stored password hash cannot be read, so its user cannot sign in");
            }
            // A caller who went away needs no answer.
            let _ = done.send(verified.is_ok());
        }
        Task::Hash(NewHash { password, done }) => {
            let _ = done.send(hasher.hash(password.expose_secret()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::join_all;

    use super::*;

    fn secret(text: &str) -> SecretString {
        text.to_owned().into()
    }

    #[tokio::test]
    async fn hashes_verify_and_unknown_users_do_not() {
        let hashers = Hashers::start(1, 4).unwrap();
        let stored = hashers.hash(secret("correct horse")).await.unwrap().unwrap();
        assert_eq!(hashers.verify('a', secret("correct horse"), Some(stored.clone())).await, Ok(true));
        assert_eq!(hashers.verify('a', secret("correct horsf"), Some(stored)).await, Ok(false));
        assert_eq!(hashers.verify('a', secret("correct horse"), None).await, Ok(false));
        assert!(hashers.hash(secret("short")).await.unwrap().is_err());
    }

    #[tokio::test]
    async fn attempts_beyond_the_waiting_line_are_refused() {
        let hashers = Hashers::start(1, 2).unwrap();
        let attempts = (0..20).map(|_| hashers.verify('a', secret("correct horse"), None));
        let answered = join_all(attempts).await;
        let busy = answered.iter().filter(|answer| **answer == Err(Busy)).count();
        assert!((17..=18).contains(&busy), "{busy}: one is hashed and two wait");
    }

    #[tokio::test]
    async fn work_of_callers_who_went_away_is_skipped() {
        let hashers = Hashers::start(1, 1000).unwrap();
        for _ in 0..500 {
            let attempt = hashers.verify('a', secret("correct horse"), None);
            // Polled once, then dropped: the attempt is in the line and has no waiter.
            assert!(tokio::time::timeout(Duration::ZERO, attempt).await.is_err());
        }
        let waited =
            tokio::time::timeout(Duration::from_secs(5), hashers.verify('b', secret("x"), None)).await;
        assert_eq!(waited, Ok(Ok(false)), "500 hashes would take at least 10 s");
    }
}
