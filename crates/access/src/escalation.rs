//! Checks that a write grants no right that its writer lacks, and takes none away from a subject that holds more than
//! the writer. It compares what every subject may do before and after the write, so that roles, bindings, groups, new
//! accounts under a bound name, renamed and re-enabled accounts are all one case.

use std::collections::{BTreeSet, HashSet};

use jiff::{SignedDuration, Timestamp};
use mcpctl_api::{
    Id, Kind, Name, Spec, Verb,
    spec::{GroupSpec, Subject, SubjectKind},
};

use crate::{
    Confidential, Narrowing, Principal, Snapshot,
    rules::{CompiledRule, Grant, Memberships, Names},
};

/// Why a write oversteps the rights of the writer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Escalation {
    /// It would hand out a right that the writer does not hold.
    #[error(
        "this would let {subject} {verb} {plural} `{names}`, which you may not do yourself",
        plural = kind.plural()
    )]
    Gain {
        /// The subject that would gain it.
        subject: Subject,
        /// Kind of the right.
        kind: Kind,
        /// Verb of the right.
        verb: Verb,
        /// Names of the right.
        names: String,
    },
    /// It would take a right away from a subject who holds more than the writer.
    #[error("this would take rights away from {subject}, who holds rights that you do not hold")]
    Loss {
        /// The subject that would lose it.
        subject: Subject,
    },
    /// It would make a credential for another subject, without the right to.
    #[error("you may not make credentials for {subject}")]
    Credential {
        /// The subject of the credential.
        subject: Subject,
    },
    /// A token's rules are more than the account that it is for may do, or than the token that would make it.
    #[error(
        "rule {rule} of the token is more than {holder} may do: {verb} {plural} `{names}`",
        plural = kind.plural()
    )]
    TokenRule {
        /// Which rule, from 1 on.
        rule: usize,
        /// What holds less.
        holder: String,
        /// Kind of the right.
        kind: Kind,
        /// Verb of the right.
        verb: Verb,
        /// Names of the right.
        names: String,
    },
    /// A narrowed token would make a credential that is not narrowed.
    #[error("this token is narrowed, so it makes no credential that is not")]
    Narrowed,
    /// The same as [`Escalation::Gain`], for writers who may not view rights.
    #[error("this would hand out rights that you do not hold")]
    HiddenGain,
    /// The same as [`Escalation::Loss`], for writers who may not view the subject and its rights.
    #[error("this would take rights away from an account that holds rights that you do not hold")]
    HiddenLoss,
}

/// A credential of the last administrator counts only if it is valid for at least this long.
const MIN_ADMINISTRATOR_VALIDITY: SignedDuration = SignedDuration::from_hours(24);

/// The rules of the actor, those of each maker of its credential, and those that the credential is narrowed to: all of them
/// must cover a right.
struct Holders<'a>(Vec<Vec<&'a CompiledRule>>);

impl Holders<'_> {
    /// Whether the actor and each maker hold or may grant this right.
    fn cover(&self, (kind, verb, names): (Kind, Verb, &str)) -> bool {
        let covers =
            |rule: &&CompiledRule| rule.covers(verb, kind, names) || rule.covers(Verb::Grant, kind, names);
        !self.0.is_empty() && self.0.iter().all(|rules| rules.iter().any(covers))
    }
}

impl Snapshot {
    /// INVARIANT 12: whether the step from `self` to `after` gives any subject a right that `actor` does not hold in
    /// `self` and may not `grant`, or takes one away from an account that holds more than `actor`.
    ///
    /// Subjects are every name that a binding or a group names, every claim that maps to a group, and every account: rights that
    /// are written down for an account that does not exist yet, or is disabled, count like those of an active one. A subject
    /// that is renamed keeps what it had: bindings and groups follow it.
    ///
    /// # Errors
    /// The first such right.
    pub fn check_step(&self, after: &Self, actor: &Principal) -> Result<(), Escalation> {
        let affected = self.affected(after);
        self.check_claims(after, actor, &affected)?;
        Memberships::ALL
            .into_iter()
            .try_for_each(|memberships| self.check_rights(after, actor, memberships, &affected))
    }

    /// Every subject whose account or rights differ in `after`, and possibly others, in order. The two snapshots share what did not
    /// change, so that this costs as much as the change.
    pub(crate) fn affected(&self, after: &Self) -> BTreeSet<Subject> {
        let mut affected: BTreeSet<Subject> = self.index.changed_subjects(&after.index).into_iter().collect();
        for kind in [SubjectKind::User, SubjectKind::ServiceAccount, SubjectKind::Group] {
            let changed = self.changed_names(after, kind.kind()).into_iter();
            affected.extend(changed.map(|name| Subject { kind, name: name.clone() }));
        }
        let groups: Vec<Name> = affected
            .iter()
            .filter(|subject| subject.kind == SubjectKind::Group)
            .map(|group| group.name.clone())
            .collect();
        for (snapshot, name) in groups.iter().flat_map(|name| [(self, name), (after, name)]) {
            let Some(group) = snapshot.group(name) else { continue };
            affected.extend(group.members.iter().cloned());
            affected.extend(snapshot.index.claimants_of(group));
        }
        affected
    }

