//! The index of who holds which rules, built once per snapshot in which roles, bindings or groups changed.

use std::{collections::HashMap, sync::Arc};

use mcpctl_api::{
    Kind, Name, Spec, Verb,
    spec::{NamePattern, Rule, Subject, SubjectKind},
};

use crate::{Snapshot, builtin};

/// A role that a binding gives.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(crate) binding: Name,
    pub(crate) role: Name,
    pub(crate) rules: Arc<[Rule]>,
}

/// Why something is allowed: this binding gives this role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The binding.
    pub binding: Name,
    /// The role that the binding gives.
    pub role: Name,
    /// The group by which the caller has the binding.
    pub via_group: Option<Name>,
}

/// Which subject holds which grants, and is in which groups.
#[derive(Debug, Default)]
pub(crate) struct Index {
    grants: HashMap<Subject, Vec<Grant>>,
    groups: HashMap<Subject, Vec<Name>>,
}

impl Index {
    /// Whether a change of such a resource can change the index.
    pub(crate) fn depends_on(kind: Kind) -> bool {
        matches!(kind, Kind::Role | Kind::RoleBinding | Kind::Group)
    }

    pub(crate) fn build(snapshot: &Snapshot) -> Self {
        let mut index = Self::default();
        let roles: HashMap<&Name, Arc<[Rule]>> = snapshot
            .all(Kind::Role)
            .filter_map(|stored| match &stored.resource.spec {
                // What a built-in role says is ours to say, whatever the store holds.
                Spec::Role(role) => Some((
                    stored.name(),
                    builtin::rules(stored.name().as_str()).unwrap_or_else(|| role.rules.clone()).into(),
                )),
                _ => None,
            })
            .collect();
        for stored in snapshot.all(Kind::RoleBinding) {
            let Spec::RoleBinding(binding) = &stored.resource.spec else { continue };
            // A binding to a role that is gone gives nothing.
            let Some(rules) = roles.get(&binding.role) else { continue };
            for subject in &binding.subjects {
                index.grants.entry(subject.clone()).or_default().push(Grant {
                    binding: stored.name().clone(),
                    role: binding.role.clone(),
                    rules: Arc::clone(rules),
                });
            }
        }
        for stored in snapshot.all(Kind::Group) {
            let Spec::Group(group) = &stored.resource.spec else { continue };
            for member in &group.members {
                let groups = index.groups.entry(member.clone()).or_default();
                if !groups.contains(stored.name()) {
                    groups.push(stored.name().clone());
                }
            }
        }
        index
    }

    pub(crate) fn groups_of(&self, subject: &Subject) -> &[Name] {
        self.groups.get(subject).map_or(&[], Vec::as_slice)
    }

    /// What bindings give to exactly this subject, its groups left out.
    pub(crate) fn direct(&self, subject: &Subject) -> &[Grant] {
        self.grants.get(subject).map_or(&[], Vec::as_slice)
    }

    /// Subjects that some binding names.
    pub(crate) fn bound(&self) -> impl Iterator<Item = &Subject> {
        self.grants.keys()
    }

    /// Every grant of a subject, with the group by which it has it.
    pub(crate) fn held_by<'a>(
        &'a self,
        subject: &'a Subject,
    ) -> impl Iterator<Item = (&'a Grant, Option<&'a Name>)> {
        let direct = self.direct(subject).iter().map(|grant| (grant, None));
        let by_group = self.groups_of(subject).iter().flat_map(|name| {
            let group = Subject { kind: SubjectKind::Group, name: name.clone() };
            self.grants.get(&group).into_iter().flatten().map(move |grant| (grant, Some(name)))
        });
        direct.chain(by_group)
    }

    /// The first grant that allows `verb` on a resource of this kind whose name `fits`.
    pub(crate) fn find(
        &self,
        subject: &Subject,
        verb: Verb,
        kind: Kind,
        fits: impl Fn(&NamePattern) -> bool,
    ) -> Option<Reason> {
        let allows = |rule: &Rule| {
            rule.kinds.iter().any(|k| k.includes(&kind))
                && rule.verbs.iter().any(|v| v.includes(&verb))
                && rule.names.iter().any(&fits)
        };
        self.held_by(subject).find(|(grant, _)| grant.rules.iter().any(allows)).map(|(grant, via)| Reason {
            binding: grant.binding.clone(),
            role: grant.role.clone(),
            via_group: via.cloned(),
        })
    }
}
