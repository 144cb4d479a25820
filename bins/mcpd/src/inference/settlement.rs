//! What a request took, once it has ended: its tokens, counted by the provider or estimated, and their cost. Completes the row of
//! usage, and settles what the request reserved under its Limits.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use mcpctl_dialect::usage::Usage;
use mcpctl_failover::FailureClass;
use mcpctl_store::UsageRow;

use super::access::AccessEnded;
use crate::{
    limits::{Reservation, Spent},
    prices::{self, Pricing},
};

/// The settlement of a running request. Dropped without [`Settlement::settle`], it gives the reservation back.
#[derive(Debug, Default)]
pub struct Settlement {
    /// What the upstream's tokens cost, if known.
    price: Option<Pricing>,
    /// What the request reserved, if a Limit is on it.
    reservation: Option<Reservation>,
    /// Input tokens, estimated from the body.
    input_estimate: u64,
    delivered: Delivered,
}

/// Output tokens that the caller received, estimated. Clones share the count.
#[derive(Debug, Clone, Default)]
pub struct Delivered(Arc<AtomicU64>);

impl Delivered {
    /// Counts tokens.
    pub fn add(&self, tokens: u64) {
        self.0.fetch_add(tokens, Ordering::Relaxed);
    }
}

impl Settlement {
    /// The settlement of a request that was admitted.
    pub fn new(price: Option<Pricing>, reservation: Option<Reservation>, input_estimate: u64) -> Self {
        Self { price, reservation, input_estimate, delivered: Delivered::default() }
    }

    /// The count of what the caller receives: an event with content is about a token.
    pub fn delivered(&self) -> Delivered {
        self.delivered.clone()
    }

    /// Sets what the tokens cost at the upstream that the request goes to.
    pub fn set_price(&mut self, price: Option<Pricing>) {
        self.price = price;
    }

    /// Completes the row, whose outcome is known, and settles.
    pub fn settle(self, row: &mut UsageRow, usage: Option<&Usage>) {
        let counted = usage.copied();
        let used = counted.unwrap_or_else(|| self.estimate(&row.outcome));
        row.estimated = counted.is_none() && used != Usage::default();
        row.input_tokens = used.input_tokens;
        row.output_tokens = used.output_tokens;
        row.cached_input_tokens = used.cached_input_tokens;
        row.cache_write_input_tokens = used.cache_write_input_tokens;
        row.reasoning_tokens = used.reasoning_tokens;
        row.cost_nanos = self.price.map(|price| prices::cost(&price, &used).nanos());
        if let Some(reservation) = self.reservation {
            reservation.settle_sent(Spent {
                tokens: used.input_tokens.saturating_add(used.output_tokens),
                cost_nanos: row.cost_nanos.unwrap_or_default(),
            });
        }
    }

    /// What a request took whose tokens were not counted. An answer that was begun or may have been costs its input and what came
    /// of it; a request that the provider rejected, or never got, costs nothing.
    fn estimate(&self, outcome: &str) -> Usage {
        let may_be_charged = [
            "ok",
            FailureClass::Cancelled.as_str(),
            AccessEnded::Revoked.code(),
            AccessEnded::Unconfirmed.code(),
            FailureClass::BrokenStream.as_str(),
            FailureClass::NoResponse.as_str(),
            FailureClass::NoFirstToken.as_str(),
        ];
        if !may_be_charged.contains(&outcome) {
            return Usage::default();
        }
        Usage {
            input_tokens: self.input_estimate,
            output_tokens: self.delivered.0.load(Ordering::Relaxed),
            ..Usage::default()
        }
    }
}
