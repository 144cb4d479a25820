//! The leases of one agent, as a pure machine: `(Leases, what happened, now) -> Leases`. It does no I/O and reads no clock, and
//! what it holds is in memory only.
//!
//! A lease is counted from the sending of the probe that brought it, and ends when either clock has run its grace out: the one
//! that runs during suspend, or the wall clock. It is void when the wall clock was stepped back, and destroyed by any signed
//! denial of the same caller and Llm.

use std::time::Duration;

use super::{
    answers::{JudgedLlm, LeaselessAnswer, LeaselessAnswers},
    granted::{Lease, LeaseCaller, LeaseCover, LeaseTime, MAX_GRACE, remaining},
    held::HeldLease,
};
use crate::{
    bearer::BearerDigest,
    denial::{Denial, SignedDenial},
    llm::{LlmId, LlmRef},
};

/// Most leases that are held; beyond them the one that was asked for first is dropped.
pub const MAX_LEASES: usize = 256;

/// The leases of one agent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Leases {
    agent: String,
    /// In the order in which they were asked for.
    #[expect(
        clippy::vec_box,
        reason = "a vector that moves its elements leaves copies of them, which nothing wipes"
    )]
    held: Vec<Box<HeldLease>>,
    /// Answers that a lease must be newer than.
    leaseless: LeaselessAnswers,
    /// The user who is signed in.
    user: Option<BearerDigest>,
}

