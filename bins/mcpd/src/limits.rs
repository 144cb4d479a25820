//! Limits: how much inference subjects may use. A request reserves what it may take under every Limit on it before the provider
//! gets it ([`Limits::reserve`]), and settles with what it took.
//!
//! `tally` counts in slots of time, `decision` decides what fits, `ledger` shares the counters with other replicas, `estimate`
//! guesses the size of a request. Nothing here knows HTTP.

pub mod decision;
pub mod estimate;
pub mod ledger;
pub mod status;
pub mod tally;
pub mod unpriced;

use mcpctl_access::{Principal, Snapshot, Stored};
use mcpctl_api::{
    Id, Name, Spec,
    spec::{Ceiling, LimitScope, Measure},
};
use mcpctl_dialect::usage::Usage;
use mcpctl_store::{LimitKey, Store, StoreError};

pub use decision::{Exceeded, Standing};
pub use estimate::Estimate;
pub use ledger::Reservation;

use decision::Charge;
use ledger::Ledger;

use crate::prices::{self, Pricing};

/// The Limits of this installation.
pub struct Limits {
    ledger: Ledger,
}

/// A request that its Limits admit.
#[derive(Debug, Default)]
pub struct Admission {
    /// What it reserved; `None` if no Limit is on it.
    pub reservation: Option<Reservation>,
    /// How its Limits stand.
    pub standings: Vec<Standing>,
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// It does not fit under a Limit.
    #[error("{}", describe(.exceeded))]
    Exceeded {
        /// The Limit.
        exceeded: Box<Exceeded>,
        /// How all Limits on the request stand.
        standings: Vec<Standing>,
    },
    /// A Limit bounds what the Llm costs, and its price is not known.
    // INVARIANT 15: what cannot be counted is not unlimited.
    #[error("the Limit `{limit}` bounds the cost of the Llm `{llm}`, and its price is not known")]
    NoPrice {
        /// The Limit.
        limit: Name,
        /// The Llm.
        llm: Name,
    },
    /// It cannot be counted.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn describe(exceeded: &Exceeded) -> String {
    let Exceeded { limit, ceiling: Ceiling { measure, max, span }, used, asked, fits_at } = exceeded;
    let allows = format!("the Limit `{limit}` allows {} per {span}", measure.show(*max));
    let are = if *used == 1 && *measure != Measure::Cost { "is" } else { "are" };
    match fits_at {
        Some(_) => format!(
            "{allows}, of which {} {are} used, and this request may take {}",
            measure.show(*used),
            measure.show(*asked)
        ),
        None => format!("{allows}, and this request alone may take {}", measure.show(*asked)),
    }
}

/// What a request took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Tokens of input and output.
    pub tokens: u64,
    /// Its cost in nano-dollars.
    pub cost_nanos: u64,
}

impl Reservation {
    /// Settles a request that was sent to the provider.
    pub fn settle_sent(self, spent: Spent) {
        self.settle(|measure| match measure {
            Measure::Requests => 1,
            Measure::Tokens => spent.tokens,
            Measure::Cost => spent.cost_nanos,
        });
    }
}

impl Limits {
    /// Starts to count.
    pub fn start(store: Store) -> Self {
        Self { ledger: Ledger::start(store) }
    }

    /// Reserves what a request may take under every Limit on it.
    ///
    /// # Errors
    /// When it does not fit under one of them, or cannot be counted.
    pub async fn reserve(
        &self,
        snapshot: &Snapshot,
        principal: &Principal,
        llm: &Stored,
        price: Option<Pricing>,
        estimate: impl FnOnce() -> Estimate,
    ) -> Result<Admission, LimitError> {
        let limits = snapshot.limits_on(principal, llm.name().as_str());
        if limits.is_empty() {
            return Ok(Admission::default());
        }
        let estimate = estimate();
        let mut charges = Vec::new();
        for stored in &limits {
            let Spec::Limit(limit) = &stored.resource.spec else { continue };
            let subject = (limit.per == LimitScope::Subject).then(|| principal.id.clone());
            for ceiling in limit.ceilings() {
                let Some(amount) = amount(estimate, ceiling, price) else {
                    return Err(LimitError::NoPrice {
                        limit: stored.name().clone(),
                        llm: llm.name().clone(),
                    });
                };
                charges.push(Charge {
                    key: key(stored.id(), subject.clone(), &ceiling),
                    limit: stored.name().clone(),
                    ceiling,
                    amount,
                });
            }
        }
        let (reserved, standings) = self.ledger.reserve(charges).await?;
        match reserved {
            Ok(reservation) => Ok(Admission { reservation: Some(reservation), standings }),
            Err(exceeded) => Err(LimitError::Exceeded { exceeded: Box::new(exceeded), standings }),
        }
    }

    /// Stores what requests took, before the daemon ends.
    pub async fn close(&self) {
        self.ledger.close().await;
    }
}

/// The counter of a ceiling. Another span counts anew.
pub fn key(limit: &Id, subject: Option<Id>, ceiling: &Ceiling) -> LimitKey {
    LimitKey {
        limit: limit.clone(),
        subject,
        counts: format!("{}/{}", ceiling.measure.as_str(), ceiling.span),
    }
}

/// What a request may take of a measure; `None` without a price.
fn amount(estimate: Estimate, ceiling: Ceiling, price: Option<Pricing>) -> Option<u64> {
    let Estimate { input, output, bounded } = estimate;
    let of = |output_tokens| {
        let usage = Usage { input_tokens: input, output_tokens, ..Usage::default() };
        match ceiling.measure {
            Measure::Requests => Some(1),
            Measure::Tokens => Some(input.saturating_add(output_tokens)),
            Measure::Cost => price.map(|price| prices::cost(&price, &usage).nanos()),
        }
    };
    let (all, least) = (of(output)?, of(0)?);
    // The output of a request that does not bound it is a guess, which alone does not make it too large.
    Some(if bounded { all } else { all.min(ceiling.max.max(least)) })
}

#[cfg(test)]
mod tests {
    use mcpctl_api::{
        HumanDuration, Usd,
        spec::{Period, Price, Span},
    };

    use super::*;

    #[test]
    fn a_guess_alone_does_not_make_a_request_too_large() {
        let ceiling =
            Ceiling { measure: Measure::Tokens, max: 500, span: Span::Window(HumanDuration::from_secs(60)) };
        let of = |input, output, bounded| amount(Estimate { input, output, bounded }, ceiling, None);
        assert_eq!(of(100, 1024, false), Some(500));
        assert_eq!(of(100, 1024, true), Some(1124), "what it asks for counts in full");
        assert_eq!(of(600, 1024, false), Some(600));
        assert_eq!(of(100, 50, false), Some(150));
    }

    #[test]
    fn inv_15_a_budget_without_a_price_admits_nothing() {
        let ceiling = Ceiling { measure: Measure::Cost, max: 1_000_000_000, span: Span::Period(Period::Day) };
        let estimate = Estimate { input: 1000, output: 100, bounded: true };
        assert_eq!(amount(estimate, ceiling, None), None);
        let price = Price {
            input: Usd::from_nanos(3_000_000_000),
            output: Usd::from_nanos(15_000_000_000),
            cached_input: None,
            cache_write: None,
            reasoning: None,
        };
        assert_eq!(amount(estimate, ceiling, Some(price.into())), Some(3_000_000 + 1_500_000));
    }
}
