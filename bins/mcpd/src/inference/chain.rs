//! The order in which Llms are tried: the one that was asked for, then its fallbacks, each followed by its own. Pure: what failed
//! comes in, the permit for the next one goes out.

use std::collections::{HashSet, VecDeque};

use mcpctl_access::{Permit, Stored, verb::Run};
use mcpctl_api::{
    Id, Kind, Name, Spec,
    spec::{Capability, FallbackClass},
};
use mcpctl_failover::FailureClass;

use crate::{caller::Caller, writes::fallbacks::MAX_DEPTH};

/// The Llms that one request may still fall back to.
pub struct Chain {
    /// By level: the fallbacks of the Llm that was asked for, those of its fallback, and so on.
    levels: Vec<VecDeque<Name>>,
    seen: HashSet<Id>,
}

impl Chain {
    /// The chain of a request for this Llm.
    pub fn new(llm: &Stored) -> Self {
        Self { levels: Vec::new(), seen: HashSet::from([llm.id().clone()]) }
    }

    /// Begins again with the documents as they are now: what was tried stays out.
    pub fn begin_again(&mut self) {
        self.levels.clear();
    }

    /// Notes that an Llm failed: those that it lists for this class come next.
    ///
    /// INVARIANT 2: what the caller caused leads nowhere, and ends the whole chain.
    pub fn failed(&mut self, llm: &Stored, class: FailureClass) {
        if !class.may_fail_over(&[FailureClass::ContextLength]) {
            self.levels.clear();
        } else if self.levels.len() < MAX_DEPTH {
            self.levels.push(fallbacks(llm, class));
        }
    }

    /// The permit for the next Llm, in the snapshot that the caller was authenticated in.
    ///
    /// INVARIANT 7: a fallback is authorized for the caller in its own right; one that the caller may not run is left out, with
    /// all that it would lead to.
    pub fn next(&mut self, caller: &Caller) -> Option<Permit<Run>> {
        loop {
            let level = self.levels.last_mut()?;
            let Some(name) = level.pop_front() else {
                self.levels.pop();
                continue;
            };
            let Ok(permit) = caller.snapshot.authorize::<Run>(&caller.principal, Kind::Llm, name.as_str())
            else {
                tracing::debug!(llm = %name, "a fallback that the caller may not run is left out");
                continue;
            };
            if self.seen.insert(permit.resource().id().clone()) {
                return Some(permit);
            }
        }
    }

    /// The permit for the next Llm with a capability; those without it stay for [`Chain::next`].
    pub fn next_with(&mut self, caller: &Caller, capability: Capability) -> Option<Permit<Run>> {
        let Self { levels, seen } = self;
        for level in levels.iter_mut().rev() {
            let permit = |name: &Name| {
                // INVARIANT 7, as for the others.
                let permit =
                    caller.snapshot.authorize::<Run>(&caller.principal, Kind::Llm, name.as_str()).ok()?;
                let can = matches!(&permit.resource().resource.spec, Spec::Llm(spec) if spec.can(capability));
                (can && !seen.contains(permit.resource().id())).then_some(permit)
            };
            if let Some((at, permit)) =
                level.iter().enumerate().find_map(|(at, name)| Some((at, permit(name)?)))
            {
                level.remove(at);
                seen.insert(permit.resource().id().clone());
                return Some(permit);
            }
        }
        None
    }

    /// Puts an Llm back that refused the form of a request: it comes next for another form.
    pub fn put_back(&mut self, llm: &Stored) {
        self.seen.remove(llm.id());
        match self.levels.last_mut() {
            Some(level) => level.push_front(llm.name().clone()),
            None => self.levels.push(VecDeque::from([llm.name().clone()])),
        }
    }

    /// Whether an Llm that fails in this class has a fallback that the caller may run.
    pub fn leads_on(&self, caller: &Caller, llm: &Stored, class: FailureClass) -> bool {
        fallbacks(llm, class).iter().any(|name| {
            caller
                .snapshot
                .authorize::<Run>(&caller.principal, Kind::Llm, name.as_str())
                .is_ok_and(|permit| !self.seen.contains(permit.resource().id()))
        })
    }
}

/// The fallbacks that an Llm lists for a class.
fn fallbacks(llm: &Stored, class: FailureClass) -> VecDeque<Name> {
    let Spec::Llm(spec) = &llm.resource.spec else { return VecDeque::new() };
    let listed =
        spec.fallbacks.iter().filter(|fallback| fallback.on.iter().any(|on| failure_class(*on) == class));
    listed.map(|fallback| fallback.llm.clone()).collect()
}

/// The class as it occurs.
const fn failure_class(class: FallbackClass) -> FailureClass {
    match class {
        FallbackClass::Connect => FailureClass::Connect,
        FallbackClass::NoResponse => FailureClass::NoResponse,
        FallbackClass::NoFirstToken => FailureClass::NoFirstToken,
        FallbackClass::ServerError => FailureClass::ServerError,
        FallbackClass::RateLimited => FailureClass::RateLimited,
        FallbackClass::UpstreamCredentials => FailureClass::UpstreamCredentials,
        FallbackClass::ModelUnavailable => FailureClass::ModelUnavailable,
        FallbackClass::ContextLength => FailureClass::ContextLength,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_02_default_classes_are_those_that_fail_over_by_default() {
        let listed: HashSet<_> = FallbackClass::defaults().into_iter().map(failure_class).collect();
        let expected = FailureClass::ALL.into_iter().filter(|class| class.may_fail_over(&[]));
        assert_eq!(listed, expected.collect());
    }
}
