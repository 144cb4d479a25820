//! Which Limits a request is under.

use std::{collections::HashSet, sync::Arc};

use mcpctl_api::{
    Spec,
    spec::{Subject, SubjectKind},
};

use crate::{Principal, Snapshot, Stored, rules::Memberships};

impl Snapshot {
    /// Every Limit that covers a request of the principal to the Llm of this name: those that name it, one of its groups, or
    /// everyone. Each is listed once.
    pub fn limits_on(&self, principal: &Principal, llm: &str) -> Vec<Arc<Stored>> {
        let own = principal.subject.clone();
        // Every membership counts, whatever the credential is: a Limit takes away.
        let groups = self.index.groups_of(&own, Memberships::Claimed);
        let groups = groups.map(|name| Subject { kind: SubjectKind::Group, name: name.clone() });
        let named = [None, Some(own.clone())].into_iter().chain(groups.map(Some));
        let mut seen = HashSet::new();
        named
            .flat_map(|subject| self.index.limits_of(subject))
            .filter(|stored| matches!(&stored.resource.spec, Spec::Limit(limit) if limit.covers_llm(llm)))
            .filter(|stored| seen.insert(stored.id().clone()))
            .cloned()
            .collect()
    }
}