impl Leases {
    /// The leases of the agent with this id: none yet.
    pub fn of(agent: impl Into<String>) -> Self {
        Self { agent: agent.into(), held: Vec::new(), leaseless: LeaselessAnswers::default(), user: None }
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// mcpd allowed the caller this Llm, in a signed answer to a probe that was sent at `sent`. The lease that came with it
    /// replaces the one before; where none came, the Llm has no grace any more, and the one before ends.
    pub fn allowed(
        &mut self,
        caller: LeaseCaller<'_>,
        llm: &LlmRef,
        id: &LlmId,
        lease: Option<Lease>,
        sent: LeaseTime,
        now: LeaseTime,
    ) {
        self.sweep(now);
        let is_same = |held: &HeldLease| held.lease.bearer == *caller.bearer && held.concerns(Some(id), llm);
        let Some(lease) = lease else {
            self.held.retain(|held| !is_same(held));
            let llm = Some(JudgedLlm { id: Some(id.clone()), asked: llm.clone() });
            let bearer = caller.bearer.clone();
            // The answer names no revision: what was asked for before it came does not count.
            return self.leaseless.remember(LeaselessAnswer { bearer, llm, revision: None, at: now.boot });
        };
        let is_owned = lease.bearer == *caller.bearer && lease.llm == *id;
        if !is_owned || !self.accepts(caller, &lease, llm, sent, now) {
            return;
        }
        let mut name = (llm.asked != id.as_str()).then(|| llm.asked.clone());
        let mut names = vec![llm.asked.clone(), llm.name.clone()];
        // Answers may overtake each other, also when the name has become another Llm's meanwhile.
        let is_late = self.held.iter().any(|held| is_same(held) && held.is_newer_than(&lease, sent));
        let same = self.held.iter_mut().filter(|held| is_same(held) && held.lease.llm == *id);
        if is_late {
            // What is learned about the name counts all the same.
            return same.for_each(|held| held.also_known_as(names.clone()));
        }
        for held in same {
            name = name.or_else(|| held.name.clone());
            held.also_known_as(names);
            names = std::mem::take(&mut held.names);
        }
        // Also the lease of another Llm that had the name before.
        self.held.retain(|held| !is_same(held));
        let held = HeldLease { lease, name, names, sent, signed_in: caller.signed_in };
        let at = self.held.partition_point(|other| other.sent.boot <= sent.boot);
        self.held.insert(at, Box::new(held));
        let surplus = self.held.len().saturating_sub(MAX_LEASES);
        self.held.drain(..surplus);
    }

    /// INVARIANT 1: a lease is for this agent, is short, and is newer than each answer that denied it. The user who is signed
    /// in no longer gets none.
    fn accepts(
        &self,
        caller: LeaseCaller<'_>,
        lease: &Lease,
        llm: &LlmRef,
        sent: LeaseTime,
        now: LeaseTime,
    ) -> bool {
        lease.agent == self.agent
            && lease.grace <= MAX_GRACE
            && remaining(lease.grace, sent, now).is_some()
            && (!caller.signed_in || self.user.as_ref() == Some(caller.bearer))
            && !self.leaseless.outlaw(lease, llm, sent)
    }

    /// The lease that covers a request for which no verdict could be had.
    pub fn cover(&mut self, bearer: &BearerDigest, llm: &LlmRef, now: LeaseTime) -> Option<LeaseCover> {
        self.sweep(now);
        let held = self.held.iter().find(|held| {
            let is_named = held.name.as_ref() == Some(&llm.asked);
            held.lease.bearer == *bearer && (is_named || held.lease.llm.as_str() == llm.asked)
        })?;
        let lease = &held.lease;
        let remaining = remaining(lease.grace, held.sent, now)?;
        Some(LeaseCover {
            llm: lease.llm.clone(),
            subject: lease.subject.clone(),
            remaining,
            ends: now.boot.saturating_add(remaining),
            token: lease.token.clone(),
        })
    }

    /// mcpd denied the caller this Llm. An unsigned denial changes nothing, because anyone can make one.
    pub fn denied(&mut self, bearer: &BearerDigest, llm: &LlmRef, denial: &Denial, now: LeaseTime) {
        self.sweep(now);
        let Some(SignedDenial { llm: id, known_caller, revision }) = &denial.signed else { return };
        let denied = known_caller.then(|| JudgedLlm { id: id.clone(), asked: llm.clone() });
        self.held.retain(|held| {
            let is_denied = denied.as_ref().is_none_or(|denied| held.concerns(denied.id.as_ref(), llm));
            held.lease.bearer != *bearer || !is_denied
        });
        // Leases may be on their way.
        self.leaseless.remember(LeaselessAnswer {
            bearer: bearer.clone(),
            llm: denied,
            revision: Some(*revision),
            at: now.boot,
        });
    }

    /// Drops all leases and accepts none any more: no clock shows how old they are.
    pub fn forget(&mut self) {
        self.held.clear();
        self.leaseless.refuse_until(Duration::MAX);
    }

    /// Drops all leases, and refuses those that are on their way.
    pub fn clear(&mut self, now: LeaseTime) {
        self.held.clear();
        self.leaseless.refuse_until(now.boot);
    }

    /// This user is signed in now; `None` where no user is. Drops the leases of the user before.
    pub fn keep_signed_in(&mut self, user: Option<&BearerDigest>) {
        let before = self.user.take().filter(|before| Some(before) != user);
        self.held.retain(|held| {
            let bearer = &held.lease.bearer;
            Some(bearer) != before.as_ref() && (!held.signed_in || Some(bearer) == user)
        });
        self.user = user.cloned();
    }

    /// Drops the leases that have ended or are void, and what no lease can be older than.
    pub fn sweep(&mut self, now: LeaseTime) {
        self.held.retain(|held| remaining(held.lease.grace, held.sent, now).is_some());
        self.leaseless.sweep(now);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::answers::MAX_ANSWERS, *};

    const AGENT: &str = "agent-1";

    fn at(seconds: u64) -> LeaseTime {
        LeaseTime {
            boot: Duration::from_secs(1000 + seconds),
            wall: Duration::from_secs(1_700_000_000 + seconds),
        }
    }

    fn bearer(number: u8) -> BearerDigest {
        BearerDigest::new([number; 32])
    }

    fn claude() -> LlmRef {
        LlmRef::named("claude")
    }

    fn id() -> LlmId {
        LlmId::new("id-1")
    }

    fn lease(revision: u64) -> Lease {
        lease_of(bearer(1), id(), revision)
    }

    fn lease_of(bearer: BearerDigest, llm: LlmId, revision: u64) -> Lease {
        Lease {
            subject: "alice".to_owned(),
            bearer,
            llm,
            agent: AGENT.to_owned(),
            revision,
            grace: Duration::from_secs(60),
            token: format!("lease at {revision}"),
        }
    }

    fn caller(bearer: &BearerDigest) -> LeaseCaller<'_> {
        LeaseCaller { bearer, signed_in: true }
    }