    fn group(&self, name: &Name) -> Option<&GroupSpec> {
        match &self.by_name(Kind::Group, name.as_str())?.resource.spec {
            Spec::Group(group) => Some(group),
            _ => None,
        }
    }

    /// Compares the rights that subjects have by these memberships.
    fn check_rights(
        &self,
        after: &Self,
        actor: &Principal,
        memberships: Memberships,
        affected: &BTreeSet<Subject>,
    ) -> Result<(), Escalation> {
        let is_same = |subject: &Subject| {
            self.index.states(subject, memberships) == after.index.states(subject, memberships)
        };
        for subject in affected.iter().filter(|subject| !is_same(subject)) {
            let mut had = self.rights_by(subject, memberships);
            if let Some(former) = self.former(after, subject) {
                had.extend(self.rights_by(&former, memberships));
            }
            self.check_gain(actor, subject, &had, &after.rights_by(subject, memberships))?;
        }
        for subject in affected.iter().filter(|subject| subject.kind != SubjectKind::Group) {
            let (id_before, id_after) = (self.active_id(subject), after.active_id(subject));
            let same_account = id_before == id_after;
            let (existing, left_over) = (self.account_id(subject), after.account_id(subject));
            if same_account && existing == left_over && is_same(subject) {
                continue;
            }
            let (had, gets) = (self.rights_by(subject, memberships), after.rights_by(subject, memberships));
            if id_after.is_some() && !same_account {
                // An account that was active under another name had that name's rights; one that is enabled now had none.
                let former = self.former(after, subject).filter(|former| self.active_id(former) == id_after);
                let kept = former.map(|former| self.rights_by(&former, memberships)).unwrap_or_default();
                self.check_gain(actor, subject, &kept, &gets)?;
            }
            if existing.is_some() {
                // Rights of a disabled account are its own too; an account that is disabled now loses all of them.
                let keeps = existing == left_over && (id_before.is_none() || id_after.is_some());
                let left = if keeps { gets } else { Vec::new() };
                self.check_loss(actor, subject, &had, &left)?;
            }
        }
        Ok(())
    }

