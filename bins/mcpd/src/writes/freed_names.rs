//! Names that a deletion or a rename frees: references by such a name are removed or renamed in the same commit, so that
//! the next resource of that name inherits nothing.
//!
//! Bindings, groups and Limits name subjects, bindings name a role, Llms name their fallbacks, and a token shows its owner's
//! name. References to secrets are bound to an id, so they need no change.

use std::sync::Arc;

use mcpctl_access::Stored;
use mcpctl_api::{
    Kind, Name, Spec, Verb,
    spec::{GroupSpec, LimitSpec, RoleBindingSpec, Subject, SubjectKind, TokenSpec},
};

use super::Planner;

/// What happened to a resource that referred to a freed name.
enum Effect {
    Deleted,
    Changed,
}

impl Planner<'_> {
    /// Removes references to a deleted account, group or role.
    pub(super) fn name_freed(&mut self, deleted: &Stored) {
        match subject_kind(deleted.kind()) {
            Some(kind) => self.replace_subject(&subject(kind, deleted.name()), None),
            None if deleted.kind() == Kind::Role => self.role_deleted(deleted.name()),
            None if deleted.kind() == Kind::Llm => self.replace_fallback(deleted.name(), None),
            None => {}
        }
    }

    /// Renames references to a renamed account, group or role.
    pub(super) fn name_changed(&mut self, old: &Stored, new: &Name) {
        if old.name() == new {
            return;
        }
        match subject_kind(old.kind()) {
            Some(kind) => {
                let renamed = subject(kind, new);
                self.replace_subject(&subject(kind, old.name()), Some(&renamed));
                let tokens: Vec<_> = self.batch.after.tokens_of(old.id()).cloned().collect();
                for token in tokens {
                    if let Spec::Token(spec) = &token.resource.spec {
                        let spec = TokenSpec { subject: renamed.clone(), ..spec.clone() };
                        self.replace_spec(&token, Spec::Token(spec));
                    }
                }
            }
            None if old.kind() == Kind::Role => self.role_renamed(old.name(), new),
            None if old.kind() == Kind::Llm => self.replace_fallback(old.name(), Some(new)),
            None => {}
        }
    }

    /// Replaces `old` by `new` in every binding, group and Limit, or removes it.
    fn replace_subject(&mut self, old: &Subject, new: Option<&Subject>) {
        let mut hidden = 0;
        for stored in self.naming(old) {
            let effect = match &stored.resource.spec {
                Spec::RoleBinding(binding) => {
                    let subjects = replaced(&binding.subjects, old, new);
                    if subjects.is_empty() {
                        self.batch.remove(&stored);
                        Effect::Deleted
                    } else {
                        let spec = RoleBindingSpec { subjects, ..binding.clone() };
                        self.replace_spec(&stored, Spec::RoleBinding(spec));
                        Effect::Changed
                    }
                }
                Spec::Group(group) => {
                    let members = replaced(&group.members, old, new);
                    self.replace_spec(&stored, Spec::Group(GroupSpec { members, ..group.clone() }));
                    Effect::Changed
                }
                Spec::Limit(limit) => {
                    let Some(subjects) = &limit.subjects else { continue };
                    let subjects = replaced(subjects, old, new);
                    // Without `subjects` it would cover everyone.
                    if subjects.is_empty() {
                        self.batch.remove(&stored);
                        Effect::Deleted
                    } else {
                        let spec = LimitSpec { subjects: Some(subjects), ..limit.clone() };
                        self.replace_spec(&stored, Spec::Limit(spec));
                        Effect::Changed
                    }
                }
                _ => continue,
            };
            let text = match (effect, new) {
                (Effect::Deleted, _) => format!("is deleted too: it named nothing but {old}"),
                (Effect::Changed, None) => format!("no longer names {old}"),
                (Effect::Changed, Some(new)) => format!("names {new} instead of {old}"),
            };
            self.warn_of_effect(&stored, &text, &mut hidden);
        }
        self.warn_of_hidden(hidden, "binding(s), group(s) or Limit(s)");
    }

    fn role_deleted(&mut self, role: &Name) {
        let mut hidden = 0;
        for stored in self.bindings_of(role) {
            self.batch.remove(&stored);
            self.warn_of_effect(&stored, &format!("is deleted too: it gave the Role `{role}`"), &mut hidden);
        }
        self.warn_of_hidden(hidden, "binding(s), group(s) or Limit(s)");
    }

    fn role_renamed(&mut self, old: &Name, new: &Name) {
        let mut hidden = 0;
        for stored in self.bindings_of(old) {
            let Spec::RoleBinding(binding) = &stored.resource.spec else { continue };
            let spec = RoleBindingSpec { role: new.clone(), ..binding.clone() };
            self.replace_spec(&stored, Spec::RoleBinding(spec));
            self.warn_of_effect(&stored, &format!("gives the Role `{new}` instead of `{old}`"), &mut hidden);
        }
        self.warn_of_hidden(hidden, "binding(s), group(s) or Limit(s)");
    }

    fn bindings_of(&self, role: &Name) -> Vec<Arc<Stored>> {
        self.batch.after.bindings_of(role).cloned().collect()
    }

    /// The bindings, groups and Limits that name a subject, after the planned changes.
    fn naming(&self, subject: &Subject) -> Vec<Arc<Stored>> {
        self.batch.after.naming(subject).cloned().collect()
    }

    /// Warns that a binding, group or Limit names the new account already: they may be written before the account exists.
    pub(super) fn warn_of_awaited(&mut self, made: &Stored) {
        let Some(kind) = subject_kind(made.kind()) else { return };
        let subject = subject(kind, made.name());
        for stored in self.naming(&subject) {
            // No warning for a binding or group of the same batch.
            if self.before.by_id(stored.id()).is_some() && self.may_view(&stored) {
                let (kind, name) = (stored.kind(), stored.name());
                self.warnings.push(format!("{subject} is named by {kind} `{name}` already"));
            }
        }
    }

    pub(super) fn warn_of_effect(&mut self, stored: &Stored, text: &str, hidden: &mut usize) {
        if self.may_view(stored) {
            self.warnings.push(format!("{} `{}` {text}", stored.kind(), stored.name()));
        } else {
            *hidden += 1;
        }
    }

    pub(super) fn warn_of_hidden(&mut self, hidden: usize, what: &str) {
        if hidden > 0 {
            self.warnings.push(format!("{hidden} {what} that you may not view change too"));
        }
    }

    /// Whether the writer may view this resource.
    pub(super) fn may_view(&self, stored: &Stored) -> bool {
        self.before.authorize_name(self.actor, Verb::View, stored.kind(), stored.name().as_str()).is_ok()
    }
}

fn subject(kind: SubjectKind, name: &Name) -> Subject {
    Subject { kind, name: name.clone() }
}

fn subject_kind(kind: Kind) -> Option<SubjectKind> {
    [SubjectKind::User, SubjectKind::Group, SubjectKind::ServiceAccount]
        .into_iter()
        .find(|subject| subject.kind() == kind)
}

/// The list with `old` replaced by `new`, without duplicates.
fn replaced(list: &[Subject], old: &Subject, new: Option<&Subject>) -> Vec<Subject> {
    let mut new = new.filter(|new| !list.contains(new)).cloned();
    list.iter().filter_map(|one| if one == old { new.take() } else { Some(one.clone()) }).collect()
}
