//! Deletes tokens some time after they expired. Authentication rejects them from the moment they expire; this frees room.

use jiff::{SignedDuration, Timestamp};
use mcpctl_store::Author;

use crate::{
    app::App,
    clock,
    commit::{self, Locking, Proposal},
    writers::Lane,
    writes::{Plan, expired_tokens},
};

/// How long an expired token stays listed, so that its owner can see that it expired.
const EXPIRED_TOKEN_RETENTION: SignedDuration = SignedDuration::from_hours(24);

/// Maximum of tokens that one commit deletes.
const MAX_BATCH: usize = 500;

pub(super) async fn run(app: &App) -> anyhow::Result<()> {
    loop {
        let _turn = app.writers.turn(Lane::Ordinary).await;
        let expired_before = clock::now().checked_sub(EXPIRED_TOKEN_RETENTION)?;
        let deletion = Deletion { app, expired_before };
        let plan = commit::run(&app.store, Locking::AfterLosses, deletion).await?;
        let count = plan.changes.len();
        if count > 0 {
            tracing::info!(count, "expired tokens removed");
        }
        if count < MAX_BATCH {
            return Ok(());
        }
    }
}

struct Deletion<'a> {
    app: &'a App,
    expired_before: Timestamp,
}

impl Proposal for Deletion<'_> {
    type Error = anyhow::Error;

    async fn plan(&mut self) -> anyhow::Result<(Plan, Author)> {
        let plan = expired_tokens::delete(&*self.app.fresh().await?, self.expired_before, MAX_BATCH);
        Ok((plan, Author { principal: "mcpd".to_owned(), ..Author::default() }))
    }
}
