//! Plans the deletion of expired tokens.

use jiff::Timestamp;
use mcpctl_access::Snapshot;
use mcpctl_api::{Kind, Spec};

use super::{Batch, Plan};

/// Deletes at most `max` tokens that expired before this time.
pub fn delete(before: &Snapshot, expired_before: Timestamp, max: usize) -> Plan {
    let mut batch = Batch::new(before);
    let expired = before.all(Kind::Token).filter(
        |stored| matches!(&stored.resource.spec, Spec::Token(token) if token.expires_at < expired_before),
    );
    for token in expired.take(max) {
        batch.remove(token);
    }
    Plan::of(before, batch, None)
}