    /// One lease of Alice's, asked for at 0 by name.
    fn held() -> Leases {
        let mut leases = none();
        leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(5)), at(0), at(0));
        leases
    }

    /// No lease yet; Alice is signed in.
    fn none() -> Leases {
        let mut leases = Leases::of(AGENT);
        leases.keep_signed_in(Some(&bearer(1)));
        leases
    }

    fn covers(leases: &Leases, llm: &LlmRef, now: LeaseTime) -> bool {
        leases.clone().cover(&bearer(1), llm, now).is_some()
    }

    fn denial() -> Denial {
        denial_at(6)
    }

    fn signed(denial: SignedDenial) -> Denial {
        Denial { signed: Some(denial), rule: None }
    }

    fn denial_at(revision: u64) -> Denial {
        signed(SignedDenial { llm: None, known_caller: true, revision })
    }

    #[test]
    fn lease_covers_its_caller_and_llm_for_its_grace() {
        let mut leases = held();
        let cover = leases.cover(&bearer(1), &claude(), at(20)).unwrap();
        assert_eq!((cover.llm, cover.subject.as_str(), cover.token.as_str()), (id(), "alice", "lease at 5"));
        assert_eq!((cover.remaining, cover.ends), (Duration::from_secs(40), at(60).boot));
        assert!(covers(&leases, &LlmRef::by_id(&id(), "claude"), at(59)), "by id too");
        assert!(
            !covers(&leases, &LlmRef::by_id(&LlmId::new("id-2"), "claude"), at(1)),
            "made again: another Llm"
        );
        assert!(!covers(&leases, &LlmRef::named("gpt"), at(1)));
        assert!(leases.cover(&bearer(2), &claude(), at(1)).is_none(), "another bearer");
        assert!(leases.cover(&bearer(1), &claude(), at(60)).is_none());
        assert!(leases.is_empty(), "what has ended is dropped");
    }

    #[test]
    fn lease_that_came_by_id_covers_no_name() {
        let mut leases = none();
        let by_id = LlmRef::by_id(&id(), "claude");
        leases.allowed(caller(&bearer(1)), &by_id, &id(), Some(lease(5)), at(0), at(0));
        assert!(covers(&leases, &by_id, at(1)));
        assert!(!covers(&leases, &claude(), at(1)), "the name may be another Llm's by now");
        let mut denied = leases.clone();
        denied.denied(&bearer(1), &claude(), &denial(), at(1));
        assert!(denied.is_empty(), "a denial by the name that it is configured by ends it");
        // An answer by name that was overtaken shows the name, too.
        let mut overtaken = none();
        overtaken.allowed(
            caller(&bearer(1)),
            &LlmRef::by_id(&id(), id().as_str()),
            &id(),
            Some(lease(5)),
            at(1),
            at(1),
        );
        overtaken.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(5)), at(0), at(1));
        overtaken.denied(&bearer(1), &claude(), &denial(), at(1));
        assert!(overtaken.is_empty());
        // A renewal by name covers both from then on, and one by id takes the name away from neither.
        leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(5)), at(1), at(1));
        leases.allowed(caller(&bearer(1)), &by_id, &id(), Some(lease(5)), at(2), at(2));
        assert!(covers(&leases, &by_id, at(61)) && covers(&leases, &claude(), at(61)));
        assert_eq!(leases.len(), 1);
    }

    #[test]
    fn leases_of_others_and_long_ones_are_refused() {
        let accepted = |change: &dyn Fn(&mut Lease)| {
            let (mut leases, mut lease) = (none(), lease(5));
            change(&mut lease);
            leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease), at(0), at(0));
            leases.len() == 1
        };
        assert!(accepted(&|_| ()));
        assert!(!accepted(&|lease| lease.bearer = bearer(2)));
        assert!(!accepted(&|lease| lease.llm = LlmId::new("id-2")));
        assert!(!accepted(&|lease| lease.agent = "agent-2".to_owned()));
        assert!(!accepted(&|lease| lease.grace = Duration::ZERO));
        assert!(accepted(&|lease| lease.grace = MAX_GRACE));
        assert!(!accepted(&|lease| lease.grace = MAX_GRACE + Duration::from_nanos(1)));
    }

    #[test]
    fn lease_is_counted_from_the_sending_of_the_probe() {
        let mut leases = none();
        leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(5)), at(0), at(50));
        assert!(covers(&leases, &claude(), at(59)) && !covers(&leases, &claude(), at(60)));
        leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(5)), at(0), at(60));
        assert!(!covers(&leases, &claude(), at(60)), "an answer that took longer than the grace brings none");
    }

    #[test]
    fn either_clock_ends_a_lease_and_a_step_back_voids_it() {
        let time = |boot, wall| LeaseTime { boot: at(boot).boot, wall: at(wall).wall };
        for (now, holds) in [
            (time(59, 59), true),
            // Slewed within what NTP may do.
            (time(59, 58), true),
            // Stepped back: by less than has passed, and by more.
            (time(59, 57), false),
            (LeaseTime { wall: Duration::from_secs(1), ..at(10) }, false),
            // A paused machine: the clock of the boot stood still.
            (time(1, 60), false),
            // Suspended: it did not.
            (time(60, 59), false),
            // A restored snapshot of the machine.
            (LeaseTime { boot: Duration::from_secs(1), ..at(10) }, false),
        ] {
            assert_eq!(covers(&held(), &claude(), now), holds, "{now:?}");
        }
        // Void is void, also when the clock is set right again.
        let mut leases = held();
        leases.sweep(LeaseTime { wall: Duration::from_secs(1), ..at(10) });
        assert!(!covers(&leases, &claude(), at(10)));
    }

    #[test]
    fn signed_denial_destroys_the_lease() {
        let by_id = LlmRef::by_id(&id(), "claude");
        let unknown = signed(SignedDenial { llm: None, known_caller: false, revision: 6 });
        let of_id = signed(SignedDenial { llm: Some(id()), known_caller: true, revision: 6 });
        for (asked, denial, who, survives) in [
            (claude(), denial(), 1, false),
            (by_id, denial(), 1, false),
            (LlmRef::named("alias"), of_id, 1, false),
            (LlmRef::named("gpt"), unknown, 1, false),
            (LlmRef::named("gpt"), denial(), 1, true),
            // A lease is found by the name that its id is configured by, too.
            (LlmRef::by_id(&LlmId::new("id-9"), "claude"), denial(), 1, false),
            (claude(), denial(), 2, true),
            (claude(), Denial::UNSIGNED, 1, true),
        ] {
            let mut leases = held();
            leases.denied(&bearer(who), &asked, &denial, at(1));
            assert_eq!(covers(&leases, &claude(), at(1)), survives, "{asked:?} {denial:?}");
        }
    }

    #[test]
    fn lease_that_a_denial_overtook_is_refused() {
        let accepted = |revision: u64, sent: u64, denial: &Denial| {
            let mut leases = none();
            leases.denied(&bearer(1), &claude(), denial, at(10));
            leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(revision)), at(sent), at(20));
            leases.len() == 1
        };
        assert!(!accepted(5, 9, &denial()), "it was on its way");
        assert!(!accepted(5, 11, &denial()), "an older revision after a newer one");
        assert!(!accepted(6, 10, &denial()));
        assert!(accepted(6, 11, &denial()), "asked again, and allowed");
        assert!(accepted(7, 9, &denial()), "granted again");
        let unknown = signed(SignedDenial { llm: None, known_caller: false, revision: 6 });
        assert!(!accepted(5, 11, &unknown) && accepted(6, 11, &unknown));
    }

    #[test]
    fn latest_verdict_decides_about_the_lease() {
        let mut leases = held();
        // An answer that was overtaken.
        leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(4)), at(1), at(2));
        assert_eq!(leases.cover(&bearer(1), &claude(), at(2)).unwrap().token, "lease at 5");
        leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(6)), at(3), at(3));
        assert_eq!(leases.cover(&bearer(1), &claude(), at(3)).unwrap().ends, at(63).boot);
        // The Llm was made again under its name.
        let two = LlmId::new("id-2");
        let lease_two = lease_of(bearer(1), two.clone(), 7);
        leases.allowed(caller(&bearer(1)), &claude(), &two, Some(lease_two), at(4), at(4));
        assert_eq!((leases.len(), leases.cover(&bearer(1), &claude(), at(4)).unwrap().llm), (1, two.clone()));
        // `offlineGrace` was taken away.
        leases.allowed(caller(&bearer(1)), &claude(), &two, None, at(5), at(5));
        assert!(leases.is_empty());
    }

    #[test]
    fn answer_that_a_newer_one_overtook_brings_no_lease() {
        let two = LlmId::new("id-2");
        // The grace was taken away meanwhile.
        let mut leases = held();
        leases.allowed(caller(&bearer(1)), &claude(), &id(), None, at(5), at(6));
        leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(6)), at(4), at(7));
        assert!(leases.is_empty(), "it was asked for before the grace was taken away");
        leases.allowed(
            caller(&bearer(1)),
            &LlmRef::named("gpt"),
            &two,
            Some(lease_of(bearer(1), two.clone(), 6)),
            at(4),
            at(7),
        );
        leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(7)), at(8), at(8));
        assert_eq!(leases.len(), 2, "another Llm's, and one that was asked for again");

        // The name became another Llm's meanwhile.
        let mut leases = held();
        leases.allowed(
            caller(&bearer(1)),
            &claude(),
            &two,
            Some(lease_of(bearer(1), two.clone(), 7)),
            at(3),
            at(3),
        );
        leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(6)), at(2), at(4));
        assert_eq!(leases.cover(&bearer(1), &claude(), at(4)).unwrap().llm, two);

        // A denial of a lower revision came after one of a higher.
        let mut leases = none();
        leases.denied(&bearer(1), &claude(), &denial_at(9), at(1));
        leases.denied(&bearer(1), &claude(), &denial_at(6), at(2));
        leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(8)), at(3), at(3));
        assert!(leases.is_empty(), "revision 9 denied");
    }

    #[test]
    fn denial_is_remembered_as_long_as_a_lease_lasts() {
        // mcpd was restored from a backup: its revisions are lower than before.
        let mut leases = none();
        leases.denied(&bearer(1), &claude(), &denial_at(9), at(0));
        let mut accepts = |seconds| {
            leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(5)), at(seconds), at(seconds));
            leases.len() == 1
        };
        let longest = MAX_GRACE.as_secs();
        assert!(!accepts(longest - 1) && accepts(longest));
    }

    #[test]
    fn user_who_is_signed_in_no_longer_gets_no_lease() {
        let mut leases = held();
        leases.keep_signed_in(None);
        // A request that runs goes on to probe with the credential.
        leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(5)), at(1), at(1));
        assert!(leases.is_empty());
        // With its own credential a program is another caller.
        let program = LeaseCaller { bearer: &bearer(1), signed_in: false };
        leases.allowed(program, &claude(), &id(), Some(lease(5)), at(1), at(1));
        assert_eq!(leases.len(), 1);
        // Unless it is the one that was signed out.
        leases.keep_signed_in(Some(&bearer(1)));
        leases.keep_signed_in(Some(&bearer(2)));
        assert!(leases.is_empty());
    }

    #[test]
    fn another_user_or_configuration_drops_leases() {
        let others = || {
            let (mut leases, token) = (held(), LeaseCaller { bearer: &bearer(2), signed_in: false });
            let lease = lease_of(bearer(2), id(), 5);
            leases.allowed(token, &claude(), &id(), Some(lease), at(0), at(0));
            leases
        };
        let mut leases = others();
        leases.keep_signed_in(Some(&bearer(1)));
        assert_eq!(leases.len(), 2);
        leases.keep_signed_in(None);
        assert!(leases.len() == 1 && leases.cover(&bearer(2), &claude(), at(0)).is_some());

        let mut leases = others();
        leases.clear(at(1));
        leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(9)), at(1), at(2));
        assert!(leases.is_empty(), "it was on its way");
        leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(9)), at(2), at(2));
        assert_eq!(leases.len(), 1);
        leases.forget();
        leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(9)), at(3), at(3));
        assert!(leases.is_empty(), "without a clock there are no leases");
    }

    #[test]
    fn leases_and_denials_have_bounds() {
        let (mut leases, numbers) = (none(), 0..MAX_LEASES + 10);
        for number in numbers {
            let (llm, sent) = (LlmId::new(&format!("id-{number}")), at(0));
            let sent = LeaseTime { boot: sent.boot + Duration::from_millis(number as u64), ..sent };
            let lease = lease_of(bearer(1), llm.clone(), 5);
            let asked = LlmRef::named(format!("llm-{number}"));
            leases.allowed(caller(&bearer(1)), &asked, &llm, Some(lease), sent, sent);
        }
        assert_eq!(leases.len(), MAX_LEASES);
        assert!(
            !covers(&leases, &LlmRef::named("llm-9"), at(1))
                && covers(&leases, &LlmRef::named("llm-10"), at(1))
        );

        for number in 0..MAX_ANSWERS + 1 {
            let sent = LeaseTime { boot: at(1).boot + Duration::from_millis(number as u64), ..at(1) };
            leases.denied(&bearer(1), &LlmRef::named(format!("x-{number}")), &denial(), sent);
        }
        assert_eq!(leases.leaseless.len(), MAX_ANSWERS);
        leases.allowed(caller(&bearer(1)), &claude(), &id(), Some(lease(9)), at(1), at(2));
        assert!(!covers(&leases, &claude(), at(2)), "it was asked for before a denial that is forgotten");
    }

    #[test]
    fn leases_do_not_print_their_token() {
        let text = format!("{:?}", held());
        assert!(text.contains("alice") && !text.contains("lease at 5"), "{text}");
    }
}
