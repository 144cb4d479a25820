//! What a change of `failover` lets agents do.

use mcpctl_access::Stored;
use mcpctl_api::{Spec, spec::FailoverVerb};

use super::Planner;

impl Planner<'_> {
    /// A document that leaves `failover` out has its defaults, and would lift an emergency stop without a word.
    pub(super) fn warn_of_loosened_failover(&mut self, old: &Stored, new: &Stored) {
        let (Spec::Llm(before), Spec::Llm(after)) = (&old.resource.spec, &new.resource.spec) else { return };
        let (before, after) = (before.failover, after.failover);
        let name = new.name();
        if !before.allowed && after.allowed {
            self.warnings.push(format!(
                "agents may answer in place of Llm `{name}` again: `failover.allowed` was false"
            ));
        }
        if before.require == FailoverVerb::Run && after.require == FailoverVerb::View {
            self.warnings.push(format!(
                "agents may answer in place of Llm `{name}` for all who may view it: `failover.require` was `run`"
            ));
        }
    }
}
