//! The upstreams of an Llm in one request: which one is next, and what is kept of each between requests (breaker, retry budget,
//! outstanding requests, whether it counts usage in streams).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mcpctl_access::Snapshot;
use mcpctl_api::spec::{LlmSpec, Upstream};
use mcpctl_dialect::Request;
use mcpctl_failover::{Candidate, Outstanding};
use mcpctl_store::Store;
use mcpctl_upstream::Target;

use super::{
    Inference,
    breakers::Passage,
    prepared::PreparedUpstream,
    route::{Misconfigured, Route},
};

/// The turns of an Llm's upstreams at one request.
pub struct Targets<'a> {
    inference: &'a Inference,
    spec: &'a LlmSpec,
    route: &'a Route,
    request: &'a Request,
    /// Those that can be asked; an upstream whose credential cannot be used is removed.
    seats: Vec<Seat<'a>>,
}

struct Seat<'a> {
    upstream: Upstream<'a>,
    prepared: &'a PreparedUpstream,
    tried: bool,
}

/// One upstream's turn.
pub struct TargetTurn<'a> {
    /// The upstream.
    pub upstream: Upstream<'a>,
    /// What its state is kept by.
    pub key: Arc<str>,
    /// Its address and credential.
    pub target: Target,
    /// The way past its breaker.
    pub passage: Passage<'a>,
    /// Its request, counted.
    pub outstanding: Outstanding,
}

/// The key of the upstream that was chosen, the way past its breaker, and its request, counted.
type Chosen<'a> = (Arc<str>, Passage<'a>, Outstanding);

impl<'a> Targets<'a> {
    /// The turns of a permitted request.
    pub fn new(inference: &'a Inference, route: &'a Route, request: &'a Request) -> Self {
        let seat = |(upstream, prepared)| Seat { upstream, prepared, tried: false };
        let seats = route.upstreams().map(seat).collect();
        Self { inference, spec: route.llm(), route, request, seats }
    }

    /// The first turn: of the upstream with the fewest outstanding requests for its weight.
    ///
    /// # Errors
    /// When no upstream has a credential that can be used: the problem of the last one.
    pub fn first(&mut self, snapshot: &Snapshot, store: &Store) -> Result<TargetTurn<'a>, Misconfigured> {
        let mut problem = Misconfigured::NotAnLlm;
        while let Some(chosen) = self.choose(|_| true) {
            match self.open(chosen, snapshot, store) {
                Ok(turn) => return Ok(turn),
                Err(error) => problem = error,
            }
        }
        Err(problem)
    }

    /// The next turn, of an upstream that was not tried and is not skipped.
    pub fn other(&mut self, snapshot: &Snapshot, store: &Store) -> Option<TargetTurn<'a>> {
        while let Some(chosen) = self.choose(|candidate| !candidate.tried && candidate.ejected_for.is_none())
        {
            if let Ok(turn) = self.open(chosen, snapshot, store) {
                return Some(turn);
            }
        }
        None
    }

    /// Whether [`Targets::other`] would find one, as far as is known without its credential.
    pub fn has_other(&self) -> bool {
        let now = Instant::now();
        self.seats.iter().any(|seat| !seat.tried && self.ejected_for(seat, now).is_none())
    }

    /// Opens the credential of a chosen upstream; one that cannot be used removes the upstream from this request's choice.
    fn open(
        &mut self,
        (key, passage, outstanding): Chosen<'a>,
        snapshot: &Snapshot,
        store: &Store,
    ) -> Result<TargetTurn<'a>, Misconfigured> {
        let seat =
            self.seats.iter_mut().find(|seat| seat.prepared.key == key).ok_or(Misconfigured::NotAnLlm)?;
        let (upstream, prepared) = (seat.upstream, seat.prepared);
        seat.tried = true;
        match self.route.target(&upstream, prepared, snapshot, store) {
            Ok(target) => Ok(TargetTurn { upstream, key, target, passage, outstanding }),
            Err(error) => {
                self.seats.retain(|seat| seat.prepared.key != key);
                if !self.seats.is_empty() {
                    tracing::warn!(target = %upstream.host(), %error, "a target of an Llm is left out");
                }
                Err(error)
            }
        }
    }

    fn choose(&self, may: impl Fn(&Candidate) -> bool) -> Option<Chosen<'a>> {
        let breakers = &self.inference.breakers;
        let now = Instant::now();
        let mut candidates: Vec<_> = self
            .seats
            .iter()
            .map(|seat| Candidate {
                key: Arc::clone(&seat.prepared.key),
                weight: seat.upstream.weight,
                ejected_for: self.ejected_for(seat, now),
                tried: seat.tried,
            })
            .collect();
        loop {
            candidates.retain(&may);
            let (at, outstanding) = self.inference.balancer.take(&candidates)?;
            let chosen = candidates.get_mut(at)?;
            let passage = breakers.admit(self.spec, &chosen.key, self.request);
            if passage.skipped().is_none() || chosen.ejected_for.is_some() {
                return Some((Arc::clone(&chosen.key), passage, outstanding));
            }
            // Another request took the trial in between.
            chosen.ejected_for = Some(Duration::ZERO);
        }
    }

    /// How long an upstream's breaker still skips requests like this one.
    fn ejected_for(&self, seat: &Seat<'_>, now: Instant) -> Option<Duration> {
        let open = self.inference.breakers.skipping(self.spec, &seat.prepared.key, self.request, now)?;
        Some(open.remaining)
    }
}
