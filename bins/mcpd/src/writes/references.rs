//! Checks references by name to roles, subjects and secrets. Only a writer that may view the referenced resource learns
//! whether it exists.

use mcpctl_access::{Escalation, Principal, Snapshot, Stored, builtin};
use mcpctl_api::{Kind, Spec, Verb, spec::Subject};

use super::{Planner, Refusal, invalid_hint, llm::check_allowed_fields};

/// Hides the details of an escalation from a writer that may not view rights.
pub fn shown(snapshot: &Snapshot, actor: &Principal, escalation: Escalation) -> Escalation {
    let views_all = |kind| snapshot.authorize_all(actor, Verb::View, kind).is_ok();
    match escalation {
        Escalation::Gain { .. } if ![Kind::Role, Kind::RoleBinding].into_iter().all(views_all) => {
            Escalation::HiddenGain
        }
        Escalation::Loss { ref subject }
            if snapshot
                .authorize_name(actor, Verb::View, subject.kind.kind(), subject.name.as_str())
                .is_err() =>
        {
            Escalation::HiddenLoss
        }
        other => other,
    }
}

impl Planner<'_> {
    pub(super) fn check_references(&mut self, stored: &Stored) -> Result<(), Refusal> {
        match &stored.resource.spec {
            Spec::Llm(llm) => {
                check_allowed_fields(llm)?;
                self.check_keys_exist(llm)?;
                self.check_fallbacks(stored, llm)
            }
            Spec::RoleBinding(binding) => {
                let role = binding.role.as_str();
                // Whether a role of this name exists may be confidential.
                if !builtin::is_builtin(role) && !self.is_new(Kind::Role, role) {
                    self.before.authorize_name(self.actor, Verb::View, Kind::Role, role)?;
                }
                if self.batch.by_name(Kind::Role, role).is_none() {
                    return Err(invalid_hint(
                        "role",
                        format!("there is no Role `{role}`"),
                        "`mcpctl get roles` lists them",
                    ));
                }
                self.warn_of_missing(stored, &binding.subjects);
                Ok(())
            }
            Spec::Group(group) => {
                self.warn_of_missing(stored, &group.members);
                Ok(())
            }
            Spec::Limit(limit) => {
                self.warn_of_missing(stored, limit.subjects.as_deref().unwrap_or_default());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether this batch creates it.
    pub(super) fn is_new(&self, kind: Kind, name: &str) -> bool {
        self.batch.by_name(kind, name).is_some_and(|stored| self.before.by_id(stored.id()).is_none())
    }

    /// Warns of missing subjects: they may be created later, but a typing error should be seen.
    fn warn_of_missing(&mut self, stored: &Stored, subjects: &[Subject]) {
        for subject in subjects {
            let (kind, name) = (subject.kind.kind(), subject.name.as_str());
            let may_view = self.before.authorize_name(self.actor, Verb::View, kind, name).is_ok();
            if may_view && self.batch.by_name(kind, name).is_none() {
                self.warnings.push(format!(
                    "{} `{}` names {subject}, which does not exist yet",
                    stored.kind(),
                    stored.name()
                ));
            }
        }
    }
}
