//! Deletes tokens some time after they expired. Authentication rejects them from the moment they expire; this frees room.

use jiff::SignedDuration;
use mcpctl_access::Change;
use mcpctl_api::{Kind, Spec};
use mcpctl_store::CommitError;

use crate::{app::App, writers::Lane};

/// How long an expired token stays listed, so that its owner can see that it expired.
const EXPIRED_TOKEN_RETENTION: SignedDuration = SignedDuration::from_hours(24);

/// Maximum of tokens that one commit deletes.
const MAX_BATCH: usize = 500;

pub(super) async fn run(app: &App) -> anyhow::Result<()> {
    loop {
        let _turn = app.writers.turn(Lane::Ordinary).await;
        let snapshot = app.fresh().await?;
        let before = app.now().checked_sub(EXPIRED_TOKEN_RETENTION)?;
        let mut revision = snapshot.revision();
        let expired = snapshot.all(Kind::Token).filter(
            |stored| matches!(&stored.resource.spec, Spec::Token(token) if token.expires_at < before),
        );
        let mut changes = Vec::new();
        for stored in expired.take(MAX_BATCH) {
            revision = revision.next();
            let (id, name) = (stored.id().clone(), stored.name().clone());
            changes.push(Change::Delete { kind: Kind::Token, id, name, revision });
        }
        if changes.is_empty() {
            return Ok(());
        }
        let count = changes.len();
        match app.store.commit(snapshot.revision(), "mcpd", changes, Vec::new()).await {
            Ok(_) => {
                tracing::info!(count, "expired tokens removed");
                if count < MAX_BATCH {
                    return Ok(());
                }
            }
            Err(CommitError::Moved { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
