//! References by name: to roles, to subjects, to secrets. Whether what they name exists is shown only to those who may
//! view it.

use mcpctl_access::{Escalation, Principal, Snapshot, Stored, builtin};
use mcpctl_api::{Kind, Spec, Verb, spec::Subject};

use super::{Planner, Refusal, invalid_hint, llm::check_allowed_fields};

/// The refusal with its details for writers who may view rights, without them for all others.
pub fn shown(snapshot: &Snapshot, actor: &Principal, escalation: Escalation) -> Escalation {
    let views_all = |kind| snapshot.authorize_name(actor, Verb::View, kind, "*").is_ok();
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
                self.check_key_exists(llm)
            }
            Spec::RoleBinding(binding) => {
                let role = binding.role.as_str();
                // A role without rights is no secret, but whether a name is taken may be one.
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
            _ => Ok(()),
        }
    }

    /// Whether this batch makes it.
    fn is_new(&self, kind: Kind, name: &str) -> bool {
        self.batch.by_name(kind, name).is_some_and(|stored| self.before.by_id(stored.id()).is_none())
    }

    /// Subjects may come later, but a typing error should be seen.
    fn warn_of_missing(&mut self, stored: &Stored, subjects: &[Subject]) {
        for subject in subjects {
            let (kind, name) = (subject.kind.kind(), subject.name.as_str());
            let may_know = self.before.authorize_name(self.actor, Verb::View, kind, name).is_ok();
            if may_know && self.batch.by_name(kind, name).is_none() {
                self.warnings.push(format!(
                    "{} `{}` names {subject}, which does not exist yet",
                    stored.kind(),
                    stored.name()
                ));
            }
        }
    }
}
