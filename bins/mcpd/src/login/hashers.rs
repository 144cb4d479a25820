//! A fixed number of threads that hash passwords, each with its own memory.
//!
//! The bound is on running hashes, not on waiters: a caller that goes away frees no thread, because its hash runs to the
//! end. A task that has not begun when its caller goes away is skipped.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use mcpctl_secret::password::{HashError, Hasher};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::oneshot;

use super::fair_queue::FairQueue;

/// Maximum of new passwords in the queue; their writers are authorized.
const MAX_QUEUED_WRITES: usize = 256;

/// The queue is full; nothing was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords wait to be hashed; try again in a second")]
pub struct Busy;

/// Threads that hash passwords; they end when this is dropped. `K` is a tenant of the queue.
pub struct Hashers<K> {
    pool: Arc<HasherPool<K>>,
}

struct HasherPool<K> {
    queues: Mutex<HasherQueues<K>>,
    work: Condvar,
}

struct HasherQueues<K> {
    logins: FairQueue<K, Verification>,
    /// One tenant for all writers: each has one password at a time, and `limits.writes` bounds them.
    writes: FairQueue<(), NewHash>,
    /// The queues take turns, so that neither waits for all of the other.
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

impl<K: PartialEq + Send + 'static> Hashers<K> {
    /// Starts `threads` threads; at most `waiting` login attempts wait for them.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(threads: u32, waiting: u32) -> std::io::Result<Self> {
        let queues = HasherQueues {
            logins: FairQueue::new(usize::try_from(waiting).unwrap_or(usize::MAX)),
            writes: FairQueue::new(MAX_QUEUED_WRITES),
            writes_first: false,
            ended: false,
        };
        let pool = Arc::new(HasherPool { queues: Mutex::new(queues), work: Condvar::new() });
        let hashers = Self { pool };
        for number in 1..=threads {
            let pool = Arc::clone(&hashers.pool);
            std::thread::Builder::new().name(format!("hasher-{number}")).spawn(move || run_thread(&pool))?;
        }
        Ok(hashers)
    }

    /// Compares a password with the user's stored hash. `None`, for a user that does not exist, takes as long.
    ///
    /// # Errors
    /// When the queue has no place for this tenant.
    pub async fn verify(
        &self,
        tenant: K,
        password: SecretString,
        stored: Option<String>,
    ) -> Result<bool, Busy> {
        let (done, verified) = oneshot::channel();
        let verification = Verification { password, stored, done };
        let is_abandoned = |waiting: &Verification| waiting.done.is_closed();
        self.pool.lock().logins.push(tenant, verification, is_abandoned).map_err(|_| Busy)?;
        self.pool.work.notify_one();
        // Dropped by the queue to make room for another tenant.
        verified.await.map_err(|_| Busy)
    }

    /// Hashes a new password.
    ///
    /// # Errors
    /// When the queue is full, or the password cannot be hashed.
    pub async fn hash(&self, password: SecretString) -> Result<Result<String, HashError>, Busy> {
        let (done, hashed) = oneshot::channel();
        let is_abandoned = |waiting: &NewHash| waiting.done.is_closed();
        self.pool.lock().writes.push((), NewHash { password, done }, is_abandoned).map_err(|_| Busy)?;
        self.pool.work.notify_one();
        hashed.await.map_err(|_| Busy)
    }
}

impl<K> Drop for Hashers<K> {
    fn drop(&mut self) {
        self.pool.lock().ended = true;
        self.pool.work.notify_all();
    }
}

impl<K> HasherPool<K> {
    fn lock(&self) -> MutexGuard<'_, HasherQueues<K>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: PartialEq> HasherPool<K> {
    /// Waits for the next task; `None` when the hashers are dropped.
    fn next(&self) -> Option<Task> {
        let mut queues = self.lock();
        loop {
            if queues.ended {
                return None;
            }
            if let Some(task) = queues.next() {
                return Some(task);
            }
            queues = self.work.wait(queues).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<K: PartialEq> HasherQueues<K> {
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

fn run_thread<K: PartialEq>(pool: &HasherPool<K>) {
    let mut hasher = Hasher::default();
    while let Some(task) = pool.next() {
        // INVARIANT 8: a panic drops the sender, which denies the login. The thread continues with fresh memory.
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
            // The caller may have gone away.
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
    async fn attempts_beyond_the_queue_are_refused() {
        let hashers = Hashers::start(1, 2).unwrap();
        let attempts = (0..20).map(|_| hashers.verify('a', secret("correct horse"), None));
        let answered = join_all(attempts).await;
        let busy = answered.iter().filter(|answer| **answer == Err(Busy)).count();
        assert!((17..=18).contains(&busy), "{busy}: one is hashed and two wait");
    }

    #[tokio::test]
    async fn abandoned_tasks_are_skipped() {
        let hashers = Hashers::start(1, 1000).unwrap();
        for _ in 0..500 {
            let attempt = hashers.verify('a', secret("correct horse"), None);
            // Polled once, then dropped: the attempt is in the queue and has no waiter.
            assert!(tokio::time::timeout(Duration::ZERO, attempt).await.is_err());
        }
        let waited =
            tokio::time::timeout(Duration::from_secs(5), hashers.verify('b', secret("x"), None)).await;
        assert_eq!(waited, Ok(Ok(false)), "500 hashes would take at least 10 s");
    }
}
