//! Lists of what a principal may do something with: a walk in the order of names that begins anywhere and passes over what no
//! rule of the principal can match, so that a page costs as much as it shows.

use std::{iter, ops::Bound, sync::Arc};

use mcpctl_api::{Kind, Verb};

use crate::{
    Permit, Principal, Snapshot, Stored,
    rules::{CompiledRule, Names},
    verb::VerbType,
};

/// Where the names that a rule can match go on after a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Next<'a> {
    /// With whatever follows it.
    Following,
    /// At this name, which follows it, or behind that.
    From(&'a str),
}

impl Snapshot {
    /// Permits for all resources of a kind on which the principal may do `V`, ordered by name.
    pub fn permitted<V: VerbType>(&self, principal: &Principal, kind: Kind) -> Vec<Permit<V>> {
        self.permitted_after(principal, kind, "").collect()
    }

    /// As [`Snapshot::permitted`], of the resources whose names follow `name`.
    pub fn permitted_after<'a, V: VerbType>(
        &'a self,
        principal: &'a Principal,
        kind: Kind,
        name: &'a str,
    ) -> impl Iterator<Item = Permit<V>> + use<'a, V> {
        let rules = self.rules_about(principal, V::VERB, kind);
        let follow = move |name: &'a str| match rules.iter().filter_map(|rule| next(rule, name)).min()? {
            Next::Following => self.all_after(kind, name).next(),
            Next::From(from) => self.by_name(kind, from).or_else(|| self.all_after(kind, from).next()),
        };
        let mut name = name;
        let candidates = iter::from_fn(move || {
            let stored: &'a Arc<Stored> = follow(name)?;
            name = stored.name().as_str();
            Some(stored)
        });
        // INVARIANT 9: what is passed over is decided by no rule, and what is not by the function that decides everything.
        let permitted = candidates.filter(move |stored| {
            self.allows(principal, V::VERB, kind, Names::One(stored.name().as_str())).is_some()
        });
        permitted.map(|stored| self.permit(stored))
    }

    /// The rules that the principal's subject holds about this, without what takes away from them.
    fn rules_about(&self, principal: &Principal, verb: Verb, kind: Kind) -> Vec<&CompiledRule> {
        let mut rules = self.rights_by(&principal.subject, principal.memberships());
        rules.retain(|rule| rule.is_about(verb, kind));
        rules
    }
}

/// Where the names that a rule can match go on after `name`; `None` where none follows.
fn next<'a>(rule: &'a CompiledRule, name: &str) -> Option<Next<'a>> {
    let exact = rule.exact().range::<str, _>((Bound::Excluded(name), Bound::Unbounded)).next();
    let patterns = rule.patterns().iter().filter_map(|pattern| {
        // Whatever it matches begins with this.
        let prefix = pattern.as_str().split('*').next().unwrap_or_default();
        if name < prefix {
            Some(Next::From(prefix))
        } else {
            name.starts_with(prefix).then_some(Next::Following)
        }
    });
    patterns.chain(exact.map(|name| Next::From(name))).min()
}