    /// A claim stands for everyone who will sign in with it, so a group that gets one hands out its rights.
    fn check_claims(
        &self,
        after: &Self,
        actor: &Principal,
        affected: &BTreeSet<Subject>,
    ) -> Result<(), Escalation> {
        let mut claims = self.index.changed_claims(&after.index);
        let groups = affected.iter().filter(|subject| subject.kind == SubjectKind::Group);
        claims.extend(
            groups.filter_map(|group| after.group(&group.name)).flat_map(|group| group.claims.clone()),
        );
        for claim in &claims {
            let (had, gets) = (self.index.granted_by_claim(claim), after.index.granted_by_claim(claim));
            let states =
                |grants: &[Grant<'_>]| grants.iter().map(|grant| grant.state.clone()).collect::<HashSet<_>>();
            if states(&had) == states(&gets) {
                continue;
            }
            let Some(name) = after.index.groups_of_claim(claim).next() else { continue };
            let group = Subject { kind: SubjectKind::Group, name: name.clone() };
            self.check_gain(actor, &group, &rules(&had), &rules(&gets))?;
        }
        Ok(())
    }

    /// Whether a binding or a group names this account, so that an account of that name would hold what is meant for
    /// another one.
    pub fn is_named(&self, subject: &Subject) -> bool {
        self.index.names(subject)
    }

    /// The name in `self` of what is called `subject` in `after`, where it is another one.
    fn former(&self, after: &Self, subject: &Subject) -> Option<Subject> {
        let id = after.by_name(subject.kind.kind(), subject.name.as_str())?.id();
        let name = self.by_id(id)?.name();
        (*name != subject.name).then(|| Subject { kind: subject.kind, name: name.clone() })
    }

    /// INVARIANT 12: whether `actor` may make a credential for `subject`: for itself always, else with `grant` on the
    /// account, and only while it holds or may grant all that the account may do. At use the credential is capped by
    /// what its maker still holds ([`Principal::makers`]).
    ///
    /// A narrowed credential is within what its subject holds, and within what the actor holds or may grant. With a narrowed
    /// credential the actor makes narrowed ones only: a password or a trusted issuer would end its narrowing.
    ///
    /// # Errors
    /// When the right to do so is missing, or the first right that is more.
    pub fn check_credential(
        &self,
        actor: &Principal,
        subject: &Subject,
        narrowing: Option<&Narrowing>,
    ) -> Result<(), Escalation> {
        if actor.subject != *subject {
            if !self.may_grant(actor, subject) {
                return Err(Escalation::Credential { subject: subject.clone() });
            }
            self.check_gain(actor, subject, &[], &self.rights_of(subject))?;
        }
        match narrowing {
            Some(narrowing) => self.check_narrowing(actor, subject, narrowing),
            None if actor.narrowing.is_some() => Err(Escalation::Narrowed),
            None => Ok(()),
        }
    }

    fn check_narrowing(
        &self,
        actor: &Principal,
        subject: &Subject,
        narrowing: &Narrowing,
    ) -> Result<(), Escalation> {
        // A token has none of the rights that come by a claim.
        let held = self.rights_by(subject, Memberships::Listed);
        let holders = self.holders(actor);
        // For the actor itself a right to grant is not enough: the token is to do no more than the one that makes it.
        let own = actor.narrowing.as_ref().filter(|_| actor.subject == *subject);
        let rights = narrowing
            .rules()
            .iter()
            .zip(1..)
            .flat_map(|(rule, number)| rule.rights().map(move |right| (number, right)));
        for (rule, right) in rights {
            let (kind, verb, names) = right;
            let covered = |rule: &CompiledRule| rule.covers(verb, kind, names);
            let holder = if !held.iter().any(|rule| covered(rule)) {
                subject.to_string()
            } else if !holders.cover(right) {
                "the account that makes it".to_owned()
            } else if own.is_some_and(|own| !own.rules().iter().any(covered)) {
                "the token that makes it".to_owned()
            } else {
                continue;
            };
            return Err(Escalation::TokenRule { rule, holder, kind, verb, names: names.to_owned() });
        }
        Ok(())
    }

    /// Whether `actor` may revoke a credential of the account, with what it is narrowed to: its own always, unless the
    /// actor's own credential is narrowed to less, another's by the rule of [`Self::check_step`].
    ///
    /// # Errors
    /// When the account or the credential holds more than the actor, who may not `grant` on it.
    pub fn check_withdrawal(
        &self,
        actor: &Principal,
        subject: &Subject,
        narrowing: Option<&Narrowing>,
    ) -> Result<(), Escalation> {
        let had = match narrowing {
            Some(narrowing) if actor.subject == *subject => narrowing.rules().iter().collect(),
            _ => self.rights_of(subject),
        };
        self.check_loss(actor, subject, &had, &[])
    }

    /// Whether a subject of this name may do everything, if it is active. What a claim maps to does not count: it ends with
    /// the next sign-in.
    pub fn subject_holds_everything(&self, subject: &Subject) -> bool {
        let all = |kind| {
            Verb::ALL
                .into_iter()
                .all(|verb| self.index.find(subject, Memberships::Listed, verb, kind, Names::Every).is_some())
        };
        Kind::ALL.into_iter().all(all)
    }

    /// As [`Snapshot::subject_holds_everything`], of the account of this id; false where it is deleted or disabled.
    pub fn account_holds_everything(&self, id: &Id) -> bool {
        self.active_subject(id).is_some_and(|subject| self.subject_holds_everything(&subject))
    }

    /// Whether an active account remains that may do everything and can sign in at `now`, and for a day.
    pub fn has_administrator(&self, now: Timestamp) -> bool {
        let until = now.checked_add(MIN_ADMINISTRATOR_VALIDITY).unwrap_or(Timestamp::MAX);
        // Who may do everything may grant on every user. Few roles allow that, so that few accounts are asked the rest.
        let bound = self.index.bound_by(|rule| rule.allows(Verb::Grant, Kind::User, Names::Every));
        let mut accounts = bound.flat_map(|subject| match subject.kind {
            SubjectKind::Group => self.group(&subject.name).map_or(&[][..], |group| &group.members),
            SubjectKind::User | SubjectKind::ServiceAccount => std::slice::from_ref(subject),
        });
        accounts.any(|account| self.subject_holds_everything(account) && self.can_sign_in(account, until))
    }

    /// Whether an active account has a credential that is valid until then and allows what the account may do.
    fn can_sign_in(&self, account: &Subject, until: Timestamp) -> bool {
        let Some(id) = self.active_id(account) else { return false };
        // A credential that an account which holds less has made is capped by it.
        let uncapped = |makers: &[Id]| makers.iter().all(|maker| self.account_holds_everything(maker));
        let by_password = self.by_id(id).is_some_and(|stored| {
            matches!(&stored.confidential, Some(Confidential::PasswordHash(_)))
                && matches!(&stored.resource.spec, Spec::User(user) if uncapped(&user.password_set_by))
        });
        by_password
            || self.tokens_of(id).any(|stored| match &stored.resource.spec {
                Spec::Token(token) => {
                    token.expires_at > until && token.rules.is_none() && uncapped(&token.issued_by)
                }
                _ => false,
            })
    }

    /// Every rule of a subject by all its memberships, whether or not it exists and is active.
    pub(crate) fn rights_of(&self, subject: &Subject) -> Vec<&CompiledRule> {
        self.rights_by(subject, Memberships::Claimed)
    }

    pub(crate) fn rights_by(&self, subject: &Subject, memberships: Memberships) -> Vec<&CompiledRule> {
        self.index.held_by(subject, memberships).flat_map(|(grant, _)| grant.rules.iter()).collect()
    }

    /// Empty, and so covering no right, if a maker is deleted or disabled.
    fn holders<'a>(&'a self, actor: &'a Principal) -> Holders<'a> {
        let makers = actor.makers.iter().map(|maker| self.active_subject(maker));
        let Some(makers) = makers.collect::<Option<Vec<_>>>() else { return Holders(Vec::new()) };
        let own = self.rights_by(&actor.subject, actor.memberships());
        let narrowing = actor.narrowing.iter().map(|narrowing| narrowing.rules().iter().collect());
        let of_makers = makers.iter().map(|maker| self.rights_of(maker));
        Holders(std::iter::once(own).chain(of_makers).chain(narrowing).collect())
    }

    /// Whether the actor may do everything, with the credential that it presents.
    pub fn holds_everything(&self, actor: &Principal) -> bool {
        let holders = self.holders(actor);
        let mut everything =
            Kind::ALL.into_iter().flat_map(|kind| Verb::ALL.into_iter().map(move |verb| (kind, verb, "*")));
        everything.all(|(kind, verb, names)| {
            holders.0.iter().all(|rules| rules.iter().any(|rule| rule.covers(verb, kind, names)))
                && !holders.0.is_empty()
        })
    }

    /// The accounts that cap a credential which `actor` makes for `subject`: the actor itself, unless it is the subject,
    /// and the makers of the credential that it presents. An actor who may do everything could grant itself whatever
    /// they might take away, so their cap ends there.
    pub fn makers(&self, actor: &Principal, subject: &Subject) -> Vec<Id> {
        let mut makers = if self.holds_everything(actor) { Vec::new() } else { actor.makers.clone() };
        if actor.subject != *subject && !makers.contains(&actor.id) {
            makers.push(actor.id.clone());
        }
        makers
    }

    fn may_grant(&self, actor: &Principal, subject: &Subject) -> bool {
        subject.kind != SubjectKind::Group
            && self
                .allows(actor, Verb::Grant, subject.kind.kind(), Names::One(subject.name.as_str()))
                .is_some()
    }

    pub(crate) fn check_gain(
        &self,
        actor: &Principal,
        subject: &Subject,
        had: &[&CompiledRule],
        gets: &[&CompiledRule],
    ) -> Result<(), Escalation> {
        let gained =
            |(kind, verb, names): (Kind, Verb, &str)| !had.iter().any(|rule| rule.covers(verb, kind, names));
        let holders = self.holders(actor);
        let mut rights = gets.iter().flat_map(|rule| rule.rights());
        match rights.find(|right| gained(*right) && !holders.cover(*right)) {
            None => Ok(()),
            Some((kind, verb, names)) => {
                let names = names.to_owned();
                Err(Escalation::Gain { subject: subject.clone(), kind, verb, names })
            }
        }
    }

    /// Always allowed for the actor's own rights, unless its credential is narrowed.
    fn check_loss(
        &self,
        actor: &Principal,
        subject: &Subject,
        had: &[&CompiledRule],
        left: &[&CompiledRule],
    ) -> Result<(), Escalation> {
        let own = actor.subject == *subject && actor.narrowing.is_none();
        if own || self.may_grant(actor, subject) {
            return Ok(());
        }
        let lost =
            |(kind, verb, names): (Kind, Verb, &str)| !left.iter().any(|rule| rule.covers(verb, kind, names));
        let rights = || had.iter().flat_map(|rule| rule.rights());
        let loses = rights().any(lost);
        let holders = self.holders(actor);
        if loses && rights().any(|right| !holders.cover(right)) {
            return Err(Escalation::Loss { subject: subject.clone() });
        }
        Ok(())
    }
}

fn rules<'a>(grants: &[Grant<'a>]) -> Vec<&'a CompiledRule> {
    grants.iter().flat_map(|grant| grant.rules.iter()).collect()
}
