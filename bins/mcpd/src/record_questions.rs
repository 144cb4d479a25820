//! Whose question is answered next, of those that may read much: about records, usage or the audit, many rows; about the rights of all
//! accounts, many rules. An account has one answered at a time, so that none keeps the others waiting; the accounts that wait get their
//! turns in the order in which they came.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mcpctl_api::Id;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinError,
    time::{Instant, timeout_at},
};

/// Questions that are answered at once.
const MAX_AT_ONCE: usize = 2;
/// Questions of one account, with those that wait.
const MAX_OF_ACCOUNT: usize = 4;
/// How long a question waits for its turn.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// How long an answer may take, besides the wait for a turn.
pub const MAX_TIME: Duration = Duration::from_secs(10);

/// Why a question gets no turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoTurn {
    /// The account asks more than its share.
    #[error("this account has other questions about records or rights that are not answered yet")]
    OwnShare,
    /// Other accounts ask as much as is answered at once.
    #[error("too many questions about records or rights are asked at once")]
    Busy,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// It gets no turn.
    #[error(transparent)]
    NoTurn(#[from] NoTurn),
    /// The work has panicked.
    #[error(transparent)]
    Panicked(#[from] JoinError),
}

/// The accounts that ask.
type Accounts = Mutex<HashMap<Id, Share>>;

/// The turns of all accounts.
pub struct RecordQuestions {
    places: Arc<Semaphore>,
    accounts: Arc<Accounts>,
}

/// What an account asks.
struct Share {
    turn: Arc<Semaphore>,
    asked: usize,
}

/// The turn of one question, until it is dropped.
pub struct Turn {
    _place: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
    _asked: Asked,
}

/// A question that waits or is answered.
struct Asked {
    accounts: Arc<Accounts>,
    account: Id,
}

impl Default for RecordQuestions {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_AT_ONCE)), accounts: Arc::default() }
    }
}

impl RecordQuestions {
    /// Waits for the account's turn, then for a place among the accounts.
    ///
    /// # Errors
    /// When the account has as many questions as it may, or no turn comes in time.
    pub async fn take(&self, account: &Id) -> Result<Turn, NoTurn> {
        let (asked, turn) = self.ask(account)?;
        let deadline = Instant::now() + MAX_WAIT;
        let Ok(Ok(own)) = timeout_at(deadline, turn.acquire_owned()).await else {
            return Err(NoTurn::OwnShare);
        };
        let Ok(Ok(place)) = timeout_at(deadline, Arc::clone(&self.places).acquire_owned()).await else {
            return Err(NoTurn::Busy);
        };
        Ok(Turn { _place: place, _own: own, _asked: asked })
    }

    /// Answers a question of this account by work that waits for nothing, in the blocking pool, so that other requests do not wait behind
    /// it. The work keeps the turn: it goes on where the client that asked has left.
    ///
    /// # Errors
    /// When no turn comes in time, or the work panics.
    pub async fn answer<T: Send + 'static>(
        &self,
        account: &Id,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let turn = self.take(account).await?;
        let in_turn = move || {
            let answer = work();
            drop(turn);
            answer
        };
        Ok(tokio::task::spawn_blocking(in_turn).await?)
    }

    fn ask(&self, account: &Id) -> Result<(Asked, Arc<Semaphore>), NoTurn> {
        let mut accounts = locked(&self.accounts);
        let share = accounts
            .entry(account.clone())
            .or_insert_with(|| Share { turn: Arc::new(Semaphore::new(1)), asked: 0 });
        if share.asked >= MAX_OF_ACCOUNT {
            return Err(NoTurn::OwnShare);
        }
        share.asked += 1;
        let asked = Asked { accounts: Arc::clone(&self.accounts), account: account.clone() };
        Ok((asked, Arc::clone(&share.turn)))
    }
}

fn locked(accounts: &Accounts) -> MutexGuard<'_, HashMap<Id, Share>> {
    accounts.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut accounts = locked(&self.accounts);
        match accounts.get_mut(&self.account) {
            Some(share) if share.asked > 1 => share.asked -= 1,
            _ => drop(accounts.remove(&self.account)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin, task::Poll};

    use super::*;

    /// Whether a future is ready now.
    async fn is_ready(mut future: std::pin::Pin<&mut impl Future>) -> bool {
        poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await
    }

    #[tokio::test]
    async fn account_has_one_question_answered_at_a_time() {
        let turns = RecordQuestions::default();
        let [ann, bob, eve] = [(); 3].map(|()| Id::mint());
        let first = turns.take(&ann).await.unwrap();
        let mut second = pin!(turns.take(&ann));
        assert!(!is_ready(second.as_mut()).await, "the other place is for others");
        let of_bob = turns.take(&bob).await.unwrap();
        let mut of_eve = pin!(turns.take(&eve));
        assert!(!is_ready(of_eve.as_mut()).await);
        // Eve waited for a place before Ann's second question did.
        drop(first);
        assert!(!is_ready(second.as_mut()).await);
        let of_eve = of_eve.await.unwrap();
        drop(of_bob);
        let second = second.await.unwrap();
        drop((of_eve, second));
        assert!(locked(&turns.accounts).is_empty(), "nothing is kept of accounts that ask no more");
    }

    #[tokio::test]
    async fn work_keeps_its_turn_where_the_client_has_left() {
        let (turns, ann) = (RecordQuestions::default(), Id::mint());
        let (release, held) = std::sync::mpsc::channel::<()>();
        let mut asked = Box::pin(turns.answer(&ann, move || held.recv()));
        assert!(!is_ready(asked.as_mut()).await);
        drop(asked);
        let mut second = pin!(turns.take(&ann));
        assert!(!is_ready(second.as_mut()).await, "the work goes on");
        drop(release);
        second.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn questions_beyond_a_share_are_refused() {
        let turns = RecordQuestions::default();
        let [ann, bob, eve] = [(); 3].map(|()| Id::mint());
        let first = turns.take(&ann).await.unwrap();
        {
            let mut waiting: Vec<_> = (1..MAX_OF_ACCOUNT).map(|_| Box::pin(turns.take(&ann))).collect();
            for question in &mut waiting {
                assert!(!is_ready(question.as_mut()).await);
            }
            assert!(matches!(turns.take(&ann).await, Err(NoTurn::OwnShare)), "at once");
            for question in waiting {
                assert!(matches!(question.await, Err(NoTurn::OwnShare)), "after a while");
            }
        }
        let of_bob = turns.take(&bob).await.unwrap();
        assert!(matches!(turns.take(&eve).await, Err(NoTurn::Busy)));
        drop((first, of_bob));
        assert!(locked(&turns.accounts).is_empty());
    }
}
